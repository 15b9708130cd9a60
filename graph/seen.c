#define RFN_NO_SITES
#include "graph/seen.h"
#include "runtime/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void blocking(struct rfn_device *device)
{
    struct rfn_call_event event;
    char text[160];
    const char *value = getenv("CUDA_LAUNCH_BLOCKING");
    if (!value || !value[0] || !strcmp(value, "0") ||
        rfn_call_begin(&event, device, RFN_CALL_check_create, NULL) != RFN_OK)
        return;
    snprintf(text, sizeof text, "CUDA_LAUNCH_BLOCKING is '%.40s' in the environment",
             value);
    rfn_call_notice(&event, device, RFN_NOTICE_SLOW, RFN_OK, text);
}

static void late(struct rfn_device *device)
{
    struct rfn_call_event event;
    uint64_t id = 0;
    char text[320] = "";
    pthread_mutex_lock(&device->lock);
    for (const struct rfn_body *b = device->bodies; b; b = b->next)
        if (b->origin)
        {
            id = b->capture_id;
            snprintf(text, sizeof text,
                     "capture %" PRIu64
                     " '%s', begun at %.140s:%d, is open already: what "
                     "it holds so far was not seen, and its end will not be judged",
                     id, b->name, b->begun.file ? b->begun.file : "", b->begun.line);
        }
    pthread_mutex_unlock(&device->lock);
    if (!id || rfn_call_begin(&event, device, RFN_CALL_check_create, NULL) != RFN_OK)
        return;
    event.graph_id = id;
    rfn_call_notice(&event, device, RFN_NOTICE_UNSEEN, RFN_OK, text);
}

static void tell(struct rfn_device *device, struct rfn_call_event *event)
{
    const struct rfn_observer *observer = atomic_load(&device->observer);
    event->region = rfn_region_text();
    if (observer)
        observer->on_call(observer->ctx, event);
}

static enum rfn_status dry(struct rfn_device *device, struct rfn_stream *stream,
                           enum rfn_call call, struct rfn_call_event *ret)
{
    enum rfn_status status = rfn_object_of(stream, RFN_OBJECT_STREAM, "stream", device);
    if (status == RFN_OK)
        status = rfn_call_begin(ret, device, call, stream);
    if (status == RFN_OK && ret->before.status != RFN_CAPTURE_NONE)
        status = RFN_FAIL(RFN_CAPTURE,
                          "check_dry: the stream is in capture %" PRIu64
                          "; a dry run takes its place, not its side",
                          ret->before.id);
    return status;
}

enum rfn_status rfn_dry_begin(struct rfn_device *device, struct rfn_stream *stream,
                              const char *name, uint64_t id)
{
    struct rfn_call_event event;
    enum rfn_status status = dry(device, stream, RFN_CALL_capture_begin, &event);
    if (status != RFN_OK)
        return status;
    event.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, id };
    event.mode = RFN_CAPTURE_THREAD_LOCAL;
    event.name = name;
    tell(device, &event);
    return RFN_OK;
}

enum rfn_status rfn_dry_end(struct rfn_device *device, struct rfn_stream *stream,
                            uint64_t origin, uint64_t id)
{
    struct rfn_call_event event;
    enum rfn_status status = dry(device, stream, RFN_CALL_capture_end, &event);
    if (status != RFN_OK)
        return status;
    if (event.stream_serial != origin)
        return RFN_FAIL(RFN_INVALID,
                        "check_dry_end: stream %" PRIu64
                        ", but it began on stream %" PRIu64,
                        event.stream_serial, origin);
    event.before = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, id };
    tell(device, &event);
    return RFN_OK;
}

void rfn_seen_attach(struct rfn_device *device)
{
    blocking(device);
    late(device);
}

enum rfn_status rfn_seen_too_few(struct rfn_device *device, int32_t ended,
                                 int32_t captures)
{
    struct rfn_call_event event;
    char text[160];
    enum rfn_status status = rfn_call_begin(&event, device, RFN_CALL_check_require, NULL);
    if (status != RFN_OK)
        return status;
    snprintf(text, sizeof text,
             "%d captures were to be checked, but the checker has seen %d from begin to "
             "end",
             captures, ended);
    return rfn_call_refuse(&event, device, RFN_NOTICE_UNSEEN, RFN_NOT_FOUND, text);
}
