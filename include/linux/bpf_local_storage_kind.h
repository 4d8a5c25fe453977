/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Local storage: what a kind of owner is made of.  How it works is said in
 * kernel/bpf/bpf_local_storage.c.
 */
#ifndef _BPF_LOCAL_STORAGE_KIND_H
#define _BPF_LOCAL_STORAGE_KIND_H

#include <linux/bpf.h>
#include <linux/bpf_local_storage.h>
#include <linux/bpf_local_storage_base.h>
#include <linux/bpf_mem_alloc.h>
#include <linux/idr.h>
#include <linux/list.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#define BPF_LOCAL_STORAGE_SLOTS		16
#define BPF_LOCAL_STORAGE_MIN_SLOTS	4
/* A map's slot when it owns none: beyond the slots of any storage. */
#define BPF_LOCAL_STORAGE_NO_SLOT	BPF_LOCAL_STORAGE_SLOTS
#define BPF_LOCAL_STORAGE_WALK_BATCH	16 /* owners that a walk takes at once */

struct bpf_local_storage_bucket;
struct bpf_local_storage_index;
struct bpf_local_storage_map;

/**
 * struct bpf_local_storage_elem - one map's value on one owner
 * @map_node: on a bucket of @map while linked; under the bucket's lock
 * @rcu: for freeing, once unlinked
 * @map: the map, valid while linked or under RCU
 * @tagged_storage: the storage that holds it; the lowest bit is the core's
 *
 * The value follows, except for the first element of a storage; see
 * bpf_local_storage_value().
 */
struct bpf_local_storage_elem {
	union {
		struct hlist_node map_node;
		struct rcu_head rcu;
	};
	struct bpf_local_storage_map *map;
	unsigned long tagged_storage;
};

/**
 * struct bpf_local_storage - everything an owner keeps
 * @first: the element made together with the storage, if @first.map is set;
 *	its rcu_head frees the whole block in any case
 * @index: elements of maps whose slot is not below @nr_slots, or NULL
 * @owner: NULL before the owner has the storage and once it is detached; set
 *	before anybody can see the storage, cleared under @lock
 * @lock: serialises every change of what the owner keeps
 * @size: of this block, in units of 8 bytes
 * @nr_slots: 4, 8 or 16
 * @nr_used_slots: those that are not NULL; under @lock
 * @slots: NULL, or the value of the map that owns the slot
 *
 * The value of @first follows the slots, so that a hit on it stays within
 * one or two cache lines.
 */
struct bpf_local_storage {
	struct bpf_local_storage_elem first;
	struct bpf_local_storage_index __rcu *index;
	void *owner;
	raw_spinlock_t lock;
	u16 size;
	u8 nr_slots;
	u8 nr_used_slots;
	void __rcu *slots[] __aligned(8);
};

/**
 * struct bpf_local_storage_slots - which map of a kind owns which slot
 * @lock: protects the rest
 * @map: the owner of each slot, or NULL
 * @stuck: bit per slot whose dying map did not go while a creation waited
 * @nr: how many slots a new storage gets; read without @lock
 * @numbers: of the maps of this kind; has a lock of its own
 */
struct bpf_local_storage_slots {
	spinlock_t lock; /* all of it */
	struct bpf_local_storage_map *map[BPF_LOCAL_STORAGE_SLOTS];
	u16 stuck;
	u8 nr;
	struct ida numbers;
};

/**
 * struct bpf_local_storage_call - a call of a get helper in a program
 * @map: the map, the same on every path; or NULL to leave the call as it is
 * @fn: the helper
 * @maybe_null: on some path the owner may be NULL
 * @maybe_mini: on some path a socket may not be a full one
 * @creates: on some path the flags are BPF_LOCAL_STORAGE_GET_F_CREATE, not 0
 * @percpu: the program can address per-CPU variables
 * @gfp: how the helper may allocate
 */
struct bpf_local_storage_call {
	struct bpf_map *map;
	const struct bpf_func_proto *fn;
	bool maybe_null;
	bool maybe_mini;
	bool creates;
	bool percpu;
	gfp_t gfp;
};

/* Where a jump in a replaced call leads to, until that is known. */
#define BPF_LOCAL_STORAGE_TO_HELPER	0	/* the helper has to decide */
#define BPF_LOCAL_STORAGE_IF_NULL	(-1)	/* R0 is 0: there is no value */
#define BPF_LOCAL_STORAGE_FOUND		(-2)	/* R0 is the value */
/* Whether what an address was compared with was loaded before what is there. */
#define BPF_LOCAL_STORAGE_LOADS_IN_ORDER	IS_ENABLED(CONFIG_X86_64)

/**
 * struct bpf_local_storage_region_ops - of maps whose values are parts of owners
 * @lookup: find an owner's value; under rcu_read_lock()
 * @update: as bpf_local_storage_update(), with valid flags
 * @delete: as bpf_local_storage_delete()
 * @free: free a map, to which nobody has a reference; may sleep
 * @gen_lookup: as @gen_storage of a kind, but what is loaded is the value; it
 *	jumps where there is none
 *
 * None of them is called by a program that can sleep.
 */
struct bpf_local_storage_region_ops {
	void *(*lookup)(void *owner, struct bpf_local_storage_map *smap);
	long (*update)(void *owner, struct bpf_local_storage_map *smap,
		       void *value, u64 flags);
	long (*delete)(void *owner, struct bpf_local_storage_map *smap);
	void (*free)(struct bpf_local_storage_map *smap);
	struct bpf_insn *(*gen_lookup)(struct bpf_insn *insn,
				       const struct bpf_local_storage_call *call);
};

/**
 * struct bpf_local_storage_kind - what differs from one kind of owner to another
 * @pointer: where in the owner the pointer to its storage is, in bytes
 * @get_fd: find the owner behind a descriptor and keep it, until *@ref is put;
 *	the owner or an error.  Must not sleep.
 * @put_ref: the reverse; must not sleep
 * @charge: account @size bytes to the owner; 0 or a negative errno.  Called
 *	with the owner alive; must not sleep.  NULL together with @uncharge if
 *	owners have no account.
 * @uncharge: the reverse; called with the owner alive, under storage->lock
 * @gen_storage: write to @insn what loads the owner's pointer to its storage
 *	into R0.  The owner is in R2 and not NULL, and R5 may be changed; jumps
 *	have one of the offsets above.  Returns the place behind that, or NULL
 *	if it takes a call.  NULL where loading @pointer from the owner is all.
 * @slots: the slots of this kind's maps
 * @region_ops: if values are parts of owners, who have no storage then; or NULL
 *
 * The core calls @uncharge under its locks, where a tracing program must not
 * run: it is notrace.
 */
struct bpf_local_storage_kind {
	size_t pointer;
	void *(*get_fd)(int fd, void **ref);
	void (*put_ref)(void *ref);
	int (*charge)(void *owner, u32 size);
	void (*uncharge)(void *owner, u32 size);
	struct bpf_insn *(*gen_storage)(struct bpf_insn *insn,
					const struct bpf_local_storage_call *call);
	struct bpf_local_storage_slots *slots;
	const struct bpf_local_storage_region_ops *region_ops;
};

#define DEFINE_BPF_LOCAL_STORAGE_SLOTS(name)			\
	struct bpf_local_storage_slots name = {			\
		.lock = __SPIN_LOCK_UNLOCKED(name.lock),	\
		.nr = BPF_LOCAL_STORAGE_MIN_SLOTS,		\
		.numbers = IDA_INIT(name.numbers),		\
	}

/**
 * struct bpf_local_storage_map - a map of any kind of local storage
 * @map: what all maps have
 * @kind: the kind of its owners
 * @buckets: every element of the map, hashed by owner
 * @bucket_bits: log2 of the number of buckets
 * @number: as small as can be when the map was made
 * @cell: the cell of an index to try first, less the bits beyond its size
 * @slot: the slot that belongs to the map, or BPF_LOCAL_STORAGE_NO_SLOT
 * @had_elems: whether it ever had an element
 * @reserved: whether @storage_ma and @elem_ma can be used
 * @storage_ma: memory for storages where kmalloc() is out of the question
 * @elem_ma: the same for elements
 */
struct bpf_local_storage_map {
	struct bpf_map map;
	const struct bpf_local_storage_kind *kind;
	struct bpf_local_storage_bucket *buckets;
	u32 bucket_bits;
	u32 number;
	u32 cell;
	u8 slot;
	bool had_elems;
	bool reserved;
	struct bpf_mem_alloc storage_ma;
	struct bpf_mem_alloc elem_ma;
};

static inline struct bpf_local_storage_map *
to_local_storage_map(const struct bpf_map *map)
{
	return container_of(map, struct bpf_local_storage_map, map);
}

/**
 * bpf_local_storage_copy_value - copy a value that others may be changing
 * @map: its map
 * @to: where to; nobody else writes there
 * @value: the value
 *
 * Under the value's bpf_spin_lock, if it has one.  What is special in a value is
 * not copied.
 *
 * Context: Any but NMI.
 */
static inline void bpf_local_storage_copy_value(struct bpf_map *map, void *to,
						void *value)
{
	if (btf_record_has_field(map->record, BPF_SPIN_LOCK))
		copy_map_value_locked(map, to, value, true);
	else
		copy_map_value(map, to, value);
}

void *bpf_local_storage_lookup_index(struct bpf_local_storage *storage,
				     struct bpf_local_storage_map *smap);

/**
 * bpf_local_storage_lookup - find a map's value on an owner
 * @storage: the owner's storage
 * @smap: the map
 *
 * The slot belongs to @smap alone, so what is in it is the answer.
 *
 * Context: Any, under rcu_read_lock() or rcu_read_lock_trace().
 * Return: The value, or NULL.
 */
static __always_inline void *
bpf_local_storage_lookup(struct bpf_local_storage *storage,
			 struct bpf_local_storage_map *smap)
{
	/* Pairs with the release stores in storage_set_value(). */
	if (likely(smap->slot < BPF_LOCAL_STORAGE_MIN_SLOTS ||
		   smap->slot < storage->nr_slots))
		return rcu_dereference_check(storage->slots[smap->slot],
					     bpf_rcu_lock_held());
	return bpf_local_storage_lookup_index(storage, smap);
}

/**
 * struct bpf_local_storage_iter - a walk over everything an owner keeps
 * @storage: the owner's storage
 * @index: its index when the walk began
 * @pos: the next slot, then the next cell
 */
struct bpf_local_storage_iter {
	struct bpf_local_storage *storage;
	struct bpf_local_storage_index *index;
	u32 pos;
};

void bpf_local_storage_iter_init(struct bpf_local_storage_iter *iter,
				 struct bpf_local_storage *storage);
struct bpf_local_storage_elem *
bpf_local_storage_iter_next(struct bpf_local_storage_iter *iter);
void *bpf_local_storage_value(struct bpf_local_storage_elem *elem);

/**
 * struct bpf_local_storage_map_iter - a walk over every element of a map
 * @smap: the map
 * @get: take a reference on the owner of an element; false to pass it over.
 *	Called with a raw spinlock held.
 * @put: the reverse; called without locks
 * @owner: whose value was returned last; valid until the next call
 * @cursor: no element: it stands on a bucket's list before those to come
 * @begin: another: behind it, and before @cursor, is what @owners are from
 * @bucket: the bucket that @cursor is in, or is to enter
 * @nr: how many of @owners there are, each with a reference
 * @pos: the one whose value was returned last, or is to be next
 * @owners: those whose elements the last visit to the bucket passed
 */
struct bpf_local_storage_map_iter {
	struct bpf_local_storage_map *smap;
	bool (*get)(void *owner);
	void (*put)(void *owner);
	void *owner;
	struct bpf_local_storage_elem cursor;
	struct bpf_local_storage_elem begin;
	u32 bucket;
	u32 nr;
	u32 pos;
	void *owners[BPF_LOCAL_STORAGE_WALK_BATCH];
};

void *bpf_local_storage_map_iter_start(struct bpf_local_storage_map_iter *iter);
void bpf_local_storage_map_iter_stop(struct bpf_local_storage_map_iter *iter);
void *bpf_local_storage_map_iter_next(struct bpf_local_storage_map_iter *iter);
void bpf_local_storage_map_iter_end(struct bpf_local_storage_map_iter *iter);

void *bpf_local_storage_get(void *owner, struct bpf_map *map, void *value,
			    u64 flags, gfp_t gfp);
void *bpf_local_storage_create(void *owner, struct bpf_local_storage_map *smap,
			       void *value, gfp_t gfp);
int bpf_local_storage_clone(struct bpf_local_storage *from, void *owner,
			    const struct bpf_local_storage_kind *kind);
long bpf_local_storage_update(void *owner, struct bpf_local_storage_map *smap,
			      void *value, u64 flags);
long bpf_local_storage_delete(void *owner, struct bpf_local_storage_map *smap);
void bpf_local_storage_destroy(void *owner,
			       const struct bpf_local_storage_kind *kind);

void bpf_local_storage_call_rcu(struct rcu_head *rcu, rcu_callback_t func);

struct bpf_insn *
bpf_local_storage_gen_context(struct bpf_insn *insn,
			      const struct bpf_local_storage_call *call);

void *bpf_local_storage_fd_lookup(struct bpf_map *map, void *key);
long bpf_local_storage_fd_update(struct bpf_map *map, void *key, void *value,
				 u64 flags);
long bpf_local_storage_fd_delete(struct bpf_map *map, void *key);
int bpf_local_storage_no_next_key(struct bpf_map *map, void *key,
				  void *next_key);

extern u32 bpf_local_storage_map_btf_id[];

int bpf_local_storage_map_alloc_check(union bpf_attr *attr);
void bpf_local_storage_map_init(struct bpf_local_storage_map *smap,
				union bpf_attr *attr,
				const struct bpf_local_storage_kind *kind);
bool bpf_local_storage_map_is_dying(const struct bpf_local_storage_map *smap,
				    bool stuck);
struct bpf_map *
bpf_local_storage_map_alloc(union bpf_attr *attr,
			    const struct bpf_local_storage_kind *kind);
void bpf_local_storage_map_free(struct bpf_map *map);
bool bpf_local_storage_meta_equal(const struct bpf_map *meta,
				  const struct bpf_map *map);
u64 bpf_local_storage_map_mem_usage(const struct bpf_map *map);

/* The operations of a kind's maps, all but .map_alloc. */
#define BPF_LOCAL_STORAGE_MAP_OPS					\
	.map_meta_equal = bpf_local_storage_meta_equal,			\
	.map_alloc_check = bpf_local_storage_map_alloc_check,		\
	.map_free = bpf_local_storage_map_free,				\
	.map_get_next_key = bpf_local_storage_no_next_key,		\
	.map_lookup_elem = bpf_local_storage_fd_lookup,			\
	.map_update_elem = bpf_local_storage_fd_update,			\
	.map_delete_elem = bpf_local_storage_fd_delete,			\
	.map_check_btf = bpf_local_storage_check_btf,			\
	.map_mem_usage = bpf_local_storage_map_mem_usage,		\
	.map_btf_id = &bpf_local_storage_map_btf_id[0]

#endif /* _BPF_LOCAL_STORAGE_KIND_H */
