/*
 * Captured attention steps, replayed with other lengths, tables and requests than stood
 * there at the capture; steps that hand nothing over because the device advanced the
 * lengths itself; the pinned ring; and who may do what beside a capture.
 */
#include "tests/device/attention.h"

#include <pthread.h>

/* Nodes of a layer: 6 while scores fit at once, else two more a chunk. */
static int launches_of(const struct model *m, const struct rfn_bucket *bucket)
{
    int64_t bytes = m->limits.logits_bytes,
            T = (int64_t)bucket->requests * bucket->next_n;
    int64_t row = bucket->short_context ? K * 4 : S * 4;
    int64_t chunk = bytes ? bytes / (S * 4) * (S * 4) / row : T;
    int64_t chunks = (T + chunk - 1) / chunk;
    return (int)(bucket->short_context ? 3 + chunks : 4 + 2 * chunks);
}

static struct rfn_exec *capture(struct model *m, const struct rfn_bucket *bucket,
                                const char *name)
{
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    struct rfn_exec *exec = NULL;
    struct rfn_capture_desc desc = { RFN_CAPTURE_THREAD_LOCAL, name };
    OK(m->t, rfn_capture_begin(m->s, &desc));
    model_run(m, bucket);
    OK(m->t, rfn_capture_end(m->s, &graph));
    OK(m->t, rfn_graph_query(graph, &info));
    HOLDS(m->t, info.launches == 1 + m->g.layers * launches_of(m, bucket));
    HOLDS(m->t, info.nodes == info.node[RFN_NODE_KERNEL]); /* nothing is copied inside */
    OK(m->t, rfn_graph_instantiate(graph, &exec));
    OK(m->t, rfn_graph_destroy(&graph));
    return exec;
}

static void replay(struct model *m, struct rfn_exec *exec, const struct rfn_step *step,
                   const struct live *l, const char *what)
{
    struct rfn_bucket bucket;
    model_poison(m);
    OK(m->t, rfn_attention_plan(m->a, m->s, step, &bucket));
    OK(m->t, rfn_exec_launch(exec, m->s));
    hand_run(m, l);
    model_agrees(m, what);
}

static void replays_follow_the_plan(struct test *t, struct rng *rng, int32_t next_n,
                                    int64_t logits_bytes)
{
    struct model m;
    model_begin(&m, t, rng, 2, NULL, next_n, logits_bytes);
    struct rfn_bucket bucket = { R_MAX, next_n, 0 };
    struct rfn_exec *long_exec = capture(&m, &bucket, "long");
    bucket.short_context = 1;
    struct rfn_exec *short_exec = capture(&m, &bucket, "short");
    for (int i = 0; i < 8; i++)
    {
        int is_short = i % 3 == 2;
        struct live l = live_random(rng, (int32_t)rng_between(rng, 0, R_MAX),
                                    is_short ? K : S, next_n);
        struct rfn_step step = live_step(&l);
        model_inputs(&m);
        replay(&m, is_short ? short_exec : long_exec, &step, &l,
               is_short ? "short replay" : "long replay");
    }
    OK(t, rfn_exec_destroy(&long_exec));
    OK(t, rfn_exec_destroy(&short_exec));
    model_end(&m);
}

/* Twenty steps with one hand-over in front and one where a request leaves; the flag goes
 * off and on in between, as it does while verifying. */
static void device_advances_lengths(struct test *t, struct rng *rng)
{
    struct model m;
    model_begin(&m, t, rng, 2, NULL, 3, 0);
    struct rfn_exec *exec = capture(&m, &(struct rfn_bucket) { R_MAX, 3, 0 }, "advance");
    struct live l = live_random(rng, 3, K, 3);
    for (int i = 0; i < 20; i++)
    {
        struct rfn_step step = { .requests = l.requests, .unchanged = 1 };
        if (i == 0 || i == 13)
            step = live_step(&l);
        else if (i % 4 == 1) /* saying what the device has is fine */
        {
            step.lens = l.lens;
            step.q_lens = l.q_lens;
        }
        step.advance = i % 5 != 3;
        replay(&m, exec, &step, &l, "advanced by the device");
        for (int b = 0; b < l.requests; b++)
            l.lens[b] += step.advance ? l.q_lens[b] : 0;
        if (i == 12)
            l.requests = 2;
    }
    OK(t, rfn_exec_destroy(&exec));
    model_end(&m);
}

/* ---- rows in parts ----------------------------------------------------------------- */

#define POISON_PAGE (-7) /* where the caller's table must not be read */

struct parts
{
    struct live l;
    int32_t have[R_MAX]; /* entries that were handed over */
    int whole[R_MAX];    /* the number has another request than before */
    int32_t from[R_MAX], to[R_MAX];
    int32_t table[R_MAX * W];
};

static void swap_rows(struct live *l, int32_t a, int32_t b)
{
    for (int32_t i = 0; i < W; i++)
    {
        int32_t page = l->table[a * W + i];
        l->table[a * W + i] = l->table[b * W + i];
        l->table[b * W + i] = page;
    }
}

/* Somebody leaves, and the last one takes that place; somebody comes. */
static void parts_change(struct parts *p, struct rng *rng)
{
    struct live *l = &p->l;
    if (l->requests > 1 && rng_below(rng, 4) == 0)
    {
        int32_t last = --l->requests, b = (int32_t)rng_below(rng, l->requests);
        swap_rows(l, b, last);
        l->lens[b] = l->lens[last];
        l->q_lens[b] = l->q_lens[last];
        p->whole[b] = 1;
    }
    if (l->requests < R_MAX && rng_below(rng, 4) == 0)
    {
        int32_t b = l->requests++;
        l->q_lens[b] = (int32_t)rng_between(rng, 1, 2);
        l->lens[b] = (int32_t)rng_between(rng, l->q_lens[b], 2 * P);
        p->whole[b] = 1;
    }
}

/* What is new of each row; the rest of the table is poison. */
static struct rfn_step parts_step(struct parts *p, struct rng *rng)
{
    struct live *l = &p->l;
    for (int32_t b = 0; b < l->requests; b++)
    {
        int32_t need = (l->lens[b] + P - 1) / P, *row = &l->table[b * W];
        if (p->whole[b])
        {
            p->from[b] = 0;
            p->have[b] = p->to[b] = (int32_t)rng_between(rng, need, W);
        }
        else if (need > p->have[b])
        {
            p->from[b] = p->have[b];
            p->have[b] = p->to[b] = (int32_t)rng_between(rng, need, W);
        }
        else if (rng_below(rng, 5) == 0 && p->have[b] > 2) /* two pages change places */
        {
            int32_t last = p->have[b] - 1, page = row[1];
            row[1] = row[last];
            row[last] = page;
            p->from[b] = 1;
            p->to[b] = last + 1;
        }
        else
            p->from[b] = p->to[b] = (int32_t)rng_below(rng, p->have[b] + 1);
        p->whole[b] = 0;
        for (int32_t i = 0; i < W; i++)
            p->table[b * W + i] = i >= p->from[b] && i < p->to[b] ? row[i] : POISON_PAGE;
    }
    struct rfn_step step = live_step(l);
    step.table = p->table;
    step.new_from = p->from;
    step.new_to = p->to;
    return step;
}

/* Every row within what was handed over: the device may go on by itself. */
static int parts_fit(const struct parts *p)
{
    for (int32_t b = 0; b < p->l.requests; b++)
        if (p->whole[b] || (p->l.lens[b] + P - 1) / P > p->have[b])
            return 0;
    return 1;
}

static void rows_are_handed_over_in_parts(struct test *t, struct rng *rng)
{
    struct model m;
    struct parts p = { 0 };
    int in_parts = 0, alone = 0, advance = 0;
    model_begin(&m, t, rng, 2, NULL, 2, 0);
    struct rfn_exec *exec = capture(&m, &(struct rfn_bucket) { R_MAX, 2, 0 }, "parts");
    p.l = live_random(rng, 3, P, 2);
    for (int i = 0; i < 48; i++)
    {
        struct rfn_step step;
        int32_t before = p.l.requests;
        if (i)
            parts_change(&p, rng);
        for (int32_t b = 0; b < R_MAX; b++)
            p.whole[b] |= i == 0;
        if (i % 11 == 5)
        {
            step = live_step(&p.l);
            for (int32_t b = 0; b < p.l.requests; b++)
            {
                p.have[b] = W;
                p.whole[b] = 0;
            }
        }
        else if (advance && p.l.requests == before && parts_fit(&p) && i % 2)
        {
            step = (struct rfn_step) { .requests = p.l.requests, .unchanged = 1 };
            alone++;
        }
        else
        {
            step = parts_step(&p, rng);
            in_parts++;
        }
        step.advance = advance = rng_below(rng, 3) > 0;
        replay(&m, exec, &step, &p.l, "rows in parts");
        for (int32_t b = 0; b < p.l.requests; b++)
        {
            p.l.lens[b] += step.advance ? p.l.q_lens[b] : 0;
            if (p.l.lens[b] > S - 2)
                p.l.lens[b] = 3, advance = 0; /* not what the device has */
        }
    }
    HOLDS(t, in_parts > 20 && alone > 2);
    OK(t, rfn_exec_destroy(&exec));
    model_end(&m);
}

static void parts_that_do_not_fit_are_refused(struct test *t, struct rng *rng)
{
    struct model m;
    struct rfn_bucket bucket;
    model_begin(&m, t, rng, 1, NULL, 2, 0);
    struct live l = live_random(rng, 3, P, 1);
    int32_t from[] = { 0, 0, 0 }, to[] = { 2, 1, 1 };
    l.requests = 2;
    struct rfn_step step = live_step(&l);
    step.new_from = from;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID, "new_to|both");
    step.new_to = to;
    to[1] = 0; /* nothing is new, and nothing was there */
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 1|0 to 0|0 were handed over");
    to[1] = 1;
    OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    from[0] = 3;
    to[0] = 4;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 0|3 to 4|2 were handed over");
    from[0] = 2;
    to[0] = W + 1;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 0|2 to 9|a row has 8");
    from[0] = 2;
    to[0] = 1;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 0|2 to 1");
    from[0] = to[0] = 2;
    l.lens[0] = 2 * P + 1;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 0|needs 3 pages|has 2");
    to[0] = 3;
    l.table[2] = PAGES;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 0|entry 2|pools have");
    l.table[2] = 1;
    from[1] = to[1] = 1;
    l.requests = step.requests = 3; /* the third one's number is new */
    from[2] = to[2] = 1;
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 2|1 to 1|0 were handed over");
    from[2] = 0;
    OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    model_end(&m);
}

/* "Unchanged" is still checked: limits, pages, and what the caller believes. */
static void unchanged_steps_are_checked(struct test *t, struct rng *rng)
{
    struct model m;
    struct rfn_bucket bucket, untouched = { -7, -7, -7 };
    struct rfn_step_view view;
    model_begin(&m, t, rng, 1, NULL, 2, 0);
    struct rfn_step same = { .requests = 2, .unchanged = 1, .advance = 1 };
    REFUSED(t, rfn_attention_plan(m.a, m.s, &same, &bucket), RFN_INVALID,
            "unchanged|handed over");

    struct live l = live_random(rng, 2, K, 1);
    struct rfn_step step = live_step(&l);
    step.table_stride = 1; /* one page each: the other slots of the ring hold less */
    OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    step.table_stride = W;
    l.lens[0] = 2 * P - 2;
    l.lens[1] = 7;
    l.q_lens[0] = l.q_lens[1] = 1;
    step.advance = 1;
    l.table[W + 1] = -1; /* request 1 has one page, request 0 all */
    OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    model_run(&m, &bucket);
    bucket = untouched;
    REFUSED(t,
            rfn_attention_plan(
                m.a, m.s, &(struct rfn_step) { .requests = 1, .unchanged = 1 }, &bucket),
            RFN_INVALID, "1|2");
    step = same;
    step.lens = l.lens; /* the device is one ahead */
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 0|126|127");
    step = same;
    step.q_lens = (const int32_t[]) { 1, 2 };
    REFUSED(t, rfn_attention_plan(m.a, m.s, &step, &bucket), RFN_INVALID,
            "request 1|2 query|has 1");
    HOLDS(t, bucket.requests == -7);
    for (int len = 8; len <= P; len++) /* request 1 fills its page; request 0 crosses */
    {
        OK(t, rfn_attention_plan(m.a, m.s, &same, &bucket));
        HOLDS(t, bucket.requests == 2 && !bucket.short_context);
        model_run(&m, &bucket);
    }
    REFUSED(t, rfn_attention_plan(m.a, m.s, &same, &bucket), RFN_INVALID,
            "request 1|entry 1|page -1|40");

    /* A table of two columns, and a length at the limit. */
    step = live_step(&l);
    step.requests = 1;
    step.table_stride = 2;
    step.advance = 1;
    same.requests = 1;
    OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    OK(t, rfn_attention_update(m.a, m.s, &bucket));
    OK(t, rfn_attention_plan(m.a, m.s, &same, &bucket));
    OK(t, rfn_attention_update(m.a, m.s, &bucket));
    OK(t, rfn_attention_plan(m.a, m.s, &same, &bucket)); /* 128 */
    OK(t, rfn_attention_update(m.a, m.s, &bucket));
    OK(t, rfn_stream_sync(m.s));
    OK(t, rfn_attention_view(m.a, 0, &view));
    HOLDS(t, same_bytes(t, view.table.data, l.table, 2 * 4));
    HOLDS(t, test_all(t, (int32_t *)view.table.data + 2, (W - 2) * 4, 0xff));
    REFUSED(t, rfn_attention_plan(m.a, m.s, &same, &bucket), RFN_INVALID,
            "request 0|3 pages|has 2");
    step = live_step(&l);
    step.requests = 1;
    step.advance = 1;
    l.lens[0] = S - 1;
    OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    REFUSED(t, rfn_attention_plan(m.a, m.s, &same, &bucket), RFN_INVALID,
            "has not run|512 tokens|with 511");
    OK(t, rfn_attention_update(m.a, m.s, &bucket));
    REFUSED(t, rfn_attention_update(m.a, m.s, &bucket), RFN_INVALID, "a second time");
    OK(t, rfn_attention_plan(m.a, m.s, &same, &bucket));
    OK(t, rfn_attention_update(m.a, m.s, &bucket));
    REFUSED(t, rfn_attention_plan(m.a, m.s, &same, &bucket), RFN_LIMIT,
            "request 0|513|512");
    OK(t, rfn_stream_sync(m.s));
    model_end(&m);
}

#define IN_FLIGHT 8

/* More steps than the ring has slots, none waited for; caller's memory is its own again as
 * soon as plan returns. */
static void steps_queue_up(struct test *t, struct rng *rng)
{
    struct model m;
    char *out[IN_FLIGHT];
    struct live l[IN_FLIGHT];
    struct rfn_device_info device;
    OK(t, rfn_device_query(t->dev, &device));
    int lazy = t->host && device.sched == RFN_SCHED_LAZY;
    model_begin(&m, t, rng, 1, NULL, 2, 0);
    const int64_t bytes = model_bytes(&m.mine.out[0]);
    model_poison(&m);
    for (int i = 0; i < IN_FLIGHT; i++)
    {
        struct rfn_bucket bucket;
        out[i] = test_alloc(t, RFN_MEMORY_PINNED, bytes);
        memset(out[i], POISON, (size_t)bytes);
        l[i] = live_random(rng, R_MAX, S, 2);
        struct live gone = l[i];
        struct rfn_step step = live_step(&gone);
        OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
        memset(&gone, 0xee, sizeof gone);
        model_run(&m, &bucket);
        OK(t, rfn_copy_async(m.s, out[i], m.mine.out[0].data, bytes));
        if (i == 3 && lazy) /* the fourth waits for the first copy and no further */
            HOLDS(t, out[0][0] == POISON &&
                         memcmp(out[0], out[0] + 1, (size_t)bytes - 1) == 0);
    }
    OK(t, rfn_stream_sync(m.s));
    for (int i = 0; i < IN_FLIGHT; i++)
    {
        hand_run(&m, &l[i]);
        harness_check(&t->h, "steps in flight keep apart",
                      same_bytes(t, out[i], m.hand.out[0].data, bytes), "step %d", i);
        OK(t, rfn_memory_free(t->dev, out[i]));
    }
    model_end(&m);
}

static void captures_refuse_what_is_not_of_a_graph(struct test *t, struct rng *rng)
{
    struct model m;
    struct rfn_bucket bucket = { -7, -7, -7 };
    struct rfn_capture_info info;
    struct rfn_graph *graph = NULL;
    struct rfn_attention *other = NULL;
    model_begin(&m, t, rng, 1, NULL, 1, 0);
    struct live l = live_random(rng, 2, S, 1);
    struct rfn_step step = live_step(&l);
    struct rfn_stream *beside = test_stream(t, RFN_STREAM_NONBLOCKING);
    OK(t, rfn_capture_begin(
              m.s, &(struct rfn_capture_desc) { RFN_CAPTURE_RELAXED, "a step" }));
    struct rfn_stream *streams[2] = { m.s, beside };
    for (int i = 0; i < 2; i++)
    {
        REFUSED(t, rfn_attention_plan(m.a, streams[i], &step, &bucket), RFN_CAPTURE,
                "attention_plan|attention_replay.c|a step|begun at");
        HOLDS(t, rfn_last_code() == 900 && bucket.requests == -7);
    }
    OK(t, rfn_region_begin("decode"));
    OK(t, rfn_region_begin("planning"));
    REFUSED(t, rfn_attention_plan(m.a, beside, &step, &bucket), RFN_CAPTURE,
            "attention_plan in region \"decode > planning\" at|a step");
    OK(t, rfn_region_end());
    OK(t, rfn_region_end());
    REFUSED(t, rfn_attention_create(t->dev, &m.g, &m.limits, &other), RFN_CAPTURE,
            "attention_create|a step");
    REFUSED(t, rfn_attention_destroy(&m.a), RFN_CAPTURE, "attention_destroy|a step");
    HOLDS(t, !other && m.a);
    OK(t, rfn_capture_query(m.s, &info));
    HOLDS(t, info.status == RFN_CAPTURE_ACTIVE);
    OK(t, rfn_attention_update(m.a, m.s, &(struct rfn_bucket) { R_MAX, 1, 0 }));
    OK(t, rfn_capture_end(m.s, &graph));

    /* The graph holds the step buffers. */
    REFUSED(t, rfn_attention_destroy(&m.a), RFN_BUSY, "a step");
    HOLDS(t, m.a != NULL);
    OK(t, rfn_attention_plan(m.a, beside, &step, &bucket)); /* it is whole */
    OK(t, rfn_stream_sync(beside));
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_stream_destroy(&beside));
    model_end(&m);
}

struct other_thread
{
    struct test *t;
    struct rfn_stream *s;
    pthread_barrier_t barrier;
    int ended;
};

static void *capture_globally(void *user)
{
    struct other_thread *o = user;
    struct rfn_graph *graph = NULL;
    int begun = rfn_capture_begin(o->s, NULL) == RFN_OK;
    pthread_barrier_wait(&o->barrier);
    pthread_barrier_wait(&o->barrier);
    o->ended = begun && rfn_capture_end(o->s, &graph) == RFN_OK &&
               rfn_graph_destroy(&graph) == RFN_OK;
    return NULL;
}

/* Even the wait for a slot of the full ring leaves another thread's capture alone. */
static void other_threads_capture_while_we_plan(struct test *t, struct rng *rng)
{
    struct model m;
    struct rfn_bucket bucket;
    pthread_t thread;
    model_begin(&m, t, rng, 1, NULL, 1, 0);
    struct other_thread o = { .t = t, .s = test_stream(t, RFN_STREAM_NONBLOCKING) };
    struct live l = live_random(rng, 2, S, 1);
    struct rfn_step step = live_step(&l);
    pthread_barrier_init(&o.barrier, NULL, 2);
    pthread_create(&thread, NULL, capture_globally, &o);
    pthread_barrier_wait(&o.barrier);
    for (int i = 0; i < 7; i++)
        OK(t, rfn_attention_plan(m.a, m.s, &step, &bucket));
    pthread_barrier_wait(&o.barrier);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&o.barrier);
    HOLDS(t, o.ended);
    OK(t, rfn_stream_sync(m.s));
    OK(t, rfn_stream_destroy(&o.s));
    model_end(&m);
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "attention_replay", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    replays_follow_the_plan(&t, &rng, 2, 0);
    replays_follow_the_plan(&t, &rng, 8, 3 * S * 4);
    device_advances_lengths(&t, &rng);
    rows_are_handed_over_in_parts(&t, &rng);
    parts_that_do_not_fit_are_refused(&t, &rng);
    unchanged_steps_are_checked(&t, &rng);
    steps_queue_up(&t, &rng);
    captures_refuse_what_is_not_of_a_graph(&t, &rng);
    other_threads_capture_while_we_plan(&t, &rng);
    return test_end(&t);
}
