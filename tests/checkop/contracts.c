/* Arguments that must be refused, and what the error line has to name: operand and both
 * values. Each spoils one thing in arguments that are right. */
#include "kernels/num.h"
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"
#include "tests/support/harness.h"

#include <float.h>
#include <math.h>
#include <string.h>

union args
{
    struct rfn_kv_pack_args kv;
    struct rfn_index_topk_args topk;
    struct rfn_sparse_mla_args mla;
    struct rfn_index_pack_args ipack;
    struct rfn_index_query_pack_args iquery;
    struct rfn_index_logits_args logits;
    struct rfn_mla_combine_args combine;
    struct rfn_step_update_args step;
    struct rfn_synth_fill_args synth;
    struct rfn_index_gather_args gather;
};

/* The check reads no data: one aligned address serves all views. */
static _Alignas(64) char memory[64];

static struct rfn_pool pool_of(enum rfn_format format)
{
    return (struct rfn_pool) { memory, format, 64, 10, 0 };
}

static void make_kv(union args *a)
{
    a->kv.kv = rfn_tensor_of(memory, RFN_BF16, 4, 512, 0, 0);
    a->kv.k_rope = rfn_tensor_of(memory, RFN_BF16, 4, 64, 0, 0);
    a->kv.slots = rfn_tensor_of(memory, RFN_I64, 4, 0, 0, 0);
    a->kv.pool = pool_of(RFN_LATENT_FP8_656);
}

static void make_topk(union args *a)
{
    a->topk.logits = rfn_tensor_of(memory, RFN_F32, 4, 5000, 0, 0);
    a->topk.lens = rfn_tensor_of(memory, RFN_I32, 4, 0, 0, 0);
    a->topk.table = rfn_tensor_of(memory, RFN_I32, 2, 80, 0, 0);
    a->topk.request = rfn_tensor_of(memory, RFN_I32, 4, 0, 0, 0);
    a->topk.slots = rfn_tensor_of(memory, RFN_I32, 4, 2048, 0, 0);
    a->topk.positions = rfn_tensor_of(memory, RFN_I32, 4, 2048, 0, 0);
    a->topk.page_tokens = 64;
    a->topk.pages = 100;
}

static void make_mla(union args *a)
{
    a->mla.q = rfn_tensor_of(memory, RFN_BF16, 4, 16, 576, 0);
    a->mla.source[0].pool = pool_of(RFN_LATENT_FP8_656);
    a->mla.source[0].indices = rfn_tensor_of(memory, RFN_I32, 4, 2048, 0, 0);
    a->mla.out = rfn_tensor_of(memory, RFN_BF16, 4, 16, 512, 0);
    a->mla.lse = rfn_tensor_of(memory, RFN_F32, 4, 16, 0, 0);
    a->mla.scale = 0.135f;
}

static void make_ipack(union args *a)
{
    a->ipack.k = rfn_tensor_of(memory, RFN_BF16, 4, 128, 0, 0);
    a->ipack.slots = rfn_tensor_of(memory, RFN_I64, 4, 0, 0, 0);
    a->ipack.pool = pool_of(RFN_INDEX_FP8_132);
}

static void make_iquery(union args *a)
{
    a->iquery.q = rfn_tensor_of(memory, RFN_BF16, 4, 16, 128, 0);
    a->iquery.w = rfn_tensor_of(memory, RFN_F32, 4, 16, 0, 0);
    a->iquery.q8 = rfn_tensor_of(memory, RFN_E4M3, 4, 16, 128, 0);
    a->iquery.w8 = rfn_tensor_of(memory, RFN_F32, 4, 16, 0, 0);
}

static void make_logits(union args *a)
{
    a->logits.q8 = rfn_tensor_of(memory, RFN_E4M3, 4, 16, 128, 0);
    a->logits.w8 = rfn_tensor_of(memory, RFN_F32, 4, 16, 0, 0);
    a->logits.pool = pool_of(RFN_INDEX_FP8_132);
    a->logits.table = rfn_tensor_of(memory, RFN_I32, 2, 80, 0, 0);
    a->logits.request = rfn_tensor_of(memory, RFN_I32, 4, 0, 0, 0);
    a->logits.lens = rfn_tensor_of(memory, RFN_I32, 4, 0, 0, 0);
    a->logits.logits = rfn_tensor_of(memory, RFN_F32, 4, 5000, 0, 0);
}

static void make_combine(union args *a)
{
    a->combine.out_part = rfn_tensor_of(memory, RFN_F32, 3, 4, 16, 512);
    a->combine.lse_part = rfn_tensor_of(memory, RFN_F32, 3, 4, 16, 0);
    a->combine.out = rfn_tensor_of(memory, RFN_BF16, 4, 16, 512, 0);
    a->combine.lse = rfn_tensor_of(memory, RFN_F32, 4, 16, 0, 0);
}

static void give_records(struct rfn_step_update_args *a)
{
    a->records = rfn_tensor_of(memory, RFN_I32, 4, 1040, 0, 0);
    a->turn = rfn_tensor_of(memory, RFN_I64, 2, 0, 0, 0);
    a->taken = rfn_tensor_of(memory, RFN_I64, 1, 0, 0, 0);
    a->kept = rfn_tensor_of(memory, RFN_I32, 320, 0, 0, 0);
}

static void make_step(union args *a)
{
    a->step.lens = rfn_tensor_of(memory, RFN_I32, 4, 0, 0, 0);
    a->step.q_lens = rfn_tensor_of(memory, RFN_I32, 4, 0, 0, 0);
    a->step.table = rfn_tensor_of(memory, RFN_I32, 4, 80, 0, 0);
    a->step.requests = rfn_tensor_of(memory, RFN_I32, 1, 0, 0, 0);
    a->step.request = rfn_tensor_of(memory, RFN_I32, 8, 0, 0, 0);
    a->step.context = rfn_tensor_of(memory, RFN_I32, 8, 0, 0, 0);
    a->step.slots = rfn_tensor_of(memory, RFN_I64, 8, 0, 0, 0);
    a->step.live = rfn_tensor_of(memory, RFN_I32, 1, 0, 0, 0);
    a->step.next_n = 2;
    a->step.page_tokens = 64;
    a->step.pages = 100;
}

static void make_synth(union args *a)
{
    a->synth.out = rfn_tensor_of(memory, RFN_BF16, 4, 576, 0, 0);
    a->synth.keys = rfn_tensor_of(memory, RFN_I64, 4, 0, 0, 0);
    a->synth.amplitude = 1.0f;
}

static void make_gather(union args *a)
{
    a->gather.pool = pool_of(RFN_INDEX_FP8_132);
    a->gather.table = rfn_tensor_of(memory, RFN_I32, 4, 80, 0, 0);
    a->gather.starts = rfn_tensor_of(memory, RFN_I32, 5, 0, 0, 0);
    a->gather.keys = rfn_tensor_of(memory, RFN_E4M3, 300, 128, 0, 0);
    a->gather.scales = rfn_tensor_of(memory, RFN_F32, 300, 0, 0, 0);
}

/* X(args, name, status, "part|part" of the line, statement) */
#define SPOILED(X)                                                                       \
    X(kv, right, OK, "", )                                                               \
    X(kv, live_given, OK, "", a->live = rfn_tensor_of(memory, RFN_I32, 1, 0, 0, 0))      \
    X(kv, no_rows_without_addresses, OK, "",                                             \
      a->kv.shape[0] = a->k_rope.shape[0] = a->slots.shape[0] = 0;                       \
      a->kv.data = a->k_rope.data = a->slots.data = NULL)                                \
    X(kv, one_row_has_no_stride, OK, "",                                                 \
      a->kv.shape[0] = a->k_rope.shape[0] = a->slots.shape[0] = 1;                       \
      a->kv.stride[0] = 3; a->slots.stride[0] = 7)                                       \
    X(kv, strided, OK, "", a->kv.stride[0] = 2112; a->k_rope.stride[0] = 2112)           \
    X(kv, not_given, INVALID, "k_rope: not given", a->k_rope.data = NULL)                \
    X(kv, no_pool, INVALID, "pool: not given", a->pool.data = NULL)                      \
    X(kv, dtype, INVALID, "kv: dtype f32, but bf16", a->kv.dtype = RFN_F32)              \
    X(kv, no_dtype, INVALID, "kv: dtype none, but bf16",                                 \
      a->kv.dtype = (enum rfn_dtype)99)                                                  \
    X(kv, dims, INVALID, "slots: 2 dimensions|[T] has 1", a->slots.dims = 2)             \
    X(kv, rows, INVALID, "slots: T = 5, but kv: T = 4", a->slots.shape[0] = 5)           \
    X(kv, negative_extent, INVALID, "slots: extent -1", a->slots.shape[0] = -1)          \
    X(kv, width, INVALID, "kv: D = 448, but latent_fp8_656 has 512",                     \
      a->kv.shape[1] = 448)                                                              \
    X(kv, rope_width, INVALID, "k_rope: E = 32, but latent_fp8_656 has 64",              \
      a->k_rope.shape[1] = 32)                                                           \
    X(kv, live_extent, INVALID, "live: extent 2|[1] has 1",                              \
      a->live = rfn_tensor_of(memory, RFN_I32, 2, 0, 0, 0))                              \
    X(kv, inner_stride, INVALID, "kv: inner stride 2, but 1", a->kv.stride[1] = 2)       \
    X(kv, vector_stride, INVALID, "slots: inner stride 2, but 1",                        \
      a->slots.stride[0] = 2)                                                            \
    X(kv, overlap, INVALID, "kv: stride 504|512", a->kv.stride[0] = 504)                 \
    X(kv, negative_stride, INVALID, "kv: stride -512", a->kv.stride[0] = -512)           \
    X(kv, row_alignment, INVALID, "kv: rows 1032 bytes apart|16", a->kv.stride[0] = 516) \
    X(kv, base_alignment, INVALID, "kv: address|16-byte", a->kv.data = memory + 8)       \
    X(kv, slot_alignment, INVALID, "slots: address|8-byte", a->slots.data = memory + 4)  \
    X(kv, overflow, INVALID, "kv: extent|overflows",                                     \
      a->kv.stride[0] = INT64_MAX / 4 / 8 * 8)                                           \
    X(kv, end_of_memory, INVALID, "kv:|pass the end of memory",                          \
      a->kv.data = (void *)(UINTPTR_MAX - 1023))                                         \
    X(kv, format, INVALID, "pool: format index_fp8_132, but latent_fp8_656",             \
      a->pool.format = RFN_INDEX_FP8_132)                                                \
    X(kv, no_format, INVALID, "pool: format 77", a->pool.format = (enum rfn_format)77)   \
    X(kv, page_tokens, INVALID, "pool: page_tokens = 0", a->pool.page_tokens = 0)        \
    X(kv, pages, INVALID, "pool: pages = -1", a->pool.pages = -1)                        \
    X(kv, page_stride_short, INVALID, "pool: page stride of 41968 bytes|41984",          \
      a->pool.page_stride_bytes = 41968)                                                 \
    X(kv, page_stride_odd, INVALID, "pool: page stride of 41992 bytes|16",               \
      a->pool.page_stride_bytes = 41992)                                                 \
    X(kv, page_stride_negative, INVALID, "pool: page stride of -16 bytes",               \
      a->pool.page_stride_bytes = -16)                                                   \
    X(kv, pool_overflow, INVALID, "pool:|overflow", a->pool.pages = INT64_MAX / 40000)   \
    X(kv, pool_alignment, INVALID, "pool: address|16-byte", a->pool.data = memory + 8)   \
    X(kv, scale, INVALID, "scale: 7", a->scale = (enum rfn_scale)7)                      \
    X(kv, floor_on, INVALID, "floor_on: 3", a->floor_on = (enum rfn_floor)3)             \
    X(kv, floor_of_zero, INVALID, "floor:", a->floor_on = RFN_FLOOR_SCALE)               \
    X(kv, floor_nan, INVALID, "floor:", a->floor_on = RFN_FLOOR_AMAX; a->floor = NAN)    \
    X(topk, right, OK, "", )                                                             \
    X(topk, positions_alone, OK, "",                                                     \
      a->slots.data = a->table.data = a->request.data = NULL;                            \
      a->pages = 0)                                                                      \
    X(topk, neither, INVALID, "slots, positions",                                        \
      a->slots.data = a->positions.data = NULL)                                          \
    X(topk, no_table, INVALID, "table: not given", a->table.data = NULL)                 \
    X(topk, no_request, INVALID, "request: not given", a->request.data = NULL)           \
    X(topk, two_widths, INVALID, "positions: K = 64, but slots: K = 2048",               \
      a->positions.shape[1] = 64)                                                        \
    X(topk, k_of_2049, LIMIT, "K = 2049|2048",                                           \
      a->slots = a->positions = rfn_tensor_of(memory, RFN_I32, 4, 2049, 0, 0))           \
    X(topk, k_of_0, INVALID, "K = 0", a->slots.shape[1] = a->positions.shape[1] = 0)     \
    X(topk, page_tokens, INVALID, "page_tokens = 0", a->page_tokens = 0)                 \
    X(topk, pages, INVALID, "pages = 0", a->pages = 0)                                   \
    X(topk, slots_past_i32, INVALID, "pages = 33554433", a->pages = 33554433)            \
    X(topk, slots_up_to_i32, OK, "", a->pages = 33554432)                                \
    X(topk, lens, INVALID, "lens: T = 3, but logits: T = 4", a->lens.shape[0] = 3)       \
    X(topk, lens_dtype, INVALID, "lens: dtype i64, but i32", a->lens.dtype = RFN_I64)    \
    X(mla, right, OK, "", )                                                              \
    X(mla, without_lse, OK, "", a->lse.data = NULL)                                      \
    X(mla, split, OK, "", a->q = rfn_tensor_of(memory, RFN_BF16, 4, 16, 512, 0);         \
      a->q_rope = rfn_tensor_of(memory, RFN_BF16, 4, 16, 64, 0))                         \
    X(mla, two_sources, OK, "", a->source[1] = a->source[0];                             \
      a->source[1].indices.shape[1] = 64; a->source[1].indices.stride[0] = 64)           \
    X(mla, scale, INVALID, "scale: 0", a->scale = 0)                                     \
    X(mla, scale_nan, INVALID, "scale: ", a->scale = NAN)                                \
    X(mla, no_heads, INVALID, "q: H = 0",                                                \
      a->q.shape[1] = a->out.shape[1] = a->lse.shape[1] = 0)                             \
    X(mla, heads, INVALID, "q: H = 129",                                                 \
      a->q.shape[1] = a->out.shape[1] = a->lse.shape[1] = 129;                           \
      a->q.stride[0] = 129 * 576; a->out.stride[0] = 129 * 512; a->lse.stride[0] = 129)  \
    X(mla, other_heads, INVALID, "out: H = 8, but q: H = 16", a->out.shape[1] = 8)       \
    X(mla, width, INVALID, "q: D = 512, but latent_fp8_656 has 576",                     \
      a->q.shape[2] = 512)                                                               \
    X(mla, split_width, INVALID, "q: D = 576, but latent_fp8_656 has 512 beside q_rope", \
      a->q_rope = rfn_tensor_of(memory, RFN_BF16, 4, 16, 64, 0))                         \
    X(mla, out_width, INVALID, "out: V = 256, but latent_fp8_656 has 512",               \
      a->out.shape[2] = 256)                                                             \
    X(mla, sink, INVALID, "sink: H = 15, but q: H = 16",                                 \
      a->sink = rfn_tensor_of(memory, RFN_F32, 15, 0, 0, 0))                             \
    X(mla, two_geometries, INVALID, "source[1].pool: latent_fp8_584 has QK = 512|576",   \
      a->source[1] = a->source[0];                                                       \
      a->source[1].pool.format = RFN_LATENT_FP8_584)                                     \
    X(mla, no_second_indices, INVALID, "source[1].indices: not given",                   \
      a->source[1].pool = a->source[0].pool;                                             \
      a->source[1].indices.shape[1] = 9)                                                 \
    X(mla, no_second_pool, INVALID, "source[1].indices: given|source[1].pool",           \
      a->source[1].indices = a->source[0].indices)                                       \
    X(mla, columns, LIMIT, "source[0].indices: K = 4294967304|1073741824",               \
      a->source[0].indices = rfn_tensor_of(memory, RFN_I32, 4, (1ll << 32) + 8, 0, 0))   \
    X(mla, lens, INVALID, "source[0].lens: T = 5, but q: T = 4",                         \
      a->source[0].lens = rfn_tensor_of(memory, RFN_I32, 5, 0, 0, 0))                    \
    X(mla, empty_field, INVALID, "empty_lse_positive: 2", a->empty_lse_positive = 2)     \
    X(mla, invariant, OK, "", a->batch_invariant = 1)                                    \
    X(mla, invariant_field, INVALID, "batch_invariant: -1", a->batch_invariant = -1)     \
    X(ipack, right, OK, "", )                                                            \
    X(ipack, strided, OK, "", a->k.stride[0] = 2112)                                     \
    X(ipack, width, INVALID, "k: D = 64, but index_fp8_132 has 128", a->k.shape[1] = 64) \
    X(ipack, dtype, INVALID, "k: dtype f32, but bf16", a->k.dtype = RFN_F32)             \
    X(ipack, rows, INVALID, "slots: T = 5, but k: T = 4", a->slots.shape[0] = 5)         \
    X(ipack, row_alignment, INVALID, "k: rows 264 bytes apart|16", a->k.stride[0] = 132) \
    X(ipack, format, INVALID, "pool: format latent_fp8_656, but index_fp8_132",          \
      a->pool.format = RFN_LATENT_FP8_656)                                               \
    X(ipack, page_stride_short, INVALID, "pool: page stride of 8432 bytes|8448",         \
      a->pool.page_stride_bytes = 8432)                                                  \
    X(ipack, page_of_one_token, INVALID, "pool: page stride of 132 bytes|16",            \
      a->pool.page_tokens = 1)                                                           \
    X(ipack, scale, INVALID, "scale: 7", a->scale = (enum rfn_scale)7)                   \
    X(ipack, floor_on, INVALID, "floor_on: 3", a->floor_on = (enum rfn_floor)3)          \
    X(ipack, floor_of_zero, INVALID, "floor:", a->floor_on = RFN_FLOOR_AMAX)             \
    X(iquery, right, OK, "", )                                                           \
    X(iquery, bf16_weights, OK, "", a->w.dtype = RFN_BF16)                               \
    X(iquery, weights_of_any_alignment, OK, "", a->w.dtype = RFN_BF16;                   \
      a->w.stride[0] = 17; a->w.data = memory + 2)                                       \
    X(iquery, few_heads, INVALID, "q: H = 3, but 4 .. 64",                               \
      a->q.shape[1] = a->w.shape[1] = a->q8.shape[1] = a->w8.shape[1] = 3)               \
    X(iquery, many_heads, INVALID, "q: H = 65, but 4 .. 64",                             \
      a->q = rfn_tensor_of(memory, RFN_BF16, 4, 65, 128, 0);                             \
      a->q8 = rfn_tensor_of(memory, RFN_E4M3, 4, 65, 128, 0);                            \
      a->w = a->w8 = rfn_tensor_of(memory, RFN_F32, 4, 65, 0, 0))                        \
    X(iquery, width, INVALID, "q: D = 64, but 128", a->q.shape[2] = a->q8.shape[2] = 64) \
    X(iquery, other_heads, INVALID, "w: H = 8, but q: H = 16", a->w.shape[1] = 8)        \
    X(iquery, weights_dtype, INVALID, "w: dtype i32, but f32 or bf16",                   \
      a->w.dtype = RFN_I32)                                                              \
    X(iquery, q8_dtype, INVALID, "q8: dtype u8, but e4m3", a->q8.dtype = RFN_U8)         \
    X(iquery, q8_alignment, INVALID, "q8: address|16-byte", a->q8.data = memory + 8)     \
    X(iquery, scale, INVALID, "scale: -1", a->scale = (enum rfn_scale) - 1)              \
    X(logits, right, OK, "", )                                                           \
    X(logits, no_columns, OK, "", a->logits.shape[1] = 0; a->logits.data = NULL)         \
    X(logits, strided_table, OK, "", a->table.stride[0] = 81)                            \
    X(logits, few_heads, INVALID, "q8: H = 3, but 4 .. 64",                              \
      a->q8.shape[1] = a->w8.shape[1] = 3)                                               \
    X(logits, many_heads, INVALID, "q8: H = 65, but 4 .. 64",                            \
      a->q8 = rfn_tensor_of(memory, RFN_E4M3, 4, 65, 128, 0);                            \
      a->w8 = rfn_tensor_of(memory, RFN_F32, 4, 65, 0, 0))                               \
    X(logits, width, INVALID, "q8: D = 64, but 128", a->q8.shape[2] = 64)                \
    X(logits, weights, INVALID, "w8: dtype bf16, but f32", a->w8.dtype = RFN_BF16)       \
    X(logits, format, INVALID, "pool: format latent_fp8_584, but index_fp8_132",         \
      a->pool.format = RFN_LATENT_FP8_584)                                               \
    X(logits, no_table, INVALID, "table: not given", a->table.data = NULL)               \
    X(logits, request, INVALID, "request: T = 2, but q8: T = 4",                         \
      a->request.shape[0] = 2)                                                           \
    X(logits, lens, INVALID, "lens: T = 3, but q8: T = 4", a->lens.shape[0] = 3)         \
    X(logits, rows, INVALID, "logits: T = 5, but q8: T = 4", a->logits.shape[0] = 5)     \
    X(logits, q8_alignment, INVALID, "q8: rows 2056 bytes apart|16",                     \
      a->q8.stride[0] = 2056)                                                            \
    X(combine, right, OK, "", )                                                          \
    X(combine, bf16, OK, "", a->out_part.dtype = RFN_BF16)                               \
    X(combine, without_lse, OK, "", a->lse.data = NULL)                                  \
    X(combine, no_rows_dense, OK, "", a->out_part.shape[1] = a->lse_part.shape[1] = 0;   \
      a->out_part.stride[0] = a->lse_part.stride[0] = 0;                                 \
      a->out.shape[0] = a->lse.shape[0] = 0)                                             \
    X(combine, dtype, INVALID, "out_part: dtype i32, but f32 or bf16",                   \
      a->out_part.dtype = RFN_I32)                                                       \
    X(combine, partials, INVALID, "lse_part: N = 2, but out_part: N = 3",                \
      a->lse_part.shape[0] = 2)                                                          \
    X(combine, rows, INVALID, "out: T = 3, but out_part: T = 4", a->out.shape[0] = 3)    \
    X(combine, width, INVALID, "out: V = 256, but out_part: V = 512",                    \
      a->out.shape[2] = 256)                                                             \
    X(combine, overlap, INVALID, "out_part: stride 8192|32768",                          \
      a->out_part.stride[0] = 8192)                                                      \
    X(combine, row_alignment, INVALID, "out_part: rows 2056 bytes apart|16",             \
      a->out_part.stride[2] = 514;                                                       \
      a->out_part.stride[1] = 514 * 16; a->out_part.stride[0] = 514 * 64)                \
    X(combine, sink, INVALID, "sink: H = 15, but out_part: H = 16",                      \
      a->sink = rfn_tensor_of(memory, RFN_F32, 15, 0, 0, 0))                             \
    X(combine, not_given, INVALID, "lse_part: not given", a->lse_part.data = NULL)       \
    X(combine, empty_field, INVALID, "empty_lse_positive: -1",                           \
      a->empty_lse_positive = -1)                                                        \
    X(step, right, OK, "", )                                                             \
    X(step, advance, OK, "", a->advance = a->requests)                                   \
    X(step, rejected, OK, "", a->rejected = a->q_lens)                                   \
    X(step, rejected_of_3, INVALID, "rejected: R = 3, but lens: R = 4",                  \
      a->rejected = a->q_lens;                                                           \
      a->rejected.shape[0] = 3)                                                          \
    X(step, next_n_of_0, INVALID, "next_n = 0|8", a->next_n = 0)                         \
    X(step, next_n_of_9, INVALID, "next_n = 9|8", a->next_n = 9)                         \
    X(step, rows, INVALID, "request: T = 8, but lens: R = 4 with next_n = 3 has 12",     \
      a->next_n = 3)                                                                     \
    X(step, rows_of_one, INVALID, "slots: T = 7, but request: T = 8",                    \
      a->slots.shape[0] = 7)                                                             \
    X(step, requests, INVALID, "q_lens: R = 5, but lens: R = 4", a->q_lens.shape[0] = 5) \
    X(step, table, INVALID, "table: R = 3, but lens: R = 4", a->table.shape[0] = 3)      \
    X(step, no_table_width, OK, "", a->table.shape[1] = 0; a->table.data = NULL)         \
    X(step, slots_dtype, INVALID, "slots: dtype i32, but i64", a->slots.dtype = RFN_I32) \
    X(step, no_live, INVALID, "live: not given", a->live.data = NULL)                    \
    X(step, page_tokens, INVALID, "page_tokens = 0", a->page_tokens = 0)                 \
    X(step, pages, INVALID, "pages = 0", a->pages = 0)                                   \
    X(step, slots_overflow, INVALID, "pages = |64 tokens overflow",                      \
      a->pages = INT64_MAX / 63)                                                         \
    X(step, records, OK, "", give_records(a))                                            \
    X(step, records_alone, INVALID, "records at |turn at (nil)|all four or none",        \
      give_records(a);                                                                   \
      a->turn.data = NULL)                                                               \
    X(step, kept_alone, INVALID, "records at (nil)|all four or none", give_records(a);   \
      a->records.data = NULL)                                                            \
    X(step, records_of_3, INVALID, "records: N = 3|power of 2", give_records(a);         \
      a->records.shape[0] = 3)                                                           \
    X(step, records_narrow, INVALID, "records: C = 1036|R = 4 requests has 1040",        \
      give_records(a);                                                                   \
      a->records.shape[1] = 1036)                                                        \
    X(step, records_apart, INVALID, "records: rows 4168 bytes apart|16",                 \
      give_records(a);                                                                   \
      a->records.stride[0] = 1042)                                                       \
    X(step, kept_short, INVALID, "table at |not within kept, 319", give_records(a);      \
      a->kept.shape[0] = 319)                                                            \
    X(step, turn_of_1, INVALID, "turn: ", give_records(a); a->turn.shape[0] = 1)         \
    X(synth, right, OK, "", )                                                            \
    X(synth, f32, OK, "", a->out.dtype = RFN_F32)                                        \
    X(synth, amplitude_of_0, INVALID, "amplitude: 0", a->amplitude = 0)                  \
    X(synth, amplitude_negative, INVALID, "amplitude: -1", a->amplitude = -1)            \
    X(synth, amplitude_nan, INVALID, "amplitude: ", a->amplitude = NAN)                  \
    X(synth, amplitude_infinite, INVALID, "amplitude: inf", a->amplitude = INFINITY)     \
    X(synth, amplitude_subnormal, INVALID, "amplitude: ", a->amplitude = 0x1p-112f)      \
    X(synth, keys, INVALID, "keys: T = 3, but out: T = 4", a->keys.shape[0] = 3)         \
    X(synth, dtype, INVALID, "out: dtype e4m3, but f32 or bf16",                         \
      a->out.dtype = RFN_E4M3)                                                           \
    X(synth, row_alignment, INVALID, "out: rows 1160 bytes apart|16",                    \
      a->out.stride[0] = 580)                                                            \
    X(gather, right, OK, "", )                                                           \
    X(gather, bound_of_all, OK, "", a->bound = 300)                                      \
    X(gather, requests_given, OK, "",                                                    \
      a->requests = rfn_tensor_of(memory, RFN_I32, 1, 0, 0, 0))                          \
    X(gather, no_rows, OK, "", a->keys.shape[0] = a->scales.shape[0] = 0;                \
      a->keys.data = a->scales.data = NULL)                                              \
    X(gather, no_requests, OK, "", a->table.shape[0] = 0; a->table.data = NULL;          \
      a->starts.shape[0] = 1)                                                            \
    X(gather, capacity, INVALID, "bound = 301, but keys: N = 300", a->bound = 301)       \
    X(gather, bound_below_0, INVALID, "bound = -1, but keys: N = 300", a->bound = -1)    \
    X(gather, rows_past_i32, INVALID, "bound = 3000000000|2147483647",                   \
      a->keys.shape[0] = a->scales.shape[0] = 3000000000)                                \
    X(gather, starts_short, INVALID, "starts: 4 values, but table: R = 4 needs 5",       \
      a->starts.shape[0] = 4)                                                            \
    X(gather, starts_dtype, INVALID, "starts: dtype i64, but i32",                       \
      a->starts.dtype = RFN_I64)                                                         \
    X(gather, no_starts, INVALID, "starts: not given", a->starts.data = NULL)            \
    X(gather, width, INVALID, "keys: D = 64, but index_fp8_132 has 128",                 \
      a->keys.shape[1] = 64)                                                             \
    X(gather, rows, INVALID, "scales: N = 299, but keys: N = 300",                       \
      a->scales.shape[0] = 299)                                                          \
    X(gather, keys_dtype, INVALID, "keys: dtype u8, but e4m3", a->keys.dtype = RFN_U8)   \
    X(gather, keys_alignment, INVALID, "keys: rows 136 bytes apart|16",                  \
      a->keys.stride[0] = 136)                                                           \
    X(gather, overlap, INVALID, "keys: stride 64|128", a->keys.stride[0] = 64)           \
    X(gather, format, INVALID, "pool: format latent_fp8_656, but index_fp8_132",         \
      a->pool.format = RFN_LATENT_FP8_656)

#define X(kind, name, status, parts, ...)                                                \
    static void spoil_##kind##_##name(union args *all)                                   \
    {                                                                                    \
        struct rfn_op_args_##kind *a = (void *)all;                                      \
        (void)a;                                                                         \
        __VA_ARGS__;                                                                     \
    }
#define rfn_op_args_kv rfn_kv_pack_args
#define rfn_op_args_topk rfn_index_topk_args
#define rfn_op_args_mla rfn_sparse_mla_args
#define rfn_op_args_ipack rfn_index_pack_args
#define rfn_op_args_iquery rfn_index_query_pack_args
#define rfn_op_args_logits rfn_index_logits_args
#define rfn_op_args_combine rfn_mla_combine_args
#define rfn_op_args_step rfn_step_update_args
#define rfn_op_args_synth rfn_synth_fill_args
#define rfn_op_args_gather rfn_index_gather_args
SPOILED(X)
#undef X

static const struct contract
{
    const struct rfn_op *op;
    void (*make)(union args *);
    const char *name;
    enum rfn_status status;
    const char *parts; /* separated by '|' */
    void (*spoil)(union args *);
} contracts[] = {
#define op_kv &rfn_op_kv_pack
#define op_topk &rfn_op_index_topk
#define op_mla &rfn_op_sparse_mla
#define op_ipack &rfn_op_index_pack
#define op_iquery &rfn_op_index_query_pack
#define op_logits &rfn_op_index_logits
#define op_combine &rfn_op_mla_combine
#define op_step &rfn_op_step_update
#define op_synth &rfn_op_synth_fill
#define op_gather &rfn_op_index_gather
#define X(kind, name, status, parts, ...)                                                \
    { op_##kind, make_##kind, #name, RFN_##status, parts, spoil_##kind##_##name },
    SPOILED(X)
#undef X
};

static int has_parts(const char *line, const char *parts)
{
    while (*parts)
    {
        char part[96];
        size_t n = strcspn(parts, "|");
        snprintf(part, sizeof part, "%.*s", (int)n, parts);
        if (!strstr(line, part))
            return 0;
        parts += n + (parts[n] == '|');
    }
    return 1;
}

/* ---- pools --------------------------------------------------------------------------- */

static void check_pool_views(struct harness *h)
{
    static const struct
    {
        const char *name;
        int64_t shape[4];
        int dims, right;
    } views[] = {
        { "[10,64,656]", { 10, 64, 656 }, 3, 1 },
        { "[10,1,64,656]", { 10, 1, 64, 656 }, 4, 1 },
        { "[10,64,1,656]", { 10, 64, 1, 656 }, 4, 1 },
        { "[10,2,32,656]", { 10, 2, 32, 656 }, 4, 0 },
        { "[10,64,576]", { 10, 64, 576 }, 3, 0 },
        { "[640,656]", { 640, 656 }, 2, 0 },
    };
    for (size_t i = 0; i < CK_COUNT(views); i++)
    {
        const int64_t *s = views[i].shape;
        struct rfn_tensor t = rfn_tensor_of(memory, RFN_U8, s[0], s[1], s[2], s[3]);
        struct rfn_pool pool = { 0 };
        enum rfn_status status = rfn_pool_view(&t, RFN_LATENT_FP8_656, &pool);
        int right = views[i].right
                        ? status == RFN_OK && pool.pages == 10 &&
                              pool.page_tokens == 64 && pool.page_stride_bytes == 41984
                        : status == RFN_INVALID && pool.data == NULL;
        harness_check(h, views[i].name, right, "%s: %s", rfn_status_name(status),
                      rfn_last_error());
    }
}

/* ---- number formats ------------------------------------------------------------------ */

/* The vectorisable conversions against the plain ones of the reference. */
static void check_numbers(struct harness *h)
{
    int e4m3 = 0, to_e4m3 = 0, to_bf16 = 0, up = 0;
    for (int code = 0; code < 256; code++)
    {
        double x = rfn_e4m3_to_f32((uint8_t)code), y = ref_e4m3_value((uint8_t)code);
        e4m3 += !(x == y || (isnan(x) && isnan(y))) ||
                (!isnan(x) && !signbit(x) != !signbit(y));
    }
    /* Every bf16, and f32 patterns that hit all exponents and odd low bits. */
    for (uint64_t u = 0; u < (uint64_t)1 << 32; u += u % 3 ? 65535 - 4099 : 4099)
    {
        float x = rfn_f32_from_bits((uint32_t)u);
        to_e4m3 += rfn_f32_to_e4m3(x) != ref_e4m3_code(x);
        to_bf16 += !isnan(x) && rfn_f32_to_bf16(x) != ref_bf16_code(x);
        to_bf16 += isnan(x) && !isnan(ref_bf16_value(rfn_f32_to_bf16(x)));
        int exponent;
        double fraction = frexp(x, &exponent);
        if (isfinite(x) && x >= FLT_MIN)
            up += rfn_f32_to_ue8m0_up(x) != exponent - (fraction == 0.5) + 127;
    }
    /* Every tie between two codes, and its neighbours. */
    for (int code = 0; code < 126; code++)
    {
        float low = rfn_e4m3_to_f32((uint8_t)code),
              high = rfn_e4m3_to_f32((uint8_t)(code + 1));
        float tie = (low + high) / 2;
        float around[] = { nextafterf(tie, 0), tie, nextafterf(tie, 1000) };
        for (int i = 0; i < 3; i++)
            to_e4m3 += rfn_f32_to_e4m3(around[i]) != ref_e4m3_code(around[i]) ||
                       rfn_f32_to_e4m3(-around[i]) != ref_e4m3_code(-around[i]);
    }
    harness_check(h, "e4m3 is read exactly", e4m3 == 0, "%d codes differ", e4m3);
    harness_check(h, "e4m3 is rounded to nearest even, saturated", to_e4m3 == 0,
                  "%d differ", to_e4m3);
    harness_check(h, "bf16 is rounded to nearest even", to_bf16 == 0, "%d differ",
                  to_bf16);
    harness_check(h, "ue8m0 is rounded up", up == 0, "%d differ", up);
}

void ck_contracts(struct harness *h, const char *op)
{
    for (size_t i = 0; i < CK_COUNT(contracts); i++)
    {
        const struct contract *c = &contracts[i];
        if (op && strcmp(op, c->op->name) != 0)
            continue;
        union args args;
        char name[128];
        memset(&args, 0, sizeof args);
        c->make(&args);
        c->spoil(&args);
        enum rfn_status status = rfn_op_check(c->op, &args);
        snprintf(name, sizeof name, "%s contract %s", c->op->name, c->name);
        harness_check(h, name,
                      status == c->status &&
                          (status == RFN_OK || has_parts(rfn_last_error(), c->parts)),
                      "%s \"%s\", but %s and \"%s\" are right", rfn_status_name(status),
                      status == RFN_OK ? "" : rfn_last_error(),
                      rfn_status_name(c->status), c->parts);
    }
    if (op)
        return;
    check_numbers(h);
    ck_registry(h);
    check_pool_views(h);
}
