/* kv_pack: the bytes, the slots, and everything that must stay as it was. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/checkop/values.h"
#include "tests/support/compare.h"

#include <math.h>
#include <string.h>

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
    fill_slots(&c->rng, p->slots, p->T, live, (int64_t)p->P * p->pages, a->slots.data);
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
