/* index_logits: every length, pages of all kinds, ragged steps, and what must not be read
 * or written. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/support/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define D 128
#define LENGTHS 6
#define L2_COLUMNS 64

enum lengths
{
    LISTED, /* p->list, in turn */
    RAGGED, /* anything from 0 to S */
    ZEROS,  /* every other one 0, the first and the last too */
    ALL_ZERO,
    WILD, /* negative and past S */
    STEP, /* next_n rows of a request, one column more each */
};

enum pages
{
    ANY,         /* shared by requests, in any order */
    SOME_BAD,    /* negative and past the pool in the middle */
    LAST_PAGE,   /* of the pool, over and over */
    NARROW,      /* the table ends before the length does */
    BAD_REQUEST, /* every third row belongs to none */
};

enum values
{
    NORMAL,
    EQUAL,     /* all scores of a row */
    ZERO,      /* queries */
    NAN_KEYS,  /* a NaN byte in some keys */
    NAN_SCALE, /* of some keys */
    NAN_QUERY, /* one head of every other row */
    INFINITE,  /* some weights and scales */
    NEGATIVE,  /* all dots: relu leaves nothing */
    TWINS,     /* few different queries, in rows of any length */
};

struct param
{
    int T, H, S;
    enum lengths lengths;
    int list[LENGTHS];
    enum pages pages;
    enum values values;
    int next_n;   /* rows of a request side by side; 0: 1 */
    int P;        /* 0: 64 */
    int gap;      /* elements between rows, a multiple of 16 */
    int page_gap; /* bytes between pages */
    int live;     /* 0: not given; else live = this - 100 */
    int end;
};

static int length_of(struct ck_case *c, const struct param *p, int t)
{
    int next = p->next_n ? p->next_n : 1, listed = 0;
    while (listed < LENGTHS && p->list[listed])
        listed++;
    switch (p->lengths)
    {
    case LISTED:
        return p->list[t / next % listed];
    case RAGGED:
        return (int)rng_below(&c->rng, p->S + 1);
    case ZEROS:
        return t % 2 == 0 || t == p->T - 1 ? 0 : (int)rng_below(&c->rng, p->S + 1);
    case WILD:
        return t % 2 ? p->S + 1 + t * 1000000 : -1 - t * 77;
    case STEP:
        return p->S - next - t / next * 37 + t % next + 1;
    default:
        return 0;
    }
}

/* A byte of e4m3 that is a number. */
static uint8_t code(struct rng *r)
{
    uint8_t any = (uint8_t)rng_u64(r);
    return (any & 0x7f) == 0x7f ? any ^ 1 : any;
}

/* A key comes to be when a row first may read it; all others stay NaN. */
static void make_key(struct ck_case *c, const struct param *p, int64_t slot)
{
    const struct rfn_pool *pool = &c->args.index_logits.pool;
    unsigned char *key = ref_index_key(pool, slot);
    uint64_t any[D / 8];
    float scale = (float)rng_unit(&c->rng) * 0.1f + 1e-3f;
    if ((key[0] & 0x7f) != 0x7f || (key[1] & 0x7f) != 0x7f)
        return; /* it is there: a key has one NaN at the most */
    for (int i = 0; i < D / 8; i++)
        any[i] = rng_u64(&c->rng);
    memcpy(key, any, D);
    for (int d = 0; d < D; d++)
    {
        key[d] ^= (key[d] & 0x7f) == 0x7f;
        if (p->values == EQUAL)
            key[d] = 0x38 + d % 3;
        if (p->values == NEGATIVE)
            key[d] &= 0x7f;
    }
    if (p->values == NAN_KEYS && slot % 5 == 0)
        key[slot % (D - 1)] = 0x7f | (uint8_t)(slot & 0x80);
    if (p->values == NAN_SCALE && slot % 5 == 0)
        scale = NAN;
    if (p->values == INFINITE && slot % 5 == 0)
        scale = INFINITY;
    if (p->values == EQUAL)
        scale = 0.5f;
    memcpy(ref_index_scale(pool, slot), &scale, 4);
}

static void make_row(struct ck_case *c, const struct param *p, int t)
{
    struct rfn_index_logits_args *a = &c->args.index_logits;
    struct rng own = rng_of((uint64_t)(t % 3)), *r = p->values == TWINS ? &own : &c->rng;
    float *w = (float *)a->w8.data + t * a->w8.stride[0];
    for (int h = 0; h < p->H; h++)
    {
        uint8_t *q = (uint8_t *)a->q8.data + t * a->q8.stride[0] + h * a->q8.stride[1];
        for (int d = 0; d < D; d++)
        {
            q[d] = code(r);
            if (p->values == ZERO)
                q[d] &= 0x80;
            if (p->values == NEGATIVE)
                q[d] |= 0x80;
        }
        w[h] = rng_normal(r) * 0.01f;
        if (p->values == EQUAL)
            w[h] = fabsf(w[h]);
        if (p->values == INFINITE && t % 2 && h == p->H / 2)
            w[h] = t % 4 == 1 ? INFINITY : -INFINITY;
        if (p->values == NAN_QUERY && t % 2 && h == p->H / 2)
            q[17] = 0xff;
    }
}

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    struct rfn_index_logits_args *a = &c->args.index_logits;
    int live = p->live ? p->live - 100 : p->T, next = p->next_n ? p->next_n : 1;
    int P = p->P ? p->P : 64, W = (p->S + P - 1) / P, R = (p->T + next - 1) / next;
    int64_t pages = W + 3;
    if (p->pages == NARROW)
        W = W / 2;
    a->q8 = ck_tensor(c, RFN_E4M3, GUARD_FLOAT, p->gap, p->T, p->H, D);
    a->w8 = ck_tensor(c, RFN_F32, GUARD_FLOAT, p->gap ? 3 : 0, p->T, p->H, 0);
    a->pool = ck_pool(c, RFN_INDEX_FP8_132, P, pages, p->page_gap, GUARD_FLOAT);
    a->table = ck_tensor(c, RFN_I32, GUARD_INDEX, p->gap ? 7 : 0, R, W ? W : 1, 0);
    a->request = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, p->T, 0, 0);
    a->lens = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, p->T, 0, 0);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    a->logits =
        ck_tensor(c, RFN_F32, CK_OUTPUT, p->gap ? 9 : 0, p->T, p->S ? p->S : 1, 0);
    a->logits.shape[1] =
        p->S; /* the view of no columns has two dimensions all the same */
    a->table.shape[1] = W;
    for (int t = 0; t < p->T && t < live; t++)
    {
        /* Requests stand in another order than the rows of the table. */
        int request = R - 1 - t / next, L = length_of(c, p, t);
        int bad = p->pages == BAD_REQUEST && t % 3 == 1;
        ((int32_t *)a->lens.data)[t] = L;
        ((int32_t *)a->request.data)[t] = !bad ? request : t % 2 ? -1 - t : R + t;
        make_row(c, p, t);
        int32_t *table = (int32_t *)a->table.data + request * a->table.stride[0];
        for (int64_t s = 0; !bad && s < L && s < p->S && s / P < W; s++)
        {
            int64_t i = s / P, page = table[i];
            if (page == 0x7f7f7f7f)
            {
                page = rng_below(&c->rng, pages);
                if (p->pages == SOME_BAD && rng_below(&c->rng, 3) == 0)
                    page = i % 2 ? -1 - i : pages + i / 2 * 1000;
                if (p->pages == LAST_PAGE)
                    page = pages - 1;
                table[i] = (int32_t)page;
            }
            if (page >= 0 && page < pages)
                make_key(c, p, page * P + s % P);
        }
    }
}

static int verify_row(struct ck_case *c, int64_t t, const double *right,
                      const double *size)
{
    const struct rfn_index_logits_args *a = &c->args.index_logits;
    int64_t L = ((int32_t *)a->lens.data)[t], S = a->logits.shape[1];
    float *logits = (float *)a->logits.data + t * a->logits.stride[0];
    double most = c->op->tolerance;
    struct compare all = { 0 };
    L = L < 0 ? 0 : L > S ? S : L;
    for (int64_t s = 0; s < L; s++)
    {
        compare_add(&all, logits[s], right[s]);
        if (isfinite(right[s]) && !(fabs(logits[s] - right[s]) <= most * size[s]))
            return ck_fail(c, "logits[%lld][%lld] is %.9g, but %.9g is right",
                           (long long)t, (long long)s, (double)logits[s], right[s]);
    }
    if (all.mask_errors)
        return ck_fail(c, "logits[%lld]: NaN or inf differ at %lld places, first %lld",
                       (long long)t, (long long)all.mask_errors,
                       (long long)all.first_mask_error);
    double l2 = compare_l2(&all);
    if (L)
        memcpy(ck_kept(c, logits), logits, (size_t)L * sizeof *logits);
    if (L < L2_COLUMNS) /* weights of both signs may cancel out in all of a few columns */
        return 1;
    c->numbers.l2_logits = l2 > c->numbers.l2_logits ? l2 : c->numbers.l2_logits;
    return l2 <= most ||
           ck_fail(c, "logits[%lld]: relative L2 %.2e, but %.2e is the most",
                   (long long)t, l2, most);
}

/* Rows with the same query over the same keys have the same bits, whatever their lengths,
 * their neighbours and their place are. */
static int verify_twins(struct ck_case *c, int64_t rows)
{
    const struct rfn_index_logits_args *a = &c->args.index_logits;
    size_t row = (size_t)(a->q8.shape[1] * D);
    const int32_t *lens = a->lens.data, *request = a->request.data;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t u = 0; u < t; u++)
        {
            int64_t L = lens[t] < lens[u] ? lens[t] : lens[u];
            const float *one = (float *)a->logits.data + t * a->logits.stride[0];
            const float *two = (float *)a->logits.data + u * a->logits.stride[0];
            if (request[t] == request[u] && L > 0 &&
                memcmp((char *)a->q8.data + t * a->q8.stride[0],
                       (char *)a->q8.data + u * a->q8.stride[0], row) == 0 &&
                memcmp(one, two, (size_t)L * sizeof *one) != 0)
                return ck_fail(c, "rows %lld and %lld have one query and other bits",
                               (long long)t, (long long)u);
        }
    return 1;
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance; /* that of attention */
    const struct rfn_index_logits_args *a = &c->args.index_logits;
    int64_t T = a->q8.shape[0], S = a->logits.shape[1];
    size_t scores = (size_t)(T * S) + 1;
    double *right = malloc(2 * scores * sizeof *right), *size = right + scores;
    struct rfn_fault bad = { 0 };
    int64_t live = a->live.data ? *(int32_t *)a->live.data : T;
    int64_t rows = live < T ? live : T;
    ref_index_logits(a, right, size, &bad);
    int ok = strncmp(c->name, "twins", 5) != 0 || verify_twins(c, rows);
    for (int64_t t = 0; ok && t < rows; t++)
        ok = verify_row(c, t, right + t * S, size + t * S);
    free(right);
    return ok && ck_all_as_kept(c) && ck_same_fault(c, fault, &bad);
}

#define ROW(slow, name, ...)                                                             \
    {                                                                                    \
        &rfn_op_index_logits, name, slow, build, verify, &(struct param)                 \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define CASE(name, ...) ROW(0, name, __VA_ARGS__)
#define SLOW(name, ...) ROW(1, name, __VA_ARGS__)

const struct ck_spec ck_index_logits_specs[] = {
    CASE("one_token", 1, 4, 64, LISTED, { 1 }),
    CASE("small", 3, 8, 130, LISTED, { 130, 65, 64 }),
    CASE("no_rows", 0, 8, 130, RAGGED),
    CASE("no_columns", 3, 8, 0, WILD),
    CASE("lengths_around_a_tile", 6, 4, 70, LISTED, { 31, 32, 33, 63, 64, 65 }),
    CASE("length_far_below_the_columns", 2, 8, 40000, LISTED, { 5, 70 }),
    CASE("64_heads", 2, 64, 300, LISTED, { 300, 200 }),
    CASE("32_heads", 2, 32, 300, LISTED, { 300, 200 }),
    CASE("5_heads", 3, 5, 200, RAGGED),
    CASE("6_heads", 3, 6, 200, RAGGED),
    CASE("7_heads", 3, 7, 200, RAGGED),
    CASE("23_heads", 3, 23, 200, RAGGED),
    CASE("63_heads", 3, 63, 200, RAGGED),
    CASE("zeros_leading_middle_trailing", 7, 8, 200, ZEROS),
    CASE("all_lengths_zero", 5, 8, 200, ALL_ZERO),
    CASE("lengths_negative_and_past_the_columns", 6, 8, 200, WILD),
    CASE("next_n_2", 8, 8, 400, STEP, .next_n = 2),
    CASE("next_n_3", 9, 8, 400, STEP, .next_n = 3),
    CASE("next_n_5", 15, 8, 400, STEP, .next_n = 5),
    CASE("next_n_8", 16, 8, 400, STEP, .next_n = 8),
    CASE("next_n_4_ragged", 16, 8, 400, RAGGED, .next_n = 4),
    CASE("next_n_4_with_zeros", 16, 8, 400, ZEROS, .next_n = 4),
    CASE("17_rows_of_one_request", 17, 4, 400, RAGGED, .next_n = 17),
    CASE("twins_in_one_group", 8, 8, 300, RAGGED, { 0 }, ANY, TWINS, .next_n = 8),
    CASE("twins_in_groups_of_all_sizes", 30, 12, 300, RAGGED, { 0 }, ANY, TWINS,
         .next_n = 15),
    CASE("twins_64_heads", 9, 64, 200, STEP, { 0 }, ANY, TWINS, .next_n = 9),
    CASE("bad_pages_score_minus_infinity", 4, 8, 700, RAGGED, { 0 }, SOME_BAD),
    CASE("bad_pages_of_a_step", 8, 8, 700, STEP, { 0 }, SOME_BAD, .next_n = 4),
    CASE("bad_pages_of_a_large_context", 2, 4, 5000, LISTED, { 5000, 4999 }, SOME_BAD),
    CASE("bad_pages_of_three_tokens", 3, 8, 200, RAGGED, { 0 }, SOME_BAD, .P = 3,
         .page_gap = 4),
    CASE("last_page_of_the_pool", 3, 8, 200, RAGGED, { 0 }, LAST_PAGE),
    CASE("table_narrower_than_the_length", 3, 8, 700, LISTED, { 700, 300, 650 }, NARROW),
    CASE("bad_requests_score_minus_infinity", 9, 8, 200, RAGGED, { 0 }, BAD_REQUEST),
    CASE("all_scores_equal", 3, 8, 300, RAGGED, { 0 }, ANY, EQUAL),
    CASE("queries_of_zero", 3, 8, 300, RAGGED, { 0 }, ANY, ZERO),
    CASE("relu_leaves_nothing", 3, 8, 300, RAGGED, { 0 }, ANY, NEGATIVE),
    CASE("nan_in_a_key_stays_in_its_column", 6, 8, 300, RAGGED, { 0 }, ANY, NAN_KEYS,
         .next_n = 2),
    CASE("nan_scale_stays_in_its_column", 6, 8, 300, RAGGED, { 0 }, ANY, NAN_SCALE),
    CASE("nan_in_a_query_stays_in_its_row", 6, 12, 300, RAGGED, { 0 }, ANY, NAN_QUERY,
         .next_n = 3),
    CASE("infinite_weights_and_scales", 6, 8, 300, RAGGED, { 0 }, ANY, INFINITE),
    CASE("strides_past_the_width", 6, 8, 300, RAGGED, { 0 }, SOME_BAD, .gap = 48,
         .page_gap = 1024, .next_n = 2),
    CASE("one_token_a_page", 3, 8, 100, RAGGED, .P = 1, .page_gap = 12),
    CASE("three_tokens_a_page", 3, 8, 100, RAGGED, .P = 3, .page_gap = 4),
    CASE("20_tokens_a_page", 3, 8, 100, RAGGED, .P = 20),
    CASE("256_tokens_a_page", 3, 8, 600, RAGGED, .P = 256),
    CASE("live_is_zero", 3, 8, 100, RAGGED, .live = 100),
    CASE("live_is_negative", 3, 8, 100, RAGGED, .live = 50),
    CASE("live_is_part", 9, 8, 100, RAGGED, .live = 105, .gap = 16),
    CASE("live_cuts_a_step", 12, 8, 100, STEP, .next_n = 4, .live = 106),
    CASE("live_is_past_the_rows", 3, 8, 100, RAGGED, .live = 5000),
    /* Broken twins go through the list in order: what is large stands behind. */
    CASE("lengths_around_four_pages", 3, 8, 260, LISTED, { 255, 256, 257 }),
    CASE("lengths_around_the_choice", 3, 8, 2100, LISTED, { 2047, 2048, 2049 }),
    CASE("lengths_around_a_chunk", 3, 5, 1030, LISTED, { 1023, 1024, 1025 }),
    CASE("lengths_around_8192", 3, 8, 8200, LISTED, { 8191, 8192, 8193 }),
    CASE("16384_columns", 1, 4, 16384, LISTED, { 16384 }),
    CASE("lengths_around_32768", 3, 4, 32800, LISTED, { 32767, 32768, 32769 }),
    CASE("65537_columns", 1, 4, 65537, LISTED, { 65537 }),
    CASE("31_requests", 31, 4, 150, RAGGED),
    CASE("32_requests", 32, 4, 150, RAGGED),
    CASE("33_requests", 33, 4, 150, RAGGED),
    CASE("64_requests", 64, 4, 150, RAGGED),
    CASE("128_requests", 128, 4, 150, RAGGED),
    CASE("1024_requests", 1024, 4, 70, RAGGED),
    SLOW("64_heads_32769_columns", 2, 64, 32769, LISTED, { 32769, 32767 }),
    SLOW("lengths_around_65536", 3, 8, 65600, LISTED, { 65535, 65536, 65537 }),
    SLOW("131072_columns", 2, 8, 131072, STEP, .next_n = 2),
    SLOW("163840_columns_64_heads", 1, 64, 163840, LISTED, { 163839 }),
    SLOW("163840_columns", 2, 16, 163840, LISTED, { 163839, 163840 }),
    SLOW("202752_columns_32_heads", 1, 32, 202752, LISTED, { 202752 }),
    SLOW("1048576_columns", 2, 4, 1048576, LISTED, { 1048575, 1048576 }),
    SLOW("1024_requests_32_heads", 1024, 32, 300, RAGGED),
    SLOW("128_rows_next_n_8_64_heads", 128, 64, 1500, STEP, .next_n = 8),
};
const int ck_index_logits_count = CK_COUNT(ck_index_logits_specs);
