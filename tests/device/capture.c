/*
 * Calls beside and inside a capture, against what was measured on an H200 with driver
 * 580.159: the number, the status after, the result of the end, and the nodes; in the three
 * modes, from the thread that captures and from another one, with their thread modes
 * exchanged.
 */
#include "tests/device/open.h"

#include <pthread.h>

#define BYTES 256

struct world
{
    struct test *t;
    struct rfn_device *dev;
    struct rfn_stream *s; /* captures */
    struct rfn_stream *other;
    struct rfn_stream *legacy;
    struct rfn_event *outside;  /* recorded before */
    struct rfn_event *captured; /* recorded in the capture */
    struct rfn_graph *ready;    /* captured before: one memset of `spare` */
    struct rfn_exec *exec;
    struct rfn_exec *updatable;
    unsigned char *a, *b, *spare, *pinned;
    unsigned char pageable[BYTES];
    struct rfn_index_topk_args topk;
    void *to_free;
};

static void nothing(void *user)
{
    (void)user;
}

/* ---- the calls -------------------------------------------------------------------- */

static enum rfn_status create_and_destroy_stream(struct world *w)
{
    struct rfn_stream *s = NULL;
    enum rfn_status status = rfn_stream_create(w->dev, RFN_STREAM_BLOCKING, &s);
    return status == RFN_OK ? rfn_stream_destroy(&s) : status;
}

static enum rfn_status create_and_destroy_event(struct world *w)
{
    struct rfn_event *e = NULL;
    enum rfn_status status = rfn_event_create(w->dev, &e);
    return status == RFN_OK ? rfn_event_destroy(&e) : status;
}

static enum rfn_status alloc(struct world *w)
{
    void *p = NULL;
    enum rfn_status status = rfn_memory_alloc(w->dev, RFN_MEMORY_DEVICE, 64, &p);
    HOLDS(w->t, status == RFN_OK || !p);
    return status == RFN_OK ? rfn_memory_free(w->dev, p) : status;
}

static enum rfn_status free_memory(struct world *w)
{
    enum rfn_status status = rfn_memory_free(w->dev, w->to_free);
    if (status == RFN_OK)
        w->to_free = NULL;
    return status;
}

static enum rfn_status instantiate(struct world *w)
{
    struct rfn_exec *exec = NULL;
    enum rfn_status status = rfn_graph_instantiate(w->ready, &exec);
    HOLDS(w->t, status == RFN_OK || !exec);
    if (status != RFN_OK)
        return status;
    /* Destroying may be unsafe itself; here is only a place to do it without a thread. */
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    rfn_thread_mode_exchange(w->dev, &mode);
    rfn_exec_destroy(&exec);
    rfn_thread_mode_exchange(w->dev, &mode);
    return status;
}

static enum rfn_status end_other(struct world *w)
{
    struct rfn_graph *g = NULL;
    enum rfn_status status = rfn_capture_end(w->other, &g);
    HOLDS(w->t, !g);
    return status;
}

static enum rfn_status query_legacy(struct world *w)
{
    struct rfn_capture_info info;
    return rfn_capture_query(w->legacy, &info);
}

static enum rfn_status elapsed(struct world *w)
{
    float ms;
    return rfn_event_elapsed(w->captured, w->captured, &ms);
}

/* What comes of a call: UNSAFE is 900 by the thread-mode predicate, else fine. */
enum outcome
{
    FINE,
    UNSAFE,
    NODE,
    ERROR, /* and invalidated */
    KEEPS, /* an error that leaves the capture active */
};

/* X(call, beside a non-blocking capture: outcome, code or node type,
 *         beside a blocking capture of the same thread: outcome, code or node type) */
#define SAME(o, v)                                                                       \
    { o, o },                                                                            \
    {                                                                                    \
        v, v                                                                             \
    }
#define TWO(o, v, bo, bv)                                                                \
    { o, bo },                                                                           \
    {                                                                                    \
        v, bv                                                                            \
    }
#define CALLS(X)                                                                         \
    X(rfn_stream_sync(w->s), SAME(ERROR, 900))                                           \
    X(rfn_stream_query(w->s), SAME(ERROR, 900))                                          \
    X(rfn_device_sync(w->dev), SAME(ERROR, 900))                                         \
    X(rfn_exec_launch(w->exec, w->s), SAME(ERROR, 900))                                  \
    X(rfn_stream_sync(w->other), SAME(UNSAFE, 900))                                      \
    X(rfn_stream_query(w->other), SAME(UNSAFE, 900))                                     \
    X(rfn_event_query(w->outside), SAME(UNSAFE, 900))                                    \
    X(rfn_event_sync(w->outside), SAME(UNSAFE, 900))                                     \
    X(alloc(w), SAME(UNSAFE, 900))                                                       \
    X(free_memory(w), SAME(UNSAFE, 900))                                                 \
    X(rfn_memory_free(w->dev, NULL), SAME(UNSAFE, 900))                                  \
    X(instantiate(w), SAME(UNSAFE, 900))                                                 \
    X(rfn_stream_sync(w->legacy), TWO(UNSAFE, 900, ERROR, 906))                          \
    X(rfn_copy_sync(w->dev, w->a, w->pageable, BYTES), TWO(FINE, 0, ERROR, 906))         \
    X(rfn_copy_sync(w->dev, w->pageable, w->a, BYTES), TWO(FINE, 0, ERROR, 906))         \
    X(rfn_copy_sync(w->dev, w->pinned, w->a, 4), TWO(FINE, 0, ERROR, 906))               \
    X(rfn_copy_sync(w->dev, w->a, w->b, BYTES), TWO(FINE, 0, ERROR, 906))                \
    X(rfn_set_sync(w->dev, w->a, 1, BYTES), TWO(FINE, 0, ERROR, 906))                    \
    X(rfn_copy_async(w->legacy, w->a, w->b, BYTES), TWO(FINE, 0, ERROR, 906))            \
    X(rfn_index_topk(w->legacy, &w->topk), TWO(FINE, 0, ERROR, 906))                     \
    X(query_legacy(w), TWO(FINE, 0, KEEPS, 906))                                         \
    X(rfn_capture_begin(w->legacy, NULL), TWO(KEEPS, 900, ERROR, 906))                   \
    X(rfn_stream_wait(w->legacy, w->captured, 0), SAME(ERROR, 906))                      \
    X(rfn_copy_async(w->other, w->a, w->b, BYTES), SAME(FINE, 0))                        \
    X(rfn_set_async(w->other, w->a, 2, BYTES), SAME(FINE, 0))                            \
    X(rfn_index_topk(w->other, &w->topk), SAME(FINE, 0))                                 \
    X(rfn_exec_launch(w->exec, w->other), SAME(FINE, 0))                                 \
    X(rfn_exec_update(w->updatable, 0, &w->topk), SAME(FINE, 0))                         \
    X(create_and_destroy_stream(w), SAME(FINE, 0))                                       \
    X(create_and_destroy_event(w), SAME(FINE, 0))                                        \
    X(rfn_capture_begin(w->s, NULL), SAME(KEEPS, 401))                                   \
    X(end_other(w), SAME(KEEPS, 401))                                                    \
    X(rfn_capture_add_child(w->other, w->ready), SAME(KEEPS, 401))                       \
    X(elapsed(w), SAME(KEEPS, 907))                                                      \
    X(rfn_event_query(w->captured), SAME(ERROR, 907))                                    \
    X(rfn_event_sync(w->captured), SAME(ERROR, 907))                                     \
    X(rfn_stream_wait(w->s, w->outside, 0), SAME(ERROR, 905))                            \
    X(rfn_stream_wait(w->s, w->captured, 0), SAME(FINE, 0))                              \
    X(rfn_stream_wait(w->s, w->outside, RFN_EVENT_EXTERNAL),                             \
      SAME(NODE, RFN_NODE_EVENT_WAIT))                                                   \
    X(rfn_event_record(w->outside, w->s, RFN_EVENT_EXTERNAL),                            \
      SAME(NODE, RFN_NODE_EVENT_RECORD))                                                 \
    X(rfn_copy_async(w->s, w->a, w->pageable, BYTES), SAME(NODE, RFN_NODE_MEMCPY))       \
    X(rfn_copy_async(w->s, w->pageable, w->a, BYTES), SAME(NODE, RFN_NODE_MEMCPY))       \
    X(rfn_copy_async(w->s, w->pageable, w->pinned, BYTES), SAME(NODE, RFN_NODE_MEMCPY))  \
    X(rfn_copy_async(w->s, w->pinned, w->a, BYTES), SAME(NODE, RFN_NODE_MEMCPY))         \
    X(rfn_copy_async(w->s, w->b, w->a, BYTES), SAME(NODE, RFN_NODE_MEMCPY))              \
    X(rfn_set_async(w->s, w->a, 3, BYTES), SAME(NODE, RFN_NODE_MEMSET))                  \
    X(rfn_host_call(w->s, nothing, w), SAME(NODE, RFN_NODE_HOST))                        \
    X(rfn_index_topk(w->s, &w->topk), SAME(NODE, RFN_NODE_KERNEL))                       \
    X(rfn_capture_add_child(w->s, w->ready), SAME(NODE, RFN_NODE_CHILD))

/* clang-format off */
#define CALL(call, ...) if (row-- == 0) return call;
/* clang-format on */
static enum rfn_status make_call(struct world *w, int row)
{
    CALLS(CALL)
    return RFN_NOT_FOUND;
}

#define ROW(call, ...) { #call, __VA_ARGS__ },
static const struct row
{
    const char *name;
    enum outcome outcome[2];
    int value[2];
} rows[] = { CALLS(ROW) };
#define ROWS ((int)(sizeof rows / sizeof rows[0]))

/* ---- one case --------------------------------------------------------------------- */

struct job
{
    struct world *w;
    int row;
    enum rfn_capture_mode thread_mode;
    enum rfn_status status;
    int code;
    char line[512];
};

static void *do_job(void *user)
{
    struct job *j = user;
    enum rfn_capture_mode mode = j->thread_mode;
    OK(j->w->t, rfn_thread_mode_exchange(j->w->dev, &mode));
    HOLDS(j->w->t, mode == RFN_CAPTURE_GLOBAL);
    j->status = make_call(j->w, j->row);
    j->code = j->status ? rfn_last_code() : 0;
    snprintf(j->line, sizeof j->line, "%.500s", j->status ? rfn_last_error() : "");
    OK(j->w->t, rfn_thread_mode_exchange(j->w->dev, &mode));
    HOLDS(j->w->t, mode == j->thread_mode);
    return NULL;
}

/* The thread-mode predicate with one open capture, in words of its own. */
static int is_unsafe(enum rfn_capture_mode capture, int same_thread,
                     enum rfn_capture_mode thread)
{
    if (thread == RFN_CAPTURE_RELAXED)
        return 0;
    if (same_thread)
        return capture != RFN_CAPTURE_RELAXED;
    return thread == RFN_CAPTURE_GLOBAL && capture == RFN_CAPTURE_GLOBAL;
}

static void try_one(struct world *w, int row, int blocking, enum rfn_capture_mode mode,
                    int same_thread, enum rfn_capture_mode thread_mode)
{
    struct test *t = w->t;
    struct job j = { .w = w, .row = row, .thread_mode = thread_mode };
    enum outcome outcome = rows[row].outcome[blocking];
    int value = rows[row].value[blocking];
    if (outcome == UNSAFE)
        outcome = is_unsafe(mode, same_thread, thread_mode) ? ERROR : FINE;
    char name[256];
    snprintf(name, sizeof name, "%.150s, %s, mode %d, %s thread in mode %d",
             rows[row].name, blocking ? "blocking" : "non-blocking", mode,
             same_thread ? "same" : "another", thread_mode);

    struct rfn_capture_desc desc = { .mode = mode };
    struct rfn_capture_info before, after;
    w->s = test_stream(t, blocking ? RFN_STREAM_BLOCKING : RFN_STREAM_NONBLOCKING);
    OK(t, rfn_event_record(w->outside, w->other, 0));
    OK(t, rfn_device_sync(t->dev)); /* nothing is NOT_READY */
    OK(t, rfn_capture_begin(w->s, &desc));
    OK(t, rfn_set_async(w->s, w->spare, 1, BYTES));
    OK(t, rfn_event_record(w->captured, w->s, 0));
    OK(t, rfn_capture_query(w->s, &before));
    if (same_thread)
        do_job(&j);
    else
    {
        pthread_t thread;
        pthread_create(&thread, NULL, do_job, &j);
        pthread_join(thread, NULL);
    }
    int code = outcome == ERROR || outcome == KEEPS ? value : 0;
    harness_check(&t->h, name, j.code == code && (j.status == RFN_OK) == !code,
                  "%s, code %d where %d is due: %s", rfn_status_name(j.status), j.code,
                  code, j.line);
    OK(t, rfn_capture_query(w->s, &after));
    enum rfn_capture_status status =
        outcome == ERROR ? RFN_CAPTURE_INVALIDATED : RFN_CAPTURE_ACTIVE;
    harness_check(&t->h, name, after.status == status,
                  "status %d after it where %d is due", after.status, status);
    harness_check(&t->h, name, after.id == before.id, "id %llu, and %llu before",
                  (unsigned long long)after.id, (unsigned long long)before.id);

    struct rfn_graph *graph = NULL;
    enum rfn_status ended = rfn_capture_end(w->s, &graph);
    int end = ended ? rfn_last_code() : 0, end_due = outcome == ERROR ? 901 : 0;
    harness_check(&t->h, name, end == end_due && !graph == !!end_due,
                  "the end gives %d where %d is due: %s", end, end_due,
                  end ? rfn_last_error() : "");
    OK(t, rfn_capture_query(w->s, &after));
    HOLDS(t, after.status == RFN_CAPTURE_NONE && after.id == 0);
    if (graph)
    {
        struct rfn_graph_info info;
        int due[RFN_NODE_TYPES] = { [RFN_NODE_MEMSET] = 1 };
        if (outcome == NODE)
            due[value]++;
        OK(t, rfn_graph_query(graph, &info));
        int same = memcmp(due, info.node, sizeof due) == 0;
        harness_check(&t->h, name, same && info.nodes == 1 + (outcome == NODE),
                      "%d nodes; kernels %d copies %d sets %d", info.nodes, info.node[0],
                      info.node[1], info.node[2]);
        HOLDS(t, info.capture_id == before.id);
        OK(t, rfn_graph_destroy(&graph));
    }
    OK(t, rfn_stream_destroy(&w->s));
    if (!w->to_free)
        w->to_free = test_device_memory(t, 64);
}

static void make_world(struct world *w, struct test *t)
{
    *w = (struct world) { .t = t, .dev = t->dev, .legacy = rfn_stream_legacy(t->dev) };
    struct rfn_graph *one = NULL;
    w->other = test_stream(t, RFN_STREAM_NONBLOCKING);
    w->outside = test_event(t);
    w->captured = test_event(t);
    w->a = test_device_memory(t, BYTES);
    w->b = test_device_memory(t, BYTES);
    w->spare = test_device_memory(t, 4 * BYTES);
    w->pinned = test_alloc(t, RFN_MEMORY_PINNED, BYTES);
    w->to_free = test_device_memory(t, 64);
    memset(w->pinned, 0, BYTES);
    OK(t, rfn_set_sync(t->dev, w->a, 0, BYTES));
    OK(t, rfn_set_sync(t->dev, w->b, 0, BYTES));
    OK(t, rfn_set_sync(t->dev, w->spare, 0, 4 * BYTES));
    w->topk = (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(w->spare + BYTES, RFN_F32, 1, 8, 0, 0),
        .lens = rfn_tensor_of(w->spare + 2 * BYTES, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(w->spare + 3 * BYTES, RFN_I32, 1, 4, 0, 0),
    };
    OK(t, rfn_capture_begin(w->other, NULL));
    OK(t, rfn_set_async(w->other, w->spare, 1, BYTES));
    OK(t, rfn_capture_end(w->other, &w->ready));
    OK(t, rfn_graph_instantiate(w->ready, &w->exec));
    OK(t, rfn_capture_begin(w->other, NULL));
    OK(t, rfn_index_topk(w->other, &w->topk));
    OK(t, rfn_capture_end(w->other, &one));
    OK(t, rfn_graph_instantiate(one, &w->updatable));
    OK(t, rfn_graph_destroy(&one));
}

static void end_world(struct world *w)
{
    struct test *t = w->t;
    OK(t, rfn_device_sync(t->dev));
    OK(t, rfn_exec_destroy(&w->exec));
    OK(t, rfn_exec_destroy(&w->updatable));
    OK(t, rfn_graph_destroy(&w->ready));
    OK(t, rfn_event_destroy(&w->outside));
    OK(t, rfn_event_destroy(&w->captured));
    OK(t, rfn_stream_destroy(&w->other));
    FREE(t, w->a);
    FREE(t, w->b);
    FREE(t, w->spare);
    FREE(t, w->pinned);
    FREE(t, w->to_free);
}

/* What runs beside a capture is done now, not at replay. */
static void calls_beside_a_capture_run_now(struct world *w)
{
    struct test *t = w->t;
    struct rfn_graph *graph = NULL;
    w->s = test_stream(t, RFN_STREAM_NONBLOCKING);
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    OK(t, rfn_thread_mode_exchange(t->dev, &mode));
    OK(t, rfn_capture_begin(w->s, NULL));
    OK(t, rfn_set_async(w->s, w->b, 77, BYTES));
    memset(w->pageable, 21, BYTES);
    OK(t, rfn_copy_sync(t->dev, w->a, w->pageable, BYTES));
    HOLDS(t, test_all(t, w->a, BYTES, 21));
    OK(t, rfn_set_async(w->other, w->a, 22, BYTES));
    OK(t, rfn_stream_sync(w->other));
    HOLDS(t, test_all(t, w->a, BYTES, 22));
    OK(t, rfn_set_async(w->legacy, w->a, 23, BYTES));
    HOLDS(t, test_all(t, w->a, BYTES, 23));
    HOLDS(t, !test_all(t, w->b, BYTES, 77)); /* a node has not run */
    OK(t, rfn_capture_end(w->s, &graph));
    OK(t, rfn_thread_mode_exchange(t->dev, &mode));
    HOLDS(t, !test_all(t, w->b, BYTES, 77));
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_stream_destroy(&w->s));
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "capture", &argc, argv);
    make_world(&w, &t);
    for (int row = 0; row < ROWS; row++)
        for (int mode = RFN_CAPTURE_GLOBAL; mode <= RFN_CAPTURE_RELAXED; mode++)
            for (int thread = RFN_CAPTURE_GLOBAL; thread <= RFN_CAPTURE_RELAXED; thread++)
            {
                try_one(&w, row, 0, mode, 1, thread);
                try_one(&w, row, 0, mode, 0, thread);
                try_one(&w, row, 1, mode, 1, thread);
            }
    calls_beside_a_capture_run_now(&w);
    end_world(&w);
    return test_end(&t);
}
