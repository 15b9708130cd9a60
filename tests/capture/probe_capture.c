/* Calls that begin, end and steer captures. */
#include "probe.h"

static void remember_second(struct probe_env *e)
{
    if (e->stream && e->stream != e->origin)
        e->second = e->stream;
}

static int begin_on_stream(struct probe_env *e)
{
    remember_second(e);
    return (int)cudaStreamBeginCapture(e->stream, e->mode);
}

static int graph_create(struct probe_env *e)
{
    return (int)cudaGraphCreate(&e->graph, 0);
}

static int begin_to_graph(struct probe_env *e)
{
    remember_second(e);
    return (int)cudaStreamBeginCaptureToGraph(e->stream, e->graph, NULL, NULL, 0,
                                              e->mode);
}

/* The graph belongs to the program, also when the capture ended well. */
static void undo_graph(struct probe_env *e)
{
    if (e->graph)
        cudaGraphDestroy(e->graph);
}

static int begin_on_origin(struct probe_env *e)
{
    return (int)cudaStreamBeginCapture(e->origin, e->mode);
}

static int end_on_stream(struct probe_env *e)
{
    return (int)cudaStreamEndCapture(e->stream, &e->ended);
}

static int end_on_origin(struct probe_env *e)
{
    return (int)cudaStreamEndCapture(e->origin, &e->ended);
}

static int end_on_extra(struct probe_env *e)
{
    return (int)cudaStreamEndCapture(e->extra, &e->ended);
}

static int end_on_idle(struct probe_env *e)
{
    return (int)cudaStreamEndCapture(e->idle, &e->ended);
}

static int fork_extra(struct probe_env *e)
{
    return probe_fork(e, e->extra);
}

static int fork_extra_kernel(struct probe_env *e)
{
    int rc = probe_fork(e, e->extra);
    return rc ? rc : probe_launch(e, e->extra);
}

static int fork_extra_destroyed(struct probe_env *e)
{
    int rc = fork_extra_kernel(e);
    if (!rc && (rc = (int)cudaStreamDestroy(e->extra)) == 0)
        e->extra = NULL;
    return rc;
}

static int invalidate(struct probe_env *e)
{
    (void)cudaStreamQuery(e->origin);
    return 0;
}

static int record_on_origin(struct probe_env *e)
{
    return (int)cudaEventRecord(e->event, e->origin);
}

static int launch_on_origin(struct probe_env *e)
{
    return probe_launch(e, e->origin);
}

static int wait_on_origin(struct probe_env *e)
{
    return (int)cudaStreamWaitEvent(e->origin, e->event, 0);
}

static int sync_origin(struct probe_env *e)
{
    return (int)cudaStreamSynchronize(e->origin);
}

static int malloc_now(struct probe_env *e)
{
    void *ptr;
    (void)e;
    int rc = (int)cudaMalloc(&ptr, PROBE_SMALL_BYTES);
    if (rc == 0)
        cudaFree(ptr);
    return rc;
}

static int exchange_mode(struct probe_env *e)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    int rc = (int)cudaThreadExchangeStreamCaptureMode(&mode);
    (void)e;
    if (rc == 0)
        cudaThreadExchangeStreamCaptureMode(&mode);
    return rc;
}

static int update_dependencies(struct probe_env *e)
{
    return (int)cudaStreamUpdateCaptureDependencies(e->stream, NULL, NULL, 0,
                                                    cudaStreamSetCaptureDependencies);
}

/* clang-format off */
const struct probe_call probe_capture_calls[] = {
    {.id = "cudaStreamBeginCapture", .run = begin_on_stream,
     .what = "on the stream, in the capture's mode; status of both"},
    {.id = "cudaStreamBeginCaptureToGraph", .setup = graph_create, .run = begin_to_graph,
     .undo = undo_graph, .what = "the same into an empty graph of the program's"},
    {.id = "cudaStreamEndCapture", .run = end_on_stream, .what = "on the stream"},
    {.id = "cudaStreamEndCapture:origin", .run = end_on_origin,
     .what = "on the origin, from the relation's thread, members not rejoined"},
    {.id = "cudaThreadExchangeStreamCaptureMode", .run = exchange_mode,
     .what = "to relaxed and back"},
    {.id = "cudaStreamUpdateCaptureDependencies", .run = update_dependencies,
     .what = "the stream's dependencies to the empty set"},
    {.id = "end:unjoined", .prepare = fork_extra_kernel, .run = end_on_origin,
     .what = "EndCapture of the origin; a kernel on a forked stream was not rejoined"},
    {.id = "end:unjoined-destroyed", .prepare = fork_extra_destroyed,
     .run = end_on_origin, .what = "the same with the forked stream destroyed"},
    {.id = "end:joined-member", .prepare = fork_extra, .run = end_on_extra,
     .what = "EndCapture of a joined stream that is not the origin"},
    {.id = "end:uninvolved", .run = end_on_idle,
     .what = "EndCapture of a stream that captures nothing"},
    {.id = "begin:twice", .run = begin_on_origin, .what = "BeginCapture of the origin"},
    {.id = "lost:begin", .prepare = invalidate, .run = begin_on_origin,
     .what = "the next ones in an invalidated capture: BeginCapture of the origin"},
    {.id = "lost:end", .prepare = invalidate, .run = end_on_origin,
     .what = "EndCapture of the origin, from the relation's thread"},
    {.id = "lost:kernel", .prepare = invalidate, .run = launch_on_origin,
     .what = "a kernel on the origin"},
    {.id = "lost:record", .prepare = invalidate, .run = record_on_origin,
     .what = "an event recorded on the origin"},
    {.id = "lost:wait", .prepare = invalidate, .run = wait_on_origin,
     .what = "the origin waits for an event never recorded"},
    {.id = "lost:sync", .prepare = invalidate, .run = sync_origin,
     .what = "waits for the origin"},
    {.id = "lost:malloc", .prepare = invalidate, .run = malloc_now,
     .what = "a potentially unsafe call"},
    {0},
};
/* clang-format on */
