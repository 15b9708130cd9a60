/* Kernel launches and work with graphs other than the one being captured. */
#include "probe.h"

/* --- launches --- */

static int launch_with(struct probe_env *e, cudaKernel_t kernel, cudaStream_t stream,
                       cudaLaunchAttribute *attribute)
{
    uint32_t word = PROBE_WORD;
    void *args[] = { &e->dev_dst, &word };
    cudaLaunchConfig_t config = {
        .gridDim = { 1, 1, 1 },
        .blockDim = { 1, 1, 1 },
        .stream = stream,
        .attrs = attribute,
        .numAttrs = attribute ? 1 : 0,
    };
    return (int)cudaLaunchKernelExC(&config, (const void *)kernel, args);
}

static int launch_runtime(struct probe_env *e)
{
    return launch_with(e, probe.kernel, e->stream, NULL);
}

static int launch_driver(struct probe_env *e)
{
    return probe_launch(e, e->stream);
}

static int launch_cooperative(struct probe_env *e)
{
    cudaLaunchAttribute attribute = { .id = cudaLaunchAttributeCooperative,
                                      .val = { .cooperative = 1 } };
    return launch_with(e, probe.kernel, e->stream, &attribute);
}

static int launch_programmatic(struct probe_env *e)
{
    cudaLaunchAttribute attribute = {
        .id = cudaLaunchAttributeProgrammaticStreamSerialization,
        .val = { .programmaticStreamSerializationAllowed = 1 }
    };
    int rc = launch_with(e, probe.kernel, e->stream, NULL);
    return rc ? rc : launch_with(e, probe.kernel, e->stream, &attribute);
}

static int library_fresh(struct probe_env *e)
{
    int rc =
        (int)cudaLibraryLoadData(&e->library, probe.image, NULL, NULL, 0, NULL, NULL, 0);
    return rc ? rc : (int)cudaLibraryGetKernel(&e->kernel, e->library, "probe_mark");
}

static int launch_lazy(struct probe_env *e)
{
    return launch_with(e, e->kernel, e->stream, NULL);
}

static void undo_library(struct probe_env *e)
{
    if (e->library)
        cudaLibraryUnload(e->library);
}

/* --- graphs made before the capture, from one kernel node that writes `word` --- */

static int kernel_node(struct probe_env *e, cudaGraph_t graph, uint32_t word)
{
    void *args[] = { &e->dev_dst, &word };
    struct cudaKernelNodeParams params = { .func = (void *)probe.kernel,
                                           .gridDim = { 1, 1, 1 },
                                           .blockDim = { 1, 1, 1 },
                                           .kernelParams = args };
    return (int)cudaGraphAddKernelNode(&e->node, graph, NULL, 0, &params);
}

static int graph_make(struct probe_env *e)
{
    int rc = (int)cudaGraphCreate(&e->graph, 0);
    return rc ? rc : kernel_node(e, e->graph, PROBE_WORD);
}

static int exec_make(struct probe_env *e)
{
    int rc = graph_make(e);
    return rc ? rc : (int)cudaGraphInstantiate(&e->exec, e->graph, 0);
}

static int exec_make_ready(struct probe_env *e)
{
    int rc = exec_make(e);
    if (rc || (rc = (int)cudaGraphUpload(e->exec, e->idle)))
        return rc;
    return (int)cudaStreamSynchronize(e->idle);
}

static int exec_make_update(struct probe_env *e)
{
    int rc;
    if ((rc = (int)cudaGraphCreate(&e->graph2, 0)) ||
        (rc = kernel_node(e, e->graph2, PROBE_WORD + 1)))
        return rc;
    return exec_make_ready(e);
}

static void undo_graph(struct probe_env *e)
{
    if (e->exec)
        cudaGraphExecDestroy(e->exec);
    if (e->graph)
        cudaGraphDestroy(e->graph);
    if (e->graph2)
        cudaGraphDestroy(e->graph2);
}

static int graph_create(struct probe_env *e)
{
    return (int)cudaGraphCreate(&e->graph, 0);
}

static int graph_add(struct probe_env *e)
{
    return kernel_node(e, e->graph, PROBE_WORD);
}

static int graph_destroy(struct probe_env *e)
{
    int rc = (int)cudaGraphDestroy(e->graph);
    if (rc == 0)
        e->graph = NULL;
    return rc;
}

static int graph_instantiate(struct probe_env *e)
{
    return (int)cudaGraphInstantiate(&e->exec, e->graph, 0);
}

static int exec_destroy(struct probe_env *e)
{
    int rc = (int)cudaGraphExecDestroy(e->exec);
    if (rc == 0)
        e->exec = NULL;
    return rc;
}

static int graph_launch(struct probe_env *e)
{
    return (int)cudaGraphLaunch(e->exec, e->stream);
}

static int graph_upload(struct probe_env *e)
{
    return (int)cudaGraphUpload(e->exec, e->stream);
}

static int exec_update(struct probe_env *e)
{
    cudaGraphExecUpdateResultInfo info;
    return (int)cudaGraphExecUpdate(e->exec, e->graph2, &info);
}

static int exec_set_params(struct probe_env *e)
{
    uint32_t word = PROBE_WORD + 1;
    void *args[] = { &e->dev_dst, &word };
    struct cudaKernelNodeParams params = { .func = (void *)probe.kernel,
                                           .gridDim = { 1, 1, 1 },
                                           .blockDim = { 1, 1, 1 },
                                           .kernelParams = args };
    return (int)cudaGraphExecKernelNodeSetParams(e->exec, e->node, &params);
}

static int graph_clone(struct probe_env *e)
{
    return (int)cudaGraphClone(&e->graph2, e->graph);
}

static int graph_nodes(struct probe_env *e)
{
    size_t count = 0;
    return (int)cudaGraphGetNodes(e->graph, NULL, &count);
}

/* A stream that does not capture has no graph to add to: then only the last step. */
static int capture_child(struct probe_env *e)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaGraph_t graph = NULL;
    const cudaGraphNode_t *deps = NULL;
    const cudaGraphEdgeData *edges = NULL;
    cudaGraphNode_t node = NULL;
    size_t count = 0;
    int rc = (int)cudaStreamGetCaptureInfo(e->stream, &status, NULL, &graph, &deps,
                                           &edges, &count);

    if (rc)
        return rc;
    if (status == cudaStreamCaptureStatusActive && graph &&
        (rc = (int)cudaGraphAddChildGraphNode(&node, graph, deps, count, e->graph)))
        return rc;
    return (int)cudaStreamUpdateCaptureDependencies(e->stream, node ? &node : NULL, NULL,
                                                    node ? 1 : 0,
                                                    cudaStreamSetCaptureDependencies);
}

/* clang-format off */
const struct probe_call probe_graph_calls[] = {
    {.id = "kernel", .seen = PROBE_SEEN_DEVICE, .run = launch_runtime,
     .what = "cudaLaunchKernelExC of a kernel that has run before"},
    {.id = "kernel:driver", .seen = PROBE_SEEN_DEVICE, .run = launch_driver,
     .what = "the same with cuLaunchKernel"},
    {.id = "kernel:cooperative", .seen = PROBE_SEEN_DEVICE, .run = launch_cooperative,
     .what = "with the cooperative attribute"},
    {.id = "kernel:programmatic", .seen = PROBE_SEEN_DEVICE, .run = launch_programmatic,
     .what = "a plain launch, then one that may overlap it; rc of the first to fail"},
    {.id = "kernel:lazy_first", .seen = PROBE_SEEN_DEVICE, .setup = library_fresh,
     .run = launch_lazy, .undo = undo_library,
     .what = "first launch of a kernel of a library loaded before the capture"},
    {.id = "cudaGraphCreate", .run = graph_create, .undo = undo_graph,
     .what = "an empty graph"},
    {.id = "cudaGraphAddKernelNode", .setup = graph_create, .run = graph_add,
     .undo = undo_graph, .what = "a node into a graph that has nothing to do with it"},
    {.id = "cudaGraphDestroy", .setup = graph_make, .run = graph_destroy,
     .undo = undo_graph, .what = "a graph from before the capture"},
    {.id = "cudaGraphInstantiate", .setup = graph_make, .run = graph_instantiate,
     .undo = undo_graph, .what = "a one-kernel graph from before the capture"},
    {.id = "cudaGraphExecDestroy", .setup = exec_make_ready, .run = exec_destroy,
     .undo = undo_graph, .what = "an uploaded executable graph"},
    {.id = "cudaGraphLaunch", .seen = PROBE_SEEN_DEVICE, .setup = exec_make_ready,
     .run = graph_launch, .undo = undo_graph, .what = "an uploaded executable graph"},
    {.id = "cudaGraphLaunch:not_uploaded", .seen = PROBE_SEEN_DEVICE, .setup = exec_make,
     .run = graph_launch, .undo = undo_graph, .what = "the first launch uploads"},
    {.id = "cudaGraphUpload", .setup = exec_make, .run = graph_upload, .undo = undo_graph,
     .what = "an executable graph to the device, on the stream"},
    {.id = "cudaGraphExecUpdate", .setup = exec_make_update, .run = exec_update,
     .undo = undo_graph, .what = "from a graph with another scalar"},
    {.id = "cudaGraphExecKernelNodeSetParams", .setup = exec_make_ready,
     .run = exec_set_params, .undo = undo_graph, .what = "another scalar, one node"},
    {.id = "cudaGraphAddChildGraphNode:capture", .setup = graph_make,
     .run = capture_child, .undo = undo_graph,
     .what = "a child graph put into the stream's capture by hand"},
    {.id = "cudaGraphClone", .setup = graph_make, .run = graph_clone, .undo = undo_graph,
     .what = "a copy of a graph from before the capture"},
    {.id = "cudaGraphGetNodes", .setup = graph_make, .run = graph_nodes,
     .undo = undo_graph, .what = "counts the nodes of such a graph"},
    {0},
};
/* clang-format on */
