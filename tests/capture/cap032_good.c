/* Good: the error path ends the capture and drops its graph before the stream goes. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap032_good", &argc, argv))
        return step_close(&s);

    struct rfn_stream *stream = NULL;
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_NONBLOCKING, &stream));
    WORKS(&s, rfn_region_begin("capture"));
    WORKS(&s, rfn_capture_begin(stream, NULL));
    WORKS(&s, rfn_index_topk(stream, &s.pick));
    struct rfn_index_topk_args wrong = s.pick;
    wrong.lens.dtype = RFN_F32;
    if (rfn_index_topk(stream, &wrong) != RFN_OK)
    {
        WORKS(&s, rfn_capture_end(stream, &graph));
        WORKS(&s, rfn_graph_destroy(&graph));
    }
    WORKS(&s, rfn_region_end());
    WORKS(&s, rfn_stream_destroy(&stream));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
