/*
 * Speculative steps. Ragged rows of draft tokens, of which the device takes back what was
 * rejected; draft steps as launches in a row; and random replays of all kinds against the
 * same step made of single ops: batches that shrink and grow, idle ones, lengths of zero, with
 * poison behind everything that lives in lengths, tables and choices.
 *
 *     speculative [--seed N] [REPLAYS]     of the random ones: 20, on a GPU 1000
 */
#include "tests/device/attention.h"

#include <time.h>

#define NEXT_N 4
#define ZONE 0x7f7f7f7f /* no length, no page, no slot */
#define GRAPHS 6

/* A graph and what it was captured for. */
struct captured
{
    struct rfn_exec *exec;
    struct rfn_bucket bucket;
};

struct rig
{
    struct model m;
    struct rfn_step_view view;
    int32_t *counts; /* device: what the graphs' last node hands to the next update */
    struct captured graph[GRAPHS];
};

/* A step whose last node is where a sampler stands. */
static enum rfn_status record(void *ctx, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    struct rig *r = ctx;
    enum rfn_status status = rfn_attention_update(r->m.a, stream, bucket);
    for (int i = 0; i < r->m.g.layers && status == RFN_OK; i++)
        status = rfn_attention_forward(r->m.a, stream, i, bucket);
    if (status == RFN_OK)
        status = rfn_copy_async(stream, r->view.rejected.data, r->counts,
                                (int64_t)bucket->requests * 4);
    return status;
}

static void rig_begin(struct rig *r, struct test *t, struct rng *rng, int32_t next_n)
{
    model_begin(&r->m, t, rng, 2, NULL, next_n, 0);
    r->counts = model_alloc(&r->m, R_MAX * 4);
    OK(t, rfn_set_sync(t->dev, r->counts, 0, R_MAX * 4));
    OK(t, rfn_device_sync(t->dev));
    OK(t, rfn_attention_view(r->m.a, 0, &r->view));
    for (int i = 0; i < GRAPHS; i++)
    {
        struct captured *c = &r->graph[i];
        struct rfn_graph *graph = NULL;
        c->bucket = (struct rfn_bucket) { 1 << i / 2, next_n, i % 2 };
        OK(t, rfn_capture_begin(r->m.s, NULL));
        OK(t, record(r, r->m.s, &c->bucket));
        OK(t, rfn_capture_end(r->m.s, &graph));
        OK(t, rfn_graph_instantiate(graph, &c->exec));
        OK(t, rfn_graph_destroy(&graph));
    }
}

static void rig_end(struct rig *r)
{
    for (int i = 0; i < GRAPHS; i++)
        OK(r->m.t, rfn_exec_destroy(&r->graph[i].exec));
    model_end(&r->m);
}

static void put(struct rig *r, void *device, const void *host, int64_t bytes)
{
    OK(r->m.t, rfn_copy_sync(r->m.t->dev, device, host, bytes));
    OK(r->m.t, rfn_device_sync(r->m.t->dev));
}

static int is_short(const struct live *l)
{
    int yes = 1;
    for (int32_t b = 0; b < l->requests; b++)
        yes = yes && l->lens[b] <= K;
    return yes;
}

/* Any graph that takes the step, not the smallest. */
static struct captured *graph_for(struct rig *r, const struct live *l)
{
    for (;;)
    {
        struct captured *c = &r->graph[rng_below(r->m.rng, GRAPHS)];
        if (c->bucket.requests >= l->requests &&
            (is_short(l) || !c->bucket.short_context))
            return c;
    }
}

/* ---- red zones ---------------------------------------------------------------------- */

/* The step buffers as they are due: what does not live is poison. */
struct zones
{
    int32_t lens[R_MAX], q_lens[R_MAX], rejected[R_MAX], table[R_MAX * W];
    int32_t room[R_MAX]; /* tokens that a row's good entries hold */
};

static void zones_make(struct rig *r, const struct live *l, struct zones *z)
{
    for (int32_t b = 0; b < R_MAX; b++)
    {
        int live = b < l->requests;
        int32_t pages = live ? (l->lens[b] + 2 * NEXT_N + P - 1) / P : 0;
        pages = pages < W ? pages : W;
        z->room[b] = pages * P;
        z->lens[b] = live ? l->lens[b] : ZONE;
        z->q_lens[b] = live ? l->q_lens[b] : ZONE;
        z->rejected[b] = live ? 0 : ZONE;
        for (int32_t w = 0; w < W; w++)
            z->table[b * W + w] = w < pages ? l->table[b * W + w] : ZONE;
    }
    OK(r->m.t, rfn_stream_sync(r->m.s)); /* the plan has been copied */
    put(r, r->view.lens.data, z->lens, sizeof z->lens);
    put(r, r->view.q_lens.data, z->q_lens, sizeof z->q_lens);
    /* Of those that live, what the last step's graph left is gone by itself. */
    put(r, (int32_t *)r->view.rejected.data + l->requests, z->rejected + l->requests,
        (R_MAX - l->requests) * 4);
    put(r, r->view.table.data, z->table, sizeof z->table);
}

static int holds_poison(struct rig *r, const struct rfn_tensor *x, int64_t first_row)
{
    int64_t row = model_bytes(x) / x->shape[0], n = (x->shape[0] - first_row) * row;
    return n == 0 || test_all(r->m.t, (char *)x->data + first_row * row, n, POISON);
}

/* Of the choice and of a step's rows: all behind `rows` and `bucket` of them. */
static void check_rows(struct rig *r, int64_t rows, int64_t bucket)
{
    HOLDS(r->m.t, holds_poison(r, &r->view.chosen, rows));
    HOLDS(r->m.t, holds_poison(r, &r->view.request, bucket));
    HOLDS(r->m.t, holds_poison(r, &r->view.context, bucket));
    HOLDS(r->m.t, holds_poison(r, &r->view.slots, bucket));
}

static void poison_rows(struct rig *r)
{
    const struct rfn_tensor *x[] = { &r->view.chosen, &r->view.request, &r->view.context,
                                     &r->view.slots };
    for (int i = 0; i < 4; i++)
        OK(r->m.t, rfn_set_async(r->m.s, x[i]->data, POISON, model_bytes(x[i])));
}

static void zones_check(struct rig *r, const struct zones *z, int32_t requests)
{
    struct zones got;
    struct test *t = r->m.t;
    OK(t, rfn_copy_sync(t->dev, got.lens, r->view.lens.data, sizeof got.lens));
    OK(t, rfn_copy_sync(t->dev, got.q_lens, r->view.q_lens.data, sizeof got.q_lens));
    OK(t,
       rfn_copy_sync(t->dev, got.rejected, r->view.rejected.data, sizeof got.rejected));
    OK(t, rfn_copy_sync(t->dev, got.table, r->view.table.data, sizeof got.table));
    HOLDS(t, !memcmp(got.table, z->table, sizeof z->table));
    HOLDS(t, !memcmp(got.q_lens, z->q_lens, sizeof z->q_lens));
    for (int32_t b = requests; b < R_MAX; b++)
        HOLDS(t, got.lens[b] == ZONE && got.rejected[b] == ZONE);
}

/* ---- random replays ------------------------------------------------------------------ */

/* Edges of pages, of top-k, of what a split or a chunk of columns takes. */
static int32_t edge_length(struct rng *rng, int32_t q)
{
    static const int32_t edge[] = { 1, K, P, 2 * P, 3 * P, 192, 256, 384, S };
    int64_t len = edge[rng_below(rng, 9)] + rng_below(rng, 3) - 1;
    len = len < q ? q : len;
    return (int32_t)(len < S ? len : S);
}

/* Somebody new, at other lengths. */
static void fresh(struct rig *r, struct live *l)
{
    struct rng *rng = r->m.rng;
    int32_t most = rng_below(rng, 3) ? S : K;
    int32_t requests = (int32_t)rng_between(rng, rng_below(rng, 3) == 0 ? 0 : 1, R_MAX);
    *l = live_random(rng, requests, most, NEXT_N);
    for (int32_t b = 0; b < l->requests && most == S; b++)
        if (rng_below(rng, 2))
            l->lens[b] = edge_length(rng, l->q_lens[b]);
}

/* What the rejections of this step are, and whether the device can go on by itself: within
 * the good entries of its table. */
static int draw_rejections(struct rig *r, const struct live *l, const struct zones *z,
                           int32_t rejected[R_MAX])
{
    int goes_on = l->requests > 0 || rng_below(r->m.rng, 4) == 0;
    for (int32_t b = 0; b < R_MAX; b++)
    {
        int live = b < l->requests;
        rejected[b] = live ? (int32_t)rng_below(r->m.rng, l->q_lens[b]) : ZONE;
        goes_on = goes_on && (!live || l->lens[b] + l->q_lens[b] <= z->room[b]);
    }
    return goes_on;
}

static void random_replays_equal_eager(struct test *t, struct rng *rng, int replays)
{
    struct rig r;
    struct live l;
    struct zones z;
    int32_t rejected[R_MAX];
    int goes_on = 0, alone = 0, idle = 0, zero = 0, taken = 0;
    rig_begin(&r, t, rng, NEXT_N);
    for (int i = 0; i < replays; i++)
    {
        struct model *m = &r.m;
        struct rfn_step step = { .unchanged = 1, .advance = 1, .rejected = rejected };
        struct rfn_bucket planned;
        int all_zero = 0;
        if (i % 4 == 0)
            model_inputs(m);
        if (goes_on && rng_below(rng, 3))
        {
            for (int32_t b = 0; b < l.requests; b++)
            {
                l.lens[b] += l.q_lens[b] - rejected[b];
                taken += rejected[b] > 0;
            }
            step.requests = l.requests;
            step.lens = rng_below(rng, 2) ? l.lens : NULL;
            alone++;
            OK(t, rfn_attention_plan(m->a, m->s, &step, &planned));
        }
        else
        {
            fresh(&r, &l);
            step = live_step(&l);
            step.advance = 1;
            OK(t, rfn_attention_plan(m->a, m->s, &step, &planned));
            zones_make(&r, &l, &z);
            all_zero = rng_below(rng, 12) == 0;
        }
        goes_on = draw_rejections(&r, &l, &z, rejected) && !all_zero;
        put(&r, r.counts, rejected, sizeof rejected);
        struct captured *graph = graph_for(&r, &l);
        struct live by_hand = l;
        if (all_zero && l.requests) /* rows without a token */
        {
            int32_t lens[R_MAX] = { 0 };
            put(&r, r.view.lens.data, lens, (int64_t)l.requests * 4);
            memset(by_hand.q_lens, 0, sizeof by_hand.q_lens);
            zero++;
        }
        idle += l.requests == 0;
        model_poison(m);
        poison_rows(&r);
        OK(t, rfn_exec_launch(graph->exec, m->s));
        hand_run(m, &by_hand);
        model_agrees(m, "a random replay");
        zones_check(&r, &z, l.requests);
        check_rows(&r, (int64_t)l.requests * NEXT_N,
                   (int64_t)graph->bucket.requests * NEXT_N);
    }
    printf("  %d replays: %d by the device alone, %d rejections, %d idle, %d of zeros\n",
           replays, alone, taken, idle, zero);
    HOLDS(t, replays < 500 ||
                 (alone > replays / 4 && taken > replays / 4 && idle > 10 && zero > 10));
    rig_end(&r);
}

/* ---- rejected tokens ----------------------------------------------------------------- */

/* NaN in the cache rows of the last n tokens of each request, on one side only. */
static void poison_tokens(struct rig *r, const struct live *l, const int32_t *rejected)
{
    const int64_t page_bytes = rfn_format_page_bytes(RFN_LATENT_FP8_656, P);
    const int64_t index_bytes = rfn_format_page_bytes(RFN_INDEX_FP8_132, P);
    for (int32_t b = 0; b < l->requests; b++)
        for (int32_t at = l->lens[b] - rejected[b]; at < l->lens[b]; at++)
            for (int i = 0; i < r->m.g.layers; i++)
            {
                const struct rfn_layer_caches *c = &r->m.mine.caches[i];
                int64_t page = l->table[b * W + at / P], o = at % P;
                char *latent = (char *)c->latent.data + page * page_bytes;
                char *index = (char *)c->index.data + page * index_bytes;
                OK(r->m.t, rfn_set_async(r->m.s, latent + o * 656, 0xff, 656));
                OK(r->m.t, rfn_set_async(r->m.s, index + o * 128, 0xff, 128));
                OK(r->m.t, rfn_set_async(r->m.s, index + P * 128 + o * 4, 0xff, 4));
            }
}

/* One side's rejected rows become NaN behind each step, the other's stay: the bits of all
 * steps are the same, and so are the caches once the next rows lie on them. */
static void rejected_tokens_leave_no_trace(struct test *t, struct rng *rng)
{
    struct rig r;
    struct rfn_bucket planned;
    rig_begin(&r, t, rng, NEXT_N);
    struct live l = live_random(rng, 3, 200, 1);
    int32_t rejected[R_MAX] = { 0 };
    int poisoned = 0;
    for (int32_t b = 0; b < 3; b++)
    {
        l.q_lens[b] = NEXT_N;
        l.lens[b] = l.lens[b] < NEXT_N ? NEXT_N : l.lens[b];
    }
    l.lens[0] = P - 1; /* over the edge of a page, and of top-k */
    for (int i = 0; i < 16; i++)
    {
        struct rfn_step step = { .requests = 3, .unchanged = 1, .rejected = rejected };
        if (i == 0)
            step = live_step(&l);
        step.advance = 1;
        OK(t, rfn_attention_plan(r.m.a, r.m.s, &step, &planned));
        model_inputs(&r.m); /* other drafts than were rejected */
        for (int32_t b = 0; b < 3; b++)
            rejected[b] = (int32_t)rng_below(rng, NEXT_N);
        put(&r, r.counts, rejected, sizeof rejected);
        model_poison(&r.m);
        OK(t, rfn_exec_launch(graph_for(&r, &l)->exec, r.m.s));
        hand_run(&r.m, &l);
        model_agrees(&r.m, "a step behind rejected tokens");
        poison_tokens(&r, &l, rejected);
        for (int32_t b = 0; b < 3; b++)
        {
            poisoned += rejected[b];
            l.lens[b] += l.q_lens[b] - rejected[b];
        }
    }
    HOLDS(t, poisoned > 0);
    rig_end(&r);
}

static void what_the_device_cannot_take_back_is_refused(struct test *t, struct rng *rng)
{
    struct rig r;
    struct rfn_bucket bucket;
    rig_begin(&r, t, rng, NEXT_N);
    struct live l = live_random(rng, 2, K, NEXT_N);
    l.q_lens[0] = l.q_lens[1] = NEXT_N;
    l.lens[0] = S - 2;
    l.lens[1] = NEXT_N;
    struct rfn_step step = live_step(&l), again = { .requests = 2, .unchanged = 1 };
    step.advance = 1;
    OK(t, rfn_attention_plan(r.m.a, r.m.s, &step, &bucket));
    again.rejected = (const int32_t[]) { 0, -1 };
    REFUSED(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket), RFN_LIMIT,
            "request 0|514|512");
    again.rejected = (const int32_t[]) { 3, 0 }; /* it would be 511; the device has 512 */
    REFUSED(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket), RFN_INVALID,
            "request 0|3 tokens rejected of 514|512");
    l.lens[0] = 100;
    OK(t, rfn_attention_plan(r.m.a, r.m.s, &step, &bucket));
    again.rejected = (const int32_t[]) { 0, -1 };
    REFUSED(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket), RFN_INVALID,
            "request 1|-1 tokens are rejected|at least 0");
    again.rejected = (const int32_t[]) { 0, 5 };
    REFUSED(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket), RFN_INVALID,
            "request 1|context of 3|4 query");
    again.rejected = (const int32_t[]) { 1, 4 };
    again.lens = (const int32_t[]) { 104, 4 };
    REFUSED(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket), RFN_INVALID,
            "request 0|104|103");
    again.lens = (const int32_t[]) { 103, 4 };
    REFUSED(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket), RFN_INVALID,
            "has not run|with 103|device with 100");
    OK(t, rfn_exec_launch(graph_for(&r, &l)->exec, r.m.s));
    OK(t, rfn_attention_plan(r.m.a, r.m.s, &again, &bucket));
    rig_end(&r);
}

/* ---- draft steps --------------------------------------------------------------------- */

static struct rfn_ladder *ladder_of(struct rig *r, rfn_record_fn *how)
{
    struct rfn_ladder_desc desc = { .record = how, .ctx = r };
    struct rfn_ladder *ladder = NULL;
    OK(r->m.t, rfn_ladder_create(r->m.a, &desc, &ladder));
    return ladder;
}

static enum rfn_status only_rank(void *ctx, int64_t *values, int32_t count)
{
    return ctx || !values || count < 1 ? RFN_INVALID : RFN_OK;
}

/* One step of the scheduler's, then launches in a row, on another stream: each is a step. */
static void draft_steps_need_no_host(struct test *t, struct rng *rng, int ranks)
{
    struct rig r;
    struct rfn_ladder *ladder = NULL;
    rig_begin(&r, t, rng, 2);
    struct rfn_ladder_desc desc = { .record = record, .ctx = &r };
    desc.reduce = ranks ? only_rank : NULL;
    OK(t, rfn_ladder_create(r.m.a, &desc, &ladder));
    struct rfn_stream *other = test_stream(t, RFN_STREAM_NONBLOCKING);
    OK(t, rfn_ladder_prepare(ladder, 4, 0));
    for (int i = 0; i < 8; i++)
    {
        int32_t n = (int32_t)rng_between(rng, 1, 5);
        struct live l = live_random(rng, (int32_t)rng_between(rng, 0, 3), S - 20, 2);
        struct rfn_replay_info info = { { 0 } };
        if (i == 3) /* from now on there are two classes */
            OK(t, rfn_ladder_prepare(ladder, 4, 1));
        if (ranks && i % 3 == 0)
            OK(t, rfn_ladder_agree(ladder, NULL, NULL, NULL));
        for (int32_t b = 0; b < l.requests && i % 3 == 0; b++)
            l.lens[b] = K - 3 + b; /* over top-k on the way */
        if (i == 6)                /* with the last of them */
        {
            l.requests = l.q_lens[0] = 1;
            l.lens[0] = K - 2;
            n = 3;
        }
        struct rfn_step step = live_step(&l);
        step.advance = 1;
        model_poison(&r.m);
        OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
        OK(t, rfn_stream_sync(r.m.s)); /* of the poison; the rest is the ladder's */
        OK(t, rfn_ladder_again(ladder, i % 2 ? other : r.m.s, n, &info));
        OK(t, rfn_stream_sync(other));
        hand_run(&r.m, &l);
        for (int32_t k = 0; k < n; k++)
        {
            for (int32_t b = 0; b < l.requests; b++)
                l.lens[b] += l.q_lens[b];
            hand_run(&r.m, &l);
        }
        model_agrees(&r.m, "draft steps in a row");
        HOLDS(t, info.bucket.requests == 4 && info.rows >= l.requests);
        HOLDS(t, i < 3 || !l.requests || info.bucket.short_context == is_short(&l));
        /* The host has followed: this is what the device has. */
        for (int32_t b = 0; b < l.requests; b++)
            l.lens[b] += l.q_lens[b];
        step = live_step(&l);
        step.unchanged = step.advance = 1;
        model_poison(&r.m);
        OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
        hand_run(&r.m, &l);
        model_agrees(&r.m, "a step behind draft steps");
    }
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&other));
    rig_end(&r);
}

static void overshoot_is_checked_in_front(struct test *t, struct rng *rng)
{
    struct rig r;
    struct rfn_ladder_info before, after;
    rig_begin(&r, t, rng, 2);
    struct rfn_ladder *ladder = ladder_of(&r, record);
    struct live l = live_random(rng, 2, K, 1);
    struct rfn_step step = live_step(&l);
    REFUSED(t, rfn_ladder_again(NULL, r.m.s, 1, NULL), RFN_INVALID, "ladder is NULL");
    REFUSED(t, rfn_ladder_again(ladder, NULL, 1, NULL), RFN_INVALID, "stream");
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 1, NULL), RFN_INVALID, "handed over");
    OK(t, rfn_ladder_prepare(ladder, 2, 1));
    OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 1, NULL), RFN_INVALID, "advance = 0");
    step.advance = 1;
    l.lens[0] = K - 5;
    l.lens[1] = 1;
    OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
    OK(t, rfn_ladder_query(ladder, &before));
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 0, NULL), RFN_INVALID, "0 replays|1");
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, -1, NULL), RFN_INVALID, "-1 replays");
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 6, NULL), RFN_NOT_READY,
            "2 requests of long|captured: 2 short");
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, INT32_MAX, NULL), RFN_LIMIT, "512");
    OK(t, rfn_ladder_again(ladder, r.m.s, 5, NULL));
    OK(t, rfn_ladder_prepare(ladder, 2, 0));

    /* A table of two pages, one of them no page. */
    step.table_stride = 2;
    l.table[2] = l.table[3] = 5; /* of request 1 */
    l.lens[0] = 2 * P - 3;
    OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 4, NULL), RFN_INVALID,
            "request 0|needs 3 pages|has 2");
    OK(t, rfn_ladder_again(ladder, r.m.s, 3, NULL));
    l.lens[0] = 7;
    l.lens[1] = P - 2;
    l.table[3] = PAGES;
    OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 3, NULL), RFN_INVALID,
            "request 1|entry 1|page 40|have 40");
    OK(t, rfn_ladder_again(ladder, r.m.s, 2, NULL));
    l.table[3] = 5;
    step.table_stride = W;
    l.lens[1] = S - 2;
    OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
    REFUSED(t, rfn_ladder_again(ladder, r.m.s, 3, NULL), RFN_LIMIT, "request 1|513|512");
    OK(t, rfn_ladder_again(ladder, r.m.s, 2, NULL));
    OK(t, rfn_ladder_query(ladder, &after));
    HOLDS(t, after.replays == before.replays + 5 + 1 + 3 + 1 + 2 + 1 + 2);
    OK(t, rfn_stream_sync(r.m.s));
    OK(t, rfn_ladder_destroy(&ladder));
    rig_end(&r);
}

/* ---- the host's work ----------------------------------------------------------------- */

#define CALLS 64

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What goes before the layers and behind them: their time is none of the host's, and what
 * they leave of its caches is. */
static enum rfn_status record_ends(void *ctx, struct rfn_stream *stream,
                                   const struct rfn_bucket *bucket)
{
    struct rig *r = ctx;
    enum rfn_status status = rfn_attention_update(r->m.a, stream, bucket);
    return status ? status
                  : rfn_copy_async(stream, r->view.rejected.data, r->counts,
                                   (int64_t)bucket->requests * 4);
}

/* Median time of a replay's call, of four requests that make next_n tokens a step; with
 * `taken` all but one of them are taken back. */
static double call_us(struct test *t, struct rng *rng, int32_t next_n, int taken)
{
    struct rig r;
    double us[CALLS];
    rig_begin(&r, t, rng, next_n);
    struct rfn_ladder *ladder = ladder_of(&r, record_ends);
    struct live l = live_random(rng, R_MAX, K, 1);
    int32_t rejected[R_MAX];
    struct rfn_step step = live_step(&l);
    OK(t, rfn_ladder_prepare(ladder, R_MAX, 0));
    for (int32_t b = 0; b < R_MAX; b++)
    {
        l.q_lens[b] = next_n;
        l.lens[b] = K + 1;
        rejected[b] = taken ? next_n - 1 : 0;
    }
    put(&r, r.counts, rejected, sizeof rejected);
    for (int i = 0; i < CALLS; i++)
    {
        step.advance = 1;
        double begin = now_us();
        OK(t, rfn_ladder_replay(ladder, r.m.s, &step, NULL));
        us[i] = now_us() - begin;
        OK(t, rfn_stream_sync(r.m.s));
        step = (struct rfn_step) { .requests = R_MAX,
                                   .unchanged = 1,
                                   .rejected = taken ? rejected : NULL };
    }
    OK(t, rfn_ladder_destroy(&ladder));
    rig_end(&r);
    qsort(us, CALLS, sizeof us[0], compare);
    return us[CALLS / 2];
}

/* Only where a call does not run what it launches. */
static void speculation_is_no_work_for_the_host(struct test *t, struct rng *rng)
{
    struct rfn_device_info info;
    OK(t, rfn_device_query(t->dev, &info));
    if (t->host && info.sched != RFN_SCHED_LAZY)
        return;
    double plain = call_us(t, rng, 1, 0), rows = call_us(t, rng, NEXT_N, 0);
    double speculative = call_us(t, rng, NEXT_N, 1);
    printf("  the call of a replay: plain %.2f us, of %d rows %.2f us, with rejections "
           "%.2f us\n",
           plain, NEXT_N, rows, speculative);
    harness_check(&t->h, "a speculative step is no more work for the host",
                  speculative < 1.5 * plain + 1, "%.2f us, a plain one %.2f us",
                  speculative, plain);
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "speculative", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    rejected_tokens_leave_no_trace(&t, &rng);
    what_the_device_cannot_take_back_is_refused(&t, &rng);
    draft_steps_need_no_host(&t, &rng, 0);
    draft_steps_need_no_host(&t, &rng, 1);
    overshoot_is_checked_in_front(&t, &rng);
    speculation_is_no_work_for_the_host(&t, &rng);
    random_replays_equal_eager(&t, &rng, argc > 1 ? atoi(argv[1]) : t.host ? 20 : 1000);
    return test_end(&t);
}
