/*
 * Devices: memory, streams, events, copies, capture, graphs.
 *
 * One front end over two devices. `cuda` is a GPU; `host` is embedded, runs everywhere and
 * models streams, events, capture and graphs closely enough that a mistake which CUDA would
 * punish fails there first. Both report the same mistake in the same words.
 *
 * Every call is a macro that notes the caller's file and line before it calls the function
 * of the same name; define RFN_NO_SITES before the include to call the functions bare.
 *
 * What holds for all calls unless a line says otherwise:
 *   Threads   Any thread; at most one at a time on one stream, event or graph. Creating and
 *             destroying are safe beside anything that uses other objects.
 *   Errors    RFN_INVALID for a NULL, destroyed or foreign object, naming what it is.
 *             RFN_CAPTURE when a rule of stream capture forbids the call; rfn_last_code()
 *             then holds CUDA's number. On error nothing is enqueued and no output is set.
 *             RFN_DEVICE once the device is lost, naming the first cause; what destroys,
 *             frees, releases or closes works as ever, also if it is the first to see it.
 *
 * What the host device cannot model: kernels that spin on mapped memory, timing, occupancy,
 * other people's kernels, memory nodes, managed memory, peers, conditional nodes, and calls
 * that go to the CUDA driver without passing here.
 */
#ifndef REFRAIN_DEVICE_H
#define REFRAIN_DEVICE_H

#include <refrain/memory.h>
#include <refrain/op.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_stream;
struct rfn_event;
struct rfn_graph;
struct rfn_exec;

enum rfn_device_kind
{
    /* cuda where a driver and a GPU of sm_80 or later are, else host; a GPU that is there and
     * does not open is an error */
    RFN_DEVICE_AUTO = 0,
    RFN_DEVICE_HOST,
    RFN_DEVICE_CUDA,
};

/* When the host device runs what was enqueued. */
enum rfn_host_sched
{
    RFN_SCHED_DEFAULT =
        0,            /* what RFN_HOST_SCHED=fifo|lazy|random:<seed> says, else fifo */
    RFN_SCHED_FIFO,   /* at submission */
    RFN_SCHED_LAZY,   /* only what a wait needs */
    RFN_SCHED_RANDOM, /* a seeded number of ready items at every call, in any order */
};

struct rfn_device_desc
{
    enum rfn_device_kind kind;
    int32_t ordinal; /* cuda */
    /* Host device: users hold unreadable addresses of device memory, freed ranges are
     * poisoned and never handed out again. Both: kernels report bad indices. */
    int32_t check;
    /* Host device, with check: installs a SIGSEGV handler (chained) that lets an access to
     * pinned memory under copy through and records it, under every schedule: a copy is under
     * way until the host has waited for it. A system call raises no signal: read() into a page
     * that is under copy, be it beside the copied bytes, fails with EFAULT. */
    int32_t fault_handler;
    enum rfn_host_sched sched;
    uint64_t sched_seed;
    int32_t threads;       /* host twins; 0: one a core */
    int64_t reserve_bytes; /* host, check: address space to reserve; 0: 64 GiB */
};

struct rfn_device_info
{
    enum rfn_device_kind kind; /* never AUTO */
    char name[96];
    int32_t check;
    enum rfn_host_sched sched;
    int32_t sm_count; /* 0 on the host */
    int32_t sm_arch;
    int64_t memory_bytes;
    int64_t memory_free_bytes;
};

enum rfn_stream_kind
{
    RFN_STREAM_NONBLOCKING = 0,
    RFN_STREAM_BLOCKING, /* orders with the legacy stream */
    RFN_STREAM_LEGACY,
    RFN_STREAM_PER_THREAD,
};

enum rfn_event_flag
{
    RFN_EVENT_EXTERNAL =
        1, /* in a capture: a node that records or waits at every replay */
};

enum rfn_capture_mode
{
    RFN_CAPTURE_GLOBAL = 0,
    RFN_CAPTURE_THREAD_LOCAL,
    RFN_CAPTURE_RELAXED,
};

enum rfn_capture_status
{
    RFN_CAPTURE_NONE = 0,
    RFN_CAPTURE_ACTIVE,
    RFN_CAPTURE_INVALIDATED,
};

struct rfn_capture_desc
{
    enum rfn_capture_mode mode;
    const char *name; /* for findings and RFN_BUSY lines; copied; may be NULL */
};

struct rfn_capture_info
{
    enum rfn_capture_status status;
    uint64_t id; /* unique in the process; 0 with status NONE */
};

enum rfn_node_type
{
    RFN_NODE_KERNEL = 0,
    RFN_NODE_MEMCPY,
    RFN_NODE_MEMSET,
    RFN_NODE_HOST,
    RFN_NODE_CHILD,
    RFN_NODE_EVENT_RECORD,
    RFN_NODE_EVENT_WAIT,
    RFN_NODE_EMPTY,
    RFN_NODE_TYPES
};

struct rfn_graph_info
{
    uint64_t capture_id; /* 0: not captured */
    int32_t nodes;
    int32_t node[RFN_NODE_TYPES]; /* by type, child graphs counted as one */
    int32_t launches;             /* op launches, in the order of the capture */
    char name[64];
};

/* ---- device ---------------------------------------------------------------------- */

/**
 * Opens a device.
 *
 * Capture   Not meant for one: opening loads modules.
 * Errors    RFN_UNSUPPORTED: no such device here, saying what is missing. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_device_open(const struct rfn_device_desc *desc,
                                        struct rfn_device **ret_device);

/**
 * Closes a device and sets *device to NULL. Waits for what runs.
 *
 * Capture   Refused while one is open.
 * Errors    RFN_BUSY while memory, streams, events or graphs of it live, naming how many, or
 *           a graph of somebody else that holds launches of it.
 */
RFN_API enum rfn_status rfn_device_close(struct rfn_device **device);

/**
 * Says what the device is.
 *
 * Capture   Safe.
 */
RFN_API enum rfn_status rfn_device_query(struct rfn_device *device,
                                         struct rfn_device_info *ret_info);

/**
 * Waits for everything that was enqueued on the device.
 *
 * Capture   Forbidden in every mode: RFN_CAPTURE, and the capture is invalidated; so is one of
 *           another rfn_device of the same GPU, for they share its context.
 * Stream    Blocks the host.
 */
RFN_API enum rfn_status rfn_device_sync(struct rfn_device *device);

/**
 * The first bad index that a kernel met since the device was opened, in check mode;
 * ret_fault->op is NULL when there was none.
 *
 * Capture   Not in one on cuda: reads device memory synchronously.
 * Stream    Speaks of finished work only; sync first.
 */
RFN_API enum rfn_status rfn_device_fault(struct rfn_device *device,
                                         struct rfn_fault *ret_fault);

/**
 * Exchanges the calling thread's capture interaction mode, as
 * cudaThreadExchangeStreamCaptureMode: *mode goes in, the old mode comes out.
 *
 * Capture   Safe. With RELAXED the thread's potentially unsafe calls are let through.
 */
RFN_API enum rfn_status rfn_thread_mode_exchange(struct rfn_device *device,
                                                 enum rfn_capture_mode *mode);

/* ---- streams and events ---------------------------------------------------------- */

/**
 * Creates a stream, blocking or non-blocking.
 *
 * Capture   Safe in every mode.
 */
RFN_API enum rfn_status rfn_stream_create(struct rfn_device *device,
                                          enum rfn_stream_kind kind,
                                          struct rfn_stream **ret_stream);

/**
 * Destroys a stream and sets *stream to NULL; enqueued work still runs. An imported stream is
 * forgotten, and goes on.
 *
 * Capture   Allowed; a forked stream that is destroyed stays unjoined.
 * Errors    RFN_INVALID for the legacy and per-thread streams, which nobody owns. RFN_BUSY:
 *           an imported stream on which rfn_capture_begin began a capture that is open.
 */
RFN_API enum rfn_status rfn_stream_destroy(struct rfn_stream **stream);

/**
 * The legacy default stream (CUDA's NULL stream). Never NULL for a live device.
 *
 * Capture   Using it beside a capture is what rule CAP012 speaks of.
 */
RFN_API struct rfn_stream *rfn_stream_legacy(struct rfn_device *device);

/**
 * The per-thread default stream; means the calling thread's at every use.
 *
 * Capture   It can be captured like a created stream.
 */
RFN_API struct rfn_stream *rfn_stream_per_thread(struct rfn_device *device);

/**
 * Waits for everything enqueued on a stream.
 *
 * Capture   On a capturing stream forbidden and invalidating, elsewhere potentially unsafe.
 * Stream    Blocks the host.
 */
RFN_API enum rfn_status rfn_stream_sync(struct rfn_stream *stream);

/**
 * RFN_OK when everything enqueued has run, RFN_NOT_READY when not; never blocks.
 *
 * Capture   As rfn_stream_sync.
 */
RFN_API enum rfn_status rfn_stream_query(struct rfn_stream *stream);

/**
 * Makes later work of the stream wait for the event's last record. `flags` is 0 or
 * RFN_EVENT_EXTERNAL.
 *
 * Capture   A captured event draws the stream into its capture (fork or join). An event
 *           from outside: RFN_CAPTURE (905) unless external; of another capture: 902. The
 *           flag outside a capture: 401.
 * Stream    Asynchronous.
 */
RFN_API enum rfn_status rfn_stream_wait(struct rfn_stream *stream,
                                        struct rfn_event *event, uint32_t flags);

/**
 * Creates an event with timing.
 *
 * Capture   Safe in every mode.
 */
RFN_API enum rfn_status rfn_event_create(struct rfn_device *device,
                                         struct rfn_event **ret_event);

/**
 * Destroys an event and sets *event to NULL.
 *
 * Capture   Safe in every mode.
 */
RFN_API enum rfn_status rfn_event_destroy(struct rfn_event **event);

/**
 * Records the stream's work so far. `flags` is 0 or RFN_EVENT_EXTERNAL.
 *
 * Capture   On a capturing stream the event becomes captured; with the external flag it is
 *           a node instead. The flag outside a capture: RFN_CAPTURE (401).
 * Stream    Asynchronous.
 */
RFN_API enum rfn_status rfn_event_record(struct rfn_event *event,
                                         struct rfn_stream *stream, uint32_t flags);

/**
 * Waits until the event's last record has happened; at once when there was none.
 *
 * Capture   A captured event: 907 and invalidated. Else potentially unsafe.
 * Stream    Blocks the host.
 */
RFN_API enum rfn_status rfn_event_sync(struct rfn_event *event);

/**
 * RFN_OK when the event's last record has happened, RFN_NOT_READY when not.
 *
 * Capture   As rfn_event_sync.
 */
RFN_API enum rfn_status rfn_event_query(struct rfn_event *event);

/**
 * Milliseconds between two recorded events. On the host device the time of the host's
 * clock when they were reached.
 *
 * Capture   A captured event: 907; the capture stays active.
 * Errors    RFN_NOT_READY before both have happened.
 */
RFN_API enum rfn_status rfn_event_elapsed(struct rfn_event *start, struct rfn_event *end,
                                          float *ret_ms);

/* ---- copies, sets, host functions ------------------------------------------------ */

/**
 * Copies and waits, on the legacy stream, as cudaMemcpy; the direction follows from the
 * memory.
 *
 * Capture   Beside a non-blocking capture it succeeds, runs now and is NOT in the graph
 *           (rule CAP002); with a blocking capture of this thread: 906.
 * Stream    Blocks the host (device to device: does not wait).
 * Errors    RFN_INVALID: a range that leaves its allocation, both ends named.
 */
RFN_API enum rfn_status rfn_copy_sync(struct rfn_device *device, void *dst,
                                      const void *src, int64_t bytes);

/**
 * Copies in stream order. Pageable memory is accepted, as CUDA accepts it.
 *
 * Capture   A node that re-reads the same addresses at every replay (rule CAP003 for
 *           pageable memory).
 * Stream    Asynchronous; with pageable memory it may block.
 * Errors    As rfn_copy_sync.
 */
RFN_API enum rfn_status rfn_copy_async(struct rfn_stream *stream, void *dst,
                                       const void *src, int64_t bytes);

/**
 * Sets bytes of device memory, on the legacy stream, as cudaMemset.
 *
 * Capture   As rfn_copy_sync.
 * Stream    Does not wait, but orders with every blocking stream.
 * Errors    As rfn_copy_sync; RFN_INVALID for pageable memory or a value past 255.
 */
RFN_API enum rfn_status rfn_set_sync(struct rfn_device *device, void *dst, int32_t value,
                                     int64_t bytes);

/**
 * Sets bytes in stream order.
 *
 * Capture   A memset node.
 * Stream    Asynchronous.
 * Errors    As rfn_set_sync.
 */
RFN_API enum rfn_status rfn_set_async(struct rfn_stream *stream, void *dst, int32_t value,
                                      int64_t bytes);

/**
 * Calls fn(user) on the host in stream order. It must not call the device.
 *
 * Capture   A host node: fn and user are baked, the call comes back at every replay.
 * Stream    Asynchronous.
 */
RFN_API enum rfn_status rfn_host_call(struct rfn_stream *stream, void (*fn)(void *user),
                                      void *user);

/**
 * Launches an op: checks the arguments against its tables and against the memory they
 * point into, then enqueues it. The argument struct is copied before the call returns.
 *
 * Capture   A kernel node (or several); the memory it touches is pinned by the capture.
 * Stream    Asynchronous. No allocation outside captures.
 * Errors    RFN_INVALID, naming operand and both values: the tables, pageable memory or
 *           another device's where device memory is due, a view that leaves its allocation;
 *           in a capture a block table whose row stride is not that of an earlier launch
 *           (CAP027).
 *           RFN_UNSUPPORTED: no twin for this device; on cuda a grid, a block or shared memory
 *           larger than a GPU has, both values named.
 */
RFN_API enum rfn_status rfn_op_launch(struct rfn_stream *stream, const struct rfn_op *op,
                                      const void *args);

/**
 * Whether rfn_op_launch would take these arguments on this device, but for the memory that
 * they point to, which is not looked at: addresses need only be aligned and not NULL.
 *
 * Capture   Safe. Nothing is enqueued.
 * Errors    RFN_INVALID as rfn_op_launch; RFN_UNSUPPORTED with the reason.
 */
RFN_API enum rfn_status rfn_op_supported(struct rfn_device *device,
                                         const struct rfn_op *op, const void *args);

/* ---- capture --------------------------------------------------------------------- */

/**
 * Begins to capture a stream; desc may be NULL (global mode, no name).
 *
 * Capture   Twice on one stream: 401, the first stays active. The legacy stream: 900.
 */
RFN_API enum rfn_status rfn_capture_begin(struct rfn_stream *stream,
                                          const struct rfn_capture_desc *desc);

/**
 * Ends a capture and hands out its graph. After an error of the capture the capture is
 * over all the same and *ret_graph is untouched.
 *
 * Capture   Only on the origin stream and, unless relaxed, by the thread that began it.
 * Errors    RFN_CAPTURE: 901 invalidated (by whom: rule CAP034), 903 not the origin, 904
 *           unjoined fork, 908 wrong thread, 401 not capturing. RFN_INVALID: the capture was
 *           begun by somebody else, and goes on.
 */
RFN_API enum rfn_status rfn_capture_end(struct rfn_stream *stream,
                                        struct rfn_graph **ret_graph);

/**
 * Says whether a stream captures, and in which capture.
 *
 * Capture   Safe; on the legacy stream beside a blocking capture: 906, nothing invalidated.
 */
RFN_API enum rfn_status rfn_capture_query(struct rfn_stream *stream,
                                          struct rfn_capture_info *ret_info);

/**
 * Adds a graph as a child node to the capture of a stream, in stream order. The child is
 * copied; it can be destroyed afterwards, what it pins stays pinned by the parent.
 *
 * Capture   Only on a capturing stream: 401 elsewhere.
 */
RFN_API enum rfn_status rfn_capture_add_child(struct rfn_stream *stream,
                                              struct rfn_graph *child);

/* ---- graphs ---------------------------------------------------------------------- */

/**
 * Says what is in a graph.
 *
 * Capture   Safe.
 */
RFN_API enum rfn_status rfn_graph_query(struct rfn_graph *graph,
                                        struct rfn_graph_info *ret_info);

/**
 * Destroys a graph and sets *graph to NULL; executables made of it live on.
 *
 * Capture   Safe.
 */
RFN_API enum rfn_status rfn_graph_destroy(struct rfn_graph **graph);

/**
 * Makes an executable of a graph. It holds the memory that the graph touches.
 *
 * Capture   Potentially unsafe: forbidden by the thread-mode predicate.
 * Errors    RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_graph_instantiate(struct rfn_graph *graph,
                                              struct rfn_exec **ret_exec);

/**
 * Launches an executable: one call, nothing allocated. Its launches run one after another.
 *
 * Capture   On a capturing stream: 900 and invalidated. Elsewhere it runs now.
 * Stream    Asynchronous.
 * Errors    RFN_INVALID: memory that it touches was released since, naming it; memory that
 *           was never imported is asked about in check mode only; a plan that its attention
 *           updates do not fit, naming both (CAP027).
 */
RFN_API enum rfn_status rfn_exec_launch(struct rfn_exec *exec, struct rfn_stream *stream);

/**
 * Puts an executable where it runs, so that its first launch pays nothing. The stream's later
 * work comes behind every earlier launch of it, on whatever stream that was.
 *
 * Capture   On a capturing stream: 900 and invalidated. Elsewhere it is done now.
 * Stream    Asynchronous.
 */
RFN_API enum rfn_status rfn_exec_upload(struct rfn_exec *exec, struct rfn_stream *stream);

/**
 * Replaces the arguments of the launch'th op launch in capture order; takes effect at the
 * next rfn_exec_launch. The struct is copied.
 *
 * Capture   Safe in every mode.
 * Errors    As rfn_op_launch; RFN_NOT_FOUND: no such launch (both numbers named), or one
 *           that came in with a child graph; RFN_UNSUPPORTED: another number of kernels, or
 *           of blocks a cluster (sparse_mla with other shapes; both are named). After an
 *           error the launch is what it was. RFN_INVALID: a block table with another row
 *           stride than the graph's other launches were recorded with, both named (CAP027).
 */
RFN_API enum rfn_status rfn_exec_update(struct rfn_exec *exec, int32_t launch,
                                        const void *args);

/**
 * Destroys an executable and sets *exec to NULL. Waits for a launch in flight.
 *
 * Capture   Potentially unsafe: forbidden by the thread-mode predicate.
 * Errors    RFN_BUSY: it is a ladder's (rfn_ladder_exec), which goes on.
 */
RFN_API enum rfn_status rfn_exec_destroy(struct rfn_exec **exec);

#ifndef RFN_NO_SITES
#define rfn_device_open(...) RFN_SITED(rfn_device_open(__VA_ARGS__))
#define rfn_device_close(...) RFN_SITED(rfn_device_close(__VA_ARGS__))
#define rfn_device_sync(...) RFN_SITED(rfn_device_sync(__VA_ARGS__))
#define rfn_thread_mode_exchange(...) RFN_SITED(rfn_thread_mode_exchange(__VA_ARGS__))
#define rfn_stream_create(...) RFN_SITED(rfn_stream_create(__VA_ARGS__))
#define rfn_stream_destroy(...) RFN_SITED(rfn_stream_destroy(__VA_ARGS__))
#define rfn_stream_sync(...) RFN_SITED(rfn_stream_sync(__VA_ARGS__))
#define rfn_stream_query(...) RFN_SITED(rfn_stream_query(__VA_ARGS__))
#define rfn_stream_wait(...) RFN_SITED(rfn_stream_wait(__VA_ARGS__))
#define rfn_event_create(...) RFN_SITED(rfn_event_create(__VA_ARGS__))
#define rfn_event_destroy(...) RFN_SITED(rfn_event_destroy(__VA_ARGS__))
#define rfn_event_record(...) RFN_SITED(rfn_event_record(__VA_ARGS__))
#define rfn_event_sync(...) RFN_SITED(rfn_event_sync(__VA_ARGS__))
#define rfn_event_query(...) RFN_SITED(rfn_event_query(__VA_ARGS__))
#define rfn_event_elapsed(...) RFN_SITED(rfn_event_elapsed(__VA_ARGS__))
#define rfn_copy_sync(...) RFN_SITED(rfn_copy_sync(__VA_ARGS__))
#define rfn_copy_async(...) RFN_SITED(rfn_copy_async(__VA_ARGS__))
#define rfn_set_sync(...) RFN_SITED(rfn_set_sync(__VA_ARGS__))
#define rfn_set_async(...) RFN_SITED(rfn_set_async(__VA_ARGS__))
#define rfn_host_call(...) RFN_SITED(rfn_host_call(__VA_ARGS__))
#define rfn_op_launch(...) RFN_SITED(rfn_op_launch(__VA_ARGS__))
#define rfn_capture_begin(...) RFN_SITED(rfn_capture_begin(__VA_ARGS__))
#define rfn_capture_end(...) RFN_SITED(rfn_capture_end(__VA_ARGS__))
#define rfn_capture_add_child(...) RFN_SITED(rfn_capture_add_child(__VA_ARGS__))
#define rfn_graph_destroy(...) RFN_SITED(rfn_graph_destroy(__VA_ARGS__))
#define rfn_graph_instantiate(...) RFN_SITED(rfn_graph_instantiate(__VA_ARGS__))
#define rfn_exec_launch(...) RFN_SITED(rfn_exec_launch(__VA_ARGS__))
#define rfn_exec_upload(...) RFN_SITED(rfn_exec_upload(__VA_ARGS__))
#define rfn_exec_update(...) RFN_SITED(rfn_exec_update(__VA_ARGS__))
#define rfn_exec_destroy(...) RFN_SITED(rfn_exec_destroy(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
