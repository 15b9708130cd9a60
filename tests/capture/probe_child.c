/*
 * One child process of the probe: starts CUDA, keeps a second thread and listens to
 * what the driver says about itself.
 */
#define _POSIX_C_SOURCE 200809L
#include "probe.h"

#include <ctype.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct probe_process probe;

const char probe_ptx[] = ".version 8.0\n"
                         ".target sm_80\n"
                         ".address_size 64\n"
                         ".visible .global .align 4 .u32 probe_global;\n"
                         ".visible .entry probe_mark(\n"
                         "    .param .u64 out,\n"
                         "    .param .u32 word)\n"
                         "{\n"
                         "    .reg .b64 %rd<3>;\n"
                         "    .reg .b32 %r<2>;\n"
                         "    ld.param.u64 %rd1, [out];\n"
                         "    ld.param.u32 %r1, [word];\n"
                         "    cvta.to.global.u64 %rd2, %rd1;\n"
                         "    st.global.u32 [%rd2], %r1;\n"
                         "    ret;\n"
                         "}\n";

/* --- the second thread --------------------------------------------------------- */

static struct
{
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int (*run)(struct probe_env *env); /* NULL: nothing to do */
    struct probe_env *env;
    bool relaxed, ready;
    int rc;
} worker = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void *worker_main(void *unused)
{
    (void)unused;
    int start = (int)cudaSetDevice(0); /* binds the context for driver calls as well */

    pthread_mutex_lock(&worker.lock);
    worker.rc = start;
    worker.ready = true;
    pthread_cond_broadcast(&worker.changed);
    for (;;)
    {
        while (!worker.run)
            pthread_cond_wait(&worker.changed, &worker.lock);
        enum cudaStreamCaptureMode mode =
            worker.relaxed ? cudaStreamCaptureModeRelaxed : cudaStreamCaptureModeGlobal;
        cudaThreadExchangeStreamCaptureMode(&mode);
        worker.rc = worker.run(worker.env);
        mode = cudaStreamCaptureModeGlobal;
        cudaThreadExchangeStreamCaptureMode(&mode);
        cudaGetLastError();
        worker.run = NULL;
        pthread_cond_broadcast(&worker.changed);
    }
    return NULL;
}

static int worker_start(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker_main, NULL) != 0)
        return -1;
    pthread_detach(thread);
    pthread_mutex_lock(&worker.lock);
    while (!worker.ready)
        pthread_cond_wait(&worker.changed, &worker.lock);
    pthread_mutex_unlock(&worker.lock);
    return worker.rc;
}

int probe_worker_run(int (*run)(struct probe_env *env), struct probe_env *env,
                     bool relaxed)
{
    pthread_mutex_lock(&worker.lock);
    worker.run = run;
    worker.env = env;
    worker.relaxed = relaxed;
    pthread_cond_broadcast(&worker.changed);
    while (worker.run)
        pthread_cond_wait(&worker.changed, &worker.lock);
    int rc = worker.rc;
    pthread_mutex_unlock(&worker.lock);
    return rc;
}

/* --- the driver's log ----------------------------------------------------------- */

static struct
{
    pthread_mutex_t lock;
    bool open;
    bool has_start;
    CUlogIterator start;
    size_t bytes;
    char text[3000];
} driver_log = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void log_put(char c)
{
    if (driver_log.bytes + 1 < sizeof driver_log.text)
        driver_log.text[driver_log.bytes++] = c;
}

static bool is_stamp_char(char c)
{
    return isdigit((unsigned char)c) || c == ':' || c == '.';
}

/*
 * Appends one message without what changes from run to run: leading [time][thread][..]
 * groups, hexadecimal numbers, times of day and long decimal numbers become "*".
 */
static void log_append(const char *p, size_t length)
{
    const char *end = p + length;

    while (end > p && (end[-1] == '\0' || isspace((unsigned char)end[-1])))
        end--;
    for (;;)
    {
        while (p < end && isspace((unsigned char)*p))
            p++;
        const char *close =
            p < end && *p == '[' ? memchr(p, ']', (size_t)(end - p)) : NULL;
        if (!close)
            break;
        p = close + 1;
    }
    if (p == end)
        return;
    for (const char *s = driver_log.bytes ? " | " : ""; *s; s++)
        log_put(*s);
    while (p < end)
    {
        bool word = driver_log.bytes > 0 &&
                    (isalnum((unsigned char)driver_log.text[driver_log.bytes - 1]) ||
                     driver_log.text[driver_log.bytes - 1] == '_');
        if (!word && isdigit((unsigned char)*p))
        {
            const char *q = p;
            bool colon = false;
            if (end - p > 2 && p[0] == '0' && p[1] == 'x')
            {
                for (q = p + 2; q < end && isxdigit((unsigned char)*q); q++)
                {
                }
            }
            else
            {
                for (; q < end && is_stamp_char(*q); q++)
                    colon = colon ||
                            (*q == ':' && q + 1 < end && isdigit((unsigned char)q[1]));
                if (!colon && q - p < 6)
                    q = p;
            }
            if (q > p)
            {
                log_put('*');
                p = q;
                continue;
            }
        }
        log_put((unsigned char)*p < 0x20 ? ' ' : *p);
        p++;
    }
}

static void CUDA_CB on_log(void *unused, CUlogLevel level, char *message, size_t length)
{
    (void)unused;
    (void)level;
    pthread_mutex_lock(&driver_log.lock);
    if (driver_log.open && message)
        log_append(message, strnlen(message, length));
    pthread_mutex_unlock(&driver_log.lock);
}

void probe_log_begin(void)
{
    CUlogIterator start = 0;
    bool has_start = probe.logs_current && probe.logs_current(&start, 0) == CUDA_SUCCESS;

    pthread_mutex_lock(&driver_log.lock);
    driver_log.start = start;
    driver_log.has_start = has_start;
    driver_log.bytes = 0;
    driver_log.open = true;
    pthread_mutex_unlock(&driver_log.lock);
}

void probe_log_end(char *ret_text, size_t bytes)
{
    static char dump[32 << 10];
    size_t dump_bytes = sizeof dump - 1;

    pthread_mutex_lock(&driver_log.lock);
    driver_log.open = false;
    pthread_mutex_unlock(&driver_log.lock);
    /* Where the callback brought nothing, the log's own buffer may still have it. */
    if (driver_log.bytes == 0 && driver_log.has_start && probe.logs_dump_to_memory &&
        probe.logs_dump_to_memory(&driver_log.start, dump, &dump_bytes, 0) ==
            CUDA_SUCCESS &&
        dump_bytes < sizeof dump)
    {
        dump[dump_bytes] = '\0';
        for (char *line = dump; *line;)
        {
            size_t length = strcspn(line, "\n");
            log_append(line, length);
            line += length + (line[length] == '\n');
        }
    }
    size_t n = driver_log.bytes < bytes - 1 ? driver_log.bytes : bytes - 1;
    memcpy(ret_text, driver_log.text, n);
    ret_text[n] = '\0';
}

/* --- start-up ------------------------------------------------------------------- */

static int device_start(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unsetenv("CUDA_LAUNCH_BLOCKING");
    unsetenv("CUDA_MODULE_LOADING");
    unsetenv("CUDA_LOG_FILE");
    int rc = (int)cudaSetDevice(0);
    return rc ? rc : (int)cudaFree(NULL);
}

static bool entry(const char *name, unsigned version, void *ret_function)
{
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    if (cudaGetDriverEntryPointByVersion(name, &found, version, cudaEnableLegacyStream,
                                         &result) != cudaSuccess ||
        result != cudaDriverEntryPointSuccess)
        found = NULL;
    cudaGetLastError();
    memcpy(ret_function, &found, sizeof found);
    return found != NULL;
}

static const char *load_driver(void)
{
    struct
    {
        const char *name;
        unsigned version;
        bool optional;
        void *function;
    } entries[] = {
        { "cuModuleLoadData", 13000, false, &probe.module_load_data },
        { "cuModuleUnload", 13000, false, &probe.module_unload },
        { "cuModuleGetFunction", 13000, false, &probe.module_get_function },
        { "cuModuleGetGlobal", 13000, false, &probe.module_get_global },
        { "cuLaunchKernel", 13000, false, &probe.launch_kernel },
        { "cuFuncGetAttribute", 13000, false, &probe.func_get_attribute },
        { "cuFuncSetAttribute", 13000, false, &probe.func_set_attribute },
        { "cuMemcpyHtoD", 13000, false, &probe.memcpy_htod },
        { "cuMemcpyDtoH", 13000, false, &probe.memcpy_dtoh },
        { "cuMemsetD8", 13000, false, &probe.memset_d8 },
        { "cuMemCreate", 13000, true, &probe.mem_create },
        { "cuMemRelease", 13000, true, &probe.mem_release },
        { "cuMemAddressReserve", 13000, true, &probe.mem_address_reserve },
        { "cuMemAddressFree", 13000, true, &probe.mem_address_free },
        { "cuCtxSynchronize", 12000, false, &probe.ctx_synchronize },
        { "cuStreamWriteValue32", 13000, true, &probe.stream_write_value32 },
        { "cuStreamGetCtx", 9020, true, &probe.stream_get_ctx },
        { "cuLogsRegisterCallback", 13000, true, &probe.logs_register_callback },
        { "cuLogsCurrent", 13000, true, &probe.logs_current },
        { "cuLogsDumpToMemory", 13000, true, &probe.logs_dump_to_memory },
    };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
    {
        if (!entry(entries[i].name, entries[i].version, entries[i].function) &&
            !entries[i].optional)
            return entries[i].name;
    }
    return NULL;
}

static const char *load_cublas(void)
{
    static const char *const names[] = { "libcublas.so.13",
                                         "/usr/local/cuda/lib64/libcublas.so.13",
                                         "libcublas.so.12",
                                         "/usr/local/cuda/lib64/libcublas.so.12" };
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return "no libcublas";

    struct
    {
        const char *name;
        void *function;
    } entries[] = { { "cublasCreate_v2", &probe.cublas_create },
                    { "cublasDestroy_v2", &probe.cublas_destroy },
                    { "cublasSetStream_v2", &probe.cublas_set_stream },
                    { "cublasSetWorkspace_v2", &probe.cublas_set_workspace },
                    { "cublasSgemm_v2", &probe.cublas_sgemm } };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
    {
        void *found = dlsym(library, entries[i].name);
        if (!found)
            return entries[i].name;
        memcpy(entries[i].function, &found, sizeof found);
    }
    return NULL;
}

static const char *load_kernels(int *ret_rc)
{
    if (!probe.image)
        probe.image = probe_ptx;
    if ((*ret_rc = (int)probe.module_load_data(&probe.module, probe.image)))
        return "cuModuleLoadData";
    if ((*ret_rc =
             (int)probe.module_get_function(&probe.function, probe.module, "probe_mark")))
        return "cuModuleGetFunction";
    if ((*ret_rc = (int)probe.module_get_global(&probe.global, NULL, probe.module,
                                                "probe_global")))
        return "cuModuleGetGlobal";
    if ((*ret_rc = (int)cudaLibraryLoadData(&probe.library, probe.image, NULL, NULL, 0,
                                            NULL, NULL, 0)))
        return "cudaLibraryLoadData";
    if ((*ret_rc = (int)cudaLibraryGetKernel(&probe.kernel, probe.library, "probe_mark")))
        return "cudaLibraryGetKernel";
    if ((*ret_rc = (int)cudaDeviceGetDefaultMemPool(&probe.pool, 0)))
        return "cudaDeviceGetDefaultMemPool";
    return NULL;
}

/* Does each kind of work once, so that no case pays for (or shows) its first use. */
static int warm_up(void)
{
    uint32_t *dev = NULL, *pin = NULL, word = PROBE_WORD;
    void *pool_memory = NULL, *args[] = { &dev, &word };
    cudaStream_t s = NULL;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaLaunchConfig_t config = { .gridDim = { 1, 1, 1 }, .blockDim = { 1, 1, 1 } };
    int rc;

    if ((rc = (int)cudaMalloc((void **)&dev, PROBE_BYTES)) ||
        (rc = (int)cudaMallocHost((void **)&pin, PROBE_BYTES)) ||
        (rc = (int)cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking)) ||
        (rc = (int)cudaMemset(dev, 0, PROBE_BYTES)) ||
        (rc = (int)cudaMemset2D(dev, 256, 0, 4, 2)) ||
        (rc = (int)cudaMemcpy(dev, pin, PROBE_BYTES, cudaMemcpyHostToDevice)) ||
        (rc = (int)cudaMemcpy(dev + 64, dev, 4, cudaMemcpyDeviceToDevice)) ||
        (rc = (int)probe.launch_kernel(probe.function, 1, 1, 1, 1, 1, 1, 0, (CUstream)s,
                                       args, NULL)) ||
        (rc = (int)cudaLaunchKernelExC(&config, (const void *)probe.kernel, args)) ||
        (rc = (int)cudaMallocAsync(&pool_memory, 4096, s)) ||
        (rc = (int)cudaFreeAsync(pool_memory, s)) ||
        (rc = (int)cudaStreamSynchronize(s)) ||
        (rc = (int)cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed)) ||
        (rc = (int)probe.launch_kernel(probe.function, 1, 1, 1, 1, 1, 1, 0, (CUstream)s,
                                       args, NULL)) ||
        (rc = (int)cudaStreamEndCapture(s, &graph)) ||
        (rc = (int)cudaGraphInstantiate(&exec, graph, 0)) ||
        (rc = (int)cudaGraphLaunch(exec, s)) || (rc = (int)cudaDeviceSynchronize()) ||
        (rc = (int)cudaGraphExecDestroy(exec)) || (rc = (int)cudaGraphDestroy(graph)) ||
        (rc = (int)cudaStreamDestroy(s)) || (rc = (int)cudaFree(dev)) ||
        (rc = (int)cudaFreeHost(pin)))
        return rc;
    return 0;
}

static int child_start(int fd, const struct probe_call *call)
{
    const char *failed;
    int rc = device_start();

    if (rc)
    {
        dprintf(fd, "E no device (%d)\n", rc);
        return PROBE_BROKEN;
    }
    if ((failed = load_driver()))
    {
        dprintf(fd, "E the driver has no %s\n", failed);
        return PROBE_BROKEN;
    }
    if ((failed = load_kernels(&rc)))
    {
        dprintf(fd, "E %s failed with %d\n", failed, rc);
        return PROBE_BROKEN;
    }
    if ((rc = worker_start()) || (rc = warm_up()))
    {
        dprintf(fd, "E warm-up failed with %d\n", rc);
        return PROBE_BROKEN;
    }
    if (call->cublas && (failed = load_cublas()))
    {
        dprintf(fd, "K %s\n", failed);
        return PROBE_BROKEN;
    }
    if (probe.logs_register_callback)
    {
        CUlogsCallbackHandle handle;
        if (probe.logs_register_callback(on_log, NULL, &handle) != CUDA_SUCCESS)
            dprintf(fd, "E (no driver log: cuLogsRegisterCallback failed)\n");
    }
    cudaGetLastError();
    return PROBE_DONE;
}

int probe_child_run(int fd, const struct probe_call *call, int first_case)
{
    static char row[PROBE_ROW_BYTES];
    int rc = child_start(fd, call);

    if (rc != PROBE_DONE)
        return rc;
    for (int i = first_case; i < PROBE_CASES; i++)
    {
        dprintf(fd, "B %d\n", i);
        bool usable = probe_case_run(call, i, row, sizeof row);
        dprintf(fd, "R %d %s\n", i, row);
        if (!usable)
            return PROBE_TAINTED;
    }
    return PROBE_DONE;
}

/* The kernel module knows the driver's full version; CUDA only "13000". */
static void driver_release(char *ret_text, size_t bytes)
{
    char line[256] = "";
    FILE *f = fopen("/proc/driver/nvidia/version", "r");

    snprintf(ret_text, bytes, "unknown release");
    if (!f)
        return;
    if (fgets(line, sizeof line, f))
    {
        for (char *save = NULL, *word = strtok_r(line, " \n", &save); word;
             word = strtok_r(NULL, " \n", &save))
        {
            if (isdigit((unsigned char)word[0]) && strchr(word, '.'))
            {
                snprintf(ret_text, bytes, "%s", word);
                break;
            }
        }
    }
    fclose(f);
}

int probe_child_describe(int fd)
{
    int driver = 0, runtime = 0, devices = 0, rc;
    struct cudaDeviceProp properties;
    char release[64];

    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    {
        dprintf(fd, "no CUDA driver on this machine");
        return PROBE_NO_DEVICE;
    }
    rc = (int)cudaGetDeviceCount(&devices);
    if (rc != 0 || devices == 0)
    {
        dprintf(fd, "no CUDA device (%d: %s)", rc, cudaGetErrorString((cudaError_t)rc));
        return PROBE_NO_DEVICE;
    }
    if ((rc = device_start()) || (rc = (int)cudaGetDeviceProperties(&properties, 0)))
    {
        dprintf(fd, "the device does not start (%d: %s)", rc,
                cudaGetErrorString((cudaError_t)rc));
        return PROBE_BROKEN;
    }
    cudaRuntimeGetVersion(&runtime);
    driver_release(release, sizeof release);
    dprintf(fd, "# device %s\n# driver %s, CUDA %d\n# runtime %d\n", properties.name,
            release, driver, runtime);
    return PROBE_DONE;
}
