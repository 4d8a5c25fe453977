/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs keep with each socket. */
#ifndef _SHARED_H
#define _SHARED_H

struct traffic {
	unsigned long long packets;
	unsigned long long bytes;	/* of the packets, IP headers included */
	unsigned long long payload;	/* of those, TCP or UDP payload */
};

struct stats {
	struct traffic in, out;
	unsigned int rtt_us;		/* smoothed; TCP only */
	unsigned int state_changes;	/* TCP only */
};

/* What a listener hands down to the sockets that it accepts. */
struct label {
	unsigned int service;
	unsigned int version;		/* of IP */
};

#endif /* _SHARED_H */
