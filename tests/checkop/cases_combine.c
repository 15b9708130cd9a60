/* mla_combine: partials of every kind against doubles, and the parts of one attention against
 * the whole. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/support/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum sums
{
    NORMAL,
    EQUAL,
    EMPTIES, /* every third partial is empty, all of every fifth row */
    ALL_EMPTY,
    ONE_LEFT,  /* all but one are empty, another in each row */
    FAR_APART, /* one outweighs the others by more than f32 holds */
    LARGE,     /* e^lse is past f32, in both directions */
    INFINITE,  /* every third is +inf, all of every fifth row */
    NAN_SUM,   /* in every other row */
    NAN_VALUE, /* likewise, a NaN in a partial that counts, one that weighs nothing, too */
    RISING,    /* the last weighs most */
};

struct param
{
    int N, T, H, V;
    enum rfn_dtype dtype;
    enum sums sums;
    int sink; /* 1: normal; 2: -inf, +inf and huge ones among them */
    int no_lse;
    int empty_positive;
    int gap;  /* elements between rows, heads and partials, a multiple of 8 */
    int live; /* 0: not given; else live = this - 100 */
    int split; /* 1: the partials are those of one sparse_mla; 2: of its second part, too */
    int end;
};

static float log_sum(struct ck_case *c, const struct param *p, int n, int t, int h)
{
    float x = 3.0f * rng_normal(&c->rng), inf = INFINITY;
    float none = p->empty_positive && rng_below(&c->rng, 2) ? inf : -inf;
    int third = (n + t + h) % 3 == 0, row = (t + h) % 5 == 4;
    switch (p->sums)
    {
    case EQUAL:
        return 1.25f;
    case EMPTIES:
        return third || row ? none : x;
    case ALL_EMPTY:
        return none;
    case ONE_LEFT:
        return n == (t + h) % p->N ? x : none;
    case FAR_APART:
        return n == (t + h) % p->N ? 200 + x : n % 2 ? -200 + x : x;
    case LARGE:
        return (t % 2 ? 5000 : -5000) + x;
    case INFINITE:
        return third || row ? inf : x;
    case NAN_SUM:
        return t % 2 && n == h % p->N ? NAN : x;
    case RISING:
        return x / 10 + 4 * n;
    default:
        return x;
    }
}

/* [n, T, H, V] with gaps between heads, rows and parts; heads are 16-byte aligned. */
static struct rfn_tensor parts_of(struct ck_case *c, const struct param *p,
                                  enum rfn_dtype dtype, int64_t n, int fill)
{
    int64_t head = (p->V + 7) / 8 * 8 + p->gap, row = p->H * head + 2 * p->gap;
    int64_t part = p->T * row + 3 * p->gap;
    size_t bytes = (size_t)(n * part * rfn_dtype_bytes(dtype));
    return (struct rfn_tensor) {
        .data = ck_buffer(c, bytes, fill),
        .dtype = dtype,
        .dims = 4,
        .shape = { n, p->T, p->H, p->V },
        .stride = { part, row, head, 1 },
    };
}

static void put(const struct rfn_tensor *x, int64_t at, float value)
{
    if (x->dtype == RFN_F32)
        ((float *)x->data)[at] = value;
    else
        ((uint16_t *)x->data)[at] = ref_bf16_code(value);
}

/* One partial of one head; an empty one stays NaN. */
static void make_part(struct ck_case *c, const struct param *p, int n, int t, int h)
{
    struct rfn_mla_combine_args *a = &c->args.mla_combine;
    float lse = log_sum(c, p, n, t, h);
    ((float *)
         a->lse_part.data)[n * a->lse_part.stride[0] + t * a->lse_part.stride[1] + h] =
        lse;
    if (lse == -INFINITY || (lse == INFINITY && p->empty_positive))
        return;
    int64_t at =
        n * a->out_part.stride[0] + t * a->out_part.stride[1] + h * a->out_part.stride[2];
    for (int v = 0; v < p->V; v++)
        put(&a->out_part, at + v, rng_normal(&c->rng));
    if (p->sums == NAN_VALUE && t % 2 && n == h % p->N)
        put(&a->out_part, at + p->V / 2, NAN);
}

/* ---- the parts of one attention ------------------------------------------------------- */

/* A sparse_mla of whose columns each partial has its share; where row + partial is a multiple
 * of 4, all of them are -1, and so is all of row 2. */
static void make_union(struct ck_case *c, const struct param *p,
                       struct rfn_sparse_mla_args *m)
{
    int K = 37 * p->N, group;
    m->q = ck_tensor(c, RFN_BF16, 0, 0, p->T, p->H, 576);
    for (int64_t i = 0; i < (int64_t)p->T * p->H * 576; i++)
        ((uint16_t *)m->q.data)[i] = ref_bf16_code(0.3f * rng_normal(&c->rng));
    m->source[0].pool = ck_pool(c, RFN_LATENT_FP8_656, 64, 4, 0, GUARD_FLOAT);
    for (int slot = 0; slot < 256; slot++)
    {
        uint16_t row[576];
        for (int d = 0; d < 576; d++)
            row[d] = ref_bf16_code(rng_normal(&c->rng));
        ref_pack_row(&m->source[0].pool, slot, row, row + 512, RFN_SCALE_F32,
                     RFN_FLOOR_DEFAULT, 0, &group);
    }
    m->source[0].indices = ck_tensor(c, RFN_I32, 0, 0, p->T, K, 0);
    for (int t = 0; t < p->T; t++)
        for (int k = 0; k < K; k++)
        {
            int empty = t == 2 || (t + k / 37) % 4 == 0;
            ((int32_t *)m->source[0].indices.data)[t * K + k] =
                empty ? -1 : (int32_t)rng_below(&c->rng, 256);
        }
    m->sink = c->args.mla_combine.sink;
    m->scale = 0.135234f;
    m->empty_lse_positive = p->empty_positive;
}

static void make_parts(struct ck_case *c, const struct param *p,
                       const struct rfn_sparse_mla_args *whole)
{
    const struct rfn_mla_combine_args *a = &c->args.mla_combine;
    const struct rfn_host_env env = { NULL, 1 };
    for (int n = 0; n < p->N; n++)
    {
        struct rfn_sparse_mla_args m = *whole;
        struct rfn_tensor *indices = &m.source[0].indices;
        indices->data = (int32_t *)indices->data + 37 * n;
        indices->shape[1] = 37;
        m.sink.data = NULL;
        m.out = rfn_tensor_of(NULL, RFN_BF16, p->T, p->H, p->V, 0);
        m.out.data = (uint16_t *)a->out_part.data + n * a->out_part.stride[0];
        m.out.stride[0] = a->out_part.stride[1];
        m.out.stride[1] = a->out_part.stride[2];
        m.lse = rfn_tensor_of(NULL, RFN_F32, p->T, p->H, 0, 0);
        m.lse.data = (float *)a->lse_part.data + n * a->lse_part.stride[0];
        m.lse.stride[0] = a->lse_part.stride[1];
        if (rfn_op_check(&rfn_op_sparse_mla, &m) != RFN_OK)
            ck_fail(c, "sparse_mla: %s", rfn_last_error());
        else
            rfn_op_sparse_mla.host(&m, &env);
    }
}

static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    struct rfn_mla_combine_args *a = &c->args.mla_combine;
    int live = p->live ? p->live - 100 : p->T;
    a->out_part = parts_of(c, p, p->dtype, p->N, GUARD_FLOAT);
    a->lse_part =
        ck_tensor(c, RFN_F32, GUARD_FLOAT, p->gap, (int64_t)p->N * p->T, p->H, 0);
    int64_t row = a->lse_part.stride[0];
    a->lse_part = (struct rfn_tensor) {
        a->lse_part.data, RFN_F32, 3, { p->N, p->T, p->H }, { p->T * row, row, 1 }
    };
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    if (p->sink)
    {
        a->sink = ck_tensor(c, RFN_F32, GUARD_FLOAT, 0, p->H, 0, 0);
        for (int h = 0; h < p->H; h++)
        {
            static const float special[] = { -INFINITY, INFINITY, 1e30f, -1e30f };
            float x = 3.0f * rng_normal(&c->rng);
            ((float *)a->sink.data)[h] = p->sink == 2 && h % 5 < 4 ? special[h % 5] : x;
        }
    }
    a->out = parts_of(c, p, RFN_BF16, 1, CK_OUTPUT);
    a->out.dims = 3;
    for (int i = 0; i < 3; i++)
    {
        a->out.shape[i] = a->out.shape[i + 1];
        a->out.stride[i] = a->out.stride[i + 1];
    }
    if (!p->no_lse)
        a->lse = ck_tensor(c, RFN_F32, CK_OUTPUT, p->gap ? 5 : 0, p->T, p->H, 0);
    a->empty_lse_positive = p->empty_positive;
    if (p->split)
    {
        /* The last buffer: where verify finds the whole. */
        struct rfn_sparse_mla_args whole = { .scale = 0 };
        make_union(c, p, &whole);
        make_parts(c, p, &whole);
        memcpy(ck_buffer(c, sizeof whole, 0), &whole, sizeof whole);
        return;
    }
    for (int n = 0; n < p->N; n++)
        for (int t = 0; t < p->T && t < live; t++)
            for (int h = 0; h < p->H; h++)
                make_part(c, p, n, t, h);
}

/* ---- verifying ------------------------------------------------------------------------- */

struct head
{
    int64_t t, h;
    const double *o;
    double lse;
    double lse_most;     /* absolute, beside 2 ulp */
    double rounded_most; /* relative L2 to the reference rounded to bf16 */
};

static int verify_head(struct ck_case *c, const struct head *right)
{
    const double tolerance = rfn_op_mla_combine.tolerance;
    const struct rfn_mla_combine_args *a = &c->args.mla_combine;
    int64_t V = a->out.shape[2];
    const uint16_t *out = (uint16_t *)a->out.data + right->t * a->out.stride[0] +
                          right->h * a->out.stride[1];
    struct compare plain = { 0 }, rounded = { 0 }, log = { 0 };
    for (int64_t v = 0; v < V; v++)
    {
        compare_add(&plain, ref_bf16_value(out[v]), right->o[v]);
        compare_add(&rounded, ref_bf16_value(out[v]),
                    ref_bf16_value(ref_bf16_code(right->o[v])));
    }
    if (a->lse.data)
        compare_add(&log, ((float *)a->lse.data)[right->t * a->lse.stride[0] + right->h],
                    right->lse);
    double l2 = compare_l2(&plain), l2_rounded = compare_l2(&rounded);
    struct ck_numbers *n = &c->numbers;
    n->l2 = l2 > n->l2 ? l2 : n->l2;
    n->l2_rounded = l2_rounded > n->l2_rounded ? l2_rounded : n->l2_rounded;
    n->lse = log.max_difference > n->lse ? log.max_difference : n->lse;
    long long t = (long long)right->t, h = (long long)right->h;
    if (plain.mask_errors)
        return ck_fail(c, "out[%lld][%lld]: NaN or inf differ at %lld places, first %lld",
                       t, h, (long long)plain.mask_errors,
                       (long long)plain.first_mask_error);
    if (log.mask_errors)
        return ck_fail(c, "lse[%lld][%lld]: NaN or inf differ, right is %g", t, h,
                       right->lse);
    if (!(l2 <= tolerance))
        return ck_fail(c, "out[%lld][%lld]: relative L2 %.2e, but %.2e is the most", t, h,
                       l2, tolerance);
    /* Products with one factor may all be rounded badly; few of them differ from what the
     * right ones are rounded to. */
    if (!(l2_rounded <= right->rounded_most))
        return ck_fail(c,
                       "out[%lld][%lld]: relative L2 %.2e to the rounded reference, but "
                       "%.2e is the most",
                       t, h, l2_rounded, right->rounded_most);
    double most =
        right->lse_most + (isfinite(right->lse) ? 0x1p-22 * fabs(right->lse) : 0);
    return log.max_difference <= most ||
           ck_fail(c, "lse[%lld][%lld]: off by %.2e, but %.2e is the most", t, h,
                   log.max_difference, most);
}

/* A single partial, not empty, comes out as it went in. */
static int verify_alone(struct ck_case *c, int64_t t, int64_t h)
{
    const struct rfn_mla_combine_args *a = &c->args.mla_combine;
    const uint16_t *in = (uint16_t *)a->out_part.data + t * a->out_part.stride[1] +
                         h * a->out_part.stride[2];
    const uint16_t *out =
        (uint16_t *)a->out.data + t * a->out.stride[0] + h * a->out.stride[1];
    const float *lse_in = (float *)a->lse_part.data + t * a->lse_part.stride[1] + h;
    if (a->out_part.shape[0] != 1 || a->out_part.dtype != RFN_BF16 || a->sink.data ||
        !isfinite(*lse_in))
        return 1;
    if (memcmp(in, out, (size_t)a->out.shape[2] * sizeof *in) ||
        (a->lse.data && ((float *)a->lse.data)[t * a->lse.stride[0] + h] != *lse_in))
        return ck_fail(c, "[%lld][%lld]: one partial alone is not what it was",
                       (long long)t, (long long)h);
    return 1;
}

/* What was compared counts as kept. */
static void accept(struct ck_case *c, int64_t t, int64_t h)
{
    const struct rfn_mla_combine_args *a = &c->args.mla_combine;
    uint16_t *out = (uint16_t *)a->out.data + t * a->out.stride[0] + h * a->out.stride[1];
    memcpy(ck_kept(c, out), out, (size_t)a->out.shape[2] * sizeof *out);
    if (!a->lse.data)
        return;
    float *lse = (float *)a->lse.data + t * a->lse.stride[0] + h;
    memcpy(ck_kept(c, lse), lse, sizeof *lse);
}

static int verify_parts(struct ck_case *c, const double *o, const double *lse,
                        double lse_most, double rounded_most)
{
    const struct rfn_mla_combine_args *a = &c->args.mla_combine;
    int64_t T = a->out.shape[0], H = a->out.shape[1], V = a->out.shape[2];
    int64_t live = a->live.data ? *(int32_t *)a->live.data : T;
    for (int64_t t = 0; t < T && t < live; t++)
        for (int64_t h = 0; h < H; h++)
        {
            struct head right = {
                t, h, o + (t * H + h) * V, lse[t * H + h], lse_most, rounded_most
            };
            if (!verify_head(c, &right) || !verify_alone(c, t, h))
                return 0;
            accept(c, t, h);
        }
    return 1;
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance;
    const struct rfn_mla_combine_args *a = &c->args.mla_combine;
    const struct rfn_fault none = { 0 };
    size_t heads = (size_t)(a->out.shape[0] * a->out.shape[1]) + 1;
    size_t V = (size_t)a->out.shape[2];
    double *o = calloc(heads * (V + 1), sizeof *o), *lse = o + heads * V;
    ref_mla_combine(a, o, lse);
    int ok = verify_parts(c, o, lse, 1e-5, V < 64 ? 4e-3 : 1.5e-3);
    if (ok && strncmp(c->name, "union", 5) == 0)
    {
        /* Partials are rounded to bf16 once more than the whole. */
        struct rfn_sparse_mla_args whole;
        struct rfn_fault ignored = { 0 };
        memcpy(&whole, c->buffer[c->buffers - 1].data, sizeof whole);
        whole.out = a->out;
        whole.lse = a->lse;
        ref_sparse_mla(&whole, NULL, o, lse, &ignored);
        ok = verify_parts(c, o, lse, 5e-4, 5e-3);
    }
    free(o);
    return ok && ck_all_as_kept(c) && ck_same_fault(c, fault, &none);
}

#define F32 RFN_F32
#define BF16 RFN_BF16
#define CASE(name, ...)                                                                  \
    {                                                                                    \
        &rfn_op_mla_combine, name, 0, build, verify, &(struct param)                     \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }

const struct ck_spec ck_mla_combine_specs[] = {
    CASE("two_f32", 2, 3, 8, 512, F32, NORMAL),
    CASE("two_bf16", 2, 3, 8, 512, BF16, NORMAL),
    CASE("one_f32", 1, 3, 8, 512, F32, NORMAL),
    CASE("one_bf16", 1, 3, 8, 512, BF16, NORMAL),
    CASE("one_bf16_large", 1, 4, 8, 512, BF16, LARGE),
    CASE("none", 0, 3, 8, 512, F32, NORMAL, .sink = 1),
    CASE("no_rows", 2, 0, 8, 512, F32, NORMAL),
    CASE("three_bf16", 3, 3, 16, 512, BF16, NORMAL, .sink = 1),
    CASE("eight_f32", 8, 3, 24, 512, F32, RISING),
    CASE("33_partials", 33, 2, 8, 64, BF16, RISING, .sink = 1),
    CASE("one_head", 4, 31, 1, 512, BF16, NORMAL, .gap = 8),
    CASE("64_heads", 2, 2, 64, 512, F32, NORMAL, .sink = 1),
    CASE("128_heads", 2, 2, 128, 512, BF16, EMPTIES, .sink = 1),
    CASE("8_columns", 3, 5, 8, 8, F32, NORMAL),
    CASE("one_column", 3, 5, 4, 1, F32, NORMAL),
    CASE("7_columns", 3, 5, 4, 7, BF16, EMPTIES, .gap = 8),
    CASE("520_columns", 3, 2, 8, 520, BF16, NORMAL, .sink = 1),
    CASE("1032_columns", 2, 2, 3, 1032, F32, EMPTIES, .gap = 16),
    CASE("equal_sums", 4, 3, 8, 512, F32, EQUAL, .sink = 1),
    CASE("some_are_empty_f32", 3, 11, 8, 512, F32, EMPTIES),
    CASE("some_are_empty_bf16", 4, 11, 8, 512, BF16, EMPTIES, .sink = 2),
    CASE("some_are_empty_positive", 4, 11, 8, 512, BF16, EMPTIES, .empty_positive = 1),
    CASE("all_are_empty", 3, 3, 8, 512, F32, ALL_EMPTY, .sink = 2),
    CASE("all_are_empty_positive", 3, 3, 8, 512, BF16, ALL_EMPTY, .empty_positive = 1,
         .sink = 1),
    CASE("one_is_left", 5, 7, 8, 512, BF16, ONE_LEFT),
    CASE("one_is_left_positive", 5, 7, 8, 512, F32, ONE_LEFT, .empty_positive = 1),
    CASE("far_apart", 4, 5, 8, 512, F32, FAR_APART, .sink = 1),
    CASE("large_sums", 4, 6, 8, 512, BF16, LARGE),
    CASE("large_sums_and_sinks", 4, 6, 10, 512, F32, LARGE, .sink = 2),
    CASE("plus_infinity_is_nan", 3, 6, 8, 512, F32, INFINITE),
    CASE("plus_infinity_is_empty", 3, 6, 8, 512, F32, INFINITE, .empty_positive = 1),
    CASE("nan_sum_is_kept", 3, 6, 8, 512, BF16, NAN_SUM, .sink = 1),
    CASE("nan_value_is_kept", 3, 6, 8, 512, F32, NAN_VALUE),
    CASE("special_sinks", 3, 4, 16, 512, F32, NORMAL, .sink = 2),
    CASE("without_lse", 3, 4, 8, 512, F32, EMPTIES, .no_lse = 1),
    CASE("strided_f32", 3, 5, 8, 512, F32, EMPTIES, .gap = 8, .sink = 1),
    CASE("strided_bf16", 3, 5, 8, 512, BF16, EMPTIES, .gap = 24),
    CASE("live_is_zero", 2, 4, 8, 512, F32, NORMAL, .live = 100),
    CASE("live_is_negative", 2, 4, 8, 512, F32, NORMAL, .live = 50),
    CASE("live_is_part", 2, 6, 8, 512, BF16, EMPTIES, .live = 104, .gap = 8),
    CASE("live_is_past_the_rows", 2, 4, 8, 512, F32, NORMAL, .live = 5000),
    CASE("union_of_1", 1, 5, 8, 512, BF16, NORMAL, .split = 1),
    CASE("union_of_2", 2, 5, 8, 512, BF16, NORMAL, .split = 1),
    CASE("union_of_4_with_sink", 4, 5, 8, 512, BF16, NORMAL, .split = 1, .sink = 1),
    CASE("union_of_7_positive", 7, 5, 8, 512, BF16, NORMAL, .split = 1,
         .empty_positive = 1, .gap = 8),
    CASE("union_of_16", 16, 3, 16, 512, BF16, NORMAL, .split = 1),
    CASE("many_rows", 4, 128, 8, 512, BF16, EMPTIES, .sink = 1),
};
const int ck_mla_combine_count = CK_COUNT(ck_mla_combine_specs);
