/* Several threads capture at once, each with one mistake a capture: every finding and every
 * ledger comes out whole and with its own thread. */
#include "tests/capture/step.h"

#include <pthread.h>

#define THREADS 4
#define CAPTURES 40

struct worker
{
    struct step *s;
    struct rfn_stream *stream;
    enum rfn_capture_mode mode;
    int line; /* of its first mistake; past eight captures findings of one site are one */
    uint64_t id[CAPTURES];
    int wrong;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct step *s = w->s;
    struct rfn_capture_desc desc = { w->mode, NULL };
    for (int i = 0; i < CAPTURES; i++)
    {
        struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
        struct rfn_graph *graph = NULL;
        int32_t lens[STEP_ROWS];
        w->wrong += rfn_capture_begin(w->stream, &desc) != RFN_OK;
        w->wrong += rfn_capture_query(w->stream, &info) != RFN_OK;
        w->wrong += rfn_index_topk(w->stream, &s->pick) != RFN_OK;
        rfn_site_note(__FILE__, w->line + i);
        w->wrong += (rfn_copy_sync)(s->device, lens, s->lens, STEP_LENS_BYTES) != RFN_OK;
        w->wrong += rfn_index_topk(w->stream, &s->pick) != RFN_OK;
        w->wrong += rfn_capture_end(w->stream, &graph) != RFN_OK;
        w->wrong += rfn_graph_destroy(&graph) != RFN_OK;
        w->wrong += rfn_copy_sync(s->device, lens, s->lens, STEP_LENS_BYTES) != RFN_OK;
        w->wrong += rfn_check_ledger_count(s->check, info.id) != 2;
        w->id[i] = info.id;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    static struct worker worker[THREADS];
    pthread_t thread[THREADS];
    int started = 0;
    if (!step_open(&s, "threads", &argc, argv))
        return step_close(&s);
    for (int t = 0; t < THREADS; t++)
    {
        worker[t].s = &s;
        worker[t].line = 1000 + t * CAPTURES;
        worker[t].mode = t % 2 ? RFN_CAPTURE_RELAXED : RFN_CAPTURE_THREAD_LOCAL;
        WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_NONBLOCKING, &worker[t].stream));
    }
    while (started < THREADS &&
           !pthread_create(&thread[started], NULL, work, &worker[started]))
        started++;
    for (int t = 0; t < started; t++)
        pthread_join(thread[t], NULL);
    harness_check(&s.h, "threads", started == THREADS, "%d started", started);

    int32_t count = rfn_check_count(s.check);
    harness_check(&s.h, "a finding a capture", count == THREADS * CAPTURES, "%d, not %d",
                  count, THREADS * CAPTURES);
    for (int t = 0; t < THREADS; t++)
    {
        struct rfn_ledger_entry e = { 0 };
        int found = 0;
        harness_check(&s.h, "calls of a thread", worker[t].wrong == 0, "%d failed",
                      worker[t].wrong);
        for (int i = 0; i < CAPTURES; i++)
        {
            WORKS(&s, rfn_check_ledger(s.check, worker[t].id[i], 1, &e, NULL, 0));
            for (int32_t n = 0; n < count; n++)
            {
                struct rfn_finding f;
                found += rfn_check_finding(s.check, n, &f) == RFN_OK &&
                         f.capture_id == worker[t].id[i] && f.thread == e.thread &&
                         f.rule == RFN_CAP002 && f.count == 1;
            }
        }
        harness_check(&s.h, "findings of a thread", found == CAPTURES, "%d, not %d",
                      found, CAPTURES);
        WORKS(&s, rfn_stream_destroy(&worker[t].stream));
    }
    return step_close(&s);
}
