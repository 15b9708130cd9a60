/* Launches of executables that nothing orders: 028, 029, 048. */
#define RFN_NO_SITES
#include "graph/order.h"
#include "graph/rule.h"

static int told(struct rfn_rules *rules, enum rfn_rule rule,
                const struct rfn_call_event *event, struct rfn_sentence *s)
{
    struct rfn_rules_where where = rfn_rule_where(event);
    return rfn_rule_report(rules, rule, event->graph_id, RFN_CAPTURE_NONE, &where, "", s);
}

static void say_exec(struct rfn_sentence *s, uint64_t exec, uint64_t capture_id)
{
    rfn_say(s, "executable %llu (of capture %llu)", (unsigned long long)exec,
            (unsigned long long)capture_id);
}

static void say_work(struct rfn_sentence *s, const struct rfn_order_work *work)
{
    rfn_say(s, " on ");
    rfn_say_stream(s, work->kind, work->stream);
    rfn_say_site(s, &work->site);
}

static void say_range(struct rfn_sentence *s, const char *how,
                      const struct rfn_order_range *r)
{
    rfn_say(s, " %s '%s' of %s (%p, %llu bytes)", how, r->operand, r->op,
            (const void *)r->begin, (unsigned long long)(r->end - r->begin));
}

static void in_flight_twice(struct rfn_rules *rules,
                            const struct rfn_order_launch *before,
                            const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (!told(rules, RFN_CAP048, event, &s))
        return;
    say_exec(&s, event->exec_serial, event->graph_id);
    rfn_say(&s, " is launched on ");
    rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    rfn_say(&s, " while its launch");
    say_work(&s, &before->work);
    rfn_say(&s,
            " was not waited for: nothing but the executable orders the two, and what "
            "the streams do around it is not ordered at all");
}

/* 0: the two touch nothing that either writes. */
static int shared(struct rfn_rules *rules, const struct rfn_order_launch *before,
                  const struct rfn_order_set *now, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const struct rfn_order_set *then = rfn_order_set(rules->order, before->capture_id);
    const struct rfn_order_range *a, *b = NULL;
    const char *does = "writes", *did = "writes";
    if (!then || before->updated)
        return 0;
    a = rfn_order_overlap(&now->write, &then->write, &b);
    if (!a)
    {
        a = rfn_order_overlap(&now->write, &then->read, &b);
        did = "reads";
    }
    if (!a)
    {
        a = rfn_order_overlap(&now->read, &then->write, &b);
        does = "reads";
        did = "writes";
    }
    if (!a)
        return 0;
    if (!told(rules, RFN_CAP029, event, &s))
        return 1;
    say_exec(&s, event->exec_serial, event->graph_id);
    rfn_say(&s, " on ");
    rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    say_range(&s, does, a);
    rfn_say(&s, "; ");
    say_exec(&s, before->exec, before->capture_id);
    rfn_say(&s, ", launched");
    say_work(&s, &before->work);
    say_range(&s, did, b);
    rfn_say(&s, ": no event and no wait of the host orders them");
    return 1;
}

static void overwritten(struct rfn_rules *rules, const struct rfn_order_read *read,
                        const struct rfn_order_range *written,
                        const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (!told(rules, RFN_CAP028, event, &s))
        return;
    say_exec(&s, event->exec_serial, event->graph_id);
    rfn_say(&s, " on ");
    rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    say_range(&s, "writes", written);
    rfn_say(&s, ", which %s", read->what);
    say_work(&s, &read->work);
    rfn_say(&s, " reads and may not have read yet");
}

static void check(struct rfn_rules *rules, const struct rfn_order_lane *lane,
                  const struct rfn_call_event *event)
{
    const struct rfn_order *order = rules->order;
    for (int32_t i = 0; i < RFN_ORDER_LAUNCHES; i++)
    {
        const struct rfn_order_launch *before = &order->launch[i];
        if (before->exec && before->exec == event->exec_serial &&
            !rfn_order_behind(order, lane, &before->work))
        {
            in_flight_twice(rules, before, event);
            return;
        }
    }
    const struct rfn_order_set *now = rfn_order_set(order, event->graph_id);
    if (!now || event->exec_updated)
        return;
    for (int32_t i = 0; i < RFN_ORDER_LAUNCHES; i++)
    {
        const struct rfn_order_launch *before = &order->launch[i];
        if (before->exec && !rfn_order_behind(order, lane, &before->work) &&
            shared(rules, before, now, event))
            return;
    }
    for (int32_t i = 0; i < RFN_ORDER_READS; i++)
    {
        const struct rfn_order_read *read = &order->read[i];
        const struct rfn_order_range *other = NULL, *written = NULL;
        const struct rfn_order_ranges one = { (struct rfn_order_range *)&read->range, 1,
                                              1 };
        if (read->what && !rfn_order_behind(order, lane, &read->work))
            written = rfn_order_overlap(&now->write, &one, &other);
        if (written)
        {
            overwritten(rules, read, written, event);
            return;
        }
    }
}

void rfn_rule_order(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_order *order = rules->order;
    if (event->code || order->blind)
        return;
    if (event->call != RFN_CALL_exec_launch)
    {
        rfn_order_follow(order, event);
        return;
    }
    struct rfn_order_lane *lane = rfn_order_lane(order, event);
    if (!lane || !event->exec_serial)
        return;
    check(rules, lane, event);
    rfn_order_launched(order, lane, event);
}
