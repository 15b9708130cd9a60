/* Bad: the op is launched a line too early, so the graph holds the copy alone. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap045_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    step_fetch(&s);
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP045, __FILE__, planted, "capture_end");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
