/* Binding the caches, inputs and outputs of a layer: checked once, here. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/call.h"

#include <inttypes.h>

/* One tensor of struct rfn_layer_io and what it has to be; an extent of 0 ends the shape. */
struct io_row
{
    const char *name;
    const struct rfn_tensor *view;
    uint32_t dtypes;
    int64_t inner[2]; /* extents behind T */
    int32_t indexed;  /* of layers with an indexer of their own */
    int32_t optional;
};

static enum rfn_status check_io_row(const struct io_row *row, int32_t layer, int64_t T,
                                    int own)
{
    const struct rfn_tensor *t = row->view;
    int32_t dims = 1 + (row->inner[0] > 0) + (row->inner[1] > 0);
    if (row->indexed && !own)
        return t->data ? RFN_FAIL(RFN_INVALID,
                                  "layer %d: %s is given, but the layer uses the choice "
                                  "of another one",
                                  layer, row->name)
                       : RFN_OK;
    if (!t->data)
        return row->optional
                   ? RFN_OK
                   : RFN_FAIL(RFN_INVALID, "layer %d: %s is not given", layer, row->name);
    unsigned dtype = (unsigned)t->dtype;
    if (dtype >= RFN_DTYPES || !(row->dtypes >> dtype & 1u))
        return RFN_FAIL(RFN_INVALID, "layer %d: %s is %s, but %s is needed", layer,
                        row->name, rfn_dtype_name(t->dtype),
                        row->dtypes & RFN_DTYPE_BIT(RFN_BF16)
                            ? row->dtypes & RFN_DTYPE_BIT(RFN_F32) ? "bf16 or f32"
                                                                   : "bf16"
                            : "f32");
    if (t->dims != dims)
        return RFN_FAIL(RFN_INVALID, "layer %d: %s has %d dimensions, but %d are needed",
                        layer, row->name, t->dims, dims);
    if (t->shape[0] < T)
        return RFN_FAIL(RFN_INVALID,
                        "layer %d: %s has %" PRId64 " rows, but the limits are %" PRId64,
                        layer, row->name, t->shape[0], T);
    for (int32_t i = 1; i < dims; i++)
        if (t->shape[i] != row->inner[i - 1])
            return RFN_FAIL(RFN_INVALID,
                            "layer %d: %s has extent %" PRId64
                            " in dimension %d, but the geometry has %" PRId64,
                            layer, row->name, t->shape[i], i, row->inner[i - 1]);
    return RFN_OK;
}

static enum rfn_status check_io(const struct rfn_attention *a, int32_t layer,
                                const struct rfn_layer_io *io, int own)
{
    const struct rfn_geometry *g = &a->geometry;
    const uint32_t bf16 = RFN_DTYPE_BIT(RFN_BF16), f32 = RFN_DTYPE_BIT(RFN_F32);
    const int32_t qk = rfn_format_query(g->latent_format)->qk_elems;
    const struct io_row rows[] = {
        { "q", &io->q, bf16, { g->heads, qk }, 0, 0 },
        { "kv", &io->kv, bf16, { g->latent_elems, 0 }, 0, 0 },
        { "k_rope", &io->k_rope, bf16, { g->rope_elems, 0 }, 0, 0 },
        { "index_q", &io->index_q, bf16, { g->index_heads, g->index_width }, 1, 0 },
        { "index_w", &io->index_w, bf16 | f32, { g->index_heads, 0 }, 1, 0 },
        { "index_k", &io->index_k, bf16, { g->index_width, 0 }, 1, 0 },
        { "out", &io->out, bf16, { g->heads, g->v_elems }, 0, 0 },
        { "lse", &io->lse, f32, { g->heads, 0 }, 0, 1 },
    };
    enum rfn_status status = RFN_OK;
    for (size_t i = 0; status == RFN_OK && i < RFN_COUNT(rows); i++)
        status = check_io_row(&rows[i], layer, a->rows, own);
    return status;
}

static enum rfn_status check_pool(const struct rfn_attention *a, int32_t layer,
                                  const char *name, const struct rfn_pool *pool,
                                  enum rfn_format format)
{
    const struct rfn_format_info *is = rfn_format_query(pool->format);
    if (!pool->data)
        return RFN_FAIL(RFN_INVALID, "layer %d: the %s pool is not given", layer, name);
    if (pool->format != format)
        return RFN_FAIL(
            RFN_INVALID, "layer %d: the %s pool is %s, but the geometry has %s", layer,
            name, is ? is->name : "of no known format", rfn_format_query(format)->name);
    if (pool->page_tokens != a->geometry.page_tokens)
        return RFN_FAIL(
            RFN_INVALID,
            "layer %d: the %s pool has pages of %d tokens, but the geometry %d", layer,
            name, pool->page_tokens, a->geometry.page_tokens);
    if (pool->pages != a->limits.pages)
        return RFN_FAIL(RFN_INVALID,
                        "layer %d: the %s pool has %" PRId64
                        " pages, but the limits have %" PRId64,
                        layer, name, pool->pages, a->limits.pages);
    return RFN_OK;
}

static enum rfn_status only_check(struct rfn_stream *stream, const struct rfn_op *op,
                                  const void *args)
{
    (void)stream;
    return rfn_op_check(op, args);
}

enum rfn_status rfn_attention_bind(struct rfn_attention *attention, int32_t layer,
                                   const struct rfn_layer_caches *caches,
                                   const struct rfn_layer_io *io)
{
    struct rfn_attention *a = attention;
    if (!a || !caches || !io)
        return RFN_FAIL(RFN_INVALID, "attention_bind: %s is NULL",
                        !a        ? "attention"
                        : !caches ? "caches"
                                  : "io");
    if (layer < 0 || layer >= a->geometry.layers)
        return RFN_FAIL(RFN_NOT_FOUND, "layer %d of a geometry with %d layers", layer,
                        a->geometry.layers);
    struct rfn_layer bound = a->layer[layer];
    int own = bound.source == layer;
    enum rfn_status status =
        check_pool(a, layer, "latent", &caches->latent, a->geometry.latent_format);
    if (status == RFN_OK && own)
        status = check_pool(a, layer, "index", &caches->index, a->geometry.index_format);
    if (status == RFN_OK && !own && caches->index.data)
        status = RFN_FAIL(RFN_INVALID,
                          "layer %d: an index pool is given, but the layer uses the "
                          "choice of layer %d",
                          layer, bound.source);
    if (status == RFN_OK)
        status = check_io(a, layer, io, own);
    if (status != RFN_OK)
        return status;
    bound.caches = *caches;
    bound.io = *io;
    bound.bound = 1;
    /* What is left (strides, alignment) the ops themselves know. */
    const struct rfn_bucket most = { a->limits.requests, a->limits.next_n, 0 };
    status = rfn_layer_walk(a, &bound, &most, NULL, only_check);
    if (status == RFN_OK)
        a->layer[layer] = bound;
    return status;
}
