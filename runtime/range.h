/*
 * Ranges: what the library is doing on a thread, for profilers and for the map from a
 * graph's nodes to what recorded them.
 *
 * A range lasts from RFN_RANGE to the end of the block around it, on every way out. It is a
 * push/pop range of the NVTX domain "refrain" where the build found NVTX's headers, and a
 * few bytes of a thread-local stack that every launch into a capture notes.
 */
#ifndef RFN_RUNTIME_RANGE_H
#define RFN_RUNTIME_RANGE_H

#include <stddef.h>
#include <stdint.h>

enum rfn_range_kind
{
    RFN_RANGE_PLAN = 0, /* payload: requests of the step */
    RFN_RANGE_UPDATE,   /* payload: requests of the bucket */
    RFN_RANGE_FORWARD,  /* payload: the layer */
    RFN_RANGE_CAPTURE,  /* payload: requests of the bucket */
    RFN_RANGE_REPLAY,   /* payload: requests of the bucket that is launched */
    RFN_RANGE_KINDS
};

#define RFN_RANGE_DEPTH 3       /* capture > forward, replay > plan, and one to spare */
#define RFN_RANGE_NAME_BYTES 40 /* "capture 2147483647x32767 short" */

/* Small: every launch of a graph keeps a few. */
struct rfn_range
{
    uint8_t kind; /* enum rfn_range_kind */
    uint8_t short_context;
    uint16_t next_n; /* 0: the name is the kind's alone */
    int32_t payload;
};

/* Begins a range; ends it. Only through RFN_RANGE, which pairs them. */
int rfn_range_push(enum rfn_range_kind kind, int32_t payload, int32_t next_n,
                   int32_t short_context);
void rfn_range_pop(const int *pushed);

/* In a block of its own: `next_n` not 0 is part of the name, "capture 8x1 short". */
#define RFN_RANGE(kind, payload, next_n, short_context)                                  \
    __attribute__((cleanup(rfn_range_pop), unused)) const int rfn_range_ =               \
        rfn_range_push(kind, payload, next_n, short_context)

/* The calling thread's open ranges, outermost first; how many there are. */
int32_t rfn_range_note(struct rfn_range ret[RFN_RANGE_DEPTH]);

/* "forward", "capture 8x1 short" */
void rfn_range_name(const struct rfn_range *range, char name[RFN_RANGE_NAME_BYTES]);

#endif
