/*
 * The attention backend of a model: geometry, step buffers, plan, update, forward.
 *
 * An attention object owns what a decode step needs beside the caller's caches, inputs and
 * outputs: step buffers on the device (lengths, query lengths, block table, flags and what
 * step_update makes of them), a workspace, and pinned memory for what the host hands in.
 * All of it is allocated at create. A step is
 *
 *     plan     on the host, outside captures: the scheduler's values, checked, handed over
 *     update   first node of the graph: step buffers -> rows, contexts, slots
 *     forward  once a layer: pack, index, select, attend
 *
 * Rows: request b of a step owns rows b * next_n .. b * next_n + next_n - 1; rows j >= its
 * query length are padding, and so is everything past the live requests.
 */
#ifndef REFRAIN_ATTENTION_H
#define REFRAIN_ATTENTION_H

#include <refrain/device.h>
#include <refrain/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RFN_NEXT_N_MAX 8

struct rfn_attention;

/* A model, as data. */
struct rfn_geometry
{
    const char *name;
    int32_t layers;
    int32_t heads;        /* of this rank, 1 .. 128 */
    int32_t latent_elems; /* 512 */
    int32_t rope_elems;   /* 64 */
    int32_t v_elems;      /* 512 */
    int32_t index_heads;  /* 4 .. 64 */
    int32_t index_width;  /* 128 */
    int32_t topk;         /* 64 .. 2048 */
    float scale;          /* of the scores */
    int32_t context;      /* tokens */
    int32_t page_tokens;  /* of the latent and the index pool */
    enum rfn_format latent_format;
    enum rfn_format index_format;
    enum rfn_scale latent_scale;
    enum rfn_scale index_scale; /* of index keys and queries */
    /* layers entries, or NULL: every layer has its own indexer. Entry i < its own number:
     * the layer uses the choice of layer i; entry = its own number: it has one. */
    const int32_t *index_source;
};

/* What a caller promises never to pass; create allocates for it. */
struct rfn_attention_limits
{
    int32_t requests; /* R, of one step, 1 .. 65,536 */
    int32_t next_n;   /* query tokens a request and step, 1 .. 8 */
    int32_t context;  /* tokens, draft tokens included; 0: the geometry's */
    int64_t pages;    /* B, of every pool */
    /* At most this for scores, at least a row of the context; rows go in chunks; 0: 256 MiB */
    int64_t logits_bytes;
    /* 1: a row has the same bits in every bucket, not only on every run of one. What it costs
     * is said at rfn_sparse_mla; no other op of a step looks at the number of rows. */
    int32_t batch_invariant;
};

/* The caches of one layer. */
struct rfn_layer_caches
{
    struct rfn_pool latent;
    struct rfn_pool index; /* data NULL for a layer that re-uses another's choice */
};

/* Inputs and outputs of one layer, T = R * next_n rows at capacity; a bucket uses the first
 * rows. Rotations, norms and RoPE are done. */
struct rfn_layer_io
{
    struct rfn_tensor q;       /* [T, H, 576] bf16 */
    struct rfn_tensor kv;      /* [T, 512] bf16 */
    struct rfn_tensor k_rope;  /* [T, 64] bf16 */
    struct rfn_tensor index_q; /* [T, index heads, 128] bf16; not for a re-using layer */
    struct rfn_tensor index_w; /* [T, index heads] bf16 or f32; likewise */
    struct rfn_tensor index_k; /* [T, 128] bf16; likewise */
    struct rfn_tensor out;     /* [T, H, V] bf16 */
    struct rfn_tensor lse;     /* [T, H] f32, optional */
};

/* What the scheduler says of a step: host memory, read before the call returns. Rows of the
 * table are taken over whole; entries behind the pages in use may be anything, and are
 * looked at once an unchanged step grows into them. Of a row that has as many entries as in
 * the step before only those that differ go to the device. */
struct rfn_step
{
    int32_t requests;      /* live ones; 0: an idle rank */
    const int32_t *lens;   /* [requests] context of each, this step's tokens included */
    const int32_t *q_lens; /* [requests] 1 .. next_n; NULL: next_n each */
    const int32_t *table;  /* [requests, table_stride] pages */
    int64_t table_stride;  /* elements */
    /* 0: everything is handed over. 1: membership, lengths and tables are what the device
     * has (it advanced the lengths itself): nothing is copied. The table is not looked at;
     * lens and q_lens may be NULL, and are compared with what the device has where given. */
    int32_t unchanged;
    /* 1: step_update adds each request's query length to its length behind the step. */
    int32_t advance;
    /* Of an unchanged step: [requests] tokens that the device takes back in front of it, as
     * the caller's graph wrote them to `rejected` of rfn_step_view. NULL: none. */
    const int32_t *rejected;
    /* [requests] each, or both NULL: rows are new as a whole. Entries new_from .. new_to - 1
     * of request b's row are new, those in front and behind are what its number had in the
     * step before; 0 .. n: a row of n entries, whatever was there. The host's work is that of
     * the entries named; whole rows are compared, also what no context reaches yet. */
    const int32_t *new_from;
    const int32_t *new_to;
};

/* One shape of a step: what a graph is captured for. */
struct rfn_bucket
{
    int32_t requests;
    int32_t next_n;
    int32_t short_context; /* 1: every context <= top-k, so nothing is scored */
};

/**
 * Finds a preset: deepseek-v3.2, deepseek-v3.2-h64, -h32, -h16, glm-5, glm-5-h8, tiny.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_NOT_FOUND, naming the nearest known preset.
 */
RFN_API enum rfn_status rfn_geometry_find(const char *name,
                                          const struct rfn_geometry **ret_geometry);

/**
 * The i-th preset, NULL past the last.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const struct rfn_geometry *rfn_geometry_at(int32_t i);

/**
 * Whether the device has every op that this geometry needs.
 *
 * Capture   Safe.
 * Threads   Any.
 * Errors    RFN_INVALID: a geometry that contradicts itself, both values named.
 *           RFN_UNSUPPORTED: the op or format that is missing.
 */
RFN_API enum rfn_status rfn_supported(struct rfn_device *device,
                                      const struct rfn_geometry *geometry);

/**
 * Creates an attention object with everything it will ever allocate. The geometry is copied.
 * Until the first plan it holds no requests, so that a graph launched before is idle.
 *
 * Capture   Refused in one; it stays active.
 * Threads   Any.
 * Errors    As rfn_supported; RFN_LIMIT: limits out of range, the range named; RFN_NOMEM,
 *           nothing leaked.
 */
RFN_API enum rfn_status rfn_attention_create(struct rfn_device *device,
                                             const struct rfn_geometry *geometry,
                                             const struct rfn_attention_limits *limits,
                                             struct rfn_attention **ret_attention);

/**
 * Destroys it and sets *attention to NULL.
 *
 * Capture   Refused in one; it stays active.
 * Stream    Waits for what runs.
 * Threads   No other call on it.
 * Errors    RFN_BUSY while a graph holds its memory, naming the graph; it stays whole.
 */
RFN_API enum rfn_status rfn_attention_destroy(struct rfn_attention **attention);

/**
 * Binds the caches and the inputs and outputs of one layer: views, never copies. What is
 * bound is baked by captures. A layer that re-uses a choice takes no index views.
 *
 * Capture   Safe; what an open capture recorded keeps the old binding.
 * Threads   No other call on it.
 * Errors    RFN_INVALID: format, page tokens, page count, dtype or shape, both values.
 */
RFN_API enum rfn_status rfn_attention_bind(struct rfn_attention *attention, int32_t layer,
                                           const struct rfn_layer_caches *caches,
                                           const struct rfn_layer_io *io);

/**
 * Checks a step of the scheduler's and takes its values over: they are on the device before
 * the update that follows. Chooses the bucket's shape. One plan, one update: lengths that
 * the device advances are followed here, so that unchanged steps meet the limits too; of
 * tokens that it takes back the caller says so (`rejected`), or the limits are met early.
 *
 * Capture   Refused in one, of `stream` or begun by the calling thread; it and the region of
 *           the call are named, and it stays active.
 * Stream    Enqueues at most two copies on `stream`, from a pinned ring slot whose last copy
 *           has happened; waits only when all slots are in flight. The copy goes where the
 *           last step reads: another stream than that step's has to wait for it first. So it
 *           is right whoever runs the update, and how often; rfn_ladder_replay, which counts
 *           its launches, needs no copy for a step that changes little.
 * Threads   One at a time.
 * Errors    RFN_INVALID: a length below 1 or below its query length, a page outside the
 *           pool, a table without the pages of a context, an unchanged step that differs
 *           from what the device has, takes tokens back where a length was cut at the table's
 *           end, or comes before the update of a plan that advances (CAP027); one that
 *           builds on what the device has where graphs of ladders ran more often than they
 *           were launched through this library (rfn_exec_native). RFN_LIMIT:
 *           requests, query length or context past the limits. After a failed copy the next
 *           step has to hand everything over.
 */
RFN_API enum rfn_status rfn_attention_plan(struct rfn_attention *attention,
                                           struct rfn_stream *stream,
                                           const struct rfn_step *step,
                                           struct rfn_bucket *ret_bucket);

/**
 * First node of a step: turns the step buffers into rows, contexts and slots for a bucket.
 * The bucket must hold the requests and the query tokens of the plan. One of no requests is
 * run as one of one.
 *
 * Capture   Safe. One node. The launch of a graph that holds it is checked against the plan
 *           of that time: RFN_INVALID, and nothing runs.
 * Stream    Asynchronous.
 * Threads   One at a time on an attention object.
 * Errors    RFN_LIMIT: a bucket past the limits. RFN_INVALID: one too small for the plan, both
 *           values named; a second update of a plan that advances (both CAP027).
 */
RFN_API enum rfn_status rfn_attention_update(struct rfn_attention *attention,
                                             struct rfn_stream *stream,
                                             const struct rfn_bucket *bucket);

/**
 * One layer of a step: kv_pack, index_pack, index_query_pack, index_logits, index_topk,
 * sparse_mla; without the index ops where the layer re-uses a choice or the bucket is short.
 *
 * Capture   Safe. At most 7 nodes while scores fit logits_bytes at once.
 * Stream    Asynchronous. Allocates nothing.
 * Threads   One at a time on an attention object.
 * Errors    RFN_NOT_READY: the layer is not bound. RFN_LIMIT, RFN_NOT_FOUND: bucket, layer.
 *           RFN_INVALID: other rows than the update's, both named (CAP027).
 */
RFN_API enum rfn_status rfn_attention_forward(struct rfn_attention *attention,
                                              struct rfn_stream *stream, int32_t layer,
                                              const struct rfn_bucket *bucket);

/* What an attention object keeps on the device, for verification and for callers' own
 * kernels. Written by the update, valid until the next. */
struct rfn_step_view
{
    struct rfn_tensor lens;   /* [R] i32, of requests */
    struct rfn_tensor q_lens; /* [R] i32 */
    /* [R] i32, for the caller's kernels behind the forward of the last layer: tokens of this
     * step, its last ones, that do not stand. The next update takes them from the lengths and
     * sets them to 0, as does a step that hands everything over. */
    struct rfn_tensor rejected;
    struct rfn_tensor table;    /* [R, W] i32, W at capacity */
    struct rfn_tensor requests; /* [1] i32, live */
    struct rfn_tensor request;  /* [T] i32, of rows; -1: padding */
    struct rfn_tensor context;  /* [T] i32; 0: padding */
    struct rfn_tensor slots;    /* [T] i64; -1: padding */
    struct rfn_tensor live;     /* [1] i32, rows */
    struct rfn_tensor bounds;   /* [8] i64, what the rows were made for: enum rfn_bound */
    struct rfn_tensor chosen;   /* [T, K] i32 slots of the layer asked for */
    int64_t workspace_bytes;
};

/**
 * Views of the step buffers and of a layer's choice.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_NOT_FOUND: no such layer.
 */
RFN_API enum rfn_status rfn_attention_view(struct rfn_attention *attention, int32_t layer,
                                           struct rfn_step_view *ret_view);

#ifndef RFN_NO_SITES
#define rfn_attention_create(...) RFN_SITED(rfn_attention_create(__VA_ARGS__))
#define rfn_attention_destroy(...) RFN_SITED(rfn_attention_destroy(__VA_ARGS__))
#define rfn_attention_plan(...) RFN_SITED(rfn_attention_plan(__VA_ARGS__))
#define rfn_attention_update(...) RFN_SITED(rfn_attention_update(__VA_ARGS__))
#define rfn_attention_forward(...) RFN_SITED(rfn_attention_forward(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
