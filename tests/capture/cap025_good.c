/* Good: memory from before the capture. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap025_good", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    lint_good(&s, graph);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
