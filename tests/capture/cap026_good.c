/* Good: the function comes behind the replay, on the same stream. */
#include "tests/capture/lint.h"

static void look(void *user)
{
    (void)user;
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap026_good", &argc, argv))
        return step_close(&s);
    struct rfn_exec *exec = NULL;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_host_call(s.stream, look, s.host_picked));
    WORKS(&s, rfn_stream_sync(s.stream));
    WORKS(&s, rfn_exec_destroy(&exec));

    lint_good(&s, graph);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
