/* Bad: a graph of another bucket is instantiated when it is first needed, which is inside the
 * capture of this one. The end says only that the capture was lost. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap034_bad", &argc, argv))
        return step_close(&s);

    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_capture_begin(s.side, NULL));
    WORKS(&s, rfn_index_topk(s.side, &s.pick));
    WORKS(&s, rfn_capture_end(s.side, &graph));

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    step_refused(&s, rfn_graph_instantiate(graph, &exec));
    step_lost(&s, s.stream, 901);

    step_verdict(&s, RFN_CAP034, __FILE__, planted, "graph_instantiate");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
