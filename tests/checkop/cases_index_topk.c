/* index_topk: exactness, ties, special values, and the columns that must not be read. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <math.h>
#include <string.h>

enum values
{
    NORMAL,
    ALL_EQUAL,
    ALL_ZERO,
    BOTH_ZEROS, /* +0 and -0 must tie */
    TWO_VALUED, /* more ties at the threshold than fit */
    FEW_VALUES,
    ONE_FP16_BIN, /* differ in the low bits of f32 only */
    INFINITE,     /* +inf, -inf and finite */
    FEW_FINITE,   /* fewer finite than K, the rest -inf and NaN */
    NANS,
    ALL_NAN,
    RISING,
    FALLING,
    NEGATIVE,
    SUBNORMAL,
    ANY_BITS,
    LAST_BEST, /* the best at the end of the row */
};

enum bad
{
    NONE,
    BAD_PAGES,
    BAD_REQUESTS,
    NARROW_TABLE,
};

#define BOTH 0
#define SLOTS 1
#define POSITIONS 2

struct param
{
    int T, S, K;
    enum values values;
    int lens[24]; /* of the rows in turn; all zero: S everywhere. Ends at the last nonzero
                     but for -1000000, which stands for 0 */
    int R, P;
    int outputs;
    int gap; /* elements between rows of logits, table and outputs */
    enum bad bad;
    int live; /* 0: not given; else live = this - 100 */
    int end;
};
#define ZERO_LEN (-1000000)

static float value(struct rng *r, enum values kind, int64_t s, int64_t L, int64_t K)
{
    float x = rng_normal(r);
    uint32_t bits = (uint32_t)rng_u64(r);
    switch (kind)
    {
    case ALL_EQUAL:
        return -1.25f;
    case ALL_ZERO:
        return 0.0f;
    case BOTH_ZEROS:
        return bits % 64 == 0 ? x : bits & 1024 ? -0.0f : 0.0f;
    case TWO_VALUED:
        return bits % 1000 == 0 ? 2.0f : 1.0f;
    case FEW_VALUES:
        return (float)(bits % 7) - 3.0f;
    case ONE_FP16_BIN:
        return 1.0f + (float)(bits % 2048) * 0x1p-23f;
    case INFINITE:
        return bits % 16 == 0 ? INFINITY : bits % 16 == 1 ? -INFINITY : x;
    case FEW_FINITE:
        return s % (L / (K / 2 + 1) + 1) == 0 ? x : bits % 2 ? -INFINITY : NAN;
    case NANS:
        return bits % 3 == 0 ? (bits & 4096 ? NAN : -NAN) : x;
    case ALL_NAN:
        return NAN;
    case RISING:
        return (float)s;
    case FALLING:
        return -(float)s;
    case NEGATIVE:
        return -fabsf(x) - 0.5f;
    case SUBNORMAL:
        bits &= 0x800fffff;
        memcpy(&x, &bits, 4);
        return x;
    case ANY_BITS:
        memcpy(&x, &bits, 4);
        return x;
    case LAST_BEST:
        return s >= L - K / 2 - 1 ? 100.0f + (float)(bits % 16) : x;
    default:
        return x;
    }
}

static void build_table(struct ck_case *c, const struct param *p)
{
    struct rfn_index_topk_args *a = &c->args.index_topk;
    int R = p->R ? p->R : p->T ? p->T : 1, P = p->P ? p->P : 64;
    int W = (p->S + P - 1) / P + 1;
    if (p->bad == NARROW_TABLE)
        W = W / 2 + 1;
    a->page_tokens = P;
    a->pages = 3 * (int64_t)W + 5;
    a->table = ck_tensor(c, RFN_I32, GUARD_INDEX, p->gap, R, W, 0);
    a->request = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, p->T, 0, 0);
    for (int r = 0; r < R; r++)
        for (int w = 0; w < W; w++)
        {
            int32_t page = (int32_t)rng_below(&c->rng, a->pages);
            if (w == 0)
                page = (int32_t)a->pages - 1;
            if (p->bad == BAD_PAGES && rng_below(&c->rng, 5) == 0)
                page = rng_below(&c->rng, 2)
                           ? -1 - (int32_t)rng_below(&c->rng, 3)
                           : (int32_t)a->pages + (int32_t)(r % 2 * 100000);
            ((int32_t *)a->table.data)[r * a->table.stride[0] + w] = page;
        }
    for (int t = 0; t < p->T; t++)
        ((int32_t *)a->request.data)[t] = p->bad == BAD_REQUESTS && t % 3
                                              ? t % 3 == 1 ? -1 - t : R + t
                                              : (int32_t)rng_below(&c->rng, R);
}

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    struct rfn_index_topk_args *a = &c->args.index_topk;
    int live = p->live ? p->live - 100 : p->T, lens = 0;
    for (int i = 0; i < (int)CK_COUNT(p->lens); i++)
        lens = p->lens[i] ? i + 1 : lens;
    /* 0x7f7f7f7f is the score that would win wherever it were read. */
    a->logits = ck_tensor(c, RFN_F32, GUARD_INDEX, p->gap, p->T, p->S, 0);
    a->lens = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, p->T, 0, 0);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    if (p->outputs != POSITIONS)
    {
        build_table(c, p);
        a->slots = ck_tensor(c, RFN_I32, CK_OUTPUT, p->gap, p->T, p->K, 0);
    }
    if (p->outputs != SLOTS)
        a->positions = ck_tensor(c, RFN_I32, CK_OUTPUT, p->gap, p->T, p->K, 0);

    for (int t = 0; t < p->T; t++)
    {
        int L = lens ? p->lens[t % lens] : p->S;
        L = L == ZERO_LEN ? 0 : L;
        if (t >= live)
            continue; /* length, logits and request of the row stay garbage */
        ((int32_t *)a->lens.data)[t] = L;
        float *x = (float *)a->logits.data + t * a->logits.stride[0];
        L = L < p->S ? L : p->S;
        /* Where everything is chosen, scores matter to nobody: half of those rows keep
         * what they were filled with. */
        for (int s = 0; (L > p->K || t % 2) && s < L; s++)
            x[s] = value(&c->rng, p->values, s, L, p->K);
    }
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance;
    struct rfn_index_topk_args a = c->args.index_topk;
    struct rfn_fault right = { 0 };
    a.slots.data = ck_kept(c, a.slots.data);
    a.positions.data = ck_kept(c, a.positions.data);
    ref_index_topk(&a, &right);
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

#define LENS(...) .lens = { __VA_ARGS__ }
#define CASE(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_index_topk, name, 0, build, verify, &(struct param)                      \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define SLOW(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_index_topk, name, 1, build, verify, &(struct param)                      \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define VALUES(name, kind)                                                               \
    CASE(name, 5, 20011, 2048, kind, LENS(20011, 2049, 2048, 4096, 16384)),              \
        CASE(name "_k64", 5, 3001, 64, kind, LENS(3001, 65, 64, 63, 2500), .P = 16)

const struct ck_spec ck_index_topk_specs[] = {
    CASE(
        "short_rows", 17, 257, 64, NORMAL,
        LENS(ZERO_LEN, 1, 2, 63, 64, 65, 66, 255, 256, 257, -1, -100, 128, 65, ZERO_LEN)),
    CASE("lens_around_k_2048", 10, 2100, 2048, NORMAL,
         LENS(2047, 2048, 2049, 1, ZERO_LEN, 2100, 2050, 64, 65, 2099)),
    CASE("lens_past_the_columns", 4, 300, 128, NORMAL, LENS(301, 2147483647, 300, 299),
         .gap = 5),
    CASE("no_rows", 0, 64, 8, NORMAL),
    CASE("all_lens_zero", 3, 64, 8, NORMAL, LENS(ZERO_LEN, ZERO_LEN, -5)),
    CASE("one_column", 3, 1, 1, NORMAL),
    CASE("k_is_1", 9, 1000, 1, NORMAL, LENS(1000, 1, 2, 3, ZERO_LEN, 999, 64, 65, 500)),
    CASE("k_is_2047", 3, 9000, 2047, NORMAL, LENS(8191, 8192, 8193)),
    CASE("k_is_odd", 3, 9000, 77, FEW_VALUES, LENS(8191, 8192, 8193), .P = 3, .gap = 1),
    VALUES("normal", NORMAL),
    VALUES("all_scores_equal", ALL_EQUAL),
    VALUES("all_scores_zero", ALL_ZERO),
    VALUES("minus_zero_equals_zero", BOTH_ZEROS),
    VALUES("two_valued", TWO_VALUED),
    VALUES("few_values", FEW_VALUES),
    VALUES("one_fp16_bin", ONE_FP16_BIN),
    VALUES("infinities", INFINITE),
    VALUES("fewer_than_k_finite", FEW_FINITE),
    VALUES("nan_ranks_last", NANS),
    VALUES("all_nan", ALL_NAN),
    VALUES("rising", RISING),
    VALUES("falling", FALLING),
    VALUES("negative", NEGATIVE),
    VALUES("subnormal", SUBNORMAL),
    VALUES("any_bits", ANY_BITS),
    VALUES("best_at_the_end", LAST_BEST),
    CASE("ties_beyond_16384", 3, 65537, 2048, TWO_VALUED, LENS(65535, 65536, 65537)),
    CASE("length_131072", 2, 131072, 2048, NORMAL, LENS(131072, 131071)),
    CASE("length_163840", 2, 163840, 2048, ONE_FP16_BIN, LENS(163839, 163840)),
    CASE("length_202752", 1, 202752, 2048, NORMAL),
    CASE("length_32768", 4, 32769, 512, NORMAL, LENS(32767, 32768, 32769, 16384)),
    CASE("slots_only", 6, 700, 64, NORMAL, LENS(700, 64, 10, 65, 699, ZERO_LEN),
         .outputs = SLOTS),
    CASE("positions_only", 6, 700, 64, NORMAL, LENS(700, 64, 10, 65, 699, ZERO_LEN),
         .outputs = POSITIONS),
    CASE("strides_past_the_width", 6, 700, 64, NORMAL, LENS(700, 64, 10, 65, 699),
         .gap = 13),
    CASE("one_token_a_page", 3, 700, 64, NORMAL, LENS(700, 64, 65), .P = 1),
    CASE("bad_pages_give_minus_one", 7, 900, 64, NORMAL, LENS(900, 64, 65, 1, ZERO_LEN),
         .R = 4, .P = 16, .bad = BAD_PAGES),
    CASE("bad_requests_give_minus_one", 7, 900, 64, NORMAL,
         LENS(900, 64, 65, 1, 30, ZERO_LEN), .R = 4, .bad = BAD_REQUESTS),
    CASE("narrow_table_gives_minus_one", 4, 900, 64, NORMAL, LENS(900, 64, 65, 500),
         .P = 16, .bad = NARROW_TABLE),
    CASE("one_request_of_8_tokens", 8, 500, 64, NORMAL,
         LENS(493, 494, 495, 496, 497, 498, 499, 500), .R = 1),
    CASE("33_requests", 33, 200, 64, NORMAL, LENS(200, 64, 65, ZERO_LEN, 199), .R = 33),
    CASE("1024_requests", 1024, 100, 32, FEW_VALUES,
         LENS(100, 32, 33, ZERO_LEN, 1, 2, 99), .R = 1024, .P = 32),
    CASE("live_is_zero", 5, 300, 64, NORMAL, LENS(300), .live = 100),
    CASE("live_is_negative", 5, 300, 64, NORMAL, LENS(300), .live = 50),
    CASE("live_is_part", 9, 300, 64, NORMAL, LENS(300, 64, 65, ZERO_LEN), .live = 106,
         .gap = 3),
    CASE("live_is_past_the_rows", 5, 300, 64, NORMAL, LENS(300), .live = 5000),
    SLOW("length_1048576", 2, 1048576, 2048, NORMAL, LENS(1048576, 1048575)),
    SLOW("length_1048576_two_valued", 2, 1048576, 2048, TWO_VALUED,
         LENS(1048576, 1048575)),
    SLOW("length_1048576_one_fp16_bin", 1, 1048576, 2048, ONE_FP16_BIN),
    SLOW("many_rows", 512, 16384, 2048, NORMAL,
         LENS(16384, 2048, 2049, ZERO_LEN, 8192, 8193, 12000)),
};
const int ck_index_topk_count = CK_COUNT(ck_index_topk_specs);
