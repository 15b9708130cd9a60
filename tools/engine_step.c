/* What happens between captures: keys, replay, the eager pass, outputs. */
#include "tools/engine.h"
#include <string.h>

/* Keys of rows behind the live ones: whatever is made of them is seen. */
#define GARBAGE_KEY 0x7ff0dead7ff0dead

int64_t engine_position(const struct engine *engine, const struct batch *batch, int32_t t)
{
    int32_t seat = t / engine->desc.next_n;
    int32_t j = t % engine->desc.next_n;
    int32_t q = seat < batch->lives ? batch->q_lens[seat] : 0;
    return j < q ? batch->lens[seat] - q + j : -1;
}

static int32_t live_rows(const struct engine *engine, const struct batch *batch)
{
    return batch->lives * engine->desc.next_n;
}

enum rfn_status engine_update(struct engine *engine, const struct batch *batch)
{
    const struct engine_desc *desc = &engine->desc;
    struct engine_pinned *ring = &engine->ring[engine->turn++ % ENGINE_RING];
    ENGINE_TRY(rfn_event_sync(ring->event));
    int64_t *key = (int64_t *)ring->data;
    for (int32_t t = 0; t < engine->rows; t++)
    {
        int64_t position = engine_position(engine, batch, t);
        key[t] =
            position < 0 ? GARBAGE_KEY : batch_token(batch, t / desc->next_n, position);
    }
    *(int32_t *)(ring->data + engine->sizes.live_offset) = live_rows(engine, batch);
    int32_t *rejected = (int32_t *)(ring->data + engine->sizes.rejected_offset);
    for (int32_t s = 0; s < desc->requests; s++)
    {
        rejected[s] = s < batch->lives ? batch->q_lens[s] - batch->kept[s] : 0;
    }
    ENGINE_TRY(rfn_copy_async(engine->stream, engine->delta, ring->data,
                              engine->sizes.delta_bytes));
    return rfn_event_record(ring->event, engine->stream, 0);
}

/* ---- launching --------------------------------------------------------------------- */

static struct rfn_step step_of(const struct engine *engine, const struct batch *batch)
{
    return (struct rfn_step) {
        .requests = batch->lives,
        .lens = batch->lens,
        .q_lens = batch->q_lens,
        .table = batch->table,
        .table_stride = batch->desc.table_pages,
        .unchanged = engine->current && !batch->changed,
        .rejected = engine->desc.drafts > 0 ? batch->rejected : NULL,
        .new_from = engine->handed ? batch->new_from : NULL,
        .new_to = engine->handed ? batch->new_to : NULL,
    };
}

static int is_short(const struct engine *engine, const struct batch *batch)
{
    int32_t most = 0;
    for (int32_t s = 0; s < batch->lives; s++)
    {
        most = batch->lens[s] > most ? batch->lens[s] : most;
    }
    return most <= engine->desc.geometry->topk;
}

enum rfn_status engine_prepare(struct engine *engine, const struct batch *batch)
{
    return rfn_ladder_prepare(engine->ladder, batch->lives, is_short(engine, batch));
}

/* Buckets rise; of one size the one for short contexts comes first. */
static int32_t rank(const struct rfn_bucket *shape)
{
    return 2 * shape->requests + !shape->short_context;
}

static void count(struct engine *engine, const struct batch *batch,
                  const struct rfn_bucket *shape)
{
    int32_t i = 0;
    while (i < engine->buckets && rank(&engine->bucket[i].shape) < rank(shape))
    {
        i++;
    }
    struct engine_bucket *bucket = &engine->bucket[i];
    if (i == engine->buckets || rank(&bucket->shape) != rank(shape))
    {
        memmove(bucket + 1, bucket, (size_t)(engine->buckets - i) * sizeof(*bucket));
        *bucket = (struct engine_bucket) { .shape = *shape };
        engine->buckets++;
    }
    bucket->replays++;
    for (int32_t s = 0; s < batch->lives; s++)
    {
        bucket->live_rows += batch->q_lens[s];
    }
}

enum rfn_status engine_step(struct engine *engine, const struct batch *batch, int advance,
                            int *ret_graph)
{
    struct rfn_step step = step_of(engine, batch);
    struct rfn_replay_info info;
    struct rfn_bucket bucket;
    step.advance = advance;
    engine->current = 0;
    enum rfn_status status =
        rfn_ladder_replay(engine->ladder, engine->stream, &step, &info);
    *ret_graph = status == RFN_OK;
    if (status == RFN_OK)
    {
        count(engine, batch, &info.bucket);
    }
    else if (status == RFN_NOT_READY)
    {
        ENGINE_TRY(
            rfn_attention_plan(engine->attention[0], engine->stream, &step, &bucket));
        status = engine_record(engine, engine->stream, &bucket);
    }
    engine->current = status == RFN_OK && advance;
    engine->handed = status == RFN_OK;
    return status;
}

enum rfn_status engine_eager(struct engine *engine, const struct batch *batch)
{
    struct rfn_attention *attention = engine->attention[1];
    struct rfn_step step = step_of(engine, batch);
    struct rfn_bucket bucket;
    step.unchanged = 0;
    step.new_from = step.new_to = NULL; /* this one saw no step before */
    ENGINE_TRY(rfn_attention_plan(attention, engine->stream, &step, &bucket));
    ENGINE_TRY(rfn_attention_update(attention, engine->stream, &bucket));
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        ENGINE_TRY(rfn_attention_forward(attention, engine->stream, l, &bucket));
        ENGINE_TRY(
            engine_keep_choice(engine, engine->stream, l, 1, live_rows(engine, batch)));
    }
    return RFN_OK;
}

/* ---- outputs ----------------------------------------------------------------------- */

static enum rfn_status poison_inputs(struct engine *engine, struct engine_layer *layer)
{
    for (int32_t k = 0; k < SYNTH_KINDS; k++)
    {
        if (layer->input[k] != NULL)
        {
            ENGINE_TRY(rfn_set_async(engine->stream, layer->input[k], 0xff,
                                     engine->rows * engine->width[k].stride * 2));
        }
    }
    return RFN_OK;
}

enum rfn_status engine_poison(struct engine *engine, int eager)
{
    const struct engine_sizes *sizes = &engine->sizes;
    int32_t chosen = eager ? ENGINE_POISON_EAGER_CHOSEN : ENGINE_POISON_CHOSEN;
    int32_t values = eager ? ENGINE_POISON_EAGER_VALUES : ENGINE_POISON_VALUES;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        struct engine_layer *layer = &engine->layer[l];
        struct engine_output *output = eager ? &layer->eager : &layer->replay;
        struct rfn_step_view step;
        if (!eager)
        {
            ENGINE_TRY(poison_inputs(engine, layer));
        }
        ENGINE_TRY(rfn_attention_view(engine->attention[eager], l, &step));
        ENGINE_TRY(rfn_set_async(engine->stream, step.chosen.data, chosen,
                                 engine->rows * sizes->chosen_bytes));
        ENGINE_TRY(rfn_set_async(engine->stream, output->chosen, chosen,
                                 engine->rows * sizes->chosen_bytes));
        ENGINE_TRY(rfn_set_async(engine->stream, output->out, values,
                                 engine->rows * sizes->out_bytes));
        ENGINE_TRY(rfn_set_async(engine->stream, output->lse, values,
                                 engine->rows * sizes->lse_bytes));
    }
    return RFN_OK;
}

enum rfn_status engine_collect(struct engine *engine, int eager, int32_t rows)
{
    const struct engine_sizes *sizes = &engine->sizes;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        const struct engine_layer *layer = &engine->layer[l];
        const struct engine_output *output = eager ? &layer->eager : &layer->replay;
        uint8_t *to = engine->got[eager] + l * sizes->layer_bytes;
        ENGINE_TRY(rfn_copy_async(engine->stream, to, output->chosen,
                                  rows * sizes->chosen_bytes));
        ENGINE_TRY(rfn_copy_async(engine->stream, to + sizes->out_offset, output->out,
                                  rows * sizes->out_bytes));
        ENGINE_TRY(rfn_copy_async(engine->stream, to + sizes->lse_offset, output->lse,
                                  rows * sizes->lse_bytes));
    }
    return rfn_stream_sync(engine->stream);
}

/* NaN in all bytes of one token, whether they lie side by side or part in planes. */
static enum rfn_status poison_token(struct engine *engine, const struct rfn_pool *pool,
                                    int64_t slot)
{
    const struct rfn_format_info *format = rfn_format_query(pool->format);
    int64_t at = slot % pool->page_tokens;
    int64_t data = format->planar ? format->data_bytes : format->token_bytes;
    int64_t rest = format->token_bytes - data;
    uint8_t *page =
        (uint8_t *)pool->data + slot / pool->page_tokens * pool->page_stride_bytes;
    ENGINE_TRY(rfn_set_async(engine->stream, page + at * data, 0xff, data));
    return rest == 0
               ? RFN_OK
               : rfn_set_async(engine->stream,
                               page + pool->page_tokens * data + at * rest, 0xff, rest);
}

enum rfn_status engine_poison_rows(struct engine *engine, const struct batch *batch,
                                   int rejected)
{
    for (int32_t t = 0; t < live_rows(engine, batch); t++)
    {
        int32_t seat = t / engine->desc.next_n;
        int32_t j = t % engine->desc.next_n;
        if (j >= batch->q_lens[seat] || (rejected && j < batch->kept[seat]))
        {
            continue;
        }
        int64_t slot = batch_slot(batch, seat, engine_position(engine, batch, t));
        for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
        {
            const struct rfn_layer_caches *caches = &engine->layer[l].caches;
            ENGINE_TRY(poison_token(engine, &caches->latent, slot));
            if (caches->index.data != NULL)
            {
                ENGINE_TRY(poison_token(engine, &caches->index, slot));
            }
        }
    }
    return RFN_OK;
}

/* A page of a layer's pools, the index page behind the latent one. */
static enum rfn_status read_page(struct engine *engine, int32_t layer, int64_t page,
                                 uint8_t *to)
{
    const struct engine_sizes *sizes = &engine->sizes;
    const struct rfn_layer_caches *caches = &engine->layer[layer].caches;
    const uint8_t *latent = caches->latent.data;
    const uint8_t *index = caches->index.data;
    ENGINE_TRY(rfn_copy_async(engine->stream, to,
                              latent + page * caches->latent.page_stride_bytes,
                              sizes->latent_page));
    return index == NULL ? RFN_OK
                         : rfn_copy_async(engine->stream, to + sizes->latent_page,
                                          index + page * caches->index.page_stride_bytes,
                                          sizes->index_page);
}

enum rfn_status engine_read_padding(struct engine *engine, int32_t i)
{
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        ENGINE_TRY(read_page(engine, l, 0, engine->padding[i] + l * engine->sizes.pages));
    }
    return rfn_stream_sync(engine->stream);
}

enum rfn_status engine_read_written(struct engine *engine, const struct batch *batch,
                                    int32_t i)
{
    int32_t page_tokens = engine->desc.geometry->page_tokens;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        for (int32_t t = 0; t < live_rows(engine, batch); t++)
        {
            int64_t position = engine_position(engine, batch, t);
            uint8_t *to = engine->written[i] +
                          ((int64_t)l * engine->rows + t) * engine->sizes.pages;
            if (position >= 0)
            {
                int64_t slot = batch_slot(batch, t / engine->desc.next_n, position);
                ENGINE_TRY(read_page(engine, l, slot / page_tokens, to));
            }
        }
    }
    return rfn_stream_sync(engine->stream);
}
