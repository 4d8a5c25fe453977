/* SPDX-License-Identifier: GPL-2.0 */
/* The preemption count where a program runs. */
#ifndef _PREEMPT_H
#define _PREEMPT_H

extern const struct pcpu_hot pcpu_hot __ksym __weak;

/* Without CONFIG_SMP no type tells where it is; its address then. */
const volatile __u64 only_pcpu_hot;

static __always_inline int preempt_count(void)
{
	struct pcpu_hot *hot = (void *)only_pcpu_hot;
	int count = 0;

	if (hot)
		bpf_probe_read_kernel(&count, sizeof(count),
				      &hot->preempt_count);
	else
		count = ((struct pcpu_hot *)
			 bpf_this_cpu_ptr(&pcpu_hot))->preempt_count;
	return count;
}

#endif /* _PREEMPT_H */
