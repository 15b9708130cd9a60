#define RFN_NO_SITES
#include "graph/order.h"

#include <stdlib.h>
#include <string.h>

struct rfn_order *rfn_order_create(void)
{
    return calloc(1, sizeof(struct rfn_order));
}

void rfn_order_destroy(struct rfn_order *order)
{
    if (order)
        rfn_order_sets_release(order);
    free(order);
}

/* ---- clocks ------------------------------------------------------------------------ */

static void join(struct rfn_order_clock *to, const struct rfn_order_clock *from)
{
    for (int i = 0; i < RFN_ORDER_LANES; i++)
        if (from->at[i] > to->at[i])
            to->at[i] = from->at[i];
}

static void join_all(const struct rfn_order *order, struct rfn_order_clock *to)
{
    for (int i = 0; i < RFN_ORDER_LANES; i++)
        if (order->lane[i].knows.at[i] > to->at[i])
            to->at[i] = order->lane[i].knows.at[i];
}

/* ---- streams ----------------------------------------------------------------------- */

static struct rfn_order_lane *find_lane(struct rfn_order *order, uint64_t stream,
                                        enum rfn_stream_kind kind, uint64_t thread)
{
    int32_t free_lane = -1;
    for (int32_t i = 0; i < RFN_ORDER_LANES; i++)
    {
        struct rfn_order_lane *lane = &order->lane[i];
        if (lane->stream == stream && lane->kind == kind &&
            (kind != RFN_STREAM_PER_THREAD || lane->thread == thread))
            return lane;
        if (!lane->stream && free_lane < 0)
            free_lane = i;
    }
    if (free_lane < 0)
    {
        order->blind = 1;
        return NULL;
    }
    /* Its time goes on where the last stream's ended, all of whose work counts as done. */
    struct rfn_order_lane *lane = &order->lane[free_lane];
    uint32_t time = lane->knows.at[free_lane];
    *lane = (struct rfn_order_lane) { .stream = stream, .thread = thread, .kind = kind };
    lane->knows.at[free_lane] = time;
    return lane;
}

/* The legacy stream waits for all blocking ones, and they for it. */
static void order_legacy(struct rfn_order *order, struct rfn_order_lane *lane)
{
    if (lane->kind == RFN_STREAM_NONBLOCKING)
        return;
    for (int32_t i = 0; i < RFN_ORDER_LANES; i++)
    {
        const struct rfn_order_lane *other = &order->lane[i];
        if (other != lane && other->stream &&
            (lane->kind == RFN_STREAM_LEGACY ? other->kind != RFN_STREAM_NONBLOCKING
                                             : other->kind == RFN_STREAM_LEGACY))
            join(&lane->knows, &other->knows);
    }
}

struct rfn_order_lane *rfn_order_lane(struct rfn_order *order,
                                      const struct rfn_call_event *event)
{
    struct rfn_order_lane *lane = NULL;
    if (event->stream && event->stream_serial)
        lane = find_lane(order, event->stream_serial, event->stream_kind, event->thread);
    if (lane)
        order_legacy(order, lane);
    return lane;
}

int rfn_order_behind(const struct rfn_order *order, const struct rfn_order_lane *lane,
                     const struct rfn_order_work *work)
{
    return lane->knows.at[work->lane] >= work->time ||
           order->done.at[work->lane] >= work->time;
}

static struct rfn_order_work work_on(struct rfn_order *order, struct rfn_order_lane *lane,
                                     const struct rfn_call_event *event)
{
    int32_t i = (int32_t)(lane - order->lane);
    return (struct rfn_order_work) {
        .lane = i,
        .time = ++lane->knows.at[i],
        .site = { event->site.file ? event->site.file : "", event->site.line },
        .stream = event->stream_serial,
        .kind = event->stream_kind,
    };
}

/* ---- reads ------------------------------------------------------------------------- */

static void note_read(struct rfn_order *order, const char *what,
                      const struct rfn_order_range *range,
                      const struct rfn_order_work *work)
{
    struct rfn_order_read *read = NULL;
    for (int32_t i = 0; i < RFN_ORDER_READS && !read; i++)
    {
        struct rfn_order_read *r = &order->read[i];
        /* Behind the later one of a stream is behind the earlier one too. */
        if (!r->what || order->done.at[r->work.lane] >= r->work.time ||
            (r->work.lane == work->lane && r->range.begin == range->begin &&
             r->range.end <= range->end))
            read = r;
    }
    if (!read)
        read = &order->read[order->reads++ % RFN_ORDER_READS];
    *read = (struct rfn_order_read) { what, *range, *work };
}

static void copied(struct rfn_order *order, struct rfn_order_lane *lane,
                   const struct rfn_call_event *event)
{
    struct rfn_order_work work = work_on(order, lane, event);
    uintptr_t begin = (uintptr_t)event->src;
    struct rfn_order_range range = { begin, begin + (uintptr_t)event->bytes, "copy_async",
                                     "src" };
    if (event->dst_kind == RFN_MEMORY_PAGEABLE) /* such a copy waits for itself */
        join(&order->done, &lane->knows);
    else if (event->bytes > 0 && event->src_kind != RFN_MEMORY_PAGEABLE)
        note_read(order, "copy_async", &range, &work);
}

static void op_launched(struct rfn_order *order, struct rfn_order_lane *lane,
                        const struct rfn_call_event *event)
{
    struct rfn_order_work work = work_on(order, lane, event);
    struct rfn_order_range range;
    for (uint32_t i = 0; event->op && event->args && i < event->op->operands; i++)
        if ((event->op->operand[i].access & RFN_READ) &&
            rfn_order_operand(event, i, &range))
            note_read(order, event->op->name, &range, &work);
}

/* ---- executables ------------------------------------------------------------------- */

void rfn_order_launched(struct rfn_order *order, struct rfn_order_lane *lane,
                        const struct rfn_call_event *event)
{
    struct rfn_order_launch *launch = NULL;
    /* Launches of one executable run one after the other: the last one stands for all. */
    for (int32_t i = 0; i < RFN_ORDER_LAUNCHES && !launch; i++)
        if (order->launch[i].exec == event->exec_serial)
        {
            launch = &order->launch[i];
            join(&lane->knows, &launch->clock);
        }
    for (int32_t i = 0; i < RFN_ORDER_LAUNCHES && !launch; i++)
        if (!order->launch[i].exec ||
            order->done.at[order->launch[i].work.lane] >= order->launch[i].work.time)
            launch = &order->launch[i];
    if (!launch)
        launch = &order->launch[order->launches++ % RFN_ORDER_LAUNCHES];
    *launch = (struct rfn_order_launch) {
        .exec = event->exec_serial,
        .capture_id = event->graph_id,
        .updated = event->exec_updated,
        .work = work_on(order, lane, event),
    };
    launch->clock = lane->knows;
    if (rfn_order_tells(order, event->graph_id))
        join_all(order, &order->done);
}

static void exec_gone(struct rfn_order *order, const struct rfn_call_event *event)
{
    for (int32_t i = 0; i < RFN_ORDER_LAUNCHES; i++)
        if (event->exec_serial && order->launch[i].exec == event->exec_serial)
        {
            join(&order->done, &order->launch[i].clock); /* it was waited for */
            order->launch[i].exec = 0;
        }
}

/* ---- events ------------------------------------------------------------------------ */

static struct rfn_order_event *find_event(struct rfn_order *order,
                                          const struct rfn_event *event)
{
    for (int32_t i = 0; event && i < RFN_ORDER_EVENTS; i++)
        if (order->event[i].event == event)
            return &order->event[i];
    return NULL;
}

static void forget_event(struct rfn_order *order, const struct rfn_event *event)
{
    struct rfn_order_event *e = find_event(order, event);
    if (e)
        e->event = NULL;
}

static void recorded(struct rfn_order *order, const struct rfn_order_lane *lane,
                     const struct rfn_event *event)
{
    struct rfn_order_event *e = find_event(order, event);
    if (!event)
        return;
    if (!e)
        e = &order->event[order->events++ % RFN_ORDER_EVENTS];
    *e = (struct rfn_order_event) { event, lane->knows };
}

/* Who waits for an event that is not known may know everything. */
static void learn(struct rfn_order *order, const struct rfn_event *event,
                  struct rfn_order_clock *to)
{
    const struct rfn_order_event *e = find_event(order, event);
    if (e)
        join(to, &e->clock);
    else
        join_all(order, to);
}

/* ---- calls ------------------------------------------------------------------------- */

static void in_stream_order(struct rfn_order *order, const struct rfn_call_event *event)
{
    struct rfn_order_lane *lane = rfn_order_lane(order, event);
    if (!lane)
        return;
    switch (event->call)
    {
    case RFN_CALL_copy_async:
        copied(order, lane, event);
        break;
    case RFN_CALL_op_launch:
        op_launched(order, lane, event);
        break;
    case RFN_CALL_set_async:
        work_on(order, lane, event);
        break;
    case RFN_CALL_host_call: /* it may tell the host */
        work_on(order, lane, event);
        join(&order->done, &lane->knows);
        break;
    case RFN_CALL_event_record:
        recorded(order, lane, event->event);
        break;
    case RFN_CALL_stream_wait:
        learn(order, event->event, &lane->knows);
        break;
    case RFN_CALL_stream_sync:
    case RFN_CALL_stream_query:
        join(&order->done, &lane->knows);
        break;
    default:
        break;
    }
}

/* A stream that is destroyed still works; what it does counts as done. */
static void stream_gone(struct rfn_order *order, const struct rfn_call_event *event)
{
    for (int32_t i = 0; i < RFN_ORDER_LANES; i++)
        if (event->stream_serial && order->lane[i].stream == event->stream_serial)
        {
            join(&order->done, &order->lane[i].knows);
            order->lane[i].stream = 0;
        }
}

void rfn_order_follow(struct rfn_order *order, const struct rfn_call_event *event)
{
    if (event->code)
        return;
    rfn_order_gather(order, event);
    if (event->before.status != RFN_CAPTURE_NONE)
    {
        if (event->call == RFN_CALL_event_record && !(event->flags & RFN_EVENT_EXTERNAL))
            forget_event(order, event->event);
        return;
    }
    switch (event->call)
    {
    case RFN_CALL_device_sync:
    case RFN_CALL_event_elapsed:
        join_all(order, &order->done);
        break;
    case RFN_CALL_memory_free:
        if (event->dst)
            join_all(order, &order->done);
        break;
    case RFN_CALL_copy_sync: /* on the legacy stream, so all blocking ones too */
        if (event->src_kind != RFN_MEMORY_DEVICE || event->dst_kind != RFN_MEMORY_DEVICE)
            for (int32_t i = 0; i < RFN_ORDER_LANES; i++)
                if (order->lane[i].stream &&
                    order->lane[i].kind != RFN_STREAM_NONBLOCKING)
                    join(&order->done, &order->lane[i].knows);
        break;
    case RFN_CALL_event_sync:
    case RFN_CALL_event_query:
        learn(order, event->event, &order->done);
        break;
    case RFN_CALL_event_destroy:
        forget_event(order, event->event);
        break;
    case RFN_CALL_stream_destroy:
        stream_gone(order, event);
        break;
    case RFN_CALL_exec_destroy:
        exec_gone(order, event);
        break;
    default:
        in_stream_order(order, event);
        break;
    }
}
