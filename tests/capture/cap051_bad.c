/* Bad: the checker finds an environment in which every launch waits. */
#include "tests/capture/step.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap051_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_check_destroy(&s.check));
    setenv("CUDA_LAUNCH_BLOCKING", "1", 1);
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_check_create(s.device, &s.check));

    step_verdict(&s, RFN_CAP051, __FILE__, planted, "check_create");
    return step_close(&s);
}
