/*
 * The ladder: one captured graph a bucket, one launch a step.
 *
 * A ladder belongs to an attention object. Its buckets are numbers of requests, in rising
 * order; a bucket has a graph for each length class, because contexts up to top-k need no
 * indexer. Replay takes the smallest bucket that is captured and fits. All graphs share the
 * attention object's workspace, so one replay is in flight at a time: a replay on another
 * stream comes behind the last one. What a caller launches beside a ladder (eager
 * steps, a second ladder of the same attention object, copies of outputs) it orders itself.
 * The library counts the launches of a ladder's graphs, by rfn_exec_launch too; launches of
 * the native handle, which it does not see, make the next step an error that names both
 * counts, until everything is handed over again.
 *
 * An attention object outlives its ladders.
 *
 * Ladders of ranks whose graphs hold collectives replay one bucket together: give each of them
 * the group's reduction, the same buckets and next_n, prepare, call rfn_ladder_agree on every
 * rank, then replay on every rank, step by step, idle ranks too.
 */
#ifndef REFRAIN_GRAPH_H
#define REFRAIN_GRAPH_H

#include <refrain/attention.h>
#include <refrain/ranks.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_ladder;

/* Device memory of an executable for each node of its graph, about. */
#define RFN_LADDER_NODE_BYTES 2432 /* H200, driver 580: 866 KiB of 367 nodes */

/* Records a step into a capture that is open on `stream`: rfn_attention_update and
 * rfn_attention_forward of each layer, and what the caller has around them. What it does
 * otherwise is seen by an attached checker. Any status but RFN_OK throws the capture away.
 */
typedef enum rfn_status rfn_record_fn(void *ctx, struct rfn_stream *stream,
                                      const struct rfn_bucket *bucket);

struct rfn_ladder_desc
{
    /* Requests, rising; NULL: 1, 2, 4, 8, by 8 to 128, by 16 to 256, cut at the limit. */
    const int32_t *bucket;
    int32_t buckets;
    int32_t next_n;        /* rows a request; 0: the attention object's limit */
    rfn_record_fn *record; /* NULL: update, then forward of every layer */
    void *ctx;
    int64_t memory_bytes; /* of executables; the least recently used goes; 0: no limit */
    /* Of the captures. 0 is thread-local: a ladder captures between the steps of a program
     * whose other threads may allocate, which a capture in global mode would not survive.
     * RFN_CAPTURE_RELAXED lets the record callback do what it likes. */
    enum rfn_capture_mode mode;
    /* The maximum over the ranks of a group; NULL: this ladder is alone. With it every rank
     * replays the same bucket, and only graphs that were found alike. Until then the image of
     * a graph stays in host memory, 2.7 MiB for 61 layers. */
    rfn_reduce_fn *reduce;
    void *reduce_ctx;
};

struct rfn_ladder_info
{
    int32_t buckets;
    int32_t graphs;   /* captured now */
    int32_t captures; /* ever */
    int32_t evictions;
    int64_t replays;
    /* Of the executables that are captured now, at RFN_LADDER_NODE_BYTES a node. */
    int64_t memory_bytes;
    /* cuda: by how much free device memory fell while executables were made. It comes in
     * chunks of 2 MiB, one for several graphs, that the driver keeps for later ones, so it
     * never falls and says nothing of a single graph. host: 0. */
    int64_t driver_bytes;
};

/* What a replay did. */
struct rfn_replay_info
{
    struct rfn_bucket bucket; /* the one that was launched */
    int32_t rows;             /* live: query tokens of the step */
    int32_t padded;           /* rows of the bucket without work */
    int32_t requests;         /* of the rank that has most; without ranks the step's */
};

/* What ranks agree on. */
struct rfn_agree_info
{
    int32_t graphs;  /* alike on all ranks: what replays choose from */
    int32_t partial; /* captured on some ranks only */
    int32_t differ;  /* captured on all, not alike (CAP038) */
};

/**
 * Creates a ladder; captures nothing yet.
 *
 * Capture   Not in one: allocates.
 * Threads   Any.
 * Errors    RFN_INVALID: buckets out of order, or past the attention object's limits, both
 *           values named. RFN_CAPTURE: called in a capture. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_ladder_create(struct rfn_attention *attention,
                                          const struct rfn_ladder_desc *desc,
                                          struct rfn_ladder **ret_ladder);

/**
 * Destroys a ladder with its graphs; waits for a replay in flight; sets *ladder to NULL.
 *
 * Capture   Not in one.
 * Threads   No other call on it.
 * Errors    RFN_INVALID: no ladder. RFN_CAPTURE: called in a capture; it stays whole.
 */
RFN_API enum rfn_status rfn_ladder_destroy(struct rfn_ladder **ladder);

/**
 * Captures the graph of the smallest bucket for `requests`, in one length class; does
 * nothing when it is there. Over the memory budget the least recently replayed graph goes.
 *
 * Capture   Not in one: it makes its own, "bucket 8x1" or "bucket 8x1 short", on a stream of
 *           its own. Captures of other threads come to no harm.
 * Stream    No work is enqueued on the caller's streams. Waits for a replay in flight only
 *           when that graph has to go. For the time of the call one graph more than the
 *           budget may live.
 * Threads   One at a time on a ladder.
 * Errors    What the record callback returned, with its line; RFN_CAPTURE: called in a
 *           capture, or the callback broke the one it was given; RFN_LIMIT: past the
 *           buckets, or one graph alone is over the budget; RFN_INVALID: nothing was
 *           recorded; RFN_NOMEM. Nothing is half-done.
 */
RFN_API enum rfn_status rfn_ladder_prepare(struct rfn_ladder *ladder, int32_t requests,
                                           int32_t short_context);

/**
 * Plans a step and launches its graph: the smallest captured bucket that fits; a step of
 * short contexts takes a long-context graph where no short one is there. A step without
 * requests takes the smallest graph of all. ret_info may be NULL.
 *
 * With ranks every rank calls it for every step: one reduction, of 5 + 2 * buckets values,
 * says how many requests the fullest rank has, whether any has long contexts, how many graphs
 * each launches, which graphs all ranks have at hand and whether a rank cannot go on. All take
 * the smallest graph that all of them have and that fits all; an idle rank launches it with
 * padding only. Where a rank's step is refused, or no such graph is there, no rank launches
 * and every rank gets an error, so that none waits for the others. What does not reach the
 * reduction: a NULL ladder, a ladder that has not agreed, and a call in a capture, which are
 * mistakes of the program; what can fail behind it on one rank alone: the device, and a graph
 * whose memory was released.
 *
 * Capture   Refused in one.
 * Stream    Asynchronous: one graph launch, behind the last replay wherever that ran. What
 *           changed, up to RFN_STEP_CHANGES entries of tables, lies in a record in pinned
 *           memory that the graph's update finds by itself and no other replay looks at. A
 *           step that changes more, the first one, one behind a failure, and one more than
 *           16 replays ahead of the device is copied, as rfn_attention_plan does. Never
 *           captures, never allocates.
 * Threads   One at a time on a ladder.
 * Errors    As rfn_attention_plan. RFN_NOT_READY: no captured bucket fits, naming what is
 *           there; RFN_LIMIT: past the largest bucket or the ladder's next_n. On these
 *           nothing is enqueued and nothing handed over. With ranks also: RFN_NOT_READY: another
 *           rank's step was refused (the status is named), a bucket that is missing on some
 *           rank (both are named), or no rfn_ladder_agree came before; what `reduce` returned;
 *           RFN_INVALID: what it gave is no maximum, or another rank called rfn_ladder_again
 *           for more than one replay.
 */
RFN_API enum rfn_status rfn_ladder_replay(struct rfn_ladder *ladder,
                                          struct rfn_stream *stream,
                                          const struct rfn_step *step,
                                          struct rfn_replay_info *ret_info);

/**
 * Compares the captured graphs of all ranks, bucket by bucket, and reports those that are not
 * alike (CAP038; see rfn_ranks_compare). Only what agreed is replayed: call it on every rank
 * when graphs have been prepared, and again when more have. Graphs that are captured on some
 * ranks only are counted, and left out until all have them and agree.
 *
 * Capture   Not in one: `reduce` blocks.
 * Threads   One at a time on a ladder.
 * Errors    RFN_INVALID: no ladder, a ladder without `reduce`; buckets or next_n that differ
 *           between ranks, on all of them. What `reduce` returned. RFN_NOMEM, for which other
 *           ranks may get RFN_NOT_READY. No finding was reported on these.
 */
RFN_API enum rfn_status rfn_ladder_agree(struct rfn_ladder *ladder, rfn_report_fn *report,
                                         void *ctx, struct rfn_agree_info *ret_info);

/**
 * Replays the last step `replays` times more, each a step further: the device advances the
 * lengths, and between the launches the host does nothing. For draft steps, which need no
 * word of the scheduler's. What all of them will need is checked in front of the first:
 * contexts within the limit, pages of them within the table that was handed over. A step of
 * no request is replayed as often as one of the shortest request could be: once less than the
 * limit of its context. ret_info may be NULL and is of the last one. With ranks it is called
 * on all of them with the same `replays`: one reduction agrees on one bucket for them all, as
 * rfn_ladder_replay does.
 *
 * Capture   Refused in one.
 * Stream    Asynchronous: graph launches, behind the last replay wherever that ran.
 * Threads   One at a time on a ladder.
 * Errors    RFN_INVALID: replays below 1; no step was handed over, or its `advance` is 0;
 *           a table without the pages of a context, or with one outside the pool, both
 *           values named. RFN_LIMIT: a context past the limits, or more replays of no
 *           request than are allowed, both numbers named. RFN_NOT_READY: no captured bucket
 *           fits. On these nothing is enqueued. When a launch fails those in front of it run,
 *           and the next step has to hand everything over. With ranks also: as
 *           rfn_ladder_replay; RFN_INVALID, on all of them: other `replays` on another rank,
 *           both values named.
 */
RFN_API enum rfn_status rfn_ladder_again(struct rfn_ladder *ladder,
                                         struct rfn_stream *stream, int32_t replays,
                                         struct rfn_replay_info *ret_info);

/**
 * Counts of a ladder.
 *
 * Capture   Safe. Touches no device.
 * Threads   One at a time on a ladder.
 * Errors    RFN_INVALID: no ladder.
 */
RFN_API enum rfn_status rfn_ladder_query(struct rfn_ladder *ladder,
                                         struct rfn_ladder_info *ret_info);

/**
 * The i-th graph that a ladder has now, and its bucket (ret_bucket may be NULL); NULL past the
 * last. It stays the ladder's, goes with the next prepare or the ladder, and for rfn_exec_destroy
 * it is RFN_BUSY.
 *
 * Capture   Safe. Touches no device.
 * Threads   One at a time on a ladder.
 */
RFN_API struct rfn_exec *rfn_ladder_exec(struct rfn_ladder *ladder, int32_t i,
                                         struct rfn_bucket *ret_bucket);

/* ---- replay against eager -------------------------------------------------------- */

/* What a step writes. */
struct rfn_replay_output
{
    const char *name;
    void *address; /* device or pinned memory */
    int64_t bytes;
    int64_t row_bytes; /* 0: it has no rows */
};

struct rfn_replay_desc
{
    struct rfn_stream *stream; /* everything is enqueued here */
    int32_t cases;             /* lengths, batches, whatever a sweep is over */
    int32_t outputs;
    const struct rfn_replay_output *output;
    /* Sets the inputs of a case, the same at every call; before each of the two runs. */
    enum rfn_status (*set)(void *ctx, struct rfn_stream *stream, int32_t i);
    enum rfn_status (*eager)(void *ctx, struct rfn_stream *stream, int32_t i);
    enum rfn_status (*replay)(void *ctx, struct rfn_stream *stream, int32_t i);
    void *ctx;
};

/* The first byte that differs, and how many do. */
struct rfn_replay_difference
{
    int64_t bytes; /* in all; 0: none, and nothing below is set */
    int32_t i;     /* the case */
    const char *output;
    int64_t offset; /* in the output */
    int64_t row;    /* -1: it has no rows */
    uint8_t eager;
    uint8_t replay;
};

/**
 * Runs each case eagerly and by replay, over outputs filled with poison, and compares the
 * bytes. Outputs that no run writes hold poison in both and agree. A difference is a finding
 * of an attached checker (CAP031), with the first byte.
 *
 * Capture   Refused in one: it waits for the stream.
 * Stream    Blocks the host, twice a case.
 * Threads   One at a time with what the callbacks use.
 * Errors    What a callback returned; RFN_INVALID: NULL, nothing to compare, or an output
 *           that is not of the stream's device, RFN_NOMEM. *ret is untouched then.
 */
RFN_API enum rfn_status rfn_replay_compare(const struct rfn_replay_desc *desc,
                                           struct rfn_replay_difference *ret);

#ifndef RFN_NO_SITES
#define rfn_replay_compare(...) RFN_SITED(rfn_replay_compare(__VA_ARGS__))
#define rfn_ladder_create(...) RFN_SITED(rfn_ladder_create(__VA_ARGS__))
#define rfn_ladder_destroy(...) RFN_SITED(rfn_ladder_destroy(__VA_ARGS__))
#define rfn_ladder_prepare(...) RFN_SITED(rfn_ladder_prepare(__VA_ARGS__))
#define rfn_ladder_agree(...) RFN_SITED(rfn_ladder_agree(__VA_ARGS__))
#define rfn_ladder_replay(...) RFN_SITED(rfn_ladder_replay(__VA_ARGS__))
#define rfn_ladder_again(...) RFN_SITED(rfn_ladder_again(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
