#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <assert.h>
#include <stdlib.h>

/* A pooled item with room for the arguments of an op. */
struct slot
{
    struct rfn_host_item item;
    _Alignas(16) char args[RFN_HOST_ARGS_BYTES];
};

struct rfn_host_chunk
{
    struct rfn_host_chunk *next;
    struct slot slot[];
};

/* ---- the pool --------------------------------------------------------------------- */

int rfn_host_pool_grow(struct rfn_host_device *d, uint32_t items)
{
    struct rfn_host_chunk *c = calloc(1, sizeof *c + (size_t)items * sizeof c->slot[0]);
    if (!c)
        return RFN_CODE_NOMEM;
    c->next = d->chunks;
    d->chunks = c;
    for (uint32_t i = items; i-- > 0;)
    {
        c->slot[i].item.pooled = 1;
        c->slot[i].item.next = d->free;
        d->free = &c->slot[i].item;
    }
    d->free_count += items;
    return RFN_CODE_OK;
}

void rfn_host_pool_close(struct rfn_host_device *d)
{
    while (d->chunks)
    {
        struct rfn_host_chunk *c = d->chunks;
        d->chunks = c->next;
        free(c);
    }
}

int rfn_host_reserve(struct rfn_host_device *d, uint32_t n)
{
    if (d->free_count >= n)
        return RFN_CODE_OK;
    if (rfn_host_pool_grow(d, n > RFN_HOST_ITEMS ? n : RFN_HOST_ITEMS) != 0)
        return rfn_host_fail(RFN_CODE_NOMEM, "no memory for %u more items of work", n);
    return RFN_CODE_OK;
}

struct rfn_host_item *rfn_host_take(struct rfn_host_device *d)
{
    struct rfn_host_item *item = d->free;
    assert(item);
    d->free = item->next;
    d->free_count--;
    item->work = (struct rfn_host_work) { .type = RFN_NODE_EMPTY };
    item->dep = item->own;
    item->deps = 0;
    item->extra = NULL;
    item->by[0] = item->by[1] = NULL;
    return item;
}

void *rfn_host_item_args(struct rfn_host_item *item)
{
    assert(item->pooled);
    return ((struct slot *)(void *)item)->args;
}

/* ---- pending items ---------------------------------------------------------------- */

int rfn_host_done(struct rfn_host_ref ref)
{
    return !ref.item || ref.item->serial != ref.serial;
}

void rfn_host_depend(struct rfn_host_item *item, struct rfn_host_ref ref)
{
    if (rfn_host_done(ref))
        return;
    assert(item->deps < RFN_HOST_OWN_DEPS);
    item->own[item->deps++] = ref;
}

struct rfn_host_ref rfn_host_post(struct rfn_host_device *d, struct rfn_host_item *item)
{
    item->serial = ++d->serial;
    item->scan = 0;
    item->next = NULL;
    item->prev = d->pending_end;
    if (d->pending_end)
        d->pending_end->next = item;
    else
        d->pending = item;
    d->pending_end = item;
    d->pending_count++;
    rfn_host_pend(d, item);
    return (struct rfn_host_ref) { item, item->serial };
}

static void unlink_item(struct rfn_host_device *d, struct rfn_host_item *item)
{
    if (item->prev)
        item->prev->next = item->next;
    else
        d->pending = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        d->pending_end = item->prev;
    d->pending_count--;
}

/* The first dependency that has not run, NULL when the item is ready. */
static struct rfn_host_item *lacks(struct rfn_host_item *item)
{
    while (item->scan < item->deps && rfn_host_done(item->dep[item->scan]))
        item->scan++;
    return item->scan < item->deps ? item->dep[item->scan].item : NULL;
}

static void run(struct rfn_host_device *d, struct rfn_host_item *item)
{
    assert(!lacks(item));
    rfn_host_run(d, item);
    unlink_item(d, item);
    item->serial = 0;
    free(item->extra);
    item->extra = NULL;
    if (item->pooled)
    {
        item->next = d->free;
        d->free = item;
        d->free_count++;
    }
    /* Nothing pending refers to the items of a destroyed executable any more. */
    while (d->retired && !d->pending)
    {
        struct rfn_host_exec *x = d->retired;
        d->retired = x->retired;
        rfn_host_exec_free(x);
    }
}

/* ---- schedules -------------------------------------------------------------------- */

/* splitmix64, public domain (Vigna). */
static uint64_t draw(struct rfn_host_device *d)
{
    uint64_t z = d->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Any ready item, each with the same chance; NULL when nothing is pending. */
static struct rfn_host_item *any_ready(struct rfn_host_device *d)
{
    struct rfn_host_item *found = NULL;
    uint64_t seen = 0;
    for (struct rfn_host_item *i = d->pending; i; i = i->next)
        if (!lacks(i) && draw(d) % ++seen == 0)
            found = i;
    return found;
}

/* Runs what `item` needs, and it. Dependencies of an item stand on its pull until done, so
 * that a long chain costs no stack. */
static void pull_exactly(struct rfn_host_device *d, struct rfn_host_item *item)
{
    item->below = NULL;
    while (item)
    {
        struct rfn_host_item *need = lacks(item);
        if (need)
        {
            need->below = item;
            item = need;
            continue;
        }
        struct rfn_host_item *below = item->below;
        run(d, item);
        item = below;
    }
}

static struct rfn_host_item *deepest(struct rfn_host_item *item)
{
    for (struct rfn_host_item *need; (need = lacks(item));)
        item = need;
    return item;
}

void rfn_host_pull_one(struct rfn_host_device *d, struct rfn_host_ref ref)
{
    if (!rfn_host_done(ref))
        run(d, deepest(ref.item));
}

void rfn_host_pull(struct rfn_host_device *d, struct rfn_host_ref ref)
{
    while (d->sched == RFN_SCHED_RANDOM && !rfn_host_done(ref))
    {
        if (draw(d) & 1)
            rfn_host_pull_one(d, ref);
        else
            run(d, any_ready(d));
    }
    if (!rfn_host_done(ref))
        pull_exactly(d, ref.item);
}

void rfn_host_drain(struct rfn_host_device *d)
{
    while (d->pending)
        run(d, d->sched == RFN_SCHED_RANDOM ? any_ready(d) : d->pending);
}

void rfn_host_random_step(struct rfn_host_device *d)
{
    static const uint8_t items[8] = { 0, 0, 0, 0, 1, 1, 2, 4 };
    if (d->sched != RFN_SCHED_RANDOM || !d->pending)
        return;
    for (uint8_t n = items[draw(d) & 7]; n > 0 && d->pending; n--)
        run(d, any_ready(d));
}
