/* Bad, for all that one can see: a conditional node whose body is not shown. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap040_bad", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap040_bad", &argc, argv))
        return step_close(&s);
    struct rfn_image_node node[] = {
        lint_kernel("index_topk", 0),
        { .type = RFN_IMAGE_CONDITIONAL,
          .name = "conditional",
          .opaque = 1,
          .why = "the driver does not show it" },
    };
    struct lint_want want = { &s, RFN_CAP040, 0, "conditional", "does not show", 0, 0 };
    lint_chain(&want, node, 2);
    return step_close(&s);
}
