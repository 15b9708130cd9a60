/* sparse_mla: accuracy in two ways, masks, sinks, two sources, and what must not be loaded. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/support/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LSE_TOLERANCE 5e-4

enum picks
{
    RANDOM,
    ALL_MINUS_ONE,
    HOLES,      /* -1 and other negatives in the middle */
    DUPLICATES, /* of a few slots */
    PAST,       /* indices past the pool in the middle */
    LAST_PAGE,
    ONE_ROW_EMPTY, /* rows of HOLES, every third all -1 */
};

enum values
{
    NORMAL,
    SHARP,    /* scores of hundreds: one key takes all */
    FLAT,     /* q = 0 */
    NAN_KEYS, /* a chosen key in every other row has a NaN */
    NAN_ROWS, /* q of every other row has a NaN */
    SMALL,    /* values of 1e-20 */
    RISING,   /* later keys score higher: the maximum moves in every tile */
};

struct param
{
    int T, H, K;
    enum rfn_format format;
    enum picks picks;
    enum values values;
    int K1; /* > 0: a second source */
    enum rfn_format format1;
    int lens;  /* 1: ragged lens; 2: zeros among them; 3: negative and past the width */
    int sink;  /* 1: normal; 2: -inf, +inf and huge ones among them */
    int split; /* q in two parts */
    int no_lse;
    int empty_positive;
    int gap;      /* elements between rows, a multiple of 8 */
    int page_gap; /* bytes between pages */
    int P, pages;
    int live; /* 0: not given; else live = this - 100 */
    int end;
};

static float scale_of(enum rfn_format format)
{
    return format == RFN_LATENT_FP8_584 ? 0.0625f : 0.135234f;
}

/* A key of the pool comes to be when it is first chosen; all others stay NaN. */
static void make_key(struct ck_case *c, const struct param *p, int i, int64_t slot,
                     int nan)
{
    struct rfn_pool *pool = &c->args.sparse_mla.source[i].pool;
    int qk = ref_qk(pool->format), latent = ref_latent(pool->format), group;
    float *full = c->full[i] + slot * qk;
    if (!isnan(full[0]) && !nan)
        return;
    uint16_t row[576];
    for (int d = 0; d < qk; d++)
    {
        float x = rng_normal(&c->rng);
        if (p->values == SMALL)
            x *= 1e-20f;
        row[d] = ref_bf16_code(x);
        full[d] = (float)ref_bf16_value(row[d]);
    }
    if (nan)
        row[nan == 1 ? 5 : qk - 1] = 0x7fc1;
    enum rfn_scale scale = slot % 2 ? RFN_SCALE_UE8M0 : RFN_SCALE_F32;
    enum rfn_floor floor_on = p->values == SMALL ? RFN_FLOOR_SCALE : RFN_FLOOR_DEFAULT;
    ref_pack_row(pool, slot, row, row + latent, scale, floor_on, 1e-30f, &group);
    if (pool->format == RFN_LATENT_FP8_584)
        ref_scales(pool, slot)[7] = 0xff; /* the pad byte is nobody's business */
}

static void make_source(struct ck_case *c, const struct param *p, int i, int K,
                        enum rfn_format format, int live)
{
    struct rfn_mla_source *s = &c->args.sparse_mla.source[i];
    int P = p->P ? p->P : 64, pages = p->pages ? p->pages : K / P + 3;
    int64_t slots = (int64_t)P * pages, qk = ref_qk(format);
    s->pool = ck_pool(c, format, P, pages, p->page_gap, GUARD_FLOAT);
    s->indices =
        ck_tensor(c, RFN_I32, GUARD_INDEX, p->gap + (p->gap ? 3 : 0), p->T, K, 0);
    if (p->lens)
        s->lens = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, p->T, 0, 0);
    c->full[i] = malloc((size_t)(slots * qk) * sizeof(float));
    for (int64_t k = 0; k < slots * qk; k++)
        c->full[i][k] = NAN;

    for (int t = 0; t < p->T && t < live; t++)
    {
        int32_t *index = (int32_t *)s->indices.data + t * s->indices.stride[0];
        int L = K;
        if (p->lens)
        {
            L = (int)rng_below(&c->rng, K + 1);
            if (p->lens == 2 && (t + i) % 2)
                L = 0;
            if (p->lens == 3)
                L = t % 2 ? -1 - t : K + t * 1000000;
            if (p->lens == 1 && t == 0)
                L = K > 1 ? K - 1 : K;
            ((int32_t *)s->lens.data)[t] = L;
        }
        for (int k = 0; k < K && k < L; k++)
        {
            int64_t slot = rng_below(&c->rng, slots);
            int odd = rng_below(&c->rng, 4) == 0;
            if (p->picks == ALL_MINUS_ONE || (p->picks == ONE_ROW_EMPTY && t % 3 == 1))
                slot = -1;
            else if ((p->picks == HOLES || p->picks == ONE_ROW_EMPTY) && odd)
                slot = k % 3 ? -1 : -1 - rng_below(&c->rng, slots);
            else if (p->picks == PAST && odd)
                slot = slots + (k % 2 ? 0 : rng_below(&c->rng, 1000000));
            else if (p->picks == DUPLICATES)
                slot = slots / 7 * rng_below(&c->rng, slots < 5 ? slots : 5);
            else if (p->picks == LAST_PAGE)
                slot = slots - 1 - rng_below(&c->rng, P);
            index[k] = (int32_t)slot;
            if (slot >= 0 && slot < slots)
                make_key(c, p, i, slot, 0);
        }
        if (p->values == NAN_KEYS && t % 2 && L > 2)
        {
            /* A slot that no other row may choose: the last of the pool, in turn. */
            index[L / 2] = (int32_t)(slots - 1);
            make_key(c, p, i, slots - 1, 1 + i);
        }
    }
    /* Columns that are masked name slots whose bytes are NaN, or none at all. */
    for (int t = 0; p->lens && t < p->T && t < live; t++)
        for (int k = 0; k < K; k++)
            if (k >= ((int32_t *)s->lens.data)[t] && k % 2)
                ((int32_t *)s->indices.data)[t * s->indices.stride[0] + k] =
                    (int32_t)rng_below(&c->rng, slots);
}

/* A value of row t, head h, dimension d. */
static uint16_t query(struct ck_case *c, const struct param *p, int t, int h, int d)
{
    float x = rng_normal(&c->rng) * 0.3f;
    if (p->values == SHARP)
        x *= 100;
    if (p->values == FLAT)
        x = 0;
    if (p->values == NAN_ROWS && t % 2 && h == p->H / 2 && d == 17)
        return 0xffc0;
    return ref_bf16_code(x);
}

static void make_queries(struct ck_case *c, const struct param *p, int live)
{
    struct rfn_sparse_mla_args *a = &c->args.sparse_mla;
    int qk = ref_qk(p->format), latent = ref_latent(p->format),
        D = p->split ? latent : qk;
    a->q = ck_tensor(c, RFN_BF16, GUARD_FLOAT, p->gap, p->T, p->H, D);
    if (p->split)
        a->q_rope = ck_tensor(c, RFN_BF16, GUARD_FLOAT, 2 * p->gap, p->T, p->H, 64);
    for (int t = 0; t < p->T && t < live; t++)
        for (int h = 0; h < p->H; h++)
            for (int d = 0; d < qk; d++)
            {
                const struct rfn_tensor *part = d < D ? &a->q : &a->q_rope;
                ((uint16_t *)part->data)[t * part->stride[0] + h * part->stride[1] +
                                         (d < D ? d : d - D)] = query(c, p, t, h, d);
            }
}

/* Orders each row's first source so that scores of head 0 rise. */
static void sort_rising(struct ck_case *c, int live)
{
    struct rfn_sparse_mla_args *a = &c->args.sparse_mla;
    const struct rfn_mla_source *s = &a->source[0];
    int qk = ref_qk(s->pool.format);
    for (int64_t t = 0; t < a->q.shape[0] && t < live; t++)
    {
        int32_t *index = (int32_t *)s->indices.data + t * s->indices.stride[0];
        const uint16_t *q = (uint16_t *)a->q.data + t * a->q.stride[0];
        int64_t K = s->indices.shape[1];
        double *score = malloc((size_t)K * sizeof *score);
        for (int64_t k = 0; k < K; k++)
        {
            double sum = 0;
            for (int d = 0; d < qk; d++)
                sum += ref_bf16_value(q[d]) * c->full[0][(int64_t)index[k] * qk + d];
            int64_t j = k;
            int32_t mine = index[k];
            for (; j > 0 && score[j - 1] > sum; j--)
            {
                score[j] = score[j - 1];
                index[j] = index[j - 1];
            }
            score[j] = sum;
            index[j] = mine;
        }
        free(score);
    }
}

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    struct rfn_sparse_mla_args *a = &c->args.sparse_mla;
    int live = p->live ? p->live - 100 : p->T;
    make_queries(c, p, live);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    make_source(c, p, 0, p->K, p->format, live);
    if (p->K1)
        make_source(c, p, 1, p->K1, p->format1, live);
    if (p->values == RISING)
        sort_rising(c, live);
    if (p->sink)
    {
        a->sink = ck_tensor(c, RFN_F32, GUARD_FLOAT, 0, p->H, 0, 0);
        for (int h = 0; h < p->H; h++)
        {
            static const float special[] = { -INFINITY, INFINITY, 1e30f, -1e30f };
            float x = 5.0f * rng_normal(&c->rng);
            ((float *)a->sink.data)[h] = p->sink == 2 && h % 5 < 4 ? special[h % 5] : x;
        }
    }
    a->out = ck_tensor(c, RFN_BF16, CK_OUTPUT, p->gap, p->T, p->H, 512);
    if (!p->no_lse)
        a->lse = ck_tensor(c, RFN_F32, CK_OUTPUT, p->gap ? 5 : 0, p->T, p->H, 0);
    a->scale = scale_of(p->format);
    a->empty_lse_positive = p->empty_positive;
    a->batch_invariant = (int32_t)rng_below(&c->rng, 2);
}

/* One row's head against doubles; the written elements then count as kept. */
static int verify_head(struct ck_case *c, int64_t t, int64_t h, const double *o,
                       double lse, const double *format_o, struct compare *format,
                       double tolerance)
{
    const struct rfn_sparse_mla_args *a = &c->args.sparse_mla;
    uint16_t *out = (uint16_t *)a->out.data + t * a->out.stride[0] + h * a->out.stride[1];
    struct compare plain = { 0 }, rounded = { 0 }, log = { 0 };
    for (int v = 0; v < 512; v++)
    {
        double x = ref_bf16_value(out[v]);
        compare_add(&plain, x, o[v]);
        compare_add(&rounded, x, ref_bf16_value(ref_bf16_code(o[v])));
        if (format_o)
            compare_add(format, x, format_o[v]);
    }
    memcpy(ck_kept(c, out), out, 512 * sizeof *out);
    if (a->lse.data)
    {
        float *at = (float *)a->lse.data + t * a->lse.stride[0] + h;
        compare_add(&log, *at, lse);
        memcpy(ck_kept(c, at), at, sizeof *at);
    }
    double l2 = compare_l2(&plain), l2_rounded = compare_l2(&rounded);
    struct ck_numbers *n = &c->numbers;
    n->l2 = l2 > n->l2 ? l2 : n->l2;
    n->l2_rounded = l2_rounded > n->l2_rounded ? l2_rounded : n->l2_rounded;
    n->lse = log.max_difference > n->lse ? log.max_difference : n->lse;
    if (plain.mask_errors)
        return ck_fail(c, "out[%lld][%lld]: NaN or inf differ at %lld places, first %lld",
                       (long long)t, (long long)h, (long long)plain.mask_errors,
                       (long long)plain.first_mask_error);
    if (log.mask_errors)
        return ck_fail(c, "lse[%lld][%lld]: NaN or inf differ, right is %g", (long long)t,
                       (long long)h, lse);
    if (!(l2 <= tolerance))
        return ck_fail(c, "out[%lld][%lld]: relative L2 %.2e, but %.2e is the most",
                       (long long)t, (long long)h, l2, tolerance);
    /* Large scores carry f32's relative error of their own size. */
    double lse_most = LSE_TOLERANCE + 1e-6 * (isfinite(lse) ? fabs(lse) : 0);
    if (!(log.max_difference <= lse_most))
        return ck_fail(c, "lse[%lld][%lld]: off by %.2e, but %.2e is the most",
                       (long long)t, (long long)h, log.max_difference, lse_most);
    return 1;
}

/* Relative L2 of a whole case to full precision that a format may cost. */
static double format_most(const struct rfn_sparse_mla_args *a)
{
    return a->source[0].pool.format == RFN_LATENT_BF16_576 &&
                   (!a->source[1].pool.data ||
                    a->source[1].pool.format == RFN_LATENT_BF16_576)
               ? 4e-3
               : 0.08;
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    const struct rfn_sparse_mla_args *a = &c->args.sparse_mla;
    int64_t T = a->q.shape[0], H = a->q.shape[1];
    size_t rows = (size_t)(T * H) + 1;
    double *o = calloc(rows * 513, sizeof *o), *lse = o + rows * 512;
    double *full_o = calloc(rows * 513, sizeof *o), *full_lse = full_o + rows * 512;
    struct rfn_fault right = { 0 }, ignored = { 0 };
    struct compare format = { 0 };
    /* What full precision gives says something of the format only where it is normal. */
    int plain = strncmp(c->name, "format_error", 12) == 0;
    ref_sparse_mla(a, NULL, o, lse, &right);
    if (plain)
        ref_sparse_mla(a, c->full, full_o, full_lse, &ignored);
    int64_t live = a->live.data ? *(int32_t *)a->live.data : T;
    int ok = 1;
    for (int64_t t = 0; ok && t < T && t < live; t++)
        for (int64_t h = 0; ok && h < H; h++)
            ok = verify_head(c, t, h, o + (t * H + h) * 512, lse[t * H + h],
                             plain ? full_o + (t * H + h) * 512 : NULL, &format,
                             tolerance);
    free(o);
    free(full_o);
    if (!ok || !ck_all_as_kept(c) || !ck_same_fault(c, fault, &right))
        return 0;
    c->numbers.format_l2 = compare_l2(&format);
    return c->numbers.format_l2 <= format_most(a) ||
           ck_fail(c, "relative L2 to full precision %.4f, but %.4f is the most",
                   c->numbers.format_l2, format_most(a));
}

#define F656 RFN_LATENT_FP8_656
#define B576 RFN_LATENT_BF16_576
#define F584 RFN_LATENT_FP8_584
#define CASE(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_sparse_mla, name, 0, build, verify, &(struct param)                      \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define SLOW(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_sparse_mla, name, 1, build, verify, &(struct param)                      \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }

const struct ck_spec ck_sparse_mla_specs[] = {
    CASE("small_656", 3, 8, 65, F656),
    CASE("small_576", 3, 8, 65, B576),
    CASE("small_584", 3, 8, 65, F584),
    CASE("format_error_656", 2, 16, 512, F656, .P = 64, .pages = 40),
    CASE("format_error_576", 2, 16, 512, B576, .P = 64, .pages = 40),
    CASE("format_error_584", 2, 16, 512, F584, .P = 64, .pages = 40),
    CASE("no_rows", 0, 8, 64, F656),
    CASE("one_key", 2, 8, 1, F656),
    CASE("63_keys", 2, 8, 63, F584),
    CASE("64_keys", 2, 8, 64, F656),
    CASE("65_keys", 2, 8, 65, B576),
    CASE("127_keys", 2, 8, 127, F656),
    CASE("255_keys", 2, 16, 255, F656),
    CASE("257_keys", 2, 16, 257, F584),
    CASE("2047_keys", 1, 8, 2047, F656),
    CASE("2048_keys_64_heads", 1, 64, 2048, F656),
    CASE("2048_keys_128_heads", 1, 128, 2048, F656),
    CASE("one_head", 4, 1, 130, F656, HOLES),
    CASE("2_heads_584", 2, 2, 70, F584),
    CASE("24_heads", 2, 24, 100, F656, HOLES),
    CASE("33_heads", 2, 33, 100, B576),
    CASE("63_heads", 1, 63, 100, F584),
    CASE("64_heads", 2, 64, 130, F584),
    CASE("127_heads", 1, 127, 100, F656),
    CASE("128_heads", 2, 128, 130, F656),
    CASE("all_indices_minus_one", 3, 8, 70, F656, ALL_MINUS_ONE),
    CASE("empty_rows_positive_lse", 7, 8, 70, F584, ONE_ROW_EMPTY, .empty_positive = 1),
    CASE("empty_rows_negative_lse", 7, 8, 70, B576, ONE_ROW_EMPTY, .sink = 1),
    CASE("holes_656", 5, 16, 200, F656, HOLES),
    CASE("holes_576", 5, 16, 200, B576, HOLES),
    CASE("holes_584", 5, 16, 200, F584, HOLES),
    CASE("duplicates_count_twice", 4, 8, 100, F656, DUPLICATES),
    CASE("past_the_pool_is_masked_656", 4, 40, 100, F656, PAST),
    CASE("past_the_pool_is_masked_584", 4, 8, 100, F584, PAST),
    CASE("past_the_pool_is_masked_two_sources", 4, 8, 100, F584, PAST, .K1 = 40,
         .format1 = F584),
    CASE("last_page_656", 3, 8, 100, F656, LAST_PAGE),
    CASE("last_page_584", 3, 8, 100, F584, LAST_PAGE, .page_gap = 64),
    CASE("ragged_lens", 8, 8, 150, F656, HOLES, .lens = 1),
    CASE("zero_lens", 6, 8, 150, F584, RANDOM, .lens = 2),
    CASE("negative_and_long_lens", 6, 8, 100, F656, RANDOM, .lens = 3),
    CASE("two_sources_656", 4, 16, 100, F656, HOLES, .K1 = 77, .format1 = F656,
         .lens = 1),
    CASE("two_sources_584", 4, 16, 128, F584, HOLES, .K1 = 64, .format1 = F584,
         .sink = 1),
    CASE("two_sources_of_two_formats", 4, 16, 100, F656, HOLES, .K1 = 77,
         .format1 = B576),
    CASE("two_sources_in_turn_empty", 6, 8, 70, B576, RANDOM, .K1 = 30, .format1 = F656,
         .lens = 2),
    CASE("second_source_longer", 2, 8, 1, F584, RANDOM, .K1 = 300, .format1 = F584),
    CASE("sink", 3, 16, 90, F656, RANDOM, .sink = 1),
    CASE("sink_of_infinities", 3, 16, 90, F584, HOLES, .sink = 2),
    CASE("sink_576", 3, 33, 90, B576, RANDOM, .sink = 2),
    CASE("split_query_656", 3, 16, 90, F656, RANDOM, .split = 1),
    CASE("split_query_584", 3, 16, 90, F584, RANDOM, .split = 1, .gap = 16),
    CASE("without_lse", 3, 16, 90, F656, RANDOM, .no_lse = 1),
    CASE("strides_past_the_width_656", 4, 16, 90, F656, HOLES, .gap = 40,
         .page_gap = 656),
    CASE("strides_past_the_width_584", 4, 16, 90, F584, HOLES, .gap = 8, .page_gap = 16),
    CASE("strides_past_the_width_576", 4, 16, 90, B576, HOLES, .gap = 512,
         .page_gap = 4096),
    CASE("one_token_a_page_656", 2, 8, 70, F656, RANDOM, .P = 1, .pages = 90),
    CASE("one_token_a_page_584", 2, 8, 70, F584, RANDOM, .P = 1, .pages = 90),
    CASE("three_tokens_a_page_584", 2, 8, 70, F584, HOLES, .P = 3, .pages = 31),
    CASE("256_tokens_a_page_656", 2, 8, 70, F656, HOLES, .P = 256, .pages = 2),
    CASE("sharp_softmax_656", 3, 16, 300, F656, RANDOM, SHARP),
    CASE("sharp_softmax_584", 3, 16, 300, F584, RANDOM, SHARP, .sink = 1),
    CASE("flat_softmax", 3, 16, 300, F656, HOLES, FLAT),
    CASE("rising_scores", 2, 16, 400, F656, RANDOM, RISING),
    CASE("small_values", 2, 16, 100, F656, RANDOM, SMALL),
    CASE("nan_in_a_chosen_key_stays_in_its_row_656", 4, 16, 100, F656, RANDOM, NAN_KEYS,
         .P = 64, .pages = 50),
    CASE("nan_in_a_chosen_key_stays_in_its_row_584", 4, 16, 100, F584, RANDOM, NAN_KEYS,
         .P = 64, .pages = 50),
    CASE("nan_in_a_chosen_key_stays_in_its_row_576", 4, 16, 100, B576, RANDOM, NAN_KEYS,
         .P = 64, .pages = 50),
    CASE("nan_in_a_query_stays_in_its_head", 4, 40, 100, F656, HOLES, NAN_ROWS),
    CASE("live_is_zero", 3, 8, 70, F656, RANDOM, .live = 100),
    CASE("live_is_negative", 3, 8, 70, F656, RANDOM, .live = 50),
    CASE("live_is_part_656", 6, 8, 70, F656, HOLES, .live = 104, .gap = 8),
    CASE("live_is_part_584", 6, 40, 70, F584, HOLES, .live = 101, .lens = 1),
    CASE("live_is_past_the_rows", 3, 8, 70, F656, RANDOM, .live = 5000),
    CASE("64_rows", 64, 8, 64, F656, HOLES, .lens = 1),
    SLOW("1024_rows", 1024, 8, 64, F584, HOLES, .lens = 1),
    SLOW("8_rows_128_heads_2048_keys_656", 8, 128, 2048, F656, HOLES, .lens = 1),
    SLOW("8_rows_128_heads_2048_keys_584", 8, 128, 2048, F584, HOLES, .sink = 1),
    SLOW("8_rows_128_heads_2048_keys_576", 8, 128, 2048, B576, RANDOM, .split = 1),
    SLOW("two_sources_128_heads", 4, 128, 2048, F584, HOLES, .K1 = 512, .format1 = F584,
         .sink = 1),
    SLOW("16384_keys", 1, 64, 16384, F656, RANDOM, .P = 64, .pages = 300),
};
const int ck_sparse_mla_count = CK_COUNT(ck_sparse_mla_specs);
