/* Modules, functions, device questions and cuBLAS. */
#include "probe.h"

/* --- modules and libraries --- */

static int module_load(struct probe_env *e)
{
    return (int)probe.module_load_data(&e->module, probe.image);
}

static int module_load_invalid(struct probe_env *e)
{
    return (int)probe.module_load_data(&e->module, "this is not a module\n");
}

static int module_unload(struct probe_env *e)
{
    int rc = (int)probe.module_unload(e->module);
    if (rc == 0)
        e->module = NULL;
    return rc;
}

static void undo_module(struct probe_env *e)
{
    if (e->module)
        probe.module_unload(e->module);
}

static int module_function(struct probe_env *e)
{
    CUfunction function;
    return (int)probe.module_get_function(&function, e->module, "probe_mark");
}

static int library_load(struct probe_env *e)
{
    return (int)cudaLibraryLoadData(&e->library, probe.image, NULL, NULL, 0, NULL, NULL,
                                    0);
}

static int library_load_kernel(struct probe_env *e)
{
    int rc = library_load(e);
    return rc ? rc : (int)cudaLibraryGetKernel(&e->kernel, e->library, "probe_mark");
}

static int library_unload(struct probe_env *e)
{
    int rc = (int)cudaLibraryUnload(e->library);
    if (rc == 0)
        e->library = NULL;
    return rc;
}

static void undo_library(struct probe_env *e)
{
    if (e->library)
        cudaLibraryUnload(e->library);
}

/* --- functions --- */

static int func_attributes(struct probe_env *e)
{
    struct cudaFuncAttributes attributes;
    cudaKernel_t kernel = e->kernel ? e->kernel : probe.kernel;
    return (int)cudaFuncGetAttributes(&attributes, (const void *)kernel);
}

static int func_set_attribute(struct probe_env *e)
{
    (void)e;
    return (int)cudaFuncSetAttribute((const void *)probe.kernel,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, 4096);
}

static int driver_get_attribute(struct probe_env *e)
{
    int value;
    (void)e;
    return (int)probe.func_get_attribute(&value, CU_FUNC_ATTRIBUTE_NUM_REGS,
                                         probe.function);
}

static int driver_set_attribute(struct probe_env *e)
{
    (void)e;
    return (int)probe.func_set_attribute(
        probe.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 4096);
}

static int occupancy(struct probe_env *e)
{
    int blocks;
    (void)e;
    return (int)cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &blocks, (const void *)probe.kernel, 128, 0);
}

/* --- the device --- */

static int device_attribute(struct probe_env *e)
{
    int value;
    (void)e;
    return (int)cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0);
}

static int device_properties(struct probe_env *e)
{
    struct cudaDeviceProp properties;
    (void)e;
    return (int)cudaGetDeviceProperties(&properties, 0);
}

static int device_limit(struct probe_env *e)
{
    size_t value;
    (void)e;
    return (int)cudaDeviceGetLimit(&value, cudaLimitStackSize);
}

static int device_get(struct probe_env *e)
{
    int device;
    (void)e;
    return (int)cudaGetDevice(&device);
}

static int device_set(struct probe_env *e)
{
    (void)e;
    return (int)cudaSetDevice(0);
}

static int last_error(struct probe_env *e)
{
    (void)e;
    return (int)cudaGetLastError();
}

/* --- cuBLAS --- */

enum
{
    GEMM_M = 256,
    GEMM_N = 256,
    GEMM_K = 2048,
    WORKSPACE_BYTES = 32 << 20
};

static int blas_create(struct probe_env *e)
{
    return probe.cublas_create(&e->handle);
}

static void undo_blas_create(struct probe_env *e)
{
    if (e->rc == 0)
        probe.cublas_destroy(e->handle);
}

static int blas_destroy(struct probe_env *e)
{
    void *handle = e->handle;
    e->handle = NULL; /* half destroyed if it failed: never touched again */
    return probe.cublas_destroy(handle);
}

static int blas_set_stream(struct probe_env *e)
{
    return probe.cublas_set_stream(e->handle, e->stream);
}

/* c = 1 * a * b + 0 * c with a and b zero: zeros appear where setup put ones. */
static int blas_gemm(struct probe_env *e)
{
    const float one = 1.0f, zero = 0.0f;
    return probe.cublas_sgemm(e->handle, 0, 0, GEMM_M, GEMM_N, GEMM_K, &one,
                              (const float *)e->ptr, GEMM_M, (const float *)e->ptr2,
                              GEMM_K, &zero, (float *)e->dev_dst, GEMM_M);
}

/* A handle on the call's stream, warm: its kernels are loaded before the capture. */
static int blas_make(struct probe_env *e)
{
    size_t a_bytes = sizeof(float) * GEMM_M * GEMM_K;
    size_t b_bytes = sizeof(float) * GEMM_K * GEMM_N;
    int rc;

    if ((rc = (int)cudaMalloc(&e->ptr, a_bytes)) ||
        (rc = (int)cudaMalloc(&e->ptr2, b_bytes)) ||
        (rc = (int)cudaMemset(e->ptr, 0, a_bytes)) ||
        (rc = (int)cudaMemset(e->ptr2, 0, b_bytes)) || (rc = blas_create(e)) ||
        (rc = blas_set_stream(e)))
        return rc;
    if (e->call->arg)
    {
        if ((rc = (int)cudaMalloc(&e->ptr3, WORKSPACE_BYTES)) ||
            (rc = probe.cublas_set_workspace(e->handle, e->ptr3, WORKSPACE_BYTES)))
            return rc;
    }
    if ((rc = blas_gemm(e)) || (rc = (int)cudaDeviceSynchronize()))
        return rc;
    e->seen_word = 0;
    return (int)cudaMemset(e->dev_dst, 0xff, PROBE_BYTES);
}

static void undo_blas(struct probe_env *e)
{
    if (e->handle)
        probe.cublas_destroy(e->handle);
    cudaFree(e->ptr);
    cudaFree(e->ptr2);
    cudaFree(e->ptr3);
}

/* clang-format off */
const struct probe_call probe_module_calls[] = {
    {.id = "cuModuleLoadData", .run = module_load, .undo = undo_module,
     .what = "a valid module (compiled by the driver where it is PTX)"},
    {.id = "cuModuleLoadData:invalid", .run = module_load_invalid, .undo = undo_module,
     .what = "text that is no module"},
    {.id = "cuModuleUnload", .setup = module_load, .run = module_unload,
     .undo = undo_module, .what = "a module loaded before the capture"},
    {.id = "cuModuleGetFunction", .setup = module_load, .run = module_function,
     .undo = undo_module, .what = "first look at a module loaded before the capture"},
    {.id = "cudaLibraryLoadData", .run = library_load, .undo = undo_library,
     .what = "a library without a context"},
    {.id = "cudaLibraryUnload", .setup = library_load_kernel, .run = library_unload,
     .undo = undo_library, .what = "a library loaded before the capture"},
    {.id = "cudaFuncGetAttributes", .run = func_attributes,
     .what = "of a kernel that has run before"},
    {.id = "cudaFuncGetAttributes:lazy_first", .setup = library_load_kernel,
     .run = func_attributes, .undo = undo_library, .what = "of a kernel not loaded yet"},
    {.id = "cudaFuncSetAttribute", .run = func_set_attribute,
     .what = "4 KiB of dynamic shared memory"},
    {.id = "cuFuncGetAttribute", .run = driver_get_attribute, .what = "registers"},
    {.id = "cuFuncSetAttribute", .run = driver_set_attribute,
     .what = "4 KiB of dynamic shared memory"},
    {.id = "cudaOccupancyMaxActiveBlocksPerMultiprocessor", .run = occupancy,
     .what = "of a kernel that has run before"},
    {.id = "cudaDeviceGetAttribute", .run = device_attribute, .what = "host-side"},
    {.id = "cudaGetDeviceProperties", .run = device_properties, .what = "host-side"},
    {.id = "cudaDeviceGetLimit", .run = device_limit, .what = "stack size"},
    {.id = "cudaGetDevice", .run = device_get, .what = "host-side"},
    {.id = "cudaSetDevice", .run = device_set, .what = "the device it already has"},
    {.id = "cudaGetLastError", .run = last_error, .what = "with no error before it"},
    {.id = "cublasCreate", .cublas = true, .run = blas_create, .undo = undo_blas_create,
     .what = "a handle; rc is cuBLAS's own status"},
    {.id = "cublasDestroy", .cublas = true, .setup = blas_make, .run = blas_destroy,
     .undo = undo_blas, .what = "a warm handle from before the capture"},
    {.id = "cublasSetStream", .cublas = true, .setup = blas_make, .run = blas_set_stream,
     .undo = undo_blas, .what = "a warm handle to the stream it already has"},
    {.id = "cublasSgemm", .cublas = true, .seen = PROBE_SEEN_DEVICE, .setup = blas_make,
     .run = blas_gemm, .undo = undo_blas,
     .what = "256 x 256 x 2048, warm handle, default workspace"},
    {.id = "cublasSgemm:workspace", .cublas = true, .seen = PROBE_SEEN_DEVICE, .arg = 1,
     .setup = blas_make, .run = blas_gemm, .undo = undo_blas,
     .what = "the same with a workspace of the program's"},
    {0},
};
/* clang-format on */
