/* prefix_lists: tiles of what is in the cache, and where each request's keys begin. */
#include "kernels/lists.h"
#include "kernels/op.h"

#include <string.h>

#define ARGS struct rfn_prefix_lists_args
#define I32 RFN_DTYPE_BIT(RFN_I32)

static const struct rfn_operand operands[] = {
    { "q_lens", offsetof(ARGS, q_lens), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "R", 0 },
    { "q_starts", offsetof(ARGS, q_starts), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "?",
      0 },
    { "cached", offsetof(ARGS, cached), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "R", 0 },
    { "requests", offsetof(ARGS, requests), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1",
      0 },
    { "tiles", offsetof(ARGS, tiles), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I32, "N,2", 8 },
    { "key_starts", offsetof(ARGS, key_starts), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32,
      "?", 0 },
    { "counts", offsetof(ARGS, counts), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32, "3", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "prefix_keys", offsetof(ARGS, prefix_keys), sizeof(int32_t), 0 },
    { "keys_most", offsetof(ARGS, keys_most), sizeof(int32_t), 0 },
};

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    long long R = a->cached.shape[0], n = a->key_starts.shape[0];
    enum rfn_status status = rfn_lens_check(&a->q_lens, &a->q_starts, R);
    if (status == RFN_OK)
        status = rfn_list_check("tiles", &a->tiles);
    if (status != RFN_OK)
        return status;
    if (n != R + 1)
        return RFN_FAIL(RFN_INVALID,
                        "key_starts: extent %lld, but cached: R = %lld needs %lld", n, R,
                        R + 1);
    if (a->prefix_keys < 0 || (a->tiles.data && a->prefix_keys < 1))
        return RFN_FAIL(RFN_INVALID, "prefix_keys = %d, but %d .. %d is needed",
                        a->prefix_keys, a->tiles.data != NULL, INT32_MAX);
    if (a->keys_most < 0)
        return RFN_FAIL(RFN_INVALID, "keys_most = %d, but 0 .. %d is needed",
                        a->keys_most, INT32_MAX);
    return RFN_OK;
}

static int64_t tiles_of(const struct rfn_prefix_plan *p, const struct rfn_lens_of *r)
{
    return p->size ? rfn_tiles_of((uint64_t)r->cached, (uint32_t)p->size) : 0;
}

void rfn_prefix_plan_count(const struct rfn_prefix_lists_args *a, struct rfn_fault *seen,
                           struct rfn_prefix_plan *ret)
{
    struct rfn_prefix_plan *p = ret;
    memset(p, 0, sizeof *p);
    p->lens = rfn_lens_given(&a->q_lens, &a->q_starts, NULL, &a->cached);
    p->requests = rfn_live_rows(&a->requests, a->cached.shape[0]);
    p->list = rfn_list_of(&a->tiles);
    p->size = a->tiles.data ? a->prefix_keys : 0;
    p->keys_most = a->keys_most ? a->keys_most : INT32_MAX;
    for (int64_t b = 0; b < p->requests; b++)
    {
        struct rfn_lens_of r = rfn_lens_at(&p->lens, b);
        if (r.bad)
            rfn_lens_note(seen, "prefix_lists", &p->lens, b, r.bad);
        p->tiles += tiles_of(p, &r);
        p->keys += r.context;
    }
}

void rfn_prefix_plan_fill(const struct rfn_prefix_lists_args *a,
                          const struct rfn_prefix_plan *p)
{
    int32_t *starts = a->key_starts.data, *counts = a->counts.data;
    int64_t at = 0, keys = 0;
    for (int64_t b = 0; b < p->requests; b++)
    {
        struct rfn_lens_of r = rfn_lens_at(&p->lens, b);
        starts[b] = (int32_t)keys;
        keys = keys + r.context < p->keys_most ? keys + r.context : p->keys_most;
        rfn_list_add(&p->list, &at, b, tiles_of(p, &r));
    }
    for (int64_t b = p->requests; b <= a->cached.shape[0]; b++)
        starts[b] = (int32_t)keys;
    rfn_list_end(&p->list, at);
    counts[RFN_PREFIX_TILES] = (int32_t)at;
    counts[RFN_PREFIX_KEYS] = (int32_t)keys;
    counts[RFN_PREFIX_MISSING] = rfn_list_i32(p->tiles - at);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    struct rfn_fault seen = { 0 }, *note = env->fault ? &seen : NULL;
    struct rfn_prefix_plan plan;
    rfn_prefix_plan_count(v, note, &plan);
    if (plan.tiles > plan.list.size)
        rfn_fault_note(note, "prefix_lists", "tiles", plan.tiles, 0, plan.list.size);
    if (plan.keys > plan.keys_most)
        rfn_fault_note(note, "prefix_lists", "key_starts", plan.keys, 0, plan.keys_most);
    rfn_prefix_plan_fill(v, &plan);
    rfn_fault_merge(env->fault, &seen);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t R = a->cached.shape[0];
    return (struct rfn_cost) {
        .bytes_read = 8 * R + 4,
        .bytes_written =
            4 * (R + 1 + RFN_PREFIX_COUNTS) + 8 * rfn_list_of(&a->tiles).size,
    };
}

const struct rfn_op rfn_op_prefix_lists = {
    .name = "prefix_lists",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_prefix_lists_cuda,
#endif
    .cost = cost,
};
