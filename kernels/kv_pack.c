/* kv_pack: quantises latent rows and writes them into a paged pool. */
#include "kernels/bounds.h"
#include "kernels/pack.h"
#include "kernels/quant.h"

#include <string.h>

#define DEFAULT_FLOOR_UE8M0 1e-4f /* FlashMLA's tests: on the scale */

#define ARGS struct rfn_kv_pack_args

static const struct rfn_operand operands[] = {
    { "kv", offsetof(ARGS, kv), RFN_OPERAND_TENSOR, RFN_READ, 0, RFN_DTYPE_BIT(RFN_BF16),
      "T,D", 16 },
    { "k_rope", offsetof(ARGS, k_rope), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_BF16), "T,E", 16 },
    { "slots", offsetof(ARGS, slots), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_I64), "T", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I32), "1", 0 },
    { "pool", offsetof(ARGS, pool), RFN_OPERAND_POOL, RFN_READ_WRITE, 0,
      1u << RFN_LATENT_FP8_656 | 1u << RFN_LATENT_BF16_576 | 1u << RFN_LATENT_FP8_584,
      NULL, 16 },
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
    if (a->kv.shape[1] != info->latent_elems)
        return RFN_FAIL(RFN_INVALID, "kv: D = %lld, but %s has %d",
                        (long long)a->kv.shape[1], info->name, info->latent_elems);
    if (a->k_rope.shape[1] != info->rope_elems)
        return RFN_FAIL(RFN_INVALID, "k_rope: E = %lld, but %s has %d",
                        (long long)a->k_rope.shape[1], info->name, info->rope_elems);
    enum rfn_status status = rfn_bounds_check(&a->bounds, a->kv.shape[0]);
    return status == RFN_OK ? rfn_scaling_check(a->scale, a->floor_on, a->floor) : status;
}

static struct rfn_scaling scaling_of(const ARGS *a, const struct rfn_format_info *info)
{
    int ue8m0 = info->scale_dtype == RFN_U8 || a->scale == RFN_SCALE_UE8M0;
    if (a->floor_on == RFN_FLOOR_DEFAULT)
        return (struct rfn_scaling) { ue8m0, RFN_FLOOR_SCALE,
                                      ue8m0 ? DEFAULT_FLOOR_UE8M0 : FLT_MIN };
    return (struct rfn_scaling) { ue8m0, a->floor_on, a->floor };
}

static void pack_row(const void *v, const struct rfn_format_info *info, int64_t t,
                     struct rfn_token token, struct rfn_fault *seen)
{
    const ARGS *a = v;
    const uint16_t *kv = (const uint16_t *)a->kv.data + t * a->kv.stride[0];
    const uint16_t *rope = (const uint16_t *)a->k_rope.data + t * a->k_rope.stride[0];
    unsigned char *latent = token.data + info->latent_offset;
    memcpy(token.data + info->rope_offset, rope, 2 * (size_t)info->rope_elems);
    if (!info->scales)
    {
        memcpy(latent, kv, 2 * (size_t)info->latent_elems);
        return;
    }
    struct rfn_scaling how = scaling_of(a, info);
    int group = info->scale_group;
    for (int g = 0; g < info->scales; g++)
    {
        float scale = rfn_quantise_group(kv + g * group, group, how, latent + g * group);
        if (isnan(scale))
            rfn_fault_note(seen, "kv_pack", "kv", t, (int64_t)g * group, 0);
        if (info->scale_dtype == RFN_U8)
            token.scales[g] = rfn_f32_to_ue8m0_up(scale);
        else
            memcpy(token.scales + 4 * g, &scale, sizeof scale);
    }
    if (info->scale_dtype == RFN_U8)
        memset(token.scales + info->scales, 0,
               (size_t)(info->scale_bytes - info->scales));
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    struct rfn_pack pack = { .op = "kv_pack",
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
    int64_t rows = a->kv.shape[0], elems = info->latent_elems + info->rope_elems;
    return (struct rfn_cost) {
        .bytes_read = rows * (2 * elems + 8),
        .bytes_written = rows * info->token_bytes,
        .flops = info->scales ? rows * 2 * info->latent_elems : 0, /* amax and division */
    };
}

const struct rfn_op rfn_op_kv_pack = {
    .name = "kv_pack",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_kv_pack_cuda,
#endif
    .cost = cost,
};
