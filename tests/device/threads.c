/*
 * Four threads on one device at once, each with its own stream, buffers, events, captures
 * and allocations: right results, and for ThreadSanitizer to look at. --ms N: how long.
 */
#include "tests/device/open.h"
#include "tests/support/rng.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define THREADS 4
#define S 64
#define BYTES 512

struct worker
{
    struct test *t;
    uint64_t seed;
    struct timespec until;
    int rounds;
    int bad; /* line of the first thing that went wrong */
    char line[512];
};

static _Atomic int host_calls;

static void count(void *user)
{
    (void)user;
    host_calls++;
}

/* Counting checks is for one thread: a worker keeps its first failure. */
#define MUST(condition)                                                                  \
    do                                                                                   \
    {                                                                                    \
        if (!(condition))                                                                \
        {                                                                                \
            w->bad = __LINE__;                                                           \
            snprintf(w->line, sizeof w->line, "%.100s: %.400s", #condition,              \
                     rfn_last_error());                                                  \
            return;                                                                      \
        }                                                                                \
    } while (0)
#define GOOD(call) MUST((call) == RFN_OK)

struct things
{
    struct rfn_stream *s, *other;
    struct rfn_event *e;
    float *logits;
    int32_t *lens, *positions;
    unsigned char *a, *b, *pinned;
    struct rfn_index_topk_args topk;
};

/* No blocking streams: the others' synchronous copies would invalidate their captures. */
static void make_things(struct worker *w, struct things *x)
{
    struct rfn_device *dev = w->t->dev;
    GOOD(rfn_stream_create(dev, RFN_STREAM_NONBLOCKING, &x->s));
    GOOD(rfn_stream_create(dev, RFN_STREAM_NONBLOCKING, &x->other));
    GOOD(rfn_event_create(dev, &x->e));
    GOOD(rfn_memory_alloc(dev, RFN_MEMORY_DEVICE, S * 4, (void *)&x->logits));
    GOOD(rfn_memory_alloc(dev, RFN_MEMORY_DEVICE, 4, (void *)&x->lens));
    GOOD(rfn_memory_alloc(dev, RFN_MEMORY_DEVICE, 4, (void *)&x->positions));
    GOOD(rfn_memory_alloc(dev, RFN_MEMORY_DEVICE, BYTES, (void *)&x->a));
    GOOD(rfn_memory_alloc(dev, RFN_MEMORY_DEVICE, BYTES, (void *)&x->b));
    GOOD(rfn_memory_alloc(dev, RFN_MEMORY_PINNED, BYTES, (void *)&x->pinned));
    x->topk = (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(x->logits, RFN_F32, 1, S, 0, 0),
        .lens = rfn_tensor_of(x->lens, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(x->positions, RFN_I32, 1, 1, 0, 0),
    };
}

static void drop_things(struct worker *w, struct things *x)
{
    struct rfn_device *dev = w->t->dev;
    void *all[] = { x->logits, x->lens, x->positions, x->a, x->b, x->pinned };
    for (int i = 0; i < 6; i++)
        GOOD(rfn_memory_free(dev, all[i]));
    GOOD(rfn_event_destroy(&x->e));
    GOOD(rfn_stream_destroy(&x->s));
    GOOD(rfn_stream_destroy(&x->other));
}

/* The scores' largest stands where it was put; over two streams and an event. */
static void eager(struct worker *w, struct things *x, struct rng *rng)
{
    float scores[S];
    int32_t count_of = S, found = -2, largest = (int32_t)rng_below(rng, S);
    for (int i = 0; i < S; i++)
        scores[i] = i == largest ? 1.0f : 0.0f;
    GOOD(rfn_copy_async(x->s, x->logits, scores, sizeof scores));
    GOOD(rfn_copy_async(x->s, x->lens, &count_of, 4));
    GOOD(rfn_event_record(x->e, x->s, 0));
    GOOD(rfn_stream_wait(x->other, x->e, 0));
    GOOD(rfn_index_topk(x->other, &x->topk));
    GOOD(rfn_host_call(x->other, count, NULL));
    GOOD(rfn_copy_async(x->other, &found, x->positions, 4));
    GOOD(rfn_stream_sync(x->other));
    MUST(found == largest);
    GOOD(rfn_event_sync(x->e));
    enum rfn_status status = rfn_stream_query(x->s);
    MUST(status == RFN_OK || status == RFN_NOT_READY);
}

static void captured(struct worker *w, struct things *x, struct rng *rng)
{
    struct rfn_capture_desc desc = { RFN_CAPTURE_THREAD_LOCAL, "a thread's" };
    struct rfn_capture_info info;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info made;
    struct rfn_exec *exec = NULL;
    int value = (int)rng_between(rng, 1, 255);
    GOOD(rfn_capture_begin(x->s, &desc));
    GOOD(rfn_set_async(x->s, x->a, value, BYTES));
    GOOD(rfn_event_record(x->e, x->s, 0));
    GOOD(rfn_stream_wait(x->other, x->e, 0));
    GOOD(rfn_copy_async(x->other, x->b, x->a, BYTES));
    GOOD(rfn_index_topk(x->s, &x->topk));
    GOOD(rfn_event_record(x->e, x->other, 0));
    GOOD(rfn_stream_wait(x->s, x->e, 0));
    GOOD(rfn_copy_async(x->s, x->pinned, x->b, BYTES));
    GOOD(rfn_capture_query(x->s, &info));
    MUST(info.status == RFN_CAPTURE_ACTIVE);
    MUST(rfn_memory_free(w->t->dev, x->a) == RFN_BUSY);
    GOOD(rfn_capture_end(x->s, &graph));
    GOOD(rfn_graph_query(graph, &made));
    MUST(made.nodes == 4 && made.launches == 1);
    GOOD(rfn_graph_instantiate(graph, &exec));
    for (int i = 0; i < 3; i++)
    {
        GOOD(rfn_exec_update(exec, 0, &x->topk));
        GOOD(rfn_exec_launch(exec, x->s));
    }
    GOOD(rfn_stream_sync(x->s));
    for (int i = 0; i < BYTES; i++)
        MUST(x->pinned[i] == value);
    GOOD(rfn_exec_destroy(&exec));
    GOOD(rfn_graph_destroy(&graph));
}

static void churn(struct worker *w, struct rng *rng)
{
    struct rfn_device *dev = w->t->dev;
    unsigned char *some[6], seen[64], *foreign = malloc(64);
    struct rfn_memory_info info;
    MUST(foreign);
    for (int i = 0; i < 6; i++)
    {
        int64_t bytes = rng_between(rng, 64, 5000);
        enum rfn_memory_kind kind = i & 1 ? RFN_MEMORY_PINNED : RFN_MEMORY_DEVICE;
        GOOD(rfn_memory_alloc(dev, kind, bytes, (void *)&some[i]));
        GOOD(rfn_set_sync(dev, some[i], i + 1, bytes));
        GOOD(rfn_memory_query(dev, some[i] + bytes - 1, &info));
        MUST(info.base == some[i] && info.bytes == bytes);
    }
    if (w->t->host)
    {
        GOOD(rfn_memory_import(dev, foreign, 64, RFN_MEMORY_PINNED));
        GOOD(rfn_copy_sync(dev, foreign, some[0], 64));
        MUST(foreign[63] == 1);
        GOOD(rfn_memory_release(dev, foreign));
    }
    free(foreign);
    for (int i = 5; i >= 0; i--)
    {
        GOOD(rfn_copy_sync(dev, seen, some[i], 64));
        MUST(seen[0] == i + 1 && seen[63] == i + 1);
        GOOD(rfn_memory_free(dev, some[i]));
    }
    MUST(rfn_memory_free(dev, seen) == RFN_INVALID);
    MUST(strstr(rfn_last_error(), "no live allocation"));
}

static int late(const struct worker *w)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > w->until.tv_sec ||
           (now.tv_sec == w->until.tv_sec && now.tv_nsec > w->until.tv_nsec);
}

static void *work(void *user)
{
    struct worker *w = user;
    struct rng rng = rng_of(w->seed);
    do
    {
        struct things x = { 0 };
        make_things(w, &x);
        for (int i = 0; i < 4 && !w->bad; i++)
        {
            eager(w, &x, &rng);
            if (!w->bad)
                captured(w, &x, &rng);
            if (!w->bad)
                churn(w, &rng);
        }
        if (!w->bad)
            drop_things(w, &x);
        w->rounds++;
    } while (!w->bad && !late(w));
    return NULL;
}

int main(int argc, char **argv)
{
    struct test t;
    struct worker worker[THREADS];
    pthread_t thread[THREADS];
    struct timespec until;
    test_begin(&t, "threads", &argc, argv);
    const char *sched = getenv("RFN_HOST_SCHED"); /* many seeds make up for a short run */
    int64_t ms = sched && strncmp(sched, "random", 6) == 0 ? 100 : 1000;
    if (argc > 2 && strcmp(argv[1], "--ms") == 0)
        ms = atoi(argv[2]);
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + ms * 1000000;
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    for (int i = 0; i < THREADS; i++)
    {
        worker[i] =
            (struct worker) { .t = &t, .seed = t.h.seed + (uint64_t)i, .until = until };
        pthread_create(&thread[i], NULL, work, &worker[i]);
    }
    int rounds = 0;
    for (int i = 0; i < THREADS; i++)
    {
        pthread_join(thread[i], NULL);
        harness_check(&t.h, "a thread among others gets right results", !worker[i].bad,
                      "thread %d, line %d: %s", i, worker[i].bad, worker[i].line);
        rounds += worker[i].rounds;
    }
    printf("%d rounds\n", rounds);
    if (t.h.failed)
        return harness_end(&t.h); /* what they left cannot be closed */
    OK(&t, rfn_device_sync(t.dev));
    HOLDS(&t, host_calls == 4 * rounds);
    return test_end(&t);
}
