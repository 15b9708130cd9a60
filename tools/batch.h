/*
 * Continuous batching on the host: arrivals, seats, admission in trace order.
 *
 * Running requests sit in seats 0 .. lives-1, which are the rows of a step; when one leaves,
 * the last takes its seat. A request is admitted when it has arrived, a seat is free and the
 * pages of its whole life can be promised; it gets those of its prompt then (shared blocks
 * by taking hold of them) and the others as it grows. No device is asked, so that a run can
 * be simulated before it starts.
 *
 * With drafts every request verifies all next_n rows in every step, past the end of its
 * output as well, and has pages for them; those that are rejected go from its length again,
 * and the next step's rows lie on theirs.
 */
#ifndef TOOLS_BATCH_H
#define TOOLS_BATCH_H

#include "tools/pages.h"
#include "tools/speculative.h"
#include "tools/trace.h"

struct batch_seat
{
    int64_t request;
    int64_t made_tokens;
    int64_t blocks;         /* shared ones, at the front of its pages */
    int64_t pages;          /* in its row of the table */
    int64_t promised_pages; /* not taken yet */
};

struct batch_desc
{
    const struct trace *trace;
    int32_t seats;
    int32_t next_n; /* tokens a request makes in a step, while it has so many to make */
    int32_t page_tokens;
    int64_t table_pages;
    int64_t pages;
    uint64_t seed; /* order of the free pages, tokens, acceptance */
    /* drafts > 0: next_n is one more */
    struct speculative speculative;
    int64_t us_per_step; /* of virtual time; 0: every request has arrived */
};

struct batch
{
    struct batch_desc desc;
    struct pages pages;
    int64_t promised_pages;
    struct batch_seat *seat; /* [seats] */
    int32_t *lens;           /* [seats] context, this step's tokens included */
    int32_t *q_lens;         /* [seats] this step's tokens */
    int32_t *kept;           /* [seats] of them, that stay in the context */
    int32_t *rejected;       /* [seats] what was not, of the last step's */
    int32_t *table;          /* [seats, table_pages] */
    uint8_t *made;           /* [largest number of blocks]: of the last admission */
    int32_t *
        new_from; /* [seats] entries of the table that the last step had not: from here */
    int32_t *new_to; /* to here */
    int32_t lives;
    int changed; /* membership, pages or query lengths differ from the last step's */
    int64_t now_us;
    int64_t next; /* request to admit */
    int64_t finished;
    int64_t waited; /* requests that had a seat but no pages */
    int64_t tokens;
    int64_t draft_tokens;    /* that were verified */
    int64_t accepted_tokens; /* of them; without those past a request's end */
    int64_t shared_tokens;   /* of prompts, that were in the cache already */
    int64_t last_waited;
};

/* Pages that a request needs from its first to its last token and the drafts behind that,
 * when it shares none. */
int64_t batch_request_pages(const struct trace_request *request, int32_t page_tokens,
                            int32_t drafts);

/* Pages that the `seats` largest requests need at once. */
int64_t batch_pool_pages(const struct trace *trace, int32_t seats, int32_t page_tokens,
                         int32_t drafts);

/* Returns 0, or -1 without memory. */
int batch_create(const struct batch_desc *desc, struct batch *ret_batch);
void batch_destroy(struct batch *batch);

/* Admits the next request: its seat, or -1 when none can be. Its prompt has pages; blocks
 * that nobody held are marked in `made`. */
int32_t batch_admit(struct batch *batch);

/* Gives every running request its next tokens: lengths and pages. Returns how many run. */
int32_t batch_begin_step(struct batch *batch);

/* Counts the tokens, takes rejected ones back; requests whose output is done leave. */
void batch_end_step(struct batch *batch);

/* Physical slot of a token of a seat. */
int64_t batch_slot(const struct batch *batch, int32_t seat, int64_t position);

/* Content of a token of a seat: of a rejected draft it is that of no other step's. */
int64_t batch_token(const struct batch *batch, int32_t seat, int64_t position);

/* Lets every request leave. Returns the pages that did not come back. */
int64_t batch_drain(struct batch *batch);

/* Steps that a run takes, at most max_steps (0: until all are done); -1 without memory. */
int64_t batch_simulate(const struct batch_desc *desc, int64_t max_steps);

#endif
