/* Bad: the step is captured with the wait that the eager loop had behind it. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap001_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    int planted = __LINE__ + 1;
    enum rfn_status waited = rfn_stream_sync(s.stream);
    harness_check(&s.h, "the wait is refused", waited == RFN_CAPTURE, "%s",
                  rfn_status_name(waited));
    enum rfn_status ended = rfn_capture_end(s.stream, &graph);
    harness_check(&s.h, "the capture is lost", ended == RFN_CAPTURE && !graph, "%s",
                  rfn_status_name(ended));

    step_verdict(&s, RFN_CAP001, __FILE__, planted, "stream_sync");
    return step_close(&s);
}
