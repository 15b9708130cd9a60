#include "runtime/call.h"
#include "runtime/host/discard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <refrain/refrain.h>

const char *rfn_version(void)
{
    return RFN_VERSION;
}

static const struct rfn_backend *const backends[] = {
#if RFN_CUDA
    &rfn_backend_cuda,
#endif
    &rfn_backend_host,
};

/* No GPU to speak of: no driver, none that knows this build, no device, an older one. */
static int is_absent(int code)
{
    return code == RFN_CODE_STUB_LIBRARY || code == RFN_CODE_INSUFFICIENT_DRIVER ||
           code == RFN_CODE_NO_DEVICE || code == RFN_CODE_NO_IMAGE;
}

static enum rfn_status open_backend(const struct rfn_device_desc *desc,
                                    const struct rfn_backend **ret, void **ret_impl)
{
    char why[256] = "";
    int code = 0;
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
    {
        int host = backends[i] == &rfn_backend_host;
        if (desc->kind != RFN_DEVICE_AUTO && (desc->kind == RFN_DEVICE_HOST) != host)
            continue;
        code = backends[i]->open(desc, ret_impl, why, sizeof why);
        if (code == 0)
        {
            *ret = backends[i];
            return RFN_OK;
        }
        if (!is_absent(code))
            break;
    }
    if (!code)
        return RFN_FAIL(RFN_UNSUPPORTED,
                        "device_open: this build has no CUDA device: it was "
                        "configured with -Dcuda=disabled");
    return rfn_error_at(__FILE__, __LINE__,
                        code == RFN_CODE_NOMEM           ? RFN_NOMEM
                        : code == RFN_CODE_INVALID_VALUE ? RFN_INVALID
                                                         : RFN_UNSUPPORTED,
                        code, "device_open: %s", why);
}

static struct rfn_stream *builtin_stream(struct rfn_device *d, enum rfn_stream_kind kind)
{
    struct rfn_stream *s = rfn_object_create(RFN_OBJECT_STREAM, d);
    if (s)
    {
        s->kind = kind;
        s->native = d->backend->stream_builtin(d->impl, kind);
    }
    return s;
}

static enum rfn_status check_inside(void)
{
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (backends[i]->inside && backends[i]->inside())
            return rfn_error_at(__FILE__, __LINE__, RFN_INVALID, RFN_CODE_NOT_PERMITTED,
                                "device_open: %d, not permitted in a host function",
                                RFN_CODE_NOT_PERMITTED);
    return RFN_OK;
}

enum rfn_status rfn_device_open(const struct rfn_device_desc *desc,
                                struct rfn_device **ret_device)
{
    if (!desc || !ret_device)
        return RFN_FAIL(RFN_INVALID, "desc is %p, ret_device is %p: neither may be NULL",
                        (const void *)desc, (void *)ret_device);
    if (desc->kind < RFN_DEVICE_AUTO || desc->kind > RFN_DEVICE_CUDA)
        return RFN_FAIL(RFN_INVALID, "device kind is %d; known are %d to %d", desc->kind,
                        RFN_DEVICE_AUTO, RFN_DEVICE_CUDA);
    if (desc->sched < RFN_SCHED_DEFAULT || desc->sched > RFN_SCHED_RANDOM)
        return RFN_FAIL(RFN_INVALID, "schedule is %d; known are %d to %d", desc->sched,
                        RFN_SCHED_DEFAULT, RFN_SCHED_RANDOM);
    if (desc->ordinal < 0 || desc->threads < 0 || desc->reserve_bytes < 0)
        return RFN_FAIL(
            RFN_INVALID,
            "ordinal %d, threads %d, reserve_bytes %lld: none may be negative",
            desc->ordinal, desc->threads, (long long)desc->reserve_bytes);

    enum rfn_status status = check_inside();
    if (status != RFN_OK)
        return status;
    struct rfn_device *d = rfn_object_create(RFN_OBJECT_DEVICE, NULL);
    if (!d)
        return RFN_LIMIT;
    status = open_backend(desc, &d->backend, &d->impl);
    if (status != RFN_OK)
        goto drop_object;
    d->ordinal = desc->ordinal;
    d->check = desc->check != 0;
    pthread_mutex_init(&d->lock, NULL);
    pthread_rwlock_init(&d->memory.lock, NULL);
    d->legacy = builtin_stream(d, RFN_STREAM_LEGACY);
    d->per_thread = d->legacy ? builtin_stream(d, RFN_STREAM_PER_THREAD) : NULL;
    if (!d->per_thread)
    {
        status = RFN_LIMIT;
        goto close_backend;
    }
    *ret_device = d;
    return RFN_OK;

close_backend:
    if (d->legacy)
        rfn_object_destroy(d->legacy);
    pthread_rwlock_destroy(&d->memory.lock);
    pthread_mutex_destroy(&d->lock);
    d->backend->close(d->impl);
drop_object:
    rfn_object_destroy(d);
    return status;
}

/* Tells the observer what the end of such a capture is: its origin goes away. */
static void tell_discarded(struct rfn_device *d, const struct rfn_body *body)
{
    struct rfn_call_event event;
    if (atomic_load(&d->lost) ||
        rfn_call_begin(&event, d, RFN_CALL_stream_destroy, NULL) != RFN_OK)
        return;
    event.thread = body->thread;
    event.stream_kind = RFN_STREAM_PER_THREAD;
    event.stream_serial = d->per_thread->object.serial;
    event.before = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, body->capture_id };
    rfn_call_end(&event, d, 0);
}

/* A capture that nobody can end: on the per-thread stream of a thread that has ended, or of
 * a device that is lost. */
static int is_left(struct rfn_device *d, const struct rfn_body *body)
{
    if (body->origin != d->per_thread)
        return 0;
    return atomic_load(&d->lost) || (d->backend == &rfn_backend_host &&
                                     rfn_host_capture_discard(d->impl, body->capture_id));
}

/* What such captures pin could never be freed. */
static void discard_left(struct rfn_device *d)
{
    struct rfn_body *body;
    do
    {
        pthread_mutex_lock(&d->lock);
        body = d->bodies;
        while (body && !is_left(d, body))
            body = body->next;
        if (body)
            body->origin = NULL;
        pthread_mutex_unlock(&d->lock);
        if (body)
        {
            tell_discarded(d, body);
            rfn_body_drop(d, body);
        }
    } while (body);
}

/* "", or the open captures as the end of a line: the last of them by its name. Graphs of
 * others count: they run our kernels and know where bad indices are reported. */
static void name_open(struct rfn_device *d, char *ret_text, size_t bytes)
{
    const struct rfn_body *last = NULL, *graph = NULL;
    int open = 0;
    ret_text[0] = '\0';
    pthread_mutex_lock(&d->lock);
    for (const struct rfn_body *b = d->bodies; b; b = b->next)
    {
        open += b->origin != NULL;
        if (b->origin && !last)
            last = b;
        if (b->foreign && !b->origin)
            graph = b;
    }
    if (!last && graph)
        snprintf(ret_text, bytes, " and the graph of %s, first seen at %.140s:%d, lives",
                 graph->name,
                 graph->begun.file[0] ? graph->begun.file : "an unknown place",
                 graph->begun.line);
    if (last)
        snprintf(ret_text, bytes,
                 " and %d open capture%s: \"%s\", id %llu, begun at %.140s:%d", open,
                 open == 1 ? "" : "s, the last", last->name,
                 (unsigned long long)last->capture_id,
                 last->begun.file[0] ? last->begun.file : "an unknown place",
                 last->begun.line);
    pthread_mutex_unlock(&d->lock);
}

enum rfn_status rfn_device_close(struct rfn_device **device)
{
    if (!device)
        return RFN_FAIL(RFN_INVALID, "device is NULL where its address is due");
    struct rfn_device *d = *device;
    if (!d)
        return RFN_OK;
    enum rfn_status status = rfn_object_check(d, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    status = rfn_call_allowed(d, "device_close");
    if (status != RFN_OK)
        return status;
    char open[320];
    discard_left(d);
    rfn_foreign_wait(d);
    name_open(d, open, sizeof open);
    int streams = d->alive[RFN_OBJECT_STREAM] - 2, events = d->alive[RFN_OBJECT_EVENT];
    int graphs = d->alive[RFN_OBJECT_GRAPH], execs = d->alive[RFN_OBJECT_EXEC];
    pthread_rwlock_rdlock(&d->memory.lock);
    int allocations = d->memory.entries;
    pthread_rwlock_unlock(&d->memory.lock);
    if (streams || events || graphs || execs || allocations || open[0])
        return RFN_FAIL(RFN_BUSY,
                        "the device still has %d allocations, %d streams, %d events, "
                        "%d graphs, %d executables%s",
                        allocations, streams, events, graphs, execs, open);
    if (atomic_load(&d->observer))
        return RFN_FAIL(RFN_BUSY, "a checker is attached to the device");
    d->backend->close(d->impl);
    rfn_object_destroy(d->legacy);
    rfn_object_destroy(d->per_thread);
    pthread_rwlock_destroy(&d->memory.lock);
    pthread_mutex_destroy(&d->lock);
    free(d->memory.entry);
    rfn_object_destroy(d);
    *device = NULL;
    return RFN_OK;
}

enum rfn_status rfn_device_query(struct rfn_device *device,
                                 struct rfn_device_info *ret_info)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!ret_info)
        return RFN_FAIL(RFN_INVALID, "ret_info is NULL");
    status = rfn_call_alive(device, "device_query");
    if (status != RFN_OK)
        return status;
    memset(ret_info, 0, sizeof *ret_info);
    int code = device->backend->info(device->impl, ret_info);
    return code ? rfn_call_failed(device, "device_query", code) : RFN_OK;
}

enum rfn_status rfn_device_sync(struct rfn_device *device)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_device_sync, NULL);
    if (status != RFN_OK)
        return status;
    return rfn_call_end(&event, device, device->backend->device_sync(device->impl));
}

enum rfn_status rfn_device_fault(struct rfn_device *device, struct rfn_fault *ret_fault)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!ret_fault)
        return RFN_FAIL(RFN_INVALID, "ret_fault is NULL");
    status = rfn_call_alive(device, "device_fault");
    if (status == RFN_OK)
        status = rfn_call_allowed(device, "device_fault");
    if (status != RFN_OK)
        return status;
    struct rfn_fault fault = { 0 };
    int code = device->backend->fault(device->impl, &fault);
    if (code)
        return rfn_call_failed(device, "device_fault", code);
    *ret_fault = fault;
    return RFN_OK;
}

enum rfn_status rfn_thread_mode_exchange(struct rfn_device *device,
                                         enum rfn_capture_mode *mode)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    if (!mode || *mode < RFN_CAPTURE_GLOBAL || *mode > RFN_CAPTURE_RELAXED)
        return RFN_FAIL(RFN_INVALID, "mode is %d; known are %d to %d",
                        mode ? (int)*mode : -1, RFN_CAPTURE_GLOBAL, RFN_CAPTURE_RELAXED);
    status = rfn_call_begin(&event, device, RFN_CALL_thread_mode_exchange, NULL);
    if (status != RFN_OK)
        return status;
    event.mode = *mode;
    return rfn_call_end(&event, device, device->backend->thread_mode(device->impl, mode));
}

int rfn_device_touches(struct rfn_device *device, struct rfn_touch *ret, int max)
{
    const struct rfn_backend *backend = device->backend;
    return backend->touches ? backend->touches(device->impl, ret, max) : 0;
}

enum rfn_status rfn_device_observe(struct rfn_device *device,
                                   const struct rfn_observer *observer)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status != RFN_OK)
        return status;
    const struct rfn_observer *none = NULL;
    if (!observer)
        atomic_store(&device->observer, NULL);
    else if (!atomic_compare_exchange_strong(&device->observer, &none, observer))
        return RFN_FAIL(RFN_BUSY, "the device has an observer already");
    return RFN_OK;
}
