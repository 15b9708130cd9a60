/* The bit-for-bit half of verification, and its first words. */
#include "tools/verify.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void verify_note(struct verify *verify, const char *format, ...)
{
    if (verify->first[0] == '\0')
    {
        va_list args;
        va_start(args, format);
        vsnprintf(verify->first, sizeof(verify->first), format, args);
        va_end(args);
    }
}

/* Where to look: one output of one layer. */
struct place
{
    const char *name;
    int64_t step;
    int32_t layer;
    int64_t row_bytes;
    int64_t unit_bytes;
};

static void compare_row(struct verify *verify, const struct place *place, int64_t row,
                        const uint8_t *replay, const uint8_t *eager)
{
    if (memcmp(replay, eager, (size_t)place->row_bytes) == 0)
    {
        return;
    }
    for (int64_t i = 0; i < place->row_bytes; i += place->unit_bytes)
    {
        uint32_t a = 0;
        uint32_t b = 0;
        memcpy(&a, replay + i, (size_t)place->unit_bytes);
        memcpy(&b, eager + i, (size_t)place->unit_bytes);
        if (a != b)
        {
            verify->mismatches++;
            verify_note(verify,
                        "step %" PRId64 ", layer %d, %s[%" PRId64 "][%" PRId64
                        "]: replay 0x%" PRIx32 ", eager 0x%" PRIx32,
                        place->step, place->layer, place->name, row,
                        i / place->unit_bytes, a, b);
        }
    }
}

static void check_padding(struct verify *verify, const struct place *place,
                          const uint8_t *replay, int64_t live, uint8_t poison)
{
    int64_t end = verify->engine->rows * place->row_bytes;
    for (int64_t i = live * place->row_bytes; i < end; i++)
    {
        if (replay[i] != poison)
        {
            verify->mismatches++;
            verify_note(verify,
                        "step %" PRId64 ", layer %d: the replay wrote %s row %" PRId64
                        " with %" PRId64 " rows live",
                        place->step, place->layer, place->name, i / place->row_bytes,
                        live);
            return;
        }
    }
}

static void compare_output(struct verify *verify, const struct place *place,
                           int64_t offset, int64_t live, uint8_t poison)
{
    const uint8_t *replay = verify->engine->got[0] + offset;
    const uint8_t *eager = verify->engine->got[1] + offset;
    for (int64_t t = 0; t < live; t++)
    {
        compare_row(verify, place, t, replay + t * place->row_bytes,
                    eager + t * place->row_bytes);
    }
    check_padding(verify, place, replay, live, poison);
}

/* Page 0, where padding that is not inert would write, keeps its bytes unless a live row
 * owns it. */
static void compare_padding(struct verify *verify, const struct batch *batch,
                            const struct place *cache, int64_t live)
{
    const struct engine *engine = verify->engine;
    int64_t at = cache->layer * cache->row_bytes;
    for (int32_t t = 0; t < live; t++)
    {
        int64_t position = engine_position(engine, batch, t);
        if (position >= 0 && batch_slot(batch, t / engine->desc.next_n, position) <
                                 engine->desc.geometry->page_tokens)
        {
            return;
        }
    }
    if (memcmp(engine->padding[0] + at, engine->padding[1] + at,
               (size_t)cache->row_bytes) != 0)
    {
        verify->mismatches++;
        verify_note(verify,
                    "step %" PRId64 ", layer %d: a padded row was written to page 0",
                    cache->step, cache->layer);
    }
}

void verify_bits(struct verify *verify, const struct batch *batch, int64_t step)
{
    const struct engine *engine = verify->engine;
    const struct engine_sizes *sizes = &engine->sizes;
    int64_t live = (int64_t)batch->lives * engine->desc.next_n;
    for (int32_t l = 0; l < engine->desc.geometry->layers; l++)
    {
        int64_t base = l * sizes->layer_bytes;
        struct place chosen = { "top-k slots", step, l, sizes->chosen_bytes, 4 };
        struct place out = { "O", step, l, sizes->out_bytes, 2 };
        struct place lse = { "LSE", step, l, sizes->lse_bytes, 4 };
        struct place cache = { "cache page", step, l, sizes->pages, 1 };
        compare_output(verify, &chosen, base, live, ENGINE_POISON_CHOSEN);
        compare_output(verify, &out, base + sizes->out_offset, live,
                       ENGINE_POISON_VALUES);
        compare_output(verify, &lse, base + sizes->lse_offset, live,
                       ENGINE_POISON_VALUES);
        for (int32_t t = 0; t < live; t++)
        {
            int64_t at = ((int64_t)l * engine->rows + t) * sizes->pages;
            if (engine_position(engine, batch, t) >= 0)
            {
                compare_row(verify, &cache, t, engine->written[0] + at,
                            engine->written[1] + at);
            }
        }
        compare_padding(verify, batch, &cache, live);
    }
    verify->steps++;
}
