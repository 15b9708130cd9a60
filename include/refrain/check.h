/*
 * The capture validator: a checker listens to what a device is told, keeps a ledger of what
 * each capture holds, and reports what CUDA refuses late or lets pass in silence.
 *
 * Attach it before the first capture. It sees every call of device.h, ours or a caller's,
 * in captures that any thread opened on that device. A capture that somebody else began is
 * followed from the first call that meets it, on a stream of ours or with an imported stream
 * in it, by the thread that makes the call or imported the stream; that it is over is seen at
 * the next call.
 */
#ifndef REFRAIN_CHECK_H
#define REFRAIN_CHECK_H

#include <refrain/device.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_check;

/* X(id, name, severity, confidence, what is wrong, how to fix it). Ids are stable. Which rule
 * speaks where several could: graph/rules.h. */
/* clang-format off */
#define RFN_RULE_LIST(X)                                                                 \
    X(CAP001, host-sync, ERROR, PROVED,                                                  \
      "the host waits for the device inside a capture",                                  \
      "move the wait before the capture, or keep the decision on the device")            \
    X(CAP002, sync-copy, ERROR, PROVED,                                                  \
      "a synchronous copy or set inside a capture runs now and is not in the graph",     \
      "use the asynchronous form on the capturing stream from pinned memory, or "        \
      "plan outside the capture")                                                        \
    X(CAP003, pageable-copy, ERROR, PROVED,                                              \
      "an asynchronous copy from pageable memory was captured: every replay reads "      \
      "that host address again",                                                         \
      "copy through pinned memory that lives as long as the graph, before the "          \
      "launch")                                                                          \
    X(CAP004, stray-stream, ERROR, PROVED,                                               \
      "work on a stream that is not part of the capture runs now, never at replay",      \
      "pass the capturing stream, or fork the other one with an event and join it")      \
    X(CAP005, baked-scalar, ERROR, PROVED,                                               \
      "a value that differs between recordings of one step is baked into the graph",     \
      "keep it in device memory that the step reads, or declare it dynamic and "         \
      "update the executable before each launch")                                        \
    X(CAP006, baked-launch-shape, ERROR, PROVED,                                         \
      "a recording of the same step with other inputs has other nodes, launch shapes or "\
      "extents",                                                                         \
      "launch for the bounds, and let the kernels read the live counts on the device")   \
    X(CAP007, dangling-pointer, ERROR, PROVED,                                           \
      "the graph holds an address whose memory is gone",                                 \
      "keep the memory until the last replay, or capture again")                         \
    X(CAP008, reused-address, ERROR, PROVED,                                             \
      "the graph holds an address that belongs to another allocation by now",            \
      "keep the memory until the last replay, or capture again")                         \
    X(CAP009, alloc-in-capture, ERROR, PROVED,                                           \
      "memory is allocated or freed inside a capture, which no replay repeats",          \
      "allocate everything before the capture and free it after the last replay")        \
    X(CAP010, other-thread, ERROR, PROVED,                                               \
      "a thread without a capture made a call that another thread's capture "            \
      "forbids, and took that capture with it",                                          \
      "capture in thread-local mode, or switch that thread to relaxed mode around "      \
      "the call")                                                                        \
    X(CAP011, captured-event, ERROR, PROVED,                                             \
      "the host asks about an event that was recorded in a capture and never "           \
      "happens",                                                                         \
      "use an event that is recorded outside, or record it with RFN_EVENT_EXTERNAL "     \
      "so that each replay does")                                                        \
    X(CAP012, legacy-stream, ERROR, PROVED,                                              \
      "the legacy stream is used inside a capture, which it can never be part of",       \
      "pass the capturing stream, in libraries too; the legacy stream is what they "     \
      "use unless told")                                                                 \
    X(CAP013, blocking-capture, WARNING, PROVED,                                         \
      "a stream that orders with the legacy stream is captured, so any use of the "      \
      "legacy stream destroys the capture",                                              \
      "capture on a stream that was created non-blocking")                               \
    X(CAP014, unjoined-fork, ERROR, PROVED,                                              \
      "a stream was drawn into a capture and its work does not lead back to the "        \
      "origin stream",                                                                   \
      "record an event on the forked stream behind its last work and let the "           \
      "origin wait for it before the end")                                               \
    X(CAP015, isolation, ERROR, PROVED,                                                  \
      "a captured stream waits for an event that was recorded outside its capture",      \
      "wait before the capture begins, or wait with RFN_EVENT_EXTERNAL")                 \
    X(CAP016, merge, ERROR, PROVED,                                                      \
      "a captured stream waits for an event of another capture, which loses both",       \
      "capture both streams into one graph from one origin, or order the two "           \
      "graphs when they are launched")                                                   \
    X(CAP017, early-host-read, ERROR, PROVED,                                            \
      "the host touches the target of an asynchronous copy that it has not waited "      \
      "for",                                                                             \
      "wait for the stream, or for an event behind the copy, before using what was "     \
      "copied")                                                                          \
    X(CAP018, staging-overwritten, ERROR, PROVED,                                        \
      "the host overwrites the pinned source of an asynchronous copy that it has "       \
      "not waited for",                                                                  \
      "use a ring of slots, and wait for an event behind a slot's last copy before "     \
      "writing it again")                                                                \
    X(CAP021, library-workspace, WARNING, HEURISTIC,                                     \
      "a library takes its workspace from memory nodes in the graph, anew at every "     \
      "replay",                                                                          \
      "give the library a workspace of its own before the capture")                      \
    X(CAP022, unordered-writes, ERROR, PROVED,                                           \
      "two nodes without an order between them touch the same bytes, and one writes",    \
      "order them with an event, or give each its own memory")                           \
    X(CAP023, host-local-source, ERROR, PROVED,                                          \
      "a captured copy reads the stack of the thread that captured it, at every "        \
      "replay",                                                                          \
      "put the values into pinned memory that lives as long as the graph, or pass "      \
      "them as arguments")                                                               \
    X(CAP024, copy-to-pageable, ERROR, PROVED,                                           \
      "an asynchronous copy to pageable memory was captured: every replay writes "       \
      "that host address again",                                                         \
      "copy to pinned memory that lives as long as the graph, and read it behind a "     \
      "wait")                                                                            \
    X(CAP025, memory-nodes, WARNING, PROVED,                                             \
      "the graph allocates or frees memory at every replay",                             \
      "allocate before the capture, so that replays keep their addresses and the "       \
      "memory is counted")                                                               \
    X(CAP026, host-node, WARNING, PROVED,                                                \
      "every replay calls the host and waits for its function",                          \
      "keep the decision on the device, or call the function behind the replay")         \
    X(CAP027, stale-plan, ERROR, PROVED,                                                 \
      "a plan or table is not the one that the update, forward or graph was made for; "  \
      "the call was refused",                                                            \
      "plan each step once, for the bucket that runs it, and keep tables at their "      \
      "capacity stride")                                                                 \
    X(CAP028, output-overwritten, ERROR, PROVED,                                         \
      "a replay writes what work on another stream may still have to read",              \
      "record an event behind the reading work and let the replay's stream wait for "    \
      "it, or let the graph write to another buffer in turn")                            \
    X(CAP029, shared-workspace, ERROR, PROVED,                                           \
      "two graphs that share memory which one of them writes are launched without an "   \
      "order",                                                                           \
      "launch them on one stream, or let the second stream wait for an event behind "    \
      "the first launch")                                                                \
    X(CAP031, replay-differs, ERROR, PROVED,                                             \
      "a replay gave other bytes than the same step run eagerly",                        \
      "look for what the capture baked: scalars, shapes, addresses, work that went "     \
      "elsewhere")                                                                       \
    X(CAP032, left-open, ERROR, PROVED,                                                  \
      "a capture was still open when what it belongs to went away",                      \
      "end every capture on every path, errors included")                                \
    X(CAP033, wrong-thread, ERROR, PROVED,                                               \
      "a capture was ended by a thread that did not begin it",                           \
      "end it in the thread that began it, or begin it in relaxed mode")                 \
    X(CAP034, first-offender, ERROR, PROVED,                                             \
      "a capture was lost to a call that no other rule speaks of",                       \
      "move that call out of the capture")                                               \
    X(CAP035, relaxed-unsafe, WARNING, PROVED,                                           \
      "a call that stream capture forbids was let through by relaxed mode; what it "     \
      "decides is baked",                                                                \
      "make the call outside the capture, and capture in thread-local mode")             \
    X(CAP037, baked-tensor-map, INFO, HEURISTIC,                                         \
      "a kernel takes a tensor map by value, so an address and extents are baked "       \
      "where no update of a pointer reaches them",                                       \
      "keep the tensor behind the map where it is, or capture again when it moves")      \
    X(CAP038, ranks-differ, ERROR, PROVED,                                               \
      "ranks captured different graphs of one step, so that their collectives wait for " \
      "each other for ever or mix up what they carry",                                   \
      "record the same ops with the same bounds on every rank, and declare what is a "   \
      "rank's own, its number for one, dynamic")                                         \
    X(CAP040, not-inspected, INFO, HEURISTIC,                                            \
      "a node that could not be looked into, a conditional's body for one, may hold "    \
      "whatever no rule could see",                                                      \
      "look at it before it is added: at a body's own graph, at what a copy is told")                                 \
    X(CAP045, empty-graph, WARNING, HEURISTIC,                                           \
      "a graph without a kernel came out of a capture",                                  \
      "look whether the work went to another stream, or do not capture where there "     \
      "is none")                                                                         \
    X(CAP046, graph-budget, WARNING, PROVED,                                             \
      "one graph alone takes more than the memory budget of its ladder",                 \
      "raise the budget, or capture smaller buckets")                                    \
    X(CAP047, recapture-churn, WARNING, HEURISTIC,                                       \
      "the same bucket is captured again and again",                                     \
      "raise the ladder's budget, or use fewer buckets, so that its graphs stay")        \
    X(CAP048, in-flight-twice, WARNING, PROVED,                                          \
      "an executable is launched on another stream while its last launch was not "       \
      "waited for",                                                                      \
      "let the second stream wait for an event behind the first launch, or make one "    \
      "executable a stream")                                                             \
    X(CAP051, blocking-environment, WARNING, PROVED,                                     \
      "the environment makes every launch wait for its end",                             \
      "unset it for anything but the search for a fault: it hides races and costs "      \
      "what graphs save")                                                                \
    X(CAP053, host-side-effect, WARNING, PROVED,                                         \
      "a captured function changed host memory that it was said to leave alone: no "     \
      "replay does that again",                                                          \
      "move the change to the caller, behind the launch")                                \
    X(CAP054, not-attached, ERROR, PROVED,                                               \
      "a capture that was to be checked was not seen",                                   \
      "attach the checker before the first capture, on the device that captures")        \
    X(CAP055, other-device, ERROR, PROVED,                                               \
      "work goes to another device while the thread captures: it runs now, never at "    \
      "replay",                                                                          \
      "launch on the device that captures, or capture there too")                        \
    X(CAP056, whole-cache-copy, ERROR, PROVED,                                           \
      "a captured copy moves a whole cache at every replay",                             \
      "hand the pool over as a view with other strides; a swap of an axis of "           \
      "extent 1 needs no copy")                                                          \
    X(CAP057, host-scalar, ERROR, HEURISTIC,                                             \
      "a scalar goes to the device as a tensor in host memory",                          \
      "make it a field of the argument struct, or keep it in device memory from "        \
      "before the capture")
/* clang-format on */

enum rfn_rule
{
#define RFN_RULE_ENUM(id, name, severity, confidence, why, fix) RFN_##id,
    RFN_RULE_LIST(RFN_RULE_ENUM)
#undef RFN_RULE_ENUM
    RFN_RULES
};

enum rfn_severity
{
    RFN_INFO = 0,
    RFN_WARNING,
    RFN_ERROR,
};

enum rfn_confidence
{
    RFN_PROVED = 0,
    RFN_HEURISTIC,
};

/* One thing that is wrong. Strings live as long as the checker. */
struct rfn_finding
{
    enum rfn_rule rule;
    enum rfn_severity severity;
    enum rfn_confidence confidence;
    const char *file; /* call site */
    int32_t line;
    const char *region;  /* of the call: "decode > forward 3", "" outside of regions */
    const char *api;     /* "copy_sync" */
    uint64_t capture_id; /* the capture that was open, 0: none */
    uint64_t stream;     /* serial number of the call's stream, 0: it had none */
    uint64_t thread;
    enum rfn_capture_status status_after; /* of that capture */
    int32_t code;  /* CUDA error number of the call, 0: it passed */
    int64_t count; /* from this site in this capture, see rfn_check_count */
    int32_t node;  /* of lint.h and diff.h: the first one's place in the image, from 1, or
                         * that of the child it is in; 0: no node */
    const char *why;    /* one sentence, with the values of this case */
    const char *fix;    /* one sentence */
    const char *driver; /* what the device itself said, "" when nothing */
};

/* One launch, copy, set or host function of a capture, in capture order. */
struct rfn_ledger_entry
{
    const char *what; /* op name, or the call: "copy_async" */
    const char *file; /* call site */
    int32_t line;
    const char
        *region; /* of the call, "" outside of regions; until the capture is dropped */
    uint64_t stream;
    uint64_t thread;
    int32_t launch; /* an op's */
    int32_t accesses;
};

/* Memory that an entry touches. */
struct rfn_ledger_access
{
    const char *operand; /* "slots", "dst" */
    const void *address;
    int64_t bytes;
    enum rfn_access access;
    enum rfn_memory_kind kind;
    uint64_t generation; /* of the allocation, when captured; 0: unknown memory */
};

struct rfn_rule_info
{
    const char *id;   /* "CAP001" */
    const char *name; /* "host-sync" */
    enum rfn_severity severity;
    enum rfn_confidence confidence;
    const char *why;
    const char *fix;
};

/**
 * Begins a region of the calling thread: a name that findings carry, inside of the regions
 * that are open. The name is copied; a long one is cut, and past 16 regions the text says how
 * many deeper ones there are. Each begin that gave RFN_OK has an end.
 *
 * A region whose name begins with "plan" is taken to decide by what it copies to the host: see
 * rfn_region_end. Copies that are read in a later step belong outside of such regions.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any; the regions are the calling thread's own.
 * Errors    RFN_INVALID: name is NULL; no region was begun.
 */
RFN_API enum rfn_status rfn_region_begin(const char *name);

/**
 * Ends the innermost region. A capture that the thread began in it and has not ended is a
 * finding (CAP032). So is, for a region whose name begins with "plan", an asynchronous copy to
 * pinned memory that the thread made in it outside captures and that nothing has waited for:
 * CAP017 at the copy's call site, a warning and heuristic, for whether the host has looked is
 * seen on a host device with its fault handler only (then it is proved). Waiting is
 * a sync or a successful query of the stream, or of an event or another stream behind it, of
 * the device, or a synchronous copy that orders with it; on imported streams, where others may
 * wait, nothing is said.
 *
 * Capture   Safe.
 * Threads   Any; not beside the closing of a device on which the region began a capture.
 * Errors    RFN_INVALID: the thread has no region open. RFN_LIMIT: the region ended, but it
 *           began captures on more than 16 devices and looked at the first 16.
 */
RFN_API enum rfn_status rfn_region_end(void);

/**
 * Describes a rule; NULL for a value that is none.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const struct rfn_rule_info *rfn_rule_query(enum rfn_rule rule);

/**
 * Attaches a checker to a device.
 *
 * Capture   Outside captures; one that is already open is not seen, and is a finding (CAP054).
 * Threads   One at a time on a device.
 * Errors    RFN_BUSY: the device has one. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_check_create(struct rfn_device *device,
                                         struct rfn_check **ret_check);

/**
 * Takes the checker off its device and frees it; sets *check to NULL.
 *
 * Capture   Outside captures: while one is open the checker stays, with a finding (CAP032).
 * Threads   No device call may be under way.
 * Errors    RFN_INVALID: `check` itself is NULL; *check may be. RFN_BUSY: a capture is open,
 *           naming it.
 */
RFN_API enum rfn_status rfn_check_destroy(struct rfn_check **check);

/**
 * Watches host memory: when it has other bytes at the end of a capture than at its begin,
 * there is a finding (CAP053); and when a step that rfn_replay_compare runs changes it eagerly
 * and its replay does not. For counters and flags that a captured function might change.
 * The memory is plain host memory that stays readable as long as the checker; whatever else
 * changes it during a capture is found too. `name` is copied, and cut at 47 bytes.
 *
 * Capture   Safe; open captures are watched from now on.
 * Threads   Any.
 * Errors    RFN_INVALID: NULL, or no bytes. RFN_LIMIT: 16 are watched already, or more than
 *           1 MiB.
 */
RFN_API enum rfn_status rfn_check_watch(struct rfn_check *check, const char *name,
                                        const void *address, int64_t bytes);

/**
 * Says that by now at least so many captures have been seen from begin to end; a finding
 * (CAP054) when they were not. For the end of a program that was asked to check its captures.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_NOT_FOUND: fewer were seen, both numbers named. RFN_INVALID: no checker.
 */
RFN_API enum rfn_status rfn_check_require(struct rfn_check *check, int32_t captures);

/**
 * Begins a dry run: the calling thread's calls run as they are and are judged as if `stream`
 * were captured in thread-local mode, its forks included, so that one pass gives all findings
 * where a capture would end with the first. Findings carry bit 63 in capture_id. What other
 * threads do is not judged (CAP010), nor what only a device can say. `name` may be NULL.
 *
 * Capture   Not on a stream in a capture: RFN_CAPTURE.
 * Stream    Nothing is enqueued.
 * Threads   Any; one dry run at a time on a checker.
 * Errors    RFN_INVALID: no checker, or a stream of another device. RFN_BUSY: a dry run is
 *           open, naming its stream.
 */
RFN_API enum rfn_status rfn_check_dry_begin(struct rfn_check *check,
                                            struct rfn_stream *stream, const char *name);

/**
 * Ends it, with what the end of a capture would show (CAP014, CAP033, CAP045, CAP053).
 *
 * Capture   Not on a stream in a capture: RFN_CAPTURE.
 * Stream    Nothing is enqueued.
 * Threads   The one that began it.
 * Errors    RFN_NOT_FOUND: no dry run is open. RFN_INVALID: another stream, both named.
 */
RFN_API enum rfn_status rfn_check_dry_end(struct rfn_check *check,
                                          struct rfn_stream *stream);

/**
 * How many findings there are: equal sites in one capture count once, and a site that gave
 * findings in 8 captures counts all further ones with the last of them. Of 1024 an error that
 * comes later takes the place of the oldest that is none; what has no place is counted in one
 * more finding behind them.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API int32_t rfn_check_count(struct rfn_check *check);

/**
 * The i-th finding in the order of first sight.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_NOT_FOUND past the last, both numbers named.
 */
RFN_API enum rfn_status rfn_check_finding(struct rfn_check *check, int32_t i,
                                          struct rfn_finding *ret_finding);

/**
 * Writes a finding as one paragraph of text with a closing newline, NUL-terminated and cut
 * at `bytes`. Returns the length that it needs.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API size_t rfn_finding_text(const struct rfn_finding *finding, char *text,
                                size_t bytes);

#define RFN_FINGERPRINT_BYTES 512

/**
 * Writes what a finding is known by from run to run: rule, file, call and region, without
 * line, stream, thread, capture and values; of a copy or a set without a file also its bytes.
 * NUL-terminated and cut at `bytes`. Returns the length that it needs.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API size_t rfn_finding_fingerprint(const struct rfn_finding *finding, char *text,
                                       size_t bytes);

/**
 * How many entries the ledger holds for a capture; -1 for a capture it has not seen or has
 * dropped: beside the open ones it keeps the newest 512.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API int32_t rfn_check_ledger_count(struct rfn_check *check, uint64_t capture_id);

/**
 * The i-th ledger entry of a capture, and up to `max` of its accesses.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_NOT_FOUND: no such capture or entry, or a capture that was dropped.
 */
RFN_API enum rfn_status rfn_check_ledger(struct rfn_check *check, uint64_t capture_id,
                                         int32_t i, struct rfn_ledger_entry *ret_entry,
                                         struct rfn_ledger_access *ret_access,
                                         int32_t max);

#ifndef RFN_NO_SITES
#define rfn_region_end() RFN_SITED(rfn_region_end())
#define rfn_check_create(...) RFN_SITED(rfn_check_create(__VA_ARGS__))
#define rfn_check_require(...) RFN_SITED(rfn_check_require(__VA_ARGS__))
#define rfn_check_dry_begin(...) RFN_SITED(rfn_check_dry_begin(__VA_ARGS__))
#define rfn_check_dry_end(...) RFN_SITED(rfn_check_dry_end(__VA_ARGS__))
#define rfn_check_destroy(...) RFN_SITED(rfn_check_destroy(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
