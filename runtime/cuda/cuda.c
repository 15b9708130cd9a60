#define RFN_NO_SITES
#include "runtime/cuda/impl.h"

#include <cuda.h> /* types only: the driver is found at run time */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the driver's words ---------------------------------------------------------- */

#define WORDS_BYTES 512

static _Thread_local char words[WORDS_BYTES];

void rfn_cuda_say(const char *text)
{
    snprintf(words, sizeof words, "%s", text);
}

const void *rfn_cuda_thread(void)
{
    return words;
}

/* The driver calls it on the thread of the failing call, before that call returns. A call
 * may write several lines; the first names the reason. */
static void CUDA_CB on_log(void *user, CUlogLevel level, char *message, size_t length)
{
    (void)user;
    size_t used = strlen(words);
    if (level != CU_LOG_LEVEL_ERROR || used + 3 >= sizeof words)
        return;
    while (length && (message[length - 1] == '\n' || message[length - 1] == '\0'))
        length--;
    size_t room = sizeof words - used - 3;
    snprintf(words + used, sizeof words - used, "%s%.*s", used ? "; " : "",
             (int)(length < room ? length : room), message);
}

static struct
{
    pthread_mutex_t mutex;
    int users;
    CUlogsCallbackHandle handle;
} logs = { .mutex = PTHREAD_MUTEX_INITIALIZER };

void *rfn_cuda_driver_entry(const char *name, unsigned version)
{
    void *entry = NULL;
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    cudaError_t code = cudaGetDriverEntryPointByVersion(name, &entry, version,
                                                        cudaEnableDefault, &found);
    if (code != cudaSuccess)
        cudaGetLastError();
    return code == cudaSuccess && found == cudaDriverEntryPointSuccess ? entry : NULL;
}

static void listen_to_driver(void)
{
    pthread_mutex_lock(&logs.mutex);
    if (logs.users++ == 0)
    {
        CUresult (*CUDAAPI enlist)(CUlogsCallback, void *, CUlogsCallbackHandle *);
        void *entry = rfn_cuda_driver_entry("cuLogsRegisterCallback", 12090);
        memcpy(&enlist, &entry, sizeof entry);
        if (!entry || enlist(on_log, NULL, &logs.handle) != CUDA_SUCCESS)
            logs.handle = NULL;
    }
    pthread_mutex_unlock(&logs.mutex);
}

static void stop_listening(void)
{
    pthread_mutex_lock(&logs.mutex);
    if (--logs.users == 0 && logs.handle)
    {
        CUresult (*CUDAAPI delist)(CUlogsCallbackHandle);
        void *entry = rfn_cuda_driver_entry("cuLogsUnregisterCallback", 12090);
        memcpy(&delist, &entry, sizeof entry);
        if (entry)
            delist(logs.handle);
        logs.handle = NULL;
    }
    pthread_mutex_unlock(&logs.mutex);
}

static const char *why(void *impl)
{
    (void)impl;
    return words;
}

/* ---- the frame of a call --------------------------------------------------------- */

int rfn_cuda_enter(struct rfn_cuda *d)
{
    words[0] = '\0';
    int before = d->ordinal;
    if (d->alone || cudaGetDevice(&before) != cudaSuccess || before == d->ordinal)
        return d->ordinal;
    cudaSetDevice(d->ordinal); /* a failure shows in the call that follows */
    return before;
}

int rfn_cuda_leave(struct rfn_cuda *d, int before, cudaError_t code)
{
    if (code != cudaSuccess)
    {
        if (!words[0])
            rfn_cuda_say(cudaGetErrorString(code));
        cudaGetLastError();
    }
    if (before != d->ordinal)
        cudaSetDevice(before);
    return (int)code;
}

/* ---- open and close -------------------------------------------------------------- */

static cudaError_t fill_in(struct rfn_cuda *d)
{
    struct
    {
        enum cudaDeviceAttr what;
        int *ret;
    } wanted[] = {
        { cudaDevAttrMultiProcessorCount, &d->sm_count },
        { cudaDevAttrMaxSharedMemoryPerBlockOptin, &d->shared_bytes_max },
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
    {
        cudaError_t code =
            cudaDeviceGetAttribute(wanted[i].ret, wanted[i].what, d->ordinal);
        if (code != cudaSuccess)
            return code;
    }
    struct cudaDeviceProp properties;
    cudaError_t code = cudaGetDeviceProperties(&properties, d->ordinal);
    if (code != cudaSuccess)
        return code;
    d->sm_arch = 10 * properties.major + properties.minor;
    snprintf(d->name, sizeof d->name, "%.*s", (int)sizeof d->name - 1, properties.name);
    return cudaSuccess;
}

static cudaError_t make_fault(struct rfn_cuda *d)
{
    void *fault = NULL;
    cudaError_t code = cudaMalloc(&fault, sizeof *d->fault);
    if (code == cudaSuccess)
        code = cudaMemset(fault, 0, sizeof *d->fault);
    if (code == cudaSuccess)
        d->fault = fault;
    else
        cudaFree(fault);
    return code;
}

#define TENTHS(version) (version) / 1000, (version) % 1000 / 10 /* 12040: 12, 4 */

void rfn_cuda_missing(int code, int driver, const char *visible, char *ret_reason,
                      size_t bytes)
{
    if (code == cudaErrorInsufficientDriver && driver == 0)
        snprintf(ret_reason, bytes, "no CUDA driver: libcuda.so.1 was not found");
    else if (code == cudaErrorInsufficientDriver)
        snprintf(
            ret_reason, bytes,
            "no CUDA driver that is new enough: it knows CUDA %d.%d, this build needs "
            "%d.%d",
            TENTHS(driver), TENTHS(CUDART_VERSION));
    else if (code == cudaErrorNoDevice && visible)
        snprintf(ret_reason, bytes,
                 "no CUDA device: the driver sees none with CUDA_VISIBLE_DEVICES=%.64s",
                 visible);
    else if (code == cudaErrorNoDevice)
        snprintf(ret_reason, bytes, "no CUDA device: the driver (CUDA %d.%d) sees none",
                 TENTHS(driver));
    else
        snprintf(ret_reason, bytes, "no CUDA device: %d, %s", code,
                 cudaGetErrorString((cudaError_t)code));
}

/* The oldest architecture that any kernel is compiled for. */
#define OLDEST_ARCH 80

static int open_device(const struct rfn_device_desc *desc, void **ret_impl, char *reason,
                       size_t reason_bytes)
{
    int count = 0;
    words[0] = '\0';
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0)
    {
        int driver = 0;
        cudaGetLastError();
        if (cudaDriverGetVersion(&driver) != cudaSuccess)
            cudaGetLastError();
        if (code == cudaSuccess)
            code = cudaErrorNoDevice;
        rfn_cuda_missing((int)code, driver, getenv("CUDA_VISIBLE_DEVICES"), reason,
                         reason_bytes);
        return (int)code;
    }
    if (desc->ordinal >= count)
    {
        snprintf(reason, reason_bytes,
                 "no CUDA device %d: there %s %d, the first is number 0", desc->ordinal,
                 count == 1 ? "is" : "are", count);
        return (int)cudaErrorInvalidDevice;
    }
    struct rfn_cuda *d = calloc(1, sizeof *d);
    if (!d)
    {
        snprintf(reason, reason_bytes, "no host memory");
        return RFN_CODE_NOMEM;
    }
    d->ordinal = desc->ordinal;
    d->alone = count == 1;
    d->check = desc->check != 0;
    pthread_mutex_init(&d->mutex, NULL);
    listen_to_driver();

    int before = rfn_cuda_enter(d);
    const char *step = "reading its properties";
    code = fill_in(d);
    if (code == cudaSuccess && d->sm_arch < OLDEST_ARCH)
    {
        step = "choosing kernels";
        code = cudaErrorNoKernelImageForDevice;
        rfn_cuda_say("they need sm_80 or later");
    }
    if (code == cudaSuccess)
    {
        step = "loading the kernels";
        code = rfn_cuda_preload(d);
    }
    if (code == cudaSuccess)
    {
        step = "making a stream";
        code = cudaStreamCreateWithFlags(&d->waiting, cudaStreamNonBlocking);
    }
    if (code == cudaSuccess && d->check)
    {
        step = "allocating the fault record";
        code = make_fault(d);
    }
    if (code != cudaSuccess && d->waiting)
        cudaStreamDestroy(d->waiting);
    int rc = rfn_cuda_leave(d, before, code);
    if (rc == 0)
    {
        *ret_impl = d;
        return RFN_CODE_OK;
    }
    snprintf(reason, reason_bytes, "CUDA device %d (%s, sm_%d): %s: %s", d->ordinal,
             d->name, d->sm_arch, step, words);
    stop_listening();
    pthread_mutex_destroy(&d->mutex);
    free(d);
    return rc;
}

/* Frees the host's side even where the device is lost. */
static void close_device(void *impl)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    cudaError_t code = cudaDeviceSynchronize();
    cudaError_t freed = cudaFree(d->fault);
    cudaStreamDestroy(d->waiting);
    rfn_cuda_leave(d, before, code != cudaSuccess ? code : freed);
    stop_listening();
    rfn_cuda_captures_free(d);
    pthread_mutex_destroy(&d->mutex);
    free(d);
}

static int info(void *impl, struct rfn_device_info *ret)
{
    struct rfn_cuda *d = impl;
    size_t free_bytes = 0;
    size_t bytes = 0;
    int before = rfn_cuda_enter(d);
    int code = rfn_cuda_leave(d, before, cudaMemGetInfo(&free_bytes, &bytes));
    *ret = (struct rfn_device_info) {
        .kind = RFN_DEVICE_CUDA,
        .check = d->check,
        .sched = RFN_SCHED_DEFAULT,
        .sm_count = d->sm_count,
        .sm_arch = d->sm_arch,
        .memory_bytes = (int64_t)bytes,
        .memory_free_bytes = (int64_t)free_bytes,
    };
    memcpy(ret->name, d->name, sizeof ret->name);
    return code;
}

static int device_sync(void *impl)
{
    struct rfn_cuda *d = impl;
    int before = rfn_cuda_enter(d);
    return rfn_cuda_leave(d, before, cudaDeviceSynchronize());
}

static int fault(void *impl, struct rfn_fault *ret)
{
    struct rfn_cuda *d = impl;
    struct rfn_fault seen = { 0 };
    int code = RFN_CODE_OK;
    if (d->fault)
    {
        int before = rfn_cuda_enter(d);
        code = rfn_cuda_leave(
            d, before, cudaMemcpy(&seen, d->fault, sizeof seen, cudaMemcpyDeviceToHost));
    }
    if (code == 0)
        *ret = seen;
    return code;
}

static int thread_mode(void *impl, enum rfn_capture_mode *mode)
{
    struct rfn_cuda *d = impl;
    enum cudaStreamCaptureMode m = (enum cudaStreamCaptureMode) * mode;
    int before = rfn_cuda_enter(d);
    int code = rfn_cuda_leave(d, before, cudaThreadExchangeStreamCaptureMode(&m));
    if (code == 0)
        *mode = (enum rfn_capture_mode)m;
    return code;
}

/* The numbers cross as they are. */
_Static_assert((int)RFN_CAPTURE_GLOBAL == (int)cudaStreamCaptureModeGlobal, "mode");
_Static_assert((int)RFN_CAPTURE_THREAD_LOCAL == (int)cudaStreamCaptureModeThreadLocal,
               "");
_Static_assert((int)RFN_CAPTURE_RELAXED == (int)cudaStreamCaptureModeRelaxed, "mode");
_Static_assert((int)RFN_CAPTURE_ACTIVE == (int)cudaStreamCaptureStatusActive, "status");
_Static_assert((int)RFN_CAPTURE_INVALIDATED == (int)cudaStreamCaptureStatusInvalidated,
               "status");
_Static_assert((int)RFN_CODE_CAPTURE_IMPLICIT == (int)cudaErrorStreamCaptureImplicit, "");

const struct rfn_backend rfn_backend_cuda = {
    .name = "cuda",
    .open = open_device,
    .close = close_device,
    .info = info,
    .device_sync = device_sync,
    .fault = fault,
    .thread_mode = thread_mode,
    .why = why,
    .memory_alloc = rfn_cuda_memory_alloc,
    .memory_free = rfn_cuda_memory_free,
    .memory_kind = rfn_cuda_memory_kind,
    .memory_id = rfn_cuda_memory_id,
    .stream_create = rfn_cuda_stream_create,
    .stream_builtin = rfn_cuda_stream_builtin,
    .stream_import = rfn_cuda_stream_import,
    .stream_destroy = rfn_cuda_stream_destroy,
    .stream_sync = rfn_cuda_stream_sync,
    .stream_query = rfn_cuda_stream_query,
    .stream_wait = rfn_cuda_stream_wait,
    .event_create = rfn_cuda_event_create,
    .event_create_plain = rfn_cuda_event_create_plain,
    .event_destroy = rfn_cuda_event_destroy,
    .event_record = rfn_cuda_event_record,
    .event_sync = rfn_cuda_event_sync,
    .event_query = rfn_cuda_event_query,
    .event_elapsed = rfn_cuda_event_elapsed,
    .copy_sync = rfn_cuda_copy_sync,
    .copy_async = rfn_cuda_copy_async,
    .set_sync = rfn_cuda_set_sync,
    .set_async = rfn_cuda_set_async,
    .host_call = rfn_cuda_host_call,
    .supports = rfn_cuda_supports,
    .launch = rfn_cuda_launch,
    .capture_begin = rfn_cuda_capture_begin,
    .capture_end = rfn_cuda_capture_end,
    .capture_query = rfn_cuda_capture_query,
    .capture_add_child = rfn_cuda_capture_add_child,
    .capture_hold = rfn_cuda_capture_hold,
    .capture_forget = rfn_cuda_capture_forget,
    .graph_native = rfn_cuda_graph_native,
    .exec_native = rfn_cuda_exec_native,
    .graph_count = rfn_cuda_graph_count,
    .graph_nodes = rfn_cuda_graph_nodes,
    .graph_image = rfn_cuda_graph_image,
    .native_image = rfn_cuda_native_image,
    .graph_destroy = rfn_cuda_graph_destroy,
    .graph_instantiate = rfn_cuda_graph_instantiate,
    .exec_launch = rfn_cuda_exec_launch,
    .exec_upload = rfn_cuda_exec_upload,
    .exec_update = rfn_cuda_exec_update,
    .exec_destroy = rfn_cuda_exec_destroy,
};
