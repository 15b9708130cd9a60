/* The host asks or waits for the device, or does what another thread's capture forbids. */
#define RFN_NO_SITES
#include "graph/rule.h"

static void host_sync(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                      const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (!rfn_rule_found(rules, RFN_CAP001, open, event, &s))
        return;
    rfn_say(&s, "%s", rfn_call_name(event->call));
    if (event->call == RFN_CALL_stream_sync)
    {
        rfn_say(&s, " of ");
        rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    }
    rfn_say(&s, " waits for the device inside ");
    rfn_say_capture(&s, open);
    rfn_say_outcome(&s, event, rfn_rule_status(open, event),
                    "it waited now and will not wait at replay");
}

/* The capture of the event's record may be over: it never happens all the same. */
static void captured_event(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    struct rfn_rules_where where = rfn_rule_where(event);
    const struct rfn_rules_event *record = rfn_rule_event(rules, event->event);
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    if (record && !record->capture_id) /* event_elapsed: it is the other one */
        record = NULL;
    uint64_t id = record ? record->capture_id : own ? own->id : 0;
    const struct rfn_rules_capture *open = rfn_rule_capture(rules, id);
    enum rfn_capture_status status =
        open ? rfn_rule_status(open, event) : RFN_CAPTURE_NONE;
    if (!rfn_rule_report(rules, RFN_CAP011, id, status, &where, event->why, &s))
        return;
    rfn_say(&s, "%s of an event that was recorded", rfn_call_name(event->call));
    if (record)
        rfn_say_site(&s, &record->at.site);
    rfn_say(&s, " in ");
    if (open)
        rfn_say_capture(&s, open);
    else if (id)
        rfn_say(&s, "capture %llu, which is over", (unsigned long long)id);
    else
        rfn_say(&s, "a capture");
    rfn_say(&s, " and never happens");
    rfn_say_outcome(&s, event, status, "it passed");
}

void rfn_rule_wait(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    int waits =
        event->call != RFN_CALL_event_query && event->call != RFN_CALL_event_elapsed;
    const struct rfn_rules_event *record = rfn_rule_event(rules, event->event);
    if (event->code == RFN_RULE_CAPTURED_EVENT ||
        (event->code == RFN_RULE_INVALID && record && record->capture_id))
        captured_event(rules, event);
    else if (own && waits)
        host_sync(rules, own, event);
    else
        rfn_rule_any(rules, event);
}

/* A capture on another thread's per-thread stream cannot be asked for its status. */
static int is_taken(const struct rfn_rules_capture *open,
                    const struct rfn_call_event *event)
{
    for (int32_t i = 0; i < event->hits && i < RFN_CALL_HITS; i++)
        if (event->hit[i] == open->id)
            return 1;
    return open->kind == RFN_STREAM_PER_THREAD && open->thread != event->thread &&
           open->status == RFN_CAPTURE_ACTIVE && event->call != RFN_CALL_capture_begin &&
           (event->code == RFN_RULE_IMPLICIT || open->mode == RFN_CAPTURE_GLOBAL);
}

int rfn_rule_foreign(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    struct rfn_rules_capture *open = NULL;
    if ((event->code != RFN_RULE_REFUSED && event->code != RFN_RULE_IMPLICIT) ||
        rfn_rule_own(rules, event))
        return 0;
    for (int32_t i = 0; i < rules->opens && !open; i++)
        if (is_taken(&rules->open[i], event))
            open = &rules->open[i];
    if (!open)
        return 0;
    open->status = RFN_CAPTURE_INVALIDATED;
    open->hit = open->explained = 1;
    if (!rfn_rule_found(rules, RFN_CAP010, open, event, &s))
        return 1;
    rfn_say(&s, "%s", rfn_call_name(event->call));
    if (event->stream)
    {
        rfn_say(&s, " on ");
        rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    }
    rfn_say(&s, " by thread %llu, which has no capture, while thread %llu is in ",
            (unsigned long long)event->thread, (unsigned long long)open->thread);
    rfn_say_capture(&s, open);
    rfn_say_outcome(&s, event, RFN_CAPTURE_INVALIDATED, "it passed");
    return 1;
}
