/*
 * What the front end tells an observer: one pointer a device, NULL = off, one branch.
 * Lower layers know nothing of who listens; graph/ registers itself here.
 */
#ifndef RFN_RUNTIME_OBSERVE_H
#define RFN_RUNTIME_OBSERVE_H

#include "runtime/error.h"

#include <refrain/device.h>

/* Every call of device.h that a device sees. */
/* clang-format off */
#define RFN_CALL_LIST(X)                                                                 \
    X(device_sync) X(thread_mode_exchange)                                               \
    X(memory_alloc) X(memory_free) X(memory_import) X(memory_release)                    \
    X(stream_create) X(stream_destroy) X(stream_sync) X(stream_query) X(stream_wait)     \
    X(event_create) X(event_destroy) X(event_record) X(event_sync) X(event_query)        \
    X(event_elapsed)                                                                     \
    X(copy_sync) X(copy_async) X(set_sync) X(set_async) X(host_call) X(op_launch)        \
    X(capture_begin) X(capture_end) X(capture_query) X(capture_add_child)                \
    X(graph_instantiate) X(graph_destroy)                                                \
    X(exec_launch) X(exec_update) X(exec_destroy)
/* clang-format on */

enum rfn_call
{
#define RFN_CALL_ENUM(name) RFN_CALL_##name,
    RFN_CALL_LIST(RFN_CALL_ENUM)
#undef RFN_CALL_ENUM
    RFN_CALLS
};

/* "copy_async" */
const char *rfn_call_name(enum rfn_call call);

/* A call that was made. Pointers live until on_call returns. */
struct rfn_call_event
{
    enum rfn_call call;
    int code;        /* CUDA error number, 0 = done */
    const char *why; /* the device's own words, "" when none */
    struct rfn_site site;
    uint64_t thread;           /* small number, unique a thread */
    struct rfn_stream *stream; /* NULL: the call has none */
    enum rfn_stream_kind stream_kind;
    uint64_t stream_serial;         /* "stream 3" in findings */
    struct rfn_capture_info before; /* of the stream, before the call */
    struct rfn_capture_info after;  /* after it; capture_begin: the new one */
    struct rfn_event *event;
    struct rfn_graph *graph; /* capture_end: the new graph, NULL on failure */
    struct rfn_exec *exec;
    const struct rfn_op *op; /* op_launch, exec_update */
    const void *args;
    enum rfn_capture_mode mode; /* capture_begin, thread_mode_exchange (the new) */
    const char *name;           /* capture_begin */
    /* copies, sets, memory calls */
    const void *dst;
    const void *src;
    int64_t bytes;
    enum rfn_memory_kind dst_kind;
    enum rfn_memory_kind src_kind;
};

struct rfn_observer
{
    void *ctx;
    void (*on_call)(void *ctx, const struct rfn_call_event *event);
};

/* Sets the observer, NULL to take it off; RFN_BUSY when another one is there. */
enum rfn_status rfn_device_observe(struct rfn_device *device,
                                   const struct rfn_observer *observer);

#endif
