/*
 * Which stream of a capture knows of whose work: a count of the work of each member, handed on
 * by events. What the origin does not know of at the end was not joined. The events also tell
 * other rules where they were recorded.
 */
#define RFN_NO_SITES
#include "graph/rule.h"

#include <string.h>

/* ---- events ------------------------------------------------------------------------ */

static struct rfn_rules_event *find_event(const struct rfn_rules *rules,
                                          const struct rfn_event *event)
{
    for (uint64_t i = 0; event && i < rules->events && i < RFN_RULES_EVENTS; i++)
        if (rules->event[i].event == event)
            return &rules->event[i];
    return NULL;
}

const struct rfn_rules_event *rfn_rule_event(const struct rfn_rules *rules,
                                             const struct rfn_event *event)
{
    return find_event(rules, event);
}

static void note_event(struct rfn_rules *rules, const struct rfn_call_event *event,
                       const struct rfn_rules_member *m)
{
    struct rfn_rules_event *e = find_event(rules, event->event);
    if (!event->event)
        return;
    if (!e)
        e = &rules->event[rules->events++ % RFN_RULES_EVENTS];
    *e = (struct rfn_rules_event) {
        .event = event->event,
        .capture_id = event->before.id,
        .at = rfn_rule_where(event),
    };
    if (m)
        e->known = m->known;
}

/* ---- members ----------------------------------------------------------------------- */

static struct rfn_rules_member *find_member(struct rfn_rules_capture *open,
                                            const struct rfn_call_event *event)
{
    for (int32_t i = 0; i < open->members; i++)
        if (open->member[i].stream == event->stream_serial &&
            (event->stream_kind != RFN_STREAM_PER_THREAD ||
             open->member[i].thread == event->thread))
            return &open->member[i];
    return NULL;
}

static void learn(struct rfn_rules_member *m, const struct rfn_rules_known *more)
{
    for (int i = 0; i < RFN_RULES_MEMBERS; i++)
        if (more->work[i] > m->known.work[i])
            m->known.work[i] = more->work[i];
}

static void join(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    const struct rfn_rules_event *e = find_event(rules, event->event);
    struct rfn_rules_capture *open = rfn_rule_capture(rules, event->after.id);
    if (!open)
        return;
    struct rfn_rules_member *m = find_member(open, event);
    if (!m && open->members == RFN_RULES_MEMBERS)
    {
        open->crowded = 1;
        return;
    }
    if (!m)
    {
        m = &open->member[open->members++];
        *m = (struct rfn_rules_member) {
            .stream = event->stream_serial,
            .thread = event->thread,
            .fork = rfn_rule_where(event),
        };
    }
    if (e && e->capture_id == open->id)
        learn(m, &e->known);
}

static int makes_node(const struct rfn_call_event *event)
{
    switch (event->call)
    {
    case RFN_CALL_op_launch:
    case RFN_CALL_copy_async:
    case RFN_CALL_set_async:
    case RFN_CALL_host_call:
    case RFN_CALL_capture_add_child:
        return 1;
    case RFN_CALL_event_record:
    case RFN_CALL_stream_wait:
        return (event->flags & RFN_EVENT_EXTERNAL) != 0;
    default:
        return 0;
    }
}

void rfn_rule_track(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_capture *open = rfn_rule_capture(rules, event->before.id);
    struct rfn_rules_member *m = open ? find_member(open, event) : NULL;
    if (event->code)
        return;
    if (event->call == RFN_CALL_event_destroy)
    {
        struct rfn_rules_event *e = find_event(rules, event->event);
        if (e)
            e->event = NULL;
    }
    else if (makes_node(event))
    {
        if (m)
            m->known.work[m - open->member]++;
    }
    else if (event->call == RFN_CALL_event_record)
        note_event(rules, event, m);
    else if (event->call == RFN_CALL_stream_wait &&
             event->after.status == RFN_CAPTURE_ACTIVE)
        join(rules, event);
}

/* ---- the end ----------------------------------------------------------------------- */

void rfn_rule_unjoined(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                       const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    int any = 0;
    for (int32_t i = 1; i < open->members; i++)
    {
        const struct rfn_rules_member *m = &open->member[i];
        if (m->known.work[i] <= open->member[0].known.work[i])
            continue;
        struct rfn_rules_where where = m->fork;
        where.code = event->code;
        any = 1;
        if (!rfn_rule_report(rules, RFN_CAP014, open->id, RFN_CAPTURE_NONE, &where,
                             event->why, &s))
            continue;
        rfn_say_stream(&s, where.kind, where.stream);
        rfn_say(&s, " was drawn into ");
        rfn_say_capture(&s, open);
        rfn_say(&s, " here, and of its %u nodes the origin has waited for %u: the end",
                m->known.work[i], open->member[0].known.work[i]);
        rfn_say_site(&s, &event->site);
        rfn_say(&s, " %s refused with %d, and there is no graph", rfn_say_was(event),
                event->code);
    }
    if (any || !rfn_rule_found(rules, RFN_CAP014, open, event, &s))
        return;
    rfn_say(&s, "a stream was drawn into ");
    rfn_say_capture(&s, open);
    rfn_say(&s, " and not joined: the end was refused with %d, and there is no graph",
            event->code);
}
