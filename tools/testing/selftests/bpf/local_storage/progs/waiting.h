/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _WAITING_H
#define _WAITING_H

/* More than a guest has memory for, if none of it came back. */
#define TURNS		400000
#define WAITING_VALUE	(8 << 10)

#endif /* _WAITING_H */
