#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>
#include <string.h>

static const struct rfn_host_ref nothing = { NULL, 0 };

/* ---- running ---------------------------------------------------------------------- */

int rfn_host_scratch(struct rfn_host_device *d, size_t bytes)
{
    if (bytes <= d->scratch_bytes)
        return RFN_CODE_OK;
    void *scratch = malloc(bytes);
    if (!scratch)
        return rfn_host_fail(RFN_CODE_NOMEM, "no memory for %zu bytes of arguments",
                             bytes);
    free(d->scratch);
    d->scratch = scratch;
    d->scratch_bytes = bytes;
    return RFN_CODE_OK;
}

/* About a millisecond of one core, also for ops that count no flops. Below it a team of
 * threads costs more than it brings, and its waiting threads take the cores from whoever
 * else runs. */
#define SMALL_FLOPS 50000000
#define SMALL_BYTES 1000000

static int is_small(const struct rfn_op *op, const void *args)
{
    if (!op->cost)
        return 0;
    struct rfn_cost cost = op->cost(args);
    return cost.flops < SMALL_FLOPS && cost.bytes_read + cost.bytes_written < SMALL_BYTES;
}

/* The twin gets a copy of the arguments that points to where the device side may touch. */
static void run_op(struct rfn_host_device *d, const struct rfn_op *op, const void *args)
{
    char *copy = d->scratch;
    memcpy(copy, args, op->args_bytes);
    for (uint32_t i = 0; i < op->operands; i++)
    {
        /* Tensors and pools both begin with `data`. */
        void *data;
        memcpy(&data, copy + op->operand[i].offset, sizeof data);
        if (data)
            data = rfn_host_memory_alias(d->memory, data);
        memcpy(copy + op->operand[i].offset, &data, sizeof data);
    }
    struct rfn_host_env env = d->env;
    if (is_small(op, args))
        env.threads = 1;
    int was = rfn_host_inside(1);
    op->host(copy, &env);
    rfn_host_inside(was);
}

void rfn_host_run(struct rfn_host_device *d, struct rfn_host_item *item)
{
    const struct rfn_host_work *w = &item->work;
    switch (w->type)
    {
    case RFN_NODE_KERNEL:
        run_op(d, w->launch.op, w->launch.args);
        break;
    case RFN_NODE_MEMCPY:
        if (w->copy.bytes > 0)
            memmove(rfn_host_memory_alias(d->memory, w->copy.dst),
                    rfn_host_memory_alias(d->memory, w->copy.src), (size_t)w->copy.bytes);
        break;
    case RFN_NODE_MEMSET:
        if (w->set.bytes > 0)
            memset(rfn_host_memory_alias(d->memory, w->set.dst), w->set.value,
                   (size_t)w->set.bytes);
        break;
    case RFN_NODE_HOST:
    {
        /* It comes in stream order and may use what was copied before it. */
        int was = rfn_host_inside(1), let = rfn_host_memory_let(1);
        w->call.fn(w->call.user);
        rfn_host_memory_let(let);
        rfn_host_inside(was);
        break;
    }
    case RFN_NODE_EVENT_RECORD:
        rfn_host_event_happen(w->event, item->serial);
        break;
    case RFN_NODE_EVENT_WAIT:
    case RFN_NODE_CHILD:
    case RFN_NODE_EMPTY:
    case RFN_NODE_TYPES:
        break;
    }
    rfn_host_settle(d, item);
}

/* ---- copies and sets -------------------------------------------------------------- */

static int on_host(enum rfn_memory_kind kind)
{
    return kind != RFN_MEMORY_DEVICE;
}

int rfn_host_copy_sync(void *impl, const struct rfn_copy *copy)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_work work = { .type = RFN_NODE_MEMCPY, .copy = *copy };
    struct rfn_host_ref ref;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_copy_sync, &d->legacy, NULL, 0, NULL);
    if (!code)
        code = rfn_host_submit(d, &d->legacy, &work, nothing, NULL, &ref);
    if (!code && (on_host(copy->dst_kind) || on_host(copy->src_kind)))
    {
        rfn_host_pull(d, ref);
        rfn_host_saw_stream(d, &d->legacy);
    }
    return rfn_host_leave(d, code);
}

/* What CUDA does with pageable memory: an upload is staged, so that its source may change
 * after the call; everything that ends in pageable memory, or never leaves the host, is
 * done when the call returns. */
static int copy_now(struct rfn_host_device *d, struct rfn_host_stream *s,
                    const struct rfn_copy *copy)
{
    struct rfn_host_work work = { .type = RFN_NODE_MEMCPY, .copy = *copy };
    struct rfn_host_ref ref;
    void *staged = NULL;
    int waits = copy->dst_kind == RFN_MEMORY_PAGEABLE ||
                (on_host(copy->dst_kind) && on_host(copy->src_kind));
    if (!waits && copy->src_kind == RFN_MEMORY_PAGEABLE && copy->bytes > 0 &&
        d->sched != RFN_SCHED_FIFO)
    {
        staged = malloc((size_t)copy->bytes);
        if (!staged)
            return rfn_host_fail(RFN_CODE_NOMEM, "no memory to stage %lld bytes",
                                 (long long)copy->bytes);
        memcpy(staged, copy->src, (size_t)copy->bytes);
        work.copy.src = staged;
    }
    int code = rfn_host_submit(d, s, &work, nothing, staged, &ref);
    if (!code && waits)
    {
        rfn_host_pull(d, ref);
        rfn_host_saw_stream(d, s);
    }
    return code;
}

int rfn_host_copy_async(void *impl, void *stream, const struct rfn_copy *copy)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_work work = { .type = RFN_NODE_MEMCPY, .copy = *copy };
    struct rfn_host_member *m = NULL;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, RFN_CALL_copy_async, s, NULL, 0, &m) : RFN_CODE_NOMEM;
    if (!code)
        code = m ? rfn_host_append(m, &work, NULL) : copy_now(d, s, copy);
    return rfn_host_leave(d, code);
}

int rfn_host_set_sync(void *impl, const struct rfn_set *set)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_work work = { .type = RFN_NODE_MEMSET, .set = *set };
    struct rfn_host_ref ref;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    code = rfn_host_ask(d, RFN_CALL_set_sync, &d->legacy, NULL, 0, NULL);
    if (!code)
        code = rfn_host_submit(d, &d->legacy, &work, nothing, NULL, &ref);
    if (!code && on_host(set->dst_kind))
    {
        rfn_host_pull(d, ref);
        rfn_host_saw_stream(d, &d->legacy);
    }
    return rfn_host_leave(d, code);
}

/* Enqueues the work of a call, or makes a node of it. */
static int enqueue(struct rfn_host_device *d, enum rfn_call call, void *stream,
                   const struct rfn_host_work *work)
{
    struct rfn_host_member *m = NULL;
    int code = rfn_host_enter(d);
    if (code)
        return code;
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_ask(d, call, s, NULL, 0, &m) : RFN_CODE_NOMEM;
    if (!code)
        code = m ? rfn_host_append(m, work, NULL)
                 : rfn_host_submit(d, s, work, nothing, NULL, NULL);
    return rfn_host_leave(d, code);
}

int rfn_host_set_async(void *impl, void *stream, const struct rfn_set *set)
{
    struct rfn_host_work work = { .type = RFN_NODE_MEMSET, .set = *set };
    return enqueue(impl, RFN_CALL_set_async, stream, &work);
}

int rfn_host_host_call(void *impl, void *stream, void (*fn)(void *), void *user)
{
    struct rfn_host_work work = { .type = RFN_NODE_HOST, .call = { fn, user } };
    return enqueue(impl, RFN_CALL_host_call, stream, &work);
}

/* ---- ops -------------------------------------------------------------------------- */

static void *copy_args(const struct rfn_op *op, const void *args)
{
    void *copy = malloc(op->args_bytes ? op->args_bytes : 1);
    if (copy)
        memcpy(copy, args, op->args_bytes);
    else
        rfn_host_fail(RFN_CODE_NOMEM, "no memory for the arguments of %s", op->name);
    return copy;
}

static int launch_now(struct rfn_host_device *d, struct rfn_host_stream *s,
                      struct rfn_host_work *work)
{
    void *extra = NULL;
    if (work->launch.op->args_bytes > RFN_HOST_ARGS_BYTES)
    {
        extra = copy_args(work->launch.op, work->launch.args);
        if (!extra)
            return RFN_CODE_NOMEM;
        work->launch.args = extra;
    }
    return rfn_host_submit(d, s, work, nothing, extra, NULL);
}

static int capture_launch(struct rfn_host_member *m, struct rfn_host_work *work,
                          void **ret_node)
{
    struct rfn_host_node *node;
    work->launch.args = copy_args(work->launch.op, work->launch.args);
    if (!work->launch.args)
        return RFN_CODE_NOMEM;
    int code = rfn_host_append(m, work, &node);
    if (code)
        free(work->launch.args);
    else
        *ret_node = node;
    return code;
}

int rfn_host_launch(void *impl, void *stream, const struct rfn_op *op, const void *args,
                    void **ret_node)
{
    struct rfn_host_device *d = impl;
    struct rfn_host_member *m = NULL;
    /* Submitting copies the arguments and writes nothing through this. */
    struct rfn_host_work work = { .type = RFN_NODE_KERNEL,
                                  .launch = { op, (void *)(uintptr_t)args } };
    int code = rfn_host_enter(d);
    if (code)
        return code;
    *ret_node = NULL;
    if (!op->host)
        return rfn_host_leave(
            d, rfn_host_fail(RFN_CODE_NOT_SUPPORTED, "%s has no host twin", op->name));
    struct rfn_host_stream *s = rfn_host_resolve(d, stream);
    code = s ? rfn_host_scratch(d, op->args_bytes) : RFN_CODE_NOMEM;
    if (!code)
        code = rfn_host_ask(d, RFN_CALL_op_launch, s, NULL, 0, &m);
    if (!code)
        code = m ? capture_launch(m, &work, ret_node) : launch_now(d, s, &work);
    return rfn_host_leave(d, code);
}
