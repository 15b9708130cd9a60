/* Copies and sets, synchronous and asynchronous. */
#include "probe.h"

/* Bits of probe_call.arg: which ends, and how much. */
enum
{
    H2D_PAGEABLE,
    H2D_PINNED,
    D2H_PAGEABLE,
    D2H_PINNED,
    D2D,
    H2H,
    ENDS = 7,
    LARGE = 8
};
enum
{
    PITCH = 256,
    ROWS = 2,
    WORD = 4
};

struct copy
{
    void *dst;
    const void *src;
    enum cudaMemcpyKind kind;
    size_t bytes;
};

static struct copy copy_of(const struct probe_env *e)
{
    size_t bytes = e->call->arg & LARGE ? PROBE_BYTES : WORD;
    switch (e->call->arg & ENDS)
    {
    case H2D_PAGEABLE:
        return (struct copy) { e->dev_dst, e->page_src, cudaMemcpyHostToDevice, bytes };
    case H2D_PINNED:
        return (struct copy) { e->dev_dst, e->pin_src, cudaMemcpyHostToDevice, bytes };
    case D2H_PAGEABLE:
        return (struct copy) { e->page_dst, e->dev_src, cudaMemcpyDeviceToHost, bytes };
    case D2H_PINNED:
        return (struct copy) { e->pin_dst, e->dev_src, cudaMemcpyDeviceToHost, bytes };
    case D2D:
        return (struct copy) { e->dev_dst, e->dev_src, cudaMemcpyDeviceToDevice, bytes };
    default:
        return (struct copy) { e->page_dst, e->page_src, cudaMemcpyHostToHost, bytes };
    }
}

static int copy_sync(struct probe_env *e)
{
    struct copy c = copy_of(e);
    return (int)cudaMemcpy(c.dst, c.src, c.bytes, c.kind);
}

static int copy_async(struct probe_env *e)
{
    struct copy c = copy_of(e);
    return (int)cudaMemcpyAsync(c.dst, c.src, c.bytes, c.kind, e->stream);
}

static int copy_2d_sync(struct probe_env *e)
{
    struct copy c = copy_of(e);
    return (int)cudaMemcpy2D(c.dst, PITCH, c.src, PITCH, WORD, ROWS, c.kind);
}

static int copy_2d_async(struct probe_env *e)
{
    struct copy c = copy_of(e);
    return (int)cudaMemcpy2DAsync(c.dst, PITCH, c.src, PITCH, WORD, ROWS, c.kind,
                                  e->stream);
}

static int copy_batch(struct probe_env *e)
{
    void *dsts[] = { e->dev_dst, e->dev_dst + 64 };
    const void *srcs[] = { e->dev_src, e->dev_src + 64 };
    size_t sizes[] = { WORD, WORD }, first[] = { 0 };
    struct cudaMemcpyAttributes attributes = { .srcAccessOrder =
                                                   cudaMemcpySrcAccessOrderStream };
    return (int)cudaMemcpyBatchAsync(dsts, srcs, sizes, 2, &attributes, first, 1,
                                     e->stream);
}

static int driver_to_device(struct probe_env *e)
{
    return (int)probe.memcpy_htod((CUdeviceptr)(uintptr_t)e->dev_dst, e->page_src, WORD);
}

static int driver_to_host(struct probe_env *e)
{
    return (int)probe.memcpy_dtoh(e->page_dst, (CUdeviceptr)(uintptr_t)e->dev_src, WORD);
}

static int to_symbol(struct probe_env *e)
{
    return (int)probe.memcpy_htod(probe.global, e->page_src, WORD);
}

static int from_symbol(struct probe_env *e)
{
    return (int)probe.memcpy_dtoh(e->page_dst, probe.global, WORD);
}

static int driver_set(struct probe_env *e)
{
    return (int)probe.memset_d8((CUdeviceptr)(uintptr_t)e->dev_dst, PROBE_BYTE, WORD);
}

static int set_sync(struct probe_env *e)
{
    return (int)cudaMemset(e->dev_dst, PROBE_BYTE, WORD);
}

static int set_pinned(struct probe_env *e)
{
    return (int)cudaMemset(e->pin_dst, PROBE_BYTE, WORD);
}

static int set_2d_sync(struct probe_env *e)
{
    return (int)cudaMemset2D(e->dev_dst, PITCH, PROBE_BYTE, WORD, ROWS);
}

static int set_async(struct probe_env *e)
{
    return (int)cudaMemsetAsync(e->dev_dst, PROBE_BYTE, WORD, e->stream);
}

static int set_2d_async(struct probe_env *e)
{
    return (int)cudaMemset2DAsync(e->dev_dst, PITCH, PROBE_BYTE, WORD, ROWS, e->stream);
}

static int write_value(struct probe_env *e)
{
    return (int)probe.stream_write_value32(
        (CUstream)e->stream, (CUdeviceptr)(uintptr_t)e->dev_dst, PROBE_WORD, 0);
}

/* clang-format off */
const struct probe_call probe_copy_calls[] = {
    {.id = "cudaMemcpy:h2d-pageable", .seen = PROBE_SEEN_DEVICE, .run = copy_sync,
     .arg = H2D_PAGEABLE, .what = "4 bytes, synchronous, as the next ones"},
    {.id = "cudaMemcpy:h2d-pinned", .seen = PROBE_SEEN_DEVICE, .run = copy_sync,
     .arg = H2D_PINNED, .what = "pinned source"},
    {.id = "cudaMemcpy:d2h-pageable", .seen = PROBE_SEEN_PAGEABLE, .run = copy_sync,
     .arg = D2H_PAGEABLE, .what = "the hidden synchronisation of most programs"},
    {.id = "cudaMemcpy:d2h-pinned", .seen = PROBE_SEEN_PINNED, .run = copy_sync,
     .arg = D2H_PINNED, .what = "pinned target"},
    {.id = "cudaMemcpy:d2d", .seen = PROBE_SEEN_DEVICE, .run = copy_sync, .arg = D2D,
     .what = "between device buffers; does not block the host"},
    {.id = "cudaMemcpy:h2h", .seen = PROBE_SEEN_PAGEABLE, .run = copy_sync, .arg = H2H,
     .what = "between host buffers"},
    {.id = "cudaMemcpy:h2d-pageable-1mb", .seen = PROBE_SEEN_DEVICE, .run = copy_sync,
     .arg = H2D_PAGEABLE | LARGE, .what = "too large to travel inside a command"},
    {.id = "cudaMemcpy:d2h-pageable-1mb", .seen = PROBE_SEEN_PAGEABLE, .run = copy_sync,
     .arg = D2H_PAGEABLE | LARGE, .what = "too large for one staging buffer"},
    {.id = "cudaMemcpy2D:d2h", .seen = PROBE_SEEN_PAGEABLE, .run = copy_2d_sync,
     .arg = D2H_PAGEABLE, .what = "two pitched rows, pageable target"},
    {.id = "cuMemcpyHtoD", .seen = PROBE_SEEN_DEVICE, .run = driver_to_device,
     .what = "the driver's form, pageable source"},
    {.id = "cuMemcpyDtoH", .seen = PROBE_SEEN_PAGEABLE, .run = driver_to_host,
     .what = "the driver's form, pageable target"},
    {.id = "cuMemcpyHtoD:symbol", .seen = PROBE_SEEN_GLOBAL, .run = to_symbol,
     .what = "what cudaMemcpyToSymbol does: a module's global variable"},
    {.id = "cuMemcpyDtoH:symbol", .seen = PROBE_SEEN_PAGEABLE, .setup = to_symbol,
     .run = from_symbol, .what = "what cudaMemcpyFromSymbol does"},
    {.id = "cudaMemset", .seen = PROBE_SEEN_DEVICE, .run = set_sync,
     .what = "device memory, synchronous form"},
    {.id = "cudaMemset:pinned", .seen = PROBE_SEEN_PINNED, .run = set_pinned,
     .what = "pinned host memory, which blocks the host"},
    {.id = "cudaMemset2D", .seen = PROBE_SEEN_DEVICE, .run = set_2d_sync,
     .what = "two pitched rows"},
    {.id = "cuMemsetD8", .seen = PROBE_SEEN_DEVICE, .run = driver_set,
     .what = "the driver's form"},
    {.id = "cudaMemcpyAsync:h2d-pageable", .seen = PROBE_SEEN_DEVICE, .run = copy_async,
     .arg = H2D_PAGEABLE, .what = "4 bytes on the stream, as the next ones"},
    {.id = "cudaMemcpyAsync:h2d-pinned", .seen = PROBE_SEEN_DEVICE, .run = copy_async,
     .arg = H2D_PINNED, .what = "pinned source"},
    {.id = "cudaMemcpyAsync:d2h-pageable", .seen = PROBE_SEEN_PAGEABLE, .run = copy_async,
     .arg = D2H_PAGEABLE, .what = "pageable target"},
    {.id = "cudaMemcpyAsync:d2h-pinned", .seen = PROBE_SEEN_PINNED, .run = copy_async,
     .arg = D2H_PINNED, .what = "pinned target"},
    {.id = "cudaMemcpyAsync:d2d", .seen = PROBE_SEEN_DEVICE, .run = copy_async,
     .arg = D2D, .what = "between device buffers"},
    {.id = "cudaMemcpyAsync:h2h", .seen = PROBE_SEEN_PAGEABLE, .run = copy_async,
     .arg = H2H, .what = "between host buffers; synchronous outside a capture"},
    {.id = "cudaMemcpyAsync:h2d-pageable-1mb", .seen = PROBE_SEEN_DEVICE,
     .run = copy_async, .arg = H2D_PAGEABLE | LARGE, .what = "1 MiB, pageable source"},
    {.id = "cudaMemcpyAsync:d2h-pageable-1mb", .seen = PROBE_SEEN_PAGEABLE,
     .run = copy_async, .arg = D2H_PAGEABLE | LARGE, .what = "1 MiB, pageable target"},
    {.id = "cudaMemcpy2DAsync:d2d", .seen = PROBE_SEEN_DEVICE, .run = copy_2d_async,
     .arg = D2D, .what = "two pitched rows"},
    {.id = "cudaMemcpyBatchAsync", .seen = PROBE_SEEN_DEVICE, .run = copy_batch,
     .what = "two device copies in one call, which has no graph form"},
    {.id = "cudaMemsetAsync", .seen = PROBE_SEEN_DEVICE, .run = set_async,
     .what = "device memory"},
    {.id = "cudaMemset2DAsync", .seen = PROBE_SEEN_DEVICE, .run = set_2d_async,
     .what = "two pitched rows"},
    {.id = "cuStreamWriteValue32", .seen = PROBE_SEEN_DEVICE, .run = write_value,
     .what = "a memory operation of the stream"},
    {0},
};
/* clang-format on */
