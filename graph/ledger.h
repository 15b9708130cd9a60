/*
 * What each capture holds: every launch, copy, set, host function and child graph that went
 * into it, by whom, and the memory that it touches. Nothing here locks; check.c does.
 */
#ifndef RFN_GRAPH_LEDGER_H
#define RFN_GRAPH_LEDGER_H

#include "runtime/observe.h"

#include <refrain/check.h>

/* Ledgers of captures that are over: the newest, beside those of all open ones. */
#define RFN_LEDGERS_KEPT 512

struct rfn_ledger_item
{
    struct rfn_ledger_entry entry;
    struct rfn_ledger_access *access; /* entry.accesses of them */
    char *region; /* the entry's, NULL: it is the one before it's, or "" */
};

struct rfn_ledger_capture
{
    uint64_t id;
    int incomplete; /* memory ran out: what is here is not all */
    struct rfn_ledger_item *item;
    int32_t items;
    int32_t item_room;
};

struct rfn_ledger
{
    struct rfn_ledger_capture *capture; /* in the order of their begins */
    int32_t captures;
    int32_t capture_room;
};

void rfn_ledger_release(struct rfn_ledger *ledger);

/* Forgets the i-th capture. */
void rfn_ledger_drop(struct rfn_ledger *ledger, int32_t i);

/* Whether the call put something into a capture. */
int rfn_ledger_wants(const struct rfn_call_event *event);

/* Makes the entry of such a call. Asks the device about memory, so it is called without the
 * checker's lock. On failure item->access is NULL and item->entry.accesses is -1. */
void rfn_ledger_describe(struct rfn_device *device, const struct rfn_call_event *event,
                         struct rfn_ledger_item *item);

/* A capture began. Without memory it stays unknown. */
void rfn_ledger_open(struct rfn_ledger *ledger, uint64_t capture_id);

/* Takes the item over, frees it when it has no place. */
void rfn_ledger_add(struct rfn_ledger *ledger, uint64_t capture_id,
                    struct rfn_ledger_item *item);

/* NULL for a capture that it has not seen whole. */
const struct rfn_ledger_capture *rfn_ledger_find(const struct rfn_ledger *ledger,
                                                 uint64_t capture_id);

#endif
