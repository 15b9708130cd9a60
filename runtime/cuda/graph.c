#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- records of captured launches ------------------------------------------------ */

static void free_nodes(struct rfn_cuda_node *node)
{
    while (node)
    {
        struct rfn_cuda_node *next = node->next;
        free(node);
        node = next;
    }
}

static struct rfn_cuda_capture *find_in(struct rfn_cuda_capture *list, uint64_t id)
{
    while (list && list->id != id)
        list = list->next;
    return list;
}

static struct rfn_cuda_capture *find_id(struct rfn_cuda *d, uint64_t id)
{
    struct rfn_cuda_capture *c = find_in(d->capture, id);
    return c ? c : find_in(d->foreign, id);
}

static struct rfn_cuda_capture *find_origin(struct rfn_cuda *d, const void *stream)
{
    struct rfn_cuda_capture *c = d->capture;
    while (c && (c->stream != stream || (stream == (const void *)cudaStreamPerThread &&
                                         c->thread != rfn_cuda_thread())))
        c = c->next;
    return c;
}

static struct rfn_cuda_capture *add_capture(struct rfn_cuda_capture **list, uint64_t id,
                                            void *stream)
{
    struct rfn_cuda_capture *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct rfn_cuda_capture) {
        .next = *list,
        .id = id,
        .stream = stream,
        .thread = stream ? rfn_cuda_thread() : NULL,
    };
    *list = c;
    return c;
}

/* Takes the capture out of its list and hands over its records. */
static struct rfn_cuda_node *drop_capture(struct rfn_cuda_capture **at,
                                          struct rfn_cuda_capture *c)
{
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    struct rfn_cuda_node *node = c->node;
    free(c);
    return node;
}

cudaError_t rfn_cuda_node_create(struct rfn_cuda *d, uint64_t id, const struct rfn_op *op,
                                 const void *args, struct rfn_cuda_node **ret)
{
    pthread_mutex_lock(&d->mutex);
    struct rfn_cuda_capture *c = find_id(d, id);
    if (!c)
        c = add_capture(&d->foreign, id, NULL);
    struct rfn_cuda_node *node = c ? calloc(1, sizeof *node + op->args_bytes) : NULL;
    if (node)
    {
        node->op = op;
        memcpy(node->args, args, op->args_bytes);
        node->next = c->node;
        c->node = node;
    }
    pthread_mutex_unlock(&d->mutex);
    *ret = node;
    return node ? cudaSuccess : cudaErrorMemoryAllocation;
}

void rfn_cuda_node_cancel(struct rfn_cuda *d, uint64_t id, struct rfn_cuda_node *node)
{
    pthread_mutex_lock(&d->mutex);
    struct rfn_cuda_capture *c = find_id(d, id);
    struct rfn_cuda_node **at = c ? &c->node : NULL;
    while (at && *at && *at != node)
        at = &(*at)->next;
    if (at && *at)
    {
        *at = node->next;
        free(node);
    }
    pthread_mutex_unlock(&d->mutex);
}

void rfn_cuda_captures_free(struct rfn_cuda *d)
{
    while (d->capture)
        free_nodes(drop_capture(&d->capture, d->capture));
    while (d->foreign)
        free_nodes(drop_capture(&d->foreign, d->foreign));
}

void rfn_cuda_capture_forget(void *impl, uint64_t id)
{
    struct rfn_cuda *d = impl;
    pthread_mutex_lock(&d->mutex);
    struct rfn_cuda_capture *c = find_in(d->foreign, id);
    if (c)
        free_nodes(drop_capture(&d->foreign, c));
    pthread_mutex_unlock(&d->mutex);
}

/* ---- captures -------------------------------------------------------------------- */

int rfn_cuda_capture_begin(void *impl, void *stream, enum rfn_capture_mode mode)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    pthread_mutex_lock(&d->mutex);
    struct rfn_cuda_capture *c = add_capture(&d->capture, 0, stream);
    pthread_mutex_unlock(&d->mutex);
    cudaError_t code = cudaErrorMemoryAllocation;
    if (c)
        code = cudaStreamBeginCapture(stream, (enum cudaStreamCaptureMode)mode);
    unsigned long long id = 0;
    if (code == cudaSuccess)
    {
        enum cudaStreamCaptureStatus status;
        code = cudaStreamGetCaptureInfo(stream, &status, &id, NULL, NULL, NULL, NULL);
    }
    pthread_mutex_lock(&d->mutex);
    if (code == cudaSuccess)
        c->id = id;
    else if (c)
        drop_capture(&d->capture, c);
    pthread_mutex_unlock(&d->mutex);
    return rfn_cuda_leave(d, before, code);
}

/* A failing end leaves some captures open (401, 903) and ends others. */
static int is_capturing(void *stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &status) != cudaSuccess)
    {
        cudaGetLastError();
        return 1; /* nobody can say: the records stay */
    }
    return status != cudaStreamCaptureStatusNone;
}

int rfn_cuda_capture_end(void *impl, void *stream, void **ret_graph)
{
    struct rfn_cuda *d = impl;
    *ret_graph = NULL;
    struct rfn_cuda_graph *g = calloc(1, sizeof *g);
    cudaGraph_t graph = NULL;
    int before = rfn_cuda_enter(d);
    cudaError_t code = cudaStreamEndCapture(stream, &graph);
    struct rfn_cuda_node *node = NULL;
    if (code == cudaSuccess || !is_capturing(stream))
    {
        pthread_mutex_lock(&d->mutex);
        struct rfn_cuda_capture *c = find_origin(d, stream);
        if (c)
            node = drop_capture(&d->capture, c);
        pthread_mutex_unlock(&d->mutex);
    }
    if (code == cudaSuccess && !g)
    {
        cudaGraphDestroy(graph);
        code = cudaErrorMemoryAllocation;
    }
    if (code == cudaSuccess)
    {
        g->graph = graph;
        g->node = node;
        atomic_init(&g->holders, 1);
        *ret_graph = g;
    }
    else
    {
        free_nodes(node);
        free(g);
    }
    return rfn_cuda_leave(d, before, code);
}

int rfn_cuda_capture_query(void *impl, void *stream, struct rfn_capture_info *ret)
{
    struct rfn_cuda *d = impl;
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    unsigned long long id = 0;
    int before = rfn_cuda_enter(d);
    cudaError_t code =
        cudaStreamGetCaptureInfo(stream, &status, &id, NULL, NULL, NULL, NULL);
    if (code == cudaSuccess && status == cudaStreamCaptureStatusNone)
        id = 0;
    if (code == cudaSuccess && status == cudaStreamCaptureStatusInvalidated)
    {
        /* CUDA gives the id of an active capture only; the origin's is known here. */
        pthread_mutex_lock(&d->mutex);
        struct rfn_cuda_capture *c = find_origin(d, stream);
        id = c ? c->id : 0;
        pthread_mutex_unlock(&d->mutex);
    }
    if (code == cudaSuccess)
        *ret = (struct rfn_capture_info) {
            .status = (enum rfn_capture_status)status,
            .id = id,
        };
    return rfn_cuda_leave(d, before, code);
}

int rfn_cuda_capture_add_child(void *impl, void *stream, void *graph)
{
    struct rfn_cuda *d = impl;
    const struct rfn_cuda_graph *child = graph;
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaGraph_t parent = NULL;
    const cudaGraphNode_t *from = NULL;
    const cudaGraphEdgeData *edge = NULL;
    size_t count = 0;
    int before = rfn_cuda_enter(d);
    cudaError_t code =
        cudaStreamGetCaptureInfo(stream, &status, NULL, &parent, &from, &edge, &count);
    if (code == cudaSuccess && status != cudaStreamCaptureStatusActive)
        code = status == cudaStreamCaptureStatusNone ? cudaErrorIllegalState
                                                     : cudaErrorStreamCaptureInvalidated;
    /* `edge` is asked for because a programmatic dependency is not told otherwise; such an
     * edge can lead to kernels only, so the child waits for the whole of each predecessor. */
    cudaGraphNode_t node = NULL;
    if (code == cudaSuccess)
        code = cudaGraphAddChildGraphNode(&node, parent, from, count, child->graph);
    if (code == cudaSuccess)
        code = cudaStreamUpdateCaptureDependencies(stream, &node, NULL, 1,
                                                   cudaStreamSetCaptureDependencies);
    return rfn_cuda_leave(d, before, code);
}

/* ---- graphs ---------------------------------------------------------------------- */

static cudaError_t count_nodes(cudaGraph_t graph, int32_t ret[RFN_NODE_TYPES])
{
    size_t count = 0;
    cudaError_t code = cudaGraphGetNodes(graph, NULL, &count);
    if (code != cudaSuccess || count == 0)
        return code;
    cudaGraphNode_t *node = malloc(count * sizeof *node);
    if (!node)
        return cudaErrorMemoryAllocation;
    code = cudaGraphGetNodes(graph, node, &count);
    for (size_t i = 0; i < count && code == cudaSuccess; i++)
    {
        enum rfn_node_type type;
        code = rfn_cuda_node_type(node[i], &type);
        if (code == cudaSuccess && type < RFN_NODE_TYPES)
            ret[type]++;
    }
    free(node);
    return code;
}

int rfn_cuda_graph_count(void *impl, void *graph, int32_t node[RFN_NODE_TYPES])
{
    struct rfn_cuda *d = impl;
    const struct rfn_cuda_graph *g = graph;
    int32_t count[RFN_NODE_TYPES] = { 0 };
    int before = rfn_cuda_enter(d);
    int rc = rfn_cuda_leave(d, before, count_nodes(g->graph, count));
    for (int i = 0; i < RFN_NODE_TYPES && rc == 0; i++)
        node[i] = count[i];
    return rc;
}

static cudaError_t let_go(struct rfn_cuda_graph *g)
{
    if (atomic_fetch_sub(&g->holders, 1) != 1)
        return cudaSuccess;
    cudaError_t code = cudaGraphDestroy(g->graph);
    free_nodes(g->node);
    free(g);
    return code;
}

int rfn_cuda_graph_destroy(void *impl, void *graph)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, let_go(graph));
}

int rfn_cuda_graph_instantiate(void *impl, void *graph, void **ret_exec)
{
    struct rfn_cuda *d = impl;
    struct rfn_cuda_graph *g = graph;
    struct rfn_cuda_exec *e = calloc(1, sizeof *e);
    int before = rfn_cuda_enter(d);
    cudaError_t code =
        e ? cudaGraphInstantiate(&e->exec, g->graph, 0) : cudaErrorMemoryAllocation;
    if (code == cudaSuccess)
    {
        atomic_fetch_add(&g->holders, 1);
        atomic_init(&e->used, 0);
        e->graph = g;
        *ret_exec = e;
    }
    else
        free(e);
    return rfn_cuda_leave(d, before, code);
}

/* The one driver call of a step. */
int rfn_cuda_exec_launch(void *impl, void *exec, void *stream)
{
    struct rfn_cuda *d = impl;
    struct rfn_cuda_exec *e = exec;
    int before = rfn_cuda_enter(d);
    cudaError_t code = cudaGraphLaunch(e->exec, stream);
    if (code == cudaSuccess)
        atomic_store_explicit(&e->used, 1, memory_order_release);
    return rfn_cuda_leave(d, before, code);
}

int rfn_cuda_exec_upload(void *impl, void *exec, void *stream)
{
    struct rfn_cuda *d = impl;
    struct rfn_cuda_exec *e = exec;
    int before = rfn_cuda_enter(d);
    cudaError_t code = cudaGraphUpload(e->exec, stream);
    if (code == cudaSuccess)
        atomic_store_explicit(&e->used, 1, memory_order_release);
    return rfn_cuda_leave(d, before, code);
}

/* An upload is ordered behind every launch of its executable, on whatever stream that was
 * and whatever became of the stream since (it was destroyed, it captures now, it was
 * another thread's): so nothing has to be noted at a launch. Waiting is forbidden while
 * somebody captures in global mode; this wait concerns no capture, so the thread steps out
 * of the way for its duration. */
static cudaError_t wait_for(const struct rfn_cuda *d, struct rfn_cuda_exec *e)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    if (!atomic_load_explicit(&e->used, memory_order_acquire))
        return cudaSuccess;
    cudaError_t switched = cudaThreadExchangeStreamCaptureMode(&mode);
    cudaError_t code = cudaGraphUpload(e->exec, d->waiting);
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(d->waiting);
    if (switched == cudaSuccess)
        cudaThreadExchangeStreamCaptureMode(&mode);
    return code;
}

int rfn_cuda_exec_destroy(void *impl, void *exec)
{
    struct rfn_cuda *d = impl;
    struct rfn_cuda_exec *e = exec;
    int before = rfn_cuda_enter(d);
    cudaError_t waited = wait_for(d, e);
    cudaError_t code = cudaGraphExecDestroy(e->exec);
    /* A capture forbids it: everything stays. A lost device: everything goes. */
    if (code >= cudaErrorStreamCaptureUnsupported &&
        code <= cudaErrorStreamCaptureWrongThread)
        return rfn_cuda_leave(d, before, code);
    cudaError_t step[] = { waited, code, let_go(e->graph) };
    free(e);
    code = cudaSuccess;
    for (int i = 0; i < 3 && code == cudaSuccess; i++)
        code = step[i];
    return rfn_cuda_leave(d, before, code);
}
