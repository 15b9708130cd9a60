/* What others bring: their streams, their captures; and our handles for them. */
#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

#include <cuda.h> /* types only: the driver is found at run time */
#include <stdio.h>
#include <string.h>

static struct
{
    pthread_once_t once;
    CUresult(CUDAAPI *stream_ctx)(CUstream, CUcontext *);
    CUresult(CUDAAPI *ctx_push)(CUcontext);
    CUresult(CUDAAPI *ctx_pop)(CUcontext *);
    CUresult(CUDAAPI *ctx_device)(CUdevice *);
    CUresult(CUDAAPI *pointer)(void *, CUpointer_attribute, CUdeviceptr);
} driver = { .once = PTHREAD_ONCE_INIT };

static void find_driver(void)
{
    void *entry[] = {
        rfn_cuda_driver_entry("cuStreamGetCtx", 9020),
        rfn_cuda_driver_entry("cuCtxPushCurrent", 4000),
        rfn_cuda_driver_entry("cuCtxPopCurrent", 4000),
        rfn_cuda_driver_entry("cuCtxGetDevice", 2000),
        rfn_cuda_driver_entry("cuPointerGetAttribute", 4000),
    };
    memcpy(&driver.stream_ctx, &entry[0], sizeof entry[0]);
    memcpy(&driver.ctx_push, &entry[1], sizeof entry[1]);
    memcpy(&driver.ctx_pop, &entry[2], sizeof entry[2]);
    memcpy(&driver.ctx_device, &entry[3], sizeof entry[3]);
    memcpy(&driver.pointer, &entry[4], sizeof entry[4]);
}

/* By way of the stream's context: cudaStreamGetDevice, GetFlags and GetId give 900 for a
 * stream that captures, in every mode, and invalidate its capture; this does not (measured
 * with driver 580.159). */
static cudaError_t device_of(cudaStream_t stream, int *ret)
{
    CUcontext context, popped;
    CUdevice device = -1;
    pthread_once(&driver.once, find_driver);
    if (!driver.stream_ctx || !driver.ctx_push || !driver.ctx_pop || !driver.ctx_device)
        return cudaErrorCallRequiresNewerDriver;
    if (driver.stream_ctx(stream, &context) != CUDA_SUCCESS)
        return cudaErrorInvalidResourceHandle;
    if (driver.ctx_push(context) != CUDA_SUCCESS)
        return cudaErrorInvalidResourceHandle;
    CUresult code = driver.ctx_device(&device);
    driver.ctx_pop(&popped);
    *ret = device;
    return code == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

int rfn_cuda_stream_import(void *impl, void *native, enum rfn_stream_kind *ret_kind,
                           void **ret)
{
    struct rfn_cuda *d = impl;
    if (!native || native == (void *)cudaStreamLegacy ||
        native == (void *)cudaStreamPerThread)
    {
        int own = native == (void *)cudaStreamPerThread;
        *ret_kind = own ? RFN_STREAM_PER_THREAD : RFN_STREAM_LEGACY;
        *ret = own ? cudaStreamPerThread : cudaStreamLegacy;
        return RFN_CODE_OK;
    }
    int before = rfn_cuda_enter(d);
    int ordinal = -1;
    unsigned flags = cudaStreamNonBlocking;
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaError_t code = device_of(native, &ordinal);
    if (code == cudaSuccess && ordinal != d->ordinal)
    {
        char text[128];
        snprintf(text, sizeof text, "stream %p belongs to device %d, this is device %d",
                 native, ordinal, d->ordinal);
        rfn_cuda_say(text);
        code = cudaErrorInvalidValue;
    }
    if (code == cudaSuccess)
        code = cudaStreamIsCapturing(native, &status);
    if (code == cudaSuccess && status == cudaStreamCaptureStatusNone)
        code = cudaStreamGetFlags(native, &flags);
    if (code == cudaSuccess)
    {
        *ret_kind =
            flags & cudaStreamNonBlocking ? RFN_STREAM_NONBLOCKING : RFN_STREAM_BLOCKING;
        *ret = native;
    }
    return rfn_cuda_leave(d, before, code);
}

/* The driver numbers allocations and never uses a number twice in a process. */
uint64_t rfn_cuda_memory_id(void *impl, const void *address)
{
    struct rfn_cuda *d = impl;
    unsigned long long id = 0;
    int before = rfn_cuda_enter(d);
    pthread_once(&driver.once, find_driver);
    if (!driver.pointer || driver.pointer(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID,
                                          (CUdeviceptr)address) != CUDA_SUCCESS)
        id = 0;
    rfn_cuda_leave(d, before, cudaSuccess);
    return id;
}

/* A user object goes with the graph: copies and executables hold it too, the end of a capture
 * without a graph drops it. The driver then calls `release`, at once or some 0.3 ms later. */
int rfn_cuda_capture_hold(void *impl, void *stream, void (*release)(void *user),
                          void *user)
{
    struct rfn_cuda *d = impl;
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaGraph_t graph = NULL;
    cudaUserObject_t object = NULL;
    int before = rfn_cuda_enter(d);
    cudaError_t code =
        cudaStreamGetCaptureInfo(stream, &status, NULL, &graph, NULL, NULL, NULL);
    if (code == cudaSuccess && status != cudaStreamCaptureStatusActive)
        code = cudaErrorStreamCaptureInvalidated;
    if (code == cudaSuccess)
        code = cudaUserObjectCreate(&object, user, release, 1,
                                    cudaUserObjectNoDestructorSync);
    if (code != cudaSuccess)
        release(user);
    else
    {
        code = cudaGraphRetainUserObject(graph, object, 1, cudaGraphUserObjectMove);
        if (code != cudaSuccess)
            cudaUserObjectRelease(object, 1); /* which calls release */
    }
    return rfn_cuda_leave(d, before, code);
}

void *rfn_cuda_graph_native(void *graph)
{
    return ((struct rfn_cuda_graph *)graph)->graph;
}

void *rfn_cuda_exec_native(void *exec)
{
    return ((struct rfn_cuda_exec *)exec)->exec;
}
