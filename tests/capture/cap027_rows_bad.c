/* Bad: a forward of more rows than its update made: it reads contexts of an older step. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap027_rows_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct rfn_bucket planned, update = { 2, 1, 0 }, forward = { 3, 1, 0 };
    struct rfn_step step = model_step(&m, 2);
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
    WORKS(&s, rfn_attention_update(m.attention, s.stream, &update));
    int planted = __LINE__ + 1;
    enum rfn_status status = rfn_attention_forward(m.attention, s.stream, 0, &forward);
    step_stale(&s, status, "3 requests of 1|of 2 of 1");

    step_verdict(&s, RFN_CAP027, __FILE__, planted, "attention_forward");
    model_close(&s, &m);
    return step_close(&s);
}
