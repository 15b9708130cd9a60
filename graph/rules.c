#define RFN_NO_SITES
#include "graph/rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_ROOM 64 /* captures open at once before memory is asked for */

/* CUDA's numbers for what a capture forbids. */
#define CODE_FORBIDDEN_FIRST 900
#define CODE_FORBIDDEN_LAST 908

static const char lost_why[] =
    "more was found than was kept: there is room for 1024 different findings, and a "
    "capture "
    "that began without memory to follow it is not checked; the count says how often";

enum rfn_status rfn_rules_init(struct rfn_rules *rules)
{
    *rules = (struct rfn_rules) { .open_room = OPEN_ROOM };
    rules->finding = calloc(RFN_RULES_KEPT, sizeof *rules->finding);
    rules->open = calloc(OPEN_ROOM, sizeof *rules->open);
    if (rules->finding && rules->open)
        return RFN_OK;
    rfn_rules_release(rules);
    return RFN_FAIL(RFN_NOMEM, "no memory for %d findings and %d open captures",
                    RFN_RULES_KEPT, OPEN_ROOM);
}

void rfn_rules_release(struct rfn_rules *rules)
{
    free(rules->finding);
    free(rules->open);
    *rules = (struct rfn_rules) { 0 };
}

int32_t rfn_rules_count(const struct rfn_rules *rules)
{
    return rules->findings + (rules->lost.count > 0);
}

const struct rfn_finding *rfn_rules_at(const struct rfn_rules *rules, int32_t i)
{
    if (i < 0 || i >= rfn_rules_count(rules))
        return NULL;
    return i < rules->findings ? &rules->finding[i].finding : &rules->lost;
}

/* ---- what is open ---------------------------------------------------------------- */

static struct rfn_rules_capture *capture_by_id(const struct rfn_rules *rules, uint64_t id)
{
    for (int32_t i = rules->opens - 1; id && i >= 0; i--)
        if (rules->open[i].id == id)
            return &rules->open[i];
    return NULL;
}

/* The capture that a stream is the origin of. Every thread has a per-thread stream. */
static struct rfn_rules_capture *capture_by_origin(const struct rfn_rules *rules,
                                                   const struct rfn_call_event *event)
{
    for (int32_t i = rules->opens - 1; i >= 0; i--)
    {
        struct rfn_rules_capture *open = &rules->open[i];
        if (open->stream != event->stream_serial || open->kind != event->stream_kind)
            continue;
        if (open->kind != RFN_STREAM_PER_THREAD || open->thread == event->thread)
            return open;
    }
    return NULL;
}

/* The capture that the calling thread is in: the one of the call's own stream when the
 * thread began that, else the one that it began last; NULL for none. */
static struct rfn_rules_capture *capture_of_caller(const struct rfn_rules *rules,
                                                   const struct rfn_call_event *event)
{
    struct rfn_rules_capture *own = capture_by_id(rules, event->before.id);
    if (own && own->thread == event->thread)
        return own;
    for (int32_t i = rules->opens - 1; i >= 0; i--)
        if (rules->open[i].thread == event->thread)
            return &rules->open[i];
    return NULL;
}

static void lose(struct rfn_rules *rules, enum rfn_rule rule, const char *api)
{
    if (!rules->lost.count)
        rules->lost = (struct rfn_finding) {
            .rule = rule,
            .severity = rfn_rule_query(rule)->severity,
            .file = "",
            .api = api,
            .why = lost_why,
            .fix = "correct the findings before this one, then check again",
            .driver = "",
        };
    rules->lost.count++;
}

static void capture_opened(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    if (event->code || !event->after.id)
        return;
    if (rules->opens == rules->open_room)
    {
        int32_t room = rules->open_room * 2;
        void *grown = realloc(rules->open, (size_t)room * sizeof *rules->open);
        if (!grown)
        {
            lose(rules, RFN_CAP001, rfn_call_name(event->call));
            return;
        }
        rules->open = grown;
        rules->open_room = room;
    }
    struct rfn_rules_capture *open = &rules->open[rules->opens++];
    *open = (struct rfn_rules_capture) {
        .id = event->after.id,
        .thread = event->thread,
        .stream = event->stream_serial,
        .kind = event->stream_kind,
        .mode = event->mode,
        .status = RFN_CAPTURE_ACTIVE,
    };
    if (event->name)
        snprintf(open->name, sizeof open->name, "%s", event->name);
}

static void capture_closed(struct rfn_rules *rules, struct rfn_rules_capture *open)
{
    size_t behind = (size_t)(&rules->open[rules->opens] - (open + 1));
    memmove(open, open + 1, behind * sizeof *open);
    rules->opens--;
}

/* An end may fail and yet be the end (901, 904, 908), or leave the capture open (903 on a
 * joined stream, 401 on an uninvolved one): what counts is the origin stream afterwards. */
static void capture_ended(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_capture *open = capture_by_id(rules, event->before.id);
    if (!open && event->before.status != RFN_CAPTURE_NONE)
        open = capture_by_origin(rules, event); /* invalidated ones may have no id */
    if (open && open->stream == event->stream_serial &&
        event->after.status == RFN_CAPTURE_NONE)
        capture_closed(rules, open);
}

/* What became of a capture in a call. The event speaks for the call's own stream only. The
 * calls that rules ask about invalidate what they are refused for; only a refusal by the
 * thread-mode predicate may be meant for another thread's capture when ours is relaxed. */
static enum rfn_capture_status status_after(const struct rfn_rules_capture *open,
                                            const struct rfn_call_event *event)
{
    if (event->before.id == open->id || event->after.id == open->id)
        return event->after.status;
    if (event->code < CODE_FORBIDDEN_FIRST || event->code > CODE_FORBIDDEN_LAST)
        return open->status;
    if (open->mode == RFN_CAPTURE_RELAXED &&
        (event->call == RFN_CALL_stream_sync || event->call == RFN_CALL_event_sync) &&
        event->code == CODE_FORBIDDEN_FIRST)
        return open->status;
    return RFN_CAPTURE_INVALIDATED;
}

/* ---- sentences ------------------------------------------------------------------- */

struct sentence
{
    char *text;
    size_t bytes;
    size_t used;
};

static void say(struct sentence *s, const char *format, ...) RFN_PRINTF(2, 3);

static void say(struct sentence *s, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(s->text + s->used, s->bytes - s->used, format, list);
    va_end(list);
    if (n > 0)
        s->used = (size_t)n < s->bytes - s->used ? s->used + (size_t)n : s->bytes - 1;
}

static void say_stream(struct sentence *s, enum rfn_stream_kind kind, uint64_t serial)
{
    if (kind == RFN_STREAM_LEGACY)
        say(s, "the legacy stream");
    else if (kind == RFN_STREAM_PER_THREAD)
        say(s, "the per-thread stream");
    else
        say(s, "stream %llu", (unsigned long long)serial);
}

static void say_memory(struct sentence *s, enum rfn_memory_kind kind, const void *address)
{
    static const char *const name[] = { "pageable", "pinned", "device" };
    say(s, "%s memory %p", name[kind], address);
}

static void say_capture(struct sentence *s, const struct rfn_rules_capture *open)
{
    static const char *const mode[] = { "global", "thread-local", "relaxed" };
    say(s, "capture %llu", (unsigned long long)open->id);
    if (open->name[0])
        say(s, " '%s'", open->name);
    say(s, " (%s, origin ", mode[open->mode]);
    say_stream(s, open->kind, open->stream);
    say(s, ")");
}

/* How a call ended that has no place in a capture; `passed` when it did what it was asked. */
static void say_outcome(struct sentence *s, const struct rfn_call_event *event,
                        enum rfn_capture_status status, const char *passed)
{
    if (!event->code)
        say(s, ": %s", passed);
    else
        say(s, ": it %s with %d%s",
            event->code >= CODE_FORBIDDEN_FIRST && event->code <= CODE_FORBIDDEN_LAST
                ? "was refused"
                : "failed",
            event->code,
            status == RFN_CAPTURE_INVALIDATED ? ", and the capture is invalidated" : "");
}

static void say_host_sync(struct sentence *s, const struct rfn_call_event *event,
                          const struct rfn_rules_capture *open,
                          enum rfn_capture_status status)
{
    say(s, "%s", rfn_call_name(event->call));
    if (event->call == RFN_CALL_stream_sync)
    {
        say(s, " of ");
        say_stream(s, event->stream_kind, event->stream_serial);
    }
    say(s, " waits for the device inside ");
    say_capture(s, open);
    say_outcome(s, event, status, "it waited now and will not wait at replay");
}

static void say_sync_copy(struct sentence *s, const struct rfn_call_event *event,
                          const struct rfn_rules_capture *open,
                          enum rfn_capture_status status)
{
    say(s, "%s of %lld bytes", rfn_call_name(event->call), (long long)event->bytes);
    if (event->call == RFN_CALL_copy_sync)
    {
        say(s, " from ");
        say_memory(s, event->src_kind, event->src);
    }
    say(s, " to ");
    say_memory(s, event->dst_kind, event->dst);
    say(s, " inside ");
    say_capture(s, open);
    say_outcome(s, event, status, "it ran now and is not in the graph");
}

static void say_pageable_copy(struct sentence *s, const struct rfn_call_event *event,
                              const struct rfn_rules_capture *open)
{
    int src = event->src_kind == RFN_MEMORY_PAGEABLE;
    int dst = event->dst_kind == RFN_MEMORY_PAGEABLE;
    say(s, "copy_async of %lld bytes on ", (long long)event->bytes);
    say_stream(s, event->stream_kind, event->stream_serial);
    say(s, " in ");
    say_capture(s, open);
    if (src && dst)
        say(s,
            ": source %p and destination %p are pageable, every replay reads the one and "
            "writes the other again",
            event->src, event->dst);
    else
        say(s, ": its %s %p is pageable, every replay %s that address again",
            src ? "source" : "destination", src ? event->src : event->dst,
            src ? "reads" : "writes");
}

static void say_stray(struct sentence *s, const struct rfn_call_event *event,
                      const struct rfn_rules_capture *open,
                      enum rfn_capture_status status)
{
    say(s, "%s", rfn_call_name(event->call));
    if (event->call == RFN_CALL_op_launch && event->op)
        say(s, " of %s", event->op->name);
    say(s, " on ");
    say_stream(s, event->stream_kind, event->stream_serial);
    say(s, ", which is not part of ");
    say_capture(s, open);
    say_outcome(s, event, status, "it runs now and never at replay");
}

/* ---- findings -------------------------------------------------------------------- */

static int same_site(const struct rfn_finding *f, enum rfn_rule rule,
                     const struct rfn_site *site, uint64_t capture_id)
{
    return f->rule == rule && f->line == site->line && f->capture_id == capture_id &&
           (f->file == site->file || !strcmp(f->file, site->file));
}

static void report(struct rfn_rules *rules, enum rfn_rule rule,
                   struct rfn_rules_capture *open, const struct rfn_call_event *event)
{
    enum rfn_capture_status status = status_after(open, event);
    struct rfn_site site = { event->site.file ? event->site.file : "", event->site.line };
    open->status = status;
    for (int32_t i = rules->findings - 1; i >= 0; i--)
    {
        struct rfn_finding *f = &rules->finding[i].finding;
        if (same_site(f, rule, &site, open->id))
        {
            f->count++;
            return;
        }
    }
    if (rules->findings == RFN_RULES_KEPT)
    {
        lose(rules, rule, rfn_call_name(event->call));
        return;
    }

    struct rfn_rules_finding *kept = &rules->finding[rules->findings++];
    struct sentence s = { kept->why, sizeof kept->why, 0 };
    if (rule == RFN_CAP001)
        say_host_sync(&s, event, open, status);
    else if (rule == RFN_CAP002)
        say_sync_copy(&s, event, open, status);
    else if (rule == RFN_CAP003)
        say_pageable_copy(&s, event, open);
    else
        say_stray(&s, event, open, status);
    snprintf(kept->driver, sizeof kept->driver, "%s", event->why ? event->why : "");
    kept->finding = (struct rfn_finding) {
        .rule = rule,
        .severity = rfn_rule_query(rule)->severity,
        .confidence = RFN_PROVED,
        .file = site.file,
        .line = site.line,
        .api = rfn_call_name(event->call),
        .capture_id = open->id,
        .stream = event->stream ? event->stream_serial : 0,
        .thread = event->thread,
        .status_after = status,
        .code = event->code,
        .count = 1,
        .why = kept->why,
        .fix = rfn_rule_query(rule)->fix,
        .driver = kept->driver,
    };
}

/* Nothing was asked for and nothing happened: 0 bytes, and nobody complained. */
static int is_empty(const struct rfn_call_event *event)
{
    return !event->bytes && !event->code &&
           (event->call == RFN_CALL_copy_sync || event->call == RFN_CALL_set_sync ||
            event->call == RFN_CALL_copy_async || event->call == RFN_CALL_set_async);
}

static void apply(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_capture *open = capture_of_caller(rules, event);
    switch (event->call)
    {
    case RFN_CALL_stream_sync:
    case RFN_CALL_event_sync:
    case RFN_CALL_device_sync:
        if (open)
            report(rules, RFN_CAP001, open, event);
        break;
    case RFN_CALL_copy_sync:
    case RFN_CALL_set_sync:
        if (open && !is_empty(event))
            report(rules, RFN_CAP002, open, event);
        break;
    case RFN_CALL_copy_async:
        if (event->before.status == RFN_CAPTURE_ACTIVE && !event->code &&
            (event->src_kind == RFN_MEMORY_PAGEABLE ||
             event->dst_kind == RFN_MEMORY_PAGEABLE))
        {
            /* Whoever calls: it is the stream's capture that gets the node. */
            struct rfn_rules_capture *on = capture_by_id(rules, event->before.id);
            if (on && !is_empty(event))
                report(rules, RFN_CAP003, on, event);
            break;
        }
        /* fall through */
    case RFN_CALL_op_launch:
    case RFN_CALL_set_async:
    case RFN_CALL_host_call:
        /* An executable launched beside a capture is legal and mostly meant. */
        if (open && event->before.status == RFN_CAPTURE_NONE && !is_empty(event))
            report(rules, RFN_CAP004, open, event);
        break;
    default:
        break;
    }
}

void rfn_rules_feed(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    if (event->call == RFN_CALL_capture_begin)
    {
        capture_opened(rules, event);
        return;
    }
    struct rfn_rules_capture *seen = capture_by_id(rules, event->after.id);
    if (seen)
        seen->status = event->after.status;

    if (event->call == RFN_CALL_capture_end)
        capture_ended(rules, event);
    else if (event->call == RFN_CALL_stream_destroy && !event->code)
    {
        /* A capture whose origin is gone can never be ended. */
        struct rfn_rules_capture *open = capture_by_origin(rules, event);
        if (open)
            capture_closed(rules, open);
    }
    else
        apply(rules, event);
}
