/*
 * Random preparing, replaying and evicting against a model that knows only which graphs
 * there are, how large each is and when it was used last, under each schedule. Each graph
 * writes its own mark, so what ran is known too. RFN_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/rng.h"

#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUESTS 24
#define BUCKETS 6
#define NEXT_N 2
#define PAGES 2
#define STEPS 600
#define LINE 16 /* bytes of marks */

static const int32_t bucket_list[BUCKETS] = { 1, 2, 5, 8, 16, 24 };

struct graph
{
    int there;
    int64_t bytes;
    uint64_t used;
};

struct model
{
    struct rfn_device *dev;
    struct rfn_attention *attention;
    struct rfn_ladder *ladder;
    struct rfn_stream *stream[2];
    struct rng rng;
    const struct rfn_geometry *geometry;
    unsigned char *mark; /* device */
    int nodes;           /* that the callback records */
    int fails;
    int in_flight; /* stream of the last replay, -1: nothing to look at */
    int last_mark;
    int step;

    struct graph graph[BUCKETS][2];
    int64_t budget;
    uint64_t clock;
    struct rfn_ladder_info info;
};

static void good(const struct model *m, enum rfn_status status)
{
    if (status != RFN_OK)
        fail_msg("step %d: %s: %s", m->step, rfn_status_name(status), rfn_last_error());
}

static void due(const struct model *m, const char *what, enum rfn_status got,
                enum rfn_status want)
{
    if (got != want)
        fail_msg("step %d: %s: %s where %s is due: %s", m->step, what,
                 rfn_status_name(got), rfn_status_name(want), rfn_last_error());
}

static int pick(struct model *m, int n)
{
    return (int)rng_below(&m->rng, n);
}

static int mark_of(int32_t requests, int32_t short_context)
{
    return 2 * requests + short_context + 1;
}

static enum rfn_status record(void *ctx, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    struct model *m = ctx;
    enum rfn_status status = rfn_attention_update(m->attention, stream, bucket);
    for (int i = 1; i < m->nodes && status == RFN_OK; i++)
        status = rfn_set_async(stream, m->mark,
                               mark_of(bucket->requests, bucket->short_context), LINE);
    return status == RFN_OK && m->fails ? RFN_IO : status;
}

/* ---- the model -------------------------------------------------------------------- */

static int bucket_for(int32_t requests)
{
    int b = 0;
    while (b < BUCKETS && bucket_list[b] < requests)
        b++;
    return b;
}

static struct graph *oldest(struct model *m)
{
    struct graph *found = NULL;
    for (int b = 0; b < BUCKETS; b++)
        for (int s = 0; s < 2; s++)
        {
            struct graph *g = &m->graph[b][s];
            if (g->there && (!found || g->used < found->used))
                found = g;
        }
    return found;
}

static enum rfn_status model_prepare(struct model *m, int32_t requests, int s)
{
    int b = bucket_for(requests);
    int64_t bytes = m->nodes * (int64_t)RFN_LADDER_NODE_BYTES;
    if (b == BUCKETS)
        return RFN_LIMIT;
    struct graph *g = &m->graph[b][s];
    if (g->there)
        return RFN_OK;
    if (m->fails)
        return RFN_IO;
    if (m->budget && bytes > m->budget)
        return RFN_LIMIT;
    while (m->budget && m->info.memory_bytes + bytes > m->budget)
    {
        struct graph *gone = oldest(m);
        m->info.memory_bytes -= gone->bytes;
        m->info.graphs--;
        m->info.evictions++;
        gone->there = 0;
    }
    *g = (struct graph) { 1, bytes, ++m->clock };
    m->info.memory_bytes += bytes;
    m->info.graphs++;
    m->info.captures++;
    return RFN_OK;
}

/* The index of the graph that a step takes, -1: none. */
static int model_choose(struct model *m, int32_t requests, int is_short)
{
    int best = -1;
    for (int b = BUCKETS - 1; b >= bucket_for(requests); b--)
        for (int s = 0; s < 2; s++)
        {
            if (!m->graph[b][s].there || (s && !is_short && requests))
                continue;
            /* Of the step's class first, then small; idle: small first. */
            if (best < 0 || requests == 0 || s >= best % 2)
                best = 2 * b + s;
        }
    return best;
}

/* ---- steps ------------------------------------------------------------------------ */

static void look(struct model *m)
{
    unsigned char seen[LINE];
    struct rfn_ladder_info info;
    good(m, rfn_ladder_query(m->ladder, &info));
    if (memcmp(&info, &m->info, sizeof info) != 0)
        fail_msg("step %d: %d graphs, %d captures, %d evictions, %lld replays, %lld "
                 "bytes where the model has %d, %d, %d, %lld, %lld",
                 m->step, info.graphs, info.captures, info.evictions,
                 (long long)info.replays, (long long)info.memory_bytes, m->info.graphs,
                 m->info.captures, m->info.evictions, (long long)m->info.replays,
                 (long long)m->info.memory_bytes);
    if (m->in_flight < 0)
        return;
    good(m, rfn_stream_sync(m->stream[m->in_flight]));
    m->in_flight = -1;
    good(m, rfn_copy_sync(m->dev, seen, m->mark, LINE));
    if (seen[0] != m->last_mark || memcmp(seen, seen + 1, LINE - 1) != 0)
        fail_msg("step %d: the graph that ran left %d where %d is due", m->step, seen[0],
                 m->last_mark);
}

static void prepare(struct model *m)
{
    int32_t requests = pick(m, REQUESTS + 3);
    int s = pick(m, 2);
    m->nodes = 2 + pick(m, 4) + (pick(m, 12) == 0) * 30;
    m->fails = pick(m, 10) == 0;
    enum rfn_status want = model_prepare(m, requests, s);
    due(m, "prepare", rfn_ladder_prepare(m->ladder, requests, s), want);
}

static void replay(struct model *m)
{
    int32_t lens[REQUESTS], q_lens[REQUESTS], table[REQUESTS][PAGES], rows = 0;
    int32_t requests = pick(m, 8) ? pick(m, REQUESTS + 1) : 0, is_short = 1;
    int longer = pick(m, 2), stream = pick(m, 2);
    struct rfn_step step = { .requests = requests,
                             .lens = lens,
                             .q_lens = q_lens,
                             .table = table[0],
                             .table_stride = PAGES };
    struct rfn_replay_info info = { 0 };
    for (int32_t b = 0; b < requests; b++)
    {
        q_lens[b] = 1 + pick(m, NEXT_N);
        lens[b] = (int32_t)rng_between(&m->rng, NEXT_N,
                                       longer ? PAGES * m->geometry->page_tokens
                                              : m->geometry->topk);
        is_short = is_short && lens[b] <= m->geometry->topk;
        rows += q_lens[b];
        for (int i = 0; i < PAGES; i++)
            table[b][i] = b * PAGES + i;
    }
    int choice = model_choose(m, requests, is_short);
    enum rfn_status status =
        rfn_ladder_replay(m->ladder, m->stream[stream], &step, &info);
    due(m, "replay", status, choice < 0 ? RFN_NOT_READY : RFN_OK);
    if (choice < 0)
        return;
    int32_t size = bucket_list[choice / 2];
    if (info.bucket.requests != size || info.bucket.short_context != choice % 2 ||
        info.bucket.next_n != NEXT_N || info.rows != rows ||
        info.padded != size * NEXT_N - rows)
        fail_msg("step %d: bucket %dx%d class %d with %d rows and %d padded, where %d "
                 "class %d with %d is due",
                 m->step, info.bucket.requests, info.bucket.next_n,
                 info.bucket.short_context, info.rows, info.padded, size, choice % 2,
                 rows);
    m->graph[choice / 2][choice % 2].used = ++m->clock;
    m->info.replays++;
    m->in_flight = stream;
    m->last_mark = mark_of(size, choice % 2);
}

static void renew(struct model *m)
{
    struct rfn_ladder_desc desc = {
        .bucket = bucket_list, .buckets = BUCKETS, .record = record, .ctx = m
    };
    good(m, rfn_ladder_destroy(&m->ladder));
    if (m->in_flight >= 0) /* it waited */
    {
        unsigned char seen;
        good(m, rfn_copy_sync(m->dev, &seen, m->mark, 1));
        assert_int_equal(seen, m->last_mark);
    }
    m->in_flight = -1;
    m->budget = pick(m, 4) ? (4 + pick(m, 20)) * RFN_LADDER_NODE_BYTES : 0;
    desc.memory_bytes = m->budget;
    good(m, rfn_ladder_create(m->attention, &desc, &m->ladder));
    memset(m->graph, 0, sizeof m->graph);
    m->clock = 0;
    memset(&m->info, 0, sizeof m->info);
    m->info.buckets = BUCKETS;
}

static void agree(enum rfn_host_sched sched, uint64_t seed)
{
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST,
                                    .check = 1,
                                    .sched = sched,
                                    .sched_seed = seed,
                                    .threads = 1,
                                    .reserve_bytes = 1ll << 30 };
    struct rfn_attention_limits limits = { .requests = REQUESTS,
                                           .next_n = NEXT_N,
                                           .pages = REQUESTS * PAGES };
    struct model m = { .rng = rng_of(seed), .in_flight = -1 };
    struct rfn_fault fault;
    printf("RFN_SEED=%llu, schedule %d\n", (unsigned long long)seed, sched);
    good(&m, rfn_device_open(&desc, &m.dev));
    good(&m, rfn_geometry_find("tiny", &m.geometry));
    limits.context = PAGES * m.geometry->page_tokens;
    assert_true(limits.context > m.geometry->topk);
    good(&m, rfn_attention_create(m.dev, m.geometry, &limits, &m.attention));
    good(&m, rfn_memory_alloc(m.dev, RFN_MEMORY_DEVICE, LINE, (void *)&m.mark));
    for (int i = 0; i < 2; i++)
        good(&m, rfn_stream_create(m.dev, RFN_STREAM_NONBLOCKING, &m.stream[i]));
    renew(&m);
    for (m.step = 0; m.step < STEPS; m.step++)
    {
        int kind = pick(&m, 100);
        if (kind < 35)
            prepare(&m);
        else if (kind < 97)
            replay(&m);
        else
            renew(&m);
        if (pick(&m, 3) == 0)
            look(&m);
    }
    look(&m);
    good(&m, rfn_device_fault(m.dev, &fault));
    assert_null(fault.op);
    good(&m, rfn_ladder_destroy(&m.ladder));
    good(&m, rfn_memory_free(m.dev, m.mark));
    good(&m, rfn_attention_destroy(&m.attention));
    for (int i = 0; i < 2; i++)
        good(&m, rfn_stream_destroy(&m.stream[i]));
    good(&m, rfn_device_close(&m.dev));
}

static void random_steps_agree_with_the_model(void **state)
{
    const char *given = getenv("RFN_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    (void)state;
    agree(RFN_SCHED_FIFO, seed);
    agree(RFN_SCHED_LAZY, seed);
    for (uint64_t i = 0; i < 10; i++)
        agree(RFN_SCHED_RANDOM, seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
