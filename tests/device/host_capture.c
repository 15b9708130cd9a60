/* The measured rows of stream capture, asked of the host device's own table. */
#include "tests/device/backend.h"

static const enum rfn_capture_mode modes[] = { RFN_CAPTURE_GLOBAL,
                                               RFN_CAPTURE_THREAD_LOCAL,
                                               RFN_CAPTURE_RELAXED };

/* Ends a capture that must be in this state and gives this code; returns its graph. */
static void *end(struct rig *r, void *s, enum rfn_capture_status status, int code)
{
    void *graph = NULL;
    HOLDS(r, status_of(r, s) == status);
    CODE(r, B->capture_end(r->dev, s, &graph), code);
    HOLDS(r, (graph != NULL) == (code == 0));
    HOLDS(r, status_of(r, s) == RFN_CAPTURE_NONE);
    return graph;
}

static void end_counts(struct rig *r, void *s, int32_t kernels, int32_t copies,
                       int32_t sets)
{
    int32_t node[RFN_NODE_TYPES];
    void *graph = end(r, s, RFN_CAPTURE_ACTIVE, 0);
    if (!graph)
        return;
    B->graph_count(r->dev, graph, node);
    HOLDS(r, node[RFN_NODE_KERNEL] == kernels);
    HOLDS(r, node[RFN_NODE_MEMCPY] == copies);
    HOLDS(r, node[RFN_NODE_MEMSET] == sets);
    OK(r, B->graph_destroy(r->dev, graph));
}

static void *blocking(struct rig *r)
{
    return stream_of(r, RFN_STREAM_BLOCKING);
}

static void *nonblocking(struct rig *r)
{
    return stream_of(r, RFN_STREAM_NONBLOCKING);
}

static void *silent_copies(void *arg)
{
    struct rig *r = arg;
    for (int i = 0; i < N; i++)
        r->pageable[i] = 7;
    OK(r, upload(r, NULL, r->b, r->pageable, RFN_MEMORY_PAGEABLE));
    HOLDS(r, word_of(r, r->b) == 7);
    OK(r, set(r, NULL, r->b, 1));
    HOLDS(r, word_of(r, r->b) == 0x01010101);
    OK(r, upload(r, NULL, r->c, r->pinned, RFN_MEMORY_PINNED));
    return NULL;
}

static void synchronous_copies_pass_silently(struct rig *r)
{
    for (int m = 0; m < 3; m++)
    {
        void *s = nonblocking(r);
        OK(r, B->capture_begin(r->dev, s, modes[m]));
        silent_copies(r);
        in_thread(silent_copies, r);
        end_counts(r, s, 0, 0, 0);
        OK(r, B->stream_destroy(r->dev, s));
    }
}

static void synchronous_copies_conflict_with_blocking(struct rig *r)
{
    for (int i = 0; i < 6; i++)
    {
        int32_t word[N];
        void *s = i & 1 ? blocking(r) : r->per_thread;
        OK(r, B->capture_begin(r->dev, s, modes[i / 2]));
        if (i < 3)
            CODE(r, download(r, NULL, word, r->a, RFN_MEMORY_PAGEABLE), 906);
        else
            CODE(r, set(r, NULL, r->a, 1), 906);
        end(r, s, RFN_CAPTURE_INVALIDATED, 901);
        if (i & 1)
            OK(r, B->stream_destroy(r->dev, s));
    }
}

static void work_elsewhere_runs_now(struct rig *r)
{
    void *s = nonblocking(r), *other = nonblocking(r);
    OK(r, set(r, NULL, r->a, 0));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, add(r, r->legacy, r->b, r->a, 3));
    HOLDS(r, word_of(r, r->b) == 3);
    OK(r, add(r, other, r->c, r->a, 4));
    OK(r, B->event_record(r->dev, event_of(r), other, 0));
    end_counts(r, s, 0, 0, 0);
    OK(r, B->stream_sync(r->dev, other));
    HOLDS(r, word_of(r, r->c) == 4);

    void *b = blocking(r);
    OK(r, B->capture_begin(r->dev, b, RFN_CAPTURE_RELAXED));
    CODE(r, add(r, r->legacy, r->b, r->a, 3), 906);
    end(r, b, RFN_CAPTURE_INVALIDATED, 901);
    OK(r, B->capture_begin(r->dev, b, RFN_CAPTURE_RELAXED));
    CODE(r, upload(r, r->legacy, r->b, r->pinned, RFN_MEMORY_PINNED), 906);
    end(r, b, RFN_CAPTURE_INVALIDATED, 901);
}

static void asynchronous_work_becomes_nodes(struct rig *r)
{
    void *s = nonblocking(r);
    OK(r, set(r, NULL, r->b, 0));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, upload(r, s, r->a, r->pageable, RFN_MEMORY_PAGEABLE));
    OK(r, download(r, s, r->pageable, r->a, RFN_MEMORY_PAGEABLE));
    struct rfn_copy h2h = { r->pageable, r->pinned, BYTES, RFN_MEMORY_PAGEABLE,
                            RFN_MEMORY_PINNED };
    OK(r, B->copy_async(r->dev, s, &h2h));
    OK(r, set(r, s, r->b, 9));
    OK(r, add(r, s, r->b, r->a, 1));
    HOLDS(r, word_of(r, r->b) == 0);
    end_counts(r, s, 1, 3, 1);
}

/* ---- the predicate ---------------------------------------------------------------- */

enum unsafe
{
    SYNC_OTHER,
    QUERY_OTHER,
    SYNC_LEGACY,
    EVENT_SYNC,
    EVENT_QUERY,
    ALLOC,
    FREE_NULL,
    INSTANTIATE,
    UNSAFE_CALLS
};

struct attempt
{
    struct rig *r;
    enum unsafe call;
    enum rfn_capture_mode thread_mode;
    void *stream, *event, *graph;
    int code;
};

static void *try_unsafe(void *arg)
{
    struct attempt *a = arg;
    void *dev = a->r->dev, *made = NULL;
    enum rfn_capture_mode mode = a->thread_mode;
    B->thread_mode(dev, &mode);
    switch (a->call)
    {
    case SYNC_OTHER:
        a->code = B->stream_sync(dev, a->stream);
        break;
    case QUERY_OTHER:
        a->code = B->stream_query(dev, a->stream);
        break;
    case SYNC_LEGACY:
        a->code = B->stream_sync(dev, a->r->legacy);
        break;
    case EVENT_SYNC:
        a->code = B->event_sync(dev, a->event);
        break;
    case EVENT_QUERY:
        a->code = B->event_query(dev, a->event);
        break;
    case ALLOC:
        a->code = B->memory_alloc(dev, RFN_MEMORY_DEVICE, 256, &made);
        break;
    case FREE_NULL:
        a->code = B->memory_free(dev, RFN_MEMORY_DEVICE, NULL, 0);
        break;
    case INSTANTIATE:
    case UNSAFE_CALLS:
        a->code = B->graph_instantiate(dev, a->graph, &made);
        if (a->code == 0)
            B->exec_destroy(dev, made);
        break;
    }
    B->thread_mode(dev, &mode);
    return NULL;
}

/* Written out, so that it is not the library's own predicate that is compared. */
static int forbidden(enum rfn_capture_mode capture, int own, enum rfn_capture_mode thread)
{
    static const int of_own[3][3] = { /* capture's mode, thread's mode */
                                      { 1, 1, 0 },
                                      { 1, 1, 0 },
                                      { 0, 0, 0 }
    };
    static const int of_other[3][3] = { { 1, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } };
    return own ? of_own[capture][thread] : of_other[capture][thread];
}

static void unsafe_calls_obey_the_predicate(struct rig *r)
{
    void *s = nonblocking(r), *graph = NULL;
    struct attempt a = { .r = r, .stream = nonblocking(r), .event = event_of(r) };
    OK(r, B->event_record(r->dev, a.event, a.stream, 0));
    OK(r, B->device_sync(r->dev));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->capture_end(r->dev, s, &a.graph));
    for (int i = 0; i < UNSAFE_CALLS * 3 * 3 * 2; i++)
    {
        enum rfn_capture_mode mode = modes[i % 3];
        int own = i / 9 % 2;
        a.call = (enum unsafe)(i / 18);
        a.thread_mode = modes[i / 3 % 3];
        OK(r, B->capture_begin(r->dev, s, mode));
        if (own)
            try_unsafe(&a);
        else
            in_thread(try_unsafe, &a);
        int no = forbidden(mode, own, a.thread_mode);
        harness_check(r->h, "the predicate decides", a.code == (no ? 900 : 0),
                      "call %d, capture mode %d, %s thread in mode %d: %d", a.call, mode,
                      own ? "own" : "another", a.thread_mode, a.code);
        graph =
            end(r, s, no ? RFN_CAPTURE_INVALIDATED : RFN_CAPTURE_ACTIVE, no ? 901 : 0);
        if (graph)
            OK(r, B->graph_destroy(r->dev, graph));
    }
    OK(r, B->graph_destroy(r->dev, a.graph));
}

/* A capture of one device forbids to the threads of another. */
static void predicate_knows_no_devices(struct rig *r)
{
    struct rig other;
    rig_open(&other, r->h, RFN_SCHED_FIFO, 0);
    void *s = nonblocking(r), *p = NULL;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    CODE(r, B->memory_alloc(other.dev, RFN_MEMORY_DEVICE, 256, &p), 900);
    end(r, s, RFN_CAPTURE_INVALIDATED, 901);
    rig_close(&other);
}

/* ---- in every mode ---------------------------------------------------------------- */

static void capturing_streams_are_not_waited_for(struct rig *r)
{
    void *s = nonblocking(r), *empty = nonblocking(r);
    OK(r, B->capture_begin(r->dev, empty, RFN_CAPTURE_RELAXED));
    void *exec = exec_of(r, empty);
    for (int i = 0; i < 12; i++)
    {
        enum rfn_capture_mode relaxed = RFN_CAPTURE_RELAXED;
        OK(r, B->capture_begin(r->dev, s, modes[i % 3]));
        OK(r, B->thread_mode(r->dev, &relaxed));
        if (i / 3 == 0)
            CODE(r, B->stream_sync(r->dev, s), 900);
        else if (i / 3 == 1)
            CODE(r, B->stream_query(r->dev, s), 900);
        else if (i / 3 == 2)
            CODE(r, B->device_sync(r->dev), 900);
        else
            CODE(r, B->exec_launch(r->dev, exec, s), 900);
        OK(r, B->thread_mode(r->dev, &relaxed));
        HOLDS(r, relaxed == RFN_CAPTURE_RELAXED);
        end(r, s, RFN_CAPTURE_INVALIDATED, 901);
    }
    OK(r, B->exec_destroy(r->dev, exec));
}

static void safe_calls_are_safe(struct rig *r)
{
    void *s = nonblocking(r), *other = nonblocking(r), *node, *made = NULL;
    struct add_args args = add_of(r->b, r->a, 5);
    OK(r, set(r, NULL, r->a, 0));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->launch(r->dev, s, &add_op, &args, &node));
    void *exec = exec_of(r, s);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->exec_launch(r->dev, exec, other));
    args.value = 6;
    OK(r, B->exec_update(r->dev, exec, node, &add_op, &args));
    OK(r, B->stream_create(r->dev, RFN_STREAM_BLOCKING, &made));
    OK(r, B->stream_destroy(r->dev, made));
    OK(r, B->event_create(r->dev, &made));
    OK(r, B->event_destroy(r->dev, made));
    OK(r, B->capture_begin(r->dev, other, RFN_CAPTURE_GLOBAL));
    end_counts(r, other, 0, 0, 0);
    end_counts(r, s, 0, 0, 0);
    OK(r, B->exec_destroy(r->dev, exec));
}

/* ---- events ----------------------------------------------------------------------- */

static void captured_events_have_no_state(struct rig *r)
{
    void *s = nonblocking(r), *e = event_of(r), *f = event_of(r);
    float ms;
    for (int m = 0; m < 3; m++)
    {
        OK(r, B->capture_begin(r->dev, s, modes[m]));
        OK(r, B->event_record(r->dev, e, s, 0));
        CODE(r, B->event_query(r->dev, e), 907);
        end(r, s, RFN_CAPTURE_INVALIDATED, 901);
        OK(r, B->capture_begin(r->dev, s, modes[m]));
        OK(r, B->event_record(r->dev, e, s, 0));
        CODE(r, B->event_sync(r->dev, e), 907);
        end(r, s, RFN_CAPTURE_INVALIDATED, 901);
        OK(r, B->capture_begin(r->dev, s, modes[m]));
        OK(r, B->event_record(r->dev, e, s, 0));
        OK(r, B->event_record(r->dev, f, s, 0));
        CODE(r, B->event_elapsed(r->dev, e, f, &ms), 907);
        end_counts(r, s, 0, 0, 0);
        CODE(r, B->event_query(r->dev, e), 1); /* until it is recorded again */
        OK(r, B->event_record(r->dev, e, s, 0));
        OK(r, B->event_sync(r->dev, e));
        OK(r, B->event_query(r->dev, e));
    }
}

static void waits_across_the_border(struct rig *r)
{
    void *s = nonblocking(r), *t = nonblocking(r), *e = event_of(r), *never = event_of(r);
    OK(r, B->event_record(r->dev, e, t, 0));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    CODE(r, B->stream_wait(r->dev, s, e, 0), 905);
    end(r, s, RFN_CAPTURE_INVALIDATED, 901);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    OK(r, B->stream_wait(r->dev, s, never, 0)); /* there is nothing to wait for */
    end_counts(r, s, 0, 0, 0);

    int32_t node[RFN_NODE_TYPES];
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    OK(r, B->stream_wait(r->dev, s, e, RFN_EVENT_EXTERNAL));
    OK(r, B->event_record(r->dev, e, s, RFN_EVENT_EXTERNAL));
    void *graph = end(r, s, RFN_CAPTURE_ACTIVE, 0);
    B->graph_count(r->dev, graph, node);
    HOLDS(r, node[RFN_NODE_EVENT_WAIT] == 1 && node[RFN_NODE_EVENT_RECORD] == 1);
    OK(r, B->graph_destroy(r->dev, graph));
    CODE(r, B->stream_wait(r->dev, s, e, RFN_EVENT_EXTERNAL), 401);
    CODE(r, B->event_record(r->dev, e, s, RFN_EVENT_EXTERNAL), 401);

    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    OK(r, B->capture_begin(r->dev, t, RFN_CAPTURE_RELAXED));
    OK(r, B->event_record(r->dev, e, s, 0));
    CODE(r, B->stream_wait(r->dev, t, e, 0), 902);
    end(r, s, RFN_CAPTURE_INVALIDATED, 901);
    end(r, t, RFN_CAPTURE_INVALIDATED, 901);

    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    OK(r, B->event_record(r->dev, e, s, 0));
    CODE(r, B->stream_wait(r->dev, r->legacy, e, 0), 906);
    CODE(r, B->stream_wait(r->dev, t, e, 0), 1); /* of an invalidated capture */
    end(r, s, RFN_CAPTURE_INVALIDATED, 901);
}

/* ---- fork, join, end -------------------------------------------------------------- */

static void forks_must_be_joined(struct rig *r)
{
    void *s = nonblocking(r), *e = event_of(r), *f = event_of(r);
    for (int destroyed = 0; destroyed < 2; destroyed++)
    {
        void *t = nonblocking(r);
        OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
        OK(r, set(r, s, r->a, 1));
        OK(r, B->event_record(r->dev, e, s, 0));
        OK(r, B->stream_wait(r->dev, t, e, 0));
        OK(r, set(r, t, r->b, 1));
        HOLDS(r, status_of(r, t) == RFN_CAPTURE_ACTIVE);
        if (destroyed)
            OK(r, B->stream_destroy(r->dev, t));
        end(r, s, RFN_CAPTURE_ACTIVE, 904);
        if (!destroyed)
            HOLDS(r, status_of(r, t) == RFN_CAPTURE_NONE);
    }
    /* Joined through a third stream, which itself comes back. */
    void *t = nonblocking(r), *u = nonblocking(r);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->event_record(r->dev, e, s, 0));
    OK(r, B->stream_wait(r->dev, t, e, 0));
    OK(r, set(r, t, r->b, 1));
    OK(r, B->event_record(r->dev, f, t, 0));
    OK(r, B->stream_wait(r->dev, u, f, 0));
    OK(r, add(r, u, r->c, r->b, 1));
    OK(r, B->event_record(r->dev, f, u, 0));
    OK(r, B->stream_wait(r->dev, s, f, 0));
    end_counts(r, s, 1, 0, 1);
}

static void *end_elsewhere(void *arg)
{
    struct attempt *a = arg;
    void *graph = NULL;
    a->code = B->capture_end(a->r->dev, a->stream, &graph);
    if (graph)
        B->graph_destroy(a->r->dev, graph);
    return NULL;
}

static void captures_end_where_they_began(struct rig *r)
{
    void *s = nonblocking(r), *t = nonblocking(r), *e = event_of(r), *graph = NULL;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->event_record(r->dev, e, s, 0));
    OK(r, B->stream_wait(r->dev, t, e, 0));
    CODE(r, B->capture_end(r->dev, t, &graph), 903);
    HOLDS(r, status_of(r, t) == RFN_CAPTURE_INVALIDATED);
    end(r, s, RFN_CAPTURE_INVALIDATED, 901);

    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    CODE(r, B->capture_end(r->dev, t, &graph), 401);
    end_counts(r, s, 0, 0, 0);

    for (int m = 0; m < 3; m++)
    {
        struct attempt a = { .r = r, .stream = s };
        OK(r, B->capture_begin(r->dev, s, modes[m]));
        in_thread(end_elsewhere, &a);
        HOLDS(r, a.code == (modes[m] == RFN_CAPTURE_RELAXED ? 0 : 908));
        HOLDS(r, status_of(r, s) == RFN_CAPTURE_NONE);
    }
    /* Who destroys the origin has no capture any more. */
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, B->stream_destroy(r->dev, s));
    OK(r, B->device_sync(r->dev));
}

static void captures_begin_once(struct rig *r)
{
    void *s = nonblocking(r), *b = blocking(r);
    struct rfn_capture_info info;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    CODE(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL), 401);
    CODE(r, B->capture_begin(r->dev, r->legacy, RFN_CAPTURE_GLOBAL), 900);
    OK(r, B->capture_query(r->dev, r->legacy, &info));
    end_counts(r, s, 0, 0, 0);
    OK(r, B->capture_begin(r->dev, b, RFN_CAPTURE_GLOBAL));
    CODE(r, B->capture_query(r->dev, r->legacy, &info), 906);
    HOLDS(r, status_of(r, b) == RFN_CAPTURE_ACTIVE);
    CODE(r, B->capture_begin(r->dev, r->legacy, RFN_CAPTURE_GLOBAL), 906);
    end(r, b, RFN_CAPTURE_INVALIDATED, 901);
}

static void invalidated_captures_stay_so(struct rig *r)
{
    void *s = nonblocking(r), *e = event_of(r), *never = event_of(r), *graph = NULL;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    OK(r, B->event_record(r->dev, e, s, 0));
    CODE(r, B->stream_sync(r->dev, s), 900);
    HOLDS(r, strstr(B->why(r->dev), "is invalidated") != NULL);
    CODE(r, set(r, s, r->a, 1), 901);
    HOLDS(r, strstr(B->why(r->dev), "by stream_sync of its own thread") != NULL);
    CODE(r, add(r, s, r->a, r->b, 1), 901);
    CODE(r, upload(r, s, r->a, r->pinned, RFN_MEMORY_PINNED), 901);
    CODE(r, B->event_record(r->dev, e, s, 0), 901);
    CODE(r, B->stream_wait(r->dev, s, never, 0), 901);
    CODE(r, B->stream_sync(r->dev, s), 900);
    CODE(r, B->stream_query(r->dev, s), 900);
    CODE(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED), 401);
    end(r, s, RFN_CAPTURE_INVALIDATED, 901);
    CODE(r, B->capture_end(r->dev, s, &graph), 401);
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_RELAXED));
    OK(r, set(r, s, r->a, 1));
    end_counts(r, s, 0, 0, 1);
}

/* ---- children --------------------------------------------------------------------- */

/* A graph of `times` children; NULL where one is refused, which says so and goes on. */
static void *parent_of(struct rig *r, void *s, void *child, int times)
{
    int refused = 0;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    for (int i = 0; i < times; i++)
    {
        int code = B->capture_add_child(r->dev, s, child);
        refused += code != 0;
        HOLDS(r, !code || (code == 1 && strstr(B->why(r->dev), "at most 16777216 nodes "
                                                               "and 64 levels")));
    }
    void *graph = end(r, s, RFN_CAPTURE_ACTIVE, 0);
    if (refused)
        OK(r, B->graph_destroy(r->dev, graph));
    return refused ? NULL : graph;
}

static void children_that_double_are_refused(struct rig *r)
{
    void *s = nonblocking(r), *graph[41], *exec = NULL;
    int levels = 0;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    graph[0] = end(r, s, RFN_CAPTURE_ACTIVE, 0);
    while (levels < 40 && (graph[levels + 1] = parent_of(r, s, graph[levels], 2)))
        levels++;
    HOLDS(r, levels == 23); /* of 2^24 - 2 nodes */
    OK(r, B->graph_instantiate(r->dev, graph[8], &exec));
    OK(r, B->exec_launch(r->dev, exec, s));
    OK(r, B->stream_sync(r->dev, s));
    OK(r, B->exec_destroy(r->dev, exec));
    while (levels >= 0)
        OK(r, B->graph_destroy(r->dev, graph[levels--]));
}

static void children_too_deep_are_refused(struct rig *r)
{
    void *s = nonblocking(r), *exec = NULL;
    int levels = 0;
    OK(r, set(r, s, r->a, 0));
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    OK(r, add(r, s, r->a, r->a, 1));
    void *graph = end(r, s, RFN_CAPTURE_ACTIVE, 0), *parent;
    while (levels < 100 && (parent = parent_of(r, s, graph, 1)))
    {
        OK(r, B->graph_destroy(r->dev, graph));
        graph = parent;
        levels++;
    }
    HOLDS(r, levels == 64);
    OK(r, B->graph_instantiate(r->dev, graph, &exec));
    OK(r, B->graph_destroy(r->dev, graph));
    OK(r, B->exec_launch(r->dev, exec, s));
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, word_of(r, r->a) == 1);
    OK(r, B->exec_destroy(r->dev, exec));
}

struct caller
{
    struct rig *r;
    int sync, launch, query;
};

static void call_device(void *arg)
{
    struct caller *c = arg;
    struct rfn_capture_info info;
    c->sync = B->device_sync(c->r->dev);
    c->launch = add(c->r, c->r->legacy, c->r->a, c->r->b, 1);
    c->query = B->capture_query(c->r->dev, c->r->legacy, &info);
}

static void host_functions_cannot_call(struct rig *r)
{
    struct caller c = { .r = r };
    void *s = nonblocking(r);
    OK(r, B->host_call(r->dev, s, call_device, &c));
    OK(r, B->stream_sync(r->dev, s));
    HOLDS(r, c.sync == 800 && c.launch == 800 && c.query == 800);
    OK(r, B->device_sync(r->dev));
}

static void ops_without_twin_are_refused(struct rig *r)
{
    struct rfn_op none = add_op;
    struct add_args args = add_of(r->a, r->b, 0);
    void *s = nonblocking(r), *node;
    none.host = NULL;
    OK(r, B->capture_begin(r->dev, s, RFN_CAPTURE_GLOBAL));
    CODE(r, B->launch(r->dev, s, &none, &args, &node), 801);
    end_counts(r, s, 0, 0, 0);
}

int main(int argc, char **argv)
{
    static void (*const tests[])(struct rig *) = {
        synchronous_copies_pass_silently,
        synchronous_copies_conflict_with_blocking,
        work_elsewhere_runs_now,
        asynchronous_work_becomes_nodes,
        unsafe_calls_obey_the_predicate,
        predicate_knows_no_devices,
        capturing_streams_are_not_waited_for,
        safe_calls_are_safe,
        captured_events_have_no_state,
        waits_across_the_border,
        forks_must_be_joined,
        captures_end_where_they_began,
        captures_begin_once,
        invalidated_captures_stay_so,
        children_that_double_are_refused,
        children_too_deep_are_refused,
        host_functions_cannot_call,
        ops_without_twin_are_refused,
    };
    struct harness h;
    harness_begin(&h, "host_capture", &argc, argv);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
    {
        static const enum rfn_host_sched sched[] = { RFN_SCHED_FIFO, RFN_SCHED_LAZY,
                                                     RFN_SCHED_RANDOM };
        for (int k = 0; k < 3; k++)
        {
            struct rig r;
            rig_open(&r, &h, sched[k], h.seed);
            tests[i](&r);
            rig_close(&r);
        }
    }
    return harness_end(&h);
}
