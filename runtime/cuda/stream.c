#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

_Static_assert(RFN_EVENT_EXTERNAL == cudaEventRecordExternal, "flags cross as they are");
_Static_assert(RFN_EVENT_EXTERNAL == cudaEventWaitExternal, "flags cross as they are");

int rfn_cuda_stream_create(void *impl, enum rfn_stream_kind kind, void **ret)
{
    struct rfn_cuda *d = impl;
    cudaStream_t stream = NULL;
    int before = rfn_cuda_enter(d);
    unsigned flags =
        kind == RFN_STREAM_BLOCKING ? cudaStreamDefault : cudaStreamNonBlocking;
    int rc = rfn_cuda_leave(d, before, cudaStreamCreateWithFlags(&stream, flags));
    if (rc == 0)
        *ret = stream;
    return rc;
}

void *rfn_cuda_stream_builtin(void *impl, enum rfn_stream_kind kind)
{
    (void)impl;
    return kind == RFN_STREAM_PER_THREAD ? cudaStreamPerThread : cudaStreamLegacy;
}

int rfn_cuda_stream_destroy(void *impl, void *stream)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaStreamDestroy(stream));
}

int rfn_cuda_stream_sync(void *impl, void *stream)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaStreamSynchronize(stream));
}

int rfn_cuda_stream_query(void *impl, void *stream)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaStreamQuery(stream));
}

int rfn_cuda_stream_wait(void *impl, void *stream, void *event, uint32_t flags)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaStreamWaitEvent(stream, event, flags));
}

static int create_event(struct rfn_cuda *d, unsigned flags, void **ret)
{
    cudaEvent_t event = NULL;
    int before = rfn_cuda_enter(d);
    int rc = rfn_cuda_leave(d, before, cudaEventCreateWithFlags(&event, flags));
    if (rc == 0)
        *ret = event;
    return rc;
}

int rfn_cuda_event_create(void *impl, void **ret)
{
    return create_event(impl, cudaEventDefault, ret);
}

int rfn_cuda_event_create_plain(void *impl, void **ret)
{
    return create_event(impl, cudaEventDisableTiming, ret);
}

int rfn_cuda_event_destroy(void *impl, void *event)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaEventDestroy(event));
}

int rfn_cuda_event_record(void *impl, void *event, void *stream, uint32_t flags)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before,
                          flags ? cudaEventRecordWithFlags(event, stream, flags)
                                : cudaEventRecord(event, stream));
}

int rfn_cuda_event_sync(void *impl, void *event)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaEventSynchronize(event));
}

int rfn_cuda_event_query(void *impl, void *event)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaEventQuery(event));
}

int rfn_cuda_event_elapsed(void *impl, void *start, void *end, float *ret_ms)
{
    struct rfn_cuda *d = impl;
    float ms = 0;
    int before = rfn_cuda_enter(d);
    int rc = rfn_cuda_leave(d, before, cudaEventElapsedTime(&ms, start, end));
    if (rc == 0)
        *ret_ms = ms;
    return rc;
}

int rfn_cuda_host_call(void *impl, void *stream, void (*fn)(void *), void *user)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaLaunchHostFunc(stream, fn, user));
}
