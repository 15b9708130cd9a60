/* Good: parameters that only look alike: of another size, in another place, a kernel whose
 * parameters are declared. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap037_good", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap037_good", &argc, argv))
        return step_close(&s);
    static const unsigned char bytes[256];
    struct rfn_image_param param[] = {
        { .name = "#0", .role = RFN_IMAGE_FOREIGN, .bytes = 120, .value = bytes },
        { .name = "#1",
          .role = RFN_IMAGE_FOREIGN,
          .offset = 120,
          .bytes = 128,
          .value = bytes },
        { .name = "#2",
          .role = RFN_IMAGE_FOREIGN,
          .offset = 256,
          .bytes = 136,
          .value = bytes },
    };
    struct rfn_image_param ours = {
        .name = "map", .role = RFN_IMAGE_CONST, .bytes = 128, .value = bytes
    };
    struct rfn_image_node node[] = { lint_kernel("gemm", 1),
                                     lint_kernel("index_topk", 0) };
    node[0].param = param;
    node[0].params = 3;
    node[1].param = &ours;
    node[1].params = 1;
    struct lint_want want = { .s = &s, .rule = RFN_RULES };
    lint_chain(&want, node, 2);
    return step_close(&s);
}
