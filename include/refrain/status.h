/* Status codes and the last error of the calling thread. */
#ifndef REFRAIN_STATUS_H
#define REFRAIN_STATUS_H

#if defined(__GNUC__) || defined(__clang__)
#define RFN_API __attribute__((visibility("default")))
#define RFN_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define RFN_API
#define RFN_PRINTF(f, a)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, what a caller can do about it). Values are part of the ABI. */
#define RFN_STATUS_LIST(X)                                                               \
    X(OK, 0, "nothing: the call did what it says")                                       \
    X(INVALID, -1, "correct the argument that the error line names; nothing was done")   \
    X(NOMEM, -2, "free memory or ask for less; nothing was kept")                        \
    X(UNSUPPORTED, -3, "use another device, format or op; this one has no such path")    \
    X(CAPTURE, -4, "a rule of stream capture forbids it; the line names the capture")    \
    X(BUSY, -5, "release what the line names first, then call again")                    \
    X(NOT_READY, -6, "call again later, or wait")                                        \
    X(NOT_FOUND, -7, "the name or handle does not exist")                                \
    X(LIMIT, -8, "a stated limit was passed; both values are in the line")               \
    X(IO, -9, "a file or socket failed; the line carries the system's reason")           \
    X(CORRUPT, -10, "bytes from outside are not what they claim to be")                  \
    X(TIMEOUT, -11, "the deadline passed")                                               \
    X(DEVICE, -12, "the device is lost; destroy everything; a GPU needs a new process")

enum rfn_status
{
#define RFN_STATUS_ENUM(name, value, advice) RFN_##name = value,
    RFN_STATUS_LIST(RFN_STATUS_ENUM)
#undef RFN_STATUS_ENUM
};

/**
 * Names a status: "OK", "INVALID", ...; "UNKNOWN" for a value that is none.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const char *rfn_status_name(enum rfn_status status);

/**
 * Says in one sentence what a caller can do about a status.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const char *rfn_status_advice(enum rfn_status status);

/**
 * The line that the last failing call of this thread wrote: what was wrong, with both
 * values that disagreed, and the file and line that decided it. Never NULL; "" before the
 * first failure. Valid until the next failing call of the thread.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any; the line is the calling thread's own.
 */
RFN_API const char *rfn_last_error(void);

/**
 * The CUDA error number behind the last failure of this thread (900 for a call that a
 * capture forbids), on the host device the number that its rules table gives; 0 where the
 * failure was found before a device was asked.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any; the number is the calling thread's own.
 */
RFN_API int rfn_last_code(void);

/**
 * Notes the file and line that device calls of this thread are made from until the next
 * note. The macros of device.h do it by themselves; bindings of other languages call it.
 * `file` must stay valid for the life of the process.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any; the site is the calling thread's own.
 */
RFN_API void rfn_site_note(const char *file, int line);

/* What those macros are made of. */
#define RFN_SITED(call) (rfn_site_note(__FILE__, __LINE__), call)

#ifdef __cplusplus
}
#endif
#endif
