/*
 * The capture validator: a checker listens to what a device is told, keeps a ledger of what
 * each capture holds, and reports what CUDA refuses late or lets pass in silence.
 *
 * Attach it before the first capture. It sees every call of device.h, ours or a caller's,
 * in captures that any thread opened on that device.
 */
#ifndef REFRAIN_CHECK_H
#define REFRAIN_CHECK_H

#include <refrain/device.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_check;

/* X(id, name, severity, what is wrong, how to fix it). Ids are stable. */
/* clang-format off */
#define RFN_RULE_LIST(X)                                                                 \
    X(CAP001, host-sync, ERROR,                                                          \
      "the host waits for the device inside a capture",                                  \
      "move the wait before the capture, or keep the decision on the device")            \
    X(CAP002, sync-copy, ERROR,                                                          \
      "a synchronous copy or set inside a capture runs now and is not in the graph",     \
      "use the asynchronous form on the capturing stream from pinned memory, or plan "   \
      "outside the capture")                                                             \
    X(CAP003, pageable-copy, ERROR,                                                      \
      "an asynchronous copy of pageable memory was captured: every replay uses that "    \
      "host address again",                                                              \
      "copy through pinned memory that lives as long as the graph, before the launch")   \
    X(CAP004, stray-stream, ERROR,                                                       \
      "work on a stream that is not part of the capture runs now, never at replay",      \
      "pass the capturing stream, or fork the other one with an event and join it")
/* clang-format on */

enum rfn_rule
{
#define RFN_RULE_ENUM(id, name, severity, why, fix) RFN_##id,
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
    const char *api;     /* "copy_sync" */
    uint64_t capture_id; /* the capture that was open */
    uint64_t stream;     /* serial number of the call's stream, 0: it had none */
    uint64_t thread;
    enum rfn_capture_status status_after; /* of that capture */
    int32_t code;       /* CUDA error number of the call, 0: it passed */
    int64_t count;      /* how often from this site in this capture */
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
    uint64_t stream;
    uint64_t thread;
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
    const char *why;
    const char *fix;
};

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
 * Capture   Outside captures; one that is already open is not seen.
 * Threads   One at a time on a device.
 * Errors    RFN_BUSY: the device has one. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_check_create(struct rfn_device *device,
                                         struct rfn_check **ret_check);

/**
 * Takes the checker off its device and frees it; sets *check to NULL.
 *
 * Capture   Outside captures.
 * Threads   No device call may be under way.
 * Errors    RFN_INVALID: `check` itself is NULL; *check may be.
 */
RFN_API enum rfn_status rfn_check_destroy(struct rfn_check **check);

/**
 * How many findings there are: equal sites in one capture count once.
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

/**
 * How many entries the ledger holds for a capture; -1 for a capture it has not seen.
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
 * Errors    RFN_NOT_FOUND: no such capture or entry.
 */
RFN_API enum rfn_status rfn_check_ledger(struct rfn_check *check, uint64_t capture_id,
                                         int32_t i, struct rfn_ledger_entry *ret_entry,
                                         struct rfn_ledger_access *ret_access,
                                         int32_t max);

#ifndef RFN_NO_SITES
#define rfn_check_create(...) RFN_SITED(rfn_check_create(__VA_ARGS__))
#define rfn_check_destroy(...) RFN_SITED(rfn_check_destroy(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
