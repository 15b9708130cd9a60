/* A captured graph as data. The runtime tells everything but the parameters of kernels that
 * are not ours: for those the driver is asked, where it is new enough. */
#define RFN_NO_SITES
#include "runtime/image.h"
#include "runtime/cuda/impl.h"

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the driver ------------------------------------------------------------------- */

struct driver
{
    CUresult (*kernel_params)(CUgraphNode, CUDA_KERNEL_NODE_PARAMS *);
    CUresult (*func_param)(CUfunction, size_t, size_t *, size_t *);
    CUresult (*kernel_param)(CUkernel, size_t, size_t *, size_t *);
    CUresult (*func_name)(const char **, CUfunction);
    CUresult (*kernel_name)(const char **, CUkernel);
};

static void entry(const char *name, unsigned version, void *ret)
{
    void *fn = rfn_cuda_driver_entry(name, version);
    memcpy(ret, &fn, sizeof fn);
}

static void find_driver(struct driver *ret)
{
    entry("cuGraphKernelNodeGetParams", 12000, &ret->kernel_params);
    entry("cuFuncGetParamInfo", 12040, &ret->func_param);
    entry("cuKernelGetParamInfo", 12040, &ret->kernel_param);
    entry("cuFuncGetName", 12030, &ret->func_name);
    entry("cuKernelGetName", 12030, &ret->kernel_name);
}

/* ---- launches of ours -------------------------------------------------------------- */

struct ours
{
    cudaGraphNode_t kernel;
    const struct rfn_cuda_node *node;
    uint32_t which;
};

struct walk
{
    struct rfn_cuda *d;
    struct rfn_image_store *store;
    struct driver driver;
    struct ours *ours; /* by handle */
    size_t count;
    int foreign; /* the graph is somebody else's */
    int level;
};

static int by_handle(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct ours *)a)->kernel;
    uintptr_t y = (uintptr_t)((const struct ours *)b)->kernel;
    return (x > y) - (x < y);
}

static size_t list_ours(const struct rfn_cuda_node *node, struct ours *ret)
{
    size_t count = 0;
    for (; node; node = node->next)
        for (uint32_t i = 0; i < node->kernels; i++, count++)
            if (ret)
                ret[count] = (struct ours) { node->kernel[i], node, i };
    return count;
}

/* The first of them: graphs of others that are gone may have had the same handles. */
static const struct ours *find_ours(const struct walk *w, cudaGraphNode_t kernel)
{
    struct ours key = { .kernel = kernel };
    const struct ours *found =
        w->count ? bsearch(&key, w->ours, w->count, sizeof key, by_handle) : NULL;
    while (found && found > w->ours && found[-1].kernel == kernel)
        found--;
    return found;
}

/* ---- kernels ----------------------------------------------------------------------- */

static void fill_shape(struct rfn_image_node *to, const CUDA_KERNEL_NODE_PARAMS *from)
{
    to->grid[0] = from->gridDimX;
    to->grid[1] = from->gridDimY;
    to->grid[2] = from->gridDimZ;
    to->block[0] = from->blockDimX;
    to->block[1] = from->blockDimY;
    to->block[2] = from->blockDimZ;
    to->shared_bytes = from->sharedMemBytes;
}

static void opaque(struct rfn_image_node *to, const char *why)
{
    to->opaque = 1;
    to->why = why;
}

#define FOREIGN_PARAMS 512
#define WORD 8         /* bytes of an address */
#define SPLIT_BYTES 64 /* of a parameter that is taken apart */

static CUresult param_info(const struct walk *w, const CUDA_KERNEL_NODE_PARAMS *from,
                           size_t i, size_t *offset, size_t *bytes)
{
    if (from->func)
        return w->driver.func_param ? w->driver.func_param(from->func, i, offset, bytes)
                                    : CUDA_ERROR_NOT_SUPPORTED;
    return w->driver.kernel_param ? w->driver.kernel_param(from->kern, i, offset, bytes)
                                  : CUDA_ERROR_NOT_SUPPORTED;
}

/* Whether a node still is what was launched: others may have put new parameters into it, or
 * the handle may be another graph's by now. */
static int is_unchanged(const struct walk *w, const CUDA_KERNEL_NODE_PARAMS *from,
                        const struct rfn_launch_node *n)
{
    size_t offset, bytes;
    if (param_info(w, from, n->params, &offset, &bytes) == CUDA_SUCCESS)
        return 0;
    for (uint32_t i = 0; i < n->params; i++)
    {
        const struct rfn_param *p = &n->param[i];
        if (param_info(w, from, i, &offset, &bytes) != CUDA_SUCCESS ||
            bytes != p->bytes ||
            memcmp(from->kernelParams[i], (const char *)n->words + p->offset, bytes) != 0)
            return 0;
    }
    return 1;
}

/* Fills in a launch of ours; 0 when the node is another one that has its handle now. */
static int fill_ours(struct walk *w, struct rfn_image_node *to, const struct ours *ours,
                     const CUDA_KERNEL_NODE_PARAMS *from)
{
    static const enum rfn_image_role role[] = {
        [RFN_PARAM_CONST] = RFN_IMAGE_CONST,
        [RFN_PARAM_DYNAMIC] = RFN_IMAGE_DYNAMIC,
        [RFN_PARAM_READ] = RFN_IMAGE_READ,
        [RFN_PARAM_WRITE] = RFN_IMAGE_WRITE,
        [RFN_PARAM_READ_WRITE] = RFN_IMAGE_READ_WRITE,
    };
    const struct rfn_op *op = ours->node->op;
    struct rfn_launch launch;
    if (!from->kernelParams ||
        rfn_cuda_plan(w->d, op, ours->node->args, &launch) != cudaSuccess ||
        launch.nodes <= ours->which)
        return 0;
    const struct rfn_launch_node *n = &launch.node[ours->which];
    if (memcmp(n->grid, to->grid, sizeof to->grid) != 0 ||
        memcmp(n->block, to->block, sizeof to->block) != 0 ||
        n->shared_bytes != to->shared_bytes || n->params > RFN_LAUNCH_PARAMS ||
        (w->foreign && !is_unchanged(w, from, n)))
        return 0;
    struct rfn_image_param *param = rfn_image_take(w->store, n->params * sizeof *param);
    to->op = rfn_image_text(w->store, op->name);
    to->name = rfn_image_text(w->store, n->name[0] ? n->name : op->name);
    for (uint32_t i = 0; i < n->params && param; i++)
    {
        const struct rfn_param *p = &n->param[i];
        uint64_t address = 0;
        param[i] = (struct rfn_image_param) {
            .name = rfn_image_text(w->store, p->name),
            .role = p->role <= RFN_PARAM_READ_WRITE ? role[p->role] : RFN_IMAGE_CONST,
            .offset = p->offset,
            .bytes = p->bytes,
            .value = rfn_image_copy(w->store, from->kernelParams[i], p->bytes),
        };
        if (param[i].role >= RFN_IMAGE_READ && p->bytes == sizeof address &&
            param[i].value)
            memcpy(&address, param[i].value, sizeof address);
        param[i].pointer.address = address;
    }
    to->param = param;
    to->params = param ? (int32_t)n->params : 0;
    rfn_image_accesses(w->store, to, op, ours->node->args);
    return 1;
}

/* The bytes of a launch that gave them in one buffer. */
static const char *buffer_of(const CUDA_KERNEL_NODE_PARAMS *from, size_t *ret_bytes)
{
    const char *buffer = NULL;
    *ret_bytes = 0;
    for (void **at = from->extra; at && at[0] != CU_LAUNCH_PARAM_END; at += 2)
        if (at[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = at[1];
        else if (at[0] == CU_LAUNCH_PARAM_BUFFER_SIZE)
            *ret_bytes = *(const size_t *)at[1];
    return buffer;
}

/* Small structs are mostly addresses (an elementwise kernel of PyTorch takes those of all its
 * tensors in one): each word is a parameter. Larger ones hold strides, padding, whatever. */
static size_t pieces_of(size_t offset, size_t bytes)
{
    int split =
        bytes > WORD && bytes <= SPLIT_BYTES && !(bytes % WORD) && !(offset % WORD);
    return split ? bytes / WORD : 1;
}

static struct rfn_image_param foreign_param(struct walk *w, const char *name,
                                            size_t offset, const void *value,
                                            size_t bytes)
{
    struct rfn_image_param param = {
        .name = rfn_image_text(w->store, name),
        .role = RFN_IMAGE_FOREIGN,
        .offset = (int32_t)offset,
        .bytes = (int32_t)bytes,
        .value = rfn_image_copy(w->store, value, bytes),
    };
    if (bytes == sizeof param.pointer.address && param.value)
        memcpy(&param.pointer.address, param.value, bytes);
    return param;
}

static void fill_params(struct walk *w, struct rfn_image_node *to,
                        const CUDA_KERNEL_NODE_PARAMS *from, size_t count, size_t pieces)
{
    size_t offset, bytes, room;
    const char *buffer = buffer_of(from, &room);
    struct rfn_image_param *param = rfn_image_take(w->store, pieces * sizeof *param);
    for (size_t i = 0; i < count && param; i++)
    {
        char text[32];
        param_info(w, from, i, &offset, &bytes);
        const char *value = from->kernelParams ? from->kernelParams[i] : buffer + offset;
        if (!value || (!from->kernelParams && offset + bytes > room))
            break;
        size_t parts = pieces_of(offset, bytes);
        for (size_t k = 0; k < parts; k++)
        {
            size_t at = k * WORD;
            if (parts > 1)
                snprintf(text, sizeof text, "#%zu+%zu", i, at);
            else
                snprintf(text, sizeof text, "#%zu", i);
            param[to->params++] =
                foreign_param(w, text, offset + at, value + at, parts > 1 ? WORD : bytes);
        }
    }
    to->param = param;
}

static void fill_foreign(struct walk *w, struct rfn_image_node *to,
                         const CUDA_KERNEL_NODE_PARAMS *from)
{
    const char *name = NULL;
    size_t count = 0, pieces = 0, offset, bytes, room;
    to->foreign = 1;
    if (from->func && w->driver.func_name)
        w->driver.func_name(&name, from->func);
    else if (!from->func && w->driver.kernel_name)
        w->driver.kernel_name(&name, from->kern);
    to->name = rfn_image_text(w->store, name ? name : "kernel");
    while (count < FOREIGN_PARAMS &&
           param_info(w, from, count, &offset, &bytes) == CUDA_SUCCESS)
    {
        pieces += pieces_of(offset, bytes);
        count++;
    }
    if (count && (from->kernelParams || buffer_of(from, &room)))
        fill_params(w, to, from, count, pieces);
    else if (!w->driver.func_param)
        opaque(to, "the driver tells no parameter layout (before 12.4)");
}

static void fill_kernel(struct walk *w, struct rfn_image_raw *raw, size_t i,
                        cudaGraphNode_t node)
{
    struct rfn_image_node *to = &raw->node[i];
    CUDA_KERNEL_NODE_PARAMS from;
    memset(&from, 0, sizeof from);
    if (!w->driver.kernel_params || w->driver.kernel_params(node, &from) != CUDA_SUCCESS)
    {
        to->foreign = 1;
        to->name = "kernel";
        opaque(to, "the driver does not tell its parameters");
        return;
    }
    fill_shape(to, &from);
    const struct ours *end = w->ours + w->count;
    const struct ours *ours = find_ours(w, node);
    while (ours && !fill_ours(w, to, ours, &from))
        ours = ours + 1 < end && ours[1].kernel == node ? ours + 1 : NULL;
    if (ours)
        raw->key[i] = ours->node;
    else
        fill_foreign(w, to, &from);
}

/* ---- other nodes ------------------------------------------------------------------- */

static uint64_t corner(const struct cudaPitchedPtr *at, const struct cudaPos *pos)
{
    return (uintptr_t)at->ptr + pos->x + pos->y * at->pitch +
           pos->z * at->pitch * at->ysize;
}

static void fill_memcpy(struct walk *w, struct rfn_image_node *to, cudaGraphNode_t node)
{
    struct cudaMemcpy3DParms from;
    memset(&from, 0, sizeof from);
    if (cudaGraphMemcpyNodeGetParams(node, &from) != cudaSuccess)
    {
        cudaGetLastError();
        opaque(to, "the driver does not tell its parameters");
        return;
    }
    if (from.srcArray || from.dstArray)
    {
        opaque(to, "it copies from or to an array");
        return;
    }
    if (from.extent.depth > 1 && (from.dstPtr.ysize != from.extent.height ||
                                  from.srcPtr.ysize != from.extent.height))
    {
        opaque(to, "it copies slices that lie apart");
        return;
    }
    int plain = from.extent.height <= 1 && from.extent.depth <= 1;
    struct rfn_image_rows rows = {
        .rows = plain ? 1 : (int64_t)(from.extent.height * from.extent.depth),
        .row_bytes = (int64_t)from.extent.width,
        .dst_stride_bytes = (int64_t)from.dstPtr.pitch,
        .src_stride_bytes = (int64_t)from.srcPtr.pitch,
    };
    rfn_image_move(w->store, to, corner(&from.dstPtr, &from.dstPos),
                   corner(&from.srcPtr, &from.srcPos), &rows);
}

static void fill_memset(struct walk *w, struct rfn_image_node *to, cudaGraphNode_t node)
{
    struct cudaMemsetParams from;
    if (cudaGraphMemsetNodeGetParams(node, &from) != cudaSuccess)
    {
        cudaGetLastError();
        opaque(to, "the driver does not tell its parameters");
        return;
    }
    struct rfn_image_rows rows = {
        .rows = from.height > 1 ? (int64_t)from.height : 1,
        .row_bytes = (int64_t)(from.width * from.elementSize),
        .dst_stride_bytes = (int64_t)from.pitch,
    };
    to->value = (int32_t)from.value;
    to->value_bytes = (int32_t)from.elementSize;
    rfn_image_move(w->store, to, (uintptr_t)from.dst, 0, &rows);
}

static void fill_memory(struct walk *w, struct rfn_image_node *to, cudaGraphNode_t node)
{
    struct cudaMemAllocNodeParams alloc;
    void *freed = NULL;
    struct rfn_image_access *access = rfn_image_take(w->store, sizeof *access);
    cudaError_t code = to->type == RFN_IMAGE_MEM_ALLOC
                           ? cudaGraphMemAllocNodeGetParams(node, &alloc)
                           : cudaGraphMemFreeNodeGetParams(node, &freed);
    if (code != cudaSuccess || !access)
    {
        cudaGetLastError();
        opaque(to, "the driver does not tell its parameters");
        return;
    }
    int made = to->type == RFN_IMAGE_MEM_ALLOC;
    *access = (struct rfn_image_access) {
        .name = "memory",
        .access = RFN_READ_WRITE,
        .bytes = made ? (int64_t)alloc.bytesize : 1,
        .pointer = { .address = (uintptr_t)(made ? alloc.dptr : freed) },
    };
    to->access = access;
    to->accesses = 1;
}

/* ---- graphs ------------------------------------------------------------------------ */

static cudaError_t fill_graph(struct walk *w, struct rfn_image_raw *raw,
                              cudaGraph_t graph);

static cudaError_t fill_node(struct walk *w, struct rfn_image_raw *raw, size_t i,
                             cudaGraphNode_t node)
{
    static const enum rfn_image_type type_of[] = {
        [cudaGraphNodeTypeKernel] = RFN_IMAGE_KERNEL,
        [cudaGraphNodeTypeMemcpy] = RFN_IMAGE_MEMCPY,
        [cudaGraphNodeTypeMemset] = RFN_IMAGE_MEMSET,
        [cudaGraphNodeTypeHost] = RFN_IMAGE_HOST,
        [cudaGraphNodeTypeGraph] = RFN_IMAGE_CHILD,
        [cudaGraphNodeTypeEmpty] = RFN_IMAGE_EMPTY,
        [cudaGraphNodeTypeWaitEvent] = RFN_IMAGE_EVENT_WAIT,
        [cudaGraphNodeTypeEventRecord] = RFN_IMAGE_EVENT_RECORD,
        [cudaGraphNodeTypeExtSemaphoreSignal] = RFN_IMAGE_OTHER,
        [cudaGraphNodeTypeExtSemaphoreWait] = RFN_IMAGE_OTHER,
        [cudaGraphNodeTypeMemAlloc] = RFN_IMAGE_MEM_ALLOC,
        [cudaGraphNodeTypeMemFree] = RFN_IMAGE_MEM_FREE,
        [12] = RFN_IMAGE_OTHER, /* batched memory operations */
        [cudaGraphNodeTypeConditional] = RFN_IMAGE_CONDITIONAL,
    };
    struct rfn_image_node *to = &raw->node[i];
    struct cudaHostNodeParams host = { 0 };
    enum cudaGraphNodeType type;
    cudaEvent_t event = NULL;
    cudaGraph_t child = NULL;
    cudaError_t code = cudaGraphNodeGetType(node, &type);
    if (code != cudaSuccess)
        return code;
    to->type = (size_t)type < sizeof type_of / sizeof type_of[0] ? type_of[type]
                                                                 : RFN_IMAGE_OTHER;
    to->name = rfn_image_type_name(to->type);
    switch (to->type)
    {
    case RFN_IMAGE_KERNEL:
        fill_kernel(w, raw, i, node);
        break;
    case RFN_IMAGE_MEMCPY:
        fill_memcpy(w, to, node);
        break;
    case RFN_IMAGE_MEMSET:
        fill_memset(w, to, node);
        break;
    case RFN_IMAGE_HOST:
        code = cudaGraphHostNodeGetParams(node, &host);
        to->function = (uintptr_t)host.fn;
        to->user = (uintptr_t)host.userData;
        break;
    case RFN_IMAGE_EVENT_RECORD:
        code = cudaGraphEventRecordNodeGetEvent(node, &event);
        to->event = (uintptr_t)event;
        break;
    case RFN_IMAGE_EVENT_WAIT:
        code = cudaGraphEventWaitNodeGetEvent(node, &event);
        to->event = (uintptr_t)event;
        break;
    case RFN_IMAGE_MEM_ALLOC:
    case RFN_IMAGE_MEM_FREE:
        fill_memory(w, to, node);
        break;
    case RFN_IMAGE_CHILD:
        code = cudaGraphChildGraphNodeGetGraph(node, &child);
        if (code == cudaSuccess && w->level < RFN_IMAGE_DEPTH)
            code = fill_graph(w, &raw->child[i], child);
        else
            opaque(to, "children nest too deeply");
        break;
    case RFN_IMAGE_CONDITIONAL:
        opaque(to, "the driver does not show the bodies of conditional nodes");
        break;
    default:
        opaque(to, "a node of a type that is not known here");
        break;
    }
    return code;
}

/* Handles to indices. `which` holds the index. */
static cudaError_t fill_edges(struct walk *w, struct rfn_image_raw *raw,
                              cudaGraph_t graph, struct ours *index)
{
    size_t edges = 0, nodes = (size_t)raw->nodes;
    cudaError_t code = cudaGraphGetEdges(graph, NULL, NULL, NULL, &edges);
    if (code != cudaSuccess || !edges)
        return code;
    cudaGraphNode_t *end = malloc(2 * edges * sizeof *end);
    cudaGraphEdgeData *data = malloc(edges * sizeof *data);
    raw->edge = rfn_image_take(w->store, edges * sizeof *raw->edge);
    code = cudaErrorMemoryAllocation;
    if (end && data && raw->edge && edges <= INT32_MAX)
        code = cudaGraphGetEdges(graph, end, end + edges, data, &edges);
    for (size_t i = 0; i < edges && code == cudaSuccess; i++)
    {
        struct ours from = { .kernel = end[i] };
        struct ours to = { .kernel = end[edges + i] };
        const struct ours *a = bsearch(&from, index, nodes, sizeof from, by_handle);
        const struct ours *b = bsearch(&to, index, nodes, sizeof to, by_handle);
        if (!a || !b)
            code = cudaErrorUnknown;
        else
            raw->edge[raw->edges++] = (struct rfn_image_edge) {
                .from = (int32_t)a->which,
                .to = (int32_t)b->which,
                .programmatic = data[i].type == cudaGraphDependencyTypeProgrammatic,
            };
    }
    free(end);
    free(data);
    return code;
}

static cudaError_t fill_graph(struct walk *w, struct rfn_image_raw *raw,
                              cudaGraph_t graph)
{
    size_t nodes = 0;
    cudaError_t code = cudaGraphGetNodes(graph, NULL, &nodes);
    if (code != cudaSuccess)
        return code;
    if (!rfn_image_raw_nodes(w->store, raw, nodes))
        return cudaErrorMemoryAllocation;
    if (!nodes)
        return cudaSuccess;
    cudaGraphNode_t *node = malloc(nodes * sizeof *node);
    struct ours *index = malloc(nodes * sizeof *index);
    code = node && index ? cudaGraphGetNodes(graph, node, &nodes)
                         : cudaErrorMemoryAllocation;
    w->level++;
    for (size_t i = 0; i < nodes && code == cudaSuccess; i++)
    {
        index[i] = (struct ours) { .kernel = node[i], .which = (uint32_t)i };
        code = fill_node(w, raw, i, node[i]);
    }
    w->level--;
    if (code == cudaSuccess)
    {
        qsort(index, nodes, sizeof *index, by_handle);
        code = fill_edges(w, raw, graph, index);
    }
    free(node);
    free(index);
    return code;
}

static cudaError_t fill_image(struct walk *w, struct rfn_image_raw *ret,
                              cudaGraph_t graph)
{
    find_driver(&w->driver);
    qsort(w->ours, w->count, sizeof *w->ours, by_handle);
    cudaError_t code = fill_graph(w, ret, graph);
    return code == cudaSuccess && w->store->failed ? cudaErrorMemoryAllocation : code;
}

int rfn_cuda_graph_image(void *impl, void *graph, struct rfn_image_store *store,
                         struct rfn_image_raw *ret)
{
    struct rfn_cuda *d = impl;
    const struct rfn_cuda_graph *g = graph;
    struct walk w = { .d = d, .store = store };
    int before = rfn_cuda_enter(d);
    w.count = list_ours(g->node, NULL);
    w.ours = malloc((w.count + 1) * sizeof *w.ours);
    cudaError_t code = cudaErrorMemoryAllocation;
    if (w.ours)
    {
        list_ours(g->node, w.ours);
        code = fill_image(&w, ret, g->graph);
    }
    free(w.ours);
    return rfn_cuda_leave(d, before, code);
}

/* Launches of ours into captures of others are kept as long as those are pinned; a copy of
 * such a graph has handles of its own, and its kernels are foreign. */
static size_t list_foreign(const struct rfn_cuda *d, struct ours *ret)
{
    size_t count = 0;
    for (const struct rfn_cuda_capture *c = d->foreign; c; c = c->next)
        count += list_ours(c->node, ret ? ret + count : NULL);
    return count;
}

int rfn_cuda_native_image(void *impl, void *native, struct rfn_image_store *store,
                          struct rfn_image_raw *ret)
{
    struct rfn_cuda *d = impl;
    struct walk w = { .d = d, .store = store, .foreign = 1 };
    int before = rfn_cuda_enter(d);
    /* Records of graphs that go meanwhile stay as long. */
    pthread_mutex_lock(&d->mutex);
    w.count = list_foreign(d, NULL);
    w.ours = malloc((w.count + 1) * sizeof *w.ours);
    cudaError_t code = cudaErrorMemoryAllocation;
    if (w.ours)
    {
        list_foreign(d, w.ours);
        code = fill_image(&w, ret, native);
    }
    pthread_mutex_unlock(&d->mutex);
    free(w.ours);
    return rfn_cuda_leave(d, before, code);
}
