/* SPDX-License-Identifier: GPL-2.0 */
/* What has another name on each machine. */
#ifndef _MACHINE_H
#define _MACHINE_H

#ifdef __TARGET_ARCH_arm64
#define SYSCALL(name)	"__arm64_sys_" #name
#define NMI_EVENT	"fentry/generic_handle_domain_nmi"
#define NMI_FUNCTION	"fentry/generic_handle_domain_nmi"
#elif defined(__TARGET_ARCH_s390)
#define SYSCALL(name)	"__s390x_sys_" #name
/* Those of that machine tell of faults, and no test can have one. */
#define NMI_EVENT	"fentry/s390_do_machine_check"
#define NMI_FUNCTION	"fentry/s390_do_machine_check"
#else
#define SYSCALL(name)	"__x64_sys_" #name
#define NMI_EVENT	"tp_btf/nmi_handler"
#define NMI_FUNCTION	"fentry/nmi_cpu_backtrace_handler"
#endif

#endif /* _MACHINE_H */
