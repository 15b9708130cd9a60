/* Bad: a program that was asked to check its captures ends, and none was seen. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap054_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_index_topk(s.stream, &s.pick)); /* eagerly */
    int planted = __LINE__ + 1;
    enum rfn_status status = rfn_check_require(s.check, 1);
    harness_check(&s.h, "it says so", status == RFN_NOT_FOUND, "%s", rfn_last_error());

    step_verdict(&s, RFN_CAP054, __FILE__, planted, "check_require");
    return step_close(&s);
}
