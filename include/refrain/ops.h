/*
 * The ops of a DSA decode step: argument structs and contracts. Unstable until 1.0.
 *
 * Common to all. `live`, where given, is one i32 on the device: rows at and past it are
 * inert, they read nothing that matters and write nothing. Without it a negative slot makes
 * a row inert, and a length <= 0 makes it empty: it is written as an empty row (all -1;
 * O = 0). Lengths and indices are read on the device when the op
 * runs; shapes, strides, scales and addresses are baked by a capture. Base pointers and
 * rows of bf16 and e4m3 views and pools are 16-byte aligned; i32, i64 and f32 views need the
 * alignment of their element. Strides are not negative and rows do not overlap; the stride
 * of a dimension of one element is not looked at. Every struct may be zeroed
 * first; zero is the default of every field.
 */
#ifndef REFRAIN_OPS_H
#define REFRAIN_OPS_H

#include <refrain/op.h>

#ifdef __cplusplus
extern "C" {
#endif

struct rfn_stream;

enum rfn_floor
{
    RFN_FLOOR_DEFAULT = 0, /* FLT_MIN on the scale for f32, 1e-4 on the scale for ue8m0 */
    RFN_FLOOR_SCALE,       /* scale = max(amax / 448, floor) */
    RFN_FLOOR_AMAX,        /* scale = max(amax, floor) / 448 */
};

/* What rfn_step_update made a step's rows for: its header is one i64 a field, in this order.
 * -1 where nothing can be said: the stride of a table of one row. */
enum rfn_bound
{
    RFN_BOUND_MARK = 0, /* RFN_BOUNDS_MARK: an update has run */
    RFN_BOUND_REQUESTS, /* R of the bucket, however many live */
    RFN_BOUND_NEXT_N,
    RFN_BOUND_ROWS, /* R * next_n */
    RFN_BOUND_TABLE_WIDTH,
    RFN_BOUND_TABLE_STRIDE, /* elements between rows: the capacity's */
    RFN_BOUND_PAGE_TOKENS,
    RFN_BOUND_PAGES,
    RFN_BOUNDS
};

#define RFN_BOUNDS_MARK 0x73646e756f62 /* "bounds" */

/* Given to an op that goes by rows of rfn_step_update: in check mode it compares what it was
 * launched for with the header, field by field as far as it has them. Where they differ it
 * notes the fault (operand "bounds.rows", column its own value, value the header's) and
 * leaves everything as it is. Outside check mode nothing is compared. */
struct rfn_bounds
{
    struct rfn_tensor header; /* [8] i64, optional; what rfn_step_update wrote */
    int64_t rows;   /* of the step, where this launch has a part of them; 0: T */
    int32_t next_n; /* the step's; 0: not compared, nor are the requests */
};

struct rfn_kv_pack_args
{
    struct rfn_tensor kv;     /* [T, D] bf16; D = latent_elems of the format */
    struct rfn_tensor k_rope; /* [T, E] bf16, after RoPE; E = rope_elems */
    struct rfn_tensor slots;  /* [T] i64 */
    struct rfn_tensor live;   /* [1] i32, optional */
    struct rfn_pool pool;     /* latent pool */
    enum rfn_scale scale;     /* format 656: f32 or ue8m0; 584 is always ue8m0 */
    enum rfn_floor floor_on;
    float floor; /* ignored with RFN_FLOOR_DEFAULT; a least scale >= FLT_MIN */
    struct rfn_bounds bounds; /* optional */
};

struct rfn_index_topk_args
{
    struct rfn_tensor logits;    /* [T, S] f32 */
    struct rfn_tensor lens;      /* [T] i32; columns >= lens[t] have no effect */
    struct rfn_tensor live;      /* [1] i32, optional */
    struct rfn_tensor table;     /* [R, W] i32 pages; needed for slots */
    struct rfn_tensor request;   /* [T] i32 row of the table; needed for slots */
    struct rfn_tensor slots;     /* [T, K] i32 out, optional */
    struct rfn_tensor positions; /* [T, K] i32 out, optional; one of the two is given */
    int32_t page_tokens;         /* P, of the latent pool; needed for slots */
    int64_t pages;               /* B; needed for slots: a page outside [0, B) gives -1 */
    struct rfn_bounds bounds;    /* optional */
};

#define RFN_MLA_SOURCES 2

struct rfn_mla_source
{
    struct rfn_pool pool;
    struct rfn_tensor indices; /* [T, K] i32 slots; negative: masked, never loaded */
    struct rfn_tensor lens;    /* [T] i32, optional: columns >= lens[t] are masked */
};

struct rfn_sparse_mla_args
{
    struct rfn_tensor q;      /* [T, H, QK] bf16, or with q_rope its latent part */
    struct rfn_tensor q_rope; /* [T, H, 64] bf16, optional */
    struct rfn_tensor live;   /* [1] i32, optional */
    struct rfn_mla_source source[RFN_MLA_SOURCES]; /* the second: pool.data may be NULL */
    struct rfn_tensor sink;                        /* [H] f32, optional */
    struct rfn_tensor out;                         /* [T, H, V] bf16 */
    struct rfn_tensor lse;                         /* [T, H] f32, natural log, optional */
    float scale;                                   /* of the scores; > 0 */
    int32_t empty_lse_positive; /* 1: an empty row has LSE = +inf; 0: -inf */
    int32_t batch_invariant;    /* 1: a row's bits do not depend on T */
    struct rfn_bounds bounds;   /* optional; pages are the first source's */
};

struct rfn_index_pack_args
{
    struct rfn_tensor k;      /* [T, D] bf16, rotated; D = 128 */
    struct rfn_tensor slots;  /* [T] i64 */
    struct rfn_tensor live;   /* [1] i32, optional */
    struct rfn_pool pool;     /* index pool */
    enum rfn_scale scale;     /* ue8m0: a power of two, stored as f32 all the same */
    enum rfn_floor floor_on;  /* RFN_FLOOR_DEFAULT: 1e-4 on amax, whatever the scale */
    float floor;              /* as in rfn_kv_pack_args */
    struct rfn_bounds bounds; /* optional */
};

struct rfn_index_query_pack_args
{
    struct rfn_tensor q;      /* [T, H, D] bf16, rotated; D = 128 */
    struct rfn_tensor w;      /* [T, H] bf16 or f32 */
    struct rfn_tensor live;   /* [1] i32, optional */
    struct rfn_tensor q8;     /* [T, H, D] e4m3 out */
    struct rfn_tensor w8;     /* [T, H] f32 out: the folded weight */
    enum rfn_scale scale;     /* of q */
    struct rfn_bounds bounds; /* optional */
};

struct rfn_index_logits_args
{
    struct rfn_tensor q8;      /* [T, H, D] e4m3 */
    struct rfn_tensor w8;      /* [T, H] f32 */
    struct rfn_pool pool;      /* index pool */
    struct rfn_tensor table;   /* [R, W] i32 */
    struct rfn_tensor request; /* [T] i32 */
    struct rfn_tensor lens;    /* [T] i32 */
    struct rfn_tensor live;    /* [1] i32, optional */
    struct rfn_tensor logits;  /* [T, S] f32 out */
    struct rfn_bounds bounds;  /* optional */
};

struct rfn_mla_combine_args
{
    struct rfn_tensor out_part; /* [N, T, H, V] f32 or bf16 */
    struct rfn_tensor lse_part; /* [N, T, H] f32, natural log; empty ones as below */
    struct rfn_tensor live;     /* [1] i32, optional */
    struct rfn_tensor sink;     /* [H] f32, optional */
    struct rfn_tensor out;      /* [T, H, V] bf16 */
    struct rfn_tensor lse;      /* [T, H] f32, optional */
    int32_t empty_lse_positive; /* of lse, and +inf in lse_part is empty too */
};

#define RFN_STEP_CHANGES 256 /* of tables, that a record has room for */

struct rfn_step_change
{
    int32_t request;
    int32_t column;
    int32_t page;
    int32_t unused;
};

/* What one run of step_update is to find changed. Behind it lie pairs of i32, a request's lens
 * and q_lens. */
struct rfn_step_record
{
    int64_t turn; /* the run that takes it; every other leaves it alone */
    int32_t requests;
    int32_t advance;
    int32_t lengths; /* 1: take the pairs, forget `rejected`; 0: both stay as they are */
    int32_t changes;
    int32_t unused[2];
    struct rfn_step_change change[RFN_STEP_CHANGES];
};

struct rfn_step_update_args
{
    struct rfn_tensor lens;     /* [R] i32, in/out: context with this step's tokens */
    struct rfn_tensor q_lens;   /* [R] i32 */
    struct rfn_tensor table;    /* [R, W] i32 */
    struct rfn_tensor requests; /* [1] i32: live ones */
    struct rfn_tensor request;  /* [T] i32 out; T = R * next_n */
    struct rfn_tensor context;  /* [T] i32 out */
    struct rfn_tensor slots;    /* [T] i64 out */
    struct rfn_tensor live;     /* [1] i32 out: live rows */
    struct rfn_tensor
        advance; /* [1] i32, optional: not 0: lens += q_lens behind the step */
    struct rfn_tensor
        rejected; /* [R] i32, optional, in/out: lens -= them in front of it */
    /* Changes that the device picks up by itself; all four are given, or none. */
    struct rfn_tensor records; /* [N, C] i32: a struct rfn_step_record a row */
    struct rfn_tensor turn;    /* [2] i64 in/out: runs until now; 0 between runs */
    struct rfn_tensor taken;   /* [1] i64 out: runs until now, this one included */
    struct rfn_tensor kept;    /* [Q] i32 in/out: what q_lens, table, requests, advance
                                * lie in, which records change */
    int32_t next_n;            /* 1 .. 8 */
    int32_t page_tokens;
    int64_t pages;            /* B: a page outside [0, B) gives slot -1 */
    struct rfn_tensor bounds; /* [8] i64 out, optional: enum rfn_bound */
};

struct rfn_index_gather_args
{
    struct rfn_pool pool;       /* index pool */
    struct rfn_tensor table;    /* [R, W] i32 pages */
    struct rfn_tensor starts;   /* [R + 1] i32: cumulative lengths, the total last */
    struct rfn_tensor requests; /* [1] i32, optional: live ones */
    struct rfn_tensor keys;     /* [N, D] e4m3 out; D = 128 */
    struct rfn_tensor scales;   /* [N] f32 out */
    int64_t bound;              /* rows at and past it are not written; 0: N */
};

struct rfn_synth_fill_args
{
    struct rfn_tensor out;  /* [T, D] bf16 or f32 */
    struct rfn_tensor keys; /* [T] i64: what the row is a function of */
    struct rfn_tensor live; /* [1] i32, optional */
    int64_t salt;
    float amplitude; /* f32 values lie in [-amplitude, amplitude); >= 2^15 * FLT_MIN */
};

extern RFN_API const struct rfn_op rfn_op_kv_pack;
extern RFN_API const struct rfn_op rfn_op_index_topk;
extern RFN_API const struct rfn_op rfn_op_sparse_mla;
extern RFN_API const struct rfn_op rfn_op_index_pack;
extern RFN_API const struct rfn_op rfn_op_index_query_pack;
extern RFN_API const struct rfn_op rfn_op_index_logits;
extern RFN_API const struct rfn_op rfn_op_mla_combine;
extern RFN_API const struct rfn_op rfn_op_step_update;
extern RFN_API const struct rfn_op rfn_op_synth_fill;
extern RFN_API const struct rfn_op rfn_op_index_gather;

/**
 * Quantises latent rows and writes them with their rope parts into a paged pool.
 *
 *     scale = max(amax, floor) / 448,  q = e4m3(x / scale), per group of the format
 *
 * A NaN makes its group's scale and bytes NaN (0x7fc00000 or 255, and 0x7f). An infinity
 * makes the scale infinite (255 as an exponent), its own byte NaN and the others of the
 * group 0. A zero keeps its sign. The pad byte of 584 is written as 0. Of two rows with one
 * slot the later wins.
 *
 * Shapes    T query tokens; D, E, group by the format
 *   in      kv       [T, D]   bf16   row stride honoured
 *   in      k_rope   [T, E]   bf16   row stride honoured
 *   in      slots    [T]      i64    < 0: the row is not written
 *   in      live     [1]      i32    optional
 *   in      bounds   [8]      i64    optional
 *   in/out  pool     latent_fp8_656, latent_bf16_576, latent_fp8_584
 * Capture   Safe. The grid depends on T only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Bytes as in the formula: IEEE division, round to nearest even, saturated.
 * Cost      2 * T * (D + E) + 8 * T bytes read, T * token bytes written.
 * Errors    RFN_INVALID (shape, dtype, alignment, extent), RFN_UNSUPPORTED. On error
 *           nothing is enqueued. A slot past the pool is not written; check mode reports it.
 * Source    DeepSeek-V3.2 cache row; vLLM, FastDeploy and FlashMLA write the same map.
 */
RFN_API enum rfn_status rfn_kv_pack(struct rfn_stream *stream,
                                    const struct rfn_kv_pack_args *args);

/**
 * Selects exactly the K largest of each row's first lens[t] scores, ties to the smaller
 * position, ascending by position, -1 behind the last.
 *
 *     lens <= K: 0 .. lens-1, then -1.   -0 equals +0; NaN < -inf < every finite value.
 *
 * Shapes    T query tokens, S columns, K = 1 .. 2048, R requests, W table width
 *   in      logits     [T, S]   f32   row stride honoured; 4-byte aligned
 *   in      lens       [T]      i32   negative counts as 0, past S counts as S; a row of
 *                                     length 0 is written as all -1
 *   in      live       [1]      i32   optional
 *   in      table      [R, W]   i32   row stride honoured
 *   in      request    [T]      i32
 *   in      bounds     [8]      i64   optional
 *   out     slots      [T, K]   i32   table[request[t]][pos / P] * P + pos % P; -1 where
 *                                     request, pos / P or the page is out of bounds
 *   out     positions  [T, K]   i32
 * Capture   Safe. The grid depends on T, S and the rows' alignment.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact: the same bits on every run, batch, bucket and device.
 * Cost      4 * sum(lens) bytes read, 4 * T * K written an output.
 * Errors    RFN_INVALID (shape, dtype, extent; neither output; slots without a table),
 *           RFN_LIMIT (K > 2048), RFN_UNSUPPORTED: GPUs whose blocks can have 99 KiB of
 *           shared memory (sm_86, sm_89) take S <= 168960, or 168957 where rows do not begin
 *           on 16 bytes; the bytes are named, and rfn_op_supported says so beforehand. On
 *           error nothing is enqueued.
 * Source    DeepSeek-V3.2 report, top-k selector.
 */
RFN_API enum rfn_status rfn_index_topk(struct rfn_stream *stream,
                                       const struct rfn_index_topk_args *args);

/**
 * Attention of each query token over the slots chosen for it, in latent space.
 *
 *     O[t][h] = sum_s softmax_s(scale * q[t][h] . k[s]) * k[s][0:V], over all sources
 *
 * Shapes    T query tokens, H = 1 .. 128, QK and V by the format, K <= 2^30 columns a source
 *   in      q               [T, H, QK]  bf16  or [T, H, QK-64] with q_rope; strides honoured
 *   in      q_rope          [T, H, 64]  bf16  optional
 *   in      live            [1]         i32   optional
 *   in      source.pool     a latent format; both sources have the same QK and V
 *   in      source.indices  [T, K]      i32   row stride honoured
 *   in      source.lens     [T]         i32   optional
 *   in      sink            [H]         f32   optional; O *= e^lse / (e^lse + e^sink)
 *   in      bounds          [8]         i64   optional
 *   out     out             [T, H, V]   bf16
 *   out     lse             [T, H]      f32   optional, without the sink
 * Capture   Safe. The grid depends on shapes only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  O: relative L2 <= 4e-3 on the same quantised inputs; LSE: 5e-4 absolute.
 *           A row has the same bits on every run and whatever the other rows hold. How a
 *           row's keys are divided depends on T, H, the widths K and the GPU; with
 *           batch_invariant not on T, so that a row has the same bits in a launch of any
 *           number of rows. Of its time without the flag a launch of 1 / 8 / 32 / 64 / 128
 *           rows then takes (H200, fp8_656, K = 2,048): 1.6 / 1.3 / 1.9 / 2.0 / 2.0 with 128
 *           heads, 1.6 / 1.1 / 1.3 / 1.9 / 2.0 with 64, 1 / 1 / 1.3 / 1.4 / 1.5 with 32,
 *           1 / 1 / 1 / 1.3 / 1.4 with 16 or 8.
 * Cost      T * K * token bytes read a source, 2 * T * H * K * (QK + V) flops.
 * Errors    RFN_INVALID, RFN_LIMIT (K), RFN_UNSUPPORTED (too little shared memory a block:
 *           fp8 needs 72 KiB, bf16_576 105, both at once 126; both values are named). On
 *           error nothing is enqueued. An index past the pool is masked; check mode reports
 *           row, column and value. An empty row gives O = 0 and LSE = -inf (or +inf, a
 *           field).
 * Source    DeepSeek-V3.2 report, sparse attention; FlashMLA for two sources and the sink.
 */
RFN_API enum rfn_status rfn_sparse_mla(struct rfn_stream *stream,
                                       const struct rfn_sparse_mla_args *args);

/**
 * Quantises indexer keys and writes them into a planar index pool.
 *
 *     scale = max(amax, floor) / 448 over the row,  k8 = e4m3(k / scale)
 *
 * The scale is stored as f32, a power of two with ue8m0. NaN, infinities, zeros and rows
 * with one slot are dealt with as in rfn_kv_pack: scale 0x7fc00000 and bytes 0x7f for a NaN,
 * an infinite scale for an infinity.
 *
 * Shapes    T query tokens, D = 128
 *   in      k       [T, D]  bf16  row stride honoured
 *   in      slots   [T]     i64   < 0: the row is not written
 *   in      live    [1]     i32   optional
 *   in      bounds  [8]     i64   optional
 *   in/out  pool    index_fp8_132
 * Capture   Safe. The grid depends on T only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Bytes as in the formula.
 * Cost      2 * T * D + 8 * T bytes read, 132 * T written.
 * Errors    RFN_INVALID, RFN_UNSUPPORTED. On error nothing is enqueued. A slot past the pool
 *           is not written; check mode reports it.
 * Source    DeepSeek-V3.2 indexer cache; vLLM and SGLang write the same planar page.
 */
RFN_API enum rfn_status rfn_index_pack(struct rfn_stream *stream,
                                       const struct rfn_index_pack_args *args);

/**
 * Quantises indexer queries per token and head and folds all scales into the weights.
 *
 *     w8[t][h] = w[t][h] * q_scale[t][h] * (D^-0.5 * H^-0.5), products in f32 in that order
 *
 * The bracket is one f32: (D * H)^-0.5, rounded once. q8 and q_scale come to be as in
 * rfn_index_pack, floor 1e-4 on amax; check mode counts a head with a NaN, its column is the
 * head. A weight that comes out as NaN is stored as 0x7fc00000.
 *
 * Shapes    T query tokens, H = 4 .. 64 index heads, D = 128
 *   in      q       [T, H, D]  bf16          strides honoured
 *   in      w       [T, H]     bf16 or f32   element-aligned, row stride honoured
 *   in      live    [1]        i32           optional
 *   in      bounds  [8]        i64           optional
 *   out     q8      [T, H, D]  e4m3          strides honoured
 *   out     w8      [T, H]     f32           row stride honoured
 * Capture   Safe. The grid depends on T and H only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Bytes as in the formula.
 * Cost      T * H * (2 * D + 4) bytes read, T * H * (D + 4) written.
 * Errors    RFN_INVALID, RFN_UNSUPPORTED. On error nothing is enqueued.
 * Source    DeepSeek-V3.2 report, indexer equation.
 */
RFN_API enum rfn_status rfn_index_query_pack(
    struct rfn_stream *stream, const struct rfn_index_query_pack_args *args);

/**
 * Scores every cached token against each query token: the DSA lightning indexer.
 *
 *     logits[t][s] = scale[s] * sum_h w8[t][h] * relu(dot(q8[t][h], k8[s]))
 *
 * relu(x) is 0 for x < 0 and x otherwise, a NaN too. Keys at and past lens[t] are not read.
 *
 * Shapes    T query tokens, R requests, H = 4 .. 64, D = 128, W table width, S columns
 *   in      q8       [T, H, D]      e4m3  strides honoured
 *   in      w8       [T, H]         f32   row stride honoured
 *   in      pool     index_fp8_132  page stride honoured
 *   in      table    [R, W]         i32   row stride honoured
 *   in      request  [T]            i32   rows of one request side by side share work
 *   in      lens     [T]            i32   negative counts as 0, past S counts as S
 *   in      live     [1]            i32   optional
 *   in      bounds   [8]            i64   optional
 *   out     logits   [T, S]         f32   columns >= lens[t] are not written
 * Capture   Safe. The grid depends on shapes only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Relative L2 of a row of 64 columns or more <= 1e-5 on the same quantised inputs
 *           (host: 3e-7), a single score within 1e-5 of the sum of the magnitudes that go
 *           into it. A score has the same bits whatever the other rows and columns hold; on
 *           the host also whatever the instruction set and the number of threads are.
 * Cost      132 * sum(lens) + T * H * D bytes read, 4 * sum(lens) written;
 *           2 * H * D * sum(lens) flops.
 * Errors    RFN_INVALID, RFN_UNSUPPORTED. On error nothing is enqueued. A token of no
 *           request, past the table or on a page outside the pool scores -inf; check mode
 *           reports each such row of `request` and page of `table` once.
 * Source    DeepSeek-V3.2 report, indexer equation.
 */
RFN_API enum rfn_status rfn_index_logits(struct rfn_stream *stream,
                                         const struct rfn_index_logits_args *args);

/**
 * Merges partial attention results, ours or another rank's.
 *
 *     lse = log sum_n e^lse_part[n],  out = sum_n e^(lse_part[n] - lse) * out_part[n]
 *
 * Shapes    N partials, T query tokens, H heads, V value width
 *   in      out_part  [N, T, H, V]  f32 or bf16  strides honoured, 16-byte aligned rows
 *   in      lse_part  [N, T, H]     f32   -inf: empty, its out_part is not read; so is +inf
 *                                         with empty_lse_positive, else it gives NaN
 *   in      live      [1]           i32   optional; rows at and past it are not written
 *   in      sink      [H]           f32   optional; out *= e^lse / (e^lse + e^sink)
 *   out     out       [T, H, V]     bf16
 *   out     lse       [T, H]        f32   optional, without the sink
 * Capture   Safe. The grid depends on shapes only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  O: relative L2 <= 4e-3 (bf16 output); LSE: 1e-5 absolute and 2 ulp. Summed in the
 *           order of N; a row has the same bits whatever the other rows hold. A NaN in a
 *           partial that is not empty comes out as NaN. All partials empty: O = 0 and
 *           LSE = -inf (or +inf, a field).
 * Cost      N * T * H * (4 * V + 4) bytes read, T * H * (2 * V + 4) written.
 * Errors    RFN_INVALID, RFN_UNSUPPORTED. On error nothing is enqueued.
 * Source    Flash-decoding combine; context-parallel ranks merge in the same way.
 */
RFN_API enum rfn_status rfn_mla_combine(struct rfn_stream *stream,
                                        const struct rfn_mla_combine_args *args);

/**
 * Turns a step's per-request buffers into per-row ones; pure but for the lengths it advances.
 *
 *     row b * next_n + j: request b, context lens[b] - q_lens[b] + j + 1, slot of the token
 *     at that context - 1; padding (j >= q_lens[b], context < 1, b >= requests): -1, 0, -1
 *
 * Shapes    R requests, T = R * next_n rows, W table width, P = page_tokens
 *   in/out  lens      [R]     i32   negative counts as 0; *advance not 0: when the rows are
 *                                   made, lens = min(lens + q_lens, W * P) of live requests
 *   in      q_lens    [R]     i32   clamped to 0 .. next_n
 *   in      table     [R, W]  i32   row stride honoured
 *   in      requests  [1]     i32   clamped to 0 .. R
 *   out     request   [T]     i32
 *   out     context   [T]     i32
 *   out     slots     [T]     i64   table[b][pos / P] * P + pos % P; -1 past the table and
 *                                   on a page outside the pool
 *   out     live      [1]     i32   requests * next_n
 *   out     bounds    [8]     i64   optional; what the rows were made for: enum rfn_bound
 *   in      advance   [1]     i32   optional
 *   in/out  rejected  [R]     i32   optional; clamped to 0 .. lens; of live requests: taken
 *                                   from lens before anything else, and 0 afterwards
 *   in      records   [N, C]  i32   optional, as are the next three; N a power of 2, a row
 *                                   a struct rfn_step_record and R pairs; 16-byte aligned
 *                                   rows; pinned memory as a rule
 *   in/out  turn      [2]     i64   [0] goes up by 1 a run; [1] is 0 in front of one
 *   out     taken     [1]     i64   turn + 1; pinned memory as a rule
 *   in/out  kept      [Q]     i32   memory that holds q_lens, table, requests and advance
 *
 * With records, run number `turn` looks at row turn % N. Where that names this very turn, its
 * values come before everything else into lens, q_lens, table, requests and advance (of
 * requests behind the live ones lens and q_lens are set to 0), and stay. So the host may say
 * what changes while earlier runs are still to come: it writes a row, its turn last, in front
 * of the launch of that run, and writes the row again when `taken` is past that turn.
 * Capture   Safe. One node; the grid depends on R only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact.
 * Cost      8 * R + 4 * T bytes read, 16 * T written; with `rejected` 4 * R each more. With
 *           records 4,128 + 8 * R bytes of one are read, over PCIe where it is pinned.
 * Errors    RFN_INVALID: T is not R * next_n, next_n out of range; records without turn, taken
 *           or kept, too narrow, or what they change lies elsewhere. On error nothing is
 *           enqueued. Check mode reports, of live requests, a length that is negative or past
 *           the table (lens, b, 0), more tokens to take back than there are, or less than
 *           none (rejected, b, 0), and each row's page outside the pool (table, b, column);
 *           of a record a change outside the table, which is left out (records, change, its
 *           request or column).
 * Source    The step metadata of vLLM and SGLang, in one kernel.
 */
RFN_API enum rfn_status rfn_step_update(struct rfn_stream *stream,
                                        const struct rfn_step_update_args *args);

/**
 * Fills rows with numbers that are a function of (key, salt, column) alone: the same bits on
 * every device. For tests, benches and the decode program.
 *
 *     mix(z):  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;  z = (z ^ z >> 27) *
 *              0x94d049bb133111eb;  z ^ z >> 31                  in u64, modulo 2^64
 *     G = 0x9e3779b97f4a7c15,  row = mix(keys[t] + mix(salt + G))
 *     out[t][d] = i16(mix(row + (d / 4 + 1) * G) >> 16 * (d % 4)) * (amplitude * 2^-15)
 *
 * i16 takes the low 16 bits as two's complement; amplitude * 2^-15 is exact; the product is
 * rounded to f32, and for bf16 once more, both to nearest even.
 *
 * Shapes    T rows, D columns
 *   out     out   [T, D]  bf16 or f32  row stride honoured, 16-byte aligned rows
 *   in      keys  [T]     i64
 *   in      live  [1]     i32          optional; rows at and past it are not written
 * Capture   Safe. The grid depends on shapes only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact: an integer hash, one multiplication in f32, one rounding a dtype.
 * Cost      8 * T bytes read, T * D elements written.
 * Errors    RFN_INVALID. On error nothing is enqueued.
 * Source    SplitMix64 (Steele, Lea, Flood).
 */
RFN_API enum rfn_status rfn_synth_fill(struct rfn_stream *stream,
                                       const struct rfn_synth_fill_args *args);

/**
 * Gathers the keys of all requests from index pages into flat rows, side by side.
 *
 *     row n, starts[r] <= n < starts[r + 1]:  token n - starts[r] of request r
 *
 * `bound` sizes the launch and never counts: the rows there are is starts[requests], read on
 * the device, so that a captured gather follows lengths that change. Of next_n query rows a
 * request the context is gathered once, with the step's own tokens: R counts requests, and
 * row r * next_n + j attends keys starts[r] .. starts[r] + context - 1.
 *
 * Shapes    R requests, W table width, N rows of capacity, D = 128, P page_tokens
 *   in      pool      index_fp8_132  page stride honoured
 *   in      table     [R, W]   i32   row stride honoured
 *   in      starts    [R + 1]  i32   rows before starts[0] are not written
 *   in      requests  [1]      i32   optional, clamped to 0 .. R; starts past it are not read
 *   out     keys      [N, D]   e4m3  row stride honoured
 *   out     scales    [N]      f32
 * Capture   Safe. One node; the grid depends on bound and the GPU, never on starts.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact: bytes are copied. A token past the table or on a page outside the pool
 *           gives a row of zeros. Rows at and past the total or bound are not written.
 * Cost      132 * starts[requests] bytes read, as many written; a row's request is found by
 *           bisection of starts, log2(R) steps.
 * Errors    RFN_INVALID: bound past N, starts not of R + 1. On error nothing is enqueued.
 *           Check mode reports starts below the one before (starts, r, starts[r - 1],
 *           starts[r]), a negative starts[0] (starts, 0, 0, starts[0]), a total above bound
 *           (starts, requests, bound, total), and each page outside the pool (table, r,
 *           column, page) or past the table (table, r, column, column) where its first token
 *           is gathered. Of starts that go down a row's request is the one that bisection
 *           ends at; if the row does not lie in it, or it begins below 0, the row is not
 *           written.
 * Source    DeepSeek-V3.2 prefill; vLLM and SGLang gather the same planar page.
 */
RFN_API enum rfn_status rfn_index_gather(struct rfn_stream *stream,
                                         const struct rfn_index_gather_args *args);

#ifndef RFN_NO_SITES
#define rfn_kv_pack(...) RFN_SITED(rfn_kv_pack(__VA_ARGS__))
#define rfn_index_topk(...) RFN_SITED(rfn_index_topk(__VA_ARGS__))
#define rfn_sparse_mla(...) RFN_SITED(rfn_sparse_mla(__VA_ARGS__))
#define rfn_index_pack(...) RFN_SITED(rfn_index_pack(__VA_ARGS__))
#define rfn_index_query_pack(...) RFN_SITED(rfn_index_query_pack(__VA_ARGS__))
#define rfn_index_logits(...) RFN_SITED(rfn_index_logits(__VA_ARGS__))
#define rfn_mla_combine(...) RFN_SITED(rfn_mla_combine(__VA_ARGS__))
#define rfn_step_update(...) RFN_SITED(rfn_step_update(__VA_ARGS__))
#define rfn_synth_fill(...) RFN_SITED(rfn_synth_fill(__VA_ARGS__))
#define rfn_index_gather(...) RFN_SITED(rfn_index_gather(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
