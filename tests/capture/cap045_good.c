/* Good: the op is in the graph, itself or as a child graph's. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap045_good", &argc, argv))
        return step_close(&s);

    struct rfn_graph *child = NULL;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &child));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_capture_add_child(s.stream, child));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_destroy(&child));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
