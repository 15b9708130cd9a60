/* The table of ops: what is found in it, and what cannot get into it. */
#include "tests/checkop/checkop.h"
#include "tests/support/harness.h"

#include <string.h>

static void nothing(const void *args, const struct rfn_host_env *env)
{
    (void)args;
    (void)env;
}

void ck_registry(struct harness *h)
{
    const struct rfn_op *op = NULL;
    harness_check(h, "an op is found by its name",
                  rfn_op_find("sparse_mla", &op) == RFN_OK && op == &rfn_op_sparse_mla,
                  "%s", rfn_last_error());
    harness_check(h, "an unknown op names the nearest",
                  rfn_op_find("index_topp", &op) == RFN_NOT_FOUND &&
                      strstr(rfn_last_error(), "index_topk"),
                  "%s", rfn_last_error());
    for (uint32_t i = 0; (op = rfn_op_at(i)); i++)
        harness_check(h, "the library's own tables hold together",
                      rfn_op_register(op) == RFN_OK, "%s", rfn_last_error());

    static const struct rfn_operand good[] = { { "x", 0, RFN_OPERAND_TENSOR, RFN_READ, 0,
                                                 RFN_DTYPE_BIT(RFN_F32), "T,8", 0 } };
    static struct rfn_operand bad[1];
    static struct rfn_op ok = { .name = "checkop_own",
                                .args_bytes = sizeof(struct rfn_tensor),
                                .operand = good,
                                .operands = 1,
                                .host = nothing };
    static struct rfn_op wrong;
    harness_check(h, "a caller's op is registered, twice is harmless",
                  rfn_op_register(&ok) == RFN_OK && rfn_op_register(&ok) == RFN_OK &&
                      rfn_op_find("checkop_own", &op) == RFN_OK && op == &ok,
                  "%s", rfn_last_error());
    wrong = ok;
    harness_check(h, "a name is taken once", rfn_op_register(&wrong) == RFN_INVALID, "-");
    wrong.name = "checkop_wrong";
    wrong.host = NULL;
    harness_check(h, "an op without a twin is refused",
                  rfn_op_register(&wrong) == RFN_INVALID, "-");
    wrong.host = nothing;
    wrong.operand = bad;
    static const char *const shapes[] = { "T,H,D,E,F", "T,,D", "T,", "", "T-D", NULL };
    for (size_t i = 0; i < CK_COUNT(shapes); i++)
    {
        bad[0] = good[0];
        bad[0].shape = shapes[i];
        harness_check(h, "a shape that is none is refused",
                      rfn_op_register(&wrong) == RFN_INVALID, "%s", shapes[i]);
    }
    bad[0] = good[0];
    bad[0].offset = 8;
    harness_check(h, "an operand past the arguments is refused",
                  rfn_op_register(&wrong) == RFN_INVALID, "-");
    harness_check(h, "a refused op is not found",
                  rfn_op_find("checkop_wrong", &op) == RFN_NOT_FOUND, "-");
}
