/* SPDX-License-Identifier: GPL-2.0 */
/* The preemption count where a program runs, as 6.12 has it on x86. */
#ifndef _PREEMPT_H
#define _PREEMPT_H

struct pcpu_hot___until_6_14 {
	int preempt_count;
} __attribute__((preserve_access_index));

extern const struct pcpu_hot___until_6_14 pcpu_hot __ksym __weak;
extern const unsigned long __preempt_count __ksym __weak;

/* Without CONFIG_SMP no type tells where it is; its address then. */
const volatile __u64 only_pcpu_hot;

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
static __always_inline int preempt_count(void)
{
	struct pcpu_hot___until_6_14 *hot = (void *)only_pcpu_hot;
	unsigned long count;
	int early = 0;

	if (hot) {
		bpf_probe_read_kernel(&early, sizeof(early),
				      &hot->preempt_count);
		return early;
	}
	if (bpf_ksym_exists(&pcpu_hot))
		return ((struct pcpu_hot___until_6_14 *)
			bpf_this_cpu_ptr(&pcpu_hot))->preempt_count;
	if (!bpf_ksym_exists(&__preempt_count))
		return 0;
	count = *(unsigned long *)bpf_this_cpu_ptr(&__preempt_count);
	/* Later kernels count in between how often interrupts are off. */
	return (count & 0xffff) | (count >> 24 & 0xff) << 16;
}
#endif

#endif /* _PREEMPT_H */
