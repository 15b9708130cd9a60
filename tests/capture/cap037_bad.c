/* Bad: a library's kernel takes a tensor map by value. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap037_bad", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap037_bad", &argc, argv))
        return step_close(&s);
    static const unsigned char map[128];
    struct rfn_image_param param[] = {
        { .name = "#0", .role = RFN_IMAGE_FOREIGN, .bytes = 8, .value = map },
        { .name = "#1",
          .role = RFN_IMAGE_FOREIGN,
          .offset = 64,
          .bytes = 128,
          .value = map },
    };
    struct rfn_image_node node = lint_kernel("gemm", 1);
    node.param = param;
    node.params = 2;
    struct lint_want want = { &s, RFN_CAP037, 0, "gemm", "parameter #1", 0, 0 };
    lint_chain(&want, &node, 1);
    return step_close(&s);
}
