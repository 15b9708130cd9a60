#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

int rfn_cuda_memory_alloc(void *impl, enum rfn_memory_kind kind, int64_t bytes,
                          void **ret)
{
    struct rfn_cuda *d = impl;
    void *p = NULL;
    int before = rfn_cuda_enter(d);
    cudaError_t code = kind == RFN_MEMORY_PINNED
                           ? cudaHostAlloc(&p, (size_t)bytes, cudaHostAllocDefault)
                           : cudaMalloc(&p, (size_t)bytes);
    int rc = rfn_cuda_leave(d, before, code);
    if (rc == 0)
        *ret = p;
    return rc;
}

int rfn_cuda_memory_free(void *impl, enum rfn_memory_kind kind, void *address,
                         int64_t bytes)
{
    struct rfn_cuda *d = impl;
    (void)bytes;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before,
                          kind == RFN_MEMORY_PINNED && address ? cudaFreeHost(address)
                                                               : cudaFree(address));
}

enum rfn_memory_kind rfn_cuda_memory_kind(void *impl, const void *address,
                                          int32_t *ret_elsewhere)
{
    struct rfn_cuda *d = impl;
    struct cudaPointerAttributes attributes = { 0 };
    int before = rfn_cuda_enter(d);
    int rc = rfn_cuda_leave(d, before, cudaPointerGetAttributes(&attributes, address));
    *ret_elsewhere = -1;
    if (rc != 0)
        return RFN_MEMORY_PAGEABLE;
    switch (attributes.type)
    {
    case cudaMemoryTypeHost:
        return RFN_MEMORY_PINNED;
    case cudaMemoryTypeDevice:
        if (attributes.device != d->ordinal)
            *ret_elsewhere = attributes.device;
        return RFN_MEMORY_DEVICE;
    case cudaMemoryTypeManaged:
        return RFN_MEMORY_DEVICE;
    default:
        return RFN_MEMORY_PAGEABLE;
    }
}

/* Said outright and not left to cudaMemcpyDefault: these are the forms that the recordings
 * of captures were made with. */
static enum cudaMemcpyKind direction(const struct rfn_copy *copy)
{
    int to = copy->dst_kind == RFN_MEMORY_DEVICE;
    int from = copy->src_kind == RFN_MEMORY_DEVICE;
    if (to && from)
        return cudaMemcpyDeviceToDevice;
    if (to)
        return cudaMemcpyHostToDevice;
    return from ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

int rfn_cuda_copy_sync(void *impl, const struct rfn_copy *copy)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(
        d, before,
        cudaMemcpy(copy->dst, copy->src, (size_t)copy->bytes, direction(copy)));
}

int rfn_cuda_copy_async(void *impl, void *stream, const struct rfn_copy *copy)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before,
                          cudaMemcpyAsync(copy->dst, copy->src, (size_t)copy->bytes,
                                          direction(copy), stream));
}

int rfn_cuda_set_sync(void *impl, const struct rfn_set *set)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before,
                          cudaMemset(set->dst, set->value, (size_t)set->bytes));
}

int rfn_cuda_set_async(void *impl, void *stream, const struct rfn_set *set)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(
        d, before, cudaMemsetAsync(set->dst, set->value, (size_t)set->bytes, stream));
}
