#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* More dynamic shared memory than this has to be asked for by the kernel. */
#define SHARED_BYTES_ASKED (48 << 10)

/* ---- kernels --------------------------------------------------------------------- */

#define RFN_TWIN(name) extern const void *const rfn_##name##_cuda_kernels[];
#include "kernels/cuda/kernels.def"
#undef RFN_TWIN

static const void *const *const twins[] = {
#define RFN_TWIN(name) rfn_##name##_cuda_kernels,
#include "kernels/cuda/kernels.def"
#undef RFN_TWIN
};

cudaError_t rfn_cuda_preload(struct rfn_cuda *d)
{
    d->code_arch = 90;
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++)
    {
        for (const void *const *kernel = twins[i]; *kernel; kernel++)
        {
            struct cudaFuncAttributes attributes;
            cudaError_t code = cudaFuncGetAttributes(&attributes, *kernel);
            if (code != cudaSuccess)
                return code;
            if (attributes.ptxVersion != 90)
                d->code_arch = 80;
            int room = d->shared_bytes_max - (int)attributes.sharedSizeBytes;
            code = cudaFuncSetAttribute(
                *kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, room);
            if (code != cudaSuccess)
                return code;
        }
    }
    return cudaSuccess;
}

static int is_preloaded(const void *kernel)
{
    for (size_t i = 0; i < sizeof twins / sizeof twins[0]; i++)
        for (const void *const *k = twins[i]; *k; k++)
            if (*k == kernel)
                return 1;
    return 0;
}

/* Our own kernels may use all shared memory since the device was opened; kernels of callers
 * are asked here. */
static cudaError_t ask_shared(const struct rfn_launch_node *node)
{
    if (node->shared_bytes <= SHARED_BYTES_ASKED || is_preloaded(node->kernel))
        return cudaSuccess;
    return cudaFuncSetAttribute(node->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                (int)node->shared_bytes);
}

/* ---- plans ----------------------------------------------------------------------- */

static cudaError_t code_of(enum rfn_status status)
{
    switch (status)
    {
    case RFN_OK:
        return cudaSuccess;
    case RFN_NOMEM:
        return cudaErrorMemoryAllocation;
    case RFN_UNSUPPORTED:
        return cudaErrorNotSupported;
    default:
        return cudaErrorInvalidValue;
    }
}

/* A planner that leaves out what it does not need gets the plain launch. */
static void clear_heads(struct rfn_launch *launch)
{
    launch->nodes = 0;
    for (int i = 0; i < RFN_LAUNCH_NODES; i++)
    {
        struct rfn_launch_node *n = &launch->node[i];
        n->name = "";
        n->kernel = NULL;
        for (int k = 0; k < 3; k++)
            n->grid[k] = n->block[k] = 1;
        n->shared_bytes = 0;
        n->programmatic = 0;
        n->params = 0;
    }
}

static cudaError_t refuse(cudaError_t code, const char *format, ...)
{
    char text[256];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    rfn_cuda_say(text);
    return code;
}

#define GRID_MOST 65535 /* blocks of y and z; x has 31 bits */
#define BLOCK_MOST 1024 /* threads */
#define BLOCK_MOST_Z 64

/* What the driver would refuse, found before any kernel of the launch is enqueued: it would
 * end a capture, and the kernels in front would be there. */
static cudaError_t check_node(const struct rfn_cuda *d, const struct rfn_launch_node *n)
{
    const uint32_t *g = n->grid, *b = n->block;
    if (!n->kernel)
        return refuse(cudaErrorInvalidValue, "%s has no kernel", n->name);
    if (n->params > RFN_LAUNCH_PARAMS)
        return refuse(cudaErrorInvalidValue, "%s has %u parameters, %d are the most",
                      n->name, n->params, RFN_LAUNCH_PARAMS);
    for (uint32_t i = 0; i < n->params; i++)
    {
        int end = n->param[i].offset + n->param[i].bytes;
        if (end > RFN_LAUNCH_PARAM_BYTES)
            return refuse(cudaErrorInvalidValue,
                          "%s: parameter %u ends at byte %d, %d are the most", n->name, i,
                          end, RFN_LAUNCH_PARAM_BYTES);
    }
    if (!g[0] || !g[1] || !g[2] || g[0] > INT32_MAX || g[1] > GRID_MOST ||
        g[2] > GRID_MOST)
        return refuse(cudaErrorNotSupported,
                      "%s: a grid of %u x %u x %u blocks, but 1 .. %d x %d x %d can be",
                      n->name, g[0], g[1], g[2], INT32_MAX, GRID_MOST, GRID_MOST);
    if (!b[0] || !b[1] || !b[2] || b[0] > BLOCK_MOST || b[1] > BLOCK_MOST ||
        b[2] > BLOCK_MOST_Z || b[0] * b[1] * b[2] > BLOCK_MOST)
        return refuse(cudaErrorNotSupported,
                      "%s: a block of %u x %u x %u threads, but 1 .. %d can be, %d of z",
                      n->name, b[0], b[1], b[2], BLOCK_MOST, BLOCK_MOST_Z);
    if (n->shared_bytes > (uint32_t)d->shared_bytes_max)
        return refuse(cudaErrorNotSupported,
                      "%s: %u bytes of shared memory a block, the GPU has %d", n->name,
                      n->shared_bytes, d->shared_bytes_max);
    return cudaSuccess;
}

cudaError_t rfn_cuda_plan(const struct rfn_cuda *d, const struct rfn_op *op,
                          const void *args, struct rfn_launch *ret)
{
    clear_heads(ret);
    if (!op->cuda)
    {
        rfn_cuda_say("the op has no CUDA twin");
        return cudaErrorNotSupported;
    }
    struct rfn_plan_env env = {
        .sm_count = d->sm_count,
        .sm_arch = d->code_arch,
        .shared_bytes_max = d->shared_bytes_max,
        .fault = d->fault,
    };
    cudaError_t code = code_of(op->cuda(args, &env, ret));
    if (code != cudaSuccess)
        rfn_cuda_say(rfn_last_error());
    else if (ret->nodes > RFN_LAUNCH_NODES)
        code = refuse(cudaErrorInvalidValue, "%u kernels, %d are the most", ret->nodes,
                      RFN_LAUNCH_NODES);
    for (uint32_t i = 0; i < ret->nodes && code == cudaSuccess; i++)
        code = check_node(d, &ret->node[i]);
    return code;
}

static void point_at_params(struct rfn_launch_node *node, void *ret[RFN_LAUNCH_PARAMS])
{
    for (uint32_t i = 0; i < node->params && i < RFN_LAUNCH_PARAMS; i++)
        ret[i] = (char *)node->words + node->param[i].offset;
}

static cudaError_t launch_node(struct rfn_launch_node *node, void *stream)
{
    void *param[RFN_LAUNCH_PARAMS];
    point_at_params(node, param);
    cudaError_t code = ask_shared(node);
    if (code != cudaSuccess)
        return code;
    cudaLaunchAttribute attribute = {
        .id = cudaLaunchAttributeProgrammaticStreamSerialization
    };
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {
        .gridDim = { node->grid[0], node->grid[1], node->grid[2] },
        .blockDim = { node->block[0], node->block[1], node->block[2] },
        .dynamicSmemBytes = node->shared_bytes,
        .stream = stream,
        .attrs = &attribute,
        .numAttrs = node->programmatic ? 1 : 0,
    };
    return cudaLaunchKernelExC(&config, node->kernel, param);
}

/* The id of the stream's capture, 0 when it captures nothing. A stream whose status cannot
 * be asked for (the legacy stream beside a blocking capture) answers at the launch. */
static uint64_t capture_of(void *stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    unsigned long long id = 0;
    if (cudaStreamGetCaptureInfo(stream, &status, &id, NULL, NULL, NULL, NULL) !=
        cudaSuccess)
    {
        cudaGetLastError();
        return 0;
    }
    return status == cudaStreamCaptureStatusActive ? id : 0;
}

/* The node that the stream's next one would follow: the one that was captured last. */
static cudaError_t last_node(void *stream, cudaGraphNode_t *ret)
{
    enum cudaStreamCaptureStatus status;
    const cudaGraphNode_t *node = NULL;
    const cudaGraphEdgeData *edge = NULL;
    size_t nodes = 0;
    cudaError_t code =
        cudaStreamGetCaptureInfo(stream, &status, NULL, NULL, &node, &edge, &nodes);
    if (code != cudaSuccess)
        return code;
    if (status != cudaStreamCaptureStatusActive || nodes != 1)
        return cudaErrorStreamCaptureInvalidated;
    *ret = node[0];
    return cudaSuccess;
}

int rfn_cuda_supports(void *impl, const struct rfn_op *op, const void *args)
{
    struct rfn_cuda *d = impl;
    struct rfn_launch launch;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, rfn_cuda_plan(d, op, args, &launch));
}

int rfn_cuda_launch(void *impl, void *stream, const struct rfn_op *op, const void *args,
                    void **ret_node)
{
    struct rfn_cuda *d = impl;
    struct rfn_launch launch;
    struct rfn_cuda_node *node = NULL;
    int before = rfn_cuda_enter(d);
    *ret_node = NULL;
    cudaError_t code = rfn_cuda_plan(d, op, args, &launch);
    uint64_t id = code == cudaSuccess && launch.nodes ? capture_of(stream) : 0;
    if (id)
        code = rfn_cuda_node_create(d, id, op, args, &node);
    for (uint32_t i = 0; i < launch.nodes && code == cudaSuccess; i++)
    {
        code = launch_node(&launch.node[i], stream);
        if (code == cudaSuccess && node)
        {
            code = last_node(stream, &node->kernel[i]);
            node->function[i] = launch.node[i].kernel;
            node->kernels = i + 1;
        }
    }
    if (code == cudaSuccess)
        *ret_node = node;
    else if (node)
        rfn_cuda_node_cancel(d, id, node);
    return rfn_cuda_leave(d, before, code);
}

/* A node keeps the clusters of the kernel that it was captured with: the grid of one with
 * others would be cut short. */
static cudaError_t same_clusters(const void *captured, const void *now)
{
    const void *function[2] = { captured, now };
    int blocks[2] = { 1, 1 };
    for (int i = 0; i < 2 && captured != now; i++)
    {
        struct cudaFuncAttributes a;
        cudaError_t code = cudaFuncGetAttributes(&a, function[i]);
        if (code != cudaSuccess)
            return code;
        if (a.requiredClusterWidth)
            blocks[i] =
                a.requiredClusterWidth * a.requiredClusterHeight * a.requiredClusterDepth;
    }
    if (blocks[0] == blocks[1])
        return cudaSuccess;
    return refuse(
        cudaErrorNotSupported,
        "the arguments need a kernel with %d blocks a cluster, captured was one with %d",
        blocks[1], blocks[0]);
}

int rfn_cuda_exec_update(void *impl, void *exec, void *node, const struct rfn_op *op,
                         const void *args)
{
    struct rfn_cuda *d = impl;
    const struct rfn_cuda_exec *e = exec;
    const struct rfn_cuda_node *n = node;
    struct rfn_launch launch;
    int before = rfn_cuda_enter(d);
    cudaError_t code = rfn_cuda_plan(d, op, args, &launch);
    if (code == cudaSuccess && launch.nodes != (n ? n->kernels : 0))
    {
        rfn_cuda_say("the arguments need another number of kernels than were captured");
        code = cudaErrorNotSupported;
    }
    /* All are looked at before the first is replaced. */
    for (uint32_t i = 0; i < launch.nodes && code == cudaSuccess; i++)
    {
        code = ask_shared(&launch.node[i]);
        if (code == cudaSuccess)
            code = same_clusters(n->function[i], launch.node[i].kernel);
    }
    for (uint32_t i = 0; i < launch.nodes && code == cudaSuccess; i++)
    {
        struct rfn_launch_node *from = &launch.node[i];
        void *param[RFN_LAUNCH_PARAMS];
        void *kernel;
        point_at_params(from, param);
        memcpy(&kernel, &from->kernel, sizeof kernel);
        struct cudaKernelNodeParams to = {
            .func = kernel,
            .gridDim = { from->grid[0], from->grid[1], from->grid[2] },
            .blockDim = { from->block[0], from->block[1], from->block[2] },
            .sharedMemBytes = from->shared_bytes,
            .kernelParams = param,
        };
        code = cudaGraphExecKernelNodeSetParams(e->exec, n->kernel[i], &to);
    }
    return rfn_cuda_leave(d, before, code);
}
