/* Bad: the captured function counts its steps on the host; replays do not. */
#include "tests/capture/step.h"

static int32_t steps_done;

static enum rfn_status forward(struct step *s)
{
    steps_done++;
    return rfn_index_topk(s->stream, &s->pick);
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap053_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_check_watch(s.check, "steps_done", &steps_done, sizeof steps_done));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, forward(&s));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP053, __FILE__, planted, "capture_end");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
