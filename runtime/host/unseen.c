#define RFN_NO_SITES
#include "runtime/host/host.h"

#include <stdlib.h>

#define UNSEEN                                                                           \
    1024 /* ends of copies that are followed at once, the oldest given up first */
#define CARRIERS 12 /* who can be waited for instead; past them it counts as waited for */

struct unseen
{
    const void *address; /* NULL: the entry is free */
    int64_t bytes;
    int write;
    const struct rfn_host_item *item; /* NULL: it has run */
    int seen;                         /* the host has waited, though it has not run */
    int carriers;
    const void *carrier[CARRIERS];
};

struct rfn_host_unseen
{
    uint32_t used; /* entries at and past it were never used */
    uint32_t next; /* given up next */
    struct unseen entry[UNSEEN];
};

int rfn_host_unseen_open(struct rfn_host_device *d)
{
    d->unseen = calloc(1, sizeof *d->unseen);
    return d->unseen ? RFN_CODE_OK : RFN_CODE_NOMEM;
}

void rfn_host_unseen_close(struct rfn_host_device *d)
{
    free(d->unseen);
    d->unseen = NULL;
}

static void settle(struct rfn_host_device *d, struct unseen *u)
{
    rfn_host_memory_settle(d->memory, u->address, u->bytes, u->write);
    u->address = NULL;
}

/* What has not run yet is settled when it has. */
static void see(struct rfn_host_device *d, struct unseen *u)
{
    u->seen = 1;
    u->carriers = 0;
    if (!u->item)
        settle(d, u);
}

static void carry(struct rfn_host_device *d, struct unseen *u, const void *who)
{
    for (int i = 0; i < u->carriers; i++)
        if (u->carrier[i] == who)
            return;
    if (u->carriers == CARRIERS)
        see(d, u);
    else if (!u->seen)
        u->carrier[u->carriers++] = who;
}

static int is_carried(const struct unseen *u, const void *who)
{
    for (int i = 0; i < u->carriers; i++)
        if (u->carrier[i] == who)
            return 1;
    return 0;
}

/* A free entry; the oldest that has run is given up for it. NULL when all are pending. */
static struct unseen *take(struct rfn_host_device *d)
{
    struct rfn_host_unseen *all = d->unseen;
    for (uint32_t i = 0; i < all->used; i++)
        if (!all->entry[i].address)
            return &all->entry[i];
    if (all->used < UNSEEN)
        return &all->entry[all->used++];
    for (uint32_t i = 0; i < UNSEEN; i++)
    {
        struct unseen *u = &all->entry[all->next++ % UNSEEN];
        if (u->item)
            continue;
        settle(d, u);
        return u;
    }
    return NULL;
}

static void pend(struct rfn_host_device *d, const struct rfn_host_item *item,
                 const void *address, int64_t bytes, int write)
{
    /* Waiting for the newest of equal copies is what the host has to do. */
    for (uint32_t i = 0; i < d->unseen->used; i++)
    {
        struct unseen *u = &d->unseen->entry[i];
        if (u->address == address && u->bytes == bytes && u->write == write)
            see(d, u);
    }
    struct unseen *u = bytes > 0 ? take(d) : NULL;
    if (!u)
        return;
    *u = (struct unseen) { .address = address, .bytes = bytes, .write = write };
    u->item = item;
    for (int i = 0; i < 2; i++)
        if (item->by[i])
            carry(d, u, item->by[i]);
    rfn_host_memory_pend(d->memory, address, bytes, write, item->site);
}

void rfn_host_pend(struct rfn_host_device *d, const struct rfn_host_item *item)
{
    const struct rfn_host_work *w = &item->work;
    if (!d->unseen)
        return;
    if (w->type == RFN_NODE_MEMSET && w->set.dst_kind == RFN_MEMORY_PINNED)
        pend(d, item, w->set.dst, w->set.bytes, 1);
    if (w->type != RFN_NODE_MEMCPY)
        return;
    if (w->copy.dst_kind == RFN_MEMORY_PINNED)
        pend(d, item, w->copy.dst, w->copy.bytes, 1);
    if (w->copy.src_kind == RFN_MEMORY_PINNED)
        pend(d, item, w->copy.src, w->copy.bytes, 0);
}

void rfn_host_settle(struct rfn_host_device *d, const struct rfn_host_item *item)
{
    if (!d->unseen ||
        (item->work.type != RFN_NODE_MEMCPY && item->work.type != RFN_NODE_MEMSET))
        return;
    for (uint32_t i = 0; i < d->unseen->used; i++)
    {
        struct unseen *u = &d->unseen->entry[i];
        if (!u->address || u->item != item)
            continue;
        u->item = NULL;
        if (u->seen)
            settle(d, u);
    }
}

void rfn_host_follow(struct rfn_host_device *d, const void *from, const void *to)
{
    for (uint32_t i = 0; d->unseen && i < d->unseen->used; i++)
    {
        struct unseen *u = &d->unseen->entry[i];
        if (u->address && is_carried(u, from))
            carry(d, u, to);
    }
}

void rfn_host_leave_unseen(struct rfn_host_device *d, const void *who)
{
    for (uint32_t i = 0; d->unseen && i < d->unseen->used; i++)
    {
        struct unseen *u = &d->unseen->entry[i];
        for (int c = u->carriers - 1; u->address && c >= 0; c--)
            if (u->carrier[c] == who)
                u->carrier[c] = u->carrier[--u->carriers];
    }
}

void rfn_host_saw(struct rfn_host_device *d, const void *who)
{
    for (uint32_t i = 0; d->unseen && i < d->unseen->used; i++)
    {
        struct unseen *u = &d->unseen->entry[i];
        if (u->address && (!who || is_carried(u, who)))
            see(d, u);
    }
}

void rfn_host_saw_stream(struct rfn_host_device *d, const struct rfn_host_stream *s)
{
    rfn_host_saw(d, s);
    if (s != &d->legacy || !d->unseen)
        return;
    rfn_host_saw(d, &d->orphans);
    for (struct rfn_host_stream *b = d->streams; b; b = b->next)
        if (rfn_host_blocking(b))
            rfn_host_saw(d, b);
}
