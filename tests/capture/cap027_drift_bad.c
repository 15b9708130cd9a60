/* Bad: two plans without an update between them, where the device is to advance the lengths:
 * from there on host and device would plan with different ones. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap027_drift_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct rfn_bucket bucket = { 2, 1, 0 }, planned;
    struct rfn_exec *exec = model_capture(&s, &m, &bucket);
    struct rfn_step step = model_step(&m, 2);
    step.advance = 1;
    struct rfn_step same = { .requests = 2, .unchanged = 1, .advance = 1 };
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
    int planted = __LINE__ + 1;
    enum rfn_status status = rfn_attention_plan(m.attention, s.stream, &same, &planned);
    step_stale(&s, status, "4 tokens|with 3|has not run");
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &same, &planned));
    WORKS(&s, rfn_exec_launch(exec, s.stream));

    step_verdict(&s, RFN_CAP027, __FILE__, planted, "attention_plan");
    WORKS(&s, rfn_exec_destroy(&exec));
    model_close(&s, &m);
    return step_close(&s);
}
