/*
 * What a replay computes: the same bits as the step without a graph, whatever the bucket,
 * the stream, and whatever is prepared, evicted or destroyed meanwhile.
 */
#include "tests/device/ladder.h"
#include "tests/device/somebody.h"

#include <pthread.h>

static const struct rfn_bucket whole = { REQUESTS, 3, 0 };

/* ---- bit for bit ------------------------------------------------------------------ */

static void replays_equal_eager_steps(struct world *w, int rounds)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    int used = 0, padded = 0;
    struct plan p;
    for (int i = 0; i < rounds; i++)
    {
        enum length length = rng_below(&w->rng, 2) ? LONG : SHORT;
        int32_t requests = (int32_t)rng_between(&w->rng, 0, REQUESTS);
        struct rfn_replay_info info = { 0 };
        if (i < 2) /* the whole of it; padding in the other class */
        {
            requests = i ? 3 : REQUESTS;
            length = i ? SHORT : LONG;
        }
        plan_make(w, &p, requests, length, 3);
        fill_inputs(w);
        /* Mostly the bucket that fits, now and then a larger one or the other class. */
        if (i < 2 || rng_below(&w->rng, 3) || !requests)
            OK(t, rfn_ladder_prepare(ladder, requests, length == SHORT));
        else
            OK(t, rfn_ladder_prepare(ladder, REQUESTS, 0));

        world_reset(w);
        OK(t, rfn_ladder_replay(ladder, stream, &p.step, &info));
        OK(t, rfn_stream_sync(stream));
        unsigned char *replayed = snapshot(w);
        world_reset(w);
        run_eagerly(w, stream, &p, &info.bucket);
        unsigned char *eager = snapshot(w);
        /* In the same bucket the padding is the same too. */
        HOLDS(t, memcmp(replayed, eager,
                        (size_t)(w->pools_bytes + LAYERS * w->out_bytes)) == 0);
        free(eager);
        if (requests)
        {
            struct rfn_bucket exact = { requests, 3, info.bucket.short_context };
            world_reset(w);
            run_eagerly(w, stream, &p, &exact);
            eager = snapshot(w);
            HOLDS(t, snapshots_agree(w, replayed, eager, &p, 3));
            free(eager);
        }
        /* It is not by doing nothing that they agree. */
        HOLDS(t, (requests > 0) ==
                     (memcmp(replayed, w->initial, (size_t)w->pools_bytes) != 0));
        HOLDS(t, info.rows == p.rows);
        used |= 1 << info.bucket.short_context;
        padded += info.padded > 0;
        free(replayed);
    }
    HOLDS(t, rounds < 2 || (used == 3 && padded > 0));
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

/* Steps that the device carries on with alone: it advances the lengths. */
static void unchanged_steps_equal_eager_ones(struct world *w)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_step again = { .requests = 3, .unchanged = 1, .advance = 1 };
    struct rfn_replay_info info = { 0 };
    struct plan p;
    plan_make(w, &p, 3, LONG, 3);
    for (int b = 0; b < 3; b++) /* over the edge of top-k, and of a page */
        p.lens[b] = w->geometry->topk - 2 + b;
    p.step.advance = 1;
    OK(t, rfn_ladder_prepare(ladder, 4, 0));
    OK(t, rfn_ladder_prepare(ladder, 4, 1));
    world_reset(w);
    OK(t, rfn_ladder_replay(ladder, stream, &p.step, &info));
    HOLDS(t, info.bucket.short_context == 1);
    for (int i = 0; i < 3; i++)
        OK(t, rfn_ladder_replay(ladder, stream, &again, &info));
    HOLDS(t, info.bucket.short_context == 0 && info.rows == p.rows);
    OK(t, rfn_stream_sync(stream));
    unsigned char *replayed = snapshot(w);
    world_reset(w);
    p.step.advance = 0;
    for (int i = 0; i < 4; i++)
    {
        int is_short = 1;
        for (int b = 0; b < 3; b++)
        {
            p.lens[b] += i ? p.q_lens[b] : 0;
            is_short = is_short && p.lens[b] <= w->geometry->topk;
        }
        run_eagerly(w, stream, &p, &(struct rfn_bucket) { 4, 3, is_short });
    }
    unsigned char *eager = snapshot(w);
    HOLDS(t, snapshots_agree(w, replayed, eager, &p, 3));
    free(replayed);
    free(eager);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

/* ---- order ------------------------------------------------------------------------ */

#define TURNS 6

/* Eager steps, one at a time. */
static unsigned char *in_turn(struct world *w, struct plan *p, int turns)
{
    struct rfn_stream *stream = test_stream(w->t, RFN_STREAM_NONBLOCKING);
    world_reset(w);
    for (int i = 0; i < turns; i++)
        run_eagerly(w, stream, &p[i], &whole);
    OK(w->t, rfn_stream_destroy(&stream));
    return snapshot(w);
}

static void plan_turns(struct world *w, struct plan p[TURNS])
{
    for (int i = 0; i < TURNS; i++)
        plan_make(w, &p[i], (int32_t)rng_between(&w->rng, 1, REQUESTS), LONG, 3);
}

/* Nothing but the ladder's own event orders the two. */
static void two_streams_take_turns(struct world *w)
{
    struct test *t = w->t;
    struct plan p[TURNS];
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct rfn_stream *stream[] = { test_stream(t, RFN_STREAM_NONBLOCKING),
                                    test_stream(t, RFN_STREAM_NONBLOCKING) };
    plan_turns(w, p);
    unsigned char *want = in_turn(w, p, TURNS);
    for (int32_t requests = 1; requests <= REQUESTS; requests++)
        OK(t, rfn_ladder_prepare(ladder, requests, 0));
    world_reset(w);
    for (int i = 0; i < TURNS; i++)
        OK(t, rfn_ladder_replay(ladder, stream[i % 2], &p[i].step, NULL));
    OK(t, rfn_stream_sync(stream[(TURNS - 1) % 2]));
    unsigned char *got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[TURNS - 1], 3));
    free(got);

    /* Streams that come and go: the second may get the first one's place. */
    world_reset(w);
    for (int i = 0; i < TURNS; i++)
    {
        struct rfn_stream *fleeting = test_stream(t, RFN_STREAM_NONBLOCKING);
        OK(t, rfn_ladder_replay(ladder, fleeting, &p[i].step, NULL));
        if (i == TURNS - 1)
            OK(t, rfn_stream_sync(fleeting));
        OK(t, rfn_stream_destroy(&fleeting));
    }
    got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[TURNS - 1], 3));
    free(got);
    free(want);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream[0]));
    OK(t, rfn_stream_destroy(&stream[1]));
}

/* A stream in the place of the last one, which was destroyed with a replay in flight. */
static struct rfn_stream *under_the_same_handle(struct test *t, struct rfn_stream *stream)
{
    const struct rfn_stream *was = stream;
    enum rfn_status status = rfn_stream_destroy(&stream);
    for (int i = 0; i < 50000 && status == RFN_OK && stream != was; i++)
    {
        if (stream)
            status = rfn_stream_destroy(&stream);
        if (status == RFN_OK)
            status = rfn_stream_create(t->dev, RFN_STREAM_NONBLOCKING, &stream);
    }
    OK(t, status);
    HOLDS(t, stream == was);
    return stream;
}

static void a_handle_of_another_stream_deceives_nobody(struct world *w)
{
    struct test *t = w->t;
    struct plan p[TURNS];
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    plan_make(w, &p[0], 2, LONG, 3); /* two graphs: launches of one wait for each other */
    plan_make(w, &p[1], REQUESTS, LONG, 3);
    unsigned char *want = in_turn(w, p, 2);
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    OK(t, rfn_ladder_prepare(ladder, REQUESTS, 0));
    world_reset(w);
    OK(t, rfn_ladder_replay(ladder, stream, &p[0].step, NULL));
    stream = under_the_same_handle(t, stream);
    OK(t, rfn_ladder_replay(ladder, stream, &p[1].step, NULL));
    OK(t, rfn_stream_sync(stream));
    unsigned char *got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[1], 3));
    free(got);
    free(want);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

struct turn
{
    struct world *w;
    struct rfn_ladder *ladder;
    struct plan *p;
};

static void *replay_on_the_thread_stream(void *arg)
{
    struct turn *turn = arg;
    struct rfn_stream *mine = rfn_stream_per_thread(turn->w->t->dev);
    OK(turn->w->t, rfn_ladder_replay(turn->ladder, mine, &turn->p->step, NULL));
    return NULL;
}

/* One handle, another stream in each thread. */
static void per_thread_streams_take_turns(struct world *w)
{
    struct test *t = w->t;
    struct plan p[TURNS];
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    plan_turns(w, p);
    unsigned char *want = in_turn(w, p, TURNS);
    OK(t, rfn_ladder_prepare(ladder, REQUESTS, 0));
    world_reset(w);
    for (int i = 0; i < TURNS; i++)
    {
        struct turn turn = { w, ladder, &p[i] };
        pthread_t thread;
        if (i == TURNS - 1)
            replay_on_the_thread_stream(&turn);
        else if (pthread_create(&thread, NULL, replay_on_the_thread_stream, &turn) != 0 ||
                 pthread_join(thread, NULL) != 0)
            exit(1);
    }
    OK(t, rfn_stream_sync(rfn_stream_per_thread(t->dev)));
    unsigned char *got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[TURNS - 1], 3));
    free(got);
    free(want);
    OK(t, rfn_ladder_destroy(&ladder));
}

/* ---- while one is in flight ------------------------------------------------------- */

static void captures_and_evictions_leave_a_replay_in_flight_alone(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct plan p[TURNS];
    struct rfn_ladder_info one;
    plan_turns(w, p);
    OK(t, rfn_ladder_prepare(ladder, REQUESTS, 0));
    one = info_of(w, ladder);
    OK(t, rfn_ladder_destroy(&ladder));
    unsigned char *want = in_turn(w, p, TURNS);

    /* Room for one graph: each capture drops the one in flight. */
    struct rfn_ladder_desc desc = { .memory_bytes = one.memory_bytes };
    ladder = ladder_of(w, &desc);
    world_reset(w);
    for (int i = 0; i < TURNS; i++)
    {
        int32_t requests = i == TURNS - 1 ? REQUESTS : p[i].step.requests;
        OK(t, rfn_ladder_prepare(ladder, requests, 0));
        OK(t, rfn_ladder_replay(ladder, stream, &p[i].step, NULL));
        OK(t, rfn_ladder_prepare(ladder, 1 + (requests & 1), 1));
    }
    HOLDS(t, info_of(w, ladder).evictions > TURNS);
    HOLDS(t, info_of(w, ladder).memory_bytes <= one.memory_bytes);
    OK(t, rfn_stream_sync(stream));
    unsigned char *got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[TURNS - 1], 3));
    free(got);
    OK(t, rfn_ladder_destroy(&ladder));

    /* Destroyed in flight: it waits. */
    ladder = ladder_of(w, NULL);
    OK(t, rfn_ladder_prepare(ladder, REQUESTS, 0));
    world_reset(w);
    for (int i = 0; i < TURNS; i++)
        OK(t, rfn_ladder_replay(ladder, stream, &p[i].step, NULL));
    OK(t, rfn_ladder_destroy(&ladder));
    got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[TURNS - 1], 3));
    free(got);
    free(want);
    OK(t, rfn_stream_sync(stream));
    OK(t, rfn_stream_destroy(&stream));
}

/* A failed step leaves nothing on its stream that could hurt the next one. */
static void a_refused_step_hands_nothing_over(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *other = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct plan p[TURNS];
    plan_turns(w, p);
    for (int i = 0; i < TURNS; i++)
        plan_make(w, &p[i], i & 1 ? 3 : 2, LONG, 3);
    unsigned char *want = in_turn(w, p, 1);
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    world_reset(w);
    OK(t, rfn_ladder_replay(ladder, stream, &p[0].step, NULL));
    REFUSED(t, rfn_ladder_replay(ladder, other, &p[1].step, NULL), RFN_NOT_READY,
            "3 requests|captured: 2");
    OK(t, rfn_stream_sync(other));
    OK(t, rfn_stream_sync(stream));
    unsigned char *got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[0], 3));
    free(got);
    free(want);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
    OK(t, rfn_stream_destroy(&other));
}

/* No request has a context that could end: it is replayed as often as the shortest could. */
static void replays_of_no_request_have_an_end(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    const int32_t most = w->limits.context - 1;
    char words[64];
    struct plan p;
    plan_make(w, &p, 0, SHORT, 3);
    p.step.advance = 1;
    OK(t, rfn_ladder_prepare(ladder, 1, 1));
    OK(t, rfn_ladder_replay(ladder, stream, &p.step, NULL));
    snprintf(words, sizeof words, "2147483647 replays|%d", most);
    REFUSED(t, rfn_ladder_again(ladder, stream, INT32_MAX, NULL), RFN_LIMIT, words);
    snprintf(words, sizeof words, "%d replays|%d", most + 1, most);
    REFUSED(t, rfn_ladder_again(ladder, stream, most + 1, NULL), RFN_LIMIT, words);
    HOLDS(t, info_of(w, ladder).replays == 1);
    OK(t, rfn_ladder_again(ladder, stream, most, NULL));
    HOLDS(t, info_of(w, ladder).replays == 1 + most);

    /* And so is the shortest. */
    plan_make(w, &p, 1, SHORT, 1);
    p.step.advance = 1;
    p.lens[0] = 1;
    OK(t, rfn_ladder_prepare(ladder, 1, 0));
    OK(t, rfn_ladder_replay(ladder, stream, &p.step, NULL));
    REFUSED(t, rfn_ladder_again(ladder, stream, most + 1, NULL), RFN_LIMIT, "request 0");
    OK(t, rfn_ladder_again(ladder, stream, most, NULL));
    OK(t, rfn_stream_sync(stream));
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

struct touching
{
    struct world *w;
    void *foreign; /* touched by the capture, NULL: nothing is */
};

static enum rfn_status touch(void *ctx, struct rfn_stream *stream,
                             const struct rfn_bucket *bucket)
{
    struct touching *x = ctx;
    enum rfn_status status = rfn_attention_update(x->w->attention, stream, bucket);
    for (int i = 0; i < LAYERS && status == RFN_OK; i++)
        status = rfn_attention_forward(x->w->attention, stream, i, bucket);
    if (status == RFN_OK && x->foreign)
        status = rfn_set_async(stream, x->foreign, 0, 64);
    return status;
}

/* Planned, and not launched: the device does not have what the host believes. */
static void a_failed_launch_is_not_carried_on_with(struct world *w)
{
    static unsigned char foreign[64];
    struct test *t = w->t;
    struct touching x = { w, foreign };
    struct rfn_ladder_desc desc = { .record = touch, .ctx = &x };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *other = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_step again = { .requests = 2, .unchanged = 1 };
    struct plan p[2];
    plan_make(w, &p[0], 2, LONG, 3);
    plan_make(w, &p[1], 4, LONG, 3);
    unsigned char *want = in_turn(w, &p[1], 1);
    OK(t, rfn_memory_import(t->dev, foreign, sizeof foreign, RFN_MEMORY_DEVICE));
    OK(t, rfn_ladder_prepare(ladder, 2, 0));
    x.foreign = NULL;
    OK(t, rfn_ladder_prepare(ladder, 4, 0));
    world_reset(w);
    OK(t, rfn_memory_release(t->dev, foreign));
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p[0].step, NULL), RFN_INVALID,
            "bucket 2x3|released");
    REFUSED(t, rfn_ladder_replay(ladder, stream, &again, NULL), RFN_INVALID, "unchanged");
    /* The copy of the refused step does not overtake. */
    OK(t, rfn_ladder_replay(ladder, other, &p[1].step, NULL));
    OK(t, rfn_stream_sync(other));
    OK(t, rfn_stream_query(stream));
    unsigned char *got = snapshot(w);
    HOLDS(t, snapshots_agree(w, got, want, &p[1], 3));
    HOLDS(t, info_of(w, ladder).replays == 1);
    free(got);
    free(want);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
    OK(t, rfn_stream_destroy(&other));
}

/* Nobody sees their replays, so their word is taken that the lengths were advanced. */
static void unchanged_steps_follow_replays_of_others(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    void *native = rfn_stream_native(stream), *graph = NULL, *exec = NULL;
    struct rfn_step same = { .requests = 3, .unchanged = 1, .advance = 1 };
    struct rfn_bucket bucket;
    struct plan p;
    HOLDS(t, theirs_begin(t, native) == 0);
    OK(t, rfn_attention_update(w->attention, stream, &whole));
    HOLDS(t, theirs_end(t, native, &graph) == 0);
    HOLDS(t, theirs_instantiate(t, graph, &exec) == 0);
    plan_make(w, &p, 3, LONG, 3);
    p.step.advance = 1;
    for (int b = 0; b < 3; b++) /* room to grow twice */
        p.lens[b] -= p.lens[b] > w->limits.context - 6 ? 6 : 0;
    OK(t, rfn_attention_plan(w->attention, stream, &p.step, &bucket));
    for (int i = 0; i < 2; i++)
    {
        HOLDS(t, theirs_launch(t, exec, native) == 0);
        OK(t, rfn_attention_plan(w->attention, stream, &same, &bucket));
    }
    OK(t, rfn_stream_sync(stream));
    HOLDS(t, theirs_drop_exec(t, exec) == 0 && theirs_drop_graph(t, graph) == 0);
    OK(t, rfn_stream_destroy(&stream));
}

static void *prepare_twice(void *arg)
{
    struct turn *turn = arg;
    OK(turn->w->t, rfn_ladder_prepare(turn->ladder, 1, 0));
    OK(turn->w->t, rfn_ladder_prepare(turn->ladder, 2, 0)); /* evicts */
    return NULL;
}

static void captures_of_other_threads_come_to_no_harm(struct world *w)
{
    struct test *t = w->t;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_ladder_desc desc = { .memory_bytes = 40 * RFN_LADDER_NODE_BYTES };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    struct turn turn = { .w = w, .ladder = ladder };
    enum rfn_capture_mode mode = RFN_CAPTURE_GLOBAL;
    struct rfn_graph *graph = NULL;
    pthread_t thread;
    OK(t, rfn_ladder_prepare(ladder, 8, 0));
    OK(t, rfn_ladder_prepare(ladder, 8, 1));
    OK(t, rfn_ladder_prepare(ladder, 4, 1));
    OK(t, rfn_capture_begin(stream, NULL)); /* global */
    OK(t, rfn_set_async(stream, w->io[0].out.data, 0, 16));
    if (pthread_create(&thread, NULL, prepare_twice, &turn) != 0 ||
        pthread_join(thread, NULL) != 0)
        exit(1);
    OK(t, rfn_capture_end(stream, &graph));
    HOLDS(t, info_of(w, ladder).evictions > 0);
    HOLDS(t, info_of(w, ladder).captures == 5);
    OK(t, rfn_ladder_prepare(ladder, 1, 1));
    OK(t, rfn_thread_mode_exchange(t->dev, &mode));
    HOLDS(t, mode == RFN_CAPTURE_GLOBAL); /* the thread's mode is as it was */
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "ladder_replay", &argc, argv);
    if (lacks_ops(&t))
        return test_skip(&t, "everything", rfn_last_error());
    world_open(&w, &t, REQUESTS, 3);
    replays_equal_eager_steps(&w, 8);
    unchanged_steps_equal_eager_ones(&w);
    two_streams_take_turns(&w);
    if (t.host) /* there handles are few enough to wait for one */
        a_handle_of_another_stream_deceives_nobody(&w);
    per_thread_streams_take_turns(&w);
    captures_and_evictions_leave_a_replay_in_flight_alone(&w);
    a_refused_step_hands_nothing_over(&w);
    replays_of_no_request_have_an_end(&w);
    if (t.host) /* where foreign memory may be anybody's */
        a_failed_launch_is_not_carried_on_with(&w);
    captures_of_other_threads_come_to_no_harm(&w);
    unchanged_steps_follow_replays_of_others(
        &w); /* last: the updates are followed no more */
    world_close(&w);
    return test_end(&t);
}
