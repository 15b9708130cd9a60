/* Registering, finding and checking ops by their tables. */
#include <refrain/ops.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the headers above first */
#include <cmocka.h>

struct scale_args
{
    struct rfn_tensor x;
    struct rfn_tensor y;
    struct rfn_pool pool;
    float by;
};

static void scale_host(const void *args, const struct rfn_host_env *env)
{
    (void)args;
    (void)env;
}

static const struct rfn_operand scale_operand[] = {
    {
        .name = "x",
        .offset = offsetof(struct scale_args, x),
        .access = RFN_READ,
        .dtypes = RFN_DTYPE_BIT(RFN_F32),
        .shape = "T,D",
        .align = 16,
    },
    {
        .name = "y",
        .offset = offsetof(struct scale_args, y),
        .access = RFN_WRITE,
        .dtypes = RFN_DTYPE_BIT(RFN_F32) | RFN_DTYPE_BIT(RFN_BF16),
        .shape = "T,D",
    },
    {
        .name = "pool",
        .offset = offsetof(struct scale_args, pool),
        .kind = RFN_OPERAND_POOL,
        .access = RFN_READ,
        .optional = 1,
        .dtypes = 1u << RFN_LATENT_FP8_656,
    },
};

static const struct rfn_scalar scale_scalar[] = {
    { "by", offsetof(struct scale_args, by), sizeof(float), 1 },
};

#define SCALE                                                                            \
    {                                                                                    \
        .name = "test_scale", .args_bytes = sizeof(struct scale_args),                   \
        .operand = scale_operand, .operands = 3, .scalar = scale_scalar, .scalars = 1,   \
        .host = scale_host                                                               \
    }

static const struct rfn_op scale_op = SCALE;
static _Alignas(16) float x[8 * 4], y[8 * 4];
static _Alignas(16) char pages[2 * 64 * 656];

static struct scale_args good_args(void)
{
    return (struct scale_args) {
        .x = rfn_tensor_of(x, RFN_F32, 8, 4, 0, 0),
        .y = rfn_tensor_of(y, RFN_F32, 8, 4, 0, 0),
        .pool = { .data = pages,
                  .format = RFN_LATENT_FP8_656,
                  .page_tokens = 64,
                  .pages = 2 },
    };
}

static void own_ops_are_found(void **state)
{
    (void)state;
    const struct rfn_op *op = NULL;
    assert_int_equal(rfn_op_find("kv_pack", &op), RFN_OK);
    assert_ptr_equal(op, &rfn_op_kv_pack);
    assert_int_equal(rfn_op_find("index_topk", &op), RFN_OK);
    assert_ptr_equal(op, &rfn_op_index_topk);
    assert_int_equal(rfn_op_find("sparse_mla", &op), RFN_OK);
    assert_ptr_equal(op, &rfn_op_sparse_mla);
}

static void an_unknown_name_gives_the_nearest(void **state)
{
    (void)state;
    const struct rfn_op *op = &scale_op;
    assert_int_equal(rfn_op_find("index_topc", &op), RFN_NOT_FOUND);
    assert_non_null(strstr(rfn_last_error(), "index_topk"));
    assert_ptr_equal(op, &scale_op);
    assert_int_equal(rfn_op_find("", &op), RFN_NOT_FOUND);
    assert_int_equal(rfn_op_find(NULL, &op), RFN_INVALID);
}

static void registering_twice_is_harmless(void **state)
{
    (void)state;
    const struct rfn_op *op = NULL;
    uint32_t known = 0, after = 0;
    assert_int_equal(rfn_op_register(&scale_op), RFN_OK);
    while (rfn_op_at(known))
        known++;
    assert_int_equal(rfn_op_register(&scale_op), RFN_OK);
    while (rfn_op_at(after))
        after++;
    assert_int_equal(known, after);
    assert_int_equal(rfn_op_find("test_scale", &op), RFN_OK);
    assert_ptr_equal(op, &scale_op);
}

static void a_taken_name_is_refused(void **state)
{
    (void)state;
    struct rfn_op thief = SCALE;
    thief.name = "kv_pack";
    assert_int_equal(rfn_op_register(&thief), RFN_INVALID);
    assert_non_null(strstr(rfn_last_error(), "kv_pack"));
}

static void a_table_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
    {
        struct rfn_op op = SCALE;
        struct rfn_operand operand[3];
        struct rfn_scalar scalar = scale_scalar[0];
        memcpy(operand, scale_operand, sizeof operand);
        op.name = "test_bad";
        op.operand = operand;
        op.scalar = &scalar;
        switch (i)
        {
        case 0:
            op.host = NULL;
            break;
        case 1:
            operand[1].offset = sizeof(struct scale_args) - 8;
            break;
        case 2:
            operand[0].shape = "T,R,H,D,K";
            break;
        case 3:
            scalar.offset = sizeof(struct scale_args);
            break;
        case 4:
            operand[1].name = "x";
            break;
        default:
            operand[2].dtypes = 1u << RFN_FORMATS;
            break;
        }
        assert_int_equal(rfn_op_register(&op), RFN_INVALID);
        assert_non_null(strstr(rfn_last_error(), "test_bad"));
        const struct rfn_op *found = NULL;
        assert_int_equal(rfn_op_find("test_bad", &found), RFN_NOT_FOUND);
    }
}

static void good_arguments_pass(void **state)
{
    (void)state;
    struct scale_args args = good_args();
    assert_int_equal(rfn_op_check(&scale_op, &args), RFN_OK);
    args.pool.data = NULL;
    assert_int_equal(rfn_op_check(&scale_op, &args), RFN_OK);
}

static void bad_arguments_are_named_with_both_values(void **state)
{
    (void)state;
    struct scale_args bad[8];
    static const char *const words[8][3] = {
        { "x", "bf16", "f32" },     { "y", "D = 3", "D = 4" }, { "x", "3 dim", "2" },
        { "x", "16", "alignment" }, { "x", "12", "16" },       { "y", "stride", "2" },
        { "pool", "-3", "pages" },  { "x", "not given", "x" },
    };
    for (int i = 0; i < 8; i++)
        bad[i] = good_args();
    bad[0].x.dtype = RFN_BF16;
    bad[1].y.shape[1] = 3;
    bad[2].x = rfn_tensor_of(x, RFN_F32, 2, 4, 4, 0);
    bad[3].x.data = x + 1;
    bad[4].x.shape[1] = bad[4].y.shape[1] = 3;
    bad[4].x.stride[0] = 3;
    bad[5].y.stride[1] = 2;
    bad[6].pool.pages = -3;
    bad[7].x.data = NULL;
    for (int i = 0; i < 8; i++)
    {
        assert_int_not_equal(rfn_op_check(&scale_op, &bad[i]), RFN_OK);
        for (int w = 0; w < 3; w++)
            if (!strstr(rfn_last_error(), words[i][w]))
                fail_msg("case %d: no '%s' in: %s", i, words[i][w], rfn_last_error());
    }
}

static void an_extent_ends_behind_the_last_element(void **state)
{
    (void)state;
    struct scale_args args = good_args();
    void *begin = NULL;
    int64_t bytes = 0;
    args.x.shape[0] = 3;
    args.x.stride[0] = 8;
    rfn_op_extent(&scale_op, 0, &args, &begin, &bytes);
    assert_ptr_equal(begin, x);
    assert_int_equal(bytes, (2 * 8 + 4) * 4);
    rfn_op_extent(&scale_op, 2, &args, &begin, &bytes);
    assert_ptr_equal(begin, pages);
    assert_int_equal(bytes, sizeof pages);
    args.pool.data = NULL;
    rfn_op_extent(&scale_op, 2, &args, &begin, &bytes);
    assert_int_equal(bytes, 0);
    args.x.shape[0] = 0;
    rfn_op_extent(&scale_op, 0, &args, &begin, &bytes);
    assert_int_equal(bytes, 0);
}

static void a_fault_is_said_with_its_values(void **state)
{
    (void)state;
    char line[128] = "x", cut[8];
    struct rfn_fault fault = { 0 };
    assert_int_equal(rfn_fault_text(&fault, line, sizeof line), 0);
    assert_string_equal(line, "");
    assert_int_equal(rfn_fault_text(NULL, line, 0), 0);
    fault = (struct rfn_fault) { "index_logits", "table", 3, 7, 41, 1 };
    assert_int_equal(rfn_fault_text(&fault, line, sizeof line), 31);
    assert_string_equal(line, "index_logits: table [3][7] = 41");
    fault.count = 12;
    rfn_fault_text(&fault, line, sizeof line);
    assert_string_equal(line, "index_logits: table [3][7] = 41, the first of 12");
    fault = (struct rfn_fault) { "index_topk", "bounds.rows", 0, 24, 12, 1 };
    rfn_fault_text(&fault, line, sizeof line);
    assert_string_equal(line,
                        "index_topk: bounds.rows is 24, but the update's header has 12");
    assert_int_equal(rfn_fault_text(&fault, cut, sizeof cut), strlen(line));
    assert_string_equal(cut, "index_t");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_ops_are_found),
        cmocka_unit_test(an_unknown_name_gives_the_nearest),
        cmocka_unit_test(registering_twice_is_harmless),
        cmocka_unit_test(a_taken_name_is_refused),
        cmocka_unit_test(a_table_that_contradicts_itself_is_refused),
        cmocka_unit_test(good_arguments_pass),
        cmocka_unit_test(bad_arguments_are_named_with_both_values),
        cmocka_unit_test(an_extent_ends_behind_the_last_element),
        cmocka_unit_test(a_fault_is_said_with_its_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
