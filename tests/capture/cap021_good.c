/* Good: the library has a workspace from before the capture, which is a parameter. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap021_good", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap021_good", &argc, argv))
        return step_close(&s);
    uint64_t workspace = 0x7f0000000000;
    struct rfn_image_param param = {
        .name = "#0",
        .role = RFN_IMAGE_FOREIGN,
        .bytes = 8,
        .value = &workspace,
        .pointer = { .address = workspace, .kind = RFN_MEMORY_DEVICE },
    };
    struct rfn_image_node node[] = { lint_kernel("rmsnorm", 1), lint_kernel("gemm", 1),
                                     lint_kernel("rmsnorm", 1) };
    node[1].param = &param;
    node[1].params = 1;
    struct lint_want want = { .s = &s, .rule = RFN_RULES };
    lint_chain(&want, node, 3);
    return step_close(&s);
}
