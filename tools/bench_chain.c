#include "tools/bench_chain.h"
#include "tools/synth.h"
#include <refrain/refrain.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 256
#define FILL_TOKENS 65536 /* of a pool, at once */
#define TABLE_SEED 1

static int64_t align(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* ---- what a set consists of ------------------------------------------------------------- */

static int64_t pages_of(const struct bench_chain_desc *desc)
{
    int32_t P = desc->geometry->page_tokens;
    return (int64_t)desc->requests * ((desc->capacity + P - 1) / P);
}

/* Hands out parts of one allocation; from NULL only their sizes. */
struct cut
{
    char *base;
    int64_t used;
};

static void *cut(struct cut *from, int64_t bytes)
{
    void *part = from->base != NULL ? from->base + from->used : NULL;
    from->used += align(bytes);
    return part;
}

/* Rows of bf16 begin at multiples of 16 bytes. */
static struct rfn_tensor cut_rows(struct cut *from, int64_t T, int64_t d1, int64_t d2)
{
    int64_t stride = (d1 * (d2 > 0 ? d2 : 1) + 7) / 8 * 8;
    struct rfn_tensor rows =
        rfn_tensor_of(cut(from, T * stride * 2), RFN_BF16, T, d1, d2, 0);
    rows.stride[0] = stride;
    return rows;
}

static struct rfn_pool cut_pool(struct cut *from, const struct bench_chain_desc *desc,
                                enum rfn_format format)
{
    int32_t P = desc->geometry->page_tokens;
    int64_t page_bytes = rfn_format_page_bytes(format, P);
    return (struct rfn_pool) {
        .data = cut(from, pages_of(desc) * page_bytes),
        .format = format,
        .page_tokens = P,
        .pages = pages_of(desc),
        .page_stride_bytes = page_bytes,
    };
}

static int64_t lay_out(const struct bench_chain_desc *desc, struct bench_set *set)
{
    const struct rfn_geometry *g = desc->geometry;
    struct rfn_layer_io *io = &set->io;
    struct cut from = { set->memory, 0 };
    int64_t T = (int64_t)desc->requests * desc->next_n;
    int64_t qk = g->latent_elems + g->rope_elems;
    set->caches.latent = cut_pool(&from, desc, g->latent_format);
    set->caches.index = cut_pool(&from, desc, g->index_format);
    io->q = cut_rows(&from, T, g->heads, qk);
    io->kv = cut_rows(&from, T, g->latent_elems, 0);
    io->k_rope = cut_rows(&from, T, g->rope_elems, 0);
    io->index_q = cut_rows(&from, T, g->index_heads, g->index_width);
    io->index_w = cut_rows(&from, T, g->index_heads, 0);
    io->index_k = cut_rows(&from, T, g->index_width, 0);
    io->out = cut_rows(&from, T, g->heads, g->v_elems);
    io->lse = rfn_tensor_of(cut(&from, T * g->heads * 4), RFN_F32, T, g->heads, 0, 0);
    return from.used;
}

int64_t bench_set_bytes(const struct bench_chain_desc *desc)
{
    struct bench_set set = { 0 };
    return lay_out(desc, &set);
}

/* ---- content ------------------------------------------------------------------------- */

/* Device memory that content passes through. */
struct fill
{
    const struct bench_pass *pass;
    int64_t tokens;
    struct rfn_tensor keys;  /* 0, 1, ... */
    struct rfn_tensor slots; /* the same */
    void *rows;
};

static enum rfn_status fill_open(const struct bench_chain_desc *desc, struct fill *fill)
{
    const struct rfn_geometry *g = desc->geometry;
    struct rfn_device *device = desc->pass->device;
    int64_t rows = (int64_t)desc->requests * desc->next_n;
    int64_t tokens = pages_of(desc) * g->page_tokens;
    tokens =
        tokens < FILL_TOKENS ? tokens : FILL_TOKENS / g->page_tokens * g->page_tokens;
    tokens = tokens > rows ? tokens : rows;
    *fill = (struct fill) { .pass = desc->pass, .tokens = tokens };
    void *keys = NULL;
    int64_t *host = malloc((size_t)tokens * sizeof(*host));
    if (host == NULL)
    {
        return rfn_error(RFN_NOMEM, "no memory for %lld keys", (long long)tokens);
    }
    for (int64_t i = 0; i < tokens; i++)
    {
        host[i] = i;
    }
    enum rfn_status status =
        rfn_memory_alloc(device, RFN_MEMORY_DEVICE, tokens * 8, &keys);
    if (status == RFN_OK)
    {
        fill->keys = rfn_tensor_of(keys, RFN_I64, tokens, 0, 0, 0);
        fill->slots = fill->keys;
        status = rfn_copy_sync(device, keys, host, tokens * 8);
    }
    free(host);
    BENCH_TRY(status);
    return rfn_memory_alloc(device, RFN_MEMORY_DEVICE,
                            tokens * (g->latent_elems + g->rope_elems) * 2, &fill->rows);
}

static enum rfn_status fill_close(struct fill *fill)
{
    enum rfn_status rows = rfn_memory_free(fill->pass->device, fill->rows);
    enum rfn_status keys = rfn_memory_free(fill->pass->device, fill->keys.data);
    return rows != RFN_OK ? rows : keys;
}

/* Rows of a kind, all extents behind the first as one. */
static enum rfn_status fill_rows(const struct fill *fill, struct rfn_tensor rows,
                                 int64_t salt, enum synth_kind kind)
{
    int64_t elems = rows.shape[1] * (rows.dims > 2 ? rows.shape[2] : 1);
    struct rfn_synth_fill_args args = {
        .out = rfn_tensor_of(rows.data, RFN_BF16, rows.shape[0], elems, 0, 0),
        .keys = fill->keys,
        .salt = salt * SYNTH_KINDS + (int64_t)kind,
        .amplitude = synth_amplitude(kind),
    };
    args.keys.shape[0] = rows.shape[0];
    args.out.stride[0] = rows.stride[0];
    return rfn_synth_fill(fill->pass->stream, &args);
}

/* Every token of a pool is another one: scores are as different as a real cache's. */
static enum rfn_status fill_pools(const struct fill *fill, const struct rfn_geometry *g,
                                  const struct rfn_layer_caches *caches, int64_t salt)
{
    int64_t pages = caches->latent.pages, step = fill->tokens / g->page_tokens;
    int64_t qk = g->latent_elems + g->rope_elems;
    for (int64_t first = 0; first < pages; first += step)
    {
        int64_t n = pages - first < step ? pages - first : step, T = n * g->page_tokens;
        struct rfn_kv_pack_args kv = { .pool = caches->latent, .scale = g->latent_scale };
        struct rfn_index_pack_args key = { .pool = caches->index,
                                           .scale = g->index_scale };
        kv.pool.data = (char *)kv.pool.data + first * kv.pool.page_stride_bytes;
        key.pool.data = (char *)key.pool.data + first * key.pool.page_stride_bytes;
        kv.pool.pages = key.pool.pages = n;
        kv.slots = key.slots = fill->slots;
        kv.slots.shape[0] = key.slots.shape[0] = T;
        struct rfn_tensor rows = rfn_tensor_of(fill->rows, RFN_BF16, T, qk, 0, 0);
        BENCH_TRY(fill_rows(fill, rows, salt + first, SYNTH_ROW));
        kv.kv = rows;
        kv.kv.shape[1] = g->latent_elems;
        kv.k_rope = kv.kv;
        kv.k_rope.data = (uint16_t *)rows.data + g->latent_elems;
        kv.k_rope.shape[1] = g->rope_elems;
        BENCH_TRY(rfn_kv_pack(fill->pass->stream, &kv));
        key.k = rfn_tensor_of(fill->rows, RFN_BF16, T, g->index_width, 0, 0);
        BENCH_TRY(fill_rows(fill, key.k, salt + first, SYNTH_INDEX_KEY));
        BENCH_TRY(rfn_index_pack(fill->pass->stream, &key));
    }
    return RFN_OK;
}

static enum rfn_status fill_set(const struct fill *fill, const struct rfn_geometry *g,
                                const struct bench_set *set, int32_t i)
{
    const struct rfn_layer_io *io = &set->io;
    int64_t salt = (int64_t)(i + 1) << 32;
    BENCH_TRY(fill_pools(fill, g, &set->caches, salt));
    BENCH_TRY(fill_rows(fill, io->q, salt, SYNTH_QUERY));
    BENCH_TRY(fill_rows(fill, io->kv, salt + 1, SYNTH_ROW));
    BENCH_TRY(fill_rows(fill, io->k_rope, salt + 2, SYNTH_ROW));
    BENCH_TRY(fill_rows(fill, io->index_q, salt, SYNTH_INDEX_QUERY));
    BENCH_TRY(fill_rows(fill, io->index_w, salt, SYNTH_INDEX_WEIGHT));
    return fill_rows(fill, io->index_k, salt + 3, SYNTH_INDEX_KEY);
}

static enum rfn_status open_sets(struct bench_chain *chain)
{
    const struct bench_chain_desc *desc = &chain->desc;
    struct fill fill;
    enum rfn_status status = fill_open(desc, &fill);
    for (int32_t i = 0; status == RFN_OK && i < desc->sets; i++)
    {
        struct bench_set *set = &chain->set[i];
        status = rfn_memory_alloc(desc->pass->device, RFN_MEMORY_DEVICE,
                                  bench_set_bytes(desc), &set->memory);
        if (status == RFN_OK)
        {
            lay_out(desc, set);
            status = fill_set(&fill, desc->geometry, set, i);
        }
    }
    if (status == RFN_OK)
    {
        status = rfn_stream_sync(desc->pass->stream);
    }
    enum rfn_status closed = fill_close(&fill);
    return status != RFN_OK ? status : closed;
}

/* ---- the attention object ---------------------------------------------------------------- */

/* All pages of a pool, each once, as they lie in one that has been used for a while. */
static enum rfn_status make_step(struct bench_chain *chain)
{
    const struct bench_chain_desc *desc = &chain->desc;
    int64_t pages = pages_of(desc), R = desc->requests;
    chain->table_pages = pages / R;
    chain->lens = malloc((size_t)R * sizeof(int32_t));
    chain->table = malloc((size_t)pages * sizeof(int32_t));
    if (chain->lens == NULL || chain->table == NULL)
    {
        return rfn_error(RFN_NOMEM, "no memory for a table of %lld pages",
                         (long long)pages);
    }
    for (int64_t b = 0; b < R; b++)
    {
        chain->lens[b] = desc->context;
    }
    for (int64_t i = 0; i < pages; i++)
    {
        int64_t j = (int64_t)(synth_pick(TABLE_SEED, (uint64_t)i, 0) % (uint64_t)(i + 1));
        chain->table[i] = chain->table[j];
        chain->table[j] = (int32_t)i;
    }
    chain->step = (struct rfn_step) {
        .requests = desc->requests,
        .lens = chain->lens,
        .table = chain->table,
        .table_stride = chain->table_pages,
    };
    return RFN_OK;
}

enum rfn_status bench_chain_open(const struct bench_chain_desc *desc,
                                 struct bench_chain *chain)
{
    struct rfn_stream *stream = desc->pass->stream;
    struct rfn_attention_limits limits = { .requests = desc->requests,
                                           .next_n = desc->next_n,
                                           .context = desc->capacity,
                                           .pages = pages_of(desc) };
    *chain = (struct bench_chain) { .desc = *desc, .geometry = *desc->geometry };
    chain->geometry.layers = desc->layers;
    chain->geometry.index_source = NULL;
    BENCH_TRY(open_sets(chain));
    BENCH_TRY(rfn_attention_create(desc->pass->device, &chain->geometry, &limits,
                                   &chain->attention));
    for (int32_t l = 0; l < desc->layers; l++)
    {
        const struct bench_set *set = &chain->set[l % desc->sets];
        BENCH_TRY(rfn_attention_bind(chain->attention, l, &set->caches, &set->io));
    }
    BENCH_TRY(make_step(chain));
    BENCH_TRY(rfn_attention_plan(chain->attention, stream, &chain->step, &chain->bucket));
    BENCH_TRY(rfn_attention_update(chain->attention, stream, &chain->bucket));
    return rfn_stream_sync(stream);
}

enum rfn_status bench_chain_close(struct bench_chain *chain)
{
    enum rfn_status first = RFN_OK;
    if (chain->attention != NULL)
    {
        first = rfn_attention_destroy(&chain->attention);
    }
    for (int32_t i = 0; i < chain->desc.sets; i++)
    {
        enum rfn_status status =
            rfn_memory_free(chain->desc.pass->device, chain->set[i].memory);
        first = first != RFN_OK ? first : status;
    }
    free(chain->lens);
    free(chain->table);
    return first;
}

enum rfn_status bench_chain_capture(struct bench_chain *chain, int32_t updates,
                                    int32_t layers, struct rfn_graph **ret_graph)
{
    struct rfn_stream *stream = chain->desc.pass->stream;
    BENCH_TRY(rfn_capture_begin(stream, NULL));
    enum rfn_status status = RFN_OK;
    for (int32_t i = 0; status == RFN_OK && i < updates; i++)
    {
        status = rfn_attention_update(chain->attention, stream, &chain->bucket);
    }
    for (int32_t l = 0; status == RFN_OK && l < layers; l++)
    {
        status = rfn_attention_forward(chain->attention, stream, l, &chain->bucket);
    }
    enum rfn_status ended = rfn_capture_end(stream, ret_graph);
    return status != RFN_OK ? status : ended;
}

enum rfn_status bench_time_launch(const struct bench_pass *pass, struct rfn_exec *exec,
                                  float *ret_ms)
{
    BENCH_TRY(rfn_event_record(pass->start, pass->stream, 0));
    BENCH_TRY(rfn_exec_launch(exec, pass->stream));
    BENCH_TRY(rfn_event_record(pass->end, pass->stream, 0));
    BENCH_TRY(rfn_event_sync(pass->end));
    return rfn_event_elapsed(pass->start, pass->end, ret_ms);
}
