/* Graphs and executables. */
#include "runtime/guard.h"

#include <inttypes.h>
#include <refrain/foreign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum rfn_status rfn_graph_query(struct rfn_graph *graph, struct rfn_graph_info *ret_info)
{
    enum rfn_status status = rfn_object_check(graph, RFN_OBJECT_GRAPH, "graph");
    if (status != RFN_OK)
        return status;
    if (!ret_info)
        return RFN_FAIL(RFN_INVALID, "ret_info is NULL");
    struct rfn_device *device = graph->object.device;
    status = rfn_call_alive(device, "graph_query");
    if (status != RFN_OK)
        return status;
    const struct rfn_body *body = graph->body;
    struct rfn_graph_info info = { .capture_id = body->capture_id,
                                   .launches = body->launches };
    snprintf(info.name, sizeof info.name, "%s", body->name);
    int code = device->backend->graph_count(device->impl, body->native, info.node);
    if (code)
        return rfn_call_failed(device, "graph_query", code);
    for (int i = 0; i < RFN_NODE_TYPES; i++)
        info.nodes += info.node[i];
    *ret_info = info;
    return RFN_OK;
}

void *rfn_graph_native(struct rfn_graph *graph)
{
    if (rfn_object_check(graph, RFN_OBJECT_GRAPH, "graph") != RFN_OK)
        return NULL;
    return graph->object.device->backend->graph_native(graph->body->native);
}

void *rfn_exec_native(struct rfn_exec *exec)
{
    if (rfn_object_check(exec, RFN_OBJECT_EXEC, "exec") != RFN_OK)
        return NULL;
    return exec->object.device->backend->exec_native(exec->native);
}

enum rfn_status rfn_graph_destroy(struct rfn_graph **graph)
{
    struct rfn_call_event event;
    if (!graph)
        return RFN_FAIL(RFN_INVALID, "graph is NULL where its address is due");
    struct rfn_graph *g = *graph;
    if (!g)
        return RFN_OK;
    enum rfn_status status = rfn_object_check(g, RFN_OBJECT_GRAPH, "graph");
    if (status != RFN_OK)
        return status;
    struct rfn_device *device = g->object.device;
    status = rfn_call_allowed(device, "graph_destroy");
    if (status != RFN_OK)
        return status;
    if (!atomic_load(&device->lost) &&
        rfn_call_begin(&event, device, RFN_CALL_graph_destroy, NULL) == RFN_OK)
    {
        event.graph = g;
        rfn_call_end(&event, device, 0);
    }
    /* Its executables hold what they touch on their own account. */
    pthread_mutex_lock(&device->lock);
    for (int32_t i = 0; i < g->body->launches; i++)
        rfn_pins_drop(&g->body->launch[i].pins);
    rfn_pins_drop(&g->body->pins);
    pthread_mutex_unlock(&device->lock);
    rfn_body_drop(device, g->body);
    rfn_object_destroy(g);
    *graph = NULL;
    return RFN_OK;
}

static void drop_exec_pins(struct rfn_exec *e)
{
    for (int32_t i = 0; e->launch && i < e->body->launches; i++)
        rfn_pins_drop(&e->launch[i]);
    free(e->launch);
    rfn_pins_drop(&e->pins);
}

/* The executable holds what the graph holds, on its own account. */
static enum rfn_status copy_pins(struct rfn_exec *e)
{
    const struct rfn_body *body = e->body;
    e->launch = calloc(body->launches ? (size_t)body->launches : 1, sizeof *e->launch);
    if (!e->launch)
        return RFN_FAIL(RFN_NOMEM, "no memory for the pins of %d launches",
                        body->launches);
    enum rfn_status status = rfn_pins_reserve(&e->pins, rfn_pins_count(&body->pins));
    if (status == RFN_OK)
        rfn_pins_join(&e->pins, &body->pins);
    for (int32_t i = 0; status == RFN_OK && i < body->launches; i++)
    {
        const struct rfn_pins *from = &body->launch[i].pins;
        status = rfn_pins_reserve(&e->launch[i], rfn_pins_count(from));
        if (status == RFN_OK)
            rfn_pins_join(&e->launch[i], from);
    }
    return status;
}

enum rfn_status rfn_graph_instantiate(struct rfn_graph *graph, struct rfn_exec **ret_exec)
{
    struct rfn_call_event event;
    enum rfn_status status = rfn_object_check(graph, RFN_OBJECT_GRAPH, "graph");
    if (status != RFN_OK)
        return status;
    if (!ret_exec)
        return RFN_FAIL(RFN_INVALID, "ret_exec is NULL");
    struct rfn_device *device = graph->object.device;
    status = rfn_call_begin(&event, device, RFN_CALL_graph_instantiate, NULL);
    if (status != RFN_OK)
        return status;
    event.graph = graph;
    struct rfn_exec *e = rfn_object_create(RFN_OBJECT_EXEC, device);
    if (!e)
        return RFN_LIMIT;
    e->body = graph->body;
    status = copy_pins(e);
    if (status != RFN_OK)
        goto drop_pins;
    status = rfn_call_end(&event, device,
                          device->backend->graph_instantiate(
                              device->impl, graph->body->native, &e->native));
    if (status != RFN_OK)
        goto drop_pins;
    pthread_mutex_lock(&device->lock);
    e->body->refs++;
    e->next = device->execs;
    device->execs = e;
    pthread_mutex_unlock(&device->lock);
    e->epoch = UINT64_MAX; /* the first launch looks */
    *ret_exec = e;
    return RFN_OK;

drop_pins:
    drop_exec_pins(e);
    rfn_object_destroy(e);
    return status;
}

static enum rfn_status check_pins(const struct rfn_exec *e, const struct rfn_pins *pins)
{
    for (int32_t i = 0; i < pins->entries; i++)
    {
        const struct rfn_allocation *a = pins->entry[i];
        if (atomic_load(&a->released))
            return RFN_FAIL(RFN_INVALID,
                            "graph \"%s\" touches %p (%" PRId64
                            " bytes, generation %" PRIu64
                            "), which was released after the capture",
                            e->body->name, (void *)a->base, a->bytes, a->generation);
    }
    struct rfn_device *device = e->object.device;
    for (int32_t i = 0; i < pins->others; i++)
    {
        const struct rfn_theirs *theirs = &pins->theirs[i];
        uint64_t now = device->backend->memory_id(device->impl, theirs->address);
        if (now != theirs->id)
            return RFN_FAIL(RFN_INVALID,
                            "graph \"%s\" touches %p, memory of somebody else that was "
                            "released since: buffer %" PRIu64 " then, %" PRIu64
                            " now (0: none)",
                            e->body->name, theirs->address, theirs->id, now);
    }
    return RFN_OK;
}

/* One comparison when nothing was released since the last launch. Memory of others that was
 * not imported has to be asked for every time, in check mode only. */
static enum rfn_status guard(struct rfn_exec *e)
{
    uint64_t epoch = atomic_load(&e->object.device->memory.epoch);
    if (e->epoch == epoch &&
        !(e->object.device->check && e->object.device->backend->memory_id))
        return RFN_OK;
    enum rfn_status status = check_pins(e, &e->pins);
    for (int32_t i = 0; status == RFN_OK && i < e->body->launches; i++)
        status = check_pins(e, &e->launch[i]);
    if (status == RFN_OK)
        e->epoch = epoch;
    return status;
}

enum rfn_status rfn_exec_launch(struct rfn_exec *exec, struct rfn_stream *stream)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_object_of(exec, RFN_OBJECT_EXEC, "exec", device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_exec_launch, stream);
    if (status == RFN_OK)
        status = guard(exec);
    if (status != RFN_OK)
        return status;
    event.exec = exec;
    event.exec_serial = exec->object.serial;
    event.exec_updated = exec->updated;
    event.graph_id = exec->body->capture_id;
    if (exec->body->plan && event.before.status == RFN_CAPTURE_NONE)
        status = rfn_guard_launch(&event, device, exec->body);
    if (status != RFN_OK)
        return status;
    int code = device->backend->exec_launch(device->impl, exec->native, stream->native);
    if (!code)
    {
        atomic_store_explicit(&device->last_capture, exec->body->capture_id,
                              memory_order_relaxed);
        atomic_store_explicit(&device->last_op, NULL, memory_order_relaxed);
        if (exec->body->plan)
            rfn_guard_launched(exec);
    }
    return rfn_call_end(&event, device, code);
}

enum rfn_status rfn_exec_upload(struct rfn_exec *exec, struct rfn_stream *stream)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_object_of(exec, RFN_OBJECT_EXEC, "exec", device);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_exec_upload, stream);
    if (status != RFN_OK)
        return status;
    event.exec = exec;
    return rfn_call_end(
        &event, device,
        device->backend->exec_upload(device->impl, exec->native, stream->native));
}

enum rfn_status rfn_exec_destroy(struct rfn_exec **exec)
{
    struct rfn_call_event event;
    if (!exec)
        return RFN_FAIL(RFN_INVALID, "exec is NULL where its address is due");
    struct rfn_exec *e = *exec;
    if (!e)
        return RFN_OK;
    enum rfn_status status = rfn_object_check(e, RFN_OBJECT_EXEC, "exec");
    if (status != RFN_OK)
        return status;
    if (e->of_ladder)
        return RFN_FAIL(RFN_BUSY, "exec %p is a ladder's, and goes with it", (void *)e);
    struct rfn_device *device = e->object.device;
    if (!atomic_load(&device->lost))
    {
        status = rfn_call_begin(&event, device, RFN_CALL_exec_destroy, NULL);
        if (status != RFN_OK)
            return status;
        event.exec = e;
        event.exec_serial = e->object.serial;
        status = rfn_call_end(&event, device,
                              device->backend->exec_destroy(device->impl, e->native));
        if (status != RFN_OK && status != RFN_DEVICE)
            return status;
    }
    else
        device->backend->exec_destroy(device->impl, e->native);
    pthread_mutex_lock(&device->lock);
    struct rfn_exec **at = &device->execs;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    pthread_mutex_unlock(&device->lock);
    drop_exec_pins(e);
    rfn_body_drop(device, e->body);
    rfn_object_destroy(e);
    *exec = NULL;
    return status;
}
