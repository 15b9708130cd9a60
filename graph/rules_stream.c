/* Work on streams outside the capture, the legacy stream, waits that a capture forbids. */
#define RFN_NO_SITES
#include "graph/rule.h"

void rfn_rule_begin(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                    const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if ((open->kind != RFN_STREAM_BLOCKING && open->kind != RFN_STREAM_PER_THREAD) ||
        !rfn_rule_found(rules, RFN_CAP013, open, event, &s))
        return;
    rfn_say_capture(&s, open);
    rfn_say(&s,
            " begins on a stream that orders with the legacy stream: whatever is put on "
            "that one meanwhile, by a library too, is refused with 906 and invalidates "
            "the capture");
}

static int is_empty(const struct rfn_call_event *event)
{
    return !event->bytes && !event->code &&
           (event->call == RFN_CALL_copy_async || event->call == RFN_CALL_set_async);
}

static void say_work(struct rfn_sentence *s, const struct rfn_call_event *event)
{
    rfn_say(s, "%s", rfn_call_name(event->call));
    if (event->call == RFN_CALL_op_launch && event->op)
        rfn_say(s, " of %s", event->op->name);
    rfn_say(s, " on ");
    rfn_say_stream(s, event->stream_kind, event->stream_serial);
}

static void legacy(struct rfn_rules *rules, const struct rfn_rules_capture *own,
                   const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (!rfn_rule_found(rules, RFN_CAP012, own, event, &s))
        return;
    say_work(&s, event);
    rfn_say(&s, ", which can be no part of ");
    rfn_say_capture(&s, own);
    rfn_say_outcome(&s, event, rfn_rule_status(own, event),
                    "it runs now and never at replay");
}

void rfn_rule_work(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    if (!own)
        rfn_rule_foreign(rules, event);
    if (!own || event->before.status != RFN_CAPTURE_NONE || is_empty(event))
        return;
    if (event->stream_kind == RFN_STREAM_LEGACY)
    {
        legacy(rules, own, event);
        return;
    }
    if (!rfn_rule_found(rules, RFN_CAP004, own, event, &s))
        return;
    say_work(&s, event);
    rfn_say(&s, ", which is not part of ");
    rfn_say_capture(&s, own);
    rfn_say_outcome(&s, event, rfn_rule_status(own, event),
                    "it runs now and never at replay");
}

void rfn_rule_any(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    if (own && event->code == RFN_RULE_IMPLICIT &&
        event->stream_kind == RFN_STREAM_LEGACY)
        legacy(rules, own, event);
    else
        rfn_rule_foreign(rules, event);
}

static void say_record(struct rfn_sentence *s, const struct rfn_rules *rules,
                       const struct rfn_rules_event *record)
{
    rfn_say(s, " was recorded");
    if (record)
        rfn_say_site(s, &record->at.site);
    if (record && !record->capture_id)
        rfn_say(s, " outside");
    else if (record)
        rfn_say(s, " in capture %llu%s", (unsigned long long)record->capture_id,
                rfn_rule_capture(rules, record->capture_id) ? "" : ", which is over");
}

void rfn_rule_stream_wait(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const struct rfn_rules_capture *on = rfn_rule_capture(rules, event->before.id);
    const struct rfn_rules_event *record = rfn_rule_event(rules, event->event);
    int captured = event->code == RFN_RULE_INVALID && record && record->capture_id;
    int merges = event->code == RFN_RULE_MERGE ||
                 (captured && rfn_rule_capture(rules, record->capture_id));
    if (!on || (event->code != RFN_RULE_ISOLATION && !merges && !captured))
    {
        rfn_rule_any(rules, event);
        return;
    }
    if (!rfn_rule_found(rules, merges ? RFN_CAP016 : RFN_CAP015, on, event, &s))
        return;
    rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    rfn_say(&s, " of ");
    rfn_say_capture(&s, on);
    rfn_say(&s, " waits for an event that");
    say_record(&s, rules, record);
    rfn_say(&s,
            merges ? ": it %s refused with %d, and both captures are invalidated"
                   : ": it %s refused with %d, and the capture is invalidated",
            rfn_say_was(event), event->code);
}
