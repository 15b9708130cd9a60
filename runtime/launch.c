/* Op launches: arguments against tables, operands against memory, then the device. */
#include "runtime/guard.h"

#include <inttypes.h>
#include <refrain/ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Finds the memory of every operand; a kernel reads no pageable memory. */
static enum rfn_status place_operands(struct rfn_device *device, const struct rfn_op *op,
                                      const void *args, struct rfn_place *ret_place)
{
    for (uint32_t i = 0; i < op->operands; i++)
    {
        char what[96];
        void *begin;
        int64_t bytes;
        ret_place[i] = (struct rfn_place) { NULL, RFN_MEMORY_DEVICE, -1, NULL };
        rfn_op_extent(op, i, args, &begin, &bytes);
        if (!bytes)
            continue;
        snprintf(what, sizeof what, "%s: %s", op->name, op->operand[i].name);
        enum rfn_status status =
            rfn_memory_place(device, what, begin, bytes, &ret_place[i]);
        if (status != RFN_OK)
            return status;
        if (ret_place[i].kind == RFN_MEMORY_PAGEABLE)
            return RFN_FAIL(RFN_INVALID,
                            "%s: %" PRId64 " bytes at %p are pageable host memory where "
                            "device memory is due",
                            what, bytes, begin);
        if (ret_place[i].elsewhere >= 0)
            return RFN_FAIL(RFN_INVALID,
                            "%s: %" PRId64 " bytes at %p are memory of device %d, the "
                            "launch goes to device %d",
                            what, bytes, begin, ret_place[i].elsewhere, device->ordinal);
    }
    return RFN_OK;
}

static enum rfn_status check_op(const struct rfn_op *op, const void *args)
{
    if (!op || !args)
        return RFN_FAIL(RFN_INVALID, "op is %p, args is %p: neither may be NULL",
                        (const void *)op, args);
    if (op->operands > RFN_MAX_OPERANDS)
        return RFN_FAIL(RFN_LIMIT, "%s has %u operands; %d are the most", op->name,
                        op->operands, RFN_MAX_OPERANDS);
    return rfn_op_check(op, args);
}

/* A launch into an open capture: note it with the memory it touches. All that can
 * fail happens before the node is made. */
static enum rfn_status record(struct rfn_device *device, struct rfn_call_event *event,
                              const struct rfn_op *op, const void *args, int *ret_code)
{
    struct rfn_place place[RFN_MAX_OPERANDS];
    enum rfn_status status;
    char text[256];
    pthread_mutex_lock(&device->lock);
    struct rfn_body *body = rfn_capture_find(device, event);
    if (body && rfn_guard_tables(body, op, args, -1, text, sizeof text))
    {
        pthread_mutex_unlock(&device->lock);
        return rfn_call_refuse(event, device, RFN_NOTICE_STALE, RFN_INVALID, text);
    }
    status = place_operands(device, op, args, place);
    struct rfn_recorded *r = NULL;
    if (status == RFN_OK && body)
    {
        if (body->launches == body->capacity)
        {
            int32_t capacity = body->capacity ? 2 * body->capacity : 16;
            void *grown = realloc(body->launch, (size_t)capacity * sizeof *body->launch);
            if (!grown)
                status = RFN_FAIL(RFN_NOMEM, "no memory for %d launches of a capture",
                                  capacity);
            else
            {
                body->launch = grown;
                body->capacity = capacity;
            }
        }
        if (status == RFN_OK)
        {
            r = &body->launch[body->launches];
            *r = (struct rfn_recorded) { .op = op };
            rfn_guard_note_table(r, args);
            status = rfn_pins_reserve(&r->pins, (int32_t)op->operands);
        }
    }
    if (status == RFN_OK)
    {
        void *node = NULL;
        *ret_code =
            device->backend->launch(device->impl, event->stream->native, op, args, &node);
        if (*ret_code == 0 && r)
        {
            r->node = node;
            r->ranges = rfn_range_note(r->range);
            for (uint32_t i = 0; i < op->operands; i++)
                rfn_pins_add(device, &r->pins, &place[i]);
            body->launches++;
        }
        else if (r)
            rfn_pins_drop(&r->pins);
    }
    pthread_mutex_unlock(&device->lock);
    return status;
}

enum rfn_status rfn_op_supported(struct rfn_device *device, const struct rfn_op *op,
                                 const void *args)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status == RFN_OK)
        status = check_op(op, args);
    if (status == RFN_OK)
        status = rfn_call_alive(device, "op_supported");
    if (status == RFN_OK)
        status = rfn_call_allowed(device, "op_supported");
    if (status != RFN_OK)
        return status;
    int code = device->backend->supports(device->impl, op, args);
    if (!code)
        return RFN_OK;
    return rfn_error_at(__FILE__, __LINE__,
                        code == RFN_CODE_NOT_SUPPORTED ? RFN_UNSUPPORTED : RFN_INVALID,
                        code, "%s on the %s device: %s", op->name, device->backend->name,
                        device->backend->why(device->impl));
}

enum rfn_status rfn_op_launch(struct rfn_stream *stream, const struct rfn_op *op,
                              const void *args)
{
    struct rfn_call_event event;
    struct rfn_device *device;
    struct rfn_place place[RFN_MAX_OPERANDS];
    void *node;
    int code = 0;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = check_op(op, args);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_op_launch, stream);
    if (status != RFN_OK)
        return status;
    event.op = op;
    event.args = args;
    if (event.before.status == RFN_CAPTURE_ACTIVE)
        status = record(device, &event, op, args, &code);
    else
    {
        status = place_operands(device, op, args, place);
        if (status == RFN_OK)
            code = device->backend->launch(device->impl, stream->native, op, args, &node);
        if (status == RFN_OK && !code)
            atomic_store_explicit(&device->last_op, op, memory_order_relaxed);
    }
    if (status != RFN_OK)
        return status;
    /* A planner that refuses has said why. */
    if (code == RFN_CODE_NOT_SUPPORTED &&
        (device->backend == &rfn_backend_host ? !op->host : !op->cuda))
        return rfn_error_at(__FILE__, __LINE__, RFN_UNSUPPORTED, code,
                            "%s has no twin for the %s device", op->name,
                            device->backend->name);
    return rfn_call_end(&event, device, code);
}

enum rfn_status rfn_kv_pack(struct rfn_stream *stream,
                            const struct rfn_kv_pack_args *args)
{
    return rfn_op_launch(stream, &rfn_op_kv_pack, args);
}

enum rfn_status rfn_index_topk(struct rfn_stream *stream,
                               const struct rfn_index_topk_args *args)
{
    return rfn_op_launch(stream, &rfn_op_index_topk, args);
}

enum rfn_status rfn_sparse_mla(struct rfn_stream *stream,
                               const struct rfn_sparse_mla_args *args)
{
    return rfn_op_launch(stream, &rfn_op_sparse_mla, args);
}

enum rfn_status rfn_index_pack(struct rfn_stream *stream,
                               const struct rfn_index_pack_args *args)
{
    return rfn_op_launch(stream, &rfn_op_index_pack, args);
}

enum rfn_status rfn_index_query_pack(struct rfn_stream *stream,
                                     const struct rfn_index_query_pack_args *args)
{
    return rfn_op_launch(stream, &rfn_op_index_query_pack, args);
}

enum rfn_status rfn_index_logits(struct rfn_stream *stream,
                                 const struct rfn_index_logits_args *args)
{
    return rfn_op_launch(stream, &rfn_op_index_logits, args);
}

enum rfn_status rfn_mla_combine(struct rfn_stream *stream,
                                const struct rfn_mla_combine_args *args)
{
    return rfn_op_launch(stream, &rfn_op_mla_combine, args);
}

enum rfn_status rfn_step_update(struct rfn_stream *stream,
                                const struct rfn_step_update_args *args)
{
    return rfn_op_launch(stream, &rfn_op_step_update, args);
}

enum rfn_status rfn_synth_fill(struct rfn_stream *stream,
                               const struct rfn_synth_fill_args *args)
{
    return rfn_op_launch(stream, &rfn_op_synth_fill, args);
}

enum rfn_status rfn_index_gather(struct rfn_stream *stream,
                                 const struct rfn_index_gather_args *args)
{
    return rfn_op_launch(stream, &rfn_op_index_gather, args);
}

enum rfn_status rfn_exec_update(struct rfn_exec *exec, int32_t launch, const void *args)
{
    struct rfn_call_event event;
    struct rfn_place place[RFN_MAX_OPERANDS];
    enum rfn_status status = rfn_object_check(exec, RFN_OBJECT_EXEC, "exec");
    if (status != RFN_OK)
        return status;
    struct rfn_device *device = exec->object.device;
    const struct rfn_body *body = exec->body;
    if (launch < 0 || launch >= body->launches)
        return RFN_FAIL(RFN_NOT_FOUND, "launch %d of an executable with %d launches",
                        launch, body->launches);
    const struct rfn_op *op = body->launch[launch].op;
    status = check_op(op, args);
    if (status == RFN_OK)
        status = rfn_call_begin(&event, device, RFN_CALL_exec_update, NULL);
    if (status != RFN_OK)
        return status;
    event.exec = exec;
    event.op = op;
    event.args = args;

    struct rfn_pins pins = { 0 };
    int code = 0;
    char text[256];
    if (rfn_guard_tables(body, op, args, launch, text, sizeof text))
    {
        event.graph_id = body->capture_id;
        return rfn_call_refuse(&event, device, RFN_NOTICE_STALE, RFN_INVALID, text);
    }
    pthread_mutex_lock(&device->lock);
    status = place_operands(device, op, args, place);
    if (status == RFN_OK)
        status = rfn_pins_reserve(&pins, (int32_t)op->operands);
    if (status == RFN_OK)
    {
        code = device->backend->exec_update(device->impl, exec->native,
                                            body->launch[launch].node, op, args);
        if (code == 0)
        {
            for (uint32_t i = 0; i < op->operands; i++)
                rfn_pins_add(device, &pins, &place[i]);
            struct rfn_pins old = exec->launch[launch];
            exec->launch[launch] = pins;
            pins = old;
            exec->updated = 1;
        }
    }
    rfn_pins_drop(&pins);
    pthread_mutex_unlock(&device->lock);
    return status == RFN_OK ? rfn_call_end(&event, device, code) : status;
}
