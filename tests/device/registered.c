/* An op of a caller's own: registered, launched, captured, replayed, and refused where
 * its tables contradict themselves. */
#include "tests/device/open.h"

#include <stddef.h>

#define N 48

struct twice_args
{
    struct rfn_tensor in;
    struct rfn_tensor out;
    float factor;
};

static const struct rfn_operand operands[] = {
    { "in", offsetof(struct twice_args, in), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_F32), "N", 0 },
    { "out", offsetof(struct twice_args, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_F32), "N", 0 },
};
static const struct rfn_scalar scalars[] = {
    { "factor", offsetof(struct twice_args, factor), sizeof(float), 0 },
};

static enum rfn_status check(const void *v)
{
    const struct twice_args *a = v;
    if (!(a->factor > 0))
        return rfn_error(RFN_INVALID, "factor: %g, but more than 0 is needed",
                         (double)a->factor);
    return RFN_OK;
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const struct twice_args *a = v;
    (void)env;
    for (int64_t i = 0; i < a->in.shape[0]; i++)
        ((float *)a->out.data)[i] = ((const float *)a->in.data)[i] * a->factor;
}

static const struct rfn_op twice = {
    .name = "test_twice",
    .args_bytes = sizeof(struct twice_args),
    .operand = operands,
    .operands = 2,
    .scalar = scalars,
    .scalars = 1,
    .check = check,
    .host = host,
};

static enum rfn_status no_cuda(const void *args, const struct rfn_plan_env *env,
                               struct rfn_launch *ret)
{
    (void)args;
    (void)env;
    (void)ret;
    return RFN_UNSUPPORTED;
}

static void bad_tables_are_refused(struct test *t)
{
    static const struct rfn_operand past[] = {
        { "in", sizeof(struct twice_args) - 8, RFN_OPERAND_TENSOR, RFN_READ, 0, 2, "N",
          0 },
    };
    static const struct rfn_operand five[] = {
        { "in", 0, RFN_OPERAND_TENSOR, RFN_READ, 0, 2, "A,B,C,D,E", 0 },
    };
    static const struct rfn_operand mute[] = {
        { "in", 0, RFN_OPERAND_TENSOR, 0, 0, 2, "N", 0 },
    };
    static const struct rfn_operand typeless[] = {
        { "in", 0, RFN_OPERAND_TENSOR, RFN_READ, 0, 0, "N", 0 },
    };
    static const struct rfn_operand alias[] = {
        { "in", 0, RFN_OPERAND_TENSOR, RFN_READ, 0, 2, "N", 0 },
        { "in", 0, RFN_OPERAND_TENSOR, RFN_READ, 0, 2, "N", 0 },
    };
    static const struct rfn_operand far[] = {
        { "in", UINT32_MAX - 7, RFN_OPERAND_TENSOR, RFN_READ, 0, 2, "N", 0 },
    };
    static const struct rfn_scalar beyond[] = {
        { "factor", sizeof(struct twice_args), 4, 0 },
    };
    static struct rfn_operand many[RFN_MAX_OPERANDS + 1];
    static char name[RFN_MAX_OPERANDS + 1][8];
    for (int i = 0; i <= RFN_MAX_OPERANDS; i++)
    {
        snprintf(name[i], sizeof name[i], "o%d", i);
        many[i] = operands[0];
        many[i].name = name[i];
    }
    struct
    {
        const struct rfn_operand *operand;
        uint32_t operands;
        const char *words;
    } bad[] = {
        { past, 1, "test_bad|in|args_bytes" },
        { five, 1, "in|A,B,C,D,E" },
        { mute, 1, "in|access 0" },
        { typeless, 1, "in|0x0" },
        { alias, 2, "in" },
        { far, 1, "in|args_bytes" },
        { many, RFN_MAX_OPERANDS + 1, "33|32" },
        { NULL, 1, "NULL" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    {
        static struct rfn_op op;
        op = twice;
        op.name = "test_bad";
        op.operand = bad[i].operand;
        op.operands = bad[i].operands;
        enum rfn_status status = rfn_op_register(&op);
        harness_check(&t->h, "a table that contradicts itself is refused",
                      (status == RFN_INVALID || status == RFN_LIMIT) &&
                          test_line_has(bad[i].words),
                      "table %d: %s: %s lacks one of %s", (int)i, rfn_status_name(status),
                      status ? rfn_last_error() : "", bad[i].words);
    }
    static struct rfn_op op;
    op = twice;
    op.name = "test_bad";
    op.scalar = beyond;
    REFUSED(t, rfn_op_register(&op), RFN_INVALID, "factor|args_bytes");
    op = twice;
    op.host = NULL;
    op.name = "test_bad";
    REFUSED(t, rfn_op_register(&op), RFN_INVALID, "test_bad");
    op = twice;
    op.name = NULL;
    REFUSED(t, rfn_op_register(&op), RFN_INVALID, "name");
    op.name = "";
    REFUSED(t, rfn_op_register(&op), RFN_INVALID, "name");
    REFUSED(t, rfn_op_register(NULL), RFN_INVALID, "NULL");
    const struct rfn_op *none = NULL;
    REFUSED(t, rfn_op_find("test_bad", &none), RFN_NOT_FOUND, "test_bad");
    HOLDS(t, none == NULL);
}

static void names_are_unique(struct test *t)
{
    static struct rfn_op same;
    const struct rfn_op *found = NULL;
    same = twice;
    OK(t, rfn_op_register(&twice));
    OK(t, rfn_op_register(&twice)); /* harmless */
    REFUSED(t, rfn_op_register(&same), RFN_INVALID, "test_twice|another");
    same.name = "index_topk";
    REFUSED(t, rfn_op_register(&same), RFN_INVALID, "index_topk");
    OK(t, rfn_op_find("test_twice", &found));
    HOLDS(t, found == &twice);
    REFUSED(t, rfn_op_find("test_twcie", &found), RFN_NOT_FOUND, "test_twice");
    int seen = 0;
    for (uint32_t i = 0; rfn_op_at(i); i++)
        seen += rfn_op_at(i) == &twice;
    HOLDS(t, seen == 1);
}

static int is_scaled(struct test *t, const float *out, float factor)
{
    float got[N];
    int right = rfn_copy_sync(t->dev, got, out, sizeof got) == RFN_OK;
    for (int i = 0; right && i < N; i++)
        right = got[i] == (float)i * factor;
    return right;
}

static void it_runs_is_captured_and_replayed(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_graph_info info;
    float host_in[N];
    float *in = test_device_memory(t, sizeof host_in);
    float *out = test_device_memory(t, sizeof host_in);
    for (int i = 0; i < N; i++)
        host_in[i] = (float)i;
    OK(t, rfn_copy_sync(t->dev, in, host_in, sizeof host_in));
    OK(t, rfn_set_sync(t->dev, out, 0, sizeof host_in));
    OK(t, rfn_device_sync(t->dev));
    struct twice_args args = { .in = rfn_tensor_of(in, RFN_F32, N, 0, 0, 0),
                               .out = rfn_tensor_of(out, RFN_F32, N, 0, 0, 0),
                               .factor = 2 };
    if (!t->host)
    {
        REFUSED(t, rfn_op_launch(s, &twice, &args), RFN_UNSUPPORTED, "test_twice|cuda");
        goto done;
    }
    OK(t, rfn_op_launch(s, &twice, &args));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, is_scaled(t, out, 2));

    args.factor = 3;
    OK(t, rfn_capture_begin(s, NULL));
    OK(t, rfn_op_launch(s, &twice, &args));
    args.out.shape[0] = N + 1;
    REFUSED(t, rfn_op_launch(s, &twice, &args), RFN_INVALID, "out|N = 49|N = 48");
    args.in.shape[0] = N + 1;
    REFUSED(t, rfn_op_launch(s, &twice, &args), RFN_INVALID, "test_twice: in|196|192");
    args.in.shape[0] = args.out.shape[0] = N;
    args.factor = -1;
    REFUSED(t, rfn_op_launch(s, &twice, &args), RFN_INVALID, "factor|-1");
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 1 && info.node[RFN_NODE_KERNEL] == 1 && info.launches == 1);
    OK(t, rfn_graph_instantiate(graph, &exec));
    HOLDS(t, is_scaled(t, out, 2));
    OK(t, rfn_exec_launch(exec, s));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, is_scaled(t, out, 3));
    REFUSED(t, rfn_exec_update(exec, 0, &args), RFN_INVALID, "factor|-1");
    args.factor = 5;
    OK(t, rfn_exec_update(exec, 0, &args));
    OK(t, rfn_exec_launch(exec, s));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, is_scaled(t, out, 5));
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_graph_destroy(&graph));

    /* An op with a CUDA twin only. */
    static struct rfn_op other;
    other = twice;
    other.name = "test_cuda_only";
    other.host = NULL;
    other.cuda = no_cuda;
    OK(t, rfn_op_register(&other));
    REFUSED(t, rfn_op_launch(s, &other, &args), RFN_UNSUPPORTED, "test_cuda_only|host");
    OK(t, rfn_capture_begin(s, NULL));
    REFUSED(t, rfn_op_launch(s, &other, &args), RFN_UNSUPPORTED, "test_cuda_only|host");
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 0 && info.launches == 0);
    OK(t, rfn_graph_destroy(&graph));
done:
    FREE(t, in);
    FREE(t, out);
    OK(t, rfn_stream_destroy(&s));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "registered", &argc, argv);
    bad_tables_are_refused(&t);
    names_are_unique(&t);
    it_runs_is_captured_and_replayed(&t);
    return test_end(&t);
}
