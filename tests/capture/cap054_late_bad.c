/* Bad: the checker comes when a capture is open already. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap054_late_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_check_destroy(&s.check));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_check_create(s.device, &s.check));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP054, __FILE__, planted, "check_create");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
