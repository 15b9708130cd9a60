/* Streams and events. */
#include "runtime/call.h"

#include <refrain/foreign.h>

enum rfn_status rfn_stream_create(struct rfn_device *device, enum rfn_stream_kind kind,
                                  struct rfn_stream **ret_stream)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!ret_stream || (kind != RFN_STREAM_NONBLOCKING && kind != RFN_STREAM_BLOCKING))
        return RFN_FAIL(
            RFN_INVALID,
            "stream kind %d to %p: %d (non-blocking) or %d (blocking), not NULL", kind,
            (void *)ret_stream, RFN_STREAM_NONBLOCKING, RFN_STREAM_BLOCKING);
    status = rfn_call_begin(&event, device, RFN_CALL_stream_create, NULL);
    if (status != RFN_OK)
        return status;
    struct rfn_stream *s = rfn_object_create(RFN_OBJECT_STREAM, device);
    if (!s)
        return RFN_LIMIT;
    s->kind = kind;
    int code = device->backend->stream_create(device->impl, kind, &s->native);
    event.stream_kind = kind;
    event.stream_serial = s->object.serial;
    status = rfn_call_end(&event, device, code);
    if (status == RFN_OK)
        *ret_stream = s;
    else
        rfn_object_destroy(s);
    return status;
}

enum rfn_status rfn_stream_import(struct rfn_device *device, void *native,
                                  struct rfn_stream **ret_stream)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!ret_stream)
        return RFN_FAIL(RFN_INVALID, "ret_stream is NULL");
    status = rfn_call_begin(&event, device, RFN_CALL_stream_import, NULL);
    if (status != RFN_OK)
        return status;
    enum rfn_stream_kind kind = RFN_STREAM_NONBLOCKING;
    void *handle = NULL;
    int code = device->backend->stream_import(device->impl, native, &kind, &handle);
    uint64_t serial = code ? 0 : rfn_object_stream_serial(device, handle);
    struct rfn_stream *s = code ? NULL : rfn_object_create(RFN_OBJECT_STREAM, device);
    if (!code && !s)
        return RFN_LIMIT;
    if (s)
    {
        s->kind = kind;
        s->native = handle;
        s->foreign = 1;
        s->thread = event.thread;
        if (serial) /* one stream, one number in findings */
            s->object.serial = serial;
        event.stream_kind = kind;
        event.stream_serial = s->object.serial;
        pthread_mutex_lock(&device->lock);
        s->next_import = device->imported;
        device->imported = s;
        atomic_fetch_add(&device->imports, 1);
        pthread_mutex_unlock(&device->lock);
    }
    status = rfn_call_end(&event, device, code);
    if (status == RFN_OK)
        *ret_stream = s;
    return status;
}

void *rfn_stream_native(struct rfn_stream *stream)
{
    struct rfn_device *device;
    return rfn_stream_check(stream, &device) == RFN_OK ? stream->native : NULL;
}

/* An imported stream is forgotten; whoever made it goes on with it. */
static enum rfn_status forget(struct rfn_device *device, struct rfn_stream *s)
{
    enum rfn_status status = rfn_call_allowed(device, "stream_destroy");
    if (status != RFN_OK)
        return status;
    rfn_foreign_unsee(device, s);
    pthread_mutex_lock(&device->lock);
    const struct rfn_body *body = device->bodies;
    while (body && body->origin != s)
        body = body->next;
    if (body)
        status = RFN_FAIL(RFN_BUSY,
                          "capture \"%s\", begun at %s:%d, is open on this imported "
                          "stream; end it first",
                          body->name, body->begun.file, body->begun.line);
    else
    {
        struct rfn_stream **at = &device->imported;
        while (*at != s)
            at = &(*at)->next_import;
        *at = s->next_import;
        atomic_fetch_sub(&device->imports, 1);
    }
    pthread_mutex_unlock(&device->lock);
    if (status == RFN_OK)
        rfn_object_destroy(s);
    return status;
}

enum rfn_status rfn_stream_destroy(struct rfn_stream **stream)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    if (!stream)
        return RFN_FAIL(RFN_INVALID, "stream is NULL where its address is due");
    struct rfn_stream *s = *stream;
    if (!s)
        return RFN_OK;
    enum rfn_status status = rfn_stream_check(s, &device);
    if (status != RFN_OK)
        return status;
    if (s->foreign)
    {
        status = forget(device, s);
        if (status == RFN_OK)
            *stream = NULL;
        return status;
    }
    if (s->kind == RFN_STREAM_LEGACY || s->kind == RFN_STREAM_PER_THREAD)
        return RFN_FAIL(RFN_INVALID,
                        "the %s stream belongs to the device; nobody destroys it",
                        s->kind == RFN_STREAM_LEGACY ? "legacy" : "per-thread");
    if (!atomic_load(&device->lost))
    {
        status = rfn_call_begin(&event, device, RFN_CALL_stream_destroy, s);
        if (status != RFN_OK)
            return status;
        rfn_foreign_unsee(device, s);
        /* Whoever looks at the capture that began on it holds the lock. */
        pthread_mutex_lock(&device->lock);
        int code = device->backend->stream_destroy(device->impl, s->native);
        int gone = code == 0 || rfn_call_loses(code);
        struct rfn_body *body = gone ? rfn_capture_forget(device, s) : NULL;
        pthread_mutex_unlock(&device->lock);
        if (body)
            rfn_body_drop(device, body);
        event.stream = NULL; /* gone: no status to ask for */
        status = rfn_call_end(&event, device, code);
        if (!gone)
            return status;
    }
    else
    {
        rfn_foreign_unsee(device, s);
        device->backend->stream_destroy(device->impl, s->native);
        pthread_mutex_lock(&device->lock);
        struct rfn_body *body = rfn_capture_forget(device, s);
        pthread_mutex_unlock(&device->lock);
        if (body)
            rfn_body_drop(device, body);
    }
    rfn_object_destroy(s);
    *stream = NULL;
    return status;
}

struct rfn_stream *rfn_stream_legacy(struct rfn_device *device)
{
    if (rfn_object_check(device, RFN_OBJECT_DEVICE, "device") != RFN_OK)
        return NULL;
    return device->legacy;
}

struct rfn_stream *rfn_stream_per_thread(struct rfn_device *device)
{
    if (rfn_object_check(device, RFN_OBJECT_DEVICE, "device") != RFN_OK)
        return NULL;
    return device->per_thread;
}

enum rfn_status rfn_stream_sync(struct rfn_stream *stream)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_stream_sync, stream);
    if (status != RFN_OK)
        return status;
    return rfn_call_end(&event, device,
                        device->backend->stream_sync(device->impl, stream->native));
}

enum rfn_status rfn_stream_query(struct rfn_stream *stream)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_stream_query, stream);
    if (status != RFN_OK)
        return status;
    return rfn_call_end(&event, device,
                        device->backend->stream_query(device->impl, stream->native));
}

static enum rfn_status check_flags(const char *what, uint32_t flags)
{
    if (flags & ~(uint32_t)RFN_EVENT_EXTERNAL)
        return RFN_FAIL(RFN_INVALID, "%s flags are 0x%x; known is 0x%x", what, flags,
                        RFN_EVENT_EXTERNAL);
    return RFN_OK;
}

enum rfn_status rfn_stream_wait(struct rfn_stream *stream, struct rfn_event *event,
                                uint32_t flags)
{
    struct rfn_call_event call;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_object_of(event, RFN_OBJECT_EVENT, "event", device);
    if (status == RFN_OK)
        status = check_flags("wait", flags);
    if (status == RFN_OK)
        status = rfn_call_begin(&call, device, RFN_CALL_stream_wait, stream);
    if (status != RFN_OK)
        return status;
    call.event = event;
    call.flags = flags;
    return rfn_call_end(
        &call, device,
        device->backend->stream_wait(device->impl, stream->native, event->native, flags));
}

static enum rfn_status create_event(struct rfn_device *device, int plain,
                                    struct rfn_event **ret_event)
{
    const struct rfn_backend *backend;
    struct rfn_call_event call;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!ret_event)
        return RFN_FAIL(RFN_INVALID, "ret_event is NULL");
    status = rfn_call_begin(&call, device, RFN_CALL_event_create, NULL);
    if (status != RFN_OK)
        return status;
    struct rfn_event *e = rfn_object_create(RFN_OBJECT_EVENT, device);
    if (!e)
        return RFN_LIMIT;
    backend = device->backend;
    status = rfn_call_end(&call, device,
                          plain && backend->event_create_plain
                              ? backend->event_create_plain(device->impl, &e->native)
                              : backend->event_create(device->impl, &e->native));
    if (status == RFN_OK)
        *ret_event = e;
    else
        rfn_object_destroy(e);
    return status;
}

enum rfn_status rfn_event_create(struct rfn_device *device, struct rfn_event **ret_event)
{
    return create_event(device, 0, ret_event);
}

enum rfn_status rfn_event_create_plain(struct rfn_device *device,
                                       struct rfn_event **ret_event)
{
    return create_event(device, 1, ret_event);
}

enum rfn_status rfn_event_destroy(struct rfn_event **event)
{
    struct rfn_call_event call;
    if (!event)
        return RFN_FAIL(RFN_INVALID, "event is NULL where its address is due");
    struct rfn_event *e = *event;
    if (!e)
        return RFN_OK;
    enum rfn_status status = rfn_object_check(e, RFN_OBJECT_EVENT, "event");
    if (status != RFN_OK)
        return status;
    struct rfn_device *device = e->object.device;
    if (!atomic_load(&device->lost))
    {
        status = rfn_call_begin(&call, device, RFN_CALL_event_destroy, NULL);
        call.event = e;
        if (status == RFN_OK)
            status = rfn_call_end(
                &call, device, device->backend->event_destroy(device->impl, e->native));
        if (status != RFN_OK && status != RFN_DEVICE)
            return status;
    }
    else
        device->backend->event_destroy(device->impl, e->native);
    rfn_object_destroy(e);
    *event = NULL;
    return status;
}

enum rfn_status rfn_event_record(struct rfn_event *event, struct rfn_stream *stream,
                                 uint32_t flags)
{
    struct rfn_call_event call;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_object_of(event, RFN_OBJECT_EVENT, "event", device);
    if (status == RFN_OK)
        status = check_flags("record", flags);
    if (status == RFN_OK)
        status = rfn_call_begin(&call, device, RFN_CALL_event_record, stream);
    if (status != RFN_OK)
        return status;
    call.event = event;
    call.flags = flags;
    return rfn_call_end(&call, device,
                        device->backend->event_record(device->impl, event->native,
                                                      stream->native, flags));
}

enum rfn_status rfn_event_sync(struct rfn_event *event)
{
    struct rfn_call_event call;
    enum rfn_status status = rfn_object_check(event, RFN_OBJECT_EVENT, "event");
    if (status != RFN_OK)
        return status;
    struct rfn_device *device = event->object.device;
    status = rfn_call_begin(&call, device, RFN_CALL_event_sync, NULL);
    if (status != RFN_OK)
        return status;
    call.event = event;
    return rfn_call_end(&call, device,
                        device->backend->event_sync(device->impl, event->native));
}

enum rfn_status rfn_event_query(struct rfn_event *event)
{
    struct rfn_call_event call;
    enum rfn_status status = rfn_object_check(event, RFN_OBJECT_EVENT, "event");
    if (status != RFN_OK)
        return status;
    struct rfn_device *device = event->object.device;
    status = rfn_call_begin(&call, device, RFN_CALL_event_query, NULL);
    if (status != RFN_OK)
        return status;
    call.event = event;
    return rfn_call_end(&call, device,
                        device->backend->event_query(device->impl, event->native));
}

enum rfn_status rfn_event_elapsed(struct rfn_event *start, struct rfn_event *end,
                                  float *ret_ms)
{
    struct rfn_call_event call;
    enum rfn_status status = rfn_object_check(start, RFN_OBJECT_EVENT, "start");
    if (status != RFN_OK)
        return status;
    struct rfn_device *device = start->object.device;
    status = rfn_object_of(end, RFN_OBJECT_EVENT, "end", device);
    if (status == RFN_OK && !ret_ms)
        status = RFN_FAIL(RFN_INVALID, "ret_ms is NULL");
    if (status == RFN_OK)
        status = rfn_call_begin(&call, device, RFN_CALL_event_elapsed, NULL);
    if (status != RFN_OK)
        return status;
    call.event = end;
    float ms = 0;
    status = rfn_call_end(
        &call, device,
        device->backend->event_elapsed(device->impl, start->native, end->native, &ms));
    if (status == RFN_OK)
        *ret_ms = ms;
    return status;
}
