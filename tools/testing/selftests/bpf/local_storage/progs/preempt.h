/* SPDX-License-Identifier: GPL-2.0 */
/* The preemption count where a program runs, as 6.12 has it on x86. */
#ifndef _PREEMPT_H
#define _PREEMPT_H

#include <bpf/bpf_core_read.h>

struct pcpu_hot___until_6_14 {
	int preempt_count;
} __attribute__((preserve_access_index));

extern const struct pcpu_hot___until_6_14 pcpu_hot __ksym __weak;
extern const unsigned long __preempt_count __ksym __weak;

/* Without CONFIG_SMP no type tells where either is; its address then. */
const volatile __u64 only_count;

#ifdef __TARGET_ARCH_arm64
static __always_inline int preempt_count(void)
{
	return bpf_get_current_task_btf()->thread_info.preempt.count;
}
#elif defined(__TARGET_ARCH_s390)
/* Each processor finds its own where memory begins. */
static __always_inline int preempt_count(void)
{
	struct lowcore *here = 0;
	int count = 0;

	bpf_probe_read_kernel(&count, sizeof(count), &here->preempt_count);
	return count;
}
#else
/* Later kernels count in between how often interrupts are off. */
static __always_inline int without_irqs_off(unsigned long count)
{
	return (count & 0xffff) | (count >> 24 & 0xff) << 16;
}

static __always_inline int preempt_count(void)
{
	struct pcpu_hot___until_6_14 *hot = (void *)only_count;
	unsigned long count = 0;
	int early = 0;

	if (hot && bpf_core_type_exists(struct pcpu_hot___until_6_14)) {
		bpf_probe_read_kernel(&early, sizeof(early),
				      &hot->preempt_count);
		return early;
	}
	if (hot) {
		bpf_probe_read_kernel(&count, sizeof(count), hot);
		return without_irqs_off(count);
	}
	if (bpf_ksym_exists(&pcpu_hot))
		return ((struct pcpu_hot___until_6_14 *)
			bpf_this_cpu_ptr(&pcpu_hot))->preempt_count;
	if (!bpf_ksym_exists(&__preempt_count))
		return 0;
	return without_irqs_off(*(unsigned long *)
				bpf_this_cpu_ptr(&__preempt_count));
}
#endif

#endif /* _PREEMPT_H */
