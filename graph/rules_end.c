/* How captures end, or do not; and the host's accesses to memory under copy. */
#define RFN_NO_SITES
#include "graph/rule.h"

#include <string.h>

void rfn_rule_left(struct rfn_rules *rules, struct rfn_rules_capture *open,
                   const struct rfn_rules_where *where, const char *how)
{
    struct rfn_sentence s;
    if (open->left)
        return;
    open->left = 1;
    if (!rfn_rule_report(rules, RFN_CAP032, open->id, open->status, where, "", &s))
        return;
    rfn_say_capture(&s, open);
    rfn_say(&s, ", begun");
    rfn_say_site(&s, &open->begun.site);
    rfn_say(&s, ", was still open when %s", how);
}

static void wrong_thread(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                         const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (!rfn_rule_found(rules, RFN_CAP033, open, event, &s))
        return;
    rfn_say(&s, "capture_end by thread %llu of ", (unsigned long long)event->thread);
    rfn_say_capture(&s, open);
    rfn_say(&s, ", which thread %llu began", (unsigned long long)open->thread);
    rfn_say_site(&s, &open->begun.site);
    rfn_say(&s, ": it was refused with %d, and the capture is over without a graph",
            event->code);
}

/* Told at the culprit's place; at the end's when nobody saw it. */
static void first_offender(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                           const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    struct rfn_rules_where where = open->hit ? open->culprit : rfn_rule_where(event);
    if ((open->hit && open->explained) ||
        !rfn_rule_report(rules, RFN_CAP034, open->id, event->after.status, &where,
                         event->why, &s))
        return;
    rfn_say_capture(&s, open);
    rfn_say(&s, " was invalidated by ");
    if (!open->hit)
        rfn_say(&s, "a call that this checker did not see");
    else
    {
        rfn_say(&s, "%s", rfn_call_name(where.call));
        if (where.stream)
        {
            rfn_say(&s, " on ");
            rfn_say_stream(&s, where.kind, where.stream);
        }
        rfn_say(&s, " by thread %llu, refused with %d", (unsigned long long)where.thread,
                where.code);
    }
    rfn_say(&s, "; its end");
    rfn_say_site(&s, &event->site);
    rfn_say(&s, " gave %d", event->code);
}

static void empty(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                  const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (event->kernels || open->found ||
        !rfn_rule_found(rules, RFN_CAP045, open, event, &s))
        return;
    rfn_say(&s, "the graph of ");
    rfn_say_capture(&s, open);
    rfn_say(&s,
            " has %d nodes and no kernel among them: what was meant to be in it ran at "
            "once, or nothing was launched",
            event->nodes);
}

void rfn_rule_end(struct rfn_rules *rules, struct rfn_rules_capture *open,
                  const struct rfn_call_event *event)
{
    switch (event->code)
    {
    case 0:
        empty(rules, open, event);
        break;
    case RFN_RULE_INVALIDATED:
        first_offender(rules, open, event);
        break;
    case RFN_RULE_UNJOINED:
        rfn_rule_unjoined(rules, open, event);
        break;
    case RFN_RULE_WRONG_THREAD:
        wrong_thread(rules, open, event);
        break;
    default:
        break;
    }
}

/* ---- touches ----------------------------------------------------------------------- */

static void touched(struct rfn_rules *rules, const struct rfn_touch *touch)
{
    struct rfn_sentence s;
    const char *file = touch->file ? touch->file : "";
    struct rfn_rules_copy copy = {
        .at = { .call = RFN_CALL_copy_async, .site = { file, touch->line } },
    };
    /* The newest from that site knows the rest. */
    for (uint64_t n = rules->copies; n > 0 && n + RFN_RULES_COPIES > rules->copies; n--)
    {
        const struct rfn_rules_copy *c = &rules->copy[(n - 1) % RFN_RULES_COPIES];
        if (c->at.site.line == touch->line && !strcmp(c->at.site.file, file))
        {
            copy = *c;
            break;
        }
    }
    const struct rfn_rules_capture *open = rfn_rule_capture(rules, copy.capture_id);
    if (!rfn_rule_report(rules, touch->into ? RFN_CAP017 : RFN_CAP018, copy.capture_id,
                         open ? open->status : RFN_CAPTURE_NONE, &copy.at, "", &s))
        return;
    rfn_say(&s, "the host %s pinned memory %p, %s of a %s of %lld bytes on ",
            touch->wrote ? "wrote" : "read", touch->address,
            touch->into ? "the target" : "the source", rfn_call_name(copy.at.call),
            (long long)touch->pending_bytes);
    rfn_say_stream(&s, copy.at.kind, copy.at.stream);
    if (copy.capture_id)
        rfn_say(&s, " in a replay of capture %llu", (unsigned long long)copy.capture_id);
    rfn_say(&s, " that it had not waited for");
}

void rfn_rules_touched(struct rfn_rules *rules, const struct rfn_touch *touch, int kept,
                       int all)
{
    for (int i = rules->touches; i < kept; i++)
        touched(rules, &touch[i]);
    int from = rules->touches > kept ? rules->touches : kept;
    if (all > from)
        rfn_rule_lose(rules, RFN_CAP017, "copy_async", all - from);
    rules->touches = all;
}
