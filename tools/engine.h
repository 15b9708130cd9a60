/*
 * The device half of decode: buffers, one graph a bucket, steps.
 *
 * A step's inputs lie in step buffers of fixed capacity. The host fills a pinned copy (a ring
 * of two, each guarded by an event), copies it on the step's stream and launches one
 * executable. Rows between the live ones and the bucket hold garbage and NaN. `replay`
 * outputs are written by graphs, `eager` ones by the same ops launched one by one.
 */
#ifndef TOOLS_ENGINE_H
#define TOOLS_ENGINE_H

#include "tools/batch.h"
#include "tools/geometry.h"
#include <refrain/refrain.h>

#define ENGINE_BUCKETS 16
#define ENGINE_RING 2
#define ENGINE_CHUNK_TOKENS 512

/* The slot that padded rows name: the first of a page that a request may own. */
#define ENGINE_PADDING_SLOT 0

/* Bytes that outputs hold before they are written: an element that neither pass writes
 * differs between the passes, and the values of replay are NaN. */
#define ENGINE_POISON_SLOTS 0xfb
#define ENGINE_POISON_VALUES 0xff
#define ENGINE_POISON_EAGER_SLOTS 0xfd
#define ENGINE_POISON_EAGER_VALUES 0x7f

struct engine_desc
{
    struct rfn_device *device;
    const struct geometry *geometry;
    const struct trace *trace;
    int32_t rows; /* rounded up to a bucket */
    int64_t pages;
    uint64_t seed;
};

struct engine_bucket
{
    int32_t rows;
    struct rfn_exec *exec; /* NULL: its capture failed */
    int32_t nodes;
    int64_t replays;
    int64_t live_rows;
};

/* One pass's outputs of a layer, on the device. */
struct engine_output
{
    void *slots; /* top-k workspace: [rows, K] i32 */
    void *out;   /* [rows, H, V] bf16 */
    void *lse;   /* [rows, H] f32 */
};

struct engine_layer
{
    struct rfn_pool pool;
    void *row;    /* [rows, QK] bf16: latent and rope parts of the new token */
    void *query;  /* [rows, H, QK] bf16 */
    void *scores; /* [rows, S] f32 */
    struct engine_output replay;
    struct engine_output eager;
};

/* Where things stand in a pinned copy of the step buffers, in bytes. */
struct engine_layout
{
    int64_t slots; /* slots, lens, request and live are one allocation on the device */
    int64_t lens;
    int64_t request;
    int64_t live;
    int64_t control_bytes;
    int64_t table;
    int64_t layer;
    int64_t layer_bytes;
    int64_t row; /* within a layer */
    int64_t query;
    int64_t scores;
    int64_t bytes;
};

/* Sizes of one row, and offsets within one layer of a host copy of outputs. */
struct engine_sizes
{
    int64_t row_bytes;
    int64_t query_bytes;
    int64_t scores_bytes;
    int64_t table_bytes;
    int64_t slots_bytes;
    int64_t out_bytes;
    int64_t lse_bytes;
    int64_t out_offset;
    int64_t lse_offset;
    int64_t layer_bytes;
};

struct engine_pinned
{
    uint8_t *data;
    struct rfn_event *event; /* recorded behind the last copy from it */
};

/* Plants a mistake in a capture; called between the ops of the first bucket's first layer. */
struct engine;
typedef void engine_plant(struct engine *engine);

struct engine
{
    struct engine_desc desc;
    struct rfn_stream *stream;
    struct rfn_stream *other; /* for planted mistakes */
    void *scratch;            /* 256 device bytes, likewise */
    uint8_t *scratch_pinned;
    int32_t rows;
    int64_t columns;
    struct engine_layout layout;
    struct engine_sizes sizes;
    uint8_t *control; /* device */
    void *table;
    struct engine_layer *layer;
    struct engine_bucket bucket[ENGINE_BUCKETS];
    int32_t buckets;
    struct engine_pinned ring[ENGINE_RING];
    int64_t turn;
    struct engine_pinned chunk[ENGINE_RING]; /* prompt rows, then slots */
    int64_t chunk_turn;
    void *chunk_rows;
    void *chunk_slots;
    uint8_t *got_replay; /* pinned copies of outputs */
    uint8_t *got_eager;
    uint8_t *written[2]; /* pinned copies of the cache rows that a step wrote */
    uint8_t *padding[2]; /* pinned copies of the cache rows that padding points at */
    int64_t device_bytes;
    int64_t pinned_bytes;
};

/* Bytes of device memory of one page in all layers. */
int64_t engine_page_bytes(const struct geometry *geometry);

/* Allocates everything that will ever be used. On failure nothing is kept. */
enum rfn_status engine_create(const struct engine_desc *desc, struct engine **ret_engine);
enum rfn_status engine_destroy(struct engine **engine);

/* Captures one graph a bucket. A capture that a rule of capture ended leaves its bucket
 * without a graph, which is no error here. `plant` may be NULL. */
enum rfn_status engine_prepare(struct engine *engine, engine_plant *plant);

/* The smallest bucket with a graph that holds `rows`; NULL when there is none. */
struct engine_bucket *engine_bucket_for(struct engine *engine, int32_t rows);

/* Writes the prompt of a seat into all pools, in chunks. */
enum rfn_status engine_pack_prompt(struct engine *engine, const struct batch *batch,
                                   int32_t seat);

/* Fills the step buffers for the batch's live rows and enqueues their copies. */
enum rfn_status engine_update(struct engine *engine, struct batch *batch,
                              const struct engine_bucket *bucket);

/* Overwrites the outputs of a pass with their poison. */
enum rfn_status engine_poison(struct engine *engine, int eager);

/* Launches a bucket's graph. */
enum rfn_status engine_replay(struct engine *engine, struct engine_bucket *bucket);

/* Launches the ops one by one over exactly `live` rows, into the eager outputs. */
enum rfn_status engine_eager(struct engine *engine, int32_t live);

/* Copies the first `rows` rows of a pass's outputs to got_replay or got_eager and waits. */
enum rfn_status engine_collect(struct engine *engine, int eager, int32_t rows);

/* Copies what stands in the slot that padded rows name, a row a layer, to padding[i] and
 * waits. */
enum rfn_status engine_read_padding(struct engine *engine, int32_t i);

/* Copies the cache rows of this step's tokens to written[i] and waits. */
enum rfn_status engine_read_written(struct engine *engine, const struct batch *batch,
                                    int32_t i);

/* Ops of one layer as engine_record.c builds them, for both passes. */
struct engine_ops
{
    struct rfn_kv_pack_args kv_pack;
    struct rfn_index_topk_args index_topk;
    struct rfn_sparse_mla_args sparse_mla;
};
void engine_layer_ops(const struct engine *engine, int32_t layer, int32_t rows, int eager,
                      struct engine_ops *ret_ops);

#endif
