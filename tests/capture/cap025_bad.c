/* Bad: the graph allocates memory for a kernel of ours; frees what another graph allocated;
 * keeps what it allocates. */
#include "tests/capture/lint.h"

int main(int argc, char **argv)
{
    struct step s;
    step_host_only("cap025_bad", "the image is drawn by hand: no device is asked");
    if (!step_open(&s, "cap025_bad", &argc, argv))
        return step_close(&s);
    struct rfn_image_access memory = lint_memory(0x7f0000000000, 4 << 20);
    struct rfn_image_node node[] = {
        { .type = RFN_IMAGE_MEM_ALLOC,
          .name = "mem alloc",
          .accesses = 1,
          .access = &memory },
        lint_kernel("index_topk", 0),
        { .type = RFN_IMAGE_MEM_FREE,
          .name = "mem free",
          .accesses = 1,
          .access = &memory },
    };
    struct lint_want want = { &s, RFN_CAP025, 0, "mem alloc", "4194304 bytes", 0, 0 };
    lint_chain(&want, node, 3);
    lint_chain(&want, node, 2);
    want.name = "mem free";
    want.words = "does not allocate";
    lint_chain(&want, node + 1, 2);
    return step_close(&s);
}
