/* Good: a relaxed capture and a relaxed thread that do nothing unsafe, and a relaxed thread
 * without a capture beside another one's. */
#include "tests/capture/step.h"

static void *beside(void *arg)
{
    struct step *s = arg;
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    struct rfn_stream *stream = NULL;
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &stream));
    WORKS(s, rfn_thread_mode_exchange(s->device, &mode));
    WORKS(s, rfn_event_record(s->join, stream, 0));
    WORKS(s, rfn_event_sync(s->join));
    WORKS(s, rfn_event_query(s->join));
    WORKS(s, rfn_stream_query(stream));
    WORKS(s, rfn_thread_mode_exchange(s->device, &mode));
    WORKS(s, rfn_stream_destroy(&stream));
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap035_good", &argc, argv))
        return step_close(&s);

    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, "relaxed" };
    struct rfn_capture_info info;
    WORKS(&s, rfn_capture_begin(s.stream, &desc));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_query(s.side, &info));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_destroy(&graph));

    WORKS(&s, rfn_capture_begin(s.stream, NULL)); /* global: it forbids other threads */
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    step_elsewhere(&s, beside, &s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
