#define RFN_NO_SITES
#include "graph/order.h"
#include "graph/rule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_ROOM 64 /* captures open at once before memory is asked for */

static const char lost_why[] =
    "more was found than was kept: there is room for 1024 different findings and 256 "
    "early "
    "accesses, and a capture that began without memory to follow it is not checked; the "
    "count says how often";

enum rfn_status rfn_rules_init(struct rfn_rules *rules)
{
    *rules = (struct rfn_rules) { .open_room = OPEN_ROOM };
    rules->store = calloc(2 * RFN_RULES_KEPT, sizeof *rules->store);
    rules->finding = calloc(RFN_RULES_KEPT, sizeof *rules->finding);
    rules->open = calloc(OPEN_ROOM, sizeof *rules->open);
    rules->event = calloc(RFN_RULES_EVENTS, sizeof *rules->event);
    rules->copy = calloc(RFN_RULES_COPIES, sizeof *rules->copy);
    rules->pool = calloc(RFN_RULES_POOLS, sizeof *rules->pool);
    rules->fetch = calloc(RFN_RULES_FETCHES, sizeof *rules->fetch);
    rules->order = rfn_order_create();
    if (rules->store && rules->finding && rules->open && rules->event && rules->copy &&
        rules->pool && rules->fetch && rules->order)
        return RFN_OK;
    rfn_rules_release(rules);
    return RFN_FAIL(RFN_NOMEM, "no memory for %d findings and %d open captures",
                    RFN_RULES_KEPT, OPEN_ROOM);
}

void rfn_rules_release(struct rfn_rules *rules)
{
    free(rules->store);
    free(rules->finding);
    free(rules->open);
    free(rules->event);
    free(rules->copy);
    free(rules->pool);
    free(rules->fetch);
    rfn_order_destroy(rules->order);
    rfn_rule_device_leave(rules);
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
    return i < rules->findings ? &rules->finding[i]->finding : &rules->lost;
}

/* ---- what is open ---------------------------------------------------------------- */

struct rfn_rules_capture *rfn_rule_capture(const struct rfn_rules *rules, uint64_t id)
{
    for (int32_t i = rules->opens - 1; id && i >= 0; i--)
        if (rules->open[i].id == id)
            return &rules->open[i];
    return NULL;
}

int rfn_rules_is_open(const struct rfn_rules *rules, uint64_t capture_id)
{
    return rfn_rule_capture(rules, capture_id) != NULL;
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

struct rfn_rules_capture *rfn_rule_own(const struct rfn_rules *rules,
                                       const struct rfn_call_event *event)
{
    struct rfn_rules_capture *own = rfn_rule_capture(rules, event->before.id);
    if (own && own->thread == event->thread)
        return own;
    for (int32_t i = rules->opens - 1; i >= 0; i--)
        if (rules->open[i].thread == event->thread)
            return &rules->open[i];
    return NULL;
}

static struct rfn_rules_capture *capture_opened(struct rfn_rules *rules,
                                                const struct rfn_call_event *event)
{
    if (event->code || !event->after.id)
        return NULL;
    if (rules->opens == rules->open_room)
    {
        int32_t room = rules->open_room * 2;
        void *grown = realloc(rules->open, (size_t)room * sizeof *rules->open);
        if (!grown)
        {
            rfn_rule_lose(rules, RFN_CAP001, rfn_call_name(event->call), 1);
            return NULL;
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
        .foreign = event->foreign,
        .status = RFN_CAPTURE_ACTIVE,
        .begun = rfn_rule_where(event),
        .member = { { .stream = event->stream_serial, .thread = event->thread } },
        .members = 1,
    };
    if (event->name)
        snprintf(open->name, sizeof open->name, "%s", event->name);
    rfn_rule_watch_begin(rules, open);
    rfn_rule_device_begin(rules, open);
    return open;
}

static void capture_closed(struct rfn_rules *rules, struct rfn_rules_capture *open)
{
    size_t behind = (size_t)(&rules->open[rules->opens] - (open + 1));
    rfn_rule_device_end(rules, open->id);
    memmove(open, open + 1, behind * sizeof *open);
    rules->opens--;
}

/* An end may fail and yet be the end (901, 904, 908), or leave the capture open (903 on a
 * joined stream, 401 on an uninvolved one): what counts is the origin stream afterwards. */
static void capture_ended(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_capture *open = rfn_rule_capture(rules, event->before.id);
    if (!open && event->before.status != RFN_CAPTURE_NONE)
        open = capture_by_origin(rules, event); /* invalidated ones may have no id */
    if (!open || open->stream != event->stream_serial ||
        event->after.status != RFN_CAPTURE_NONE)
    {
        rfn_rule_any(rules, event);
        return;
    }
    rfn_rule_end(rules, open, event);
    rfn_rule_watch_end(rules, open, event);
    rules->ended += !event->code && !(open->id & RFN_RULES_DRY);
    capture_closed(rules, open);
}

/* A capture whose origin is gone can never be ended. */
static void origin_destroyed(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_capture *open = event->code ? NULL : capture_by_origin(rules, event);
    if (!open)
        return;
    struct rfn_rules_where where = rfn_rule_where(event);
    open->status = RFN_CAPTURE_NONE;
    rfn_rule_left(rules, open, &where, "its origin stream was destroyed");
    capture_closed(rules, open);
}

const struct rfn_rules_capture *rfn_rules_leave(struct rfn_rules *rules,
                                                struct rfn_site site)
{
    for (int32_t i = 0; i < rules->opens; i++)
    {
        struct rfn_rules_where where = rules->open[i].begun;
        where.site = site;
        where.call = RFN_CALLS;
        rfn_rule_left(rules, &rules->open[i], &where, "the checker was to go");
    }
    return rules->opens ? &rules->open[0] : NULL;
}

/* ---- what a call did to captures -------------------------------------------------- */

static int is_listed(const struct rfn_call_event *event, uint64_t id)
{
    for (int32_t i = 0; i < event->hits && i < RFN_CALL_HITS; i++)
        if (event->hit[i] == id)
            return 1;
    return 0;
}

enum rfn_capture_status rfn_rule_status(const struct rfn_rules_capture *open,
                                        const struct rfn_call_event *event)
{
    if (event->call != RFN_CALL_region_end &&
        (event->before.id == open->id || event->after.id == open->id))
        return event->after.status;
    if (event->caller.id == open->id)
        return event->caller.status;
    return is_listed(event, open->id) ? RFN_CAPTURE_INVALIDATED : open->status;
}

/* Who invalidated a capture is known from the first call that did; `reported`: it was found
 * to be wrong. */
static void note_hits(struct rfn_rules *rules, const struct rfn_call_event *event,
                      int reported)
{
    for (int32_t i = 0; i < rules->opens; i++)
    {
        struct rfn_rules_capture *open = &rules->open[i];
        open->status = rfn_rule_status(open, event);
        if (!is_listed(event, open->id))
            continue;
        open->status = RFN_CAPTURE_INVALIDATED;
        open->explained = open->hit ? open->explained : reported;
        if (!open->hit)
            open->culprit = rfn_rule_where(event);
        open->hit = 1;
    }
}

/* ---- findings -------------------------------------------------------------------- */

struct rfn_rules_where rfn_rule_where(const struct rfn_call_event *event)
{
    struct rfn_rules_where where = {
        .call = event->call,
        .code = event->code,
        .site = { event->site.file ? event->site.file : "", event->site.line },
        .thread = event->thread,
        .stream = event->stream || event->call == RFN_CALL_stream_destroy
                      ? event->stream_serial
                      : 0,
        .kind = event->stream_kind,
    };
    if (event->region)
    {
        size_t n = strlen(event->region);
        size_t fits = n < sizeof where.region ? n : sizeof where.region - 1;
        memcpy(where.region, event->region, fits);
        if (n > fits)
            memcpy(where.region + fits - 3, "...", 3);
    }
    return where;
}

static const char *api_name(enum rfn_call call)
{
    return call == RFN_CALLS ? "check_destroy" : rfn_call_name(call);
}

/* Shown as the first of the gravest that were lost. */
void rfn_rule_lose(struct rfn_rules *rules, enum rfn_rule rule, const char *api,
                   int64_t count)
{
    enum rfn_severity severity = rfn_rule_query(rule)->severity;
    if (!rules->lost.count || severity > rules->lost.severity)
        rules->lost = (struct rfn_finding) {
            .rule = rule,
            .severity = severity,
            .count = rules->lost.count,
            .file = "",
            .region = "",
            .api = api,
            .why = lost_why,
            .fix = "correct the findings before this one, then check again",
            .driver = "",
        };
    rules->lost.count += count;
}

static int same_site(const struct rfn_finding *f, enum rfn_rule rule,
                     const struct rfn_site *site)
{
    return f->rule == rule && f->line == site->line &&
           (f->file == site->file || !strcmp(f->file, site->file));
}

/* The finding that counts this one too: of the same site in the same capture, or the last of
 * a site that was told in enough of them. NULL when it is new. */
static struct rfn_finding *known(const struct rfn_rules *rules, enum rfn_rule rule,
                                 const struct rfn_site *site, uint64_t capture_id)
{
    struct rfn_finding *last = NULL;
    int32_t told = 0;
    for (int32_t i = rules->findings - 1; i >= 0; i--)
    {
        struct rfn_finding *f = &rules->finding[i]->finding;
        if (!same_site(f, rule, site))
            continue;
        if (f->capture_id == capture_id)
            return f;
        last = last ? last : f;
        told++;
    }
    return told >= RFN_RULES_TOLD ? last : NULL;
}

/* Makes room for an error among findings that are none; 0 when all are errors. */
static int oldest_gives_way(struct rfn_rules *rules)
{
    int32_t i = 0;
    while (i < rules->findings && rules->finding[i]->finding.severity == RFN_ERROR)
        i++;
    if (i == rules->findings)
        return 0;
    const struct rfn_finding *f = &rules->finding[i]->finding;
    rfn_rule_lose(rules, f->rule, f->api, f->count);
    size_t behind = (size_t)(rules->findings - (i + 1));
    memmove(&rules->finding[i], &rules->finding[i + 1], behind * sizeof *rules->finding);
    rules->findings--;
    return 1;
}

static int report(struct rfn_rules *rules, const struct rfn_rule_info *info,
                  enum rfn_rule rule, uint64_t capture_id, enum rfn_capture_status status,
                  const struct rfn_rules_where *where, const char *driver,
                  struct rfn_sentence *ret)
{
    struct rfn_rules_capture *open = rfn_rule_capture(rules, capture_id);
    rules->reports++;
    if (open && rule != RFN_CAP013)
        open->found = 1;
    struct rfn_finding *before = known(rules, rule, &where->site, capture_id);
    if (before)
    {
        before->count++;
        return 0;
    }
    if (rules->findings == RFN_RULES_KEPT &&
        (info->severity != RFN_ERROR || !oldest_gives_way(rules)))
    {
        rfn_rule_lose(rules, rule, api_name(where->call), 1);
        return 0;
    }

    struct rfn_rules_finding *kept = &rules->store[rules->stored++];
    rules->finding[rules->findings++] = kept;
    *ret = (struct rfn_sentence) { kept->why, sizeof kept->why, 0 };
    snprintf(kept->driver, sizeof kept->driver, "%s", driver ? driver : "");
    memcpy(kept->region, where->region, sizeof kept->region);
    kept->finding = (struct rfn_finding) {
        .rule = rule,
        .severity = info->severity,
        .confidence = info->confidence,
        .file = where->site.file,
        .line = where->site.line,
        .region = kept->region,
        .api = api_name(where->call),
        .capture_id = capture_id,
        .stream = where->stream,
        .thread = where->thread,
        .status_after = status,
        .code = where->code,
        .count = 1,
        .why = kept->why,
        .fix = info->fix,
        .driver = kept->driver,
    };
    return 1;
}

int rfn_rule_report(struct rfn_rules *rules, enum rfn_rule rule, uint64_t capture_id,
                    enum rfn_capture_status status, const struct rfn_rules_where *where,
                    const char *driver, struct rfn_sentence *ret)
{
    return report(rules, rfn_rule_query(rule), rule, capture_id, status, where, driver,
                  ret);
}

int rfn_rule_suspect(struct rfn_rules *rules, enum rfn_rule rule,
                     const struct rfn_rules_where *where, struct rfn_sentence *ret)
{
    struct rfn_rule_info info = *rfn_rule_query(rule);
    const struct rfn_finding *before = known(rules, rule, &where->site, 0);
    info.severity = RFN_WARNING;
    info.confidence = RFN_HEURISTIC;
    return !(before && before->confidence == RFN_PROVED) &&
           report(rules, &info, rule, 0, RFN_CAPTURE_NONE, where, "", ret);
}

int rfn_rule_found(struct rfn_rules *rules, enum rfn_rule rule,
                   const struct rfn_rules_capture *open,
                   const struct rfn_call_event *event, struct rfn_sentence *ret)
{
    struct rfn_rules_where where = rfn_rule_where(event);
    return rfn_rule_report(rules, rule, open->id, rfn_rule_status(open, event), &where,
                           event->why, ret);
}

/* ---- calls ------------------------------------------------------------------------ */

static void apply(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_rules_capture *open;
    switch (event->call)
    {
    case RFN_CALL_capture_begin:
        open = capture_opened(rules, event);
        if (open)
            rfn_rule_begin(rules, open, event);
        else
            rfn_rule_any(rules, event);
        break;
    case RFN_CALL_capture_end:
        capture_ended(rules, event);
        break;
    case RFN_CALL_stream_destroy:
        origin_destroyed(rules, event);
        break;
    case RFN_CALL_region_end:
        open = rfn_rule_capture(rules, event->before.id);
        if (open)
        {
            struct rfn_rules_where where = rfn_rule_where(event);
            rfn_rule_left(rules, open, &where, "the region in which it began ended");
        }
        rfn_rule_plan_end(rules, event);
        break;
    case RFN_CALL_attention_plan:
        rfn_rule_plan_read(rules, event);
        break;
    case RFN_CALL_event_sync:
    case RFN_CALL_event_query:
    case RFN_CALL_event_elapsed:
    case RFN_CALL_stream_sync:
    case RFN_CALL_device_sync:
        rfn_rule_wait(rules, event);
        break;
    case RFN_CALL_memory_alloc:
    case RFN_CALL_memory_free:
        rfn_rule_memory(rules, event);
        break;
    case RFN_CALL_copy_sync:
    case RFN_CALL_set_sync:
        rfn_rule_sync_copy(rules, event);
        break;
    case RFN_CALL_copy_async:
        if (!rfn_rule_async_copy(rules, event))
            rfn_rule_work(rules, event);
        break;
    case RFN_CALL_op_launch:
    case RFN_CALL_set_async:
    case RFN_CALL_host_call:
        rfn_rule_work(rules, event);
        break;
    case RFN_CALL_stream_wait:
        rfn_rule_stream_wait(rules, event);
        break;
    case RFN_CALL_capture_query: /* asking is always allowed */
        break;
    default:
        rfn_rule_any(rules, event);
        break;
    }
}

void rfn_rules_feed(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    int64_t reports = rules->reports;
    if (event->notice)
    {
        rfn_rule_notice(rules, event);
        return;
    }
    const struct rfn_call_event seen = rfn_rule_dry(rules, event);
    apply(rules, &seen);
    if (rules->reports == reports && !rfn_rule_dry_lost(rules, &seen))
    {
        rfn_rule_relaxed(rules, &seen);
        rfn_rule_device_work(rules, &seen);
    }
    rfn_rule_order(rules, event); /* what is done is done */
    int reported = rules->reports > reports;
    note_hits(rules, &seen, reported);
    rfn_rule_track(rules, &seen);
    rfn_rule_note_copy(rules, &seen, reported);
    rfn_rule_note_pools(rules, &seen);
    rfn_rule_note_fetch(rules, &seen);
}
