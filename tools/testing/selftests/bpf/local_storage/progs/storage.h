/* SPDX-License-Identifier: GPL-2.0 */
/* How a program names a map of local storage. */
#ifndef _STORAGE_H
#define _STORAGE_H

#define STORAGE(name, map_type, value_type)		\
	struct {					\
		__uint(type, map_type);			\
		__uint(map_flags, BPF_F_NO_PREALLOC);	\
		__type(key, int);			\
		__type(value, value_type);		\
	} name SEC(".maps")

#endif /* _STORAGE_H */
