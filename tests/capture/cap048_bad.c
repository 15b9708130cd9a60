/* Bad: the next step goes to another stream while the last replay may still run. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    if (!step_open(&s, "cap048_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_exec_launch(exec, s.side));
    WORKS(&s, rfn_exec_launch(exec, s.side)); /* behind the one before */
    WORKS(&s, rfn_device_sync(s.device));

    step_verdict(&s, RFN_CAP048, __FILE__, planted, "exec_launch");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
