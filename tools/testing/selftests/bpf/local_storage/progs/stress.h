/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs of the stress and their test agree on. */
#ifndef _STRESS_H
#define _STRESS_H

/* What became of a program's calls. */
struct calls {
	unsigned long long created, found, missing, deleted;
};

#endif /* _STRESS_H */
