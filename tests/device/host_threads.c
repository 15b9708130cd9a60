/*
 * Threads on one device and on two: work, captures and replays at the same time. Meant for
 * a thread sanitizer.
 */
#include "runtime/host/host.h"
#include "tests/device/backend.h"

#define THREADS 4
#define ROUNDS 40
#define SHORT 2000 /* threads that come and go, of all schedules */
#define AT_ONCE 8

struct worker
{
    struct rig *r;
    void *a, *b;
    int32_t *pinned;
    int32_t index;
    int bad;
    uint64_t id;
};

static void *run(void *arg)
{
    struct worker *w = arg;
    struct rig *r = w->r;
    void *dev = r->dev, *node, *graph = NULL, *exec = NULL, *s = NULL, *e = NULL;
    struct rfn_copy up = { w->a, w->pinned, BYTES, RFN_MEMORY_DEVICE, RFN_MEMORY_PINNED };
    struct rfn_copy down = { w->pinned, w->b, BYTES, RFN_MEMORY_PINNED,
                             RFN_MEMORY_DEVICE };
    w->bad += B->stream_create(dev, RFN_STREAM_NONBLOCKING, &s) != 0;
    w->bad += B->event_create(dev, &e) != 0;
    for (int32_t i = 0; i < ROUNDS; i++)
    {
        struct add_args args = add_of(w->b, w->a, w->index);
        for (int k = 0; k < N; k++)
            w->pinned[k] = i;
        w->bad += B->capture_begin(dev, s, RFN_CAPTURE_THREAD_LOCAL) != 0;
        w->bad += B->copy_async(dev, s, &up) != 0;
        w->bad += B->launch(dev, s, &add_op, &args, &node) != 0;
        w->bad += B->copy_async(dev, s, &down) != 0;
        w->bad += B->capture_end(dev, s, &graph) != 0;
        w->bad += B->graph_instantiate(dev, graph, &exec) != 0;
        w->bad += B->graph_destroy(dev, graph) != 0;
        w->bad += B->exec_launch(dev, exec, s) != 0;
        w->bad += B->event_record(dev, e, s, 0) != 0;
        w->bad += B->stream_wait(dev, r->per_thread, e, 0) != 0;
        w->bad += B->copy_async(dev, r->per_thread, &down) != 0;
        if (i & 1)
            w->bad += B->stream_sync(dev, r->per_thread) != 0;
        else
            while (B->stream_query(dev, r->per_thread) == 600)
                continue;
        for (int k = 0; k < N; k++)
            w->bad += w->pinned[k] != i + w->index;
        w->bad += B->exec_destroy(dev, exec) != 0;
    }
    w->bad += B->event_destroy(dev, e) != 0;
    w->bad += B->stream_destroy(dev, s) != 0;
    return NULL;
}

/* ---- threads that end ------------------------------------------------------------- */

static int own_streams(const struct rig *r)
{
    const struct rfn_host_device *d = r->dev;
    int n = 0;
    for (const struct rfn_host_stream *s = d->streams; s; s = s->next)
        n += s->kind == RFN_STREAM_PER_THREAD;
    return n;
}

static void *run_short(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 2; i++)
    {
        struct rig *r = &w->r[i];
        w->bad += set(r, r->per_thread, r->a, w->index) != 0;
        w->bad += B->stream_sync(r->dev, r->per_thread) != 0;
    }
    return NULL;
}

/* Some end while another device is opened and closed. */
static void streams_of_ended_threads_are_used_again(struct harness *h, struct rig rig[2],
                                                    enum rfn_host_sched sched)
{
    for (int wave = 0; wave < SHORT / 3 / AT_ONCE; wave++)
    {
        struct worker w[AT_ONCE];
        pthread_t thread[AT_ONCE];
        struct rig other;
        for (int i = 0; i < AT_ONCE; i++)
        {
            w[i] = (struct worker) { .r = rig, .index = i };
            if (pthread_create(&thread[i], NULL, run_short, &w[i]) != 0)
                exit(1);
        }
        if (wave % 32 == 0)
        {
            rig_open(&other, h, sched, h->seed);
            OK(&other, set(&other, other.per_thread, other.a, 1));
            rig_close(&other);
        }
        for (int i = 0; i < AT_ONCE; i++)
        {
            pthread_join(thread[i], NULL);
            harness_check(h, "short threads work", w[i].bad == 0, "schedule %d", sched);
        }
    }
    for (int i = 0; i < 2; i++)
        harness_check(h, "streams of ended threads are used again",
                      own_streams(&rig[i]) <= THREADS + AT_ONCE, "schedule %d: %d", sched,
                      own_streams(&rig[i]));
}

static void *leave_a_capture(void *arg)
{
    struct worker *w = arg;
    struct rig *r = w->r;
    struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
    w->bad += B->capture_begin(r->dev, r->per_thread, RFN_CAPTURE_RELAXED) != 0;
    w->bad += set(r, r->per_thread, r->a, 1) != 0;
    w->bad += B->capture_query(r->dev, r->per_thread, &info) != 0;
    w->id = info.id;
    w->bad += rfn_host_capture_discard(r->dev, w->id); /* it can still be ended */
    return NULL;
}

static void a_capture_keeps_the_stream_of_an_ended_thread(struct harness *h,
                                                          struct rig *r)
{
    struct worker w = { .r = r }, next = { .r = r };
    in_thread(leave_a_capture, &w);
    int streams = own_streams(r);
    in_thread(leave_a_capture, &next); /* 401 if it got that stream */
    harness_check(h, "captures began", w.bad == 0 && next.bad == 0, "%d, %d", w.bad,
                  next.bad);
    HOLDS(r, w.id != next.id && own_streams(r) <= streams + 1);
    HOLDS(r, rfn_host_capture_discard(r->dev, w.id) == 1);
    HOLDS(r, rfn_host_capture_discard(r->dev, w.id) == 0);
    /* The other one goes with the device. */
}

int main(int argc, char **argv)
{
    struct harness h;
    harness_begin(&h, "host_threads", &argc, argv);
    for (int round = 0; round < 3; round++)
    {
        static const enum rfn_host_sched sched[] = { RFN_SCHED_FIFO, RFN_SCHED_LAZY,
                                                     RFN_SCHED_RANDOM };
        struct rig rig[2];
        struct worker w[THREADS];
        pthread_t thread[THREADS];
        for (int i = 0; i < 2; i++)
            rig_open(&rig[i], &h, sched[round], h.seed);
        for (int i = 0; i < THREADS; i++)
        {
            void *pinned = NULL;
            w[i] = (struct worker) { .r = &rig[i & 1], .index = i + 1 };
            OK(w[i].r, B->memory_alloc(w[i].r->dev, RFN_MEMORY_DEVICE, BYTES, &w[i].a));
            OK(w[i].r, B->memory_alloc(w[i].r->dev, RFN_MEMORY_DEVICE, BYTES, &w[i].b));
            OK(w[i].r, B->memory_alloc(w[i].r->dev, RFN_MEMORY_PINNED, BYTES, &pinned));
            w[i].pinned = pinned;
        }
        for (int i = 0; i < THREADS; i++)
            if (pthread_create(&thread[i], NULL, run, &w[i]) != 0)
                return 1;
        for (int i = 0; i < THREADS; i++)
        {
            pthread_join(thread[i], NULL);
            harness_check(&h, "threads do not disturb each other", w[i].bad == 0,
                          "schedule %d, thread %d: %d", sched[round], i, w[i].bad);
        }
        streams_of_ended_threads_are_used_again(&h, rig, sched[round]);
        a_capture_keeps_the_stream_of_an_ended_thread(&h, &rig[0]);
        for (int i = 0; i < 2; i++)
            rig_close(&rig[i]);
    }
    return harness_end(&h);
}
