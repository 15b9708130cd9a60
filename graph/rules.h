/*
 * The live rules: fed with every call of a device, they follow which captures are open, by
 * whom and on what streams, and keep what is wrong. Nothing here locks; check.c does.
 *
 * A call gives at most one finding: the first line that fits. `own`: its thread has a
 * capture open. `refused`: 900 or 906. `node`: it became a node of the stream's capture.
 *
 *   call                        first that fits
 *   copy (sync, async)          057 own or node, at most 16 bytes from pageable memory to the
 *                                   device, whatever the stream and the outcome
 *   copy_async, node            056 covers a pool of an op launch, as source or target (also
 *                                   of a launch that comes later in the capture)
 *                               024 pageable target
 *                               023 source on the calling thread's stack
 *                               003 any other pageable source
 *   copy_async, set_async,      012 own, on the legacy stream, refused or not
 *   host_call, op_launch,       004 own, on another stream without a capture
 *   no node                     010 not own, refused
 *   copy_sync, set_sync         002 own; 010 not own, refused
 *   event_sync, event_query,    011 the event is captured (907; 1 when that capture is over or
 *   event_elapsed                   lost), whoever asks
 *   event_sync, stream_sync,    001 own, refused or not, of the legacy stream too
 *   device_sync                 010 not own, refused
 *   memory_alloc, memory_free   009 own, refused or not (a free of NULL only if refused)
 *                               010 not own, refused
 *   stream_wait, in a capture   016 an event of another open capture (902; 1 when it is lost)
 *                               015 an event from outside (905) or of a capture that is over (1)
 *   all but capture_query       012 own, on the legacy stream, 906
 *                               010 not own, refused
 *   capture_begin               013 on a blocking or per-thread stream
 *   capture_end                 014 (904; at the fork), 033 (908), 034 (901; at the culprit),
 *                               045 no kernel; 053 watched memory has changed, beside any
 *   notice                      027, 031, 046, 047, 051, 054: decided where the call is made
 *   copy, set, host_call,       055 not own, done, while the thread captures on another device
 *   op_launch, no node              that has a checker too
 *   stream_query, event_query,  035 own, let through by relaxed mode
 *   graph_instantiate,
 *   exec_destroy
 *   exec_launch, done           048 its own last launch, 029 one of another executable with
 *                                   memory that either writes, 028 a read of what it writes:
 *                                   is not ordered before it (graph/order.h)
 *   stream_destroy, region_end,
 *   check_destroy               032 the capture of the origin, region or device is open
 *   the host, touching pinned   017 the target, 018 the source of a copy that it has not
 *   memory                          waited for
 *   attention_plan, done        017 it read lengths from the target of such a copy
 *   region_end, of a plan       017 such a copy was made in it: heuristic, for what is decided
 *                                   there may not have waited (rules_plan.c)
 *
 * In a dry run calls are judged as they would be in a capture (rules_dry.c): on its streams
 * they count as nodes, and what a capture refuses without another rule is 034 at once.
 *
 * Beside another finding:
 *   013 stands beside all others: it speaks of the capture, not of a call.
 *   034 only for a culprit that gave no finding itself, of whatever capture: stream_query and
 *       event_query of the thread's own, graph_instantiate, exec_destroy, exec_launch on the
 *       capturing stream, capture_end on a joined one (903), calls that nobody saw.
 *   045 only when nothing but 013 was found in the capture: work that went elsewhere (004,
 *       012) has been named where it went.
 */
#ifndef RFN_GRAPH_RULES_H
#define RFN_GRAPH_RULES_H

#include "runtime/observe.h"

#include <refrain/check.h>

/* Ids of dry runs (rfn_check_dry_begin), which are no captures of the device's. */
#define RFN_RULES_DRY (UINT64_C(1) << 63)

/* Findings are preallocated, so that a full heap loses none; past these one further finding
 * says how many were not kept. An error that finds no room takes that of the oldest finding
 * that is none. */
#define RFN_RULES_KEPT 1024
/* Captures in which one rule and site is told apart; the others count with the last. */
#define RFN_RULES_TOLD 8
/* What else is remembered, the oldest forgotten first. */
#define RFN_RULES_EVENTS 256 /* events and where they were recorded last */
#define RFN_RULES_COPIES 256 /* sites of copies */
#define RFN_RULES_POOLS 512  /* pools of op launches */
#define RFN_RULES_FETCHES 64 /* copies to the host that it has not waited for */
#define RFN_RULES_MEMBERS 16 /* streams of a capture that are told apart */
#define RFN_RULES_WATCHES 16
#define RFN_RULES_REGION 128 /* bytes of a region's text */

struct rfn_rules_finding
{
    struct rfn_finding finding;
    char why[512];
    char driver[512];
    char region[RFN_RULES_REGION];
};

/* A call, as a finding shows it. */
struct rfn_rules_where
{
    enum rfn_call call;
    int code;
    struct rfn_site site;
    uint64_t thread;
    uint64_t stream; /* 0: none */
    enum rfn_stream_kind kind;
    char region[RFN_RULES_REGION];
};

/* How much of each member's work something knows of. */
struct rfn_rules_known
{
    uint32_t work[RFN_RULES_MEMBERS];
};

/* A stream in a capture, the first is the origin. */
struct rfn_rules_member
{
    uint64_t stream;
    uint64_t thread; /* of a per-thread stream */
    struct rfn_rules_where fork;
    struct rfn_rules_known known; /* its own work too */
};

/* A capture between its begin and its end. */
struct rfn_rules_capture
{
    uint64_t id;
    uint64_t thread; /* that began it */
    uint64_t stream; /* serial of the origin */
    enum rfn_stream_kind kind;
    enum rfn_capture_mode mode;
    int foreign; /* begun by somebody else: mode and origin are not known */
    enum rfn_capture_status status; /* as far as it was seen */
    char name[64];
    struct rfn_rules_where begun;
    int found;     /* something but CAP013 was reported in it */
    int hit;       /* a call that was seen invalidated it: */
    int explained; /* and was reported */
    struct rfn_rules_where culprit;
    int left;                            /* CAP032 was reported */
    uint64_t watched[RFN_RULES_WATCHES]; /* digests at its begin */
    struct rfn_rules_member member[RFN_RULES_MEMBERS];
    int32_t members;
    int crowded; /* there were more */
};

struct rfn_rules_event
{
    const struct rfn_event *event;
    uint64_t capture_id; /* 0: recorded outside */
    struct rfn_rules_where at;
    struct rfn_rules_known known;
};

struct rfn_rules_copy
{
    struct rfn_rules_where at;
    uint64_t capture_id; /* 0: outside */
    const void *dst;
    const void *src; /* NULL: a set */
    int64_t bytes;
    int node;
    int reported;
};

/* A copy to pinned memory outside captures. */
struct rfn_rules_fetch
{
    struct rfn_rules_where at;
    uint64_t plan; /* the region that it belongs to, 0: none */
    int32_t lane;  /* in the order of things (graph/order.h) */
    uint32_t time;
    const void *dst;
    int64_t bytes; /* 0: free */
};

struct rfn_rules_pool
{
    const char *begin;
    int64_t bytes;
    const char *op;
    const char *operand;
};

struct rfn_rules_watch
{
    char name[48];
    const void *address;
    int64_t bytes; /* 0: none */
};

struct rfn_order; /* graph/order.h */

struct rfn_rules
{
    /* Twice as many as are kept: what gave way to an error stays where it is, for its strings
     * were handed out. Each gives way once, and never an error, so this is enough. */
    struct rfn_rules_finding *store;
    int32_t stored;
    struct rfn_rules_finding **finding; /* what is kept, in the order of first sight */
    int32_t findings;
    struct rfn_finding lost; /* count 0: nothing was lost */
    int64_t reports;         /* in all, repeated and lost ones too */
    struct rfn_rules_capture *open;
    int32_t opens;
    int32_t open_room;
    struct rfn_rules_event *event;
    struct rfn_rules_copy *copy;
    struct rfn_rules_pool *pool;
    struct rfn_rules_fetch *fetch;
    uint64_t events; /* how many were remembered, ever */
    uint64_t copies;
    uint64_t pools;
    uint64_t fetches;
    struct rfn_order *order;
    struct rfn_rules_watch watch[RFN_RULES_WATCHES];
    /* Their bytes at the begin and the end of the eager run that is compared, and of its
     * replay; of the thread that compares. */
    uint64_t ran[4][RFN_RULES_WATCHES];
    uint64_t ran_thread;
    int32_t ran_watches;
    int32_t ended; /* captures seen to their end */
    uint64_t dry;  /* the dry run that is open, 0: none */
    int32_t dry_nodes;
    int32_t dry_kernels;
    int touches; /* already reported */
};

enum rfn_status rfn_rules_init(struct rfn_rules *rules);
void rfn_rules_release(struct rfn_rules *rules);

void rfn_rules_feed(struct rfn_rules *rules, const struct rfn_call_event *event);

/* `all` touches that the device counted, of which the first `kept` are there; what was seen
 * before is left out. */
void rfn_rules_touched(struct rfn_rules *rules, const struct rfn_touch *touch, int kept,
                       int all);

/* Watches host memory; 0: there is no place. */
int rfn_rules_watch(struct rfn_rules *rules, const char *name, const void *address,
                    int64_t bytes);

/* Whether a capture was seen to begin and not to end. */
int rfn_rules_is_open(const struct rfn_rules *rules, uint64_t capture_id);

/* The checker is about to go: a finding for each capture that is open. The first of them,
 * NULL when there is none. */
const struct rfn_rules_capture *rfn_rules_leave(struct rfn_rules *rules,
                                                struct rfn_site site);

int32_t rfn_rules_count(const struct rfn_rules *rules);

/* NULL past the last. */
const struct rfn_finding *rfn_rules_at(const struct rfn_rules *rules, int32_t i);

#endif
