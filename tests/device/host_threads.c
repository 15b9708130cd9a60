/*
 * Threads on one device and on two: work, captures and replays at the same time. Meant for
 * a thread sanitizer.
 */
#include "tests/device/backend.h"

#define THREADS 4
#define ROUNDS 40

struct worker
{
    struct rig *r;
    void *a, *b;
    int32_t *pinned;
    int32_t index;
    int bad;
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
        for (int i = 0; i < 2; i++)
            rig_close(&rig[i]);
    }
    return harness_end(&h);
}
