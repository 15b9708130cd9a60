/* What a step's graph is made of: fills, update, forward; and prompts, outside graphs. */
#include "tools/engine.h"
#include <stdio.h>

/* ---- a step ------------------------------------------------------------------------ */

static enum rfn_status fill(struct engine *engine, struct rfn_stream *stream,
                            int32_t layer, enum synth_kind kind, int32_t rows)
{
    struct engine_width width = engine->width[kind];
    uint8_t *delta = engine->delta;
    struct rfn_synth_fill_args args = {
        .out = rfn_tensor_of(engine->layer[layer].input[kind], RFN_BF16, rows,
                             width.elems, 0, 0),
        .keys = rfn_tensor_of(delta, RFN_I64, rows, 0, 0, 0),
        .live = rfn_tensor_of(delta + engine->sizes.live_offset, RFN_I32, 1, 0, 0, 0),
        .salt = synth_salt(layer, kind),
        .amplitude = synth_amplitude(kind),
    };
    args.out.stride[0] = width.stride;
    return rfn_synth_fill(stream, &args);
}

enum rfn_status engine_keep_choice(struct engine *engine, struct rfn_stream *stream,
                                   int32_t layer, int eager, int32_t rows)
{
    struct engine_layer *of = &engine->layer[layer];
    struct rfn_step_view step;
    ENGINE_TRY(rfn_attention_view(engine->attention[eager], layer, &step));
    return rfn_copy_async(stream, eager ? of->eager.chosen : of->replay.chosen,
                          step.chosen.data, rows * engine->sizes.chosen_bytes);
}

static enum rfn_status fill_inputs(struct engine *engine, struct rfn_stream *stream,
                                   int32_t rows)
{
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        for (int32_t k = 0; k < SYNTH_KINDS; k++)
        {
            if (engine->layer[l].input[k] != NULL)
            {
                ENGINE_TRY(fill(engine, stream, l, (enum synth_kind)k, rows));
            }
        }
    }
    return RFN_OK;
}

static enum rfn_status forward(struct engine *engine, struct rfn_stream *stream,
                               int32_t layer, const struct rfn_bucket *bucket)
{
    ENGINE_TRY(rfn_attention_forward(engine->attention[0], stream, layer, bucket));
    if (engine->desc.verify)
    {
        ENGINE_TRY(engine_keep_choice(engine, stream, layer, 0,
                                      bucket->requests * bucket->next_n));
    }
    if (engine->desc.plant != NULL)
    {
        engine_plant *plant = engine->desc.plant;
        engine->desc.plant = NULL;
        plant(engine, stream);
    }
    return RFN_OK;
}

/* Where a sampler would stand: which drafts do not is known once the step has run. */
static enum rfn_status reject(struct engine *engine, struct rfn_stream *stream,
                              int32_t requests)
{
    struct rfn_step_view step;
    ENGINE_TRY(rfn_attention_view(engine->attention[0], 0, &step));
    return rfn_copy_async(stream, step.rejected.data,
                          engine->delta + engine->sizes.rejected_offset,
                          (int64_t)requests * 4);
}

static enum rfn_status record(struct engine *engine, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    enum rfn_status status =
        fill_inputs(engine, stream, bucket->requests * bucket->next_n);
    if (status == RFN_OK)
    {
        status = rfn_attention_update(engine->attention[0], stream, bucket);
    }
    for (int32_t l = 0; status == RFN_OK && l < engine->desc.geometry->layers; l++)
    {
        char name[32];
        snprintf(name, sizeof(name), "forward %d", l);
        ENGINE_TRY(rfn_region_begin(name));
        status = forward(engine, stream, l, bucket);
        enum rfn_status ended = rfn_region_end();
        status = status == RFN_OK ? ended : status;
    }
    return status == RFN_OK && engine->desc.drafts > 0
               ? reject(engine, stream, bucket->requests)
               : status;
}

enum rfn_status engine_record(void *engine, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    ENGINE_TRY(rfn_region_begin("decode step"));
    enum rfn_status status = record(engine, stream, bucket);
    enum rfn_status ended = rfn_region_end();
    return status == RFN_OK ? ended : status;
}

/* ---- prompts ----------------------------------------------------------------------- */

static enum rfn_status fill_chunk(struct engine *engine, int32_t layer,
                                  enum synth_kind kind, int64_t tokens)
{
    struct engine_width width = engine->width[kind];
    struct rfn_synth_fill_args args = {
        .out =
            rfn_tensor_of(engine->chunk_input[kind], RFN_BF16, tokens, width.elems, 0, 0),
        .keys = rfn_tensor_of(engine->chunk_control, RFN_I64, tokens, 0, 0, 0),
        .salt = synth_salt(layer, kind),
        .amplitude = synth_amplitude(kind),
    };
    args.out.stride[0] = width.stride;
    return rfn_synth_fill(engine->stream, &args);
}

static enum rfn_status pack_layer(struct engine *engine, int32_t layer, int64_t tokens)
{
    const struct rfn_geometry *geometry = engine->desc.geometry;
    const struct rfn_layer_caches *caches = &engine->layer[layer].caches;
    struct rfn_tensor slots = rfn_tensor_of(
        engine->chunk_control + ENGINE_CHUNK_TOKENS * 8, RFN_I64, tokens, 0, 0, 0);
    uint16_t *row = engine->chunk_input[SYNTH_ROW];
    struct rfn_kv_pack_args kv = {
        .kv = rfn_tensor_of(row, RFN_BF16, tokens, geometry->latent_elems, 0, 0),
        .k_rope = rfn_tensor_of(row + geometry->latent_elems, RFN_BF16, tokens,
                                geometry->rope_elems, 0, 0),
        .slots = slots,
        .pool = caches->latent,
        .scale = geometry->latent_scale,
    };
    kv.kv.stride[0] = engine->width[SYNTH_ROW].stride;
    kv.k_rope.stride[0] = engine->width[SYNTH_ROW].stride;
    ENGINE_TRY(fill_chunk(engine, layer, SYNTH_ROW, tokens));
    ENGINE_TRY(rfn_kv_pack(engine->stream, &kv));
    if (caches->index.data == NULL)
    {
        return RFN_OK;
    }
    struct rfn_index_pack_args index = {
        .k = rfn_tensor_of(engine->chunk_input[SYNTH_INDEX_KEY], RFN_BF16, tokens,
                           geometry->index_width, 0, 0),
        .slots = slots,
        .pool = caches->index,
        .scale = geometry->index_scale,
    };
    index.k.stride[0] = engine->width[SYNTH_INDEX_KEY].stride;
    ENGINE_TRY(fill_chunk(engine, layer, SYNTH_INDEX_KEY, tokens));
    return rfn_index_pack(engine->stream, &index);
}

static enum rfn_status pack_chunk(struct engine *engine, const struct batch *batch,
                                  int32_t seat, int64_t first, int64_t tokens)
{
    struct engine_pinned *chunk = &engine->chunk[engine->chunk_turn++ % ENGINE_RING];
    ENGINE_TRY(rfn_event_sync(chunk->event));
    int64_t *key = (int64_t *)chunk->data;
    int64_t *slot = key + ENGINE_CHUNK_TOKENS;
    for (int64_t i = 0; i < tokens; i++)
    {
        key[i] = synth_token(engine->desc.seed, engine->desc.trace->request,
                             batch->seat[seat].request, first + i);
        slot[i] = batch_slot(batch, seat, first + i);
    }
    ENGINE_TRY(rfn_copy_async(engine->stream, engine->chunk_control, chunk->data,
                              ENGINE_CHUNK_TOKENS * 16));
    ENGINE_TRY(rfn_event_record(chunk->event, engine->stream, 0));
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        ENGINE_TRY(pack_layer(engine, l, tokens));
    }
    return RFN_OK;
}

enum rfn_status engine_pack_prompt(struct engine *engine, const struct batch *batch,
                                   int32_t seat)
{
    int64_t prompt = batch->lens[seat];
    for (int64_t first = 0; first < prompt; first += ENGINE_CHUNK_TOKENS)
    {
        int64_t tokens = prompt - first;
        tokens = tokens < ENGINE_CHUNK_TOKENS ? tokens : ENGINE_CHUNK_TOKENS;
        if (batch->made[first / TRACE_BLOCK_TOKENS])
        {
            ENGINE_TRY(pack_chunk(engine, batch, seat, first, tokens));
        }
    }
    return RFN_OK;
}
