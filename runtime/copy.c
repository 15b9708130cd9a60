/* Copies, sets and host functions. */
#include "runtime/call.h"

#include <inttypes.h>
#include <pthread.h>

static enum rfn_status check_bytes(const char *what, const void *dst, const void *src,
                                   int64_t bytes)
{
    if (bytes < 0)
        return RFN_FAIL(RFN_INVALID, "%s: %" PRId64 " bytes from %p to %p", what, bytes,
                        src, dst);
    return RFN_OK;
}

/* Pins both sides to the capture that the stream is in, so that neither can be freed while
 * the graph lives. Reserve before the node is made, add after. */
static enum rfn_status reserve(struct rfn_device *device,
                               const struct rfn_call_event *event,
                               struct rfn_body **ret_body)
{
    *ret_body = NULL;
    if (event->before.status != RFN_CAPTURE_ACTIVE)
        return RFN_OK;
    *ret_body = rfn_capture_find(device, event);
    return *ret_body ? rfn_pins_reserve(&(*ret_body)->pins, 2) : RFN_OK;
}

/* Finding the stack out costs system calls once a thread. */
int rfn_call_on_stack(const void *address)
{
    static _Thread_local uintptr_t begin, end;
    pthread_attr_t attr;
    void *at;
    size_t bytes;
    if (!end)
    {
        end = 1;
        if (pthread_getattr_np(pthread_self(), &attr) == 0)
        {
            if (pthread_attr_getstack(&attr, &at, &bytes) == 0)
            {
                begin = (uintptr_t)at;
                end = begin + bytes;
            }
            pthread_attr_destroy(&attr);
        }
    }
    return (uintptr_t)address >= begin && (uintptr_t)address < end;
}

static enum rfn_status copy(struct rfn_device *device, struct rfn_stream *stream,
                            struct rfn_call_event *event, void *dst, const void *src,
                            int64_t bytes)
{
    struct rfn_place to, from;
    struct rfn_body *body;
    int code = 0;
    const char *what = rfn_call_name(event->call);
    enum rfn_status status = check_bytes(what, dst, src, bytes);
    if (status != RFN_OK)
        return status;
    pthread_mutex_lock(&device->lock);
    status = rfn_memory_place(device, "copy to", dst, bytes, &to);
    if (status == RFN_OK)
        status = rfn_memory_place(device, "copy from", src, bytes, &from);
    if (status == RFN_OK)
        status = reserve(device, event, &body);
    /* Only a capture needs the table to hold still while the device is asked. */
    if (status != RFN_OK || !body)
        pthread_mutex_unlock(&device->lock);
    if (status != RFN_OK)
        return status;
    struct rfn_copy c = { dst, src, bytes, to.kind, from.kind };
    event->dst = dst;
    event->src = src;
    event->bytes = bytes;
    event->dst_kind = to.kind;
    event->src_kind = from.kind;
    event->src_on_stack = body && from.kind == RFN_MEMORY_PAGEABLE &&
                          atomic_load(&device->observer) && rfn_call_on_stack(src);
    if (stream && atomic_load(&device->observer))
    {
        event->foreign = stream->foreign;
        if (to.kind == RFN_MEMORY_PINNED && event->before.status == RFN_CAPTURE_NONE)
            event->plan = rfn_region_plan(device);
    }
    code = stream ? device->backend->copy_async(device->impl, stream->native, &c)
                  : device->backend->copy_sync(device->impl, &c);
    if (body)
    {
        if (code == 0)
        {
            rfn_pins_add(device, &body->pins, &to);
            rfn_pins_add(device, &body->pins, &from);
        }
        pthread_mutex_unlock(&device->lock);
    }
    return rfn_call_end(event, device, code);
}

static enum rfn_status set(struct rfn_device *device, struct rfn_stream *stream,
                           struct rfn_call_event *event, void *dst, int32_t value,
                           int64_t bytes)
{
    struct rfn_place to;
    struct rfn_body *body;
    int code = 0;
    const char *what = rfn_call_name(event->call);
    enum rfn_status status = check_bytes(what, dst, NULL, bytes);
    if (status != RFN_OK)
        return status;
    if (value < 0 || value > 255)
        return RFN_FAIL(RFN_INVALID, "%s: value %d; a byte is 0 to 255", what, value);
    pthread_mutex_lock(&device->lock);
    status = rfn_memory_place(device, "set", dst, bytes, &to);
    if (status == RFN_OK && bytes > 0 && to.kind == RFN_MEMORY_PAGEABLE)
        status =
            RFN_FAIL(RFN_INVALID,
                     "%s: %" PRId64 " bytes at %p are pageable host memory; device or "
                     "pinned memory is due",
                     what, bytes, dst);
    if (status == RFN_OK)
        status = reserve(device, event, &body);
    if (status != RFN_OK || !body)
        pthread_mutex_unlock(&device->lock);
    if (status != RFN_OK)
        return status;
    struct rfn_set s = { dst, bytes, value, to.kind };
    event->dst = dst;
    event->bytes = bytes;
    event->dst_kind = to.kind;
    code = stream ? device->backend->set_async(device->impl, stream->native, &s)
                  : device->backend->set_sync(device->impl, &s);
    if (body)
    {
        if (code == 0)
            rfn_pins_add(device, &body->pins, &to);
        pthread_mutex_unlock(&device->lock);
    }
    return rfn_call_end(event, device, code);
}

enum rfn_status rfn_copy_sync(struct rfn_device *device, void *dst, const void *src,
                              int64_t bytes)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_copy_sync, NULL);
    return status == RFN_OK ? copy(device, NULL, &event, dst, src, bytes) : status;
}

enum rfn_status rfn_copy_async(struct rfn_stream *stream, void *dst, const void *src,
                               int64_t bytes)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_copy_async, stream);
    return status == RFN_OK ? copy(device, stream, &event, dst, src, bytes) : status;
}

enum rfn_status rfn_set_sync(struct rfn_device *device, void *dst, int32_t value,
                             int64_t bytes)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_set_sync, NULL);
    return status == RFN_OK ? set(device, NULL, &event, dst, value, bytes) : status;
}

enum rfn_status rfn_set_async(struct rfn_stream *stream, void *dst, int32_t value,
                              int64_t bytes)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_set_async, stream);
    return status == RFN_OK ? set(device, stream, &event, dst, value, bytes) : status;
}

enum rfn_status rfn_host_call(struct rfn_stream *stream, void (*fn)(void *user),
                              void *user)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK && !fn)
        status = RFN_FAIL(RFN_INVALID, "host_call: fn is NULL");
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_host_call, stream);
    if (status != RFN_OK)
        return status;
    return rfn_call_end(
        &event, device,
        device->backend->host_call(device->impl, stream->native, fn, user));
}
