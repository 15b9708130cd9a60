#include "tools/engine.h"
#include <stdlib.h>
#include <string.h>

#define ALIGN 256 /* of rfn_memory_alloc, and of every part of a staging copy */

static int64_t align(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

int64_t engine_page_bytes(const struct geometry *geometry)
{
    return rfn_format_page_bytes(geometry->format, geometry->page_tokens) *
           geometry->layers;
}

static void size_rows(struct engine *engine)
{
    const struct geometry *geometry = engine->desc.geometry;
    struct engine_sizes *sizes = &engine->sizes;
    int64_t qk = geometry_qk_elems(geometry);
    int64_t rows = engine->rows;
    sizes->row_bytes = qk * 2;
    sizes->query_bytes = geometry->heads * qk * 2;
    sizes->scores_bytes = engine->columns * 4;
    sizes->table_bytes = (int64_t)geometry_table_pages(geometry) * 4;
    sizes->slots_bytes = (int64_t)geometry->topk * 4;
    sizes->out_bytes = (int64_t)geometry->heads * geometry->v_elems * 2;
    sizes->lse_bytes = (int64_t)geometry->heads * 4;
    sizes->out_offset = align(rows * sizes->slots_bytes);
    sizes->lse_offset = sizes->out_offset + align(rows * sizes->out_bytes);
    sizes->layer_bytes = sizes->lse_offset + align(rows * sizes->lse_bytes);
}

static void lay_out(struct engine *engine)
{
    const struct engine_sizes *sizes = &engine->sizes;
    struct engine_layout *layout = &engine->layout;
    int64_t rows = engine->rows;
    layout->slots = 0;
    layout->lens = align(rows * 8);
    layout->request = layout->lens + align(rows * 4);
    layout->live = layout->request + align(rows * 4);
    layout->control_bytes = layout->live + align(4);
    layout->table = layout->control_bytes;
    layout->layer = layout->table + align(rows * sizes->table_bytes);
    layout->row = 0;
    layout->query = align(rows * sizes->row_bytes);
    layout->scores = layout->query + align(rows * sizes->query_bytes);
    layout->layer_bytes = layout->scores + align(rows * sizes->scores_bytes);
    layout->bytes = layout->layer + engine->desc.geometry->layers * layout->layer_bytes;
}

static enum rfn_status take(struct engine *engine, enum rfn_memory_kind kind,
                            int64_t bytes, void *ret_address)
{
    void *address = NULL;
    enum rfn_status status = rfn_memory_alloc(engine->desc.device, kind, bytes, &address);
    if (status == RFN_OK)
    {
        memcpy(ret_address, &address, sizeof(address));
        *(kind == RFN_MEMORY_DEVICE ? &engine->device_bytes : &engine->pinned_bytes) +=
            bytes;
    }
    return status;
}

#define TAKE(kind, bytes, ret)                                                           \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status took = take(engine, RFN_MEMORY_##kind, bytes, ret);              \
        if (took != RFN_OK)                                                              \
        {                                                                                \
            return took;                                                                 \
        }                                                                                \
    } while (0)

#define TRY(call)                                                                        \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status tried = (call);                                                  \
        if (tried != RFN_OK)                                                             \
        {                                                                                \
            return tried;                                                                \
        }                                                                                \
    } while (0)

static enum rfn_status take_output(struct engine *engine, struct engine_output *output)
{
    const struct engine_sizes *sizes = &engine->sizes;
    TAKE(DEVICE, engine->rows * sizes->slots_bytes, &output->slots);
    TAKE(DEVICE, engine->rows * sizes->out_bytes, &output->out);
    TAKE(DEVICE, engine->rows * sizes->lse_bytes, &output->lse);
    return RFN_OK;
}

static enum rfn_status take_layer(struct engine *engine, struct engine_layer *layer)
{
    const struct geometry *geometry = engine->desc.geometry;
    const struct engine_sizes *sizes = &engine->sizes;
    int64_t page_bytes = rfn_format_page_bytes(geometry->format, geometry->page_tokens);
    layer->pool = (struct rfn_pool) {
        .format = geometry->format,
        .page_tokens = geometry->page_tokens,
        .pages = engine->desc.pages,
        .page_stride_bytes = page_bytes,
    };
    TAKE(DEVICE, engine->desc.pages * page_bytes, &layer->pool.data);
    TAKE(DEVICE, engine->rows * sizes->row_bytes, &layer->row);
    TAKE(DEVICE, engine->rows * sizes->query_bytes, &layer->query);
    TAKE(DEVICE, engine->rows * sizes->scores_bytes, &layer->scores);
    TRY(take_output(engine, &layer->replay));
    TRY(take_output(engine, &layer->eager));
    /* A row that nobody wrote reads as NaN. */
    return rfn_set_async(engine->stream, layer->pool.data, 0xff,
                         engine->desc.pages * page_bytes);
}

static enum rfn_status take_all(struct engine *engine)
{
    struct rfn_device *device = engine->desc.device;
    const struct geometry *geometry = engine->desc.geometry;
    const struct engine_sizes *sizes = &engine->sizes;
    int64_t token_bytes = rfn_format_query(geometry->format)->token_bytes;
    int64_t rows = engine->rows;
    TRY(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &engine->stream));
    TRY(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &engine->other));
    TAKE(DEVICE, ALIGN, &engine->scratch);
    TAKE(PINNED, ALIGN, &engine->scratch_pinned);
    TAKE(DEVICE, engine->layout.control_bytes, &engine->control);
    TAKE(DEVICE, rows * sizes->table_bytes, &engine->table);
    TAKE(DEVICE, ENGINE_CHUNK_TOKENS * sizes->row_bytes, &engine->chunk_rows);
    TAKE(DEVICE, ENGINE_CHUNK_TOKENS * 8, &engine->chunk_slots);
    for (int32_t i = 0; i < ENGINE_RING; i++)
    {
        TAKE(PINNED, engine->layout.bytes, &engine->ring[i].data);
        TRY(rfn_event_create(device, &engine->ring[i].event));
        TAKE(PINNED, ENGINE_CHUNK_TOKENS * (sizes->row_bytes + 8),
             &engine->chunk[i].data);
        TRY(rfn_event_create(device, &engine->chunk[i].event));
    }
    TAKE(PINNED, geometry->layers * sizes->layer_bytes, &engine->got_replay);
    TAKE(PINNED, geometry->layers * sizes->layer_bytes, &engine->got_eager);
    for (int32_t i = 0; i < 2; i++)
    {
        TAKE(PINNED, geometry->layers * rows * token_bytes, &engine->written[i]);
        TAKE(PINNED, geometry->layers * token_bytes, &engine->padding[i]);
    }
    for (int32_t l = 0; l < geometry->layers; l++)
    {
        TRY(take_layer(engine, &engine->layer[l]));
    }
    return RFN_OK;
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
    engine->columns = desc->geometry->context_tokens;
    for (int32_t rows = 1; engine->rows < desc->rows; rows *= 2)
    {
        engine->rows = rows;
        engine->bucket[engine->buckets++].rows = rows;
    }
    size_rows(engine);
    lay_out(engine);
    enum rfn_status status = take_all(engine);
    if (status != RFN_OK)
    {
        engine_destroy(&engine);
        return status;
    }
    *ret_engine = engine;
    return RFN_OK;
}

static void keep_first(enum rfn_status *first, enum rfn_status status)
{
    *first = *first == RFN_OK ? status : *first;
}

static enum rfn_status give(struct engine *engine, void *address)
{
    return rfn_memory_free(engine->desc.device, address);
}

static void give_layer(struct engine *engine, struct engine_layer *layer,
                       enum rfn_status *first)
{
    void *const all[] = {
        layer->pool.data,    layer->row,        layer->query,      layer->scores,
        layer->replay.slots, layer->replay.out, layer->replay.lse, layer->eager.slots,
        layer->eager.out,    layer->eager.lse,
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    {
        keep_first(first, give(engine, all[i]));
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
    for (int32_t i = 0; i < engine->buckets; i++)
    {
        keep_first(&first, rfn_exec_destroy(&engine->bucket[i].exec));
    }
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        give_layer(engine, &engine->layer[l], &first);
    }
    for (int32_t i = 0; i < ENGINE_RING; i++)
    {
        keep_first(&first, rfn_event_destroy(&engine->ring[i].event));
        keep_first(&first, rfn_event_destroy(&engine->chunk[i].event));
        keep_first(&first, give(engine, engine->ring[i].data));
        keep_first(&first, give(engine, engine->chunk[i].data));
    }
    void *const all[] = {
        engine->scratch,    engine->scratch_pinned, engine->control,    engine->table,
        engine->chunk_rows, engine->chunk_slots,    engine->got_replay, engine->got_eager,
        engine->written[0], engine->written[1],     engine->padding[0], engine->padding[1]
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    {
        keep_first(&first, give(engine, all[i]));
    }
    keep_first(&first, rfn_stream_destroy(&engine->other));
    keep_first(&first, rfn_stream_destroy(&engine->stream));
    free(engine->layer);
    free(engine);
    *engine_ = NULL;
    return first;
}
