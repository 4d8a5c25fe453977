// SPDX-License-Identifier: GPL-2.0
/*
 * Local storage: a lookup as part of a program.
 *
 * The instructions find what bpf_local_storage_lookup() does, or leave it to the
 * helper.
 */
#include <linux/bpf.h>
#include <linux/bpf_local_storage_kind.h>
#include <linux/bpf_verifier.h>
#include <linux/filter.h>
#include <linux/log2.h>
#include <linux/preempt.h>
#include "bpf_local_storage_internal.h"

/**
 * bpf_local_storage_gen_context - leave hard interrupts and NMIs to the helper
 * @insn: where to put the instructions, which change R0
 * @call: the call
 *
 * For kind->gen_storage, where a helper does nothing in such contexts.
 *
 * Context: Any.
 * Return: The place behind, or NULL where a program cannot ask.
 */
struct bpf_insn *
bpf_local_storage_gen_context(struct bpf_insn *insn,
			      const struct bpf_local_storage_call *call)
{
#if defined(CONFIG_X86_64) && !defined(CONFIG_UML)
	struct bpf_insn address[] = {
		BPF_LD_IMM64(BPF_REG_0, BPF_LOCAL_STORAGE_PREEMPT_COUNT),
	};

	if (!call->percpu)
		return NULL;
	*insn++ = address[0];
	*insn++ = address[1];
	*insn++ = BPF_MOV64_PERCPU_REG(BPF_REG_0, BPF_REG_0);
	*insn++ = BPF_LDX_MEM(BPF_W, BPF_REG_0, BPF_REG_0, 0);
	*insn++ = BPF_JMP_IMM(BPF_JSET, BPF_REG_0, HARDIRQ_MASK | NMI_MASK,
			      BPF_LOCAL_STORAGE_TO_HELPER);
	return insn;
#else
	return NULL;
#endif
}

/*
 * R0 = the value in a slot of storage R0.  If it is where a storage that is made
 * now has its first value, it is found by that place: a processor predicts so,
 * and knows the address before the slot has come from memory.  A store to an
 * address that it does not know holds up the loads behind it.
 *
 * Elsewhere than on x86, where loads stay in order, another element that happens
 * to lie there could be read before it was initialised.
 */
static struct bpf_insn *gen_slot(struct bpf_insn *insn,
				 const struct bpf_local_storage_map *smap)
{
	u8 slot = smap->slot, nr_slots = kind_nr_slots(smap->kind);
	u8 loaded = BPF_LOCAL_STORAGE_LOADS_IN_ORDER ? BPF_REG_5 : BPF_REG_0;

	if (slot >= BPF_LOCAL_STORAGE_MIN_SLOTS) {
		*insn++ = BPF_LDX_MEM(BPF_B, BPF_REG_5, BPF_REG_0,
				      offsetof(struct bpf_local_storage,
					       nr_slots));
		*insn++ = BPF_JMP_IMM(BPF_JLE, BPF_REG_5, slot,
				      BPF_LOCAL_STORAGE_TO_HELPER);
	}
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), loaded, BPF_REG_0,
			      offsetof(struct bpf_local_storage, slots[slot]));
	if (loaded == BPF_REG_0)
		return insn;
	*insn++ = BPF_ALU64_IMM(BPF_ADD, BPF_REG_0,
				offsetof(struct bpf_local_storage,
					 slots[nr_slots]));
	*insn++ = BPF_JMP_REG(BPF_JEQ, BPF_REG_0, loaded,
			      BPF_LOCAL_STORAGE_FOUND);
	*insn++ = BPF_MOV64_REG(BPF_REG_0, loaded);
	return insn;
}

/* R0 = the value in storage R0's index, if it is where it is looked for first. */
static struct bpf_insn *gen_index(struct bpf_insn *insn,
				  const struct bpf_local_storage_map *smap)
{
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_0,
			      offsetof(struct bpf_local_storage, index));
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, 0, BPF_LOCAL_STORAGE_IF_NULL);
	*insn++ = BPF_LDX_MEM(BPF_W, BPF_REG_5, BPF_REG_0,
			      offsetof(struct bpf_local_storage_index, mask));
	*insn++ = BPF_ALU64_IMM(BPF_AND, BPF_REG_5, smap->cell);
	*insn++ = BPF_ALU64_IMM(BPF_LSH, BPF_REG_5,
				ilog2(sizeof(struct bpf_local_storage_cell)));
	*insn++ = BPF_ALU64_REG(BPF_ADD, BPF_REG_5, BPF_REG_0);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_5,
			      offsetof(struct bpf_local_storage_index,
				       cells[0].map));
	/* R1 is the map. */
	*insn++ = BPF_JMP_REG(BPF_JNE, BPF_REG_0, BPF_REG_1,
			      BPF_LOCAL_STORAGE_TO_HELPER);
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_5,
			      offsetof(struct bpf_local_storage_index,
				       cells[0].value));
	return insn;
}

/* R0 = the storage of the owner in R2. */
static struct bpf_insn *gen_storage(struct bpf_insn *insn,
				    const struct bpf_local_storage_kind *kind,
				    const struct bpf_local_storage_call *call)
{
	if (kind->gen_storage)
		return kind->gen_storage(insn, call);
	if (kind->pointer > S16_MAX)
		return NULL;
	*insn++ = BPF_LDX_MEM(BPF_SIZEOF(void *), BPF_REG_0, BPF_REG_2,
			      kind->pointer);
	return insn;
}

/* R0 = the value, or NULL; the jumps are still to be aimed. */
static struct bpf_insn *gen_lookup(const struct bpf_local_storage_call *call,
				   struct bpf_insn *insn)
{
	struct bpf_local_storage_map *smap = to_local_storage_map(call->map);

	if (call->maybe_null)
		*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_2, 0,
				      BPF_LOCAL_STORAGE_TO_HELPER);
	if (smap->kind->region_ops)
		return smap->kind->region_ops->gen_lookup(insn, call);
	insn = gen_storage(insn, smap->kind, call);
	if (!insn)
		return NULL;
	*insn++ = BPF_JMP_IMM(BPF_JEQ, BPF_REG_0, 0, BPF_LOCAL_STORAGE_IF_NULL);
	if (smap->slot == BPF_LOCAL_STORAGE_NO_SLOT)
		return gen_index(insn, smap);
	return gen_slot(insn, smap);
}

static struct bpf_insn *gen_call(const struct bpf_local_storage_call *call,
				 const struct bpf_insn *old,
				 struct bpf_insn *insn)
{
	*insn++ = BPF_MOV64_IMM(BPF_REG_5, (__force __s32)call->gfp);
	*insn++ = *old;
	return insn;
}

/* Aim those jumps in [@insn, @end) that have a certain offset. */
static void gen_jumps(struct bpf_insn *insn, const struct bpf_insn *end,
		      int off, const struct bpf_insn *target)
{
	for (; insn < end; insn++)
		if ((BPF_CLASS(insn->code) == BPF_JMP ||
		     BPF_CLASS(insn->code) == BPF_JMP32) && insn->off == off)
			insn->off = target - insn - 1;
}

/* "if (R0 == 0) goto ...", which a hit can pass over. */
static bool is_null_check(const struct bpf_insn *insn)
{
	return insn->code == (BPF_JMP | BPF_JEQ | BPF_K) &&
	       insn->dst_reg == BPF_REG_0 && !insn->imm;
}

/* A lookup, and the helper's call for what it does not find. */
static struct bpf_insn *gen_get(const struct bpf_local_storage_call *call,
				const struct bpf_insn *old,
				struct bpf_insn *insns)
{
	struct bpf_insn *looked, *helper, *end, *found;

	static_assert(!offsetof(struct bpf_local_storage_map, map));

	looked = gen_lookup(call, insns);
	if (!looked)
		return NULL;
	helper = looked;
	*helper++ = BPF_JMP_IMM(BPF_JNE, BPF_REG_0, 0, 0);
	if (!call->creates)
		*helper++ = BPF_JMP_A(0);
	end = gen_call(call, old, helper);
	found = end + is_null_check(old + 1);

	gen_jumps(insns, looked, BPF_LOCAL_STORAGE_IF_NULL,
		  call->creates ? helper : end);
	gen_jumps(insns, looked, BPF_LOCAL_STORAGE_TO_HELPER, helper);
	gen_jumps(insns, looked, BPF_LOCAL_STORAGE_FOUND, found);
	if (!call->creates)
		looked[1].off = end - looked - 2;
	looked[0].off = found - looked - 1;
	return end;
}

/* A map that the program names itself: not the template of an inner map. */
static bool is_used_map(const struct bpf_verifier_env *env,
			const struct bpf_map *map)
{
	u32 i;

	for (i = 0; i < env->used_map_cnt; i++)
		if (env->used_maps[i] == map)
			return true;
	return false;
}

/*
 * The map of a call that can be replaced, or NULL.  Not in large programs: what
 * else is to be patched has to leave their jumps within 16 bits.
 */
static struct bpf_map *call_map(const struct bpf_verifier_env *env,
				const struct bpf_insn_aux_data *aux)
{
	struct bpf_map *map = aux->map_ptr_state.map_ptr;

	if (aux->map_ptr_state.poison || !is_used_map(env, map) ||
	    aux->storage_get & BPF_STORAGE_GET_FLAGS_VARY ||
	    !env->bypass_spec_v1 || env->prog->len >= S16_MAX / 2)
		return NULL;
	return map;
}

/**
 * bpf_local_storage_gen_get - the instructions that stand for a call of get
 * @env: the verification of the program
 * @insn_idx: the call
 * @insns: room for the instructions, of which there are fewer than 32
 *
 * A hit is found without the helper, and so is that there is no value and none
 * is wanted.  The helper's call is the last instruction.
 *
 * Context: Process.
 * Return: The number of instructions.
 */
u32 bpf_local_storage_gen_get(struct bpf_verifier_env *env, int insn_idx,
			      struct bpf_insn *insns)
{
	const struct bpf_insn_aux_data *aux = &env->insn_aux_data[insn_idx];
	const struct bpf_insn *old = &env->prog->insnsi[insn_idx];
	struct bpf_local_storage_call call = {
		.map = call_map(env, aux),
		.fn = env->ops->get_func_proto(old->imm, env->prog),
		.maybe_null = aux->storage_get & BPF_STORAGE_GET_MAYBE_NULL,
		.maybe_mini = aux->storage_get & BPF_STORAGE_GET_MAYBE_MINI,
		.creates = aux->storage_get & BPF_STORAGE_GET_CREATES,
		.percpu = env->prog->jit_requested &&
			  bpf_jit_supports_percpu_insn(),
		.gfp = bpf_local_storage_gfp(env->prog,
					     !aux->storage_get_atomic),
	};
	struct bpf_insn *end = call.map ? gen_get(&call, old, insns) : NULL;

	if (!end)
		return gen_call(&call, old, insns) - insns;
	if (call.percpu)
		bpf_local_storage_require_jit(env->prog);
	return end - insns;
}
