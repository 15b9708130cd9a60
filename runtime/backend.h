/*
 * The table of functions that a device is. The front end (runtime/ *.c) has checked every
 * handle, range and dtype before it calls one; a backend decides only what needs a device.
 *
 * The currency of failure is CUDA's error number: 0, or 900..908 for what a capture forbids,
 * 600 not ready, 2 no memory, 1 invalid value, 401 illegal state. A number that runtime/
 * call.c has no other status for means that the device is lost, 700 first of all. Both devices speak it, so a recording of the driver is compared number by number.
 * The front end turns it into a status and writes the line, with why() as the tail.
 */
#ifndef RFN_RUNTIME_BACKEND_H
#define RFN_RUNTIME_BACKEND_H

#include <refrain/device.h>

struct rfn_touch;
struct rfn_image_store;
struct rfn_image_raw;

enum rfn_code
{
    RFN_CODE_OK = 0,
    RFN_CODE_INVALID_VALUE = 1,
    RFN_CODE_NOMEM = 2,
    RFN_CODE_INVALID_CONFIGURATION = 9,
    RFN_CODE_STUB_LIBRARY = 34,
    RFN_CODE_INSUFFICIENT_DRIVER = 35,
    RFN_CODE_INVALID_FUNCTION = 98,
    RFN_CODE_NO_DEVICE = 100,
    RFN_CODE_NO_IMAGE = 209,
    RFN_CODE_INVALID_HANDLE = 400,
    RFN_CODE_ILLEGAL_STATE = 401,
    RFN_CODE_NOT_READY = 600,
    RFN_CODE_ILLEGAL_ADDRESS = 700,
    RFN_CODE_LAUNCH_RESOURCES = 701,
    RFN_CODE_HOST_REGISTERED = 712,
    RFN_CODE_HOST_NOT_REGISTERED = 713,
    RFN_CODE_COOPERATIVE_SIZE = 720,
    RFN_CODE_NOT_PERMITTED = 800,
    RFN_CODE_NOT_SUPPORTED = 801,
    RFN_CODE_CAPTURE_UNSUPPORTED = 900,
    RFN_CODE_CAPTURE_INVALIDATED = 901,
    RFN_CODE_CAPTURE_MERGE = 902,
    RFN_CODE_CAPTURE_UNMATCHED = 903,
    RFN_CODE_CAPTURE_UNJOINED = 904,
    RFN_CODE_CAPTURE_ISOLATION = 905,
    RFN_CODE_CAPTURE_IMPLICIT = 906,
    RFN_CODE_CAPTURED_EVENT = 907,
    RFN_CODE_CAPTURE_WRONG_THREAD = 908,
    RFN_CODE_CLUSTER_SIZE = 912,
};

struct rfn_copy
{
    void *dst;
    const void *src;
    int64_t bytes;
    enum rfn_memory_kind dst_kind;
    enum rfn_memory_kind src_kind;
};

struct rfn_set
{
    void *dst;
    int64_t bytes;
    int32_t value; /* 0..255 */
    enum rfn_memory_kind dst_kind;
};

/* A node of a captured graph. */
struct rfn_native_node
{
    enum rfn_node_type type; /* RFN_NODE_TYPES: one that the list lacks */
    const void *launch;      /* as launch gave it; NULL: of no launch of ours */
    const char *kernel;      /* the function's name in the device code; NULL: unknown */
    uint64_t tools_id;       /* by which profilers know it; 0: unknown */
};

/* Backend objects are opaque to the front end: `impl` of the device, `void *` of others.
 * Streams: the front end passes what stream_create or stream_builtin gave. */
struct rfn_backend
{
    const char *name;
    /* 1: all memory of this device comes through memory_alloc or an import, so an address
     * of device memory that the front end does not know was freed. */
    int closed_memory;

    /* 1 on a thread that runs a host function of a stream: the front end then refuses the
     * call before it takes a lock. NULL: the device sees to it. */
    int (*inside)(void);

    /* Failure writes a reason for people into why (what is missing). */
    int (*open)(const struct rfn_device_desc *desc, void **ret_impl, char *why,
                size_t why_bytes);
    void (*close)(void *impl);                            /* waits for what runs */
    int (*info)(void *impl, struct rfn_device_info *ret); /* kind, check and sched too */
    int (*device_sync)(void *impl);
    int (*fault)(void *impl, struct rfn_fault *ret);
    int (*thread_mode)(void *impl, enum rfn_capture_mode *mode);
    /* The device's own words on the calling thread's last failing call; "" when none.
     * Valid until the thread's next call. */
    const char *(*why)(void *impl);

    int (*memory_alloc)(void *impl, enum rfn_memory_kind kind, int64_t bytes, void **ret);
    int (*memory_free)(void *impl, enum rfn_memory_kind kind, void *address,
                       int64_t bytes); /* address NULL: cudaFree(NULL) */
    /* Kind of memory that the front end's table does not know. *ret_elsewhere: the other
     * device that it belongs to, -1 when it is this one's or the host's. */
    enum rfn_memory_kind (*memory_kind)(void *impl, const void *address,
                                        int32_t *ret_elsewhere);
    /* A number that memory of others has for itself as long as it lives, 0 for none there.
     * NULL: all memory is known. */
    uint64_t (*memory_id)(void *impl, const void *address);

    int (*stream_create)(void *impl, enum rfn_stream_kind kind, void **ret);
    void *(*stream_builtin)(void *impl,
                            enum rfn_stream_kind kind); /* legacy, per-thread */
    /* A stream of somebody else: what the front end passes for it, and its kind. */
    int (*stream_import)(void *impl, void *native, enum rfn_stream_kind *ret_kind,
                         void **ret);
    int (*stream_destroy)(void *impl, void *stream); /* never an imported one */
    int (*stream_sync)(void *impl, void *stream);
    int (*stream_query)(void *impl, void *stream);
    int (*stream_wait)(void *impl, void *stream, void *event, uint32_t flags);

    int (*event_create)(void *impl, void **ret);
    /* Without times, which makes a record cheaper. NULL: no cheaper one. */
    int (*event_create_plain)(void *impl, void **ret);
    int (*event_destroy)(void *impl, void *event);
    int (*event_record)(void *impl, void *event, void *stream, uint32_t flags);
    int (*event_sync)(void *impl, void *event);
    int (*event_query)(void *impl, void *event);
    int (*event_elapsed)(void *impl, void *start, void *end, float *ret_ms);

    int (*copy_sync)(void *impl, const struct rfn_copy *copy);
    int (*copy_async)(void *impl, void *stream, const struct rfn_copy *copy);
    int (*set_sync)(void *impl, const struct rfn_set *set);
    int (*set_async)(void *impl, void *stream, const struct rfn_set *set);
    int (*host_call)(void *impl, void *stream, void (*fn)(void *), void *user);
    /* What launch would refuse of checked arguments; no effect, in captures too. */
    int (*supports)(void *impl, const struct rfn_op *op, const void *args);
    /* `args` lives until the call returns. *ret_node: the node (its last) when the launch
     * was captured, else NULL; good for exec_update on executables of that graph. */
    int (*launch)(void *impl, void *stream, const struct rfn_op *op, const void *args,
                  void **ret_node);

    int (*capture_begin)(void *impl, void *stream, enum rfn_capture_mode mode);
    int (*capture_end)(void *impl, void *stream, void **ret_graph); /* NULL on error */
    /* No effect on any capture. Legacy beside a blocking capture: 906. */
    int (*capture_query)(void *impl, void *stream, struct rfn_capture_info *ret);
    int (*capture_add_child)(void *impl, void *stream, void *graph);
    /* Of the capture that the stream is in, begun by somebody else: release(user) comes once
     * when the capture is over and its graph, all copies of it and their executables are
     * gone, or when this fails. It comes on any thread, within any call: it must not call the
     * device nor take a lock. */
    int (*capture_hold)(void *impl, void *stream, void (*release)(void *user),
                        void *user);
    /* That release came for this one and nothing will be asked of it any more. NULL: the
     * device keeps nothing of captures of others. */
    void (*capture_forget)(void *impl, uint64_t id);

    void *(*graph_native)(void *graph); /* the platform's own handles */
    void *(*exec_native)(void *exec);
    int (*graph_count)(void *impl, void *graph, int32_t node[RFN_NODE_TYPES]);
    /* The first *nodes nodes in order of capture, children not opened; *nodes becomes the
     * number of all of them. */
    int (*graph_nodes)(void *impl, void *graph, struct rfn_native_node *ret,
                       int32_t *nodes);
    /* What is in it, see runtime/image.h; *ret and the store start out zeroed. */
    int (*graph_image)(void *impl, void *graph, struct rfn_image_store *store,
                       struct rfn_image_raw *ret);
    /* The same of somebody else's handle. NULL: the device has no such handles. */
    int (*native_image)(void *impl, void *native, struct rfn_image_store *store,
                        struct rfn_image_raw *ret);
    int (*graph_destroy)(void *impl, void *graph);
    int (*graph_instantiate)(void *impl, void *graph, void **ret_exec);
    int (*exec_launch)(void *impl, void *exec, void *stream);
    /* Orders the stream behind every earlier launch and upload of the executable. */
    int (*exec_upload)(void *impl, void *exec, void *stream);
    int (*exec_update)(void *impl, void *exec, void *node, const struct rfn_op *op,
                       const void *args);
    int (*exec_destroy)(void *impl, void *exec); /* waits for a launch in flight */

    /* As rfn_device_touches. NULL: the device sees none. */
    int (*touches)(void *impl, struct rfn_touch *ret, int max);
};

extern const struct rfn_backend rfn_backend_host;
#if RFN_CUDA
extern const struct rfn_backend rfn_backend_cuda;
#endif

#endif
