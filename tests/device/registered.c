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

/* What the next planning does to the second of two kernels. */
static void (*bend)(struct rfn_launch_node *node);

static void no_blocks(struct rfn_launch_node *node)
{
    node->grid[0] = 0;
}

static void many_blocks(struct rfn_launch_node *node)
{
    node->grid[0] = UINT32_MAX;
}

static void tall(struct rfn_launch_node *node)
{
    node->grid[1] = 65536;
}

static void wide(struct rfn_launch_node *node)
{
    node->block[1] = 1025;
}

static void greedy(struct rfn_launch_node *node)
{
    node->shared_bytes = 1 << 20;
}

static void wordy(struct rfn_launch_node *node)
{
    node->params = RFN_LAUNCH_PARAMS + 1;
}

static void long_word(struct rfn_launch_node *node)
{
    node->param[0].bytes = RFN_LAUNCH_PARAM_BYTES + 8;
}

static void nameless(struct rfn_launch_node *node)
{
    node->kernel = NULL;
}

static const struct
{
    void (*bend)(struct rfn_launch_node *node);
    enum rfn_status status;
    const char *words;
} bends[] = {
    { no_blocks, RFN_UNSUPPORTED, "grid|0 x 1 x 1" },
    { many_blocks, RFN_UNSUPPORTED, "grid|4294967295|2147483647" },
    { tall, RFN_UNSUPPORTED, "grid|65536|65535" },
    { wide, RFN_UNSUPPORTED, "block|x 1025 x|1024" },
    { greedy, RFN_UNSUPPORTED, "1048576|shared memory" },
    { wordy, RFN_INVALID, "49 parameters|48" },
    { long_word, RFN_INVALID, "parameter 0|1032|1024" },
    { nameless, RFN_INVALID, "no kernel" },
};

static enum rfn_status twice_filled(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret)
{
    enum rfn_status status = rfn_op_synth_fill.cuda(args, env, ret);
    ret->node[ret->nodes] = ret->node[0];
    ret->node[ret->nodes].words[0] += N * sizeof(float); /* out */
    if (bend)
        bend(&ret->node[ret->nodes]);
    ret->nodes++;
    return status;
}

/* Of two kernels the first is good and the second is not: neither runs, nor is captured or
 * replaced, and the device is well. */
static void what_no_gpu_takes_is_refused_whole(struct test *t)
{
    static struct rfn_op op;
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    int64_t *keys = test_device_memory(t, 8);
    float want[2 * N], got[2 * N], *out = test_device_memory(t, sizeof got);
    struct rfn_synth_fill_args args = {
        .out = rfn_tensor_of(out, RFN_F32, 1, N, 0, 0),
        .keys = rfn_tensor_of(keys, RFN_I64, 1, 0, 0, 0),
        .amplitude = 1,
    };
    op = rfn_op_synth_fill;
    op.name = "test_twice_filled";
    op.cuda = twice_filled;
    OK(t, rfn_set_sync(t->dev, keys, 7, 8));
    OK(t, rfn_op_launch(s, &op, &args));
    OK(t, rfn_stream_sync(s));
    OK(t, rfn_copy_sync(t->dev, want, out, sizeof want));
    for (size_t i = 0; i < sizeof bends / sizeof bends[0]; i++)
    {
        struct rfn_graph *graph = NULL, *empty = NULL;
        struct rfn_graph_info info = { 0 };
        struct rfn_exec *exec = NULL;
        enum rfn_status due = bends[i].status;
        const char *words = bends[i].words;
        bend = NULL;
        args.amplitude = 1;
        OK(t, rfn_capture_begin(s, NULL));
        OK(t, rfn_op_launch(s, &op, &args));
        OK(t, rfn_capture_end(s, &graph));
        OK(t, rfn_graph_instantiate(graph, &exec));
        bend = bends[i].bend;
        args.amplitude = 2;
        REFUSED(t, rfn_op_supported(t->dev, &op, &args), due, words);
        OK(t, rfn_set_sync(t->dev, out, 0, sizeof got));
        OK(t, rfn_device_sync(t->dev));
        REFUSED(t, rfn_op_launch(s, &op, &args), due, words);
        OK(t, rfn_stream_sync(s));
        HOLDS(t, test_all(t, out, sizeof got, 0));
        OK(t, rfn_capture_begin(s, NULL));
        REFUSED(t, rfn_op_launch(s, &op, &args), due, words);
        OK(t, rfn_capture_end(s, &empty));
        OK(t, rfn_graph_query(empty, &info));
        HOLDS(t, info.nodes == 0 && info.launches == 0);
        REFUSED(t, rfn_exec_update(exec, 0, &args), due, words);
        OK(t, rfn_exec_launch(exec, s));
        OK(t, rfn_stream_sync(s));
        OK(t, rfn_copy_sync(t->dev, got, out, sizeof got));
        HOLDS(t, memcmp(got, want, sizeof got) == 0);
        OK(t, rfn_exec_destroy(&exec));
        OK(t, rfn_graph_destroy(&graph));
        OK(t, rfn_graph_destroy(&empty));
    }
    bend = NULL;
    FREE(t, keys);
    FREE(t, out);
    OK(t, rfn_stream_destroy(&s));
}

static enum rfn_status bent_topk(const void *args, const struct rfn_plan_env *env,
                                 struct rfn_launch *ret)
{
    enum rfn_status status = rfn_op_index_topk.cuda(args, env, ret);
    bend(&ret->node[0]);
    return status;
}

static void one_less(struct rfn_launch_node *node)
{
    node->grid[0]--;
}

static void as_it_is(struct rfn_launch_node *node)
{
    (void)node;
}

/* Blocks that make no whole clusters: the driver refuses them (912), and goes on. */
static void part_of_a_cluster_loses_no_device(struct test *t)
{
    enum
    {
        COLUMNS = 65536
    };
    static struct rfn_op op;
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    float *logits = test_device_memory(t, COLUMNS * sizeof *logits);
    int32_t *lens = test_device_memory(t, 4), *chosen = test_device_memory(t, 4);
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_index_topk_args args = {
        .logits = rfn_tensor_of(logits, RFN_F32, 1, COLUMNS, 0, 0),
        .lens = rfn_tensor_of(lens, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(chosen, RFN_I32, 1, 1, 0, 0),
    };
    op = rfn_op_index_topk;
    op.name = "test_bent_topk";
    op.cuda = bent_topk;
    bend = as_it_is;
    OK(t, rfn_set_sync(t->dev, lens, 0, 4));
    OK(t, rfn_capture_begin(s, NULL));
    OK(t, rfn_op_launch(s, &op, &args));
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_graph_instantiate(graph, &exec));
    bend = one_less;
    REFUSED(t, rfn_exec_update(exec, 0, &args), RFN_UNSUPPORTED, "exec_update|rid");
    REFUSED(t, rfn_op_launch(s, &op, &args), RFN_UNSUPPORTED, "op_launch|rid");
    OK(t, rfn_exec_launch(exec, s));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, test_all(t, chosen, 4, 0xff));
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_graph_destroy(&graph));
    FREE(t, logits);
    FREE(t, lens);
    FREE(t, chosen);
    OK(t, rfn_stream_destroy(&s));
}

/* More rows than a grid has blocks: said beforehand, and the grid is not cut short. */
static void more_rows_than_blocks_are_refused(struct test *t)
{
    void *p = test_device_memory(t, 256);
    int64_t rows = (1ll << 32) + 8;
    struct rfn_index_topk_args args = {
        .logits = rfn_tensor_of(p, RFN_F32, rows, 1, 0, 0),
        .lens = rfn_tensor_of(p, RFN_I32, rows, 0, 0, 0),
        .positions = rfn_tensor_of(p, RFN_I32, rows, 1, 0, 0),
    };
    REFUSED(t, rfn_op_supported(t->dev, &rfn_op_index_topk, &args), RFN_UNSUPPORTED,
            "index_topk|grid|2147483647");
    FREE(t, p);
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "registered", &argc, argv);
    bad_tables_are_refused(&t);
    names_are_unique(&t);
    it_runs_is_captured_and_replayed(&t);
    if (!t.host)
    {
        what_no_gpu_takes_is_refused_whole(&t);
        part_of_a_cluster_loses_no_device(&t);
        more_rows_than_blocks_are_refused(&t);
    }
    return test_end(&t);
}
