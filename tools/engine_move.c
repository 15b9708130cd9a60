/* The engine with all its memory elsewhere: what a recording bakes follows, or it was kept. */
#include "tools/engine.h"

/* Each buffer by another distance than its neighbours. */
static void *moved(void *at, int32_t *turn, int back)
{
    int64_t distance = ENGINE_ALIGN * (1 + (int64_t)((*turn)++ % ENGINE_MOVES));
    return at == NULL ? NULL : (uint8_t *)at + (back ? -distance : distance);
}

static void move_output(struct engine_output *output, int32_t *turn, int back)
{
    output->chosen = moved(output->chosen, turn, back);
    output->out = moved(output->out, turn, back);
    output->lse = moved(output->lse, turn, back);
}

static void move_all(struct engine *engine, int back)
{
    int32_t turn = 0;
    engine->delta = moved(engine->delta, &turn, back);
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        struct engine_layer *layer = &engine->layer[l];
        layer->caches.latent.data = moved(layer->caches.latent.data, &turn, back);
        layer->caches.index.data = moved(layer->caches.index.data, &turn, back);
        for (int32_t k = 0; k < SYNTH_KINDS; k++)
        {
            layer->input[k] = moved(layer->input[k], &turn, back);
        }
        move_output(&layer->replay, &turn, back);
    }
}

enum rfn_status engine_move(struct engine *engine, int elsewhere)
{
    if (engine->moved == elsewhere)
    {
        return RFN_OK;
    }
    move_all(engine, !elsewhere);
    enum rfn_status status = RFN_OK;
    if (engine->elsewhere == NULL)
    {
        status = engine_attention_create(engine, 0, &engine->elsewhere);
    }
    if (status != RFN_OK)
    {
        move_all(engine, 1);
        return status;
    }
    struct rfn_attention *other = engine->elsewhere;
    engine->elsewhere = engine->attention[0];
    engine->attention[0] = other;
    engine->moved = elsewhere;
    return RFN_OK;
}
