/*
 * The cuda device behind runtime/backend.h: plain C over the CUDA runtime.
 *
 *   cuda.c     open, close, info, fault, the driver's words, the table
 *   memory.c   memory, copies, sets
 *   stream.c   streams, events, host functions
 *   launch.c   op launches and updates of launched nodes
 *   graph.c    captures, graphs, executables
 *   nodes.c    what a graph's nodes are
 *   foreign.c  streams and captures of others, handles for others
 *   image.c    graphs as data
 *
 * Streams and events are CUDA's handles. Every entry is framed by enter and leave: the
 * device is current in between, a failure is kept in words and cleared, never swallowed.
 */
#ifndef RFN_RUNTIME_CUDA_IMPL_H
#define RFN_RUNTIME_CUDA_IMPL_H

#include "runtime/backend.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

/* The kernels of one captured launch. Lives as long as its graph's executables; of a capture
 * of others until that is forgotten. */
struct rfn_cuda_node
{
    struct rfn_cuda_node *next;
    uint32_t kernels;
    cudaGraphNode_t kernel[RFN_LAUNCH_NODES];
    const void *function[RFN_LAUNCH_NODES];
    const struct rfn_op *op;
    max_align_t args[]; /* as they were launched */
};

/* A capture that began here, gone when it ends; or one of others that ops were launched into,
 * gone when nothing is left of its graph: no stream, no thread. */
struct rfn_cuda_capture
{
    struct rfn_cuda_capture *next;
    uint64_t id;
    void *stream;       /* where it began */
    const void *thread; /* tells per-thread streams, which share a handle, apart */
    struct rfn_cuda_node *node;
};

struct rfn_cuda_graph
{
    cudaGraph_t graph;
    atomic_int holders; /* the handle and its executables: updates need its nodes */
    struct rfn_cuda_node *node;
};

struct rfn_cuda_exec
{
    cudaGraphExec_t exec;
    atomic_int used; /* launched or uploaded, so that something may be in flight */
    struct rfn_cuda_graph *graph;
};

struct rfn_cuda
{
    int ordinal;
    int alone; /* the only device of the process: it is always the current one */
    int check;
    char name[96];
    int sm_count;
    int sm_arch;
    int code_arch; /* whose instructions the loaded kernels have: 90 or 80 (portable) */
    int shared_bytes_max;
    struct rfn_fault *fault; /* device memory; NULL outside check mode */
    cudaStream_t waiting;    /* for the ends of executables; nothing else runs on it */
    pthread_mutex_t mutex;   /* guards both lists and those in them; never on replay */
    struct rfn_cuda_capture *capture;
    struct rfn_cuda_capture *foreign;
};

/* Makes the device current. Returns what leave needs. */
int rfn_cuda_enter(struct rfn_cuda *d);
/* Undoes enter; keeps the words for a failure and clears CUDA's last error. */
int rfn_cuda_leave(struct rfn_cuda *d, int before, cudaError_t code);
/* The words for a failure that CUDA has none for. */
void rfn_cuda_say(const char *text);

/* A function of the driver's; NULL where the driver is older than it. */
void *rfn_cuda_driver_entry(const char *name, unsigned version);

/* Says why no device is there: the code of asking for their number, the driver's version (0:
 * none) and what CUDA_VISIBLE_DEVICES says (NULL: nothing). */
void rfn_cuda_missing(int code, int driver, const char *visible, char *ret_reason,
                      size_t bytes);

/* Address that is the calling thread's own. */
const void *rfn_cuda_thread(void);

/* A record in the list of the open capture `id`, which may be one of others. */
cudaError_t rfn_cuda_node_create(struct rfn_cuda *d, uint64_t id, const struct rfn_op *op,
                                 const void *args, struct rfn_cuda_node **ret);
/* Takes back the record made last in this capture. */
void rfn_cuda_node_cancel(struct rfn_cuda *d, uint64_t id, struct rfn_cuda_node *node);
void rfn_cuda_captures_free(struct rfn_cuda *d);

/* memory.c */
int rfn_cuda_memory_alloc(void *impl, enum rfn_memory_kind kind, int64_t bytes,
                          void **ret);
int rfn_cuda_memory_free(void *impl, enum rfn_memory_kind kind, void *address,
                         int64_t bytes);
enum rfn_memory_kind rfn_cuda_memory_kind(void *impl, const void *address,
                                          int32_t *ret_elsewhere);
int rfn_cuda_copy_sync(void *impl, const struct rfn_copy *copy);
int rfn_cuda_copy_async(void *impl, void *stream, const struct rfn_copy *copy);
int rfn_cuda_set_sync(void *impl, const struct rfn_set *set);
int rfn_cuda_set_async(void *impl, void *stream, const struct rfn_set *set);

/* stream.c */
int rfn_cuda_stream_create(void *impl, enum rfn_stream_kind kind, void **ret);
void *rfn_cuda_stream_builtin(void *impl, enum rfn_stream_kind kind);
int rfn_cuda_stream_destroy(void *impl, void *stream);
int rfn_cuda_stream_sync(void *impl, void *stream);
int rfn_cuda_stream_query(void *impl, void *stream);
int rfn_cuda_stream_wait(void *impl, void *stream, void *event, uint32_t flags);
int rfn_cuda_event_create(void *impl, void **ret);
int rfn_cuda_event_create_plain(void *impl, void **ret);
int rfn_cuda_event_destroy(void *impl, void *event);
int rfn_cuda_event_record(void *impl, void *event, void *stream, uint32_t flags);
int rfn_cuda_event_sync(void *impl, void *event);
int rfn_cuda_event_query(void *impl, void *event);
int rfn_cuda_event_elapsed(void *impl, void *start, void *end, float *ret_ms);
int rfn_cuda_host_call(void *impl, void *stream, void (*fn)(void *), void *user);

/* launch.c */
/* Loads every kernel; finds out which code it is. */
cudaError_t rfn_cuda_preload(struct rfn_cuda *d);
int rfn_cuda_supports(void *impl, const struct rfn_op *op, const void *args);
int rfn_cuda_launch(void *impl, void *stream, const struct rfn_op *op, const void *args,
                    void **ret_node);
int rfn_cuda_exec_update(void *impl, void *exec, void *node, const struct rfn_op *op,
                         const void *args);

/* What the op's planner makes of the arguments. */
cudaError_t rfn_cuda_plan(const struct rfn_cuda *d, const struct rfn_op *op,
                          const void *args, struct rfn_launch *ret);

/* image.c */
int rfn_cuda_graph_image(void *impl, void *graph, struct rfn_image_store *store,
                         struct rfn_image_raw *ret);
int rfn_cuda_native_image(void *impl, void *native, struct rfn_image_store *store,
                          struct rfn_image_raw *ret);

/* graph.c */
int rfn_cuda_capture_begin(void *impl, void *stream, enum rfn_capture_mode mode);
int rfn_cuda_capture_end(void *impl, void *stream, void **ret_graph);
int rfn_cuda_capture_query(void *impl, void *stream, struct rfn_capture_info *ret);
void rfn_cuda_capture_forget(void *impl, uint64_t id);
int rfn_cuda_capture_add_child(void *impl, void *stream, void *graph);
int rfn_cuda_graph_count(void *impl, void *graph, int32_t node[RFN_NODE_TYPES]);
int rfn_cuda_graph_destroy(void *impl, void *graph);
int rfn_cuda_graph_instantiate(void *impl, void *graph, void **ret_exec);
int rfn_cuda_exec_launch(void *impl, void *exec, void *stream);
int rfn_cuda_exec_upload(void *impl, void *exec, void *stream);
int rfn_cuda_exec_destroy(void *impl, void *exec);

/* nodes.c */
cudaError_t rfn_cuda_node_type(cudaGraphNode_t node, enum rfn_node_type *ret);
int rfn_cuda_graph_nodes(void *impl, void *graph, struct rfn_native_node *ret,
                         int32_t *nodes);

/* foreign.c */
int rfn_cuda_stream_import(void *impl, void *native, enum rfn_stream_kind *ret_kind,
                           void **ret);
uint64_t rfn_cuda_memory_id(void *impl, const void *address);
int rfn_cuda_capture_hold(void *impl, void *stream, void (*release)(void *user),
                          void *user);
void *rfn_cuda_graph_native(void *graph);
void *rfn_cuda_exec_native(void *exec);

#endif
