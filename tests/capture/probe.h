/*
 * The recording probe: what a real CUDA driver does with each call during a stream
 * capture. It records and judges nothing; it knows no table of rules.
 *
 *   probe.c         command line, the processes, the CSV
 *   probe_child.c   one process: CUDA start-up, second thread, driver log
 *   probe_case.c    one case: buffers, capture, call, what came of it, clean-up
 *   probe_memory.c  probe_copy.c probe_stream.c probe_event.c probe_graph.c
 *   probe_module.c  probe_capture.c   the calls; each ends with its table
 */
#ifndef PROBE_H
#define PROBE_H

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum
{
    PROBE_MODES = 3,
    PROBE_RELATIONS = 10,
    PROBE_CASES = PROBE_MODES * PROBE_RELATIONS,
    PROBE_BYTES = 1 << 20,        /* every case's buffers */
    PROBE_BLOCK_BYTES = 2 << 20,  /* one whole device mapping of its own */
    PROBE_SMALL_BYTES = 64 << 10, /* managed and registered memory */
    PROBE_ROW_BYTES = 8192,
};

/* What every kernel, copy and set writes; one byte repeated, so that a set can. */
#define PROBE_BYTE 0x5e
#define PROBE_WORD 0x5e5e5e5eu

/* Exit statuses of a child process. */
enum
{
    PROBE_DONE = 0,
    PROBE_TAINTED = 3,    /* a case left the process unusable: go on in a fresh one */
    PROBE_BROKEN = 4,     /* CUDA did not start; the reason went through the pipe */
    PROBE_NO_DEVICE = 77, /* no driver or no device */
};

enum probe_relation
{
    PROBE_SAME,
    PROBE_SAME_BLOCKING,
    PROBE_JOINED,
    PROBE_OTHER,
    PROBE_PER_THREAD,
    PROBE_LEGACY,
    PROBE_LEGACY_BLOCKING,
    PROBE_THREAD,
    PROBE_THREAD_RELAXED,
    PROBE_SELF_RELAXED,
};

/* Where the call's effect shows: PROBE_WORD as the first word of ... */
enum probe_seen
{
    PROBE_SEEN_NOWHERE,
    PROBE_SEEN_DEVICE,   /* dev_dst */
    PROBE_SEEN_PINNED,   /* pin_dst */
    PROBE_SEEN_PAGEABLE, /* page_dst */
    PROBE_SEEN_GLOBAL,   /* the module's global variable */
};

struct probe_env;

/* One call id. Every function returns the code of the CUDA call that mattered. */
struct probe_call
{
    const char *id;                        /* api:variant */
    enum probe_seen seen;                  /* column ran_now */
    int arg;                               /* picks the variant inside the functions */
    bool cublas;                           /* needs cuBLAS */
    int (*setup)(struct probe_env *env);   /* before the capture */
    int (*prepare)(struct probe_env *env); /* in the capture, before the call */
    int (*run)(struct probe_env *env);     /* the call, in the relation's thread */
    void (*undo)(struct probe_env *env);   /* after the capture */
    const char *what;                      /* what it provokes */
};

/* One case: everything is made before the capture and destroyed after the case. */
struct probe_env
{
    const struct probe_call *call;
    enum cudaStreamCaptureMode mode;
    enum probe_relation relation;
    int rc; /* of the call, for undo */

    cudaStream_t stream; /* the one the call uses; may be NULL, the legacy stream */
    cudaStream_t origin; /* where the capture began */
    cudaStream_t side;   /* the relation's second stream, joined or not */
    cudaStream_t idle;   /* never part of anything */
    cudaStream_t extra;  /* for forks and second captures that `prepare` makes */
    cudaStream_t second; /* not owned: origin of a second capture, or NULL */
    cudaGraph_t ended;   /* the graph, where the call itself ended the capture */

    uint32_t *dev_src, *dev_dst;   /* cudaMalloc */
    uint32_t *pin_src, *pin_dst;   /* cudaMallocHost */
    uint32_t *page_src, *page_dst; /* malloc; every src holds PROBE_WORD, every dst 0 */
    uint32_t seen_word;            /* what to look for: PROBE_WORD unless setup says */
    cudaEvent_t event, event2;     /* with timing, never recorded by the case itself */
    cudaEvent_t join, rejoin;

    /* Free for the call's own functions. */
    void *ptr, *ptr2, *ptr3;
    CUdeviceptr address;
    CUmemGenericAllocationHandle memory;
    cudaStream_t made_stream;
    cudaEvent_t made_event;
    cudaMemPool_t made_pool;
    cudaGraph_t graph, graph2;
    cudaGraphNode_t node;
    cudaGraphExec_t exec;
    CUmodule module;
    cudaLibrary_t library;
    cudaKernel_t kernel;
    void *handle;
};

/* What a child process has for all its cases. */
struct probe_process
{
    const void *image; /* the kernels: PTX text, or a cubin from --image */
    CUmodule module;
    CUfunction function; /* writes its second argument where its first one points */
    CUdeviceptr global;
    cudaLibrary_t library;
    cudaKernel_t kernel; /* the same kernel for the runtime */
    cudaMemPool_t pool;

    __typeof__(cuModuleLoadData) *module_load_data;
    __typeof__(cuModuleUnload) *module_unload;
    __typeof__(cuModuleGetFunction) *module_get_function;
    __typeof__(cuModuleGetGlobal) *module_get_global;
    __typeof__(cuLaunchKernel) *launch_kernel;
    __typeof__(cuFuncGetAttribute) *func_get_attribute;
    __typeof__(cuFuncSetAttribute) *func_set_attribute;
    __typeof__(cuMemcpyHtoD) *memcpy_htod;
    __typeof__(cuMemcpyDtoH) *memcpy_dtoh;
    __typeof__(cuMemsetD8) *memset_d8;
    __typeof__(cuMemCreate) *mem_create;
    __typeof__(cuMemRelease) *mem_release;
    __typeof__(cuMemAddressReserve) *mem_address_reserve;
    __typeof__(cuMemAddressFree) *mem_address_free;
    __typeof__(cuCtxSynchronize) *ctx_synchronize;
    __typeof__(cuStreamWriteValue32) *stream_write_value32;
    CUresult (*stream_get_ctx)(CUstream stream, CUcontext *ctx); /* the 9.2 form */
    __typeof__(cuLogsRegisterCallback) *logs_register_callback;  /* NULL before 12.9 */
    __typeof__(cuLogsCurrent) *logs_current;
    __typeof__(cuLogsDumpToMemory) *logs_dump_to_memory;

    int (*cublas_create)(void **handle);
    int (*cublas_destroy)(void *handle);
    int (*cublas_set_stream)(void *handle, cudaStream_t stream);
    int (*cublas_set_workspace)(void *handle, void *workspace, size_t bytes);
    int (*cublas_sgemm)(void *handle, int ta, int tb, int m, int n, int k,
                        const float *alpha, const float *a, int lda, const float *b,
                        int ldb, const float *beta, float *c, int ldc);
};

extern struct probe_process probe;
extern const char probe_ptx[];
extern const char *const probe_mode_names[PROBE_MODES];
extern const char *const probe_relation_names[PROBE_RELATIONS];

/* The tables; each ends with an entry without id. */
extern const struct probe_call probe_memory_calls[];
extern const struct probe_call probe_copy_calls[];
extern const struct probe_call probe_stream_calls[];
extern const struct probe_call probe_event_calls[];
extern const struct probe_call probe_graph_calls[];
extern const struct probe_call probe_module_calls[];
extern const struct probe_call probe_capture_calls[];

/* probe_child.c: bodies of the child processes; they write lines to `fd`. */
int probe_child_describe(int fd);
int probe_child_run(int fd, const struct probe_call *call, int first_case);

/* Runs `run` in the process's second thread and waits for it. */
int probe_worker_run(int (*run)(struct probe_env *env), struct probe_env *env,
                     bool relaxed);

/* Collects what the driver says from begin to end; end writes the joined text. */
void probe_log_begin(void);
void probe_log_end(char *ret_text, size_t bytes);

/* probe_case.c: runs one case and fills the row's columns from rc on. Returns false
 * where the process must not run another case. */
bool probe_case_run(const struct probe_call *call, int index, char *ret_row,
                    size_t row_bytes);

/* Shared by the calls. */
int probe_launch(struct probe_env *env, cudaStream_t stream);
int probe_fork(struct probe_env *env, cudaStream_t to);

#endif
