/* Good: as many captures are seen as are asked for. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap054_good", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_check_require(s.check, 0));
    for (int i = 0; i < 2; i++)
    {
        WORKS(&s, rfn_capture_begin(s.stream, NULL));
        WORKS(&s, rfn_index_topk(s.stream, &s.pick));
        WORKS(&s, rfn_capture_end(s.stream, &graph));
        WORKS(&s, rfn_graph_destroy(&graph));
    }
    WORKS(&s, rfn_check_require(s.check, 2));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
