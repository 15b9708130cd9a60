/* Bad: a graph updates a plan that advances, and so does its child. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    struct rfn_graph *child = NULL, *graph = NULL;
    struct rfn_exec *exec = NULL;
    if (!step_open(&s, "cap027_child_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct rfn_bucket bucket = { 2, 1, 0 }, planned;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    model_record(&s, &m, &bucket);
    WORKS(&s, rfn_capture_end(s.stream, &child));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    model_record(&s, &m, &bucket);
    WORKS(&s, rfn_capture_add_child(s.stream, child));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    struct rfn_step step = model_step(&m, 2);
    step.advance = 1;
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
    int planted = __LINE__ + 1;
    step_stale(&s, rfn_exec_launch(exec, s.stream), "more than once in this graph");

    step_verdict(&s, RFN_CAP027, __FILE__, planted, "exec_launch");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_graph_destroy(&child));
    model_close(&s, &m);
    return step_close(&s);
}
