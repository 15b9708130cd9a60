#define RFN_NO_SITES
#include "graph/ledger.h"
#include "graph/rules.h"
#include "graph/seen.h"
#include "runtime/object.h"

#include <pthread.h>
#include <stdlib.h>

struct rfn_check
{
    struct rfn_device *device;
    struct rfn_observer observer;
    pthread_mutex_t lock; /* over rules and ledger; no device call is made under it */
    struct rfn_rules rules;
    struct rfn_ledger ledger;
    uint64_t dries; /* dry runs, ever */
};

#define TOUCHES 256 /* reported apart; what a device counts beyond is counted */

/* The device's own locks are below ours here: its handler takes none. */
static void look_at_touches(struct rfn_check *check)
{
    struct rfn_touch touch[TOUCHES];
    int all = rfn_device_touches(check->device, NULL, 0);
    pthread_mutex_lock(&check->lock);
    int fresh = all > check->rules.touches;
    pthread_mutex_unlock(&check->lock);
    if (!fresh)
        return;
    all = rfn_device_touches(check->device, touch, TOUCHES);
    pthread_mutex_lock(&check->lock);
    if (all > check->rules.touches)
        rfn_rules_touched(&check->rules, touch, all < TOUCHES ? all : TOUCHES, all);
    pthread_mutex_unlock(&check->lock);
}

static void forget_ledgers(struct rfn_check *check)
{
    struct rfn_ledger *ledger = &check->ledger;
    int32_t i = 0;
    while (i < ledger->captures &&
           ledger->captures - check->rules.opens > RFN_LEDGERS_KEPT)
    {
        if (rfn_rules_is_open(&check->rules, ledger->capture[i].id))
            i++;
        else
            rfn_ledger_drop(ledger, i);
    }
}

static void on_call(void *ctx, const struct rfn_call_event *event)
{
    struct rfn_check *check = ctx;
    struct rfn_ledger_item item = { 0 };
    int wanted = rfn_ledger_wants(event);
    if (wanted)
        rfn_ledger_describe(check->device, event, &item);

    /* What the fault handler saw of a plan is proved: it comes before what is likely. */
    if (event->call == RFN_CALL_region_end || event->call == RFN_CALL_attention_plan)
        look_at_touches(check);
    pthread_mutex_lock(&check->lock);
    if (event->call == RFN_CALL_capture_begin && !event->code && event->after.id)
        rfn_ledger_open(&check->ledger, event->after.id);
    if (wanted)
        rfn_ledger_add(&check->ledger, event->before.id, &item);
    rfn_rules_feed(&check->rules, event);
    forget_ledgers(check);
    pthread_mutex_unlock(&check->lock);
    if (event->call == RFN_CALL_capture_end || event->call == RFN_CALL_stream_sync ||
        event->call == RFN_CALL_event_sync || event->call == RFN_CALL_device_sync)
        look_at_touches(check);
}

enum rfn_status rfn_check_create(struct rfn_device *device, struct rfn_check **ret_check)
{
    if (!device || !ret_check)
        return RFN_FAIL(RFN_INVALID, "check_create: %s is NULL",
                        device ? "ret_check" : "device");
    struct rfn_check *check = calloc(1, sizeof *check);
    if (!check)
        return RFN_FAIL(RFN_NOMEM, "check_create: no memory for %zu bytes",
                        sizeof *check);
    enum rfn_status status = rfn_rules_init(&check->rules);
    if (status)
        goto free_check;
    if (pthread_mutex_init(&check->lock, NULL))
    {
        status = RFN_FAIL(RFN_NOMEM, "check_create: no memory for a lock");
        goto release_rules;
    }
    check->device = device;
    check->observer = (struct rfn_observer) { .ctx = check, .on_call = on_call };
    status = rfn_device_observe(device, &check->observer);
    if (status)
        goto destroy_lock;
    pthread_mutex_lock(&check->lock);
    check->rules.touches = rfn_device_touches(device, NULL, 0); /* not of our time */
    pthread_mutex_unlock(&check->lock);
    rfn_seen_attach(device);
    *ret_check = check;
    return RFN_OK;

destroy_lock:
    pthread_mutex_destroy(&check->lock);
release_rules:
    rfn_rules_release(&check->rules);
free_check:
    free(check);
    return status;
}

enum rfn_status rfn_check_destroy(struct rfn_check **check)
{
    if (!check)
        return RFN_FAIL(RFN_INVALID, "check_destroy: check is NULL");
    if (!*check)
        return RFN_OK;
    rfn_device_look((*check)->device);
    pthread_mutex_lock(&(*check)->lock);
    const struct rfn_rules_capture *open =
        rfn_rules_leave(&(*check)->rules, rfn_site_here());
    enum rfn_status status = RFN_OK;
    if (open && !atomic_load(&(*check)->device->lost)) /* else nobody could end it */
        status = RFN_FAIL(
            RFN_BUSY, "check_destroy: capture %llu, begun at %s:%d, is still open",
            (unsigned long long)open->id, open->begun.site.file, open->begun.site.line);
    pthread_mutex_unlock(&(*check)->lock);
    if (!status)
        status = rfn_device_observe((*check)->device, NULL);
    if (status)
        return status;
    pthread_mutex_destroy(&(*check)->lock);
    rfn_rules_release(&(*check)->rules);
    rfn_ledger_release(&(*check)->ledger);
    free(*check);
    *check = NULL;
    return RFN_OK;
}

int32_t rfn_check_count(struct rfn_check *check)
{
    if (!check)
        return 0;
    look_at_touches(check);
    pthread_mutex_lock(&check->lock);
    int32_t count = rfn_rules_count(&check->rules);
    pthread_mutex_unlock(&check->lock);
    return count;
}

enum rfn_status rfn_check_finding(struct rfn_check *check, int32_t i,
                                  struct rfn_finding *ret_finding)
{
    if (!check || !ret_finding)
        return RFN_FAIL(RFN_INVALID, "check_finding: %s is NULL",
                        check ? "ret_finding" : "check");
    look_at_touches(check);
    pthread_mutex_lock(&check->lock);
    int32_t count = rfn_rules_count(&check->rules);
    const struct rfn_finding *finding = rfn_rules_at(&check->rules, i);
    if (finding)
        *ret_finding = *finding;
    pthread_mutex_unlock(&check->lock);
    if (!finding)
        return RFN_FAIL(RFN_NOT_FOUND, "check_finding: finding %d of %d", i, count);
    return RFN_OK;
}

int32_t rfn_check_ledger_count(struct rfn_check *check, uint64_t capture_id)
{
    if (!check)
        return -1;
    pthread_mutex_lock(&check->lock);
    const struct rfn_ledger_capture *capture =
        rfn_ledger_find(&check->ledger, capture_id);
    int32_t count = capture ? capture->items : -1;
    pthread_mutex_unlock(&check->lock);
    return count;
}

enum rfn_status rfn_check_ledger(struct rfn_check *check, uint64_t capture_id, int32_t i,
                                 struct rfn_ledger_entry *ret_entry,
                                 struct rfn_ledger_access *ret_access, int32_t max)
{
    if (!check || !ret_entry || (!ret_access && max > 0))
        return RFN_FAIL(RFN_INVALID, "check_ledger: %s is NULL",
                        !check       ? "check"
                        : !ret_entry ? "ret_entry"
                                     : "ret_access");
    pthread_mutex_lock(&check->lock);
    const struct rfn_ledger_capture *capture =
        rfn_ledger_find(&check->ledger, capture_id);
    int32_t items = capture ? capture->items : -1;
    int found = i >= 0 && i < items;
    if (found)
    {
        const struct rfn_ledger_item *item = &capture->item[i];
        *ret_entry = item->entry;
        for (int32_t a = 0; a < item->entry.accesses && a < max; a++)
            ret_access[a] = item->access[a];
    }
    pthread_mutex_unlock(&check->lock);
    if (items < 0)
        return RFN_FAIL(RFN_NOT_FOUND, "check_ledger: no whole ledger of capture %llu",
                        (unsigned long long)capture_id);
    if (!found)
        return RFN_FAIL(RFN_NOT_FOUND, "check_ledger: entry %d of %d of capture %llu", i,
                        items, (unsigned long long)capture_id);
    return RFN_OK;
}

enum rfn_status rfn_check_watch(struct rfn_check *check, const char *name,
                                const void *address, int64_t bytes)
{
    if (!check || !name || !address || bytes <= 0)
        return RFN_FAIL(RFN_INVALID, "check_watch: %s",
                        !check     ? "check is NULL"
                        : !name    ? "name is NULL"
                        : !address ? "address is NULL"
                                   : "there are no bytes to watch");
    if (bytes > RFN_SEEN_BYTES)
        return RFN_FAIL(RFN_LIMIT, "check_watch: %lld bytes of '%.47s'; %d are the most",
                        (long long)bytes, name, RFN_SEEN_BYTES);
    pthread_mutex_lock(&check->lock);
    int watched = rfn_rules_watch(&check->rules, name, address, bytes);
    pthread_mutex_unlock(&check->lock);
    return watched ? RFN_OK
                   : RFN_FAIL(RFN_LIMIT,
                              "check_watch: '%.47s' would be number %d; %d are "
                              "the most",
                              name, RFN_RULES_WATCHES + 1, RFN_RULES_WATCHES);
}

enum rfn_status rfn_check_require(struct rfn_check *check, int32_t captures)
{
    if (!check)
        return RFN_FAIL(RFN_INVALID, "check_require: check is NULL");
    pthread_mutex_lock(&check->lock);
    int32_t ended = check->rules.ended;
    pthread_mutex_unlock(&check->lock);
    return ended >= captures ? RFN_OK : rfn_seen_too_few(check->device, ended, captures);
}

/* The dry run that is open, and the stream that it is of; 0: none. */
static uint64_t dry_of(struct rfn_check *check, uint64_t *ret_stream)
{
    pthread_mutex_lock(&check->lock);
    uint64_t id = check->rules.dry;
    for (int32_t i = 0; id && i < check->rules.opens; i++)
        if (check->rules.open[i].id == id)
            *ret_stream = check->rules.open[i].stream;
    pthread_mutex_unlock(&check->lock);
    return id;
}

enum rfn_status rfn_check_dry_begin(struct rfn_check *check, struct rfn_stream *stream,
                                    const char *name)
{
    uint64_t of = 0;
    if (!check)
        return RFN_FAIL(RFN_INVALID, "check_dry_begin: check is NULL");
    if (dry_of(check, &of))
        return RFN_FAIL(RFN_BUSY, "check_dry_begin: one of stream %llu is open",
                        (unsigned long long)of);
    return rfn_dry_begin(check->device, stream, name, RFN_RULES_DRY | ++check->dries);
}

enum rfn_status rfn_check_dry_end(struct rfn_check *check, struct rfn_stream *stream)
{
    uint64_t of = 0;
    if (!check)
        return RFN_FAIL(RFN_INVALID, "check_dry_end: check is NULL");
    uint64_t id = dry_of(check, &of);
    if (!id)
        return RFN_FAIL(RFN_NOT_FOUND, "check_dry_end: no dry run is open");
    return rfn_dry_end(check->device, stream, of, id);
}
