/* Planning outside graphs: the lists of tiles, from lengths that the host knows or fetches. */
#include "kernels/lists.h"
#include "kernels/op.h"
#include "runtime/attention/attention.h"
#include "runtime/call.h"

#include <inttypes.h>
#include <refrain/plan.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- on the device --------------------------------------------------------------- */

enum rfn_status rfn_split_lists(struct rfn_stream *stream,
                                const struct rfn_split_lists_args *args)
{
    return rfn_op_launch(stream, &rfn_op_split_lists, args);
}

enum rfn_status rfn_prefix_lists(struct rfn_stream *stream,
                                 const struct rfn_prefix_lists_args *args)
{
    return rfn_op_launch(stream, &rfn_op_prefix_lists, args);
}

/* ---- on the host ----------------------------------------------------------------- */

/* The line for the first request whose lengths are wrong. */
static enum rfn_status refuse(const struct rfn_fault *seen, const struct rfn_lens *lens)
{
    const long long b = seen->row;
    if (strcmp(seen->operand, "q_starts") == 0)
        return RFN_FAIL(RFN_INVALID,
                        "%s: q_starts goes down from %d to %d at request %lld", seen->op,
                        lens->q_starts[b], lens->q_starts[b + 1], b);
    if (seen->value < 0)
        return RFN_FAIL(RFN_INVALID,
                        "%s: request %lld: %s is %lld, but 0 .. %d is needed", seen->op,
                        b, seen->operand, (long long)seen->value, INT32_MAX);
    int64_t q = lens->q_lens ? lens->q_lens[b]
                             : (int64_t)lens->q_starts[b + 1] - lens->q_starts[b];
    return RFN_FAIL(RFN_INVALID,
                    "%s: request %lld: %lld cached and %lld query tokens, but a context "
                    "has up to %d",
                    seen->op, b, (long long)seen->value, (long long)q, INT32_MAX);
}

static enum rfn_status check_room(const char *op, const char *list, int64_t tiles,
                                  int64_t room)
{
    if (tiles > room)
        return RFN_FAIL(RFN_LIMIT,
                        "%s: %s: %" PRId64 " tiles are due, but there is room for "
                        "%" PRId64,
                        op, list, tiles, room);
    return RFN_OK;
}

enum rfn_status rfn_split_lists_host(const struct rfn_split_lists_args *args)
{
    static const char *const name[] = { "decoder", "encoder", "kv" };
    struct rfn_fault seen = { 0 };
    struct rfn_split_plan plan;
    enum rfn_status status = rfn_op_check(&rfn_op_split_lists, args);
    if (status != RFN_OK)
        return status;
    rfn_split_plan_count(args, &seen, &plan);
    if (seen.op)
        return refuse(&seen, &plan.lens);
    for (int i = 0; status == RFN_OK && i < RFN_SPLIT_LISTS; i++)
        status = check_room("split_lists", name[i], plan.tiles[i], plan.list[i].size);
    if (status == RFN_OK)
        rfn_split_plan_fill(args, &plan);
    return status;
}

enum rfn_status rfn_prefix_lists_host(const struct rfn_prefix_lists_args *args)
{
    struct rfn_fault seen = { 0 };
    struct rfn_prefix_plan plan;
    enum rfn_status status = rfn_op_check(&rfn_op_prefix_lists, args);
    if (status != RFN_OK)
        return status;
    rfn_prefix_plan_count(args, &seen, &plan);
    if (seen.op)
        return refuse(&seen, &plan.lens);
    if (plan.keys > plan.keys_most)
        return RFN_FAIL(RFN_LIMIT,
                        "prefix_lists: %" PRId64 " keys in all, but the bound is %d",
                        plan.keys, plan.keys_most);
    status = check_room("prefix_lists", "tiles", plan.tiles, plan.list.size);
    if (status == RFN_OK)
        rfn_prefix_plan_fill(args, &plan);
    return status;
}

/* ---- fetched --------------------------------------------------------------------- */

#define VECTORS 5
#define GAP_BYTES 256 /* between vectors that one copy fetches: their alignment */

struct vector
{
    const char *name;
    struct rfn_tensor *view; /* in device memory; then of the copy */
    const char *begin;
    int64_t bytes;
    const struct rfn_allocation *allocation;
};

/* Fails outside of device memory. An allocation is only compared with others. */
static enum rfn_status find(struct rfn_device *device, const char *op, struct vector *v)
{
    struct rfn_place place;
    char what[64];
    snprintf(what, sizeof what, "%s: %s", op, v->name);
    v->begin = v->view->data;
    v->bytes = v->view->shape[0] * (int64_t)sizeof(int32_t);
    pthread_mutex_lock(&device->lock);
    enum rfn_status status = rfn_memory_place(device, what, v->begin, v->bytes, &place);
    pthread_mutex_unlock(&device->lock);
    if (status == RFN_OK && v->bytes && place.kind == RFN_MEMORY_PAGEABLE)
        status = RFN_FAIL(RFN_INVALID,
                          "%s: %" PRId64 " bytes at %p are pageable host memory where "
                          "device memory is due",
                          what, v->bytes, (const void *)v->begin);
    v->allocation = place.allocation;
    return status;
}

/* Outputs are written by the host. */
static enum rfn_status check_output(struct rfn_device *device, const char *op,
                                    const char *name, const struct rfn_tensor *t)
{
    struct rfn_place place;
    char what[64];
    int64_t n = t->data ? t->shape[0] * (t->dims == 2 ? t->shape[1] : 1) : 0;
    if (!n)
        return RFN_OK;
    snprintf(what, sizeof what, "%s: %s", op, name);
    pthread_mutex_lock(&device->lock);
    enum rfn_status status =
        rfn_memory_place(device, what, t->data, n * (int64_t)sizeof(int32_t), &place);
    pthread_mutex_unlock(&device->lock);
    if (status == RFN_OK && place.kind == RFN_MEMORY_DEVICE)
        status = RFN_FAIL(RFN_INVALID,
                          "%s: %" PRId64 " bytes at %p are device memory where host "
                          "memory is due",
                          what, n * (int64_t)sizeof(int32_t), t->data);
    return status;
}

/* Whether `v` is fetched by the copy that begins at `first`, and so far reaches `end`. */
static int joins(const struct vector *first, const char *end, const struct vector *v)
{
    return v->allocation && v->allocation == first->allocation && v->begin >= end &&
           v->begin - end <= GAP_BYTES;
}

/* Copies the vectors to `to`, which has room for all and their gaps; their views point
 * there then. They are in the order of their addresses. */
static enum rfn_status copy(struct rfn_device *device, struct vector *v, int vectors,
                            char *to)
{
    for (int i = 0, next; i < vectors; i = next)
    {
        const char *end = v[i].begin + v[i].bytes;
        for (next = i + 1; next < vectors && joins(&v[i], end, &v[next]); next++)
            end = v[next].begin + v[next].bytes;
        enum rfn_status status = rfn_copy_sync(device, to, v[i].begin, end - v[i].begin);
        if (status != RFN_OK)
            return status;
        for (int j = i; j < next; j++)
            v[j].view->data = to + (v[j].begin - v[i].begin);
        to += end - v[i].begin;
    }
    return RFN_OK;
}

/* Outside captures: waits for the stream's work. What another thread captures has nothing
 * to fear from that. */
static enum rfn_status wait_for(struct rfn_device *device, struct rfn_stream *stream)
{
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    enum rfn_status status = rfn_thread_mode_exchange(device, &mode);
    if (status != RFN_OK)
        return status;
    status = rfn_stream_sync(stream);
    enum rfn_status back = rfn_thread_mode_exchange(device, &mode);
    return status == RFN_OK ? back : status;
}

/* Fetches what is given of the vectors; *ret_memory holds it, to be freed. */
static enum rfn_status fetch(struct rfn_stream *stream, const char *op, struct vector *v,
                             int vectors, void **ret_memory)
{
    struct rfn_device *device = stream->object.device;
    int n = 0;
    int64_t bytes = 0;
    *ret_memory = NULL;
    for (int i = 0; i < vectors; i++)
    {
        struct vector given = v[i];
        if (!given.view->data || !given.view->shape[0])
            continue;
        enum rfn_status status = find(device, op, &given);
        if (status != RFN_OK)
            return status;
        bytes += given.bytes + GAP_BYTES;
        int at = n++; /* `given` is a copy: what was in v[at] has been looked at */
        for (; at > 0 && (uintptr_t)v[at - 1].begin > (uintptr_t)given.begin; at--)
            v[at] = v[at - 1];
        v[at] = given;
    }
    if (!n)
        return RFN_OK;
    enum rfn_status status = wait_for(device, stream);
    if (status != RFN_OK)
        return status;
    *ret_memory = malloc((size_t)bytes);
    if (!*ret_memory)
        return RFN_FAIL(RFN_NOMEM, "%s_sync: no memory for %" PRId64 " bytes of lengths",
                        op, bytes);
    return copy(device, v, n, *ret_memory);
}

enum rfn_status rfn_split_lists_sync(struct rfn_stream *stream,
                                     const struct rfn_split_lists_args *args)
{
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_outside_captures(device, stream, "split_lists_sync");
    if (status == RFN_OK)
        status = rfn_op_check(&rfn_op_split_lists, args);
    if (status != RFN_OK)
        return status;
    const struct
    {
        const char *name;
        const struct rfn_tensor *view;
    } out[] = { { "maxima", &args->maxima },
                { "decoder", &args->decoder },
                { "encoder", &args->encoder },
                { "kv", &args->kv },
                { "counts", &args->counts } };
    for (size_t i = 0; status == RFN_OK && i < RFN_COUNT(out); i++)
        status = check_output(device, "split_lists_sync", out[i].name, out[i].view);
    if (status != RFN_OK)
        return status;
    struct rfn_split_lists_args here = *args;
    struct vector v[VECTORS] = { { "q_lens", &here.q_lens },
                                 { "q_starts", &here.q_starts },
                                 { "prefill", &here.prefill },
                                 { "cached", &here.cached },
                                 { "requests", &here.requests } };
    void *memory;
    status = fetch(stream, "split_lists", v, 5, &memory);
    if (status == RFN_OK)
        status = rfn_split_lists_host(&here);
    free(memory);
    return status;
}

enum rfn_status rfn_prefix_lists_sync(struct rfn_stream *stream,
                                      const struct rfn_prefix_lists_args *args)
{
    struct rfn_device *device;
    enum rfn_status status = rfn_stream_check(stream, &device);
    if (status == RFN_OK)
        status = rfn_outside_captures(device, stream, "prefix_lists_sync");
    if (status == RFN_OK)
        status = rfn_op_check(&rfn_op_prefix_lists, args);
    if (status == RFN_OK)
        status = check_output(device, "prefix_lists_sync", "tiles", &args->tiles);
    if (status == RFN_OK)
        status =
            check_output(device, "prefix_lists_sync", "key_starts", &args->key_starts);
    if (status == RFN_OK)
        status = check_output(device, "prefix_lists_sync", "counts", &args->counts);
    if (status != RFN_OK)
        return status;
    struct rfn_prefix_lists_args here = *args;
    struct vector v[VECTORS] = { { "q_lens", &here.q_lens },
                                 { "q_starts", &here.q_starts },
                                 { "cached", &here.cached },
                                 { "requests", &here.requests } };
    void *memory;
    status = fetch(stream, "prefix_lists", v, 4, &memory);
    if (status == RFN_OK)
        status = rfn_prefix_lists_host(&here);
    free(memory);
    return status;
}
