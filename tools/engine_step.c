/* What happens between captures: prompts, step buffers, replay, outputs. */
#include "tools/engine.h"
#include "tools/synth.h"
#include <string.h>

#define TRY(call)                                                                        \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status tried = (call);                                                  \
        if (tried != RFN_OK)                                                             \
        {                                                                                \
            return tried;                                                                \
        }                                                                                \
    } while (0)

/* What stands where nobody may look: no page, no row of any table. */
#define GARBAGE_PAGE 0x7abcdef0
#define GARBAGE_REQUEST 0x7ffffff1

static enum rfn_status pack_chunk(struct engine *engine, const struct batch *batch,
                                  const struct batch_seat *seat, int32_t layer,
                                  int64_t first, int64_t tokens)
{
    const struct geometry *geometry = engine->desc.geometry;
    struct engine_pinned *chunk = &engine->chunk[engine->chunk_turn++ % ENGINE_RING];
    int64_t qk = geometry_qk_elems(geometry);
    TRY(rfn_event_sync(chunk->event));
    uint16_t *row = (uint16_t *)chunk->data;
    int64_t *slot =
        (int64_t *)(chunk->data + ENGINE_CHUNK_TOKENS * engine->sizes.row_bytes);
    for (int64_t i = 0; i < tokens; i++)
    {
        synth_row(engine->desc.seed, engine->desc.trace->request, seat->request,
                  first + i, layer, row + i * qk, qk);
        slot[i] = batch_slot(batch, seat, first + i);
    }
    TRY(rfn_copy_async(engine->stream, engine->chunk_rows, row,
                       tokens * engine->sizes.row_bytes));
    TRY(rfn_copy_async(engine->stream, engine->chunk_slots, slot, tokens * 8));
    TRY(rfn_event_record(chunk->event, engine->stream, 0));
    uint16_t *rows = engine->chunk_rows;
    struct rfn_kv_pack_args args = {
        .kv = rfn_tensor_of(rows, RFN_BF16, tokens, geometry->latent_elems, 0, 0),
        .k_rope = rfn_tensor_of(rows + geometry->latent_elems, RFN_BF16, tokens,
                                geometry->rope_elems, 0, 0),
        .slots = rfn_tensor_of(engine->chunk_slots, RFN_I64, tokens, 0, 0, 0),
        .pool = engine->layer[layer].pool,
    };
    args.kv.stride[0] = qk;
    args.k_rope.stride[0] = qk;
    return rfn_kv_pack(engine->stream, &args);
}

enum rfn_status engine_pack_prompt(struct engine *engine, const struct batch *batch,
                                   int32_t seat_index)
{
    const struct batch_seat *seat = &batch->seat[seat_index];
    int64_t prompt = seat->context_tokens;
    for (int64_t first = 0; first < prompt; first += ENGINE_CHUNK_TOKENS)
    {
        int64_t tokens = prompt - first;
        tokens = tokens < ENGINE_CHUNK_TOKENS ? tokens : ENGINE_CHUNK_TOKENS;
        for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
        {
            TRY(pack_chunk(engine, batch, seat, l, first, tokens));
        }
    }
    return RFN_OK;
}

static void fill_control(struct engine *engine, const struct batch *batch,
                         const struct engine_bucket *bucket, uint8_t *data)
{
    const struct engine_layout *layout = &engine->layout;
    int64_t *slots = (int64_t *)(data + layout->slots);
    int32_t *lens = (int32_t *)(data + layout->lens);
    int32_t *request = (int32_t *)(data + layout->request);
    *(int32_t *)(data + layout->live) = batch->lives;
    for (int32_t t = 0; t < batch->lives; t++)
    {
        const struct batch_seat *seat = &batch->seat[batch->live[t]];
        slots[t] = batch_slot(batch, seat, seat->context_tokens - 1);
        lens[t] = (int32_t)seat->context_tokens;
        request[t] = batch->live[t];
    }
    /* Padding that would do harm if it were used. */
    for (int32_t t = batch->lives; t < bucket->rows; t++)
    {
        slots[t] = t % 2 == 0 ? ENGINE_PADDING_SLOT : -1;
        lens[t] = t % 2 == 0 ? (int32_t)engine->columns : -7;
        request[t] = t % 2 == 0 ? 0 : GARBAGE_REQUEST;
    }
}

static void fill_layer(struct engine *engine, const struct batch *batch,
                       const struct engine_bucket *bucket, int32_t layer, uint8_t *data)
{
    const struct engine_layout *layout = &engine->layout;
    const struct engine_sizes *sizes = &engine->sizes;
    uint64_t seed = engine->desc.seed;
    uint8_t *row = data + layout->row;
    uint8_t *query = data + layout->query;
    uint8_t *scores = data + layout->scores;
    for (int32_t t = 0; t < batch->lives; t++)
    {
        const struct batch_seat *seat = &batch->seat[batch->live[t]];
        int64_t position = seat->context_tokens - 1;
        float *score = (float *)(scores + t * sizes->scores_bytes);
        synth_row(seed, engine->desc.trace->request, seat->request, position, layer,
                  (uint16_t *)(row + t * sizes->row_bytes), sizes->row_bytes / 2);
        synth_query(seed, seat->request, position, layer,
                    (uint16_t *)(query + t * sizes->query_bytes), sizes->query_bytes / 2);
        synth_scores(seed, seat->request, position, layer, score, seat->context_tokens);
        memset(score + seat->context_tokens, 0xff, /* NaN past the length */
               (size_t)(engine->columns - seat->context_tokens) * sizeof(*score));
    }
    size_t padding = (size_t)(bucket->rows - batch->lives);
    memset(row + batch->lives * sizes->row_bytes, 0xff,
           padding * (size_t)sizes->row_bytes);
    memset(query + batch->lives * sizes->query_bytes, 0xff,
           padding * (size_t)sizes->query_bytes);
    memset(scores + batch->lives * sizes->scores_bytes, 0xff,
           padding * (size_t)sizes->scores_bytes);
}

static enum rfn_status copy_tables(struct engine *engine, struct batch *batch,
                                   uint8_t *data)
{
    int64_t bytes = engine->sizes.table_bytes;
    int64_t width = bytes / 4;
    for (int32_t s = 0; s < batch->seats; s++)
    {
        struct batch_seat *seat = &batch->seat[s];
        int32_t *row = (int32_t *)(data + s * bytes);
        if (!seat->dirty || seat->request < 0)
        {
            continue;
        }
        for (int64_t w = 0; w < width; w++)
        {
            row[w] = w < seat->pages ? seat->page[w] : GARBAGE_PAGE;
        }
        TRY(rfn_copy_async(engine->stream, (uint8_t *)engine->table + s * bytes, row,
                           bytes));
        seat->dirty = 0;
    }
    return RFN_OK;
}

enum rfn_status engine_update(struct engine *engine, struct batch *batch,
                              const struct engine_bucket *bucket)
{
    const struct engine_layout *layout = &engine->layout;
    const struct engine_sizes *sizes = &engine->sizes;
    struct engine_pinned *ring = &engine->ring[engine->turn++ % ENGINE_RING];
    TRY(rfn_event_sync(ring->event));
    fill_control(engine, batch, bucket, ring->data);
    TRY(rfn_copy_async(engine->stream, engine->control, ring->data,
                       layout->control_bytes));
    TRY(copy_tables(engine, batch, ring->data + layout->table));
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        const struct engine_layer *layer = &engine->layer[l];
        uint8_t *data = ring->data + layout->layer + l * layout->layer_bytes;
        fill_layer(engine, batch, bucket, l, data);
        TRY(rfn_copy_async(engine->stream, layer->row, data + layout->row,
                           bucket->rows * sizes->row_bytes));
        TRY(rfn_copy_async(engine->stream, layer->query, data + layout->query,
                           bucket->rows * sizes->query_bytes));
        TRY(rfn_copy_async(engine->stream, layer->scores, data + layout->scores,
                           bucket->rows * sizes->scores_bytes));
    }
    return rfn_event_record(ring->event, engine->stream, 0);
}

enum rfn_status engine_poison(struct engine *engine, int eager)
{
    const struct engine_sizes *sizes = &engine->sizes;
    int32_t slots = eager ? ENGINE_POISON_EAGER_SLOTS : ENGINE_POISON_SLOTS;
    int32_t values = eager ? ENGINE_POISON_EAGER_VALUES : ENGINE_POISON_VALUES;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        struct engine_layer *layer = &engine->layer[l];
        struct engine_output *output = eager ? &layer->eager : &layer->replay;
        TRY(rfn_set_async(engine->stream, output->slots, slots,
                          engine->rows * sizes->slots_bytes));
        TRY(rfn_set_async(engine->stream, output->out, values,
                          engine->rows * sizes->out_bytes));
        TRY(rfn_set_async(engine->stream, output->lse, values,
                          engine->rows * sizes->lse_bytes));
    }
    return RFN_OK;
}

enum rfn_status engine_replay(struct engine *engine, struct engine_bucket *bucket)
{
    bucket->replays++;
    return rfn_exec_launch(bucket->exec, engine->stream);
}

enum rfn_status engine_collect(struct engine *engine, int eager, int32_t rows)
{
    const struct engine_sizes *sizes = &engine->sizes;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        const struct engine_layer *layer = &engine->layer[l];
        const struct engine_output *output = eager ? &layer->eager : &layer->replay;
        uint8_t *to =
            (eager ? engine->got_eager : engine->got_replay) + l * sizes->layer_bytes;
        TRY(rfn_copy_async(engine->stream, to, output->slots, rows * sizes->slots_bytes));
        TRY(rfn_copy_async(engine->stream, to + sizes->out_offset, output->out,
                           rows * sizes->out_bytes));
        TRY(rfn_copy_async(engine->stream, to + sizes->lse_offset, output->lse,
                           rows * sizes->lse_bytes));
    }
    return rfn_stream_sync(engine->stream);
}

static const uint8_t *cache_row(const struct rfn_pool *pool, int64_t slot,
                                int64_t token_bytes)
{
    return (const uint8_t *)pool->data +
           slot / pool->page_tokens * pool->page_stride_bytes +
           slot % pool->page_tokens * token_bytes;
}

enum rfn_status engine_read_padding(struct engine *engine, int32_t i)
{
    const struct geometry *geometry = engine->desc.geometry;
    int64_t token_bytes = rfn_format_query(geometry->format)->token_bytes;
    for (int32_t l = 0; l < geometry->layers; l++)
    {
        TRY(rfn_copy_async(
            engine->stream, engine->padding[i] + l * token_bytes,
            cache_row(&engine->layer[l].pool, ENGINE_PADDING_SLOT, token_bytes),
            token_bytes));
    }
    return rfn_stream_sync(engine->stream);
}

enum rfn_status engine_read_written(struct engine *engine, const struct batch *batch,
                                    int32_t i)
{
    const struct geometry *geometry = engine->desc.geometry;
    int64_t token_bytes = rfn_format_query(geometry->format)->token_bytes;
    uint8_t *to = engine->written[i];
    for (int32_t l = 0; l < geometry->layers; l++)
    {
        const struct rfn_pool *pool = &engine->layer[l].pool;
        for (int32_t t = 0; t < batch->lives; t++)
        {
            const struct batch_seat *seat = &batch->seat[batch->live[t]];
            int64_t slot = batch_slot(batch, seat, seat->context_tokens - 1);
            TRY(rfn_copy_async(engine->stream, to, cache_row(pool, slot, token_bytes),
                               token_bytes));
            to += token_bytes;
        }
    }
    return rfn_stream_sync(engine->stream);
}
