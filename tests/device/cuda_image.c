/* The image of a graph that others captured with the CUDA runtime: nodes, parameters of
 * kernels that nobody declared, and what the lint says of them. */
#include "tests/device/open.h"

#include <cuda_runtime_api.h>
#include <refrain/ops.h>

#define ROWS 2
#define COLUMNS 64
#define TOP 8

#define CUDA(t, call)                                                                    \
    do                                                                                   \
    {                                                                                    \
        cudaError_t code_ = (call);                                                      \
        harness_check(&(t)->h, #call, code_ == cudaSuccess, "%s",                        \
                      cudaGetErrorString(code_));                                        \
    } while (0)

static void nothing(void *user)
{
    (void)user;
}

struct seen
{
    struct test *t;
    int32_t rule[RFN_RULES];
};

static void report(void *ctx, const struct rfn_finding *f)
{
    struct seen *seen = ctx;
    char text[1024];
    rfn_finding_text(f, text, sizeof text);
    fputs(text, stdout);
    seen->rule[f->rule]++;
}

static struct rfn_index_topk_args make_args(struct test *t)
{
    void *at = test_device_memory(t, 1 << 16);
    return (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(at, RFN_F32, ROWS, COLUMNS, 0, 0),
        .lens = rfn_tensor_of((char *)at + 8192, RFN_I32, ROWS, 0, 0, 0),
        .table = rfn_tensor_of((char *)at + 12288, RFN_I32, ROWS, 4, 0, 0),
        .request = rfn_tensor_of((char *)at + 16384, RFN_I32, ROWS, 0, 0, 0),
        .slots = rfn_tensor_of((char *)at + 20480, RFN_I32, ROWS, TOP, 0, 0),
        .page_tokens = 16,
        .pages = 8,
    };
}

/* As somebody would who knows nothing of ops: the kernel and its parameters. */
static void launch(struct test *t, struct rfn_launch *l, cudaStream_t s)
{
    for (uint32_t i = 0; i < l->nodes; i++)
    {
        struct rfn_launch_node *n = &l->node[i];
        void *param[RFN_LAUNCH_PARAMS];
        dim3 grid = { n->grid[0], n->grid[1], n->grid[2] };
        dim3 block = { n->block[0], n->block[1], n->block[2] };
        for (uint32_t k = 0; k < n->params; k++)
            param[k] = (char *)n->words + n->param[k].offset;
        CUDA(t, cudaLaunchKernel(n->kernel, grid, block, param, n->shared_bytes, s));
    }
}

/* A small struct of somebody's kernel is taken apart. */
static int32_t parts_of(const struct rfn_param *p)
{
    return p->bytes > 8 && p->bytes <= 64 && p->bytes % 8 == 0 ? p->bytes / 8 : 1;
}

static void check_kernel(struct test *t, const struct rfn_image_node *n,
                         const struct rfn_launch_node *want)
{
    int32_t pointers = 0, at = 0, due = 0;
    HOLDS(t, n->type == RFN_IMAGE_KERNEL && n->foreign && !n->opaque && !n->op[0]);
    harness_check(&t->h, "name", n->name[0] && strcmp(n->name, "kernel") != 0, "'%s'",
                  n->name);
    harness_check(&t->h, "shape",
                  !memcmp(n->grid, want->grid, sizeof n->grid) &&
                      !memcmp(n->block, want->block, sizeof n->block) &&
                      n->shared_bytes == want->shared_bytes,
                  "grid %u, block %u", n->grid[0], n->block[0]);
    for (uint32_t i = 0; i < want->params; i++)
    {
        const struct rfn_param *p = &want->param[i];
        const char *value = (const char *)want->words + p->offset;
        int32_t parts = parts_of(p), bytes = p->bytes / parts;
        due += parts;
        for (int32_t k = 0; k < parts && at < n->params; k++, at++)
        {
            const struct rfn_image_param *is = &n->param[at];
            harness_check(&t->h, p->name,
                          is->bytes == bytes && is->role == RFN_IMAGE_FOREIGN &&
                              !memcmp(is->value, value + k * bytes, (size_t)bytes),
                          "%d bytes, not %d, or another value", is->bytes, bytes);
            pointers += p->role >= RFN_PARAM_READ && is->pointer.generation != 0;
        }
    }
    harness_check(&t->h, "parameters", n->params == due, "%d, not %d", n->params, due);
    harness_check(&t->h, "pointers", pointers >= 4, "%d are known", pointers);
}

static const struct rfn_image_node *nth(const struct rfn_image *image,
                                        enum rfn_image_type type, int n)
{
    for (int32_t i = 0; i < image->nodes; i++)
        if (image->node[i].type == type && n-- == 0)
            return &image->node[i];
    return NULL;
}

static void add_set(struct test *t, cudaGraph_t graph, char *at, cudaGraphNode_t *ret)
{
    struct cudaMemsetParams set = {
        .dst = at, .elementSize = 4, .width = 8, .height = 1
    };
    CUDA(t, cudaGraphAddMemsetNode(ret, graph, NULL, 0, &set));
}

/* A graph by hand: nodes that were added against their order, a child, and a conditional. */
static void check_by_hand(struct test *t)
{
    struct seen seen = { .t = t };
    struct rfn_image *image = NULL;
    struct rfn_lint_info info = { 0 };
    char *at = test_device_memory(t, 4096);
    cudaGraph_t graph = NULL, child = NULL;
    cudaGraphNode_t node[5];
    CUDA(t, cudaGraphCreate(&graph, 0));
    CUDA(t, cudaGraphCreate(&child, 0));
    for (int i = 0; i < 3; i++)
        add_set(t, graph, at + 64 * i, &node[i]);
    add_set(t, child, at + 1024, &node[3]);
    CUDA(t, cudaGraphAddChildGraphNode(&node[3], graph, NULL, 0, child));
    cudaGraphConditionalHandle handle;
    CUDA(t, cudaGraphConditionalHandleCreate(&handle, graph, 1, 1));
    struct cudaGraphNodeParams conditional = { .type = cudaGraphNodeTypeConditional };
    conditional.conditional.handle = handle;
    conditional.conditional.type = cudaGraphCondTypeIf;
    conditional.conditional.size = 1;
    CUDA(t, cudaGraphAddNode(&node[4], graph, NULL, NULL, 0, &conditional));
    /* 4, 2, 0, 1, 3 */
    cudaGraphNode_t from[] = { node[4], node[2], node[0], node[1] };
    cudaGraphNode_t to[] = { node[2], node[0], node[1], node[3] };
    CUDA(t, cudaGraphAddDependencies(graph, from, to, NULL, 4));
    OK(t, rfn_image_of_native(t->dev, graph, &image));
    CUDA(t, cudaGraphDestroy(graph));
    CUDA(t, cudaGraphDestroy(child));
    if (!image)
        return;
    static const int order[] = { -1, 2, 0, 1 };
    HOLDS(t, image->nodes == 5 && image->edges == 4);
    for (int i = 0; i < 4 && image->nodes == 5 && image->edges == 4; i++)
    {
        HOLDS(t, image->edge[i].from == i && image->edge[i].to == i + 1);
        if (i)
            HOLDS(t, image->node[i].accesses == 1 &&
                         image->node[i].access[0].pointer.address ==
                             (uintptr_t)at + 64 * (unsigned)order[i]);
    }
    HOLDS(t, image->node[0].type == RFN_IMAGE_CONDITIONAL && image->node[0].opaque);
    HOLDS(t, image->node[4].child && image->node[4].child->nodes == 1 &&
                 image->node[4].child->node[0].access[0].bytes == 32);
    OK(t, rfn_lint(image, t->dev, report, &seen, &info));
    HOLDS(t, info.findings == 2 && seen.rule[RFN_CAP040] && seen.rule[RFN_CAP045]);
    HOLDS(t, info.critical_path == 5 && info.roots == 1 && info.sinks == 1);
    OK(t, rfn_image_destroy(&image));
    OK(t, rfn_memory_free(t->dev, at));
}

static int32_t foreign_kernels(struct test *t, cudaGraph_t graph, struct rfn_image **ret)
{
    struct rfn_lint_info info = { .foreign = -1 };
    OK(t, rfn_image_of_native(t->dev, graph, ret));
    if (*ret)
        OK(t, rfn_lint(*ret, t->dev, NULL, NULL, &info));
    return info.foreign;
}

/* Gives the first kernel of a graph other words in its second parameter. */
static void change_kernel(struct test *t, cudaGraph_t graph, uint32_t count)
{
    cudaGraphNode_t node[8];
    enum cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
    struct cudaKernelNodeParams params;
    void *param[RFN_LAUNCH_PARAMS] = { NULL };
    size_t nodes = 8, i = 0;
    uint64_t other = 0x5a5a5a5a5a5a5a5a;
    CUDA(t, cudaGraphGetNodes(graph, node, &nodes));
    while (i < nodes && cudaGraphNodeGetType(node[i], &type) == cudaSuccess &&
           type != cudaGraphNodeTypeKernel)
        i++;
    if (!HOLDS(t, i < nodes))
        return;
    CUDA(t, cudaGraphKernelNodeGetParams(node[i], &params));
    memcpy(param, params.kernelParams, count * sizeof *param);
    param[1] = &other;
    params.kernelParams = param;
    CUDA(t, cudaGraphKernelNodeSetParams(node[i], &params));
}

/* An op in a capture of somebody else is known with its operands, as long as its nodes are what
 * was launched; in a copy of the graph it is foreign. */
static void ops_in_captures_of_others_are_known(struct test *t,
                                                const struct rfn_launch *l)
{
    struct rfn_index_topk_args args = make_args(t);
    struct rfn_stream *stream = NULL;
    struct rfn_image *image = NULL;
    cudaStream_t s;
    cudaGraph_t graph = NULL, copy = NULL;
    CUDA(t, cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    OK(t, rfn_stream_import(t->dev, s, &stream));
    CUDA(t, cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
    OK(t, rfn_index_topk(stream, &args));
    OK(t, rfn_index_topk(stream, &args));
    CUDA(t, cudaStreamEndCapture(s, &graph));
    HOLDS(t, foreign_kernels(t, graph, &image) == 0);
    const struct rfn_image_node *n = image ? nth(image, RFN_IMAGE_KERNEL, 0) : NULL;
    if (HOLDS(t, n && !strcmp(n->op, "index_topk") && n->accesses > 0))
    {
        HOLDS(t, image->nodes == 2 * (int32_t)l->nodes);
        HOLDS(t, !strcmp(n->access[0].name, "logits") &&
                     n->access[0].pointer.address == (uintptr_t)args.logits.data &&
                     n->access[0].bytes == (int64_t)ROWS * COLUMNS * 4);
        for (int32_t i = 0; i < n->params; i++)
            HOLDS(t, n->param[i].name[0] != '#' && n->param[i].role != RFN_IMAGE_FOREIGN);
    }
    OK(t, rfn_image_destroy(&image));
    CUDA(t, cudaGraphClone(&copy, graph));
    HOLDS(t, foreign_kernels(t, copy, &image) == 2 * (int32_t)l->nodes);
    OK(t, rfn_image_destroy(&image));
    change_kernel(t, graph, l->node[0].params);
    HOLDS(t, foreign_kernels(t, graph, &image) == 1);
    OK(t, rfn_image_destroy(&image));
    CUDA(t, cudaGraphDestroy(copy));
    CUDA(t, cudaGraphDestroy(graph));
    OK(t, rfn_stream_destroy(&stream));
    CUDA(t, cudaStreamDestroy(s));
    OK(t, rfn_memory_free(t->dev, args.logits.data));
}

int main(int argc, char **argv)
{
    static struct rfn_launch l;
    static int32_t pageable[64];
    struct test t;
    struct seen seen = { .t = &t };
    struct rfn_image *image = NULL;
    struct rfn_lint_info info = { 0 };
    struct rfn_device_info device;
    cudaStream_t s;
    cudaGraph_t graph = NULL;
    void *room = NULL;
    setenv("RFN_TEST_DEVICE", "cuda", 1);
    test_begin(&t, "cuda_image", &argc, argv);
    OK(&t, rfn_device_query(t.dev, &device));
    struct rfn_index_topk_args args = make_args(&t);
    struct rfn_plan_env env = { .sm_count = device.sm_count,
                                .sm_arch = device.sm_arch >= 90 ? 90 : 80,
                                .shared_bytes_max = 227 << 10 };
    OK(&t, rfn_op_index_topk.cuda(&args, &env, &l));

    CUDA(&t, cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    CUDA(&t, cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
    CUDA(&t, cudaMemcpyAsync(args.slots.data, pageable, sizeof pageable,
                             cudaMemcpyHostToDevice, s));
    CUDA(&t, cudaMemset2DAsync(args.logits.data, 256, 3, 64, 5, s));
    launch(&t, &l, s);
    CUDA(&t, cudaMallocAsync(&room, 1 << 20, s));
    launch(&t, &l, s);
    CUDA(&t, cudaFreeAsync(room, s));
    CUDA(&t, cudaLaunchHostFunc(s, nothing, &t));
    CUDA(&t, cudaStreamEndCapture(s, &graph));
    OK(&t, rfn_image_of_native(t.dev, graph, &image));
    REFUSED(&t, rfn_image_of_native(t.dev, NULL, &image), RFN_INVALID, "NULL");
    CUDA(&t, cudaGraphDestroy(graph));
    if (!image)
        return test_end(&t);

    harness_check(&t.h, "nodes", image->nodes == 5 + 2 * (int32_t)l.nodes, "%d",
                  image->nodes);
    const struct rfn_image_node *n = nth(image, RFN_IMAGE_MEMCPY, 0);
    HOLDS(&t, n && n->accesses == 2);
    HOLDS(&t, n && n->access[1].pointer.address == (uintptr_t)pageable);
    HOLDS(&t, n && n->access[1].bytes == sizeof pageable);
    HOLDS(&t, n && n->access[0].pointer.address == (uintptr_t)args.slots.data);
    HOLDS(&t, n && n->access[0].pointer.base == (uintptr_t)args.logits.data);
    n = nth(image, RFN_IMAGE_MEMSET, 0);
    HOLDS(&t, n && n->accesses == 1 && n->value == 3 && n->value_bytes == 1);
    HOLDS(&t, n && n->access[0].rows == 5 && n->access[0].row_bytes == 64 &&
                  n->access[0].row_stride_bytes == 256);
    for (uint32_t i = 0; i < 2 * l.nodes; i++)
    {
        n = nth(image, RFN_IMAGE_KERNEL, (int)i);
        if (HOLDS(&t, n != NULL))
            check_kernel(&t, n, &l.node[i % l.nodes]);
    }
    n = nth(image, RFN_IMAGE_MEM_ALLOC, 0);
    HOLDS(&t, n && n->access[0].bytes == 1 << 20 &&
                  n->access[0].pointer.address == (uintptr_t)room);
    n = nth(image, RFN_IMAGE_HOST, 0);
    HOLDS(&t, n && n->user == (uintptr_t)&t);

    OK(&t, rfn_lint(image, t.dev, report, &seen, &info));
    HOLDS(&t, info.findings == 3 && seen.rule[RFN_CAP003] == 1 &&
                  seen.rule[RFN_CAP021] == 1 && seen.rule[RFN_CAP026] == 1);
    HOLDS(&t, info.foreign == 2 * (int32_t)l.nodes && !info.opaque);
    HOLDS(&t, info.critical_path == image->nodes);
    OK(&t, rfn_memory_free(t.dev, args.logits.data));
    memset(seen.rule, 0, sizeof seen.rule);
    OK(&t, rfn_lint(image, t.dev, report, &seen, &info));
    HOLDS(&t, seen.rule[RFN_CAP007] >= 1);
    OK(&t, rfn_image_destroy(&image));
    CUDA(&t, cudaStreamDestroy(s));
    check_by_hand(&t);
    ops_in_captures_of_others_are_known(&t, &l);
    return test_end(&t);
}
