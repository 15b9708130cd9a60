/* What a GPU can do, measured beside the ops: copies in its memory, a matrix product. */
#include "tools/bench.h"
#include "tools/tool.h"
#include <dlfcn.h>
#include <refrain/refrain.h>
#include <stdio.h>

#define COPY_BYTES ((int64_t)2 << 30) /* from one half to the other */
#define GEMM_N 8192
#define GEMMS 8 /* between two waits */

static int time_copy(const struct bench_pass *pass, char *memory, float *ret_ms)
{
    enum rfn_status status = rfn_event_record(pass->start, pass->stream, 0);
    if (status == RFN_OK)
    {
        status =
            rfn_copy_async(pass->stream, memory + COPY_BYTES / 2, memory, COPY_BYTES / 2);
    }
    if (status == RFN_OK)
    {
        status = rfn_event_record(pass->end, pass->stream, 0);
    }
    if (status == RFN_OK)
    {
        status = rfn_event_sync(pass->end);
    }
    if (status == RFN_OK)
    {
        status = rfn_event_elapsed(pass->start, pass->end, ret_ms);
    }
    return status == RFN_OK ? TOOL_OK : bench_failed();
}

static int measure_copy(const struct bench_pass *pass, double seconds, char *memory,
                        struct bench_rates *rates)
{
    struct bench_samples samples = { 0 };
    float ms = 0;
    int status = time_copy(pass, memory, &ms);
    while (status == TOOL_OK && bench_samples_more(&samples, seconds))
    {
        status = time_copy(pass, memory, &ms);
        bench_samples_add(&samples, (double)ms * 1e-3);
    }
    if (status == TOOL_OK)
    {
        rates->copy_bytes_s = (double)COPY_BYTES / bench_samples_end(&samples).median;
    }
    return status;
}

/* ---- cuBLAS -------------------------------------------------------------------------- */

/* Its C interface as far as it is used here; the numbers are its enumerators. */
struct cublas
{
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*gemm)(void *handle, int trans_a, int trans_b, int m, int n, int k,
                const void *alpha, const void *a, int type_a, int lda, const void *b,
                int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                int compute, int algorithm);
    void *handle;
};

/* Stays loaded. It works in the device's own context, on the legacy stream. */
static int cublas_load(struct cublas *cublas)
{
    static const char *const names[] = { "libcublas.so.13", "libcublas.so.12" };
    void *library = NULL;
    for (int i = 0; library == NULL && i < 2; i++)
    {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL)
    {
        return 0;
    }
    *(void **)&cublas->create = dlsym(library, "cublasCreate_v2");
    *(void **)&cublas->destroy = dlsym(library, "cublasDestroy_v2");
    *(void **)&cublas->gemm = dlsym(library, "cublasGemmEx");
    return cublas->create != NULL && cublas->destroy != NULL && cublas->gemm != NULL &&
           cublas->create(&cublas->handle) == 0;
}

static int products(const struct bench_pass *pass, const struct cublas *cublas,
                    char *memory, double *ret_seconds)
{
    enum
    {
        NONE = 0,
        BF16 = 14,
        COMPUTE_F32 = 68,
        BEST = -1,
        N = GEMM_N
    };
    const int64_t bytes = (int64_t)N * N * 2;
    const float one = 1, zero = 0;
    int64_t start = tool_now_ns();
    for (int i = 0; i < GEMMS; i++)
    {
        if (cublas->gemm(cublas->handle, NONE, NONE, N, N, N, &one, memory, BF16, N,
                         memory + bytes, BF16, N, &zero, memory + 2 * bytes, BF16, N,
                         COMPUTE_F32, BEST) != 0)
        {
            return 0;
        }
    }
    *ret_seconds = 0;
    if (rfn_device_sync(pass->device) != RFN_OK)
    {
        return 0;
    }
    *ret_seconds = (double)(tool_now_ns() - start) * 1e-9 / GEMMS;
    return 1;
}

/* Operands are whatever synth_fill makes: numbers near 1, as different as a model's. */
static int fill(const struct bench_pass *pass, char *memory)
{
    static int64_t key[2 * GEMM_N];
    for (int64_t i = 0; i < 2 * GEMM_N; i++)
    {
        key[i] = i;
    }
    struct rfn_synth_fill_args args = {
        .out = rfn_tensor_of(memory, RFN_BF16, 2 * GEMM_N, GEMM_N, 0, 0),
        .keys = rfn_tensor_of(memory + COPY_BYTES / 2, RFN_I64, 2 * GEMM_N, 0, 0, 0),
        .amplitude = 1,
    };
    return rfn_copy_sync(pass->device, args.keys.data, key, sizeof(key)) == RFN_OK &&
           rfn_synth_fill(pass->stream, &args) == RFN_OK &&
           rfn_stream_sync(pass->stream) == RFN_OK;
}

/* A machine without it has no number. */
static void measure_product(const struct bench_pass *pass, double seconds, char *memory,
                            struct bench_rates *rates)
{
    struct bench_samples samples = { 0 };
    struct cublas cublas = { 0 };
    double time = 0;
    if (!cublas_load(&cublas))
    {
        return;
    }
    int good = fill(pass, memory) && products(pass, &cublas, memory, &time);
    while (good && bench_samples_more(&samples, seconds / GEMMS))
    {
        good = products(pass, &cublas, memory, &time);
        bench_samples_add(&samples, time);
    }
    if (good)
    {
        rates->matrix_flop_s =
            2.0 * GEMM_N * GEMM_N * GEMM_N / bench_samples_end(&samples).median;
        snprintf(rates->matrix_by, sizeof(rates->matrix_by), "cuBLAS bf16, %d cubed",
                 GEMM_N);
    }
    cublas.destroy(cublas.handle);
}

int bench_rates_device(const struct bench_pass *pass, double seconds,
                       struct bench_rates *ret_rates)
{
    struct bench_rates rates = { 0 };
    void *memory = NULL;
    if (rfn_memory_alloc(pass->device, RFN_MEMORY_DEVICE, COPY_BYTES, &memory) != RFN_OK)
    {
        return bench_failed();
    }
    int status = measure_copy(pass, seconds, memory, &rates);
    if (status == TOOL_OK)
    {
        measure_product(pass, seconds, memory, &rates);
    }
    if (rfn_memory_free(pass->device, memory) != RFN_OK && status == TOOL_OK)
    {
        status = bench_failed();
    }
    *ret_rates = rates;
    return status;
}
