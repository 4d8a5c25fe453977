/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs that run with interrupts off and their test agree on. */
#ifndef _IRQS_OFF_H
#define _IRQS_OFF_H

#define PAGE	4000
#define MEDIUM	8000
#define LARGE	60000
#define LARGEST	65407

/* At most, a power of two: enough for a page each to stand out from the rest. */
#define TASKS	256

/* How often a program creates and deletes a socket's value in each run. */
#define TURNS	50

#endif /* _IRQS_OFF_H */
