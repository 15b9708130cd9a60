/* Good: the library is handed the capturing stream; the legacy one is used before and after. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap012_good", &argc, argv))
        return step_close(&s);

    struct rfn_stream *library = s.stream;
    WORKS(&s, rfn_index_topk(rfn_stream_legacy(s.device), &s.pick)); /* warm-up */
    WORKS(&s, rfn_stream_sync(rfn_stream_legacy(s.device)));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_index_topk(library, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);
    WORKS(&s, rfn_index_topk(rfn_stream_legacy(s.device), &s.pick));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
