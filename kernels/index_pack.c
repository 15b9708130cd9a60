/* index_pack: quantises indexer keys and writes them into a planar index pool. */
#include "kernels/bounds.h"
#include "kernels/pack.h"
#include "kernels/quant.h"

#include <string.h>

#define ARGS struct rfn_index_pack_args

static const struct rfn_operand operands[] = {
    { "k", offsetof(ARGS, k), RFN_OPERAND_TENSOR, RFN_READ, 0, RFN_DTYPE_BIT(RFN_BF16),
      "T,D", 16 },
    { "slots", offsetof(ARGS, slots), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_I64), "T", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I32), "1", 0 },
    { "pool", offsetof(ARGS, pool), RFN_OPERAND_POOL, RFN_READ_WRITE, 0,
      1u << RFN_INDEX_FP8_132, NULL, 16 },
    { "bounds", offsetof(ARGS, bounds.header), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I64), "8", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "scale", offsetof(ARGS, scale), sizeof(enum rfn_scale), 0 },
    { "floor_on", offsetof(ARGS, floor_on), sizeof(enum rfn_floor), 0 },
    { "floor", offsetof(ARGS, floor), sizeof(float), 0 },
    { "bounds.rows", offsetof(ARGS, bounds.rows), sizeof(int64_t), 0 },
    { "bounds.next_n", offsetof(ARGS, bounds.next_n), sizeof(int32_t), 0 },
};

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    if (a->k.shape[1] != info->latent_elems)
        return RFN_FAIL(RFN_INVALID, "k: D = %lld, but %s has %d",
                        (long long)a->k.shape[1], info->name, info->latent_elems);
    enum rfn_status status = rfn_bounds_check(&a->bounds, a->k.shape[0]);
    return status == RFN_OK ? rfn_scaling_check(a->scale, a->floor_on, a->floor) : status;
}

static void pack_row(const void *v, const struct rfn_format_info *info, int64_t t,
                     struct rfn_token token, struct rfn_fault *seen)
{
    const ARGS *a = v;
    struct rfn_scaling how = { a->scale == RFN_SCALE_UE8M0, a->floor_on, a->floor };
    if (a->floor_on == RFN_FLOOR_DEFAULT)
        how = (struct rfn_scaling) { how.ue8m0, RFN_FLOOR_AMAX, RFN_INDEX_FLOOR };
    const uint16_t *k = (const uint16_t *)a->k.data + t * a->k.stride[0];
    float scale = rfn_quantise_group(k, info->latent_elems, how, token.data);
    if (isnan(scale))
        rfn_fault_note(seen, "index_pack", "k", t, 0, 0);
    memcpy(token.scales, &scale, sizeof scale);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    struct rfn_pack pack = { .op = "index_pack",
                             .args = a,
                             .row = pack_row,
                             .bounds = &a->bounds,
                             .slots = &a->slots,
                             .live = &a->live,
                             .pool = &a->pool };
    rfn_pack_rows(&pack, env);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    int64_t rows = a->k.shape[0], elems = info->latent_elems;
    return (struct rfn_cost) {
        .bytes_read = rows * (2 * elems + 8),
        .bytes_written = rows * info->token_bytes,
        .flops = rows * 2 * elems, /* amax and division */
    };
}

const struct rfn_op rfn_op_index_pack = {
    .name = "index_pack",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_index_pack_cuda,
#endif
    .cost = cost,
};
