/* Good: every graph is instantiated where it was captured, behind the end. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap034_good", &argc, argv))
        return step_close(&s);

    struct rfn_graph *other = NULL;
    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_capture_begin(s.side, NULL));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_capture_end(s.side, &other));
    WORKS(&s, rfn_graph_instantiate(other, &exec));

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_exec_launch(exec, s.side)); /* a ready one may be launched beside */
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_stream_sync(s.side));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&other));
    return step_close(&s);
}
