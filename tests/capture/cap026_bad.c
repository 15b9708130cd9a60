/* Bad: a function of the host looks at what was picked, inside the graph. */
#include "tests/capture/lint.h"

static void look(void *user)
{
    (void)user;
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap026_bad", &argc, argv))
        return step_close(&s);
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_host_call(s.stream, look, s.host_picked));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    struct lint_want want = { &s, RFN_CAP026, planted, "host", NULL, 0, 0 };
    lint_graph(&want, graph);
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
