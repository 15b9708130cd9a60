/* What relaxed mode lets through, watched host memory, and captures on other devices. */
#define RFN_NO_SITES
#include "graph/rule.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- relaxed mode: 035 ------------------------------------------------------------- */

/* Beside what 001 and 009 speak of, relaxed or not. */
static int is_unsafe(const struct rfn_call_event *event)
{
    return event->call == RFN_CALL_stream_query || event->call == RFN_CALL_event_query ||
           event->call == RFN_CALL_graph_instantiate ||
           event->call == RFN_CALL_exec_destroy;
}

void rfn_rule_relaxed(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    if (!own || own->id & RFN_RULES_DRY || !is_unsafe(event) ||
        (event->code && event->code != RFN_RULE_NOT_READY) ||
        own->status != RFN_CAPTURE_ACTIVE ||
        !rfn_rule_found(rules, RFN_CAP035, own, event, &s))
        return;
    rfn_say(&s, "%s", rfn_call_name(event->call));
    if (event->stream)
    {
        rfn_say(&s, " of ");
        rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    }
    rfn_say(&s, " inside ");
    rfn_say_capture(&s, own);
    rfn_say(&s,
            own->mode == RFN_CAPTURE_RELAXED
                ? " passed because the capture is relaxed; else it is refused with 900"
                : " passed because the thread is relaxed; else it is refused with 900");
}

/* ---- watched memory: 053 ----------------------------------------------------------- */

/* The value itself, where it fits. */
static uint64_t digest(const struct rfn_rules_watch *watch)
{
    const unsigned char *byte = watch->address;
    uint64_t value = 0;
    if (watch->bytes <= (int64_t)sizeof value)
    {
        memcpy(&value, byte, (size_t)watch->bytes);
        return value;
    }
    value = 0xcbf29ce484222325u; /* FNV-1a */
    for (int64_t i = 0; i < watch->bytes; i++)
        value = (value ^ byte[i]) * 0x100000001b3u;
    return value;
}

int rfn_rules_watch(struct rfn_rules *rules, const char *name, const void *address,
                    int64_t bytes)
{
    int32_t i = 0;
    while (i < RFN_RULES_WATCHES && rules->watch[i].bytes)
        i++;
    if (i == RFN_RULES_WATCHES)
        return 0;
    struct rfn_rules_watch *watch = &rules->watch[i];
    snprintf(watch->name, sizeof watch->name, "%s", name);
    watch->address = address;
    watch->bytes = bytes;
    for (int32_t o = 0; o < rules->opens; o++)
        rules->open[o].watched[i] = digest(watch);
    return 1;
}

void rfn_rule_watch_begin(const struct rfn_rules *rules, struct rfn_rules_capture *open)
{
    for (int32_t i = 0; i < RFN_RULES_WATCHES && rules->watch[i].bytes; i++)
        open->watched[i] = digest(&rules->watch[i]);
}

void rfn_rule_watch_end(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                        const struct rfn_call_event *event)
{
    for (int32_t i = 0; !event->code && i < RFN_RULES_WATCHES; i++)
    {
        struct rfn_sentence s;
        const struct rfn_rules_watch *watch = &rules->watch[i];
        if (!watch->bytes)
            break;
        uint64_t now = digest(watch);
        if (now == open->watched[i] ||
            !rfn_rule_found(rules, RFN_CAP053, open, event, &s))
            continue;
        rfn_say(&s, "'%s' (%lld bytes at %p) changed during ", watch->name,
                (long long)watch->bytes, watch->address);
        rfn_say_capture(&s, open);
        if (watch->bytes <= (int64_t)sizeof now)
            rfn_say(&s, ": 0x%llx at its begin, 0x%llx at its end",
                    (unsigned long long)open->watched[i], (unsigned long long)now);
        rfn_say(&s, ", and no replay changes it");
    }
}

/* What the step's own function changes and its replay does not. Both: the caller's callbacks
 * do that. */
void rfn_rule_watch_ran(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_where where = rfn_rule_where(event);
    int phase = event->notice - RFN_NOTICE_EAGER;
    if (phase == 0)
    {
        rules->ran_thread = event->thread;
        for (rules->ran_watches = 0; rules->ran_watches < RFN_RULES_WATCHES &&
                                     rules->watch[rules->ran_watches].bytes;)
            rules->ran_watches++;
    }
    if (event->thread != rules->ran_thread)
        return;
    for (int32_t i = 0; i < rules->ran_watches; i++)
        rules->ran[phase][i] = digest(&rules->watch[i]);
    for (int32_t i = 0; phase == 3 && i < rules->ran_watches; i++)
    {
        struct rfn_sentence s;
        const struct rfn_rules_watch *watch = &rules->watch[i];
        if (rules->ran[0][i] != rules->ran[1][i] &&
            rules->ran[2][i] == rules->ran[3][i] &&
            rfn_rule_report(rules, RFN_CAP053, 0, event->before.status, &where, "", &s))
            rfn_say(
                &s,
                "'%s' (%lld bytes at %p) changed when the step ran eagerly, and not by "
                "its replay",
                watch->name, (long long)watch->bytes, watch->address);
    }
}

/* ---- other devices: 055 ------------------------------------------------------------ */

#define ELSEWHERE 64 /* captures of the process that are known here */

static struct
{
    const struct rfn_rules *rules; /* NULL: free */
    uint64_t thread;
    uint64_t id;
    uint64_t stream;
    enum rfn_stream_kind kind;
    enum rfn_capture_mode mode;
    struct rfn_site begun;
    char name[64];
} elsewhere[ELSEWHERE];
static pthread_mutex_t elsewhere_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int32_t elsewhere_count;

void rfn_rule_device_begin(struct rfn_rules *rules, const struct rfn_rules_capture *open)
{
    pthread_mutex_lock(&elsewhere_lock);
    int32_t i = 0;
    while (i < ELSEWHERE && elsewhere[i].rules)
        i++;
    if (i < ELSEWHERE)
    {
        elsewhere[i].rules = rules;
        elsewhere[i].thread = open->thread;
        elsewhere[i].id = open->id;
        elsewhere[i].stream = open->stream;
        elsewhere[i].kind = open->kind;
        elsewhere[i].mode = open->mode;
        elsewhere[i].begun = open->begun.site;
        memcpy(elsewhere[i].name, open->name, sizeof open->name);
        atomic_fetch_add(&elsewhere_count, 1);
    }
    pthread_mutex_unlock(&elsewhere_lock);
}

/* All of these rules, or one capture of them. */
static void forget(const struct rfn_rules *rules, uint64_t capture_id, int all)
{
    pthread_mutex_lock(&elsewhere_lock);
    for (int32_t i = 0; i < ELSEWHERE; i++)
        if (elsewhere[i].rules == rules && (all || elsewhere[i].id == capture_id))
        {
            elsewhere[i].rules = NULL;
            atomic_fetch_sub(&elsewhere_count, 1);
        }
    pthread_mutex_unlock(&elsewhere_lock);
}

void rfn_rule_device_end(const struct rfn_rules *rules, uint64_t capture_id)
{
    forget(rules, capture_id, 0);
}

void rfn_rule_device_leave(const struct rfn_rules *rules)
{
    forget(rules, 0, 1);
}

static int is_work(const struct rfn_call_event *event)
{
    switch (event->call)
    {
    case RFN_CALL_copy_sync:
    case RFN_CALL_copy_async:
    case RFN_CALL_set_sync:
    case RFN_CALL_set_async:
        return event->bytes > 0;
    case RFN_CALL_op_launch:
    case RFN_CALL_host_call:
        return 1;
    default:
        return 0;
    }
}

void rfn_rule_device_work(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    struct rfn_rules_capture other;
    int found = 0;
    if (!atomic_load(&elsewhere_count) || event->code || !is_work(event) ||
        event->before.status != RFN_CAPTURE_NONE || rfn_rule_own(rules, event))
        return;
    pthread_mutex_lock(&elsewhere_lock);
    for (int32_t i = 0; i < ELSEWHERE && !found; i++)
        if (elsewhere[i].rules && elsewhere[i].rules != rules &&
            elsewhere[i].thread == event->thread)
        {
            other = (struct rfn_rules_capture) {
                .id = elsewhere[i].id,
                .stream = elsewhere[i].stream,
                .kind = elsewhere[i].kind,
                .mode = elsewhere[i].mode,
                .begun = { .site = elsewhere[i].begun },
            };
            memcpy(other.name, elsewhere[i].name, sizeof other.name);
            found = 1;
        }
    pthread_mutex_unlock(&elsewhere_lock);
    struct rfn_rules_where where = rfn_rule_where(event);
    if (!found ||
        !rfn_rule_report(rules, RFN_CAP055, other.id, RFN_CAPTURE_ACTIVE, &where, "", &s))
        return;
    rfn_say(&s, "%s", rfn_call_name(event->call));
    if (event->call == RFN_CALL_op_launch && event->op)
        rfn_say(&s, " of %s", event->op->name);
    rfn_say(&s, " on this device while thread %llu is in ",
            (unsigned long long)event->thread);
    rfn_say_capture(&s, &other);
    rfn_say(&s, " of another one, begun");
    rfn_say_site(&s, &other.begun.site);
    rfn_say(&s, ": it runs now and never at replay");
}
