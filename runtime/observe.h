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
    X(stream_create) X(stream_import) X(stream_destroy) X(stream_sync) X(stream_query)   \
    X(stream_wait)                                                                       \
    X(event_create) X(event_destroy) X(event_record) X(event_sync) X(event_query)        \
    X(event_elapsed)                                                                     \
    X(copy_sync) X(copy_async) X(set_sync) X(set_async) X(host_call) X(op_launch)        \
    X(capture_begin) X(capture_end) X(capture_query) X(capture_add_child)                \
    X(graph_instantiate) X(graph_destroy)                                                \
    X(exec_launch) X(exec_upload) X(exec_update) X(exec_destroy)                         \
    X(region_end) /* of one that left a capture open, or of a plan that copied */        \
    /* of other headers, with a notice or what it read of the host's memory (src) only */\
    X(attention_plan) X(attention_update) X(attention_forward) X(ladder_prepare)         \
    X(replay_compare) X(check_create) X(check_require)
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

#define RFN_CALL_HITS 8

/* What was found in front of a call that was not made, or beside one. */
enum rfn_notice
{
    RFN_NOTICE_NONE = 0,
    RFN_NOTICE_STALE,   /* a plan or table is not what was recorded */
    RFN_NOTICE_BUDGET,  /* a graph is over the memory budget */
    RFN_NOTICE_CHURN,   /* the same graph is captured again and again */
    RFN_NOTICE_DIFFERS, /* a replay gave other bytes than the eager step */
    RFN_NOTICE_SLOW,    /* the environment makes launches wait */
    RFN_NOTICE_UNSEEN,  /* a capture that the observer saw nothing of */
    /* A step that is compared begins to run eagerly, has run, and the same of its replay. */
    RFN_NOTICE_EAGER,
    RFN_NOTICE_EAGER_END,
    RFN_NOTICE_REPLAY,
    RFN_NOTICE_REPLAY_END,
};

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
    /* After the call: the capture that the calling thread began last and has not ended. */
    struct rfn_capture_info caller;
    /* The captures of the device that the call invalidated: how many, and the first ids. */
    int32_t hits;
    uint64_t hit[RFN_CALL_HITS];
    const char *region; /* "decode > forward 3", "" outside of regions */
    struct rfn_event *event;
    uint32_t flags;          /* of event_record and stream_wait */
    struct rfn_graph *graph; /* capture_end: the new graph, NULL on failure */
    int32_t nodes;           /* capture_end: of the new graph */
    int32_t kernels;         /* and how many are kernels or child graphs; -1: unknown */
    struct rfn_exec *exec;
    uint64_t exec_serial; /* exec_launch, exec_destroy */
    /* copy_async, outside captures: the innermost of the thread's regions that is a plan, 0:
     * none (region.c); region_end: the plan that ended, 0: another region. */
    uint64_t plan;
    int exec_updated;  /* exec_launch: arguments were replaced since it was made */
    uint64_t graph_id; /* exec_launch, capture_add_child: the capture it came from */
    const struct rfn_op *op; /* op_launch, exec_update */
    const void *args;
    enum rfn_capture_mode mode; /* capture_begin, thread_mode_exchange (the new) */
    const char *name; /* capture_begin, region_end; attention_plan: what it read */
    /* capture_begin, capture_end: of a capture that somebody else began, when it was first
     * seen and when it was seen to be over. Nobody made the call here. copy_async: on an
     * imported stream, which others may have waited for. */
    int foreign;
    /* copies, sets, memory calls */
    const void *dst;
    const void *src;
    int64_t bytes;
    enum rfn_memory_kind dst_kind;
    enum rfn_memory_kind src_kind;
    int dry;                /* for the rules: `code` is what a capture would give */
    enum rfn_notice notice; /* the event tells of this only; its sentence is `why` */
    int src_on_stack;       /* copy_async: pageable, on the calling thread's stack */
};

/* An access of the host to pinned memory, before it had waited for a copy from or to it. */
struct rfn_touch
{
    const void *address;
    int64_t pending_bytes; /* of the copy */
    int wrote;             /* the access wrote */
    int into;              /* the copy (or set) writes the memory */
    const char *file;      /* site of the copy */
    int line;
};

struct rfn_observer
{
    void *ctx;
    void (*on_call)(void *ctx, const struct rfn_call_event *event);
};

/* Sets the observer, NULL to take it off; RFN_BUSY when another one is there. */
enum rfn_status rfn_device_observe(struct rfn_device *device,
                                   const struct rfn_observer *observer);

/* Looks which captures of somebody else are over, and tells the observer of them. */
void rfn_device_look(struct rfn_device *device);

/* How many touches there were since the device was opened, always 0 where none are seen;
 * fills in the first `max`, of which a device may have kept fewer: the others have a NULL
 * address. */
int rfn_device_touches(struct rfn_device *device, struct rfn_touch *ret, int max);

#endif
