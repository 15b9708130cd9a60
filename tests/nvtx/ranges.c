/*
 * The ranges that a profiler is told of: names, nesting, payloads, balance on every thread,
 * on good ways and on bad ones. The profiler is an injection library of the tests' own.
 *
 * RFN_TEST_INJECTION names that library. --planted loses a pop: the test has to see it.
 */
#include "tests/device/ladder.h"
#include "tests/nvtx/inject.h"

#include <dlfcn.h>
#include <pthread.h>

static struct inject *seen;
static int main_thread;

/* ---- the record as text ----------------------------------------------------------- */

/* "+plan 3 +... - -": the events of a thread from `from` on. */
static void events_text(int from, int thread, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = from; i < seen->events && i < INJECT_EVENTS; i++)
    {
        const struct inject_event *e = &seen->event[i];
        if (e->thread != thread || used + 96 > bytes)
            continue;
        if (e->push)
            used += (size_t)snprintf(text + used, bytes - used, "%s+%s %d",
                                     used ? " " : "", e->text, (int)e->payload);
        else
            used += (size_t)snprintf(text + used, bytes - used, "%s-", used ? " " : "");
    }
}

/* The main thread's events since the last call are these. */
static void expect(struct test *t, const char *what, const char *want)
{
    static int from;
    char got[4096];
    events_text(from, main_thread, got, sizeof got);
    harness_check(&t->h, what, !strcmp(got, want), "got  \"%s\"\n  want \"%s\"", got,
                  want);
    from = seen->events;
}

/* ---- good ways -------------------------------------------------------------------- */

static void steps_have_their_ranges(struct world *w, struct rfn_stream *stream)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    const struct rfn_bucket bucket = { 4, 3, 0 };
    struct plan p;
    plan_make(w, &p, 3, LONG, 3);
    expect(t, "creating has no ranges", "");
    run_eagerly(w, stream, &p, &bucket);
    expect(t, "an eager step", "+plan 3 - +update 4 - +forward 0 - +forward 1 -");

    OK(t, rfn_ladder_prepare(ladder, 3, 0));
    expect(t, "a capture", "+capture 4x3 4 +update 4 - +forward 0 - +forward 1 - -");
    OK(t, rfn_ladder_prepare(ladder, 3, 0));
    expect(t, "a graph that is there is not captured again", "");
    OK(t, rfn_ladder_prepare(ladder, 2, 1));
    expect(t, "a capture for short contexts",
           "+capture 2x3 short 2 +update 2 - +forward 0 - +forward 1 - -");

    for (int i = 0; i < 3; i++)
    {
        OK(t, rfn_ladder_replay(ladder, stream, &p.step, NULL));
        expect(t, "a replay of the bucket that fits", "+replay 4 +plan 3 - -");
    }
    plan_make(w, &p, 2, SHORT, 3);
    OK(t, rfn_ladder_replay(ladder, stream, &p.step, NULL));
    expect(t, "a replay of the short one", "+replay 2 +plan 2 - -");
    OK(t, rfn_stream_sync(stream));
    OK(t, rfn_ladder_destroy(&ladder));
    expect(t, "destroying has no ranges", "");
}

/* ---- bad ways --------------------------------------------------------------------- */

enum failure
{
    SAYS_NO,
    WAITS,   /* which ends the capture */
    FOREIGN, /* copies from memory that goes away later */
};

struct bad
{
    struct world *w;
    enum failure failure;
    void *foreign;
};

static enum rfn_status record(void *ctx, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    const struct bad *bad = ctx;
    enum rfn_status status = rfn_attention_update(bad->w->attention, stream, bucket);
    if (bad->failure == FOREIGN)
        return rfn_copy_async(stream, bad->w->io[0].out.data, bad->foreign, 256);
    if (bad->failure == WAITS)
        status = rfn_stream_sync(stream);
    return bad->failure == SAYS_NO ? RFN_IO : status;
}

static void failures_end_their_ranges(struct world *w, struct rfn_stream *stream)
{
    struct test *t = w->t;
    struct bad bad = { w, SAYS_NO, NULL };
    const struct rfn_ladder_desc desc = { .record = record, .ctx = &bad };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    const struct rfn_bucket bucket = { 4, 3, 0 }, huge = { 4000, 3, 0 };
    struct rfn_graph *graph = NULL;
    struct rfn_bucket planned;
    struct plan p;
    static unsigned char foreign[256];

    plan_make(w, &p, 2, LONG, 3);
    p.lens[1] = -1;
    REFUSED(t, rfn_attention_plan(w->attention, stream, &p.step, &planned), RFN_INVALID,
            "request 1");
    expect(t, "a plan that is refused", "+plan 2 -");
    REFUSED(t, rfn_attention_plan(w->attention, stream, NULL, &planned), RFN_INVALID,
            "step is NULL");
    expect(t, "a plan of nothing", "+plan 0 -");
    REFUSED(t, rfn_attention_update(w->attention, NULL, &bucket), RFN_INVALID, "stream");
    expect(t, "an update on no stream", "");
    REFUSED(t, rfn_attention_forward(w->attention, NULL, 1, &bucket), RFN_INVALID,
            "stream");
    REFUSED(t, rfn_attention_forward(w->attention, stream, 1, &huge), RFN_LIMIT, "4000");
    expect(t, "forwards that are refused", "+forward 1 - +forward 1 -");

    OK(t, rfn_capture_begin(stream, NULL));
    plan_make(w, &p, 2, LONG, 3);
    REFUSED(t, rfn_attention_plan(w->attention, stream, &p.step, &planned), RFN_CAPTURE,
            "plan");
    OK(t, rfn_attention_update(w->attention, stream, &bucket));
    OK(t, rfn_capture_end(stream, &graph));
    OK(t, rfn_graph_destroy(&graph));
    expect(t, "a plan in a capture", "+plan 2 - +update 4 -");

    REFUSED(t, rfn_ladder_prepare(ladder, 4, 0), RFN_IO, "callback");
    bad.failure = WAITS;
    REFUSED(t, rfn_ladder_prepare(ladder, 4, 0), RFN_CAPTURE, "");
    expect(t, "captures that fail",
           "+capture 4x3 4 +update 4 - - +capture 4x3 4 +update 4 - -");
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_NOT_READY, "none");
    expect(t, "a replay without a graph", "");

    bad.failure = FOREIGN;
    bad.foreign = foreign;
    OK(t, rfn_memory_import(t->dev, foreign, sizeof foreign, RFN_MEMORY_DEVICE));
    OK(t, rfn_ladder_prepare(ladder, 4, 0));
    OK(t, rfn_memory_release(t->dev, foreign));
    expect(t, "a capture with a copy", "+capture 4x3 4 +update 4 - -");
    REFUSED(t, rfn_ladder_replay(ladder, stream, &p.step, NULL), RFN_INVALID, "released");
    expect(t, "a replay that is refused", "+replay 4 +plan 2 - -");
    OK(t, rfn_stream_sync(stream));
    OK(t, rfn_ladder_destroy(&ladder));
}

/* ---- threads ---------------------------------------------------------------------- */

#define ROUNDS 20

struct walker
{
    struct world w;
    struct rfn_stream *stream;
    struct plan p;
    int32_t requests;
    int bad;
};

/* Without the harness, which is of one thread. */
static void *walk(void *ctx)
{
    struct walker *k = ctx;
    const struct rfn_bucket bucket = { k->requests, 3, 0 };
    struct rfn_bucket planned;
    struct rfn_attention *a = k->w.attention;
    for (int i = 0; i < ROUNDS; i++)
    {
        k->bad |= rfn_attention_plan(a, k->stream, &k->p.step, &planned) != RFN_OK;
        k->bad |= rfn_attention_update(a, k->stream, &bucket) != RFN_OK;
        k->bad |= rfn_attention_forward(a, k->stream, 1, &bucket) != RFN_OK;
        k->bad |= rfn_attention_forward(a, NULL, 0, &bucket) != RFN_INVALID;
        k->bad |= rfn_stream_sync(k->stream) != RFN_OK;
    }
    return NULL;
}

static void threads_have_ranges_of_their_own(struct test *t)
{
    struct walker k[2] = { { .requests = 1 }, { .requests = 2 } };
    pthread_t thread[2];
    int from = seen->events, told = 0;
    for (int i = 0; i < 2; i++)
    {
        world_open(&k[i].w, t, 2, 3);
        k[i].stream = test_stream(t, RFN_STREAM_NONBLOCKING);
        plan_make(&k[i].w, &k[i].p, k[i].requests, LONG, 3);
    }
    for (int i = 0; i < 2; i++)
        HOLDS(t, pthread_create(&thread[i], NULL, walk, &k[i]) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++)
    {
        char one[128], want[8192] = "", got[8192];
        int whose = 0;
        size_t used = 0;
        snprintf(one, sizeof one, "+plan %d - +update %d - +forward 1 - +forward 0 -",
                 k[i].requests, k[i].requests);
        for (int r = 0; r < ROUNDS; r++)
            used += (size_t)snprintf(want + used, sizeof want - used, "%s%s",
                                     used ? " " : "", one);
        for (int e = from; e < seen->events && !whose; e++)
            if (seen->event[e].push && seen->event[e].payload == k[i].requests &&
                !strcmp(seen->event[e].text, "plan"))
                whose = seen->event[e].thread;
        HOLDS(t, whose && whose != main_thread);
        events_text(from, whose, got, sizeof got);
        harness_check(&t->h, "a thread's ranges", !strcmp(got, want), "got \"%s\"", got);
        told += !k[i].bad;
        OK(t, rfn_stream_destroy(&k[i].stream));
        world_close(&k[i].w);
    }
    HOLDS(t, told == 2);
}

/* ---- all of it -------------------------------------------------------------------- */

static void all_is_balanced(struct test *t)
{
    HOLDS(t, seen->loads == 1 && seen->domains == 1 && seen->strings == 5);
    HOLDS(t, seen->others == 0);
    HOLDS(t, seen->events > 100 && seen->events <= INJECT_EVENTS);
    for (int i = 0; i < seen->events; i++)
    {
        int depth = 0, least = 0;
        const struct inject_event *e = &seen->event[i];
        for (int k = 0; k < seen->events; k++)
            if (seen->event[k].thread == e->thread)
            {
                depth += seen->event[k].push ? 1 : -1;
                least = depth < least ? depth : least;
            }
        if (depth || least || strcmp(e->domain, "refrain") ||
            (e->push && e->registered != !strchr(e->text, ' ')))
        {
            harness_check(&t->h, "balanced, in its domain", 0,
                          "event %d \"%s\" of \"%s\": depth %d at the end, %d at least",
                          i, e->text, e->domain, depth, least);
            return;
        }
    }
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    int planted = argc > 1 && !strcmp(argv[1], "--planted");
    const char *library = getenv("RFN_TEST_INJECTION");
    setenv("NVTX_INJECTION64_PATH", library ? library : "", 1);
    void *handle = library ? dlopen(library, RTLD_NOW) : NULL;
    struct inject *(*get)(void) = NULL;
    if (handle)
        *(void **)&get = dlsym(handle, "inject_record");
    if (!get)
    {
        printf("nvtx: no injection library in RFN_TEST_INJECTION: %s\n",
               library ? dlerror() : "it is not set");
        return 1;
    }
    seen = get();
    argc -= planted;
    argv += planted;
    test_begin(&t, "nvtx", &argc, argv);
    world_open(&w, &t, REQUESTS, 3);
    struct rfn_stream *stream = test_stream(&t, RFN_STREAM_NONBLOCKING);

    /* The first range loads the tool; the thread's name in the record is learned of it. */
    REFUSED(&t, rfn_attention_forward(w.attention, NULL, 0, NULL), RFN_INVALID, "stream");
    if (!HOLDS(&t, seen->events == 2))
        return harness_end(&t.h);
    main_thread = seen->event[0].thread;
    expect(&t, "the first range", "+forward 0 -");
    if (planted)
        seen->drop = 6;
    steps_have_their_ranges(&w, stream);
    failures_end_their_ranges(&w, stream);
    threads_have_ranges_of_their_own(&t);
    all_is_balanced(&t);

    OK(&t, rfn_stream_destroy(&stream));
    world_close(&w);
    return test_end(&t);
}
