/* step_update: ragged rows, padding, tables and advancing. synth_fill: the formula, bit for
 * bit. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- step_update ----------------------------------------------------------------------- */

enum pages
{
    GOOD_PAGES,
    BAD_PAGES,   /* every third is outside the pool */
    FAR_PAGES,   /* the last of a pool whose slots need 64 bits */
    FIRST_PAGES, /* 0: an ordinary page */
};

#define ZERO (-1000000) /* a length or query length of 0; 0 itself ends a list */
#define LIST 20

enum record
{
    NO_RECORDS,
    OF_THIS_TURN, /* it says everything; what the device has is garbage */
    TABLES_ONLY,  /* lengths stay as the device has them */
    FAR_CHANGES,  /* some lie outside the table */
    OF_ANOTHER,   /* of the turn before or behind, in this one's place */
};

struct step_param
{
    int R, next_n;
    int32_t lens[LIST];   /* repeated over the requests; none: random */
    int32_t q_lens[LIST]; /* likewise; none: random 0 .. next_n */
    int P;                /* 0: 64 */
    int W;                /* 0: as the longest needs; < 0: none */
    enum pages pages;
    int gap;
    int requests; /* 0: R; else this - 100 */
    int advance;  /* 0: not given; 1: 0; 2: 1; 3: -5 */
    int rejected; /* 0: not given; 1: 0 .. q_lens; 2: also negative, and past the length */
    int no_bounds; /* 1: the header is not given */
    enum record record;
    int end;
};

static int32_t listed(const int32_t *list, int64_t i, int32_t otherwise)
{
    int n = LIST;
    while (n > 0 && list[n - 1] == 0)
        n--;
    if (n == 0)
        return otherwise;
    return list[i % n] == ZERO ? 0 : list[i % n];
}

static int64_t page_of(struct ck_case *c, const struct step_param *p, int64_t pages,
                       int64_t w)
{
    if (p->pages == FIRST_PAGES)
        return 0;
    if (p->pages == FAR_PAGES)
        return pages - 1 - rng_below(&c->rng, 3);
    if (p->pages == BAD_PAGES && w % 3 == 1)
        return rng_below(&c->rng, 2) ? -1 - rng_below(&c->rng, 3)
                                     : pages + rng_below(&c->rng, 2) * 100000;
    return rng_below(&c->rng, pages);
}

#define RECORDS 4

/* Moves a vector or a table into `kept`, at *at. */
static void move_into(const struct rfn_tensor *kept, int64_t *at, struct rfn_tensor *part)
{
    int64_t rows = part->shape[0],
            elems = part->dims == 2 ? rows * part->stride[0] : rows;
    int32_t *to = (int32_t *)kept->data + *at;
    if (part->data && elems)
        memcpy(to, part->data, (size_t)elems * 4);
    if (part->data)
        part->data = to;
    *at += elems;
}

/* What is live goes from the device's buffers into the record, as far as that says it. */
static void fill_record(struct ck_case *c, const struct step_param *p,
                        struct rfn_step_record *r)
{
    const struct rfn_step_update_args *a = &c->args.step_update;
    int32_t *lens = a->lens.data, *q_lens = a->q_lens.data, *pair = (int32_t *)(r + 1);
    int32_t *requests = a->requests.data, *advance = a->advance.data;
    int64_t live = *requests < 0 ? 0 : *requests < p->R ? *requests : p->R;
    r->turn = *(int64_t *)a->turn.data;
    r->requests = *requests;
    r->lengths = p->record != TABLES_ONLY;
    r->changes = 0;
    *requests = 0x7f7f7f7f;
    if (advance)
    {
        r->advance = *advance;
        *advance = !r->advance;
    }
    for (int64_t b = 0; b < live && r->lengths; b++)
    {
        pair[2 * b] = lens[b];
        pair[2 * b + 1] = q_lens[b];
        lens[b] = q_lens[b] = GUARD_INDEX;
        if (a->rejected.data)
            ((int32_t *)a->rejected.data)[b] = 2;
    }
    for (int64_t b = live - 1; b >= 0; b--)
        for (int64_t w = a->table.shape[1] - 1; w >= 0; w--)
        {
            int32_t *cell = (int32_t *)a->table.data + b * a->table.stride[0] + w;
            if (r->changes == RFN_STEP_CHANGES || rng_below(&c->rng, 3) == 0)
                continue;
            r->change[r->changes++] =
                (struct rfn_step_change) { (int32_t)b, (int32_t)w, *cell, 0 };
            *cell = -7;
        }
    const int32_t W = (int32_t)a->table.shape[1];
    const int32_t far[][2] = { { -2, 0 },        { p->R, 0 }, { 0, -1 },
                               { INT32_MAX, 1 }, { 0, W },    { 1, INT32_MIN } };
    for (size_t i = 0; p->record == FAR_CHANGES && i < CK_COUNT(far); i++)
        r->change[r->changes++] = (struct rfn_step_change) { far[i][0], far[i][1], 5, 0 };
}

static void build_records(struct ck_case *c, const struct step_param *p)
{
    struct rfn_step_update_args *a = &c->args.step_update;
    int64_t C = (int64_t)sizeof(struct rfn_step_record) / 4 + 2 * p->R, at = 2;
    int64_t table = a->table.shape[0] * a->table.stride[0];
    a->kept = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, 3 + p->R + table, 0, 0);
    move_into(&a->kept, &at, &a->q_lens);
    move_into(&a->kept, &at, &a->requests);
    move_into(&a->kept, &at, &a->table);
    at = 0;
    move_into(&a->kept, &at, &a->advance);
    a->records = ck_tensor(c, RFN_I32, GUARD_INDEX, (4 - C % 4) % 4 + 8, RECORDS, C, 0);
    a->turn = ck_tensor(c, RFN_I64, GUARD_INDEX, 0, 2, 0, 0);
    a->taken = ck_tensor(c, RFN_I64, CK_OUTPUT, 0, 1, 0, 0);
    int64_t turn = rng_below(&c->rng, 3) ? rng_below(&c->rng, 1000)
                                         : (INT64_C(5) << 32) + rng_below(&c->rng, 4);
    ((int64_t *)a->turn.data)[0] = turn;
    ((int64_t *)a->turn.data)[1] = 0;
    const int64_t away[] = { RECORDS, -RECORDS, INT64_C(1) << 32 };
    for (int i = 0; i < RECORDS; i++) /* others' are for others */
    {
        int64_t other = turn / RECORDS * RECORDS + i;
        struct rfn_step_record *r =
            (void *)((int32_t *)a->records.data + i * a->records.stride[0]);
        r->turn = other;
        if (other == turn && p->record != OF_ANOTHER)
            fill_record(c, p, r);
        else if (other == turn)
            r->turn += away[p->R > 100 ? 2 : rng_below(&c->rng, 2)];
    }
}

/* Of a live request, only pages that its context reaches stand in the table; all other
 * entries are outside of every pool. Requests behind the live ones stay garbage. */
static void build_step(struct ck_case *c, const void *param)
{
    const struct step_param *p = param;
    struct rfn_step_update_args *a = &c->args.step_update;
    int R = p->R, requests = p->requests ? p->requests - 100 : R, P = p->P ? p->P : 64;
    int64_t T = (int64_t)R * p->next_n, W = 1;
    a->lens = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R, 0, 0);
    a->q_lens = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R, 0, 0);
    for (int b = 0; b < R && b < requests; b++)
    {
        int64_t L = listed(p->lens, b, (int32_t)rng_below(&c->rng, 3000));
        ((int32_t *)a->lens.data)[b] = (int32_t)L;
        ((int32_t *)a->q_lens.data)[b] =
            listed(p->q_lens, b, (int32_t)rng_below(&c->rng, p->next_n + 1));
        W = (L + P - 1) / P > W ? (L + P - 1) / P : W;
    }
    a->table = ck_tensor(c, RFN_I32, GUARD_INDEX, p->gap, R, p->W > 0 ? p->W : W, 0);
    if (p->W < 0)
        a->table.shape[1] = 0;
    W = a->table.shape[1];
    a->pages = p->pages == FAR_PAGES ? INT32_MAX : 4 * W + 100;
    for (int b = 0; b < R && b < requests; b++)
        for (int64_t w = 0; w < W && w * P < ((int32_t *)a->lens.data)[b]; w++)
            ((int32_t *)a->table.data)[b * a->table.stride[0] + w] =
                (int32_t)page_of(c, p, a->pages, w);
    a->requests = ck_live(c, requests);
    if (p->advance)
        a->advance = ck_live(c, p->advance == 3 ? -5 : p->advance - 1);
    if (p->rejected)
        a->rejected = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R, 0, 0);
    for (int b = 0; p->rejected && b < R && b < requests; b++)
    {
        int32_t L = ((int32_t *)a->lens.data)[b];
        int32_t n = (int32_t)rng_below(&c->rng, p->next_n + 1);
        if (p->rejected == 1 && n > L)
            n = L > 0 ? L : 0;
        if (p->rejected == 2 && b % 3 == 0)
            n = b % 2 ? -1 - n : (L > 0 ? L : 0) + n;
        ((int32_t *)a->rejected.data)[b] = n;
    }
    a->request = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, T, 0, 0);
    a->context = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, T, 0, 0);
    a->slots = ck_tensor(c, RFN_I64, CK_OUTPUT, 0, T, 0, 0);
    a->live = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, 1, 0, 0);
    if (!p->no_bounds)
        a->bounds = ck_tensor(c, RFN_I64, CK_OUTPUT, 0, RFN_BOUNDS, 0, 0);
    a->next_n = p->next_n;
    a->page_tokens = P;
    if (p->record)
        build_records(c, p);
}

static int verify_step(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance;
    struct rfn_step_update_args a = c->args.step_update;
    struct rfn_fault right = { 0 };
    a.lens.data = ck_kept(c, a.lens.data);
    if (a.rejected.data)
        a.rejected.data = ck_kept(c, a.rejected.data);
    a.request.data = ck_kept(c, a.request.data);
    a.context.data = ck_kept(c, a.context.data);
    a.slots.data = ck_kept(c, a.slots.data);
    a.live.data = ck_kept(c, a.live.data);
    if (a.bounds.data)
        a.bounds.data = ck_kept(c, a.bounds.data);
    if (a.records.data)
    {
        a.turn.data = ck_kept(c, a.turn.data);
        a.taken.data = ck_kept(c, a.taken.data);
        a.q_lens.data = ck_kept(c, a.q_lens.data);
        a.table.data = ck_kept(c, a.table.data);
        a.requests.data = ck_kept(c, a.requests.data);
        a.advance.data = ck_kept(c, a.advance.data);
    }
    ref_step_update(&a, &right);
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

#define LENS(...) .lens = { __VA_ARGS__ }
#define QUERIES(...) .q_lens = { __VA_ARGS__ }
#define STEP_CASE(name, ...)                                                             \
    {                                                                                    \
        &rfn_op_step_update, name, 0, build_step, verify_step, &(struct step_param)      \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }

const struct ck_spec ck_step_update_specs[] = {
    STEP_CASE("one_request", 1, 1, LENS(100), QUERIES(1)),
    STEP_CASE("no_requests_at_all", 0, 4),
    STEP_CASE("page_edges", 9, 1, LENS(1, 63, 64, 65, 127, 128, 129, 255, 257),
              QUERIES(1), .advance = 2),
    STEP_CASE("zero_lengths", 12, 2, LENS(ZERO, ZERO, 5, ZERO, 70, 1, ZERO),
              QUERIES(1, 2, ZERO), .advance = 2),
    STEP_CASE("all_zero", 5, 3, LENS(ZERO), QUERIES(3), .advance = 2),
    STEP_CASE("all_queries_zero", 5, 3, LENS(100), QUERIES(ZERO), .advance = 2),
    STEP_CASE("negative_lengths", 9, 2, LENS(-1, 100, -2147483647, 7, -64), QUERIES(1, 2),
              .advance = 2),
    STEP_CASE("shorter_than_the_query", 8, 8, LENS(1, 2, 7, 8, 9, 3),
              QUERIES(8, 8, 8, 8, 8, 2), .advance = 2),
    STEP_CASE("queries_out_of_range", 12, 4, LENS(300, 2, 64),
              QUERIES(5, -1, 4, 2147483647, -2147483647, 100, 3), .advance = 2),
    STEP_CASE("queries_across_a_page", 6, 8, LENS(64, 65, 67, 71, 128, 130), QUERIES(8),
              .advance = 2),
    STEP_CASE("ragged_2", 33, 2, .advance = 2),
    STEP_CASE("ragged_3", 31, 3, .advance = 2, .gap = 3),
    STEP_CASE("ragged_4", 32, 4, .gap = 1),
    STEP_CASE("ragged_5", 17, 5, .advance = 2),
    STEP_CASE("ragged_6", 17, 6, .advance = 2),
    STEP_CASE("ragged_7", 17, 7, .advance = 2),
    STEP_CASE("ragged_8", 64, 8, .advance = 2, .gap = 7),
    STEP_CASE("advance_is_zero", 9, 2, .advance = 1),
    STEP_CASE("advance_is_negative", 9, 2, .advance = 3),
    STEP_CASE("advance_not_given", 9, 2),
    STEP_CASE("header_not_given", 9, 2, .no_bounds = 1),
    STEP_CASE("requests_is_zero", 7, 2, .requests = 100, .advance = 2),
    STEP_CASE("requests_is_negative", 7, 2, .requests = 50, .advance = 2),
    STEP_CASE("requests_is_part", 9, 3, .requests = 105, .advance = 2, .gap = 5),
    STEP_CASE("requests_is_all_but_one", 9, 2, .requests = 108, .advance = 2),
    STEP_CASE("requests_past_the_rows", 7, 2, .requests = 5000, .advance = 2),
    STEP_CASE("bad_pages", 16, 4, LENS(300, 70, 100, 64, 128), .pages = BAD_PAGES,
              .advance = 2),
    STEP_CASE("page_0_is_ordinary", 6, 2, .pages = FIRST_PAGES),
    STEP_CASE("slots_past_i32", 6, 2, .pages = FAR_PAGES),
    STEP_CASE("one_token_a_page", 6, 3, LENS(1, 2, 3, 100, 99), .P = 1, .advance = 2),
    STEP_CASE("odd_page", 6, 3, LENS(6, 7, 8, 100, 49), .P = 7, .advance = 2),
    STEP_CASE("big_page", 6, 3, LENS(600, 512, 513, 1024, 49), .P = 512, .advance = 2),
    STEP_CASE("past_the_table", 8, 4, LENS(256, 257, 258, 259, 2147483647, 10), .W = 4,
              .advance = 2, .gap = 2),
    STEP_CASE("advances_to_the_end_of_the_table", 8, 4,
              LENS(252, 253, 254, 255, 256, 250), QUERIES(1, 2, 3, 4), .W = 4,
              .advance = 2),
    STEP_CASE("no_table", 4, 2, LENS(ZERO, ZERO, 1, 30), .W = -1, .advance = 2),
    STEP_CASE("long", 15, 2,
              LENS(2047, 2048, 2049, 8191, 8192, 8193, 16384, 32767, 32768, 32769, 65535,
                   65536, 65537, 131072, 131073),
              .advance = 2),
    STEP_CASE("longest", 7, 8,
              LENS(163839, 163840, 202752, 1048575, 1048576, ZERO, 1048569), .advance = 2,
              .gap = 1),
    STEP_CASE("rejected_and_advanced", 40, 4, QUERIES(4), .advance = 2, .rejected = 1),
    STEP_CASE("rejected_ragged", 33, 8, .advance = 2, .rejected = 1, .gap = 3),
    STEP_CASE("rejected_and_not_advanced", 33, 4, .advance = 1, .rejected = 1),
    STEP_CASE("rejected_without_advance", 9, 2, .rejected = 1),
    STEP_CASE("rejected_across_a_page", 12, 8, LENS(64, 65, 67, 71, 128, 130), QUERIES(8),
              .advance = 2, .rejected = 1),
    STEP_CASE("rejected_and_dead_requests", 9, 3, .requests = 105, .advance = 2,
              .rejected = 1),
    STEP_CASE("rejected_out_of_range", 36, 4, LENS(300, 2, 64, ZERO, 1, 7, -5),
              .advance = 2, .rejected = 2),
    STEP_CASE("128_requests", 128, 3, .advance = 2),
    STEP_CASE("1024_requests_of_1", 1024, 1, LENS(100, 32, 33, ZERO, 1, 2, 99),
              .requests = 1123, .advance = 2),
    STEP_CASE("1024_requests_of_8", 1024, 8, LENS(100, 32, 33, ZERO, 1, 2, 99, -3),
              .advance = 2, .P = 16),
    STEP_CASE("record", 9, 2, .advance = 2, .rejected = 1, .record = OF_THIS_TURN),
    STEP_CASE("record_without_advance", 7, 3, .record = OF_THIS_TURN, .gap = 3),
    STEP_CASE("record_not_advancing", 7, 3, .advance = 1, .record = OF_THIS_TURN),
    STEP_CASE("record_of_few_requests", 9, 3, .requests = 104, .advance = 2,
              .rejected = 1, .record = OF_THIS_TURN, .gap = 1),
    STEP_CASE("record_of_none", 9, 3, .requests = 100, .advance = 2, .rejected = 1,
              .record = OF_THIS_TURN),
    STEP_CASE("record_of_too_many", 9, 3, .requests = 5000, .advance = 2,
              .record = OF_THIS_TURN),
    STEP_CASE("record_of_odd_lengths", 12, 4, LENS(300, 2, 64, -5, 9000),
              QUERIES(5, -1, 4), .W = 9, .advance = 2, .record = OF_THIS_TURN),
    STEP_CASE("record_of_no_requests_at_all", 0, 4, .record = OF_THIS_TURN),
    STEP_CASE("record_of_tables", 33, 4, .advance = 2, .rejected = 1,
              .record = TABLES_ONLY),
    STEP_CASE("record_of_changes_outside", 6, 2, LENS(100), .W = 3, .advance = 2,
              .record = FAR_CHANGES),
    STEP_CASE("record_of_another_turn", 33, 4, .advance = 2, .rejected = 1,
              .record = OF_ANOTHER),
    STEP_CASE("record_of_200", 200, 3, LENS(500, 800, 64), .advance = 2, .rejected = 1,
              .record = OF_THIS_TURN),
    STEP_CASE("record_of_1024", 1024, 8, LENS(100, 32, 33, ZERO, 1, 2, 99, -3),
              .advance = 2, .P = 16, .requests = 1000, .rejected = 1,
              .record = OF_THIS_TURN),
    STEP_CASE("record_of_another_and_1024", 1024, 8, LENS(100, 32, 33), .advance = 2,
              .P = 16, .record = OF_ANOTHER),
};
const int ck_step_update_count = CK_COUNT(ck_step_update_specs);

/* ---- synth_fill ------------------------------------------------------------------------ */

enum keys
{
    ANY_KEYS,
    COUNTING, /* 0, 1, 2, ... */
    EXTREME,  /* the ends of i64, and around them */
    SAME,     /* every row the same: and so are the rows */
    ONE_EACH, /* single bits */
    KNOWN,    /* those of the known answers */
};

struct synth_param
{
    int T, D;
    enum rfn_dtype dtype;
    enum keys keys;
    float amplitude; /* 0: 1 */
    int64_t salt;
    int gap;
    int live; /* 0: not given; else live = this - 100 */
    int end;
};

/* Computed by a program that shares nothing with this one (Python's integers): the integer
 * at columns 0-4, 7, 575 and 1000. */
static const int known_column[] = { 0, 1, 2, 3, 4, 7, 575, 1000 };
static const struct
{
    int64_t key, salt;
    int value[8];
} known[] = {
    { 0, 0, { 1516, 6700, -25845, 22154, 29067, 17637, 10359, -31732 } },
    { 1, 0, { 9926, 20010, 5367, 470, -25855, 12716, -7861, -19736 } },
    { 0, 1, { -17396, -31417, 24351, 28360, 18186, 27894, 308, 27897 } },
    { -1, -1, { 25286, -20652, -6176, 2094, 13534, -22594, -4728, -30610 } },
    { INT64_MAX, INT64_MIN, { -15751, 1724, -6817, 12895, -5764, 9250, 30366, 16528 } },
    { 0x123456789abcdef,
      42,
      { -11952, -20082, -17331, -14868, 15284, 2743, 607, -17673 } },
};

static int64_t key_of(struct ck_case *c, const struct synth_param *p, int t)
{
    static const int64_t ends[] = { INT64_MAX, INT64_MIN, -1, INT64_MIN + 1, 0 };
    switch (p->keys)
    {
    case COUNTING:
        return t;
    case EXTREME:
        return ends[t % 5];
    case SAME:
        return 77;
    case ONE_EACH:
        return (int64_t)((uint64_t)1 << t % 64);
    case KNOWN:
        for (size_t i = 0; i < CK_COUNT(known); i++)
            if (known[i].salt == p->salt && (t == 0 || known[i].key != 0))
                return known[i].key;
        return 0;
    default:
        return (int64_t)rng_u64(&c->rng);
    }
}

static void build_synth(struct ck_case *c, const void *param)
{
    const struct synth_param *p = param;
    struct rfn_synth_fill_args *a = &c->args.synth_fill;
    int live = p->live ? p->live - 100 : p->T;
    a->out = ck_tensor(c, p->dtype, CK_OUTPUT, p->gap, p->T, p->D ? p->D : 1, 0);
    a->out.shape[1] = p->D;
    a->keys = ck_tensor(c, RFN_I64, GUARD_INDEX, 0, p->T, 0, 0);
    a->live = ck_live(c, p->live ? live : INT32_MIN);
    for (int t = 0; t < p->T && t < live; t++)
        ((int64_t *)a->keys.data)[t] = key_of(c, p, t);
    a->salt = p->salt;
    a->amplitude = p->amplitude > 0 ? p->amplitude : 1.0f;
}

static double element(const struct rfn_tensor *out, int64_t t, int64_t d)
{
    int64_t at = t * out->stride[0] + d;
    return out->dtype == RFN_F32 ? ((float *)out->data)[at]
                                 : ref_bf16_value(((uint16_t *)out->data)[at]);
}

/* The known answers of this salt, where the case has a row with their key. */
static int verify_known(struct ck_case *c)
{
    const struct rfn_synth_fill_args *a = &c->args.synth_fill;
    int met = 0;
    for (size_t i = 0; i < CK_COUNT(known); i++)
        for (int64_t t = 0; t < a->out.shape[0] && known[i].salt == a->salt; t++)
            for (int k = 0; k < 8; k++)
            {
                if (((int64_t *)a->keys.data)[t] != known[i].key)
                    continue;
                double x = element(&a->out, t, known_column[k]) * 32768;
                met++;
                if (x != known[i].value[k])
                    return ck_fail(c, "key %lld, column %d: %g, but %d is known",
                                   (long long)known[i].key, known_column[k], x,
                                   known[i].value[k]);
            }
    return met > 0 || ck_fail(c, "no known answer was compared");
}

/* Mean, variance and neighbours (columns, rows) of what should look random: each average of
 * n terms stays within six of its standard deviations. */
static int verify_random(struct ck_case *c)
{
    const struct rfn_tensor *out = &c->args.synth_fill.out;
    int64_t T = out->shape[0], D = out->shape[1];
    double mean = 0, square = 0, beside = 0, below = 0, n = (double)(T * D);
    for (int64_t t = 0; t < T; t++)
        for (int64_t d = 0; d < D; d++)
        {
            double x = element(out, t, d) * sqrt(3); /* variance 1 */
            mean += x / n;
            square += (x * x - 1) / n;
            beside += x * element(out, t, (d + 1) % D) * sqrt(3) / n;
            below += x * element(out, (t + 1) % T, d) * sqrt(3) / n;
        }
    double most = 6 / sqrt(n);
    if (fabs(mean) > most || fabs(square) > most || fabs(beside) > most ||
        fabs(below) > most)
        return ck_fail(c, "mean %g, variance - 1 %g, neighbours %g and %g: most is %g",
                       mean, square, beside, below, most);
    return 1;
}

static int verify_synth(struct ck_case *c, const struct rfn_fault *fault,
                        double tolerance)
{
    (void)tolerance;
    const struct rfn_fault none = { 0 };
    struct rfn_synth_fill_args a = c->args.synth_fill;
    a.out.data = ck_kept(c, a.out.data);
    ref_synth_fill(&a);
    if (!ck_all_as_kept(c) || !ck_same_fault(c, fault, &none))
        return 0;
    if (strncmp(c->name, "known", 5) == 0)
        return verify_known(c);
    return strncmp(c->name, "random", 6) != 0 || verify_random(c);
}

#define F32 RFN_F32
#define BF16 RFN_BF16
#define SYNTH_CASE(name, ...)                                                            \
    {                                                                                    \
        &rfn_op_synth_fill, name, 0, build_synth, verify_synth, &(struct synth_param)    \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }

const struct ck_spec ck_synth_fill_specs[] = {
    SYNTH_CASE("known_0", 2, 1004, F32, KNOWN),
    SYNTH_CASE("known_1", 1, 1004, F32, KNOWN, .salt = 1),
    SYNTH_CASE("known_minus_1", 1, 1004, F32, KNOWN, .salt = -1),
    SYNTH_CASE("known_ends", 1, 1004, F32, KNOWN, .salt = INT64_MIN),
    SYNTH_CASE("known_42", 1, 1004, F32, KNOWN, .salt = 42),
    SYNTH_CASE("random_in_rows", 64, 1024, F32, COUNTING, .salt = 5),
    SYNTH_CASE("random_in_keys", 4096, 16, F32, COUNTING, .salt = 6),
    SYNTH_CASE("no_rows", 0, 576, BF16, ANY_KEYS),
    SYNTH_CASE("no_columns", 3, 0, BF16, ANY_KEYS, .gap = 7),
    SYNTH_CASE("one_column_bf16", 1, 1, BF16, ANY_KEYS),
    SYNTH_CASE("one_column_f32", 3, 1, F32, ANY_KEYS, .gap = 3),
    SYNTH_CASE("2_columns", 3, 2, BF16, ANY_KEYS, .gap = 6),
    SYNTH_CASE("3_columns", 3, 3, F32, ANY_KEYS, .gap = 1),
    SYNTH_CASE("5_columns", 3, 5, BF16, ANY_KEYS, .gap = 3),
    SYNTH_CASE("63_columns", 3, 63, BF16, ANY_KEYS, .gap = 1),
    SYNTH_CASE("64_columns", 3, 64, BF16, ANY_KEYS),
    SYNTH_CASE("65_columns", 3, 65, F32, ANY_KEYS, .gap = 3),
    SYNTH_CASE("255_columns", 3, 255, F32, ANY_KEYS, .gap = 1),
    SYNTH_CASE("257_columns", 3, 257, BF16, ANY_KEYS, .gap = 7),
    SYNTH_CASE("latent_rows", 33, 576, BF16, COUNTING, .amplitude = 0.37f, .salt = 9),
    SYNTH_CASE("query_rows", 2, 128 * 576, BF16, COUNTING, .amplitude = 3.1f),
    SYNTH_CASE("strided_f32", 9, 128, F32, ANY_KEYS, .amplitude = 1e-3f, .gap = 12),
    SYNTH_CASE("strided_bf16", 9, 128, BF16, ANY_KEYS, .amplitude = 1e6f, .gap = 8),
    SYNTH_CASE("keys_at_the_ends", 10, 64, F32, EXTREME, .salt = INT64_MAX),
    SYNTH_CASE("keys_of_one_bit", 64, 64, BF16, ONE_EACH, .salt = INT64_MIN),
    SYNTH_CASE("one_key", 5, 64, BF16, SAME),
    SYNTH_CASE("wide_salt", 5, 64, F32, COUNTING, .salt = (int64_t)1 << 40),
    SYNTH_CASE("least_amplitude", 5, 256, F32, COUNTING, .amplitude = 0x1p-111f),
    SYNTH_CASE("largest_amplitude", 5, 4096, F32, COUNTING, .amplitude = 0x1.fffffep127f),
    SYNTH_CASE("largest_amplitude_bf16", 5, 65536, BF16, COUNTING,
               .amplitude = 0x1.fffffep127f),
    SYNTH_CASE("live_is_zero", 5, 64, BF16, ANY_KEYS, .live = 100),
    SYNTH_CASE("live_is_negative", 5, 64, F32, ANY_KEYS, .live = 50),
    SYNTH_CASE("live_is_part", 5, 72, BF16, ANY_KEYS, .live = 103, .gap = 8),
    SYNTH_CASE("live_is_past_the_rows", 5, 64, F32, ANY_KEYS, .live = 5000),
    SYNTH_CASE("many_rows", 2048, 256, BF16, ANY_KEYS, .amplitude = 0.02f),
};
const int ck_synth_fill_count = CK_COUNT(ck_synth_fill_specs);
