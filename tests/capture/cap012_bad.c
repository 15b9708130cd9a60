/* Bad: a library was not told of the stream and launches on the legacy one. Beside a
 * non-blocking capture the driver lets it pass: it runs at once and is in no graph. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap012_bad", &argc, argv))
        return step_close(&s);

    struct rfn_stream *library = rfn_stream_legacy(s.device);
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_index_topk(library, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP012, __FILE__, planted, "op_launch");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
