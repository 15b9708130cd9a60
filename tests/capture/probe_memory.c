/* Calls that allocate, free, query and place memory. */
#define _POSIX_C_SOURCE 200809L
#include "probe.h"

#include <stdlib.h>

static bool on_capturing_stream(const struct probe_env *e)
{
    return e->relation == PROBE_SAME || e->relation == PROBE_SAME_BLOCKING ||
           e->relation == PROBE_JOINED;
}

/* --- device memory --- */

static int block_alloc(struct probe_env *e)
{
    return (int)cudaMalloc(&e->ptr, PROBE_BLOCK_BYTES);
}

static int block_free(struct probe_env *e)
{
    return (int)cudaFree(e->ptr);
}

static int null_free(struct probe_env *e)
{
    (void)e;
    return (int)cudaFree(NULL);
}

static void undo_alloc(struct probe_env *e)
{
    if (e->rc == 0)
        cudaFree(e->ptr);
}

static void undo_free(struct probe_env *e)
{
    if (e->rc != 0)
        cudaFree(e->ptr);
}

static int memory_create(struct probe_env *e)
{
    CUmemAllocationProp prop = { .type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE } };
    return (int)probe.mem_create(&e->memory, PROBE_BLOCK_BYTES, &prop, 0);
}

static void undo_memory_create(struct probe_env *e)
{
    if (e->rc == 0)
        probe.mem_release(e->memory);
}

static int address_reserve(struct probe_env *e)
{
    return (int)probe.mem_address_reserve(&e->address, PROBE_BLOCK_BYTES, 0, 0, 0);
}

static void undo_address_reserve(struct probe_env *e)
{
    if (e->rc == 0)
        probe.mem_address_free(e->address, PROBE_BLOCK_BYTES);
}

/* --- host memory --- */

static int host_alloc(struct probe_env *e)
{
    return (int)cudaMallocHost(&e->ptr, PROBE_SMALL_BYTES);
}

static int host_alloc_mapped(struct probe_env *e)
{
    return (int)cudaHostAlloc(&e->ptr, PROBE_SMALL_BYTES, cudaHostAllocMapped);
}

static int host_free(struct probe_env *e)
{
    return (int)cudaFreeHost(e->ptr);
}

static void undo_host_alloc(struct probe_env *e)
{
    if (e->rc == 0)
        cudaFreeHost(e->ptr);
}

static void undo_host_free(struct probe_env *e)
{
    if (e->rc != 0)
        cudaFreeHost(e->ptr);
}

static int pages_alloc(struct probe_env *e)
{
    return posix_memalign(&e->ptr, 4096, PROBE_SMALL_BYTES);
}

static int host_register(struct probe_env *e)
{
    return (int)cudaHostRegister(e->ptr, PROBE_SMALL_BYTES, cudaHostRegisterDefault);
}

static int pages_alloc_registered(struct probe_env *e)
{
    int rc = pages_alloc(e);
    return rc ? rc : host_register(e);
}

static int host_unregister(struct probe_env *e)
{
    return (int)cudaHostUnregister(e->ptr);
}

static void undo_register(struct probe_env *e)
{
    if (e->rc == 0)
        cudaHostUnregister(e->ptr);
    free(e->ptr);
}

static void undo_unregister(struct probe_env *e)
{
    if (e->rc != 0)
        cudaHostUnregister(e->ptr);
    free(e->ptr);
}

/* --- managed memory --- */

static int managed_alloc(struct probe_env *e)
{
    return (int)cudaMallocManaged(&e->ptr, PROBE_SMALL_BYTES, cudaMemAttachGlobal);
}

static int managed_prefetch(struct probe_env *e)
{
    struct cudaMemLocation device = { .type = cudaMemLocationTypeDevice, .id = 0 };
    return (int)cudaMemPrefetchAsync(e->ptr, PROBE_SMALL_BYTES, device, 0, e->stream);
}

static int managed_advise(struct probe_env *e)
{
    struct cudaMemLocation device = { .type = cudaMemLocationTypeDevice, .id = 0 };
    return (int)cudaMemAdvise(e->ptr, PROBE_SMALL_BYTES,
                              cudaMemAdviseSetPreferredLocation, device);
}

static int managed_attach(struct probe_env *e)
{
    return (int)cudaStreamAttachMemAsync(e->stream, e->ptr, 0, cudaMemAttachGlobal);
}

static void undo_block(struct probe_env *e)
{
    cudaFree(e->ptr);
}

/* --- stream-ordered memory and pools --- */

static int pool_alloc(struct probe_env *e)
{
    return (int)cudaMallocAsync(&e->ptr, PROBE_SMALL_BYTES, e->stream);
}

static int pool_alloc_from(struct probe_env *e)
{
    return (int)cudaMallocFromPoolAsync(&e->ptr, PROBE_SMALL_BYTES, probe.pool,
                                        e->stream);
}

/* Memory of the graph goes with the graph. */
static void undo_pool_alloc(struct probe_env *e)
{
    if (e->rc == 0 && !on_capturing_stream(e))
        cudaFree(e->ptr);
}

static int pool_alloc_outside(struct probe_env *e)
{
    int rc = (int)cudaMallocAsync(&e->ptr, PROBE_SMALL_BYTES, e->idle);
    return rc ? rc : (int)cudaStreamSynchronize(e->idle);
}

static int pool_alloc_inside(struct probe_env *e)
{
    return (int)cudaMallocAsync(&e->ptr, PROBE_SMALL_BYTES, e->origin);
}

static int pool_free(struct probe_env *e)
{
    return (int)cudaFreeAsync(e->ptr, e->stream);
}

static int pool_trim(struct probe_env *e)
{
    (void)e;
    return (int)cudaMemPoolTrimTo(probe.pool, 0);
}

static int pool_set(struct probe_env *e)
{
    uint64_t keep = 0; /* the default, so that nothing changes */
    (void)e;
    return (int)cudaMemPoolSetAttribute(probe.pool, cudaMemPoolAttrReleaseThreshold,
                                        &keep);
}

static int pool_create(struct probe_env *e)
{
    struct cudaMemPoolProps props = { .allocType = cudaMemAllocationTypePinned,
                                      .location = { .type = cudaMemLocationTypeDevice,
                                                    .id = 0 } };
    return (int)cudaMemPoolCreate(&e->made_pool, &props);
}

static void undo_pool_create(struct probe_env *e)
{
    if (e->rc == 0)
        cudaMemPoolDestroy(e->made_pool);
}

static int graph_memory_trim(struct probe_env *e)
{
    (void)e;
    return (int)cudaDeviceGraphMemTrim(0);
}

/* --- questions --- */

static int memory_info(struct probe_env *e)
{
    size_t free_bytes, total_bytes;
    (void)e;
    return (int)cudaMemGetInfo(&free_bytes, &total_bytes);
}

static int pointer_attributes(struct probe_env *e)
{
    struct cudaPointerAttributes attributes;
    return (int)cudaPointerGetAttributes(&attributes, e->dev_dst);
}

/* clang-format off */
const struct probe_call probe_memory_calls[] = {
    {.id = "cudaMalloc", .run = block_alloc, .undo = undo_alloc,
     .what = "2 MiB of device memory"},
    {.id = "cudaFree", .setup = block_alloc, .run = block_free, .undo = undo_free,
     .what = "a live 2 MiB block from before the capture"},
    {.id = "cudaFree:null", .run = null_free, .what = "NULL, which frees nothing"},
    {.id = "cudaMallocHost", .run = host_alloc, .undo = undo_host_alloc,
     .what = "64 KiB of pinned memory"},
    {.id = "cudaHostAlloc", .run = host_alloc_mapped, .undo = undo_host_alloc,
     .what = "64 KiB of mapped pinned memory"},
    {.id = "cudaFreeHost", .setup = host_alloc, .run = host_free, .undo = undo_host_free,
     .what = "pinned memory from before the capture"},
    {.id = "cudaHostRegister", .setup = pages_alloc, .run = host_register,
     .undo = undo_register, .what = "pins 64 KiB of the program's own pages"},
    {.id = "cudaHostUnregister", .setup = pages_alloc_registered, .run = host_unregister,
     .undo = undo_unregister, .what = "unpins pages registered before the capture"},
    {.id = "cudaMallocManaged", .run = managed_alloc, .undo = undo_alloc,
     .what = "64 KiB of managed memory"},
    {.id = "cudaMemPrefetchAsync", .setup = managed_alloc, .run = managed_prefetch,
     .undo = undo_block, .what = "managed memory to the device, on the stream"},
    {.id = "cudaMemAdvise", .setup = managed_alloc, .run = managed_advise,
     .undo = undo_block, .what = "preferred location of managed memory"},
    {.id = "cudaStreamAttachMemAsync", .setup = managed_alloc, .run = managed_attach,
     .undo = undo_block, .what = "managed memory attached globally, on the stream"},
    {.id = "cudaMallocAsync", .run = pool_alloc, .undo = undo_pool_alloc,
     .what = "64 KiB from the default pool, on the stream"},
    {.id = "cudaMallocFromPoolAsync", .run = pool_alloc_from, .undo = undo_pool_alloc,
     .what = "the same with the pool named"},
    {.id = "cudaFreeAsync:outside", .setup = pool_alloc_outside, .run = pool_free,
     .undo = undo_free, .what = "memory allocated on another stream before the capture"},
    {.id = "cudaFreeAsync:inside", .prepare = pool_alloc_inside, .run = pool_free,
     .what = "memory of an allocation node just captured on the origin"},
    {.id = "cudaMemPoolTrimTo", .run = pool_trim, .what = "default pool, to nothing"},
    {.id = "cudaMemPoolSetAttribute", .run = pool_set,
     .what = "release threshold of the default pool, to the value it has"},
    {.id = "cudaMemPoolCreate", .run = pool_create, .undo = undo_pool_create,
     .what = "a pool of its own"},
    {.id = "cudaDeviceGraphMemTrim", .run = graph_memory_trim,
     .what = "gives back what graphs have cached"},
    {.id = "cuMemCreate", .run = memory_create, .undo = undo_memory_create,
     .what = "2 MiB of physical memory without an address"},
    {.id = "cuMemAddressReserve", .run = address_reserve, .undo = undo_address_reserve,
     .what = "2 MiB of addresses without memory"},
    {.id = "cudaMemGetInfo", .run = memory_info, .what = "free and total bytes"},
    {.id = "cudaPointerGetAttributes", .run = pointer_attributes,
     .what = "of a device pointer"},
    {0},
};
/* clang-format on */
