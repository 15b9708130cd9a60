/* Bad: a worker thread ends the capture that this one began. */
#include "tests/capture/step.h"

static int planted;

static void *finish(void *arg)
{
    struct step *s = arg;
    struct rfn_graph *graph = NULL;
    planted = __LINE__ + 1;
    step_refused(s, rfn_capture_end(s->stream, &graph));
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap033_bad", &argc, argv))
        return step_close(&s);

    s.region = ""; /* regions are each thread's own */
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_elsewhere(&s, finish, &s);

    step_verdict(&s, RFN_CAP033, __FILE__, planted, "capture_end");
    return step_close(&s);
}
