/*
 * From the nodes of a captured graph to what recorded them.
 *
 * A profiler shows the kernels of a replay without the ranges around them: those were open
 * when the graph was captured. Here they are, node by node.
 */
#ifndef REFRAIN_NODES_H
#define REFRAIN_NODES_H

#include <refrain/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A node of a graph. Pointers live until the callback returns. */
struct rfn_node_info
{
    const char *graph;       /* its name: "bucket 8x1" */
    int32_t node;            /* in order of capture, from 0; a child graph is one node */
    enum rfn_node_type type; /* RFN_NODE_TYPES: one that the list lacks */
    /* cuda: the function's name in the device code; NULL: none, or none of ours. */
    const char *kernel;
    /* Of an op launch, which may be several nodes; NULL and -1 for other nodes. */
    const char *op;
    int32_t launch; /* as rfn_exec_update counts them */
    int32_t layer;  /* of the rfn_attention_forward around it; -1: in none */
    /* What was open around an op launch, outermost first, in the words of the profiler's
     * domain "refrain": "capture 8x1", "forward". */
    int32_t ranges;
    const char *const *range;
    /* cuda: by which profilers know the node, from a driver of CUDA 13.1 or later, else
     * from libcupti.so.13 where that can be loaded; 0: unknown (as beside Nsight Compute).
     * Measured with driver 580: the upper half is the graph's id, the lower half is `node`;
     * an executable's copy has another upper half and the same lower one. */
    uint64_t tools_id;
};

/* Any status but RFN_OK ends the walk and is handed back. */
typedef enum rfn_status rfn_node_fn(void *ctx, const struct rfn_node_info *node);

/**
 * Tells `fn` of each node of a graph, in order.
 *
 * Capture   Safe.
 * Threads   Any; one at a time on a graph.
 * Errors    RFN_INVALID: no graph, no fn. RFN_NOMEM. RFN_DEVICE: the device does not answer.
 *           What fn returned.
 */
RFN_API enum rfn_status rfn_graph_nodes(struct rfn_graph *graph, rfn_node_fn *fn,
                                        void *ctx);

/**
 * Tells `fn` of each node of each graph that a ladder has now, bucket by bucket.
 *
 * Capture   Safe.
 * Threads   One at a time on a ladder, and no call on it from within fn.
 * Errors    RFN_INVALID: no ladder, no fn. RFN_NOMEM. RFN_DEVICE: the device does not
 *           answer. What fn returned.
 */
RFN_API enum rfn_status rfn_ladder_nodes(struct rfn_ladder *ladder, rfn_node_fn *fn,
                                         void *ctx);

#ifdef __cplusplus
}
#endif
#endif
