/*
 * What is ordered behind what outside of captures: a vector clock a stream, handed on by
 * events, by the legacy stream and by what the host waited for. And the memory that the graph
 * of each capture touches for certain.
 *
 * In doubt two things count as ordered: an event that is not known, a host function (it may
 * tell the host), a graph with external events, freed memory. Past 64 streams at once nothing
 * is said any more. Nothing here locks; check.c does.
 */
#ifndef RFN_GRAPH_ORDER_H
#define RFN_GRAPH_ORDER_H

#include "runtime/observe.h"

#define RFN_ORDER_LANES 64     /* streams at once */
#define RFN_ORDER_EVENTS 256   /* the oldest is forgotten first, */
#define RFN_ORDER_LAUNCHES 64  /* of executables */
#define RFN_ORDER_READS 64     /* and of what is done since, first */
#define RFN_ORDER_SETS 128     /* captures */
#define RFN_ORDER_RANGES 65536 /* of one capture */

struct rfn_order_clock
{
    uint32_t at[RFN_ORDER_LANES];
};

/* A stream; a per-thread one is another in every thread. */
struct rfn_order_lane
{
    uint64_t stream; /* serial; 0: free */
    uint64_t thread;
    enum rfn_stream_kind kind;
    struct rfn_order_clock knows; /* its own time too */
};

/* Bytes that are touched whenever the work runs: what lies dense at the begin of a view. */
struct rfn_order_range
{
    uintptr_t begin;
    uintptr_t end;
    const char *op;
    const char *operand;
};

struct rfn_order_ranges
{
    struct rfn_order_range *at; /* once closed: sorted, disjoint */
    int32_t count;
    int32_t room;
};

/* What the graph of a capture touches. */
struct rfn_order_set
{
    uint64_t capture_id; /* 0: free */
    int unknown;         /* there is more than is here: nothing is said of it */
    int tells;           /* external events: others may know of any of it */
    int closed;
    struct rfn_order_ranges write;
    struct rfn_order_ranges read;
};

/* Work that may not be done. */
struct rfn_order_work
{
    int32_t lane;
    uint32_t time;
    struct rfn_site site;
    uint64_t stream;
    enum rfn_stream_kind kind;
};

struct rfn_order_launch
{
    uint64_t exec; /* serial; 0: free */
    uint64_t capture_id;
    int updated; /* arguments were replaced */
    struct rfn_order_work work;
    struct rfn_order_clock clock; /* behind it */
};

struct rfn_order_read
{
    const char *what; /* op or call; NULL: free */
    struct rfn_order_range range;
    struct rfn_order_work work;
};

struct rfn_order_event
{
    const struct rfn_event *event;
    struct rfn_order_clock clock;
};

struct rfn_order
{
    int blind; /* too many streams */
    struct rfn_order_lane lane[RFN_ORDER_LANES];
    struct rfn_order_clock done; /* what the host knows to be over */
    struct rfn_order_event event[RFN_ORDER_EVENTS];
    uint64_t events;
    struct rfn_order_launch launch[RFN_ORDER_LAUNCHES];
    uint64_t launches;
    struct rfn_order_read read[RFN_ORDER_READS];
    uint64_t reads;
    struct rfn_order_set set[RFN_ORDER_SETS];
    uint64_t sets;
};

struct rfn_order *rfn_order_create(void);
void rfn_order_destroy(struct rfn_order *order);

/* The stream of a call, with what the legacy stream orders in front of it; NULL: it has none,
 * or there are too many. */
struct rfn_order_lane *rfn_order_lane(struct rfn_order *order,
                                      const struct rfn_call_event *event);

/* Whether what comes on the lane now comes behind the work. */
int rfn_order_behind(const struct rfn_order *order, const struct rfn_order_lane *lane,
                     const struct rfn_order_work *work);

/* Follows a call that was done, whatever it is; a launch of an executable is checked first
 * and then handed over. */
void rfn_order_follow(struct rfn_order *order, const struct rfn_call_event *event);
void rfn_order_launched(struct rfn_order *order, struct rfn_order_lane *lane,
                        const struct rfn_call_event *event);

/* ---- order_set.c: what captures touch ------------------------------------------------ */

/* NULL for a capture that is not known, or not whole. */
const struct rfn_order_set *rfn_order_set(const struct rfn_order *order,
                                          uint64_t capture_id);
/* Whether a graph of that capture, known or not, tells others of its work. */
int rfn_order_tells(const struct rfn_order *order, uint64_t capture_id);
/* A capture begins, ends, or gets a node. */
void rfn_order_gather(struct rfn_order *order, const struct rfn_call_event *event);
void rfn_order_sets_release(struct rfn_order *order);

/* The bytes that operand i of a launch touches for certain; 0: none. Pools have none: what a
 * launch touches of them is data. */
int rfn_order_operand(const struct rfn_call_event *event, uint32_t i,
                      struct rfn_order_range *ret);

/* The first pair that overlaps; NULL: none. *ret_other is of `b`. */
const struct rfn_order_range *rfn_order_overlap(const struct rfn_order_ranges *a,
                                                const struct rfn_order_ranges *b,
                                                const struct rfn_order_range **ret_other);

#endif
