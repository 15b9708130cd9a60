/*
 * The ops of a DSA decode step: argument structs and contracts. Unstable until 1.0.
 *
 * Common to all. `live`, where given, is one i32 on the device: rows at and past it are
 * inert, they read nothing that matters and write nothing. Without it a negative slot makes
 * a row inert, and a length <= 0 makes it empty: it is written as an empty row (all -1;
 * O = 0). Lengths and indices are read on the device when the op
 * runs; shapes, strides, scales and addresses are baked by a capture. Base pointers and
 * rows of bf16 views and pools are 16-byte aligned; i32, i64 and f32 views need the
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
};

struct rfn_index_topk_args
{
    struct rfn_tensor logits;    /* [T, S] f32 */
    struct rfn_tensor lens;      /* [T] i32; columns >= lens[t] are not read */
    struct rfn_tensor live;      /* [1] i32, optional */
    struct rfn_tensor table;     /* [R, W] i32 pages; needed for slots */
    struct rfn_tensor request;   /* [T] i32 row of the table; needed for slots */
    struct rfn_tensor slots;     /* [T, K] i32 out, optional */
    struct rfn_tensor positions; /* [T, K] i32 out, optional; one of the two is given */
    int32_t page_tokens;         /* P, of the latent pool; needed for slots */
    int64_t pages;               /* B; needed for slots: a page outside [0, B) gives -1 */
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
};

extern RFN_API const struct rfn_op rfn_op_kv_pack;
extern RFN_API const struct rfn_op rfn_op_index_topk;
extern RFN_API const struct rfn_op rfn_op_sparse_mla;

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
 *   out     slots      [T, K]   i32   table[request[t]][pos / P] * P + pos % P; -1 where
 *                                     request, pos / P or the page is out of bounds
 *   out     positions  [T, K]   i32
 * Capture   Safe. The grid depends on T only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  Exact: the same bits on every run, batch, bucket and device.
 * Cost      4 * sum(lens) bytes read, 4 * T * K written an output.
 * Errors    RFN_INVALID (shape, dtype, extent; neither output; slots without a table),
 *           RFN_LIMIT (K > 2048). On error nothing is enqueued.
 * Source    DeepSeek-V3.2 report, top-k selector.
 */
RFN_API enum rfn_status rfn_index_topk(struct rfn_stream *stream,
                                       const struct rfn_index_topk_args *args);

/**
 * Attention of each query token over the slots chosen for it, in latent space.
 *
 *     O[t][h] = sum_s softmax_s(scale * q[t][h] . k[s]) * k[s][0:V], over all sources
 *
 * Shapes    T query tokens, H = 1 .. 128, QK and V by the format, K columns a source
 *   in      q               [T, H, QK]  bf16  or [T, H, QK-64] with q_rope; strides honoured
 *   in      q_rope          [T, H, 64]  bf16  optional
 *   in      live            [1]         i32   optional
 *   in      source.pool     a latent format; both sources have the same QK and V
 *   in      source.indices  [T, K]      i32   row stride honoured
 *   in      source.lens     [T]         i32   optional
 *   in      sink            [H]         f32   optional; O *= e^lse / (e^lse + e^sink)
 *   out     out             [T, H, V]   bf16
 *   out     lse             [T, H]      f32   optional, without the sink
 * Capture   Safe. The grid depends on shapes only.
 * Stream    Asynchronous. No allocation, no host synchronisation.
 * Threads   Any thread, one at a time per stream.
 * Accuracy  O: relative L2 <= 4e-3 on the same quantised inputs; LSE: 5e-4 absolute.
 *           A row of the batch has the same bits whatever the other rows hold.
 * Cost      T * K * token bytes read a source, 2 * T * H * K * (QK + V) flops.
 * Errors    RFN_INVALID, RFN_UNSUPPORTED. On error nothing is enqueued. An index past the
 *           pool is masked; check mode reports row, column and value. An empty row gives
 *           O = 0 and LSE = -inf (or +inf, a field).
 * Source    DeepSeek-V3.2 report, sparse attention; FlashMLA for two sources and the sink.
 */
RFN_API enum rfn_status rfn_sparse_mla(struct rfn_stream *stream,
                                       const struct rfn_sparse_mla_args *args);

#ifndef RFN_NO_SITES
#define rfn_kv_pack(...) (rfn_site_note(__FILE__, __LINE__), rfn_kv_pack(__VA_ARGS__))
#define rfn_index_topk(...)                                                              \
    (rfn_site_note(__FILE__, __LINE__), rfn_index_topk(__VA_ARGS__))
#define rfn_sparse_mla(...)                                                              \
    (rfn_site_note(__FILE__, __LINE__), rfn_sparse_mla(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
