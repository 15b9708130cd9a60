#include "tools/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t align(int64_t bytes)
{
    return (bytes + ENGINE_ALIGN - 1) / ENGINE_ALIGN * ENGINE_ALIGN;
}

int32_t engine_index_layer(const struct rfn_geometry *geometry, int32_t layer)
{
    return geometry->index_source == NULL ? layer : geometry->index_source[layer];
}

int64_t engine_page_bytes(const struct rfn_geometry *geometry)
{
    int64_t latent =
        rfn_format_page_bytes(geometry->latent_format, geometry->page_tokens);
    int64_t index = rfn_format_page_bytes(geometry->index_format, geometry->page_tokens);
    int64_t bytes = 0;
    for (int32_t l = 0; l < geometry->layers; l++)
    {
        bytes += latent + (engine_index_layer(geometry, l) == l ? index : 0);
    }
    return bytes;
}

/* ---- sizes ------------------------------------------------------------------------- */

static void size_rows(struct engine *engine)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    struct engine_sizes *sizes = &engine->sizes;
    int64_t qk = geometry->latent_elems + geometry->rope_elems;
    int64_t rows = engine->rows;
    const int64_t elems[SYNTH_KINDS] = {
        [SYNTH_ROW] = qk,
        [SYNTH_INDEX_KEY] = geometry->index_width,
        [SYNTH_QUERY] = geometry->heads * qk,
        [SYNTH_INDEX_QUERY] = (int64_t)geometry->index_heads * geometry->index_width,
        [SYNTH_INDEX_WEIGHT] = geometry->index_heads,
    };
    for (int32_t k = 0; k < SYNTH_KINDS; k++)
    {
        /* Rows of bf16 begin at multiples of 16 bytes. */
        engine->width[k] =
            (struct engine_width) { .elems = elems[k], .stride = (elems[k] + 7) / 8 * 8 };
    }
    sizes->chosen_bytes = (int64_t)geometry->topk * 4;
    sizes->out_bytes = (int64_t)geometry->heads * geometry->v_elems * 2;
    sizes->lse_bytes = (int64_t)geometry->heads * 4;
    sizes->out_offset = align(rows * sizes->chosen_bytes);
    sizes->lse_offset = sizes->out_offset + align(rows * sizes->out_bytes);
    sizes->layer_bytes = sizes->lse_offset + align(rows * sizes->lse_bytes);
    sizes->latent_page =
        rfn_format_page_bytes(geometry->latent_format, geometry->page_tokens);
    sizes->index_page =
        rfn_format_page_bytes(geometry->index_format, geometry->page_tokens);
    sizes->pages = sizes->latent_page + sizes->index_page;
    sizes->live_offset = rows * 8;
    sizes->rejected_offset = sizes->live_offset + 8;
    sizes->delta_bytes = sizes->rejected_offset + align(engine->desc.requests * 4);
}

/* ---- memory ------------------------------------------------------------------------ */

static enum rfn_status take(struct engine *engine, enum rfn_memory_kind kind,
                            int64_t bytes, void *ret_address)
{
    void *address = NULL;
    bytes += kind == RFN_MEMORY_DEVICE && engine->desc.movable
                 ? ENGINE_MOVES * ENGINE_ALIGN
                 : 0;
    enum rfn_status status = rfn_memory_alloc(engine->desc.device, kind, bytes, &address);
    if (status == RFN_OK)
    {
        memcpy(ret_address, &address, sizeof(address));
        *(kind == RFN_MEMORY_DEVICE ? &engine->device_bytes : &engine->pinned_bytes) +=
            bytes;
    }
    return status;
}

#define TAKE(kind, bytes, ret) ENGINE_TRY(take(engine, RFN_MEMORY_##kind, bytes, ret))

static enum rfn_status take_pool(struct engine *engine, enum rfn_format format,
                                 struct rfn_pool *ret_pool)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    int64_t page_bytes = rfn_format_page_bytes(format, geometry->page_tokens);
    int64_t bytes = engine->desc.pages * page_bytes;
    *ret_pool = (struct rfn_pool) {
        .format = format,
        .page_tokens = geometry->page_tokens,
        .pages = engine->desc.pages,
        .page_stride_bytes = page_bytes,
    };
    TAKE(DEVICE, bytes, &ret_pool->data);
    /* A row that nobody wrote reads as NaN. */
    return rfn_set_async(engine->stream, ret_pool->data, 0xff, bytes);
}

static enum rfn_status take_output(struct engine *engine, struct engine_output *output)
{
    if (engine->desc.verify)
    {
        TAKE(DEVICE, engine->rows * engine->sizes.chosen_bytes, &output->chosen);
    }
    TAKE(DEVICE, engine->rows * engine->sizes.out_bytes, &output->out);
    TAKE(DEVICE, engine->rows * engine->sizes.lse_bytes, &output->lse);
    return RFN_OK;
}

static enum rfn_status take_layer(struct engine *engine, int32_t l)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    struct engine_layer *layer = &engine->layer[l];
    int indexed = engine_index_layer(geometry, l) == l;
    ENGINE_TRY(take_pool(engine, geometry->latent_format, &layer->caches.latent));
    if (indexed)
    {
        ENGINE_TRY(take_pool(engine, geometry->index_format, &layer->caches.index));
    }
    for (int32_t k = 0; k < SYNTH_KINDS; k++)
    {
        if (indexed || k == SYNTH_ROW || k == SYNTH_QUERY)
        {
            TAKE(DEVICE, engine->rows * engine->width[k].stride * 2, &layer->input[k]);
        }
    }
    ENGINE_TRY(take_output(engine, &layer->replay));
    return engine->desc.verify ? take_output(engine, &layer->eager) : RFN_OK;
}

static enum rfn_status take_verify(struct engine *engine)
{
    const struct engine_sizes *sizes = &engine->sizes;
    int64_t layers = engine->desc.geometry->layers;
    for (int32_t i = 0; i < 2; i++)
    {
        TAKE(PINNED, layers * sizes->layer_bytes, &engine->got[i]);
        TAKE(PINNED, layers * engine->rows * sizes->pages, &engine->written[i]);
        TAKE(PINNED, layers * sizes->pages, &engine->padding[i]);
        /* A layer without an index pool leaves its part as it is. */
        memset(engine->written[i], 0, (size_t)(layers * engine->rows * sizes->pages));
        memset(engine->padding[i], 0, (size_t)(layers * sizes->pages));
    }
    return RFN_OK;
}

static enum rfn_status take_all(struct engine *engine)
{
    const struct engine_desc *desc = &engine->desc;
    struct rfn_device *device = desc->device;
    ENGINE_TRY(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &engine->stream));
    ENGINE_TRY(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &engine->other));
    TAKE(DEVICE, ENGINE_ALIGN, &engine->scratch);
    TAKE(PINNED, ENGINE_ALIGN, &engine->scratch_pinned);
    if (desc->plant_bytes > 0)
    {
        TAKE(DEVICE, desc->plant_bytes, &engine->plant_target);
    }
    TAKE(DEVICE, engine->sizes.delta_bytes, &engine->delta);
    TAKE(DEVICE, ENGINE_CHUNK_TOKENS * 16, &engine->chunk_control);
    for (int32_t k = SYNTH_ROW; k <= SYNTH_INDEX_KEY; k++)
    {
        TAKE(DEVICE, ENGINE_CHUNK_TOKENS * engine->width[k].stride * 2,
             &engine->chunk_input[k]);
    }
    for (int32_t i = 0; i < ENGINE_RING; i++)
    {
        TAKE(PINNED, engine->sizes.delta_bytes, &engine->ring[i].data);
        ENGINE_TRY(rfn_event_create(device, &engine->ring[i].event));
        TAKE(PINNED, ENGINE_CHUNK_TOKENS * 16, &engine->chunk[i].data);
        ENGINE_TRY(rfn_event_create(device, &engine->chunk[i].event));
    }
    for (int32_t l = 0; l < desc->geometry->layers; l++)
    {
        ENGINE_TRY(take_layer(engine, l));
    }
    return desc->verify ? take_verify(engine) : RFN_OK;
}

/* ---- attention --------------------------------------------------------------------- */

static struct rfn_tensor view(void *data, struct engine_width width, int64_t rows,
                              int64_t d1, int64_t d2)
{
    struct rfn_tensor tensor = rfn_tensor_of(data, RFN_BF16, rows, d1, d2, 0);
    tensor.stride[0] = width.stride;
    return data != NULL ? tensor : (struct rfn_tensor) { 0 };
}

static struct rfn_layer_io io_of(const struct engine *engine, int32_t l, int eager)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    const struct engine_layer *layer = &engine->layer[l];
    const struct engine_output *output = eager ? &layer->eager : &layer->replay;
    const struct engine_width *width = engine->width;
    int64_t latent = geometry->latent_elems;
    int64_t rope = geometry->rope_elems;
    int64_t rows = engine->rows;
    uint16_t *row = layer->input[SYNTH_ROW];
    return (struct rfn_layer_io) {
        .q = view(layer->input[SYNTH_QUERY], width[SYNTH_QUERY], rows, geometry->heads,
                  latent + rope),
        .kv = view(row, width[SYNTH_ROW], rows, latent, 0),
        .k_rope = view(row + latent, width[SYNTH_ROW], rows, rope, 0),
        .index_q = view(layer->input[SYNTH_INDEX_QUERY], width[SYNTH_INDEX_QUERY], rows,
                        geometry->index_heads, geometry->index_width),
        .index_w = view(layer->input[SYNTH_INDEX_WEIGHT], width[SYNTH_INDEX_WEIGHT], rows,
                        geometry->index_heads, 0),
        .index_k = view(layer->input[SYNTH_INDEX_KEY], width[SYNTH_INDEX_KEY], rows,
                        geometry->index_width, 0),
        .out = rfn_tensor_of(output->out, RFN_BF16, rows, geometry->heads,
                             geometry->v_elems, 0),
        .lse = rfn_tensor_of(output->lse, RFN_F32, rows, geometry->heads, 0, 0),
    };
}

enum rfn_status engine_attention_create(const struct engine *engine, int eager,
                                        struct rfn_attention **ret_attention)
{
    const struct engine_desc *desc = &engine->desc;
    struct rfn_attention_limits limits = {
        .requests = desc->requests,
        .next_n = desc->next_n,
        .context = desc->context_tokens,
        .pages = desc->pages,
        .batch_invariant = desc->batch_invariant,
    };
    ENGINE_TRY(
        rfn_attention_create(desc->device, desc->geometry, &limits, ret_attention));
    for (int32_t l = 0; l < desc->geometry->layers; l++)
    {
        struct rfn_layer_io io = io_of(engine, l, eager);
        ENGINE_TRY(rfn_attention_bind(*ret_attention, l, &engine->layer[l].caches, &io));
    }
    return RFN_OK;
}

static enum rfn_status set_up(struct engine *engine)
{
    const struct engine_desc *desc = &engine->desc;
    for (int32_t i = 0; i < (desc->verify ? 2 : 1); i++)
    {
        struct rfn_step_view step;
        ENGINE_TRY(engine_attention_create(engine, i, &engine->attention[i]));
        ENGINE_TRY(rfn_attention_view(engine->attention[i], 0, &step));
        engine->device_bytes += step.workspace_bytes;
    }
    struct rfn_ladder_desc ladder = {
        .bucket = desc->bucket,
        .buckets = desc->buckets,
        .next_n = desc->next_n,
        .record = engine_record,
        .ctx = engine,
    };
    struct rfn_ladder_info info;
    ENGINE_TRY(rfn_ladder_create(engine->attention[0], &ladder, &engine->ladder));
    ENGINE_TRY(rfn_ladder_query(engine->ladder, &info));
    engine->buckets_max = 2 * info.buckets; /* in both length classes */
    engine->bucket = calloc((size_t)engine->buckets_max, sizeof(engine->bucket[0]));
    return engine->bucket != NULL
               ? RFN_OK
               : rfn_error(RFN_NOMEM, "no memory for %d buckets", info.buckets);
}

enum rfn_status engine_create(const struct engine_desc *desc, struct engine **ret_engine)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    struct engine_layer *layer = calloc((size_t)desc->geometry->layers, sizeof(*layer));
    if (engine == NULL || layer == NULL)
    {
        free(engine);
        free(layer);
        return rfn_error(RFN_NOMEM, "no memory for the engine");
    }
    engine->desc = *desc;
    engine->layer = layer;
    engine->rows = desc->requests * desc->next_n;
    size_rows(engine);
    enum rfn_status status = take_all(engine);
    if (status == RFN_OK)
    {
        status = set_up(engine);
    }
    if (status != RFN_OK)
    {
        char why[512];
        snprintf(why, sizeof(why), "%s", rfn_last_error());
        engine_destroy(&engine);
        return rfn_error(status, "%s", why);
    }
    *ret_engine = engine;
    return RFN_OK;
}

/* ---- the end ----------------------------------------------------------------------- */

static void keep_first(enum rfn_status *first, enum rfn_status status)
{
    *first = *first == RFN_OK ? status : *first;
}

static void give(struct engine *engine, void *address, enum rfn_status *first)
{
    keep_first(first, rfn_memory_free(engine->desc.device, address));
}

static void give_layer(struct engine *engine, struct engine_layer *layer,
                       enum rfn_status *first)
{
    void *const all[] = { layer->caches.latent.data, layer->caches.index.data,
                          layer->replay.chosen,      layer->replay.out,
                          layer->replay.lse,         layer->eager.chosen,
                          layer->eager.out,          layer->eager.lse };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    {
        give(engine, all[i], first);
    }
    for (int32_t k = 0; k < SYNTH_KINDS; k++)
    {
        give(engine, layer->input[k], first);
    }
}

enum rfn_status engine_destroy(struct engine **engine_)
{
    struct engine *engine = *engine_;
    enum rfn_status first = RFN_OK;
    if (engine == NULL)
    {
        return RFN_OK;
    }
    if (engine->stream != NULL)
    {
        keep_first(&first, rfn_stream_sync(engine->stream));
    }
    if (engine->ladder != NULL)
    {
        keep_first(&first, rfn_ladder_destroy(&engine->ladder));
    }
    keep_first(&first, rfn_attention_destroy(&engine->elsewhere));
    for (int32_t i = 0; i < 2; i++)
    {
        keep_first(&first, rfn_attention_destroy(&engine->attention[i]));
        give(engine, engine->got[i], &first);
        give(engine, engine->written[i], &first);
        give(engine, engine->padding[i], &first);
        give(engine, engine->chunk_input[i], &first);
    }
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        give_layer(engine, &engine->layer[l], &first);
    }
    for (int32_t i = 0; i < ENGINE_RING; i++)
    {
        keep_first(&first, rfn_event_destroy(&engine->ring[i].event));
        keep_first(&first, rfn_event_destroy(&engine->chunk[i].event));
        give(engine, engine->ring[i].data, &first);
        give(engine, engine->chunk[i].data, &first);
    }
    void *const all[] = { engine->scratch, engine->scratch_pinned, engine->plant_target,
                          engine->delta, engine->chunk_control };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    {
        give(engine, all[i], &first);
    }
    keep_first(&first, rfn_stream_destroy(&engine->other));
    keep_first(&first, rfn_stream_destroy(&engine->stream));
    free(engine->bucket);
    free(engine->layer);
    free(engine);
    *engine_ = NULL;
    return first;
}
