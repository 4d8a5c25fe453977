// SPDX-License-Identifier: GPL-2.0
/*
 * Socket storage: what INET_DIAG shows of it.
 *
 * A request names maps, or none for all of them; a reply has an attribute with
 * the values of its socket, and more of them where that is too short.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/capability.h>
#include <linux/slab.h>
#include <net/bpf_sk_reserve.h>
#include <net/bpf_sk_storage.h>
#include <net/netlink.h>
#include <net/sock.h>
#include <uapi/linux/sock_diag.h>

/**
 * struct bpf_sk_storage_diag - which maps a request asked for
 * @nr_maps: how many; 0 stands for all that a socket has a value in
 * @maps: a reference on each
 */
struct bpf_sk_storage_diag {
	u32 nr_maps;
	struct bpf_map *maps[] __counted_by(nr_maps);
};

/* Another map of a request, with a reference, or an error. */
static struct bpf_map *diag_map(const struct bpf_sk_storage_diag *diag,
				const struct nlattr *attr)
{
	struct bpf_map *map;
	u32 i;

	map = bpf_map_get(nla_get_u32(attr));
	if (IS_ERR(map))
		return map;
	if (map->map_type != BPF_MAP_TYPE_SK_STORAGE) {
		bpf_map_put(map);
		return ERR_PTR(-EINVAL);
	}
	for (i = 0; i < diag->nr_maps; i++) {
		if (diag->maps[i] == map) {
			bpf_map_put(map);
			return ERR_PTR(-EEXIST);
		}
	}
	return map;
}

/* The number of map fds in a request, or -EINVAL. */
static int diag_count_maps(const struct nlattr *nest)
{
	const struct nlattr *attr;
	int remaining, count = 0;

	nla_for_each_nested(attr, nest, remaining) {
		if (nla_type(attr) != SK_DIAG_BPF_STORAGE_REQ_MAP_FD)
			continue;
		if (nla_len(attr) != sizeof(u32))
			return -EINVAL;
		count++;
	}
	return count;
}

/**
 * bpf_sk_storage_diag_alloc - take in which values a request asks for
 * @nest: INET_DIAG_REQ_SK_BPF_STORAGES
 *
 * Context: Process; sleeps.
 * Return: To be freed with bpf_sk_storage_diag_free(); or -EPERM, -EINVAL for
 *	a bad attribute or another type of map, -EBADF, -EEXIST for a map named
 *	twice, -ENOMEM.
 */
struct bpf_sk_storage_diag *bpf_sk_storage_diag_alloc(const struct nlattr *nest)
{
	struct bpf_sk_storage_diag *diag;
	const struct nlattr *attr;
	struct bpf_map *map;
	int remaining, count;

	if (!bpf_capable())
		return ERR_PTR(-EPERM);
	count = diag_count_maps(nest);
	if (count < 0)
		return ERR_PTR(count);
	diag = kvzalloc(struct_size(diag, maps, count), GFP_KERNEL);
	if (!diag)
		return ERR_PTR(-ENOMEM);

	nla_for_each_nested(attr, nest, remaining) {
		if (nla_type(attr) != SK_DIAG_BPF_STORAGE_REQ_MAP_FD)
			continue;
		map = diag_map(diag, attr);
		if (IS_ERR(map)) {
			bpf_sk_storage_diag_free(diag);
			return ERR_CAST(map);
		}
		diag->nr_maps++;
		diag->maps[diag->nr_maps - 1] = map;
	}
	return diag;
}
EXPORT_SYMBOL_GPL(bpf_sk_storage_diag_alloc);

/**
 * bpf_sk_storage_diag_free - free what bpf_sk_storage_diag_alloc() returned
 * @diag: it, or NULL
 *
 * Context: Process; sleeps.
 */
void bpf_sk_storage_diag_free(struct bpf_sk_storage_diag *diag)
{
	u32 i;

	if (!diag)
		return;
	for (i = 0; i < diag->nr_maps; i++)
		bpf_map_put(diag->maps[i]);
	kvfree(diag);
}
EXPORT_SYMBOL_GPL(bpf_sk_storage_diag_free);

/* A socket's values that are being put into a message. */
struct diag_reply {
	struct sk_buff *skb;
	struct nlattr *nest;
	int type;
	int err;
	size_t size;
};

/* Bytes of a value with its attributes, at most. */
static size_t diag_value_size(const struct bpf_map *map)
{
	return nla_total_size(nla_total_size(sizeof(u32)) +
			      nla_total_size_64bit(map->value_size));
}

static void diag_close_nest(struct diag_reply *reply)
{
	if (reply->nest)
		nla_nest_end(reply->skb, reply->nest);
	reply->nest = NULL;
}

/* Open the nest for @size more bytes, a new one if they are too many for it. */
static int diag_open_nest(struct diag_reply *reply, size_t size)
{
	struct sk_buff *skb = reply->skb;

	if (reply->nest &&
	    skb_tail_pointer(skb) - (u8 *)reply->nest + size > U16_MAX)
		diag_close_nest(reply);
	if (reply->nest)
		return 0;
	reply->nest = nla_nest_start(skb, reply->type);
	return reply->nest ? 0 : -EMSGSIZE;
}

/* Write one attribute where there is room for it; returns its payload. */
static void *diag_set_attr(struct nlattr *attr, int type, u32 len)
{
	attr->nla_type = type;
	attr->nla_len = nla_attr_size(len);
	if (nla_padlen(len))
		memset((u8 *)attr + attr->nla_len, 0, nla_padlen(len));
	return nla_data(attr);
}

static struct nlattr *diag_next_attr(struct nlattr *attr)
{
	return (struct nlattr *)((u8 *)attr + NLA_ALIGN(attr->nla_len));
}

/* The value is to begin at a multiple of 8, where that makes a difference. */
static bool diag_needs_pad(const struct sk_buff *skb, u32 before)
{
	return !IS_ENABLED(CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS) &&
	       !IS_ALIGNED((unsigned long)skb_tail_pointer(skb) + before, 8);
}

static void diag_copy(struct bpf_map *map, void *to, void *value)
{
	/* What is not copied is not for userspace to see. */
	if (!IS_ERR_OR_NULL(map->record))
		memset(to, 0, map->value_size);
	bpf_local_storage_copy_value(map, to, value);
}

static int diag_put_value(struct sk_buff *skb, struct bpf_map *map, u32 id,
			  void *value)
{
	u32 len = nla_total_size(sizeof(id)) + nla_total_size(map->value_size);
	struct nlattr *attr;
	bool pad;

	pad = diag_needs_pad(skb, NLA_HDRLEN + nla_total_size(sizeof(id)) +
				  NLA_HDRLEN);
	len += pad ? nla_total_size(0) : 0;
	attr = nla_reserve(skb, SK_DIAG_BPF_STORAGE | NLA_F_NESTED, len);
	if (!attr)
		return -EMSGSIZE;
	attr = nla_data(attr);
	*(u32 *)diag_set_attr(attr, SK_DIAG_BPF_STORAGE_MAP_ID, sizeof(id)) = id;
	attr = diag_next_attr(attr);
	if (pad) {
		diag_set_attr(attr, SK_DIAG_BPF_STORAGE_PAD, 0);
		attr = diag_next_attr(attr);
	}
	diag_copy(map, diag_set_attr(attr, SK_DIAG_BPF_STORAGE_MAP_VALUE,
				     map->value_size), value);
	return 0;
}

/* Add a value; from the first that does not fit, only count bytes. */
static void diag_add(struct diag_reply *reply, struct bpf_map *map, void *value)
{
	/* Pairs with nothing: zero for a map that has just been given up. */
	u32 id = READ_ONCE(map->id);
	size_t size = diag_value_size(map);

	if (!id || !value)
		return;
	/* In the worst case each begins a nest. */
	reply->size += nla_total_size(0) + size;
	if (!reply->err)
		reply->err = diag_open_nest(reply, size);
	if (!reply->err)
		reply->err = diag_put_value(reply->skb, map, id, value);
}

static void diag_add_regions(struct diag_reply *reply, const struct sock *sk)
{
	struct bpf_sk_region *region = NULL;

	while ((region = bpf_sk_region_next(region)))
		diag_add(reply, &region->smap.map,
			 bpf_sk_region_lookup(sk, &region->smap.map));
}

static void diag_add_all(struct diag_reply *reply,
			 struct bpf_local_storage *storage)
{
	struct bpf_local_storage_elem *elem;
	struct bpf_local_storage_iter iter;

	bpf_local_storage_iter_init(&iter, storage);
	while ((elem = bpf_local_storage_iter_next(&iter)))
		diag_add(reply, &elem->map->map, bpf_local_storage_value(elem));
}

static void *diag_value(struct bpf_local_storage *storage,
			const struct sock *sk, struct bpf_map *map)
{
	if (bpf_sk_is_region(map))
		return bpf_sk_region_lookup(sk, map);
	if (!storage)
		return NULL;
	return bpf_local_storage_lookup(storage, to_local_storage_map(map));
}

/**
 * bpf_sk_storage_diag_put - put a socket's values into a message
 * @diag: which values
 * @sk: a full socket
 * @skb: the message
 * @type: the attribute to put them in; there is more than one if the values
 *	are too many for the length of an attribute, and none without a value
 * @size: set to the bytes that are needed, after -EMSGSIZE
 *
 * Context: Any but NMI; does not sleep.
 * Return: 0, or -EMSGSIZE if the room in @skb is less than @size; then @skb
 *	is as it was.
 */
int bpf_sk_storage_diag_put(const struct bpf_sk_storage_diag *diag,
			    struct sock *sk, struct sk_buff *skb, int type,
			    size_t *size)
{
	struct diag_reply reply = { .skb = skb, .type = type };
	struct bpf_local_storage *storage;
	u32 i, begin = skb->len;

	/* Pairs with the grace periods that free an element and its map. */
	rcu_read_lock();
	storage = rcu_dereference(sk->sk_bpf_storage);
	if (storage && !diag->nr_maps)
		diag_add_all(&reply, storage);
	if (bpf_sk_reserve_size() && !diag->nr_maps)
		diag_add_regions(&reply, sk);
	for (i = 0; i < diag->nr_maps; i++)
		diag_add(&reply, diag->maps[i],
			 diag_value(storage, sk, diag->maps[i]));
	rcu_read_unlock();

	if (reply.err)
		skb_trim(skb, begin);
	else
		diag_close_nest(&reply);
	*size = reply.size;
	return reply.err;
}
EXPORT_SYMBOL_GPL(bpf_sk_storage_diag_put);
