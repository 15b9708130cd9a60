/* index_pack and index_query_pack: bytes, scales, folded weights, and what must stay. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/checkop/values.h"
#include "tests/support/compare.h"

#include <math.h>
#include <string.h>

#define D 128

/* ---- index_pack ----------------------------------------------------------------------- */

struct param
{
    int T, P, pages;
    enum values values;
    enum slots slots;
    enum rfn_scale scale;
    enum rfn_floor floor_on;
    float floor;
    int gap;      /* elements between rows, a multiple of 8 */
    int page_gap; /* bytes between pages */
    int live;     /* 0: not given; else live = this - 100 */
    int end;
};

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    int live = p->live ? p->live - 100 : p->T;
    struct rfn_index_pack_args *a = &c->args.index_pack;
    a->k = ck_tensor(c, RFN_BF16, GUARD_FLOAT, p->gap, p->T, D, 0);
    a->slots = ck_tensor(c, RFN_I64, GUARD_INDEX, 0, p->T, 0, 0);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    a->pool = ck_pool(c, RFN_INDEX_FP8_132, p->P, p->pages, p->page_gap, CK_OUTPUT);
    a->scale = p->scale;
    a->floor_on = p->floor_on;
    a->floor = p->floor;
    fill_slots(&c->rng, p->slots, p->T, live, (int64_t)p->P * p->pages, a->slots.data);
    for (int t = 0; t < p->T && t < live; t++)
    {
        int64_t slot = ((int64_t *)a->slots.data)[t];
        if (slot < 0 || slot >= (int64_t)p->P * p->pages)
            continue; /* the row stays NaN: check mode would count it if it were read */
        for (int i = 0; i < D; i++)
            ((uint16_t *)a->k.data)[t * a->k.stride[0] + i] =
                value(&c->rng, p->values, i, t);
    }
}

/* What e4m3 with one scale for 128 values costs. */
static int measure_format(struct ck_case *c, const struct rfn_index_pack_args *a)
{
    struct compare all = { 0 };
    for (int64_t t = 0; t < a->k.shape[0]; t++)
    {
        int64_t slot = ((int64_t *)a->slots.data)[t];
        float scale;
        memcpy(&scale, ref_index_scale(&a->pool, slot), 4);
        for (int d = 0; d < D; d++)
            compare_add(&all, ref_e4m3_value(ref_index_key(&a->pool, slot)[d]) * scale,
                        ref_bf16_value(((uint16_t *)a->k.data)[t * a->k.stride[0] + d]));
    }
    c->numbers.format_l2 = compare_l2(&all);
    return c->numbers.format_l2 <= 0.04 ||
           ck_fail(c, "relative L2 to full precision %.4f, but 0.04 is the most",
                   c->numbers.format_l2);
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance;
    struct rfn_index_pack_args a = c->args.index_pack;
    struct rfn_fault right = { 0 };
    a.pool.data = ck_kept(c, a.pool.data);
    ref_index_pack(&a, &right);
    if (!ck_all_as_kept(c) || !ck_same_fault(c, fault, &right))
        return 0;
    return strncmp(c->name, "format_error", 12) != 0 || measure_format(c, &a);
}

#define UE8M0 .scale = RFN_SCALE_UE8M0
#define ROW(slow, name, ...)                                                             \
    {                                                                                    \
        &rfn_op_index_pack, name, slow, build, verify, &(struct param)                   \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define CASE(name, ...) ROW(0, name, __VA_ARGS__)
#define SLOW(name, ...) ROW(1, name, __VA_ARGS__)

const struct ck_spec ck_index_pack_specs[] = {
    CASE("one_row", 1, 64, 2),
    CASE("no_rows", 0, 64, 2),
    CASE("format_error", 300, 64, 11),
    CASE("format_error_ue8m0", 300, 64, 11, UE8M0),
    CASE("zeros_of_both_signs", 65, 64, 3, ZERO),
    CASE("zeros_of_both_signs_ue8m0", 65, 64, 3, ZERO, UE8M0),
    CASE("below_the_floor", 31, 64, 1, TINY),
    CASE("below_the_floor_ue8m0", 31, 64, 1, TINY, UE8M0),
    CASE("floor_on_amax", 31, 64, 1, TINY, .floor_on = RFN_FLOOR_AMAX, .floor = 1e-12f),
    CASE("floor_on_amax_ue8m0", 31, 64, 1, NORMAL, UE8M0, .floor_on = RFN_FLOOR_AMAX,
         .floor = 100),
    CASE("floor_on_scale", 31, 64, 1, NORMAL, .floor_on = RFN_FLOOR_SCALE, .floor = 0.5f),
    CASE("floor_on_scale_ue8m0", 31, 64, 1, NORMAL, UE8M0, .floor_on = RFN_FLOOR_SCALE,
         .floor = 0.3f),
    CASE("largest_bf16", 33, 64, 1, HUGE_ONES),
    CASE("largest_bf16_ue8m0", 33, 64, 1, HUGE_ONES, UE8M0),
    CASE("halfway_rounds_to_even", 64, 64, 1, MIDPOINTS),
    CASE("quotients_are_ieee", 200, 64, 4, TIED),
    CASE("powers_of_two_round_up", 64, 64, 1, BOUNDARIES, UE8M0),
    CASE("infinities", 40, 64, 1, INFINITE),
    CASE("infinities_ue8m0", 40, 64, 1, INFINITE, UE8M0),
    CASE("nan_makes_its_row_nan", 40, 64, 1, NANS),
    CASE("nan_makes_its_row_nan_ue8m0", 40, 64, 1, NANS, UE8M0),
    CASE("any_bits", 128, 64, 2, ANY_BITS),
    CASE("any_bits_ue8m0", 128, 64, 2, ANY_BITS, UE8M0),
    CASE("negative_slots_are_not_written", 100, 64, 3, NORMAL, SOME_NEGATIVE),
    CASE("all_slots_negative", 17, 64, 1, NORMAL, ALL_NEGATIVE),
    CASE("slots_past_the_pool_are_reported", 100, 64, 3, NORMAL, SOME_PAST),
    CASE("last_of_equal_slots_wins", 200, 64, 3, NORMAL, DUPLICATES),
    CASE("last_slots_of_the_pool", 65, 64, 3, NORMAL, LAST),
    CASE("strided_rows_and_pages", 129, 64, 5, NORMAL, SHUFFLED, .gap = 64,
         .page_gap = 4096),
    CASE("one_token_a_page", 20, 1, 23, .page_gap = 12),
    CASE("three_tokens_a_page", 20, 3, 11, NORMAL, SOME_NEGATIVE, .page_gap = 4),
    CASE("256_tokens_a_page", 257, 256, 2),
    CASE("live_is_zero", 16, 64, 1, NORMAL, SHUFFLED, .live = 100),
    CASE("live_is_negative", 16, 64, 1, NORMAL, SHUFFLED, .live = 93),
    CASE("live_is_part", 64, 64, 2, NORMAL, SOME_NEGATIVE, .live = 133),
    CASE("live_is_past_the_rows", 64, 64, 2, NORMAL, SHUFFLED, .live = 9999),
    SLOW("many_rows", 16384, 64, 300, ANY_BITS, SHUFFLED, .gap = 64),
    SLOW("many_rows_ue8m0", 16384, 64, 300, ANY_BITS, SOME_PAST, UE8M0),
};
const int ck_index_pack_count = CK_COUNT(ck_index_pack_specs);
#undef ROW

/* ---- index_query_pack ----------------------------------------------------------------- */

enum weights
{
    PLAIN,
    ZEROES,  /* of both signs */
    EXTREME, /* subnormal, huge, infinite, NaN of any bits */
};

struct query_param
{
    int T, H;
    enum rfn_dtype w;
    enum values values;
    enum weights weights;
    enum rfn_scale scale;
    int gap;  /* elements between rows, a multiple of 16 */
    int live; /* 0: not given; else live = this - 100 */
    int end;
};

static float weight(struct rng *r, enum weights kind)
{
    static const uint32_t extreme[] = { 0x00000001, 0x80400000, 0x7f7fffff, 0xff7fffff,
                                        0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345,
                                        0x00800000, 0x33800001 };
    float x = rng_normal(r);
    if (kind == ZEROES)
        x = x < 0 ? -0.0f : 0.0f;
    if (kind == EXTREME && rng_below(r, 2))
        memcpy(&x, &extreme[rng_below(r, CK_COUNT(extreme))], 4);
    return x;
}

static void build_query(struct ck_case *c, const void *param)
{
    const struct query_param *p = param;
    int live = p->live ? p->live - 100 : p->T;
    struct rfn_index_query_pack_args *a = &c->args.index_query_pack;
    a->q = ck_tensor(c, RFN_BF16, GUARD_FLOAT, p->gap, p->T, p->H, D);
    a->w = ck_tensor(c, p->w, GUARD_FLOAT, p->gap ? 3 : 0, p->T, p->H, 0);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    a->q8 = ck_tensor(c, RFN_E4M3, CK_OUTPUT, 3 * p->gap, p->T, p->H, D);
    a->w8 = ck_tensor(c, RFN_F32, CK_OUTPUT, p->gap ? 5 : 0, p->T, p->H, 0);
    a->scale = p->scale;
    for (int t = 0; t < p->T && t < live; t++)
        for (int h = 0; h < p->H; h++)
        {
            int64_t at = t * a->w.stride[0] + h;
            float w = weight(&c->rng, p->weights);
            if (p->w == RFN_F32)
                ((float *)a->w.data)[at] = w;
            else
                ((uint16_t *)a->w.data)[at] = ref_bf16_code(w);
            uint16_t *q = (uint16_t *)a->q.data + t * a->q.stride[0] + h * a->q.stride[1];
            /* The first NaN of all, which is the one reported, is not at head 0. */
            enum values values = p->values == NANS && t + h == 0 ? NORMAL : p->values;
            for (int d = 0; d < D; d++)
                q[d] = value(&c->rng, values, d, t * 5 + h);
            if (p->values == NANS && t == 0 && h == 1)
                q[0] = 0x7fc1;
        }
}

static int verify_query(struct ck_case *c, const struct rfn_fault *fault,
                        double tolerance)
{
    (void)tolerance;
    struct rfn_index_query_pack_args a = c->args.index_query_pack;
    struct rfn_fault right = { 0 };
    a.q8.data = ck_kept(c, a.q8.data);
    a.w8.data = ck_kept(c, a.w8.data);
    ref_index_query_pack(&a, &right);
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

#define B16 RFN_BF16
#define F32 RFN_F32
#define ROW(slow, name, ...)                                                             \
    {                                                                                    \
        &rfn_op_index_query_pack, name, slow, build_query, verify_query,                 \
            &(struct query_param)                                                        \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }

const struct ck_spec ck_index_query_pack_specs[] = {
    CASE("one_row_4_heads", 1, 4, F32),
    CASE("no_rows", 0, 64, B16),
    CASE("64_heads", 3, 64, F32),
    CASE("64_heads_bf16_weights_ue8m0", 3, 64, B16, UE8M0),
    CASE("32_heads", 5, 32, B16),
    CASE("5_heads", 7, 5, B16),
    CASE("7_heads", 7, 7, F32, UE8M0),
    CASE("23_heads", 4, 23, F32),
    CASE("45_heads", 4, 45, B16, UE8M0),
    CASE("63_heads", 4, 63, F32),
    CASE("zeros_of_both_signs", 4, 8, F32, ZERO),
    CASE("below_the_floor", 4, 8, F32, TINY),
    CASE("below_the_floor_ue8m0", 4, 8, F32, TINY, UE8M0),
    CASE("largest_bf16", 4, 8, F32, HUGE_ONES),
    CASE("halfway_rounds_to_even", 4, 16, F32, MIDPOINTS),
    CASE("quotients_are_ieee", 8, 16, F32, TIED),
    CASE("powers_of_two_round_up", 8, 8, B16, BOUNDARIES, UE8M0),
    CASE("infinities", 8, 8, F32, INFINITE),
    CASE("nan_makes_its_head_nan", 8, 8, F32, NANS),
    CASE("nan_makes_its_head_nan_ue8m0", 8, 8, B16, NANS, UE8M0),
    CASE("any_bits", 8, 16, B16, ANY_BITS),
    CASE("any_bits_ue8m0", 8, 16, F32, ANY_BITS, UE8M0),
    CASE("weights_of_zero", 4, 8, F32, NORMAL, ZEROES),
    CASE("extreme_weights_f32", 16, 16, F32, NORMAL, EXTREME),
    CASE("extreme_weights_bf16", 16, 16, B16, HUGE_ONES, EXTREME, UE8M0),
    CASE("strides_past_the_width", 6, 12, F32, NORMAL, .gap = 48),
    CASE("strides_past_the_width_bf16", 6, 12, B16, NORMAL, .gap = 16, UE8M0),
    CASE("live_is_zero", 4, 8, F32, NORMAL, .live = 100),
    CASE("live_is_negative", 4, 8, B16, NORMAL, .live = 7),
    CASE("live_is_part", 9, 8, F32, NORMAL, .live = 105, .gap = 16),
    CASE("live_is_past_the_rows", 4, 8, F32, NORMAL, .live = 5000),
    CASE("65_rows", 65, 8, B16, NORMAL, UE8M0),
    SLOW("1024_rows_64_heads", 1024, 64, F32, ANY_BITS, UE8M0),
    SLOW("1024_rows_32_heads", 1024, 32, B16, NORMAL, EXTREME),
};
const int ck_index_query_pack_count = CK_COUNT(ck_index_query_pack_specs);
