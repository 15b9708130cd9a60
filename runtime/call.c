#include "runtime/call.h"

#include <stdio.h>
#include <string.h>

static _Atomic uint64_t threads;
static _Thread_local uint64_t thread_number;

static const char *const call_name[RFN_CALLS] = {
#define CALL_NAME(name) [RFN_CALL_##name] = #name,
    RFN_CALL_LIST(CALL_NAME)
#undef CALL_NAME
};

const char *rfn_call_name(enum rfn_call call)
{
    return call >= 0 && call < RFN_CALLS ? call_name[call] : "unknown";
}

static const char *code_text(int code)
{
    switch (code)
    {
    case RFN_CODE_INVALID_VALUE:
        return "invalid value";
    case RFN_CODE_NOMEM:
        return "out of memory";
    case RFN_CODE_INVALID_HANDLE:
        return "invalid handle";
    case RFN_CODE_ILLEGAL_STATE:
        return "illegal state";
    case RFN_CODE_NOT_READY:
        return "not ready";
    case RFN_CODE_ILLEGAL_ADDRESS:
        return "illegal address";
    case RFN_CODE_NOT_PERMITTED:
        return "not permitted in a host function";
    case RFN_CODE_NOT_SUPPORTED:
        return "not supported";
    case RFN_CODE_CAPTURE_UNSUPPORTED:
        return "not permitted while a stream is capturing";
    case RFN_CODE_CAPTURE_INVALIDATED:
        return "the capture was invalidated before";
    case RFN_CODE_CAPTURE_MERGE:
        return "would merge two captures";
    case RFN_CODE_CAPTURE_UNMATCHED:
        return "the capture did not begin on this stream";
    case RFN_CODE_CAPTURE_UNJOINED:
        return "a forked stream was not joined again";
    case RFN_CODE_CAPTURE_ISOLATION:
        return "depends on work outside the capture";
    case RFN_CODE_CAPTURE_IMPLICIT:
        return "implicit dependency on the legacy stream";
    case RFN_CODE_CAPTURED_EVENT:
        return "the event was recorded in a capture";
    case RFN_CODE_CAPTURE_WRONG_THREAD:
        return "the capture was begun by another thread";
    default:
        return "device error";
    }
}

static enum rfn_status code_status(int code)
{
    if (code == RFN_CODE_OK)
        return RFN_OK;
    if (code >= RFN_CODE_CAPTURE_UNSUPPORTED && code <= RFN_CODE_CAPTURE_WRONG_THREAD)
        return RFN_CAPTURE;
    switch (code)
    {
    case RFN_CODE_NOMEM:
        return RFN_NOMEM;
    case RFN_CODE_NOT_READY:
        return RFN_NOT_READY;
    case RFN_CODE_NOT_SUPPORTED:
        return RFN_UNSUPPORTED;
    case RFN_CODE_ILLEGAL_STATE:
        return RFN_CAPTURE;
    case RFN_CODE_INVALID_VALUE:
    case RFN_CODE_INVALID_CONFIGURATION:
    case RFN_CODE_INVALID_HANDLE:
    case RFN_CODE_NOT_PERMITTED:
    case RFN_CODE_HOST_REGISTERED:
    case RFN_CODE_HOST_NOT_REGISTERED:
        return RFN_INVALID;
    case RFN_CODE_INVALID_FUNCTION:
    case RFN_CODE_NO_IMAGE:
    case RFN_CODE_LAUNCH_RESOURCES:
    case RFN_CODE_COOPERATIVE_SIZE:
    case RFN_CODE_CLUSTER_SIZE:
        return RFN_UNSUPPORTED;
    default:
        return RFN_DEVICE;
    }
}

int rfn_call_loses(int code)
{
    return code_status(code) == RFN_DEVICE;
}

/* What was enqueued last, which is the likeliest to have done it. */
static void name_last(const struct rfn_device *device, char *ret_text, size_t bytes)
{
    const struct rfn_op *op = atomic_load(&device->last_op);
    uint64_t capture = atomic_load(&device->last_capture);
    ret_text[0] = '\0';
    if (op)
        snprintf(ret_text, bytes, "; last launched: %.40s", op->name);
    else if (capture)
        snprintf(ret_text, bytes, "; last launched: the graph of capture %llu",
                 (unsigned long long)capture);
}

/* The first cause stays. */
static void lose(struct rfn_device *device, const char *what, int code, const char *why)
{
    char last[96];
    name_last(device, last, sizeof last);
    pthread_mutex_lock(&device->lock);
    if (!device->lost)
    {
        snprintf(device->first_cause, sizeof device->first_cause, "%.40s: %d (%.200s%s)",
                 what, code, why[0] ? why : code_text(code), last);
        atomic_store(&device->lost, code);
    }
    pthread_mutex_unlock(&device->lock);
}

uint64_t rfn_call_thread(void)
{
    return thread_number;
}

static struct rfn_capture_info capture_of(struct rfn_device *device,
                                          struct rfn_stream *stream)
{
    struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
    if (stream &&
        device->backend->capture_query(device->impl, stream->native, &info) != 0)
        info = (struct rfn_capture_info) { RFN_CAPTURE_NONE, 0 };
    return info;
}

enum rfn_status rfn_call_alive(struct rfn_device *device, const char *what)
{
    int lost = atomic_load(&device->lost);
    if (!lost)
        return RFN_OK;
    return rfn_error_at(__FILE__, __LINE__, RFN_DEVICE, lost,
                        "%s: the device is lost since %s", what, device->first_cause);
}

enum rfn_status rfn_call_failed(struct rfn_device *device, const char *what, int code)
{
    char why[256];
    snprintf(why, sizeof why, "%s", device->backend->why(device->impl));
    enum rfn_status status = code_status(code);
    if (status == RFN_DEVICE)
        lose(device, what, code, why);
    return rfn_error_at(__FILE__, __LINE__, status, code, "%s: %d, %s%s%s", what, code,
                        code_text(code), why[0] ? ": " : "", why);
}

enum rfn_status rfn_call_allowed(struct rfn_device *device, const char *what)
{
    if (!device->backend->inside || !device->backend->inside())
        return RFN_OK;
    return rfn_error_at(__FILE__, __LINE__, RFN_INVALID, RFN_CODE_NOT_PERMITTED,
                        "%s: %d, %s", what, RFN_CODE_NOT_PERMITTED,
                        code_text(RFN_CODE_NOT_PERMITTED));
}

enum rfn_status rfn_call_begin(struct rfn_call_event *event, struct rfn_device *device,
                               enum rfn_call call, struct rfn_stream *stream)
{
    enum rfn_status status = rfn_call_alive(device, rfn_call_name(call));
    if (status == RFN_OK)
        status = rfn_call_allowed(device, rfn_call_name(call));
    if (status != RFN_OK)
        return status;
    if (!thread_number)
        thread_number = atomic_fetch_add(&threads, 1) + 1;
    memset(event, 0, sizeof *event);
    event->call = call;
    event->why = event->region = "";
    event->site = rfn_site_here();
    event->thread = thread_number;
    event->stream = stream;
    if (stream)
    {
        event->stream_kind = stream->kind;
        event->stream_serial = stream->object.serial;
        event->before = capture_of(device, stream);
    }
    if (event->before.status == RFN_CAPTURE_ACTIVE ||
        atomic_load(&device->foreign_open) ||
        (atomic_load(&device->imports) && atomic_load(&device->observer)))
        return rfn_foreign_see(device, event);
    return RFN_OK;
}

/* What became of the captures that are open: the calling thread's own, and those that a
 * failing call took with it. A per-thread stream can be asked by its own thread only. */
static void look_at_captures(struct rfn_call_event *event, struct rfn_device *device)
{
    pthread_mutex_lock(&device->lock);
    for (struct rfn_body *b = device->bodies; b; b = b->next)
    {
        int own = b->thread == event->thread;
        if (!b->origin || (b->origin->kind == RFN_STREAM_PER_THREAD && !own))
            continue;
        int last = own && !event->caller.id;
        if (!last && !event->code)
            continue;
        struct rfn_capture_info info =
            b->origin == event->stream ? event->after : capture_of(device, b->origin);
        if (last && info.status != RFN_CAPTURE_NONE)
            event->caller = (struct rfn_capture_info) { info.status, b->capture_id };
        if (info.status != RFN_CAPTURE_INVALIDATED || b->invalidated)
            continue;
        b->invalidated = 1;
        if (event->hits < RFN_CALL_HITS)
            event->hit[event->hits] = b->capture_id;
        event->hits++;
    }
    pthread_mutex_unlock(&device->lock);
}

enum rfn_status rfn_call_end(struct rfn_call_event *event, struct rfn_device *device,
                             int code)
{
    const struct rfn_observer *observer = atomic_load(&device->observer);
    enum rfn_status status = code_status(code);
    char why[256] = "";
    if (code)
        snprintf(why, sizeof why, "%s", device->backend->why(device->impl));
    event->code = code;
    event->why = why;
    if (observer)
    {
        event->after = capture_of(device, event->stream);
        event->region = rfn_region_text();
        look_at_captures(event, device);
        observer->on_call(observer->ctx, event);
    }
    event->why = "";
    event->region = "";
    if (!code)
        return RFN_OK;
    if (status == RFN_DEVICE)
        lose(device, rfn_call_name(event->call), code, why);
    const char *file = event->site.file;
    char at[160] = "";
    if (file[0])
        snprintf(at, sizeof at, " at %.140s:%d", file, event->site.line);
    return rfn_error_at(__FILE__, __LINE__, status, code, "%s%s: %d, %s%s%s",
                        rfn_call_name(event->call), at, code, code_text(code),
                        why[0] ? ": " : "", why);
}

void rfn_call_notice(struct rfn_call_event *event, struct rfn_device *device,
                     enum rfn_notice notice, enum rfn_status status, const char *text)
{
    const struct rfn_observer *observer = atomic_load(&device->observer);
    if (!observer)
        return;
    event->notice = notice;
    event->code = status ? RFN_CODE_INVALID_VALUE : 0;
    event->why = text;
    event->region = rfn_region_text();
    event->after = event->before;
    observer->on_call(observer->ctx, event);
    event->why = event->region = "";
}

enum rfn_status rfn_call_refuse(struct rfn_call_event *event, struct rfn_device *device,
                                enum rfn_notice notice, enum rfn_status status,
                                const char *text)
{
    const char *file = event->site.file ? event->site.file : "";
    char at[160] = "";
    rfn_call_notice(event, device, notice, status, text);
    if (file[0])
        snprintf(at, sizeof at, " at %.140s:%d", file, event->site.line);
    return rfn_error_at(__FILE__, __LINE__, status, 0, "%s%s: %s",
                        rfn_call_name(event->call), at, text);
}

void rfn_call_region_end(struct rfn_device *device, uint64_t region, const char *name)
{
    uint64_t left[RFN_CALL_HITS];
    int n = 0;
    /* With a capture open it could not be closed. */
    if (atomic_load(&device->object.type) != RFN_OBJECT_DEVICE ||
        !atomic_load(&device->observer))
        return;
    pthread_mutex_lock(&device->lock);
    for (struct rfn_body *b = device->bodies; b && n < RFN_CALL_HITS; b = b->next)
        if (b->origin && b->thread == thread_number && b->region == region)
            left[n++] = b->capture_id;
    pthread_mutex_unlock(&device->lock);
    for (int i = 0; i <= n; i++)
    {
        struct rfn_call_event event;
        if (i == n && !rfn_region_is_plan(name))
            return;
        if (rfn_call_begin(&event, device, RFN_CALL_region_end, NULL) != RFN_OK)
            return;
        if (i < n)
            event.before = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, left[i] };
        else
            event.plan = region;
        event.name = name;
        rfn_call_end(&event, device, 0);
    }
}

void rfn_call_host_read(struct rfn_device *device, enum rfn_call call, const char *name,
                        const void *from, int64_t bytes)
{
    struct rfn_call_event event;
    if (!from || bytes <= 0 || !atomic_load(&device->observer) ||
        rfn_call_begin(&event, device, call, NULL) != RFN_OK)
        return;
    event.name = name;
    event.src = from;
    event.bytes = bytes;
    rfn_call_end(&event, device, 0);
}

struct rfn_body *rfn_capture_find(struct rfn_device *device,
                                  const struct rfn_call_event *event)
{
    for (struct rfn_body *b = device->bodies; b; b = b->next)
    {
        if (!b->origin)
            continue;
        if (event->before.id ? b->capture_id == event->before.id
                             : event->before.status != RFN_CAPTURE_NONE &&
                                   b->origin->native == event->stream->native &&
                                   (event->stream_kind != RFN_STREAM_PER_THREAD ||
                                    b->thread == event->thread))
            return b;
    }
    return NULL;
}

enum rfn_status rfn_stream_check(struct rfn_stream *stream,
                                 struct rfn_device **ret_device)
{
    enum rfn_status status = rfn_object_check(stream, RFN_OBJECT_STREAM, "stream");
    if (status == RFN_OK)
        *ret_device = stream->object.device;
    return status;
}

enum rfn_status rfn_object_of(const void *object, enum rfn_object_type type,
                              const char *what, struct rfn_device *device)
{
    enum rfn_status status = rfn_object_check(object, type, what);
    if (status != RFN_OK)
        return status;
    const struct rfn_object *o = object;
    if (o->device != device)
        return RFN_FAIL(RFN_INVALID,
                        "%s belongs to device %p, the call goes to device %p", what,
                        (void *)o->device, (void *)device);
    return RFN_OK;
}
