/* Bad: the step is captured on a stream that orders with the legacy one; it goes well as long
 * as nobody uses that. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap013_bad", &argc, argv))
        return step_close(&s);

    struct rfn_stream *blocking = NULL;
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_BLOCKING, &blocking));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_capture_begin(blocking, NULL));
    WORKS(&s, rfn_index_topk(blocking, &s.pick));
    WORKS(&s, rfn_capture_end(blocking, &graph));

    step_verdict(&s, RFN_CAP013, __FILE__, planted, "capture_begin");
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_stream_destroy(&blocking));
    return step_close(&s);
}
