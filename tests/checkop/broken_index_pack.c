/* index_pack and index_query_pack written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define D 128

/* Of a group, whoever owns it. */
#define GROUP_BUGS(X)                                                                    \
    X(scale_by_reciprocal)                                                               \
    X(quotient_by_reciprocal)                                                            \
    X(floor_dropped)                                                                     \
    X(floor_of_the_latent)                                                               \
    X(floor_on_the_scale)                                                                \
    X(power_of_two_ignored)                                                              \
    X(power_rounded_down)                                                                \
    X(power_rounded_up_when_exact)                                                       \
    X(rounds_toward_zero)                                                                \
    X(rounds_half_up)                                                                    \
    X(subnormals_flushed)                                                                \
    X(nan_passed_over)                                                                   \
    X(nan_not_reported)                                                                  \
    X(last_value_dropped)

#define PACK_BUGS(X)                                                                     \
    X(right)                                                                             \
    X(last_row_dropped)                                                                  \
    X(live_ignored)                                                                      \
    X(negative_slot_written)                                                             \
    X(slot_past_the_pool_written)                                                        \
    X(slot_past_the_pool_not_reported)                                                   \
    X(first_of_equal_slots_wins)                                                         \
    X(row_stride_ignored)                                                                \
    X(page_stride_ignored)                                                               \
    X(scales_beside_the_keys)                                                            \
    X(scales_as_of_64_tokens)                                                            \
    X(scale_dropped)                                                                     \
    X(scale_of_the_page)                                                                 \
    X(scale_inverted)                                                                    \
    X(power_stored_as_a_byte)                                                            \
    X(written_past_the_key)                                                              \
    GROUP_BUGS(X)

#define QUERY_BUGS(X)                                                                    \
    X(last_head_dropped)                                                                 \
    X(scale_of_head_0)                                                                   \
    X(weight_of_head_0)                                                                  \
    X(query_stride_ignored)                                                              \
    X(weight_stride_ignored)                                                             \
    X(q8_stride_ignored)                                                                 \
    X(w8_stride_ignored)                                                                 \
    X(query_scale_not_folded)                                                            \
    X(width_not_folded)                                                                  \
    X(heads_not_folded)                                                                  \
    X(folded_in_another_order)                                                           \
    X(folded_in_double)                                                                  \
    X(width_and_heads_apart)                                                             \
    X(weight_rounded_to_bf16)                                                            \
    X(negative_weight_cut_off)                                                           \
    X(nan_with_its_payload)                                                              \
    X(nan_reported_at_head_0)

enum bug
{
#define X(name) name,
    PACK_BUGS(X) QUERY_BUGS(X)
#undef X
};

static uint8_t code_of(double x, enum bug bug)
{
    if (bug == rounds_toward_zero && isfinite(x))
    {
        uint8_t code = ref_e4m3_code(x);
        return fabs(ref_e4m3_value(code)) > fabs(x) ? code - 1 : code;
    }
    if (bug == rounds_half_up)
        return ref_e4m3_code(x * (1 + 0x1p-30));
    if (bug == subnormals_flushed && fabs(x) < 0x1p-6)
        return signbit(x) ? 0x80 : 0;
    return ref_e4m3_code(x);
}

/* Returns whether a NaN was met. */
static int quantise(const uint16_t *x, enum rfn_scale kind, enum rfn_floor on,
                    float floor, uint8_t *q, float *ret_scale, enum bug bug)
{
    int n = bug == last_value_dropped ? D - 1 : D, nan = 0;
    float amax = 0;
    for (int i = 0; i < n; i++)
    {
        float size = fabsf((float)ref_bf16_value(x[i]));
        nan |= isnan(size) && bug != nan_passed_over;
        amax = size > amax ? size : amax;
    }
    if (on == RFN_FLOOR_DEFAULT)
    {
        on = bug == floor_of_the_latent || bug == floor_on_the_scale ? RFN_FLOOR_SCALE
                                                                     : RFN_FLOOR_AMAX;
        floor = bug == floor_of_the_latent ? FLT_MIN : 1e-4f;
    }
    if (bug == floor_dropped)
        floor = FLT_MIN;
    if (on == RFN_FLOOR_AMAX && amax < floor)
        amax = floor;
    float scale = bug == scale_by_reciprocal ? amax * (1.0f / 448.0f) : amax / 448.0f;
    if (on == RFN_FLOOR_SCALE && scale < floor)
        scale = floor;
    if (kind == RFN_SCALE_UE8M0 && isfinite(scale) && bug != power_of_two_ignored)
    {
        int exponent;
        float fraction = frexpf(scale, &exponent);
        exponent -= fraction == 0.5f && bug != power_rounded_up_when_exact;
        exponent -= fraction != 0.5f && bug == power_rounded_down;
        scale = ldexpf(1, exponent);
    }
    for (int i = 0; i < n; i++)
    {
        float value = (float)ref_bf16_value(x[i]);
        q[i] = nan ? 0x7f
                   : code_of(bug == quotient_by_reciprocal ? value * (1.0f / scale)
                                                           : value / scale,
                             bug);
    }
    *ret_scale = scale;
    if (nan)
        memcpy(ret_scale, &(uint32_t) { 0x7fc00000 }, 4);
    return nan && bug != nan_not_reported;
}

static void report(struct rfn_fault *fault, const char *op, const char *operand,
                   int64_t row, int64_t column, int64_t value)
{
    if (fault && fault->count++ == 0)
        *fault = (struct rfn_fault) { op, operand, row, column, value, 1 };
}

/* ---- index_pack ----------------------------------------------------------------------- */

static void pack(const struct rfn_index_pack_args *a, int64_t t, int64_t slot,
                 struct rfn_fault *fault, enum bug bug)
{
    struct rfn_pool pool = a->pool;
    if (bug == page_stride_ignored)
        pool.page_stride_bytes = 0;
    unsigned char *key = ref_index_key(&pool, slot);
    unsigned char *at = ref_index_scale(&pool, slot);
    int64_t offset = slot % pool.page_tokens;
    int64_t stride = bug == row_stride_ignored ? D : a->k.stride[0];
    float scale;
    if (bug == scales_beside_the_keys)
    {
        key += offset * 4;
        at = key + D;
    }
    if (bug == scales_as_of_64_tokens && pool.page_tokens > 64)
        at = key - offset * D + 64 * D + offset % 64 * 4;
    if (bug == scale_of_the_page)
        at -= offset * 4;
    if (quantise((uint16_t *)a->k.data + t * stride, a->scale, a->floor_on, a->floor, key,
                 &scale, bug))
        report(fault, "index_pack", "k", t, 0, 0);
    if (bug == scale_inverted)
        scale = 1 / scale;
    if (bug == power_stored_as_a_byte && a->scale == RFN_SCALE_UE8M0)
        memcpy(&scale, &(uint32_t) { isfinite(scale) ? ilogbf(scale) + 127 : 255 }, 4);
    if (bug != scale_dropped)
        memcpy(at, &scale, 4);
    if (bug == written_past_the_key)
        memset(at + 4, 0, 4);
}

static void twin_pack(const void *args, struct rfn_fault *fault, enum bug bug)
{
    const struct rfn_index_pack_args *a = args;
    int64_t T = a->k.shape[0], live = a->live.data ? *(int32_t *)a->live.data : T;
    int64_t slots = a->pool.pages * a->pool.page_tokens;
    if (bug == live_ignored || live > T)
        live = T;
    for (int64_t i = 0; i < live - (bug == last_row_dropped); i++)
    {
        int64_t t = bug == first_of_equal_slots_wins ? live - 1 - i : i;
        int64_t slot = ((int64_t *)a->slots.data)[t];
        if (slot == -1 && bug == negative_slot_written)
            slot = 0;
        if (slot >= slots && bug != slot_past_the_pool_not_reported)
            report(fault, "index_pack", "slots", t, 0, slot);
        if (slot >= slots && bug == slot_past_the_pool_written)
            slot = slots - 1;
        if (slot >= 0 && slot < slots)
            pack(a, t, slot, fault, bug);
    }
}

/* ---- index_query_pack ----------------------------------------------------------------- */

static float fold(float w, float scale, int64_t H, enum bug bug)
{
    float share = ref_index_share(H);
    if (bug == query_scale_not_folded)
        scale = 1;
    if (bug == width_not_folded || bug == heads_not_folded)
        share = (float)(1 / sqrt((double)(bug == heads_not_folded ? D : H)));
    if (bug == weight_rounded_to_bf16)
        w = (float)ref_bf16_value(ref_bf16_code(w));
    if (bug == negative_weight_cut_off)
        w = w < 0 ? 0 : w;
    if (bug == folded_in_another_order)
    {
        float all = scale * share;
        return w * all;
    }
    if (bug == folded_in_double)
        return (float)((double)w * scale * share);
    float product = w * scale;
    if (bug == width_and_heads_apart)
    {
        product *= (float)(1 / sqrt((double)D));
        share = (float)(1 / sqrt((double)H));
    }
    return product * share;
}

static void twin_query(const void *args, struct rfn_fault *fault, enum bug bug)
{
    const struct rfn_index_query_pack_args *a = args;
    int64_t T = a->q.shape[0], H = a->q.shape[1];
    int64_t live = a->live.data ? *(int32_t *)a->live.data : T;
    if (bug == live_ignored || live > T)
        live = T;
    for (int64_t t = 0; t < live - (bug == last_row_dropped); t++)
    {
        float first_scale = 1;
        for (int64_t h = 0; h < H - (bug == last_head_dropped); h++)
        {
            int64_t q_row = bug == query_stride_ignored ? H * D : a->q.stride[0];
            int64_t q8_row = bug == q8_stride_ignored ? H * D : a->q8.stride[0];
            int64_t w_row = bug == weight_stride_ignored ? H : a->w.stride[0];
            int64_t w8_row = bug == w8_stride_ignored ? H : a->w8.stride[0];
            int64_t at = t * w_row + (bug == weight_of_head_0 ? 0 : h);
            float scale, w = a->w.dtype == RFN_F32
                                 ? ((float *)a->w.data)[at]
                                 : (float)ref_bf16_value(((uint16_t *)a->w.data)[at]);
            if (quantise((uint16_t *)a->q.data + t * q_row + h * a->q.stride[1], a->scale,
                         RFN_FLOOR_DEFAULT, 0,
                         (uint8_t *)a->q8.data + t * q8_row + h * a->q8.stride[1], &scale,
                         bug))
                report(fault, "index_query_pack", "q", t,
                       bug == nan_reported_at_head_0 ? 0 : h, 0);
            if (h == 0)
                first_scale = scale;
            float w8 = fold(w, bug == scale_of_head_0 ? first_scale : scale, H, bug);
            if (isnan(w8) && bug != nan_with_its_payload)
                memcpy(&w8, &(uint32_t) { 0x7fc00000 }, 4);
            ((float *)a->w8.data)[t * w8_row + h] = w8;
        }
    }
}

#define X(name)                                                                          \
    static void pack_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        twin_pack(args, env->fault, name);                                               \
    }
PACK_BUGS(X)
#undef X

const struct ck_broken ck_broken_index_pack[] = {
#define X(name) { &rfn_op_index_pack, #name, pack_##name },
    PACK_BUGS(X)
#undef X
};
const int ck_broken_index_packs = CK_COUNT(ck_broken_index_pack);

#define QUERY_TWINS(X)                                                                   \
    X(right)                                                                             \
    X(last_row_dropped)                                                                  \
    X(live_ignored)                                                                      \
    GROUP_BUGS(X)                                                                        \
    QUERY_BUGS(X)

#define X(name)                                                                          \
    static void query_##name(const void *args, const struct rfn_host_env *env)           \
    {                                                                                    \
        twin_query(args, env->fault, name);                                              \
    }
QUERY_TWINS(X)
#undef X

const struct ck_broken ck_broken_index_query_pack[] = {
#define X(name) { &rfn_op_index_query_pack, #name, query_##name },
    QUERY_TWINS(X)
#undef X
};
const int ck_broken_index_query_packs = CK_COUNT(ck_broken_index_query_pack);
