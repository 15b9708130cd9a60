/* kv_pack: the bytes, the slots, and everything that must stay as it was. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/support/compare.h"

#include <math.h>
#include <string.h>

enum values
{
    NORMAL,
    ZERO,       /* of both signs */
    TINY,       /* below every floor, bf16 subnormals among them */
    HUGE_ONES,  /* up to the largest bf16 */
    MIDPOINTS,  /* amax 448, so that scale is 1: codes of e4m3 and points between two */
    BOUNDARIES, /* amax next to powers of two times 448: ue8m0 must round up, or not */
    TIED,       /* x / scale is a tie but for the rounding of scale: 3A to an amax of A */
    INFINITE,   /* an infinity in some groups */
    NANS,       /* a NaN in some groups */
    ANY_BITS,
};

enum slots
{
    SHUFFLED,
    SOME_NEGATIVE,
    ALL_NEGATIVE,
    SOME_PAST, /* at and past the end of the pool */
    DUPLICATES,
    LAST, /* the last slots of the pool */
};

struct param
{
    enum rfn_format format;
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

static uint16_t value(struct rng *r, enum values kind, int i, int t)
{
    uint16_t any = (uint16_t)rng_u64(r);
    switch (kind)
    {
    case ZERO:
        return any & 0x8000;
    case TINY:
        return (any & 0x80ff) + (rng_below(r, 4) == 0 ? 0x0200 : 0);
    case HUGE_ONES:
        return (any & 0x8000) | (uint16_t)rng_between(r, 0x7e00, 0x7f7f);
    case MIDPOINTS:
        if (i % 64 == 0)
            return ref_bf16_code(448);
        if (rng_below(r, 2))
            return ref_bf16_code(ref_e4m3_value((uint8_t)rng_below(r, 127)));
        any = (uint16_t)rng_below(r, 126);
        return ref_bf16_code(
            (ref_e4m3_value((uint8_t)any) + ref_e4m3_value((uint8_t)(any + 1))) / 2);
    case BOUNDARIES:
        /* 448 * 2^e and its neighbours: 0x43e0 is 448. */
        if (i % 64 == 0)
            return (uint16_t)(0x43e0 + (t % 7 - 3) + 128 * (t % 21 - 10));
        return (any & 0x8000) | (0x3000 + (any & 0x03ff));
    case TIED:
        any = (uint16_t)(2 * ((t * 7 + i / 64 * 11) % 41) + 3); /* odd, 3A has 8 bits */
        return ref_bf16_code(i % 64 == 0 ? any : ldexp(3 * any, -1 - i % 12));
    case INFINITE:
        if (rng_below(r, 200) == 0)
            return 0x7f80 | (any & 0x8000);
        break;
    case NANS:
        if (rng_below(r, 200) == 0)
            return 0x7f81 | any;
        break;
    case ANY_BITS:
        return any;
    default:
        break;
    }
    return ref_bf16_code(rng_normal(r) * (i % 64 == 5 ? 8 : 1));
}

static void fill_slots(struct ck_case *c, const struct param *p, int64_t *slot, int live)
{
    int64_t n = (int64_t)p->P * p->pages;
    for (int t = 0; t < p->T; t++)
    {
        /* A permutation of the pool: a step that is prime to it. */
        int64_t step = 1;
        for (int64_t s = n / 3 + 1; s < n; s++)
            if (s % 2 && s % 3 && s % 5 && s % 7 && s % 41 && s % 43)
            {
                step = s;
                break;
            }
        slot[t] = (t * step + 7) % n;
        int odd = rng_below(&c->rng, 4) == 0;
        if (p->slots == ALL_NEGATIVE || (p->slots == SOME_NEGATIVE && odd))
            slot[t] = -1 - rng_below(&c->rng, 3) * (int64_t)1000000007;
        if (p->slots == SOME_PAST && odd)
            slot[t] = n + rng_below(&c->rng, 3) * ((int64_t)1 << 40);
        if (p->slots == DUPLICATES)
            slot[t] = rng_below(&c->rng, n < 5 ? n : 5) * (n / 5);
        if (p->slots == LAST)
            slot[t] = n - 1 - t;
        if (t >= live)
            slot[t] = t; /* a place that must not be written */
    }
}

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    int D = ref_latent(p->format), live = p->live ? p->live - 100 : p->T;
    struct rfn_kv_pack_args *a = &c->args.kv_pack;
    a->kv = ck_tensor(c, RFN_BF16, GUARD_FLOAT, p->gap, p->T, D, 0);
    a->k_rope = ck_tensor(c, RFN_BF16, GUARD_FLOAT, p->gap, p->T, 64, 0);
    a->slots = ck_tensor(c, RFN_I64, GUARD_INDEX, 0, p->T, 0, 0);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    a->pool = ck_pool(c, p->format, p->P, p->pages, p->page_gap, CK_OUTPUT);
    a->scale = p->scale;
    a->floor_on = p->floor_on;
    a->floor = p->floor;
    fill_slots(c, p, a->slots.data, live);
    for (int t = 0; t < p->T && t < live; t++)
    {
        int64_t slot = ((int64_t *)a->slots.data)[t];
        if (slot < 0 || slot >= (int64_t)p->P * p->pages)
            continue; /* the row stays NaN: check mode would count it if it were read */
        uint16_t *kv = (uint16_t *)a->kv.data + t * a->kv.stride[0];
        uint16_t *rope = (uint16_t *)a->k_rope.data + t * a->k_rope.stride[0];
        for (int i = 0; i < D; i++)
            kv[i] = value(&c->rng, p->values, i, t);
        for (int i = 0; i < 64; i++)
            rope[i] = (uint16_t)rng_u64(&c->rng);
    }
}

/* How far the stored rows are from the given ones: what the format costs. */
static void measure_format(struct ck_case *c, const struct rfn_kv_pack_args *a)
{
    struct compare all = { 0 };
    int D = ref_latent(a->pool.format);
    for (int64_t t = 0; t < a->kv.shape[0]; t++)
    {
        double key[576];
        ref_key(&a->pool, ((int64_t *)a->slots.data)[t], key);
        for (int d = 0; d < D; d++)
            compare_add(
                &all, key[d],
                ref_bf16_value(((uint16_t *)a->kv.data)[t * a->kv.stride[0] + d]));
    }
    c->numbers.format_l2 = compare_l2(&all);
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance;
    struct rfn_kv_pack_args a = c->args.kv_pack;
    struct rfn_fault right = { 0 };
    a.pool.data = ck_kept(c, a.pool.data);
    ref_kv_pack(&a, &right);
    if (!ck_all_as_kept(c) || !ck_same_fault(c, fault, &right))
        return 0;
    if (strncmp(c->name, "format_error", 12) != 0)
        return 1;
    measure_format(c, &a);
    return c->numbers.format_l2 <= 0.04 ||
           ck_fail(c, "relative L2 to full precision %.4f, but 0.04 is the most",
                   c->numbers.format_l2);
}

#define F656 RFN_LATENT_FP8_656
#define B576 RFN_LATENT_BF16_576
#define F584 RFN_LATENT_FP8_584
#define CASE(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_kv_pack, name, 0, build, verify, &(struct param)                         \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define SLOW(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_kv_pack, name, 1, build, verify, &(struct param)                         \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }

const struct ck_spec ck_kv_pack_specs[] = {
    CASE("one_row_656", F656, 1, 64, 2),
    CASE("one_row_576", B576, 1, 64, 2),
    CASE("one_row_584", F584, 1, 64, 2),
    CASE("format_error_656", F656, 300, 64, 11),
    CASE("format_error_656_ue8m0", F656, 300, 64, 11, .scale = RFN_SCALE_UE8M0),
    CASE("format_error_584", F584, 300, 64, 11),
    CASE("no_rows", F656, 0, 64, 2),
    CASE("zeros_of_both_signs_656", F656, 65, 64, 3, ZERO),
    CASE("zeros_of_both_signs_584", F584, 65, 64, 3, ZERO, .floor_on = RFN_FLOOR_AMAX,
         .floor = 1e-4f),
    CASE("below_the_floor_656", F656, 31, 64, 1, TINY),
    CASE("below_the_floor_656_ue8m0", F656, 31, 64, 1, TINY, .scale = RFN_SCALE_UE8M0),
    CASE("below_the_floor_584", F584, 31, 64, 1, TINY),
    CASE("floor_on_amax_656", F656, 31, 64, 1, TINY, .floor_on = RFN_FLOOR_AMAX,
         .floor = 1e-4f),
    CASE("floor_on_amax_656_ue8m0", F656, 31, 64, 1, TINY, .scale = RFN_SCALE_UE8M0,
         .floor_on = RFN_FLOOR_AMAX, .floor = 1e-4f),
    CASE("floor_on_scale_656", F656, 31, 64, 1, NORMAL, .floor_on = RFN_FLOOR_SCALE,
         .floor = 0.5f),
    CASE("floor_on_scale_584", F584, 31, 64, 1, NORMAL, .floor_on = RFN_FLOOR_SCALE,
         .floor = 0.3f),
    CASE("largest_bf16_656", F656, 33, 64, 1, HUGE_ONES),
    CASE("largest_bf16_584", F584, 33, 64, 1, HUGE_ONES),
    CASE("halfway_rounds_to_even_656", F656, 64, 64, 1, MIDPOINTS),
    CASE("halfway_rounds_to_even_584", F584, 64, 64, 1, MIDPOINTS),
    CASE("quotients_are_ieee_656", F656, 200, 64, 4, TIED),
    CASE("powers_of_two_round_up_656", F656, 64, 64, 1, BOUNDARIES,
         .scale = RFN_SCALE_UE8M0),
    CASE("powers_of_two_round_up_584", F584, 64, 64, 1, BOUNDARIES),
    CASE("infinities_656", F656, 40, 64, 1, INFINITE),
    CASE("infinities_656_ue8m0", F656, 40, 64, 1, INFINITE, .scale = RFN_SCALE_UE8M0),
    CASE("infinities_584", F584, 40, 64, 1, INFINITE),
    CASE("infinities_576", B576, 40, 64, 1, INFINITE),
    CASE("nan_makes_its_group_nan_656", F656, 40, 64, 1, NANS),
    CASE("nan_makes_its_group_nan_584", F584, 40, 64, 1, NANS),
    CASE("nan_is_copied_576", B576, 40, 64, 1, NANS),
    CASE("any_bits_656", F656, 128, 64, 2, ANY_BITS),
    CASE("any_bits_656_ue8m0", F656, 128, 64, 2, ANY_BITS, .scale = RFN_SCALE_UE8M0),
    CASE("any_bits_584", F584, 128, 64, 2, ANY_BITS),
    CASE("negative_slots_are_not_written_656", F656, 100, 64, 3, NORMAL, SOME_NEGATIVE),
    CASE("negative_slots_are_not_written_584", F584, 100, 64, 3, NORMAL, SOME_NEGATIVE),
    CASE("all_slots_negative_576", B576, 17, 64, 1, NORMAL, ALL_NEGATIVE),
    CASE("slots_past_the_pool_are_reported_656", F656, 100, 64, 3, NORMAL, SOME_PAST),
    CASE("slots_past_the_pool_are_reported_576", B576, 100, 64, 3, NORMAL, SOME_PAST),
    CASE("slots_past_the_pool_are_reported_584", F584, 100, 64, 3, NORMAL, SOME_PAST),
    CASE("last_of_equal_slots_wins_656", F656, 200, 64, 3, NORMAL, DUPLICATES),
    CASE("last_of_equal_slots_wins_584", F584, 200, 64, 3, NORMAL, DUPLICATES),
    CASE("last_of_equal_slots_wins_576", B576, 200, 64, 3, NORMAL, DUPLICATES),
    CASE("last_slots_of_the_pool_656", F656, 65, 64, 3, NORMAL, LAST),
    CASE("last_slots_of_the_pool_584", F584, 65, 64, 3, NORMAL, LAST),
    CASE("strided_rows_and_pages_656", F656, 129, 64, 5, NORMAL, SHUFFLED, .gap = 64,
         .page_gap = 656),
    CASE("strided_rows_and_pages_584", F584, 129, 64, 5, NORMAL, SHUFFLED, .gap = 8,
         .page_gap = 16),
    CASE("strided_rows_and_pages_576", B576, 129, 64, 5, NORMAL, SHUFFLED, .gap = 2048,
         .page_gap = 4096),
    CASE("one_token_a_page_656", F656, 20, 1, 23),
    CASE("one_token_a_page_584", F584, 20, 1, 23),
    CASE("three_tokens_a_page_584", F584, 20, 3, 11, NORMAL, SOME_NEGATIVE),
    CASE("256_tokens_a_page_584", F584, 257, 256, 2),
    CASE("live_is_zero", F656, 16, 64, 1, NORMAL, SHUFFLED, .live = 100),
    CASE("live_is_negative", F584, 16, 64, 1, NORMAL, SHUFFLED, .live = 93),
    CASE("live_is_part_656", F656, 64, 64, 2, NORMAL, SHUFFLED, .live = 133),
    CASE("live_is_part_576", B576, 64, 64, 2, NORMAL, SOME_NEGATIVE, .live = 101),
    CASE("live_is_past_the_rows", F584, 64, 64, 2, NORMAL, SHUFFLED, .live = 9999),
    SLOW("many_rows_656", F656, 16384, 64, 300, ANY_BITS, SHUFFLED, .gap = 64),
    SLOW("many_rows_584", F584, 16384, 64, 300, ANY_BITS, SOME_PAST, .gap = 64),
    SLOW("many_rows_576", B576, 16384, 64, 300, NORMAL, SOME_NEGATIVE),
};
const int ck_kv_pack_count = CK_COUNT(ck_kv_pack_specs);
