/* A layer's step as a list of ops. Every count comes from the bucket, none from live data. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/guard.h"
#include "runtime/range.h"

/* Rows [from, from + n) of a view. */
static struct rfn_tensor rows_of(const struct rfn_tensor *t, int64_t from, int64_t n)
{
    struct rfn_tensor rows = *t;
    if (t->data)
        rows.data = (char *)t->data + from * t->stride[0] * rfn_dtype_bytes(t->dtype);
    rows.shape[0] = n;
    return rows;
}

struct rfn_tensor rfn_chosen(const struct rfn_attention *attention,
                             const struct rfn_layer *layer, int64_t rows)
{
    const struct rfn_attention *a = attention;
    const int64_t K = a->geometry.topk;
    int32_t choice = a->layer[layer->source].choice;
    return rfn_tensor_of(a->at.chosen + choice * a->rows * K, RFN_I32, rows, K, 0, 0);
}

/* What the ops of one walk share. */
struct walk
{
    const struct rfn_attention *a;
    const struct rfn_layer *layer;
    int64_t T;
    int short_context;
    struct rfn_tensor request, context, slots, live, chosen, q8, w8;
    struct rfn_bounds bounds;
    struct rfn_stream *stream;
    rfn_emit_fn *emit;
};

static enum rfn_status pack(const struct walk *w)
{
    const struct rfn_geometry *g = &w->a->geometry;
    const struct rfn_layer_io *io = &w->layer->io;
    const struct rfn_kv_pack_args kv = {
        .kv = rows_of(&io->kv, 0, w->T),
        .k_rope = rows_of(&io->k_rope, 0, w->T),
        .slots = w->slots,
        .live = w->live,
        .pool = w->layer->caches.latent,
        .scale = g->latent_scale,
        .bounds = w->bounds,
    };
    enum rfn_status status = w->emit(w->stream, &rfn_op_kv_pack, &kv);
    if (status != RFN_OK || !w->layer->caches.index.data)
        return status;
    const struct rfn_index_pack_args index = {
        .k = rows_of(&io->index_k, 0, w->T),
        .slots = w->slots,
        .live = w->live,
        .pool = w->layer->caches.index,
        .scale = g->index_scale,
        .bounds = w->bounds,
    };
    return w->emit(w->stream, &rfn_op_index_pack, &index);
}

/* Scores and selection of rows [from, from + n). The count of live rows speaks of rows from
 * 0 on; it holds for a later chunk too: one with live rows has fewer rows than stand in
 * front of it, so all count as live, and the padding's context of 0 keeps rows inert. */
static enum rfn_status choose_rows(const struct walk *w, int64_t from, int64_t n,
                                   struct rfn_tensor logits)
{
    const struct rfn_attention *a = w->a;
    const struct rfn_tensor table =
        rfn_tensor_of(a->at.table, RFN_I32, a->limits.requests, a->width, 0, 0);
    const struct rfn_tensor request = rows_of(&w->request, from, n);
    const struct rfn_tensor context = rows_of(&w->context, from, n);
    const struct rfn_index_logits_args score = {
        .q8 = rows_of(&w->q8, from, n),
        .w8 = rows_of(&w->w8, from, n),
        .pool = w->layer->caches.index,
        .table = table,
        .request = request,
        .lens = context,
        .live = w->live,
        .logits = logits,
        .bounds = w->bounds,
    };
    const struct rfn_index_topk_args topk = {
        .logits = logits,
        .lens = context,
        .live = w->live,
        .table = table,
        .request = request,
        .slots = rows_of(&w->chosen, from, n),
        .page_tokens = a->geometry.page_tokens,
        .pages = a->limits.pages,
        .bounds = w->bounds,
    };
    enum rfn_status status = RFN_OK;
    if (!w->short_context)
        status = w->emit(w->stream, &rfn_op_index_logits, &score);
    return status == RFN_OK ? w->emit(w->stream, &rfn_op_index_topk, &topk) : status;
}

static enum rfn_status choose(const struct walk *w)
{
    const struct rfn_attention *a = w->a;
    const struct rfn_geometry *g = &a->geometry;
    const struct rfn_index_query_pack_args query = {
        .q = rows_of(&w->layer->io.index_q, 0, w->T),
        .w = rows_of(&w->layer->io.index_w, 0, w->T),
        .live = w->live,
        .q8 = w->q8,
        .w8 = w->w8,
        .scale = g->index_scale,
        .bounds = w->bounds,
    };
    int64_t S = a->limits.context, row = a->row_logits, most = a->logits_rows;
    enum rfn_status status = RFN_OK;
    if (!w->short_context)
        status = w->emit(w->stream, &rfn_op_index_query_pack, &query);
    else if (g->topk < S)
    {
        /* Contexts up to K select everything unread: a view of K columns is enough. */
        S = row = g->topk;
        most = a->logits_rows * a->row_logits / row;
    }
    for (int64_t from = 0; status == RFN_OK && from < w->T; from += most)
    {
        int64_t n = w->T - from < most ? w->T - from : most;
        struct rfn_tensor logits = rfn_tensor_of(a->at.logits, RFN_F32, n, S, 0, 0);
        logits.stride[0] = row;
        status = choose_rows(w, from, n, logits);
    }
    return status;
}

static enum rfn_status attend(const struct walk *w)
{
    const struct rfn_layer_io *io = &w->layer->io;
    const struct rfn_sparse_mla_args args = {
        .q = rows_of(&io->q, 0, w->T),
        .live = w->live,
        .source = { { .pool = w->layer->caches.latent,
                      .indices = w->chosen,
                      .lens = w->context } }, /* no row has more choices than context */
        .out = rows_of(&io->out, 0, w->T),
        .lse = rows_of(&io->lse, 0, w->T),
        .scale = w->a->geometry.scale,
        .batch_invariant = w->a->limits.batch_invariant,
        .bounds = w->bounds,
    };
    return w->emit(w->stream, &rfn_op_sparse_mla, &args);
}

enum rfn_status rfn_layer_walk(const struct rfn_attention *attention,
                               const struct rfn_layer *layer,
                               const struct rfn_bucket *bucket, struct rfn_stream *stream,
                               rfn_emit_fn *emit)
{
    const struct rfn_attention *a = attention;
    const struct rfn_geometry *g = &a->geometry;
    const int64_t T = (int64_t)bucket->requests * bucket->next_n;
    const struct walk w = {
        .a = a,
        .layer = layer,
        .T = T,
        .short_context = bucket->short_context,
        .request = rfn_tensor_of(a->at.request, RFN_I32, T, 0, 0, 0),
        .context = rfn_tensor_of(a->at.context, RFN_I32, T, 0, 0, 0),
        .slots = rfn_tensor_of(a->at.slots, RFN_I64, T, 0, 0, 0),
        .live = rfn_tensor_of(a->at.live, RFN_I32, 1, 0, 0, 0),
        .chosen = rfn_chosen(a, layer, T),
        .q8 = rfn_tensor_of(a->at.q8, RFN_E4M3, T, g->index_heads, g->index_width, 0),
        .w8 = rfn_tensor_of(a->at.w8, RFN_F32, T, g->index_heads, 0, 0),
        .bounds = { .header = rfn_tensor_of(a->at.bounds, RFN_I64, RFN_BOUNDS, 0, 0, 0),
                    .rows = T,
                    .next_n = bucket->next_n },
        .stream = stream,
        .emit = emit,
    };
    enum rfn_status status = pack(&w);
    if (status == RFN_OK && layer->caches.index.data)
        status = choose(&w);
    return status == RFN_OK ? attend(&w) : status;
}

enum rfn_status rfn_attention_forward(struct rfn_attention *attention,
                                      struct rfn_stream *stream, int32_t layer,
                                      const struct rfn_bucket *bucket)
{
    const struct rfn_attention *a = attention;
    if (!a)
        return RFN_FAIL(RFN_INVALID, "attention_forward: attention is NULL");
    if (layer < 0 || layer >= a->geometry.layers)
        return RFN_FAIL(RFN_NOT_FOUND, "layer %d of a geometry with %d layers", layer,
                        a->geometry.layers);
    RFN_RANGE(RFN_RANGE_FORWARD, layer, 0, 0);
    enum rfn_status status =
        rfn_object_of(stream, RFN_OBJECT_STREAM, "stream", a->device);
    if (status == RFN_OK)
        status = rfn_bucket_check(a, bucket);
    if (status != RFN_OK)
        return status;
    if (!a->layer[layer].bound)
        return RFN_FAIL(RFN_NOT_READY, "layer %d of %.64s is not bound", layer,
                        a->geometry.name);
    int32_t source = a->layer[layer].source;
    if (!a->layer[source].bound)
        return RFN_FAIL(
            RFN_NOT_READY,
            "layer %d of %.64s uses the choice of layer %d, which is not bound", layer,
            a->geometry.name, source);
    int runs;
    status = rfn_guard_enqueue(a->device, stream, a->state, bucket, 0, &runs);
    if (status != RFN_OK || bucket->requests == 0)
        return status;
    return rfn_layer_walk(a, &a->layer[layer], bucket, stream, rfn_op_launch);
}
