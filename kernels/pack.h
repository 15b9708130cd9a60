/*
 * Rows into the slots of a pool, by several threads. Every part takes the slots that are its
 * own, in the order of the rows: of two rows with one slot the later wins, however many
 * threads there are.
 */
#ifndef RFN_KERNELS_PACK_H
#define RFN_KERNELS_PACK_H

#include "kernels/bounds.h"
#include "kernels/op.h"
#include "kernels/parallel.h"

/* Writes row t of the op's arguments; notes what it finds in `note`, which may be NULL. */
typedef void rfn_pack_fn(const void *args, const struct rfn_format_info *info, int64_t t,
                         struct rfn_token token, struct rfn_fault *note);

struct rfn_pack
{
    const char *op;
    const void *args;
    rfn_pack_fn *row;
    const struct rfn_bounds *bounds;
    const struct rfn_tensor *slots, *live; /* of the arguments */
    const struct rfn_pool *pool;
    int64_t rows;
    int parts;
    struct rfn_fault *note;
};

/* Spreads slots over parts; multiples of a page must not all meet in one. */
static inline int rfn_slot_part(int64_t slot, int parts)
{
    return (int)(((uint64_t)slot * 0x9e3779b97f4a7c15u >> 32) % (uint64_t)parts);
}

static inline void rfn_pack_part(void *ctx, int64_t part)
{
    const struct rfn_pack *p = ctx;
    const struct rfn_format_info *info = rfn_format_query(p->pool->format);
    const int64_t *slots = p->slots->data;
    int64_t pool_slots = rfn_pool_slots(p->pool), stride = rfn_pool_stride(p->pool);
    for (int64_t t = 0; t < p->rows; t++)
    {
        int64_t slot = slots[t];
        if (slot < 0 || rfn_slot_part(slot, p->parts) != part)
            continue;
        if (slot >= pool_slots)
            rfn_fault_note(p->note, p->op, "slots", t, 0, slot);
        else
            p->row(p->args, info, t, rfn_pool_token(p->pool, info, stride, slot),
                   p->note);
    }
}

/* Fills in rows, parts and note, and packs; nothing where the bounds do not hold. */
static inline void rfn_pack_rows(struct rfn_pack *pack, const struct rfn_host_env *env)
{
    struct rfn_fault seen = { 0 };
    const struct rfn_bound_set own =
        rfn_bounds_of_pool(pack->bounds, pack->slots->shape[0], pack->pool);
    if (!rfn_bounds_hold(pack->bounds, &own, pack->op, env->fault))
        return;
    pack->rows = rfn_live_rows(pack->live, pack->slots->shape[0]);
    pack->parts = env->threads < pack->rows ? env->threads : (int)pack->rows;
    pack->note = env->fault ? &seen : NULL;
    rfn_parallel(env->threads, pack->parts, rfn_pack_part, pack);
    rfn_fault_merge(env->fault, &seen);
}

#endif
