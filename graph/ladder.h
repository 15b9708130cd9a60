/*
 * A ladder from inside: its buckets and the executable of each, in two length classes.
 * ladder.c makes and drops executables, replay.c launches them.
 */
#ifndef RFN_GRAPH_LADDER_H
#define RFN_GRAPH_LADDER_H

#include "runtime/object.h"

#include <refrain/graph.h>
#include <stdio.h>

#define RFN_LINE_BYTES 768 /* of the thread's error line */
#define RFN_BUCKET_CHARS 64

/* One bucket in one class. */
struct rfn_rung
{
    struct rfn_exec *exec; /* NULL: not captured */
    int64_t bytes;
    uint64_t used;    /* the ladder's clock at its capture or last replay */
    int32_t captures; /* ever */
    int takes;        /* its update takes records of what changes */
    /* With ranks only: */
    uint64_t signature;
    int agreed;              /* all ranks had this graph when they compared theirs */
    struct rfn_image *image; /* until then */
};

/* A bucket captured more often than this is churn (CAP047). */
#define RFN_LADDER_CAPTURES 4

struct rfn_ladder
{
    struct rfn_attention *attention;
    struct rfn_device *device;
    int32_t layers;
    int32_t next_n;
    rfn_record_fn *record;
    void *ctx;
    enum rfn_capture_mode mode;
    int64_t budget_bytes;      /* 0: none */
    struct rfn_stream *stream; /* of its captures; NULL: made at the next one */

    struct rfn_exec *last;  /* the last launch's; NULL: none, or it is over */
    uint64_t last_stream;   /* serial of the stream that the last work went to; 0: none */
    struct rfn_event *done; /* behind a plan whose launch failed: */
    int astray;             /* there is one, and no launch behind it yet */

    struct rfn_site site;  /* of the prepare under way */
    rfn_reduce_fn *reduce; /* NULL: no ranks */
    void *reduce_ctx;
    int agreed;    /* all ranks have the same buckets */
    int64_t *vote; /* what is reduced; rfn_vote_values of them */

    uint64_t clock;
    struct rfn_ladder_info info;
    int32_t buckets;
    int32_t *bucket;       /* requests, rising */
    struct rfn_rung *rung; /* [buckets][2]: long, short */
};

static inline struct rfn_rung *rfn_ladder_rung(const struct rfn_ladder *ladder, int32_t b,
                                               int32_t short_context)
{
    return &ladder->rung[2 * b + short_context];
}

/* ---- agree.c: what ranks do together ------------------------------------------------ */

/* "bucket 8x1 short" */
static inline void rfn_bucket_name(char name[RFN_BUCKET_CHARS],
                                   const struct rfn_bucket *bucket)
{
    snprintf(name, RFN_BUCKET_CHARS, "bucket %dx%d%s", bucket->requests, bucket->next_n,
             bucket->short_context ? " short" : "");
}

/* Values of a comparison, four a graph; a vote has no more. */
static inline size_t rfn_vote_values(int32_t buckets)
{
    return 8 * (size_t)buckets;
}

/* What all ranks need together: the most requests, and short contexts only where no rank has
 * long ones. All ranks are to launch the same number of `graphs`. `refused`: what is wrong
 * with this rank's own step, whose line stands. */
enum rfn_status rfn_ladder_vote(struct rfn_ladder *ladder, const char *what,
                                enum rfn_status refused, int32_t graphs,
                                const struct rfn_bucket *want,
                                struct rfn_bucket *ret_agreed);

/* Whether the graph is there; with ranks whether the last vote found it on all of them. */
int rfn_ladder_has(const struct rfn_ladder *ladder, int32_t b, int32_t short_context);

#endif
