/* Captures: what they gather on the way to a graph. */
#include "runtime/guard.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Takes a body off the device's list. Called with device->lock held. */
static void unlink_body(struct rfn_device *device, const struct rfn_body *body)
{
    struct rfn_body **at = &device->bodies;
    while (*at && *at != body)
        at = &(*at)->next;
    if (*at)
        *at = body->next;
}

void rfn_body_drop(struct rfn_device *device, struct rfn_body *body)
{
    pthread_mutex_lock(&device->lock);
    int last = --body->refs == 0;
    if (last)
        unlink_body(device, body);
    pthread_mutex_unlock(&device->lock);
    if (last)
        rfn_body_free(device, body);
}

void rfn_body_free(struct rfn_device *device, struct rfn_body *body)
{
    if (body->native)
        device->backend->graph_destroy(device->impl, body->native);
    if (body->foreign && device->backend->capture_forget)
        device->backend->capture_forget(device->impl, body->capture_id);
    for (int32_t i = 0; i < body->launches; i++)
        rfn_pins_drop(&body->launch[i].pins);
    free(body->launch);
    rfn_pins_drop(&body->pins);
    rfn_guard_drop(body);
    free(body);
}

struct rfn_body *rfn_capture_forget(struct rfn_device *device,
                                    const struct rfn_stream *origin)
{
    struct rfn_body *body = device->bodies;
    while (body && (body->foreign || body->origin != origin))
        body = body->next;
    if (body)
        body->origin = NULL;
    return body;
}

enum rfn_status rfn_capture_begin(struct rfn_stream *stream,
                                  const struct rfn_capture_desc *desc)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    static const struct rfn_capture_desc plain = { RFN_CAPTURE_GLOBAL, NULL };
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status != RFN_OK)
        return status;
    if (!desc)
        desc = &plain;
    if (desc->mode < RFN_CAPTURE_GLOBAL || desc->mode > RFN_CAPTURE_RELAXED)
        return RFN_FAIL(RFN_INVALID, "capture mode is %d; known are %d to %d", desc->mode,
                        RFN_CAPTURE_GLOBAL, RFN_CAPTURE_RELAXED);
    status = rfn_call_begin(&event, device, RFN_CALL_capture_begin, stream);
    if (status != RFN_OK)
        return status;
    event.mode = desc->mode;
    event.name = desc->name;

    struct rfn_body *body = calloc(1, sizeof *body);
    if (!body)
        return RFN_FAIL(RFN_NOMEM, "no memory to note a capture");
    /* Under the lock: who looks around for captures of others has to find it noted. */
    pthread_mutex_lock(&device->lock);
    int code = device->backend->capture_begin(device->impl, stream->native, desc->mode);
    if (code)
        free(body);
    else
    {
        struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
        device->backend->capture_query(device->impl, stream->native, &info);
        body->origin = stream;
        body->thread = event.thread;
        body->capture_id = info.id;
        body->region = rfn_region_note(device);
        body->refs = 1;
        body->begun = event.site;
        if (desc->name)
            snprintf(body->name, sizeof body->name, "%s", desc->name);
        else
            snprintf(body->name, sizeof body->name, "capture %" PRIu64, info.id);
        body->next = device->bodies;
        device->bodies = body;
    }
    pthread_mutex_unlock(&device->lock);
    return rfn_call_end(&event, device, code);
}

/* Only who listens wants to know. */
static void count_nodes(struct rfn_device *device, void *native,
                        struct rfn_call_event *event)
{
    int32_t node[RFN_NODE_TYPES];
    event->kernels = -1;
    if (!atomic_load(&device->observer) ||
        device->backend->graph_count(device->impl, native, node) != 0)
        return;
    for (int i = 0; i < RFN_NODE_TYPES; i++)
        event->nodes += node[i];
    event->kernels = node[RFN_NODE_KERNEL] + node[RFN_NODE_CHILD];
}

enum rfn_status rfn_capture_end(struct rfn_stream *stream, struct rfn_graph **ret_graph)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK && !ret_graph)
        status = RFN_FAIL(RFN_INVALID, "ret_graph is NULL");
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_capture_end, stream);
    if (status != RFN_OK)
        return status;
    /* By id: per-thread streams of several threads are one handle. */
    pthread_mutex_lock(&device->lock);
    struct rfn_body *body = rfn_capture_find(device, &event);
    if (body && body->foreign)
        status = RFN_FAIL(RFN_INVALID,
                          "%s was not begun by rfn_capture_begin; end it where it was "
                          "begun",
                          body->name);
    if (body && body->origin->native != stream->native)
        body = NULL;
    pthread_mutex_unlock(&device->lock);
    if (status != RFN_OK)
        return status;
    struct rfn_graph *graph = rfn_object_create(RFN_OBJECT_GRAPH, device);
    if (!graph)
        return RFN_LIMIT;
    void *native = NULL;
    int code = device->backend->capture_end(device->impl, stream->native, &native);
    assert(code != 0 || body);
    if (code == 0)
    {
        pthread_mutex_lock(&device->lock);
        body->origin = NULL;
        body->native = native;
        pthread_mutex_unlock(&device->lock);
        graph->body = body;
        event.graph = graph;
        count_nodes(device, native, &event);
    }
    status = rfn_call_end(&event, device, code);
    if (status == RFN_OK)
    {
        *ret_graph = graph;
        return RFN_OK;
    }
    rfn_object_destroy(graph);
    /* Only now: asking the device makes it forget its words on the failure. */
    struct rfn_capture_info after = { RFN_CAPTURE_NONE, 0 };
    device->backend->capture_query(device->impl, stream->native, &after);
    if (body && after.status == RFN_CAPTURE_NONE)
    {
        pthread_mutex_lock(&device->lock);
        body->origin = NULL;
        pthread_mutex_unlock(&device->lock);
        rfn_body_drop(device, body);
    }
    return status;
}

enum rfn_status rfn_capture_query(struct rfn_stream *stream,
                                  struct rfn_capture_info *ret_info)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK && !ret_info)
        status = RFN_FAIL(RFN_INVALID, "ret_info is NULL");
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_capture_query, stream);
    if (status != RFN_OK)
        return status;
    struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
    status =
        rfn_call_end(&event, device,
                     device->backend->capture_query(device->impl, stream->native, &info));
    if (status == RFN_OK)
        *ret_info = info;
    return status;
}

/* Everything that a graph pins, added to a capture's own pins. Room comes first. */
static enum rfn_status reserve_body(struct rfn_body *to, const struct rfn_body *from)
{
    int32_t n = rfn_pins_count(&from->pins);
    for (int32_t i = 0; i < from->launches; i++)
        n += rfn_pins_count(&from->launch[i].pins);
    return rfn_pins_reserve(&to->pins, n);
}

enum rfn_status rfn_capture_add_child(struct rfn_stream *stream, struct rfn_graph *child)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    int code = 0;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_object_of(child, RFN_OBJECT_GRAPH, "child", device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_capture_add_child, stream);
    if (status != RFN_OK)
        return status;
    event.graph = child;
    event.graph_id = child->body->capture_id;
    pthread_mutex_lock(&device->lock);
    struct rfn_body *body = rfn_capture_find(device, &event);
    if (body)
        status = reserve_body(body, child->body);
    if (body && status == RFN_OK)
        status = rfn_guard_join(body, child->body);
    if (status == RFN_OK)
    {
        code = device->backend->capture_add_child(device->impl, stream->native,
                                                  child->body->native);
        if (code == 0 && body)
        {
            rfn_pins_join(&body->pins, &child->body->pins);
            for (int32_t i = 0; i < child->body->launches; i++)
                rfn_pins_join(&body->pins, &child->body->launch[i].pins);
        }
    }
    pthread_mutex_unlock(&device->lock);
    return status == RFN_OK ? rfn_call_end(&event, device, code) : status;
}
