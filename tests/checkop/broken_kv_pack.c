/* kv_pack written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(last_row_dropped)                                                                  \
    X(live_ignored)                                                                      \
    X(negative_slot_written)                                                             \
    X(slot_past_the_pool_written)                                                        \
    X(slot_past_the_pool_not_reported)                                                   \
    X(first_of_equal_slots_wins)                                                         \
    X(row_stride_ignored)                                                                \
    X(page_stride_ignored)                                                               \
    X(written_past_the_row)                                                              \
    X(scales_beside_the_row)                                                             \
    X(pad_byte_left)                                                                     \
    X(rope_dropped)                                                                      \
    X(scale_of_the_group_before)                                                         \
    X(scale_by_reciprocal)                                                               \
    X(quotient_by_reciprocal)                                                            \
    X(floor_dropped)                                                                     \
    X(floor_on_the_other_side)                                                           \
    X(power_rounded_down)                                                                \
    X(power_rounded_up_when_exact)                                                       \
    X(rounds_toward_zero)                                                                \
    X(rounds_half_up)                                                                    \
    X(subnormals_flushed)                                                                \
    X(nan_passed_over)                                                                   \
    X(nan_not_reported)

enum bug
{
#define X(name) name,
    BUGS(X)
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

static float scale_of(double amax, const struct rfn_kv_pack_args *a, int power,
                      enum bug bug)
{
    int on_amax = a->floor_on == RFN_FLOOR_AMAX;
    float floor = a->floor_on != RFN_FLOOR_DEFAULT ? a->floor : power ? 1e-4f : FLT_MIN;
    if (bug == floor_on_the_other_side)
        on_amax = !on_amax;
    if (bug == floor_dropped)
        floor = 0;
    float scale = (float)((on_amax && amax < floor ? floor : amax) / 448.0);
    if (bug == scale_by_reciprocal)
        scale = (on_amax && amax < floor ? floor : (float)amax) * (1.0f / 448.0f);
    if (!on_amax && scale < floor)
        scale = floor;
    if (power && isfinite(scale) && scale > 0)
    {
        int exponent;
        float fraction = frexpf(scale, &exponent);
        exponent -= fraction == 0.5f && bug != power_rounded_up_when_exact;
        exponent -= fraction != 0.5f && bug == power_rounded_down;
        scale = ldexpf(1, exponent);
    }
    return scale;
}

static void pack(const struct rfn_kv_pack_args *a, int64_t t, int64_t slot,
                 struct rfn_fault *fault, enum bug bug)
{
    struct rfn_pool pool = a->pool;
    if (bug == page_stride_ignored)
        pool.page_stride_bytes = 0;
    unsigned char *row = ref_row(&pool, slot), *scales = ref_scales(&pool, slot);
    int64_t stride = bug == row_stride_ignored ? a->kv.shape[1] : a->kv.stride[0];
    const uint16_t *kv = (uint16_t *)a->kv.data + t * stride;
    const uint16_t *rope = (uint16_t *)a->k_rope.data + t * a->k_rope.stride[0];
    int v4 = pool.format == RFN_LATENT_FP8_584, group = v4 ? 64 : 128;
    int groups = pool.format == RFN_LATENT_BF16_576 ? 0 : v4 ? 7 : 4;
    int power = v4 || a->scale == RFN_SCALE_UE8M0;
    float before = 1;
    if (v4 && bug == scales_beside_the_row)
        scales = row + 576;
    if (!groups)
        memcpy(row, kv, 1024);
    for (int g = 0; g < groups; g++)
    {
        double amax = 0;
        int nan = 0;
        for (int i = g * group; i < (g + 1) * group; i++)
        {
            double x = fabs(ref_bf16_value(kv[i]));
            nan |= isnan(x) && bug != nan_passed_over;
            amax = x > amax ? x : amax;
        }
        float scale = nan ? NAN : scale_of(amax, a, power, bug), stored;
        for (int i = g * group; i < (g + 1) * group; i++)
        {
            float x = (float)ref_bf16_value(kv[i]);
            row[i] = code_of(
                bug == quotient_by_reciprocal ? x * (1.0f / scale) : x / scale, bug);
        }
        stored = bug == scale_of_the_group_before && g ? before : scale;
        before = scale;
        if (v4)
            scales[g] = isfinite(stored) ? (unsigned char)(ilogbf(stored) + 127) : 255;
        else if (isnan(stored))
            memcpy(scales + 4 * g, &(uint32_t) { 0x7fc00000 }, 4);
        else
            memcpy(scales + 4 * g, &stored, 4);
        if (nan && fault && bug != nan_not_reported && fault->count++ == 0)
            *fault = (struct rfn_fault) { "kv_pack", "kv", t, g * group, 0, 1 };
    }
    if (v4 && bug != pad_byte_left)
        scales[7] = 0;
    static const int rope_at[] = { 0, 528, 1024, 448 };
    if (bug != rope_dropped)
        memcpy(row + rope_at[pool.format], rope, 128);
    if (bug == written_past_the_row)
        row[rope_at[pool.format] + 128] = 0;
}

static void twin(const struct rfn_kv_pack_args *a, struct rfn_fault *fault, enum bug bug)
{
    int64_t T = a->kv.shape[0], live = a->live.data ? *(int32_t *)a->live.data : T;
    int64_t slots = a->pool.pages * a->pool.page_tokens;
    if (bug == live_ignored || live > T)
        live = T;
    for (int64_t i = 0; i < live - (bug == last_row_dropped); i++)
    {
        int64_t t = bug == first_of_equal_slots_wins ? live - 1 - i : i;
        int64_t slot = ((int64_t *)a->slots.data)[t];
        /* The band behind the pool holds a row, but no planar scales. */
        int near = slot == slots && bug == slot_past_the_pool_written &&
                   a->pool.format != RFN_LATENT_FP8_584;
        if (slot == -1 && bug == negative_slot_written)
            slot = 0;
        if ((slot < 0 || slot >= slots) && !near)
        {
            if (slot >= slots && fault && bug != slot_past_the_pool_not_reported &&
                fault->count++ == 0)
                *fault = (struct rfn_fault) { "kv_pack", "slots", t, 0, slot, 1 };
            continue;
        }
        pack(a, t, slot, fault, bug);
    }
}

#define X(name)                                                                          \
    static void twin_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        twin(args, env->fault, name);                                                    \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_kv_pack[] = {
#define X(name) { &rfn_op_kv_pack, #name, twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_kv_packs = CK_COUNT(ck_broken_kv_pack);
