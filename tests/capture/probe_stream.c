/* Synchronisation, streams and host callbacks. */
#include "probe.h"

static int stream_sync(struct probe_env *e)
{
    return (int)cudaStreamSynchronize(e->stream);
}

static int stream_query(struct probe_env *e)
{
    return (int)cudaStreamQuery(e->stream);
}

static int device_sync(struct probe_env *e)
{
    (void)e;
    return (int)cudaDeviceSynchronize();
}

static int context_sync(struct probe_env *e)
{
    (void)e;
    return (int)probe.ctx_synchronize();
}

static int stream_create(struct probe_env *e)
{
    return (int)cudaStreamCreateWithFlags(&e->made_stream, (unsigned)e->call->arg);
}

static void undo_stream_create(struct probe_env *e)
{
    if (e->rc == 0)
        cudaStreamDestroy(e->made_stream);
}

static int destroy_idle(struct probe_env *e)
{
    int rc = (int)cudaStreamDestroy(e->idle);
    if (rc == 0)
        e->idle = NULL;
    return rc;
}

static int join_extra(struct probe_env *e)
{
    return probe_fork(e, e->extra);
}

static int destroy_extra(struct probe_env *e)
{
    int rc = (int)cudaStreamDestroy(e->extra);
    if (rc == 0)
        e->extra = NULL;
    return rc;
}

static int stream_is_capturing(struct probe_env *e)
{
    enum cudaStreamCaptureStatus status;
    return (int)cudaStreamIsCapturing(e->stream, &status);
}

static int stream_capture_info(struct probe_env *e)
{
    enum cudaStreamCaptureStatus status;
    unsigned long long id;
    return (int)cudaStreamGetCaptureInfo(e->stream, &status, &id, NULL, NULL, NULL, NULL);
}

static int stream_priority(struct probe_env *e)
{
    int priority;
    return (int)cudaStreamGetPriority(e->stream, &priority);
}

static int stream_flags(struct probe_env *e)
{
    unsigned flags;
    return (int)cudaStreamGetFlags(e->stream, &flags);
}

static int stream_id(struct probe_env *e)
{
    unsigned long long id;
    return (int)cudaStreamGetId(e->stream, &id);
}

static int stream_context(struct probe_env *e)
{
    CUcontext context;
    return (int)probe.stream_get_ctx((CUstream)e->stream, &context);
}

static void CUDART_CB on_stream(cudaStream_t stream, cudaError_t status, void *word)
{
    (void)stream;
    (void)status;
    *(volatile uint32_t *)word = PROBE_WORD;
}

static int add_callback(struct probe_env *e)
{
    return (int)cudaStreamAddCallback(e->stream, on_stream, e->page_dst, 0);
}

static void CUDART_CB on_host(void *word)
{
    *(volatile uint32_t *)word = PROBE_WORD;
}

static int launch_host(struct probe_env *e)
{
    return (int)cudaLaunchHostFunc(e->stream, on_host, e->page_dst);
}

/* clang-format off */
const struct probe_call probe_stream_calls[] = {
    {.id = "cudaStreamSynchronize", .run = stream_sync, .what = "waits for the stream"},
    {.id = "cudaStreamQuery", .run = stream_query, .what = "asks whether it is done"},
    {.id = "cudaDeviceSynchronize", .run = device_sync, .what = "waits for the device"},
    {.id = "cuCtxSynchronize", .run = context_sync, .what = "waits for the context"},
    {.id = "cudaStreamCreate:nonblocking", .run = stream_create,
     .arg = cudaStreamNonBlocking, .undo = undo_stream_create,
     .what = "a stream that ignores the legacy stream"},
    {.id = "cudaStreamCreate:blocking", .run = stream_create, .arg = cudaStreamDefault,
     .undo = undo_stream_create, .what = "a stream ordered with the legacy stream"},
    {.id = "cudaStreamDestroy:other", .run = destroy_idle,
     .what = "an idle stream that has nothing to do with the capture"},
    {.id = "cudaStreamDestroy:joined", .prepare = join_extra, .run = destroy_extra,
     .what = "a third stream, joined just before and without work"},
    {.id = "cudaStreamIsCapturing", .run = stream_is_capturing,
     .what = "the stream's capture status"},
    {.id = "cudaStreamGetCaptureInfo", .run = stream_capture_info,
     .what = "status and capture id"},
    {.id = "cudaStreamGetPriority", .run = stream_priority, .what = "host-side question"},
    {.id = "cudaStreamGetFlags", .run = stream_flags, .what = "host-side question"},
    {.id = "cudaStreamGetId", .run = stream_id, .what = "host-side question"},
    {.id = "cuStreamGetCtx", .run = stream_context,
     .what = "the stream's context; reported as not permitted"},
    {.id = "cudaStreamAddCallback", .seen = PROBE_SEEN_PAGEABLE, .run = add_callback,
     .what = "the old host callback"},
    {.id = "cudaLaunchHostFunc", .seen = PROBE_SEEN_PAGEABLE, .run = launch_host,
     .what = "the new host callback"},
    {0},
};
/* clang-format on */
