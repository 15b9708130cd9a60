/* What a captured graph's nodes are: their kernels, and the ids that profilers print. */
#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

#include <dlfcn.h>
#include <stdlib.h>

cudaError_t rfn_cuda_node_type(cudaGraphNode_t node, enum rfn_node_type *ret)
{
    static const int8_t type_of[] = {
        [cudaGraphNodeTypeKernel] = RFN_NODE_KERNEL,
        [cudaGraphNodeTypeMemcpy] = RFN_NODE_MEMCPY,
        [cudaGraphNodeTypeMemset] = RFN_NODE_MEMSET,
        [cudaGraphNodeTypeHost] = RFN_NODE_HOST,
        [cudaGraphNodeTypeGraph] = RFN_NODE_CHILD,
        [cudaGraphNodeTypeEmpty] = RFN_NODE_EMPTY,
        [cudaGraphNodeTypeWaitEvent] = RFN_NODE_EVENT_WAIT,
        [cudaGraphNodeTypeEventRecord] = RFN_NODE_EVENT_RECORD,
    };
    enum cudaGraphNodeType type;
    cudaError_t code = cudaGraphNodeGetType(node, &type);
    /* Memory nodes, semaphores and conditionals have no place in our list. */
    if (code == cudaSuccess)
        *ret = (size_t)type < sizeof type_of ? (enum rfn_node_type)type_of[type]
                                             : RFN_NODE_TYPES;
    return code;
}

/* Finds the launch that a kernel node is of. */
static void find_launch(const struct rfn_cuda_graph *g, cudaGraphNode_t node,
                        struct rfn_native_node *ret)
{
    for (const struct rfn_cuda_node *n = g->node; n; n = n->next)
        for (uint32_t i = 0; i < n->kernels; i++)
            if (n->kernel[i] == node)
            {
                ret->launch = n;
                if (cudaFuncGetName(&ret->kernel, n->function[i]) != cudaSuccess)
                {
                    cudaGetLastError();
                    ret->kernel = NULL;
                }
                return;
            }
}

/* ---- ids ------------------------------------------------------------------------- */

/* The driver tells since CUDA 13.1, the profilers' library before. Both hand out 0 for
 * success and the same numbers: the graph's id above, the node's place in it below. */
static union
{
    void *entry;
    int (*ask)(cudaGraphNode_t node, unsigned long long *ret);
} tools_id;
static pthread_once_t tools_id_once = PTHREAD_ONCE_INIT;

static void find_tools_id(void)
{
    tools_id.entry = rfn_cuda_driver_entry("cuGraphNodeGetToolsId", 13010);
    void *cupti = tools_id.entry ? NULL : dlopen("libcupti.so.13", RTLD_LAZY);
    if (cupti)
        tools_id.entry = dlsym(cupti, "cuptiGetGraphNodeId");
}

/* ---- nodes ----------------------------------------------------------------------- */

int rfn_cuda_graph_nodes(void *impl, void *graph, struct rfn_native_node *ret,
                         int32_t *nodes)
{
    struct rfn_cuda *d = impl;
    const struct rfn_cuda_graph *g = graph;
    size_t count = 0;
    int before = rfn_cuda_enter(d);
    pthread_once(&tools_id_once, find_tools_id);
    cudaGraphNode_t *node = NULL;
    cudaError_t code = cudaGraphGetNodes(g->graph, NULL, &count);
    if (code == cudaSuccess && count)
    {
        node = malloc(count * sizeof *node);
        code =
            node ? cudaGraphGetNodes(g->graph, node, &count) : cudaErrorMemoryAllocation;
    }
    for (size_t i = 0; code == cudaSuccess && i < count && (int64_t)i < *nodes; i++)
    {
        unsigned long long id = 0;
        ret[i] = (struct rfn_native_node) { .type = RFN_NODE_TYPES };
        code = rfn_cuda_node_type(node[i], &ret[i].type);
        if (code == cudaSuccess && ret[i].type == RFN_NODE_KERNEL)
            find_launch(g, node[i], &ret[i]);
        if (tools_id.entry && tools_id.ask(node[i], &id) == 0)
            ret[i].tools_id = id;
    }
    free(node);
    if (code == cudaSuccess)
        *nodes = (int32_t)count;
    return rfn_cuda_leave(d, before, code);
}
