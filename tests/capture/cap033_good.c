/* Good: a capture that goes from thread to thread is begun in relaxed mode. */
#include "tests/capture/step.h"

static struct rfn_graph *graph;

static void *finish(void *arg)
{
    struct step *s = arg;
    WORKS(s, rfn_capture_end(s->stream, &graph));
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap033_good", &argc, argv))
        return step_close(&s);

    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, "handed on" };
    WORKS(&s, rfn_capture_begin(s.stream, &desc));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    step_elsewhere(&s, finish, &s);
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
