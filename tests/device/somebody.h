/*
 * Somebody else on the same device, who does not know this library: CUDA's runtime on cuda,
 * the host device's own table on the host. Codes, not statuses; 0 is success.
 */
#ifndef TEST_SOMEBODY_H
#define TEST_SOMEBODY_H

#include "runtime/object.h"
#include "tests/device/open.h"

#if RFN_CUDA
#include <cuda_runtime_api.h>
#endif

static inline int theirs_begin(const struct test *t, void *stream)
{
#if RFN_CUDA
    if (!t->host)
        return (int)cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
#endif
    return t->dev->backend->capture_begin(t->dev->impl, stream, RFN_CAPTURE_GLOBAL);
}

/* *ret_graph is NULL where there is none. */
static inline int theirs_end(const struct test *t, void *stream, void **ret_graph)
{
    *ret_graph = NULL;
#if RFN_CUDA
    if (!t->host)
    {
        cudaGraph_t graph = NULL;
        int code = (int)cudaStreamEndCapture(stream, &graph);
        cudaGetLastError();
        *ret_graph = graph;
        return code;
    }
#endif
    return t->dev->backend->capture_end(t->dev->impl, stream, ret_graph);
}

static inline int theirs_instantiate(const struct test *t, void *graph, void **ret_exec)
{
#if RFN_CUDA
    if (!t->host)
    {
        cudaGraphExec_t exec = NULL;
        int code = (int)cudaGraphInstantiate(&exec, graph, 0);
        *ret_exec = exec;
        return code;
    }
#endif
    return t->dev->backend->graph_instantiate(t->dev->impl, graph, ret_exec);
}

static inline int theirs_launch(const struct test *t, void *exec, void *stream)
{
#if RFN_CUDA
    if (!t->host)
        return (int)cudaGraphLaunch(exec, stream);
#endif
    return t->dev->backend->exec_launch(t->dev->impl, exec, stream);
}

static inline int theirs_drop_graph(const struct test *t, void *graph)
{
#if RFN_CUDA
    if (!t->host)
        return (int)cudaGraphDestroy(graph);
#endif
    return t->dev->backend->graph_destroy(t->dev->impl, graph);
}

static inline int theirs_drop_exec(const struct test *t, void *exec)
{
#if RFN_CUDA
    if (!t->host)
        return (int)cudaGraphExecDestroy(exec);
#endif
    return t->dev->backend->exec_destroy(t->dev->impl, exec);
}

/* Asks in a way that invalidates the capture of a capturing stream. */
static inline int theirs_query(const struct test *t, void *stream)
{
#if RFN_CUDA
    if (!t->host)
    {
        int code = (int)cudaStreamQuery(stream);
        cudaGetLastError();
        return code;
    }
#endif
    return t->dev->backend->stream_query(t->dev->impl, stream);
}

/* Device memory that this library was not told of; the host device has to be told. */
static inline void *theirs_alloc(struct test *t, int64_t bytes)
{
    void *p = NULL;
#if RFN_CUDA
    if (!t->host)
        return cudaMalloc(&p, (size_t)bytes) == cudaSuccess ? p : NULL;
#endif
    p = aligned_alloc(256, (size_t)(bytes + 255) & ~(size_t)255);
    OK(t, rfn_memory_import(t->dev, p, bytes, RFN_MEMORY_DEVICE));
    return p;
}

static inline void theirs_free(struct test *t, void *p)
{
#if RFN_CUDA
    if (!t->host)
    {
        HOLDS(t, cudaFree(p) == cudaSuccess);
        return;
    }
#endif
    OK(t, rfn_memory_release(t->dev, p));
    free(p);
}

#endif
