/* Bad: a library's kernel in the graph, between memory nodes for its workspace. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap021_bad", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap021_bad", &argc, argv))
        return step_close(&s);
    struct rfn_image_access memory = lint_memory(0x7f0000000000, 4 << 20);
    struct rfn_image_node node[] = {
        lint_kernel("rmsnorm", 1),
        { .type = RFN_IMAGE_MEM_ALLOC,
          .name = "mem alloc",
          .accesses = 1,
          .access = &memory },
        lint_kernel("gemm", 1),
        { .type = RFN_IMAGE_MEM_FREE,
          .name = "mem free",
          .accesses = 1,
          .access = &memory },
        lint_kernel("rmsnorm", 1),
    };
    struct lint_want want = { &s, RFN_CAP021, 0, "mem alloc", "4194304 bytes", 0, 0 };
    lint_chain(&want, node, 5);
    return step_close(&s);
}
