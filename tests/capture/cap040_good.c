/* Good: a conditional node whose body is there. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap040_good", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap040_good", &argc, argv))
        return step_close(&s);
    struct rfn_image_node inside = lint_kernel("sparse_mla", 0);
    struct rfn_image body = {
        .name = "body", .device = "cuda", .nodes = 1, .node = &inside
    };
    struct rfn_image_node node[] = {
        lint_kernel("index_topk", 0),
        { .type = RFN_IMAGE_CONDITIONAL, .name = "conditional", .child = &body },
    };
    struct lint_want want = { .s = &s, .rule = RFN_RULES };
    lint_chain(&want, node, 2);
    return step_close(&s);
}
