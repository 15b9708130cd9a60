/* Good: the variable is there and says no, or says nothing. */
#include "tests/capture/step.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap051_good", &argc, argv))
        return step_close(&s);

    static const char *const value[] = { "0", "" };
    for (int i = 0; i < 2; i++)
    {
        WORKS(&s, rfn_check_destroy(&s.check));
        setenv("CUDA_LAUNCH_BLOCKING", value[i], 1);
        WORKS(&s, rfn_check_create(s.device, &s.check));
        step_verdict(&s, RFN_RULES, "", 0, "");
    }
    return step_close(&s);
}
