/*
 * Dry runs: between begin and end the calls of a thread run as they are and are judged as if
 * its stream were captured. Streams join as they would, by events; what a capture refuses gets
 * the number that it would be refused with, and goes on: all findings in one pass.
 */
#define RFN_NO_SITES
#include "graph/rule.h"

static int is_member(const struct rfn_rules_capture *dry,
                     const struct rfn_call_event *event)
{
    for (int32_t i = 0; dry && event->stream && i < dry->members; i++)
        if (dry->member[i].stream == event->stream_serial &&
            (event->stream_kind != RFN_STREAM_PER_THREAD ||
             dry->member[i].thread == event->thread))
            return 1;
    return 0;
}

static int is_unjoined(const struct rfn_rules_capture *dry)
{
    for (int32_t i = 1; i < dry->members; i++)
        if (dry->member[i].known.work[i] > dry->member[0].known.work[i])
            return 1;
    return 0;
}

static void ends(struct rfn_rules *rules, const struct rfn_rules_capture *dry,
                 struct rfn_call_event *e)
{
    e->nodes = rules->dry_nodes;
    e->kernels = rules->dry_kernels;
    if (e->thread != dry->thread)
        e->code = RFN_RULE_WRONG_THREAD;
    else if (is_unjoined(dry))
        e->code = RFN_RULE_UNJOINED;
    e->dry = 1;
    rules->dry = 0;
}

static void on_member(struct rfn_rules *rules, struct rfn_call_event *e)
{
    const struct rfn_rules_event *record = rfn_rule_event(rules, e->event);
    e->before = e->after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, rules->dry };
    rules->dry_kernels += e->call == RFN_CALL_op_launch;
    rules->dry_nodes += e->call == RFN_CALL_op_launch || e->call == RFN_CALL_copy_async ||
                        e->call == RFN_CALL_set_async || e->call == RFN_CALL_host_call;
    if (e->call == RFN_CALL_stream_wait && record && !record->capture_id)
    {
        e->code = RFN_RULE_ISOLATION;
        e->dry = 1;
    }
}

struct rfn_call_event rfn_rule_dry(struct rfn_rules *rules,
                                   const struct rfn_call_event *event)
{
    struct rfn_call_event e = *event;
    e.dry = 0;
    if (e.call == RFN_CALL_capture_begin && e.after.id & RFN_RULES_DRY)
    {
        rules->dry = e.after.id;
        rules->dry_nodes = rules->dry_kernels = 0;
        return e;
    }
    const struct rfn_rules_capture *dry = rfn_rule_capture(rules, rules->dry);
    if (!dry)
        rules->dry = 0; /* its stream is gone */
    if (!dry || (e.code && e.code != RFN_RULE_NOT_READY))
        return e;
    if (e.call == RFN_CALL_capture_end && e.before.id == dry->id)
    {
        ends(rules, dry, &e);
        return e;
    }
    if (e.before.status != RFN_CAPTURE_NONE)
        return e;
    const struct rfn_rules_event *record = rfn_rule_event(rules, e.event);
    int captured = record && record->capture_id == dry->id;
    if (is_member(dry, &e) && e.call != RFN_CALL_stream_destroy)
        on_member(rules, &e);
    else if (e.call == RFN_CALL_stream_wait && captured &&
             e.stream_kind != RFN_STREAM_LEGACY)
        e.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, dry->id };
    if (captured && (e.call == RFN_CALL_event_sync || e.call == RFN_CALL_event_query ||
                     e.call == RFN_CALL_event_elapsed))
    {
        e.code = RFN_RULE_CAPTURED_EVENT;
        e.dry = 1;
    }
    return e;
}

int rfn_rule_dry_lost(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    int member = event->before.id && event->before.id == rules->dry;
    int asks = event->call == RFN_CALL_stream_query ||
               event->call == RFN_CALL_event_query ||
               event->call == RFN_CALL_graph_instantiate ||
               event->call == RFN_CALL_exec_destroy ||
               (event->call == RFN_CALL_exec_launch && member);
    if (!own || own->id != rules->dry || !rules->dry || !asks)
        return 0;
    if (rfn_rule_found(rules, RFN_CAP034, own, event, &s))
    {
        rfn_say(&s, "%s inside ", rfn_call_name(event->call));
        rfn_say_capture(&s, own);
        rfn_say(&s, ": a capture refuses it with 900 and is lost");
    }
    return 1;
}
