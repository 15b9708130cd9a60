/* The memory that graphs touch for certain, gathered while they are captured. */
#define RFN_NO_SITES
#include "graph/order.h"

#include <stdlib.h>
#include <string.h>

/* ---- operands ---------------------------------------------------------------------- */

int rfn_order_operand(const struct rfn_call_event *event, uint32_t i,
                      struct rfn_order_range *ret)
{
    const struct rfn_operand *o = &event->op->operand[i];
    void *begin = NULL;
    int64_t bytes = 0;
    if (o->kind != RFN_OPERAND_TENSOR)
        return 0;
    rfn_op_extent(event->op, i, event->args, &begin, &bytes);
    if (bytes <= 0)
        return 0;
    struct rfn_tensor t;
    memcpy(&t, (const char *)event->args + o->offset, sizeof t);
    int64_t run = rfn_dtype_bytes(t.dtype), elems = 1;
    for (int32_t d = t.dims - 1; d >= 0 && (t.stride[d] == elems || t.shape[d] == 1); d--)
        elems *= t.shape[d];
    run *= elems;
    if (run <= 0 || run > bytes)
        return 0;
    *ret = (struct rfn_order_range) { (uintptr_t)begin, (uintptr_t)begin + (uintptr_t)run,
                                      event->op->name, o->name };
    return 1;
}

/* ---- ranges ------------------------------------------------------------------------ */

static int add(struct rfn_order_ranges *to, const struct rfn_order_range *range)
{
    /* Layer by layer the same buffers come again. */
    for (int32_t i = to->count - 1; i >= 0 && i >= to->count - 16; i--)
        if (to->at[i].begin == range->begin && to->at[i].end == range->end)
            return 1;
    if (to->count == to->room)
    {
        int32_t room = to->room ? 2 * to->room : 64;
        void *grown = room <= RFN_ORDER_RANGES
                          ? realloc(to->at, (size_t)room * sizeof *to->at)
                          : NULL;
        if (!grown)
            return 0;
        to->at = grown;
        to->room = room;
    }
    to->at[to->count++] = *range;
    return 1;
}

static int by_begin(const void *a, const void *b)
{
    uintptr_t x = ((const struct rfn_order_range *)a)->begin;
    uintptr_t y = ((const struct rfn_order_range *)b)->begin;
    return (x > y) - (x < y);
}

/* Sorted and disjoint. What is joined keeps the first one's name. */
static void close_ranges(struct rfn_order_ranges *ranges)
{
    int32_t n = 0;
    if (!ranges->count)
        return;
    qsort(ranges->at, (size_t)ranges->count, sizeof *ranges->at, by_begin);
    for (int32_t i = 1; i < ranges->count; i++)
    {
        struct rfn_order_range *last = &ranges->at[n];
        const struct rfn_order_range *r = &ranges->at[i];
        if (r->begin >= last->end)
            ranges->at[++n] = *r;
        else if (r->end > last->end)
            last->end = r->end;
    }
    ranges->count = n + 1;
    void *less = realloc(ranges->at, (size_t)ranges->count * sizeof *ranges->at);
    if (less)
        ranges->at = less;
    ranges->room = ranges->count;
}

const struct rfn_order_range *rfn_order_overlap(const struct rfn_order_ranges *a,
                                                const struct rfn_order_ranges *b,
                                                const struct rfn_order_range **ret_other)
{
    int32_t i = 0, j = 0;
    while (i < a->count && j < b->count)
    {
        if (a->at[i].end <= b->at[j].begin)
            i++;
        else if (b->at[j].end <= a->at[i].begin)
            j++;
        else
        {
            *ret_other = &b->at[j];
            return &a->at[i];
        }
    }
    return NULL;
}

/* ---- sets -------------------------------------------------------------------------- */

static void release(struct rfn_order_set *set)
{
    free(set->write.at);
    free(set->read.at);
    *set = (struct rfn_order_set) { 0 };
}

void rfn_order_sets_release(struct rfn_order *order)
{
    for (int32_t i = 0; i < RFN_ORDER_SETS; i++)
        release(&order->set[i]);
}

static struct rfn_order_set *find(const struct rfn_order *order, uint64_t capture_id)
{
    for (int32_t i = 0; capture_id && i < RFN_ORDER_SETS; i++)
        if (order->set[i].capture_id == capture_id)
            return (struct rfn_order_set *)&order->set[i];
    return NULL;
}

const struct rfn_order_set *rfn_order_set(const struct rfn_order *order,
                                          uint64_t capture_id)
{
    const struct rfn_order_set *set = find(order, capture_id);
    return set && set->closed && !set->unknown ? set : NULL;
}

int rfn_order_tells(const struct rfn_order *order, uint64_t capture_id)
{
    const struct rfn_order_set *set = find(order, capture_id);
    return !set || set->tells; /* what is not known may */
}

static void open_set(struct rfn_order *order, uint64_t capture_id)
{
    struct rfn_order_set *set = &order->set[order->sets++ % RFN_ORDER_SETS];
    release(set);
    set->capture_id = capture_id;
}

static void add_child(struct rfn_order *order, struct rfn_order_set *set,
                      uint64_t child_id)
{
    const struct rfn_order_set *child = find(order, child_id);
    if (!child || child == set)
    {
        set->unknown = set->tells = 1;
        return;
    }
    set->tells |= child->tells;
    set->unknown |= child->unknown;
    for (int32_t i = 0; i < child->write.count; i++)
        set->unknown |= !add(&set->write, &child->write.at[i]);
    for (int32_t i = 0; i < child->read.count; i++)
        set->unknown |= !add(&set->read, &child->read.at[i]);
}

static void add_op(struct rfn_order_set *set, const struct rfn_call_event *event)
{
    struct rfn_order_range range;
    for (uint32_t i = 0; event->op && event->args && i < event->op->operands; i++)
    {
        if (!rfn_order_operand(event, i, &range))
            continue;
        if (event->op->operand[i].access & RFN_WRITE)
            set->unknown |= !add(&set->write, &range);
        if (event->op->operand[i].access & RFN_READ)
            set->unknown |= !add(&set->read, &range);
    }
}

static void add_bytes(struct rfn_order_set *set, struct rfn_order_ranges *to,
                      const void *address, int64_t bytes, const char *op,
                      const char *operand)
{
    uintptr_t begin = (uintptr_t)address;
    struct rfn_order_range range = { begin, begin + (uintptr_t)bytes, op, operand };
    if (bytes > 0)
        set->unknown |= !add(to, &range);
}

void rfn_order_gather(struct rfn_order *order, const struct rfn_call_event *event)
{
    if (event->call == RFN_CALL_capture_begin && event->after.id)
        open_set(order, event->after.id);
    struct rfn_order_set *set = find(order, event->before.id);
    if (!set)
        return;
    switch (event->call)
    {
    case RFN_CALL_capture_end:
        close_ranges(&set->write);
        close_ranges(&set->read);
        set->closed = 1;
        break;
    case RFN_CALL_op_launch:
        add_op(set, event);
        break;
    case RFN_CALL_copy_async:
        add_bytes(set, &set->read, event->src, event->bytes, "copy_async", "src");
        add_bytes(set, &set->write, event->dst, event->bytes, "copy_async", "dst");
        break;
    case RFN_CALL_set_async:
        add_bytes(set, &set->write, event->dst, event->bytes, "set_async", "dst");
        break;
    case RFN_CALL_host_call: /* it may tell the host */
        set->tells = 1;
        break;
    case RFN_CALL_event_record:
    case RFN_CALL_stream_wait:
        set->tells |= (event->flags & RFN_EVENT_EXTERNAL) != 0;
        break;
    case RFN_CALL_capture_add_child:
        add_child(order, set, event->graph_id);
        break;
    default:
        break;
    }
}
