/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _DYING_H
#define _DYING_H

/* What a program that meets a dying owner does, and may succeed in. */
enum { FIND = 1, MAKE = 2, DELETE = 4 };

#endif /* _DYING_H */
