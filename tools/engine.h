/*
 * The device half of decode: pools, step inputs and outputs, prompts, steps.
 *
 * An attention object plans, updates and forwards; a ladder holds a graph a bucket. A step's
 * graph begins with fills: the host hands over one key a row and how many rows live (one
 * pinned delta out of a ring), the device makes keys, queries and weights of them. With
 * drafts the delta says too how many of them are rejected, as a sampler would on the device;
 * the graph ends with handing that to the next step's update. What lies
 * behind the live rows stays what the host planted there: NaN. A second attention object on
 * the same caches, with outputs of its own, repeats a verified step eagerly.
 */
#ifndef TOOLS_ENGINE_H
#define TOOLS_ENGINE_H

#include "tools/batch.h"
#include "tools/synth.h"
#include <refrain/refrain.h>

#define ENGINE_RING 4
#define ENGINE_ALIGN 256 /* of rfn_memory_alloc, and of every part of a host copy */
#define ENGINE_MOVES 31  /* distances of engine_move, in ENGINE_ALIGN */
#define ENGINE_CHUNK_TOKENS TRACE_BLOCK_TOKENS

/* Bytes that outputs hold before they are written: an element that neither pass writes
 * differs between the passes, and the values of replay are NaN. */
#define ENGINE_POISON_CHOSEN 0xfb
#define ENGINE_POISON_VALUES 0xff
#define ENGINE_POISON_EAGER_CHOSEN 0xfd
#define ENGINE_POISON_EAGER_VALUES 0x7f

/* Plants a mistake in a capture: called with the capturing stream, between two layers' or
 * behind the last layer's ops. */
struct engine;
typedef void engine_plant(struct engine *engine, struct rfn_stream *stream);

struct engine_desc
{
    struct rfn_device *device;
    const struct rfn_geometry *geometry;
    const struct trace *trace;
    int32_t requests;
    int32_t next_n;
    int32_t drafts; /* 0: no token is ever rejected */
    int32_t context_tokens;
    int64_t pages;
    uint64_t seed;
    const int32_t *bucket; /* NULL: the ladder's default list */
    int32_t buckets;
    int verify;  /* 1: what verification needs is allocated as well */
    int movable; /* 1: engine_move will be called */
    int32_t batch_invariant;
    engine_plant *plant; /* in the first capture, or NULL */
    int64_t plant_bytes; /* of `plant_target` */
};

/* What was replayed of a bucket. */
struct engine_bucket
{
    struct rfn_bucket shape;
    int64_t replays;
    int64_t live_rows; /* with work */
};

/* One pass's outputs of a layer, on the device. */
struct engine_output
{
    void *chosen; /* [T, K] i32, a copy behind the layer: layers share the workspace */
    void *out;    /* [T, H, V] bf16 */
    void *lse;    /* [T, H] f32 */
};

struct engine_layer
{
    struct rfn_layer_caches caches;
    void *
        input[SYNTH_KINDS]; /* [T, ...] bf16; index ones NULL where a choice is re-used */
    struct engine_output replay;
    struct engine_output eager;
};

/* Elements of a row of each input, and its stride. */
struct engine_width
{
    int64_t elems;
    int64_t stride;
};

/* Bytes of one row, and offsets within one layer of a host copy of outputs. */
struct engine_sizes
{
    int64_t chosen_bytes;
    int64_t out_bytes;
    int64_t lse_bytes;
    int64_t out_offset;
    int64_t lse_offset;
    int64_t layer_bytes;
    int64_t latent_page; /* bytes */
    int64_t index_page;
    int64_t pages;       /* a latent and an index page */
    int64_t live_offset; /* in the delta */
    int64_t rejected_offset;
    int64_t delta_bytes;
};

struct engine_pinned
{
    uint8_t *data;
    struct rfn_event *event; /* recorded behind the last copy from it */
};

struct engine
{
    struct engine_desc desc;
    struct rfn_stream *stream;
    struct rfn_stream *other; /* for planted mistakes, as the next three */
    void *scratch;            /* 256 device bytes */
    uint8_t *scratch_pinned;
    void *plant_target;
    struct rfn_attention *attention[2]; /* of the graphs, of the eager pass */
    struct rfn_attention *elsewhere;    /* swapped with the first by engine_move */
    int moved;
    struct rfn_ladder *ladder;
    int32_t rows; /* T */
    struct engine_width width[SYNTH_KINDS];
    struct engine_sizes sizes;
    struct engine_layer *layer;
    struct engine_bucket *bucket;
    int32_t buckets;
    int32_t buckets_max;
    int current;    /* the device advanced the lengths of the last step itself */
    int handed;     /* and has its tables */
    uint8_t *delta; /* device: keys, then the number of live rows */
    struct engine_pinned ring[ENGINE_RING];
    int64_t turn;
    struct engine_pinned chunk[ENGINE_RING]; /* keys, then slots */
    int64_t chunk_turn;
    uint8_t *chunk_control; /* device */
    void *chunk_input[2];   /* cache rows, index keys */
    uint8_t *got[2];        /* pinned copies of outputs: replay, eager */
    uint8_t *written[2];    /* of the pages that a step wrote to: replay, eager */
    uint8_t *padding[2];    /* of page 0: before the step, after it */
    int64_t device_bytes;
    int64_t pinned_bytes;
};

/* Bytes of device memory of one page in all layers. */
int64_t engine_page_bytes(const struct rfn_geometry *geometry);

/* The layer whose choice a layer uses: its own number, or an earlier one. */
int32_t engine_index_layer(const struct rfn_geometry *geometry, int32_t layer);

/* Allocates everything that will ever be used but graphs. On failure nothing is kept. */
enum rfn_status engine_create(const struct engine_desc *desc, struct engine **ret_engine);
enum rfn_status engine_destroy(struct engine **engine);

/* Writes what is new of a seat's prompt into all pools, in chunks. */
enum rfn_status engine_pack_prompt(struct engine *engine, const struct batch *batch,
                                   int32_t seat);

/* Captures the graph that the step needs, unless it is there. */
enum rfn_status engine_prepare(struct engine *engine, const struct batch *batch);

/* Hands the keys of the step's rows over. */
enum rfn_status engine_update(struct engine *engine, const struct batch *batch);

/* Fills the inputs with NaN, and a pass's outputs with their poison. */
enum rfn_status engine_poison(struct engine *engine, int eager);

/* Launches the step: the graph, or where none fits the ops one by one (*ret_graph 0). The
 * device advances the lengths when `advance` is 1. */
enum rfn_status engine_step(struct engine *engine, const struct batch *batch, int advance,
                            int *ret_graph);

/* Repeats the step over exactly the live rows, into the eager outputs. */
enum rfn_status engine_eager(struct engine *engine, const struct batch *batch);

/* Copies the first `rows` rows of a pass's outputs to got[eager] and waits. */
enum rfn_status engine_collect(struct engine *engine, int eager, int32_t rows);

/* Fills the cache rows of the step with NaN: all of them, or those of rejected tokens. */
enum rfn_status engine_poison_rows(struct engine *engine, const struct batch *batch,
                                   int rejected);

/* Copies page 0 of every pool to padding[i], and the pages that the step's rows are written
 * to to written[i]; both wait. */
enum rfn_status engine_read_padding(struct engine *engine, int32_t i);
enum rfn_status engine_read_written(struct engine *engine, const struct batch *batch,
                                    int32_t i);

/* Records a step: fills, update, every layer's forward. The ladder's callback. */
enum rfn_status engine_record(void *engine, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket);

/* Puts everything that a recording touches elsewhere, each buffer by another distance within
 * its room, with an attention object of its own; or all of it back, which always works. The
 * first time allocates. What is recorded meanwhile is to be looked at, not launched. */
enum rfn_status engine_move(struct engine *engine, int elsewhere);

/* Makes an attention object with all layers bound, to one of the passes' outputs. */
enum rfn_status engine_attention_create(const struct engine *engine, int eager,
                                        struct rfn_attention **ret_attention);

/* Keeps what a layer chose; its forward was the last thing on `stream`. */
enum rfn_status engine_keep_choice(struct engine *engine, struct rfn_stream *stream,
                                   int32_t layer, int eager, int32_t rows);

/* Position in the context of row t; -1: padding, without work. */
int64_t engine_position(const struct engine *engine, const struct batch *batch,
                        int32_t t);

#define ENGINE_TRY(call)                                                                 \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status tried_ = (call);                                                 \
        if (tried_ != RFN_OK)                                                            \
        {                                                                                \
            return tried_;                                                               \
        }                                                                                \
    } while (0)

#endif
