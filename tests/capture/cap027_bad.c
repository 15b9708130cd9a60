/* Bad: a plan of three requests goes to the graph of a bucket of two. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap027_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct rfn_bucket bucket = { 2, 1, 0 }, planned;
    struct rfn_exec *exec = model_capture(&s, &m, &bucket);
    struct rfn_step step = model_step(&m, 3);
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
    int planted = __LINE__ + 1;
    step_stale(&s, rfn_exec_launch(exec, s.stream), "3 requests|rows for 2|cap027_bad.c");

    step_verdict(&s, RFN_CAP027, __FILE__, planted, "exec_launch");
    WORKS(&s, rfn_exec_destroy(&exec));
    model_close(&s, &m);
    return step_close(&s);
}
