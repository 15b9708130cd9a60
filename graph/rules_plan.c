/*
 * 017 where nobody sees the host touch memory, as on a GPU. Two things are known there all the
 * same: what our own planning calls read, and that a copy to the host was made in a region that
 * plans and is not waited for at its end. Whoever copies counts in a plan copies them to decide
 * by them; a copy of other regions may well be for a later step, and gives nothing.
 *
 * What the host has waited for is told by graph/order.h; in doubt it has. Copies on imported
 * streams are left out, for others may wait for them where we do not see it.
 */
#define RFN_NO_SITES
#include "graph/order.h"
#include "graph/rule.h"

static int is_done(const struct rfn_rules *rules, const struct rfn_rules_fetch *fetch)
{
    return !fetch->bytes || rules->order->blind ||
           rules->order->done.at[fetch->lane] >= fetch->time;
}

void rfn_rule_note_fetch(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    if (event->call != RFN_CALL_copy_async || event->code || event->bytes <= 0 ||
        event->before.status != RFN_CAPTURE_NONE || event->foreign ||
        event->src_kind != RFN_MEMORY_DEVICE || event->dst_kind != RFN_MEMORY_PINNED)
        return;
    const struct rfn_order_lane *lane = rfn_order_lane(rules->order, event);
    if (!lane || rules->order->blind)
        return;
    struct rfn_rules_fetch *fetch = &rules->fetch[rules->fetches++ % RFN_RULES_FETCHES];
    *fetch = (struct rfn_rules_fetch) {
        .at = rfn_rule_where(event),
        .plan = event->plan,
        .lane = (int32_t)(lane - rules->order->lane),
        .dst = event->dst,
        .bytes = event->bytes,
    };
    fetch->time = lane->knows.at[fetch->lane];
}

static void say_fetch(struct rfn_sentence *s, const struct rfn_rules_fetch *fetch)
{
    rfn_say(s, "copy_async of %lld bytes to pinned memory %p on ",
            (long long)fetch->bytes, fetch->dst);
    rfn_say_stream(s, fetch->at.kind, fetch->at.stream);
}

/* Regions have numbers of their own in each thread. */
static int is_of(const struct rfn_rules_fetch *fetch, const struct rfn_call_event *event)
{
    return fetch->plan == event->plan && fetch->at.thread == event->thread;
}

void rfn_rule_plan_end(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    for (int32_t i = 0; event->plan && i < RFN_RULES_FETCHES; i++)
    {
        const struct rfn_rules_fetch *fetch = &rules->fetch[i];
        if (is_done(rules, fetch) || !is_of(fetch, event) ||
            !rfn_rule_suspect(rules, RFN_CAP017, &fetch->at, &s))
            continue;
        say_fetch(&s, fetch);
        rfn_say(&s,
                ": nothing had waited for it when region '%s', in which it was made, "
                "ended",
                event->name);
        rfn_say_site(&s, &event->site);
        rfn_say(&s, ": what was decided there was decided without it");
    }
}

void rfn_rule_plan_read(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const uintptr_t from = (uintptr_t)event->src, bytes = (uintptr_t)event->bytes;
    /* Where the fault handler is at work it has told of this. */
    for (int32_t i = 0; !rules->touches && i < RFN_RULES_FETCHES; i++)
    {
        const struct rfn_rules_fetch *fetch = &rules->fetch[i];
        const uintptr_t dst = (uintptr_t)fetch->dst;
        if (is_done(rules, fetch) || from >= dst + (uintptr_t)fetch->bytes ||
            dst >= from + bytes ||
            !rfn_rule_report(rules, RFN_CAP017, 0, RFN_CAPTURE_NONE, &fetch->at, "", &s))
            continue;
        say_fetch(&s, fetch);
        rfn_say(&s, " was not waited for, and %s", rfn_call_name(event->call));
        rfn_say_site(&s, &event->site);
        rfn_say(&s, " read the '%s' of its step there", event->name);
    }
}
