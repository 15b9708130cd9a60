/*
 * The rungs of a ladder: which buckets there are, which one a step takes, what goes when
 * the budget is full, and what is refused.
 */
#include "tests/device/ladder.h"

/* ---- which buckets there are ------------------------------------------------------ */

struct noted
{
    struct rfn_bucket bucket;
    int calls;
    void *scratch;
    int sets;                 /* nodes */
    enum rfn_status status;   /* what it returns */
    const char *line;         /* NULL: it fails without a word */
    struct rfn_ladder *inner; /* is prepared from within */
};

static enum rfn_status note(void *ctx, struct rfn_stream *stream,
                            const struct rfn_bucket *bucket)
{
    struct noted *n = ctx;
    n->bucket = *bucket;
    n->calls++;
    for (int i = 0; i < n->sets; i++)
    {
        enum rfn_status status = rfn_set_async(stream, n->scratch, i, 16);
        if (status != RFN_OK)
            return status;
    }
    if (n->inner && rfn_ladder_prepare(n->inner, 1, 0) == RFN_OK)
        return RFN_OK;
    return n->line ? rfn_error(n->status, "%s", n->line) : n->status;
}

static struct rfn_attention *attention_for(struct test *t, int32_t requests)
{
    const struct rfn_geometry *tiny;
    struct rfn_attention *attention = NULL;
    struct rfn_attention_limits limits = { requests, 2, 64, 1, 0 };
    OK(t, rfn_geometry_find("tiny", &tiny));
    OK(t, rfn_attention_create(t->dev, tiny, &limits, &attention));
    return attention;
}

/* The buckets of a ladder, seen from outside: what each number of requests is captured as. */
static int buckets_are(struct test *t, int32_t limit, const int32_t *bucket, int32_t n)
{
    struct noted noted = { .scratch = test_device_memory(t, 16), .sets = 1 };
    struct rfn_attention *attention = attention_for(t, limit);
    struct rfn_ladder_desc desc = { .record = note, .ctx = &noted };
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_info info = { 0 };
    int right = 1;
    OK(t, rfn_ladder_create(attention, &desc, &ladder));
    for (int32_t requests = 0, b = 0; requests <= limit; requests++)
    {
        if (requests > bucket[b])
            b++;
        noted.bucket.requests = bucket[b];
        right = right && rfn_ladder_prepare(ladder, requests, 0) == RFN_OK &&
                noted.bucket.requests == bucket[b] && noted.calls == b + 1;
    }
    OK(t, rfn_ladder_query(ladder, &info));
    right = right && info.buckets == n && info.graphs == n && info.captures == n;
    REFUSED(t, rfn_ladder_prepare(ladder, limit + 1, 0), RFN_LIMIT, "requests|largest");
    REFUSED(t, rfn_ladder_prepare(ladder, -1, 0), RFN_INVALID, "-1");
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_attention_destroy(&attention));
    FREE(t, noted.scratch);
    return right;
}

static void default_buckets_are_the_documented_ones(struct test *t)
{
    static const int32_t all[] = { 1,   2,   4,   8,   16,  24,  32,  40,  48,  56,
                                   64,  72,  80,  88,  96,  104, 112, 120, 128, 144,
                                   160, 176, 192, 208, 224, 240, 256, 300 };
    static const int32_t cut[] = { 1, 2, 4, 8, 16, 20 };
    HOLDS(t, buckets_are(t, 300, all, 28));
    HOLDS(t, buckets_are(t, 256, all, 27));
    HOLDS(t, buckets_are(t, 128, all, 19));
    HOLDS(t, buckets_are(t, 20, cut, 6));
    HOLDS(t, buckets_are(t, 8, all, 4));
    HOLDS(t, buckets_are(t, 1, all, 1));
}

static void own_buckets_are_checked(struct test *t)
{
    struct rfn_attention *attention = attention_for(t, 20);
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_desc desc = { 0 };
    static const struct
    {
        int32_t bucket[3];
        const char *words;
    } wrong[] = {
        { { 1, 4, 4 }, "bucket 2|4 requests|more than 4" },
        { { 4, 2, 8 }, "bucket 1|2 requests|more than 4" },
        { { 0, 2, 8 }, "bucket 0|0 requests|more than 0" },
        { { -3, 2, 8 }, "bucket 0|-3 requests|more than 0" },
        { { 1, 2, 21 }, "bucket 2|21 requests|limit is 20" },
    };
    desc.buckets = 3;
    REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID, "3 buckets");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    {
        desc.bucket = wrong[i].bucket;
        REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID,
                wrong[i].words);
    }
    desc.bucket = (const int32_t[]) { 3, 20 };
    desc.buckets = 0;
    REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID, "0 buckets");
    desc.buckets = 2;
    desc.next_n = 3;
    REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID,
            "next_n is 3|limit is 2");
    desc.next_n = -1;
    REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID, "next_n is -1");
    desc.next_n = 0;
    desc.memory_bytes = -5;
    REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID, "-5 bytes");
    desc.memory_bytes = 0;
    desc.mode = 3;
    REFUSED(t, rfn_ladder_create(attention, &desc, &ladder), RFN_INVALID, "mode is 3");
    desc.mode = 0;
    REFUSED(t, rfn_ladder_create(NULL, &desc, &ladder), RFN_INVALID, "attention is NULL");
    REFUSED(t, rfn_ladder_create(attention, NULL, &ladder), RFN_INVALID, "desc is NULL");
    REFUSED(t, rfn_ladder_create(attention, &desc, NULL), RFN_INVALID, "ret_ladder");
    HOLDS(t, !ladder);
    OK(t, rfn_ladder_create(attention, &desc, &ladder));
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_ladder_destroy(&ladder)); /* &NULL */
    REFUSED(t, rfn_ladder_destroy(NULL), RFN_INVALID, "NULL");
    OK(t, rfn_attention_destroy(&attention));
}

/* ---- which one a step takes ------------------------------------------------------- */

struct taken
{
    int32_t requests;
    int32_t short_context;
};

static int takes(struct world *w, struct rfn_ladder *ladder, struct rfn_stream *stream,
                 int32_t requests, enum length length, struct taken want)
{
    struct plan p;
    struct rfn_replay_info info = { 0 };
    plan_make(w, &p, requests, length, w->limits.next_n);
    OK(w->t, rfn_ladder_replay(ladder, stream, &p.step, &info));
    OK(w->t, rfn_stream_sync(stream));
    return info.bucket.requests == want.requests &&
           info.bucket.short_context == want.short_context &&
           info.bucket.next_n == w->limits.next_n && info.rows == p.rows &&
           info.padded == want.requests * w->limits.next_n - p.rows;
}

static void steps_take_the_smallest_graph_that_fits(struct world *w)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL); /* 1, 2, 4, 8, 12 */
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct plan p;
    plan_make(w, &p, 3, LONG, 1);
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_NOT_READY,
            "3 requests of long|captured: none");
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    OK(t, rfn_ladder_prepare(ladder, 5, 0));
    OK(t, rfn_ladder_prepare(ladder, 12, 1));
    REFUSED(t, rfn_ladder_replay(ladder, NULL, &p.step, NULL), RFN_INVALID, "NULL");
    REFUSED(t, rfn_ladder_replay(ladder, stream, NULL, NULL), RFN_INVALID, "step");
    REFUSED(t, rfn_ladder_replay(NULL, stream, &p.step, NULL), RFN_INVALID, "ladder");

    HOLDS(t, takes(w, ladder, stream, 1, LONG, (struct taken) { 2, 0 }));
    HOLDS(t, takes(w, ladder, stream, 2, LONG, (struct taken) { 2, 0 }));
    HOLDS(t, takes(w, ladder, stream, 3, LONG, (struct taken) { 8, 0 }));
    HOLDS(t, takes(w, ladder, stream, 8, LONG, (struct taken) { 8, 0 }));
    HOLDS(t, takes(w, ladder, stream, 1, SHORT, (struct taken) { 12, 1 }));
    HOLDS(t, takes(w, ladder, stream, 12, SHORT, (struct taken) { 12, 1 }));
    /* A long step never takes a short graph. */
    plan_make(w, &p, 9, LONG, 1);
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_NOT_READY,
            "9 requests of long|captured: 2, 8, 12 short");
    OK(t, rfn_ladder_prepare(ladder, 1, 1));
    HOLDS(t, takes(w, ladder, stream, 1, SHORT, (struct taken) { 1, 1 }));
    HOLDS(t, takes(w, ladder, stream, 1, LONG, (struct taken) { 2, 0 }));
    HOLDS(t, info_of(w, ladder).replays == 8 && info_of(w, ladder).graphs == 4);
    OK(t, rfn_ladder_destroy(&ladder));

    /* A short step takes a long graph where no short one fits. */
    ladder = ladder_of(w, NULL);
    OK(t, rfn_ladder_prepare(ladder, 4, 0));
    OK(t, rfn_ladder_prepare(ladder, 2, 1));
    HOLDS(t, takes(w, ladder, stream, 2, SHORT, (struct taken) { 2, 1 }));
    HOLDS(t, takes(w, ladder, stream, 3, SHORT, (struct taken) { 4, 0 }));
    OK(t, rfn_ladder_destroy(&ladder));

    /* Past what the ladder could ever have. */
    struct rfn_ladder_desc desc = { .bucket = (const int32_t[]) { 3, 5 },
                                    .buckets = 2,
                                    .next_n = 1 };
    ladder = ladder_of(w, &desc);
    OK(t, rfn_ladder_prepare(ladder, 5, 0));
    plan_make(w, &p, 6, LONG, 1);
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_LIMIT,
            "6 requests|largest bucket is 5");
    plan_make(w, &p, 2, LONG, 1);
    p.q_lens[1] = 2;
    p.lens[1] = 100;
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_LIMIT,
            "2 query tokens|room for 1");
    p.q_lens[1] = 0;
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_INVALID,
            "request 1");
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

static void an_idle_rank_takes_the_smallest_graph_and_writes_nothing(struct world *w)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    OK(t, rfn_ladder_prepare(ladder, 12, 1));
    HOLDS(t, takes(w, ladder, stream, 0, SHORT, (struct taken) { 12, 1 }));
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    world_reset(w);
    unsigned char *before = snapshot(w);
    HOLDS(t, takes(w, ladder, stream, 0, SHORT, (struct taken) { 2, 0 }));
    unsigned char *after = snapshot(w);
    HOLDS(t, memcmp(before, after, (size_t)w->pools_bytes) == 0);
    OK(t, rfn_ladder_prepare(ladder, 2, 1));
    HOLDS(t, takes(w, ladder, stream, 0, SHORT, (struct taken) { 2, 1 }));
    free(before);
    free(after);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

/* ---- the budget ------------------------------------------------------------------- */

static int captured(struct world *w, struct rfn_ladder *ladder, int32_t requests)
{
    int32_t before = info_of(w, ladder).captures;
    OK(w->t, rfn_ladder_prepare(ladder, requests, 0));
    return info_of(w, ladder).captures == before;
}

static void the_least_recently_used_graph_goes(struct world *w)
{
    struct test *t = w->t;
    struct noted noted = { .scratch = test_device_memory(t, 16), .sets = 3 };
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_ladder_desc desc = { .record = note,
                                    .ctx = &noted,
                                    .memory_bytes = 10 * RFN_LADDER_NODE_BYTES };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    OK(t, rfn_ladder_prepare(ladder, 1, 0));
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    OK(t, rfn_ladder_prepare(ladder, 4, 0)); /* 9 of 10 nodes */
    HOLDS(t, info_of(w, ladder).memory_bytes == 9 * RFN_LADDER_NODE_BYTES);
    HOLDS(t, takes(w, ladder, stream, 1, LONG, (struct taken) { 1, 0 }));
    OK(t, rfn_ladder_prepare(ladder, 2, 0)); /* there: no use of it */
    OK(t, rfn_ladder_prepare(ladder, 8, 0)); /* 2 goes */
    struct rfn_ladder_info info = info_of(w, ladder);
    HOLDS(t, info.graphs == 3 && info.captures == 4 && info.evictions == 1);
    HOLDS(t, info.memory_bytes == 9 * RFN_LADDER_NODE_BYTES);
    HOLDS(t, captured(w, ladder, 1) && captured(w, ladder, 4) && captured(w, ladder, 8));
    HOLDS(t, takes(w, ladder, stream, 2, LONG, (struct taken) { 4, 0 }));
    HOLDS(t, !captured(w, ladder, 2)); /* 1 goes: 4 was used, 8 is newer */
    HOLDS(t, captured(w, ladder, 4) && captured(w, ladder, 8) && captured(w, ladder, 2));
    /* A large one takes two places. */
    noted.sets = 7;
    OK(t, rfn_ladder_prepare(ladder, 12, 1));
    info = info_of(w, ladder);
    HOLDS(t, info.graphs == 2 && info.evictions == 4);
    HOLDS(t, info.memory_bytes == 10 * RFN_LADDER_NODE_BYTES);
    HOLDS(t, captured(w, ladder, 2)); /* the newest of the three stayed */
    /* One that fits nowhere takes nobody's place. */
    noted.sets = 11;
    REFUSED(t, rfn_ladder_prepare(ladder, 1, 0), RFN_LIMIT,
            "bucket 1x2 alone|26752|24320");
    struct rfn_ladder_info after = info_of(w, ladder);
    HOLDS(t, memcmp(&info, &after, sizeof info) == 0);
    OK(t, rfn_ladder_destroy(&ladder));
    FREE(t, noted.scratch);
    OK(t, rfn_stream_destroy(&stream));
}

/* ---- what is refused -------------------------------------------------------------- */

static void its_graphs_are_destroyed_by_the_ladder_alone(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_ladder *ladder = ladder_of(w, &(struct rfn_ladder_desc) { 0 });
    struct rfn_step idle = { 0 };
    OK(t, rfn_ladder_prepare(ladder, 1, 0));
    struct rfn_exec *exec = rfn_ladder_exec(ladder, 0, NULL);
    REFUSED(t, rfn_exec_destroy(&exec), RFN_BUSY, "ladder");
    HOLDS(t, exec && exec == rfn_ladder_exec(ladder, 0, NULL));
    OK(t, rfn_ladder_replay(ladder, s, &idle, NULL));
    OK(t, rfn_ladder_destroy(&ladder));
    REFUSED(t, rfn_exec_destroy(&exec), RFN_INVALID, "destroyed");
    OK(t, rfn_stream_destroy(&s));
}

static void nothing_happens_inside_a_capture(struct world *w)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL), *other = NULL;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *beside = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_capture_info capture = { 0 };
    struct rfn_graph *graph = NULL;
    struct plan p;
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    HOLDS(t, takes(w, ladder, beside, 2, LONG, (struct taken) { 2, 0 }));
    plan_make(w, &p, 2, LONG, 1);
    OK(t, rfn_capture_begin(stream, &(struct rfn_capture_desc) { .name = "outer" }));
    REFUSED(t, rfn_ladder_prepare(ladder, 4, 0), RFN_CAPTURE, "ladder_prepare|outer");
    REFUSED(t, rfn_ladder_prepare(ladder, 2, 0), RFN_CAPTURE, "outer");
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_CAPTURE,
            "ladder_replay|outer");
    REFUSED(t, rfn_ladder_destroy(&ladder), RFN_CAPTURE, "ladder_destroy|outer");
    REFUSED(t, rfn_ladder_create(w->attention, &(struct rfn_ladder_desc) { 0 }, &other),
            RFN_CAPTURE, "ladder_create|outer");
    OK(t, rfn_capture_query(stream, &capture));
    HOLDS(t, capture.status == RFN_CAPTURE_ACTIVE && ladder && !other);
    OK(t, rfn_set_async(stream, w->io[0].out.data, 0, 16));
    OK(t, rfn_capture_end(stream, &graph));
    OK(t, rfn_graph_destroy(&graph));
    HOLDS(t, info_of(w, ladder).captures == 1);
    HOLDS(t, takes(w, ladder, stream, 2, LONG, (struct taken) { 2, 0 }));
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
    OK(t, rfn_stream_destroy(&beside));
}

static int unpinned(struct test *t, const void *address)
{
    struct rfn_memory_info info = { 0 };
    OK(t, rfn_memory_query(t->dev, address, &info));
    return info.pins == 0;
}

static enum rfn_status breaks_its_capture(void *ctx, struct rfn_stream *stream,
                                          const struct rfn_bucket *bucket)
{
    struct noted *n = ctx;
    (void)bucket;
    enum rfn_status status = rfn_set_async(stream, n->scratch, 1, 16);
    if (status == RFN_OK)
        rfn_stream_sync(stream); /* refused, and the capture is invalidated */
    return status;
}

static enum rfn_status ends_its_capture(void *ctx, struct rfn_stream *stream,
                                        const struct rfn_bucket *bucket)
{
    struct rfn_graph *graph = NULL;
    enum rfn_status status = note(ctx, stream, bucket);
    if (status == RFN_OK)
        status = rfn_capture_end(stream, &graph);
    return status == RFN_OK ? rfn_graph_destroy(&graph) : status;
}

#define EVENTS 20000 /* more than there is room for */

struct crowd
{
    struct noted noted;
    struct test *t;
    struct rfn_event *event[EVENTS];
};

/* Leaves no room for the graph that the capture is to become. */
static enum rfn_status fills_the_table(void *ctx, struct rfn_stream *stream,
                                       const struct rfn_bucket *bucket)
{
    struct crowd *crowd = ctx;
    enum rfn_status status = note(&crowd->noted, stream, bucket), created = RFN_OK;
    for (int i = 0; i < EVENTS && created == RFN_OK; i++)
        created = rfn_event_create(crowd->t->dev, &crowd->event[i]);
    return status;
}

static void a_failing_record_callback_leaves_nothing_behind(struct world *w)
{
    struct test *t = w->t;
    struct noted noted = { .scratch = test_device_memory(t, 16), .sets = 2 };
    struct rfn_ladder_desc desc = { .record = note, .ctx = &noted };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    struct rfn_ladder_info info;
    OK(t, rfn_ladder_prepare(ladder, 1, 0));
    noted.status = RFN_IO;
    noted.line = "the disk is on fire";
    REFUSED(t, rfn_ladder_prepare(ladder, 2, 1), RFN_IO, "the disk is on fire");
    HOLDS(t, strcmp(rfn_last_error(), "the disk is on fire") == 0);
    noted.line = NULL;
    REFUSED(t, rfn_ladder_prepare(ladder, 2, 1), RFN_IO, "IO|bucket 2x2 short");
    noted.status = RFN_OK;
    noted.sets = 0;
    REFUSED(t, rfn_ladder_prepare(ladder, 2, 0), RFN_INVALID,
            "nothing was recorded|bucket 2x2");
    noted.sets = 1;
    noted.inner = ladder; /* from within */
    noted.status = RFN_BUSY;
    REFUSED(t, rfn_ladder_prepare(ladder, 2, 0), RFN_BUSY, "capture|bucket 2x2");
    noted.inner = NULL;
    noted.status = RFN_OK;
    info = info_of(w, ladder);
    HOLDS(t, info.graphs == 1 && info.captures == 1);
    OK(t, rfn_ladder_destroy(&ladder));
    HOLDS(t, unpinned(t, noted.scratch));

    desc.record = breaks_its_capture;
    ladder = ladder_of(w, &desc);
    REFUSED(t, rfn_ladder_prepare(ladder, 1, 0), RFN_CAPTURE, "901");
    REFUSED(t, rfn_ladder_prepare(ladder, 1, 0), RFN_CAPTURE, "901");
    HOLDS(t, unpinned(t, noted.scratch));
    OK(t, rfn_ladder_destroy(&ladder));

    desc.record = ends_its_capture;
    ladder = ladder_of(w, &desc);
    REFUSED(t, rfn_ladder_prepare(ladder, 1, 0), RFN_CAPTURE, "401");
    HOLDS(t, info_of(w, ladder).graphs == 0 && unpinned(t, noted.scratch));
    OK(t, rfn_ladder_destroy(&ladder));
    FREE(t, noted.scratch);
}

static void a_capture_that_cannot_be_ended_is_left(struct world *w)
{
    static struct crowd crowd;
    struct test *t = w->t;
    struct rfn_ladder_desc desc = { .record = fills_the_table, .ctx = &crowd };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    crowd.t = t;
    crowd.noted = (struct noted) { .scratch = test_device_memory(t, 16), .sets = 2 };
    for (int turn = 0; turn < 2; turn++)
    {
        REFUSED(t, rfn_ladder_prepare(ladder, 2, 0), RFN_LIMIT, "more than 16384");
        HOLDS(t, unpinned(t, crowd.noted.scratch));
        enum rfn_status status = RFN_OK;
        for (int i = 0; i < EVENTS && status == RFN_OK; i++)
            status = rfn_event_destroy(&crowd.event[i]);
        OK(t, status);
    }
    OK(t, rfn_ladder_destroy(&ladder));
    FREE(t, crowd.noted.scratch);
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "ladder", &argc, argv);
    if (lacks_ops(&t))
        return test_skip(&t, "everything", rfn_last_error());
    default_buckets_are_the_documented_ones(&t);
    own_buckets_are_checked(&t);
    world_open(&w, &t, REQUESTS, 2);
    steps_take_the_smallest_graph_that_fits(&w);
    an_idle_rank_takes_the_smallest_graph_and_writes_nothing(&w);
    if (t.host) /* by its estimate; a driver counts otherwise */
        the_least_recently_used_graph_goes(&w);
    its_graphs_are_destroyed_by_the_ladder_alone(&w);
    nothing_happens_inside_a_capture(&w);
    a_failing_record_callback_leaves_nothing_behind(&w);
    if (t.host) /* a driver has no such limit of its own, and takes its time */
        a_capture_that_cannot_be_ended_is_left(&w);
    world_close(&w);
    return test_end(&t);
}
