/* kv_pack: quantises latent rows and writes them into a paged pool. */
#include "kernels/num.h"
#include "kernels/op.h"

#include <float.h>
#include <math.h>

#define GROUP_MAX 128
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
};

static const struct rfn_scalar scalars[] = {
    { "scale", offsetof(ARGS, scale), sizeof(enum rfn_scale), 0 },
    { "floor_on", offsetof(ARGS, floor_on), sizeof(enum rfn_floor), 0 },
    { "floor", offsetof(ARGS, floor), sizeof(float), 0 },
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
    if (a->scale != RFN_SCALE_F32 && a->scale != RFN_SCALE_UE8M0)
        return RFN_FAIL(RFN_INVALID, "scale: %d, but f32 is %d and ue8m0 is %d",
                        (int)a->scale, RFN_SCALE_F32, RFN_SCALE_UE8M0);
    float unit = a->floor_on == RFN_FLOOR_AMAX ? RFN_E4M3_MAX : 1.0f;
    switch (a->floor_on)
    {
    case RFN_FLOOR_DEFAULT:
        break;
    case RFN_FLOOR_SCALE:
    case RFN_FLOOR_AMAX:
        /* A scale of 0 would turn an all-zero group into NaN. */
        if (!(a->floor / unit >= FLT_MIN) || isinf(a->floor))
            return RFN_FAIL(RFN_INVALID,
                            "floor: a least scale of %g, but %g .. is needed",
                            (double)(a->floor / unit), (double)FLT_MIN);
        break;
    default:
        return RFN_FAIL(RFN_INVALID, "floor_on: %d, but 0 .. %d are known",
                        (int)a->floor_on, RFN_FLOOR_AMAX);
    }
    return RFN_OK;
}

/* How groups of one run are scaled. */
struct scaling
{
    int ue8m0;
    enum rfn_floor on;
    float floor;
};

static struct scaling scaling_of(const ARGS *a, const struct rfn_format_info *info)
{
    int ue8m0 = info->scale_dtype == RFN_U8 || a->scale == RFN_SCALE_UE8M0;
    if (a->floor_on == RFN_FLOOR_DEFAULT)
        return (struct scaling) { ue8m0, RFN_FLOOR_SCALE,
                                  ue8m0 ? DEFAULT_FLOOR_UE8M0 : FLT_MIN };
    return (struct scaling) { ue8m0, a->floor_on, a->floor };
}

/* Quantises one group and returns its scale. A NaN makes scale and bytes NaN; an infinity
 * makes the scale infinite (as an exponent byte 255, NaN), its own byte NaN, the others 0. */
static float quantise_group(const uint16_t *x, int n, struct scaling how, uint8_t *ret_q)
{
    /* amax on the bits: a NaN is above the infinities and so survives as the largest. */
    uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < n; i++)
    {
        uint32_t u = x[i] & 0x7fffu;
        largest = u > largest ? u : largest;
    }
    float amax = rfn_bf16_to_f32((uint16_t)largest), scale;
    if (isnan(amax))
        scale = rfn_f32_from_bits(RFN_F32_NAN_BITS);
    else if (how.on == RFN_FLOOR_AMAX)
        scale = (amax > how.floor ? amax : how.floor) / RFN_E4M3_MAX;
    else
    {
        scale = amax / RFN_E4M3_MAX;
        scale = scale > how.floor ? scale : how.floor;
    }
    if (how.ue8m0 && !isnan(scale))
        scale = rfn_f32_from_bits((uint32_t)rfn_f32_to_ue8m0_up(scale) << 23);
#pragma omp simd
    for (int i = 0; i < n; i++)
        ret_q[i] = rfn_f32_to_e4m3(rfn_bf16_to_f32(x[i]) / scale);
    return scale;
}

static void pack_row(const ARGS *a, const struct rfn_format_info *info, int64_t t,
                     struct rfn_token token, struct rfn_fault *seen)
{
    const uint16_t *kv = (const uint16_t *)a->kv.data + t * a->kv.stride[0];
    const uint16_t *rope = (const uint16_t *)a->k_rope.data + t * a->k_rope.stride[0];
    unsigned char *latent = token.data + info->latent_offset;
    memcpy(token.data + info->rope_offset, rope, 2 * (size_t)info->rope_elems);
    if (!info->scales)
    {
        memcpy(latent, kv, 2 * (size_t)info->latent_elems);
        return;
    }
    struct scaling how = scaling_of(a, info);
    int group = info->scale_group;
    for (int g = 0; g < info->scales; g++)
    {
        float scale = quantise_group(kv + g * group, group, how, latent + g * group);
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

/* Spreads slots over parts; multiples of a page must not all meet in one. */
static int part_of(int64_t slot, int parts)
{
    return (int)(((uint64_t)slot * 0x9e3779b97f4a7c15u >> 32) % (uint64_t)parts);
}

/* Every part takes the slots that are its own, in the order of the rows: of two rows with
 * one slot the later wins, however many threads there are. */
static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    const int64_t *slots = a->slots.data;
    int64_t rows = rfn_live_rows(&a->live, a->kv.shape[0]);
    int64_t pool_slots = rfn_pool_slots(&a->pool), stride = rfn_pool_stride(&a->pool);
    struct rfn_fault seen = { 0 }, *note = env->fault ? &seen : NULL;
    int parts = env->threads < rows ? env->threads : (int)rows;

#if defined(_OPENMP)
#pragma omp parallel for num_threads(parts > 0 ? parts : 1) schedule(static, 1)
#endif
    for (int part = 0; part < parts; part++)
        for (int64_t t = 0; t < rows; t++)
        {
            int64_t slot = slots[t];
            if (slot < 0 || part_of(slot, parts) != part)
                continue;
            if (slot >= pool_slots)
                rfn_fault_note(note, "kv_pack", "slots", t, 0, slot);
            else
                pack_row(a, info, t, rfn_pool_token(&a->pool, info, stride, slot), note);
        }
    rfn_fault_merge(env->fault, &seen);
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
    .cost = cost,
};
