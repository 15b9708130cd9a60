/*
 * Continuous batching on the host: seats, pages, admission in trace order.
 *
 * A seat is a row of the block table. A request takes a free seat when one is there and the
 * pages of its whole life can be promised; it gets pages as it grows and leaves when its
 * output is done. No device is asked, so that a run can be simulated before it starts.
 */
#ifndef TOOLS_BATCH_H
#define TOOLS_BATCH_H

#include "tools/trace.h"

struct batch_seat
{
    int64_t request;        /* -1: free */
    int64_t context_tokens; /* in the cache, this step's token included */
    int64_t made_tokens;
    int64_t pages;
    int64_t promised_pages;
    int32_t *page; /* [table_pages], the row of the block table */
    int dirty;     /* the row changed since the device saw it */
};

struct batch
{
    const struct trace *trace;
    int32_t page_tokens;
    int64_t table_pages;
    int64_t pages;
    int32_t *free_page; /* stack */
    int64_t free_pages;
    int64_t promised_pages; /* of running requests, used ones included */
    struct batch_seat *seat;
    int32_t seats;
    int32_t *live; /* seats of this step's rows */
    int32_t lives;
    int64_t next; /* request to admit */
    int64_t finished;
    int64_t waited; /* requests that had a seat but no pages */
    int64_t tokens;
    int64_t last_waited;
};

struct batch_desc
{
    const struct trace *trace;
    int32_t seats;
    int32_t page_tokens;
    int64_t table_pages;
    int64_t pages;
    uint64_t seed; /* order of the free pages */
};

/* Pages that a request needs until its end. */
int64_t batch_request_pages(const struct trace_request *request, int32_t page_tokens);

/* Pages that `seats` requests can need at once, and those of the largest request. */
int64_t batch_pool_pages(const struct trace *trace, int32_t seats, int32_t page_tokens);
int64_t batch_largest_pages(const struct trace *trace, int32_t page_tokens);

/* Returns 0, or -1 without memory. */
int batch_create(const struct batch_desc *desc, struct batch *ret_batch);

/* Admits the next request: its seat, or -1 when none can be. Its prompt has pages. */
int32_t batch_admit(struct batch *batch);

/* Grows every running request by one token: fills `live`, context_tokens and pages. Returns
 * the number of live rows; 0 when nothing runs. */
int32_t batch_begin_step(struct batch *batch);

/* Counts the tokens made; requests whose output is done leave. */
void batch_end_step(struct batch *batch);

/* Physical slot of a token of a seat. */
int64_t batch_slot(const struct batch *batch, const struct batch_seat *seat,
                   int64_t position);

/* Lets every request leave. Returns the pages that did not come back. */
int64_t batch_drain(struct batch *batch);

void batch_destroy(struct batch *batch);

/* Steps that a run takes, at most max_steps (0: until all are done); -1 without memory. */
int64_t batch_simulate(const struct batch_desc *desc, int64_t max_steps);

#endif
