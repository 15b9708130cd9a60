/* Bad: the thread is switched to relaxed around a call that its own capture forbids. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL, *ready = NULL;
    if (!step_open(&s, "cap035_thread_bad", &argc, argv))
        return step_close(&s);

    struct rfn_exec *exec = NULL;
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &ready));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_thread_mode_exchange(s.device, &mode));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_graph_instantiate(ready, &exec));
    WORKS(&s, rfn_thread_mode_exchange(s.device, &mode));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP035, __FILE__, planted, "graph_instantiate");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&ready));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
