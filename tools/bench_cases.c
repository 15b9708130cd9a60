/* The cases of `refrain bench`: each op of a decode step, with content that costs what real
 * content costs. Content is made on the host and copied: every device can be measured. */
#include "tools/bench.h"
#include "tools/tool.h"
#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT_ROWS 1024 /* rows that a prompt's chunk packs */
#define PARTIALS 2
#define SPLIT_KEYS 1024
#define POOL_BYTES_MAX ((int64_t)256 << 20)
#define TEMPLATE_PAGES 64 /* pages of different content; the others repeat them */

/* ---- content ------------------------------------------------------------------------- */

/* Fills elements of host memory; what `n` means is each one's own affair. */
typedef void fill(void *data, int64_t elems, int64_t n);

/* SplitMix64: numbers in a fixed order. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* In [-1, 1). */
static float draw_unit(uint64_t *state)
{
    return (float)(int32_t)(draw(state) >> 32) * 0x1p-31f;
}

static void fill_f32(void *data, int64_t elems, int64_t n)
{
    uint64_t state = (uint64_t)n;
    for (int64_t i = 0; i < elems; i++)
    {
        /* Three uniforms: near a normal distribution. */
        float sum = draw_unit(&state) + draw_unit(&state);
        ((float *)data)[i] = sum + draw_unit(&state);
    }
}

static void fill_bf16(void *data, int64_t elems, int64_t n)
{
    uint64_t state = (uint64_t)n;
    for (int64_t i = 0; i < elems; i++)
    {
        uint32_t bits;
        float x = draw_unit(&state);
        memcpy(&bits, &x, sizeof(bits));
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
    }
}

/* Up to 16 in magnitude, no NaN. */
static void fill_e4m3(void *data, int64_t elems, int64_t n)
{
    uint64_t state = (uint64_t)n;
    for (int64_t i = 0; i < elems; i++)
    {
        uint64_t bits = draw(&state);
        ((uint8_t *)data)[i] = (uint8_t)((bits & 0x80) | (bits >> 32) % 0x58);
    }
}

static void fill_equal(void *data, int64_t elems, int64_t n)
{
    (void)n;
    for (int64_t i = 0; i < elems; i++)
    {
        ((float *)data)[i] = 1.0f;
    }
}

/* Scores that fp16 would not tell apart. */
static void fill_one_bin(void *data, int64_t elems, int64_t n)
{
    uint64_t state = (uint64_t)n;
    for (int64_t i = 0; i < elems; i++)
    {
        ((float *)data)[i] = 1.0f + (float)(draw(&state) % 4096) * 0x1p-23f;
    }
}

/* Every score displaces an earlier one; n columns a row. */
static void fill_ascending(void *data, int64_t elems, int64_t n)
{
    for (int64_t i = 0; i < elems; i++)
    {
        ((float *)data)[i] = (float)(i % n);
    }
}

static void fill_i32(void *data, int64_t elems, int64_t n)
{
    for (int64_t i = 0; i < elems; i++)
    {
        ((int32_t *)data)[i] = (int32_t)n;
    }
}

static void fill_rows(void *data, int64_t elems, int64_t n)
{
    for (int64_t i = 0; i < elems; i++)
    {
        ((int32_t *)data)[i] = (int32_t)(i * n);
    }
}

static void fill_rows_i64(void *data, int64_t elems, int64_t n)
{
    for (int64_t i = 0; i < elems; i++)
    {
        ((int64_t *)data)[i] = i * n;
    }
}

/* All of n, shuffled, as pages lie in a pool that has been used for a while; again from the
 * first when there are more elements. */
static void fill_shuffled(void *data, int64_t elems, int64_t n)
{
    uint64_t state = (uint64_t)n;
    int32_t *at = data;
    for (int64_t i = 0; i < elems; i++)
    {
        int64_t j = (int64_t)(draw(&state) % (uint64_t)(i + 1));
        at[i] = at[j];
        at[j] = (int32_t)(i % n);
    }
}

/* Any of n. */
static void fill_any(void *data, int64_t elems, int64_t n)
{
    uint64_t state = (uint64_t)n;
    for (int64_t i = 0; i < elems; i++)
    {
        ((int32_t *)data)[i] = (int32_t)(draw(&state) % (uint64_t)n);
    }
}

/* ---- device memory --------------------------------------------------------------------- */

static void fail(struct bench_work *work, const char *line)
{
    if (!work->failed)
    {
        tool_error("%s", line);
    }
    work->failed = 1;
}

static void *reserve(struct bench_work *work, int64_t bytes)
{
    void *address = NULL;
    if (work->failed)
    {
        return NULL;
    }
    if (work->memories == BENCH_MEMORY_MAX)
    {
        fail(work, "a case has too many operands");
    }
    else if (rfn_memory_alloc(work->device, RFN_MEMORY_DEVICE, bytes, &address) != RFN_OK)
    {
        fail(work, rfn_last_error());
    }
    else
    {
        work->memory[work->memories++] = address;
    }
    return address;
}

static struct rfn_tensor make(struct bench_work *work, enum rfn_dtype dtype, int64_t d0,
                              int64_t d1, int64_t d2, int64_t d3, fill *content,
                              int64_t n)
{
    int64_t elems = d0 * (d1 > 0 ? d1 : 1) * (d2 > 0 ? d2 : 1) * (d3 > 0 ? d3 : 1);
    int64_t bytes = elems * rfn_dtype_bytes(dtype);
    void *address = reserve(work, bytes);
    if (address != NULL && content != NULL)
    {
        void *host = malloc((size_t)bytes);
        if (host == NULL)
        {
            fail(work, "no memory for the content of an operand");
        }
        else
        {
            content(host, elems, n);
            if (rfn_copy_sync(work->device, address, host, bytes) != RFN_OK)
            {
                fail(work, rfn_last_error());
            }
            free(host);
        }
    }
    return rfn_tensor_of(address, dtype, d0, d1, d2, d3);
}

static struct rfn_tensor make_out(struct bench_work *work, enum rfn_dtype dtype,
                                  int64_t d0, int64_t d1, int64_t d2)
{
    return make(work, dtype, d0, d1, d2, 0, NULL, 0);
}

static void fill_token(const struct rfn_format_info *info, unsigned char *data,
                       unsigned char *scales, int64_t seed)
{
    fill *latent = info->latent_dtype == RFN_BF16 ? fill_bf16 : fill_e4m3;
    latent(data + info->latent_offset, info->latent_elems, seed);
    fill_bf16(data + info->rope_offset, info->rope_elems, seed + 1);
    for (int32_t i = 0; i < info->scales; i++)
    {
        float scale = 0x1p-4f;
        if (info->scale_dtype == RFN_U8)
        {
            scales[i] = 127 - 4;
        }
        else
        {
            memcpy(scales + i * (int32_t)sizeof(scale), &scale, sizeof(scale));
        }
    }
}

static void fill_page(const struct rfn_format_info *info, int32_t tokens,
                      unsigned char *page, int64_t seed)
{
    for (int32_t i = 0; i < tokens; i++)
    {
        unsigned char *data = page + (int64_t)i * info->data_bytes;
        unsigned char *scales = data;
        if (info->planar)
        {
            scales = page + (int64_t)tokens * info->data_bytes +
                     (int64_t)i * info->scale_bytes;
        }
        fill_token(info, data, scales + info->scale_offset, seed + 2 * i);
    }
}

/* A pool for this many tokens, or as many as POOL_BYTES_MAX holds: beyond any cache. */
static struct rfn_pool make_pool(struct bench_work *work, enum rfn_format format,
                                 int64_t tokens)
{
    int32_t P = work->size->geometry->page_tokens;
    int64_t page_bytes = rfn_format_page_bytes(format, P);
    int64_t pages = (tokens + P - 1) / P, most = POOL_BYTES_MAX / page_bytes;
    pages = pages < most ? pages : most;
    unsigned char *address = reserve(work, pages * page_bytes);
    unsigned char *host = calloc(TEMPLATE_PAGES, (size_t)page_bytes);
    if (host == NULL)
    {
        fail(work, "no memory for the content of a pool");
    }
    for (int i = 0; !work->failed && i < TEMPLATE_PAGES; i++)
    {
        fill_page(rfn_format_query(format), P, host + i * page_bytes, 2 * P * i);
    }
    for (int64_t i = 0; !work->failed && i < pages; i += TEMPLATE_PAGES)
    {
        int64_t n = pages - i < TEMPLATE_PAGES ? pages - i : TEMPLATE_PAGES;
        if (rfn_copy_sync(work->device, address + i * page_bytes, host, n * page_bytes) !=
            RFN_OK)
        {
            fail(work, rfn_last_error());
        }
    }
    free(host);
    return (struct rfn_pool) {
        .data = address, .format = format, .page_tokens = P, .pages = pages
    };
}

static int64_t table_pages(const struct bench_size *size)
{
    int32_t P = size->geometry->page_tokens;
    return (size->context + P - 1) / P;
}

static struct rfn_tensor make_table(struct bench_work *work, int64_t pages)
{
    return make(work, RFN_I32, work->size->rows, table_pages(work->size), 0, 0,
                fill_shuffled, pages);
}

/* ---- the ops ----------------------------------------------------------------------------- */

#define SHAPE(...) snprintf(work->shape, sizeof(work->shape), __VA_ARGS__)

/* rows 0: those of a step, each in a page of its own. */
static void build_kv_pack(struct bench_work *work, int32_t rows)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_kv_pack_args *a = &work->args.kv_pack;
    int64_t T = rows > 0 ? rows : work->size->rows, apart = rows > 0 ? 1 : g->page_tokens;
    a->kv = make(work, RFN_BF16, T, g->latent_elems, 0, 0, fill_bf16, 1);
    a->k_rope = make(work, RFN_BF16, T, g->rope_elems, 0, 0, fill_bf16, 2);
    a->slots = make(work, RFN_I64, T, 0, 0, 0, fill_rows_i64, apart);
    a->pool = make_pool(work, g->latent_format, T * apart);
    a->scale = g->latent_scale;
    SHAPE("T %d, D %d", (int)T, g->latent_elems);
}

static void build_index_pack(struct bench_work *work, int32_t rows)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_index_pack_args *a = &work->args.index_pack;
    int64_t T = rows > 0 ? rows : work->size->rows, apart = rows > 0 ? 1 : g->page_tokens;
    a->k = make(work, RFN_BF16, T, g->index_width, 0, 0, fill_bf16, 1);
    a->slots = make(work, RFN_I64, T, 0, 0, 0, fill_rows_i64, apart);
    a->pool = make_pool(work, g->index_format, T * apart);
    a->scale = g->index_scale;
    SHAPE("T %d, D %d", (int)T, g->index_width);
}

static void build_index_query_pack(struct bench_work *work, int32_t parameter)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_index_query_pack_args *a = &work->args.index_query_pack;
    int64_t T = work->size->rows, H = g->index_heads, D = g->index_width;
    (void)parameter;
    a->q = make(work, RFN_BF16, T, H, D, 0, fill_bf16, 1);
    a->w = make(work, RFN_F32, T, H, 0, 0, fill_f32, 2);
    a->q8 = make_out(work, RFN_E4M3, T, H, D);
    a->w8 = make_out(work, RFN_F32, T, H, 0);
    a->scale = g->index_scale;
    SHAPE("T %d, H %d", (int)T, (int)H);
}

static void build_index_logits(struct bench_work *work, int32_t parameter)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_index_logits_args *a = &work->args.index_logits;
    int64_t T = work->size->rows, H = g->index_heads, S = work->size->context;
    (void)parameter;
    a->q8 = make(work, RFN_E4M3, T, H, g->index_width, 0, fill_e4m3, 1);
    a->w8 = make(work, RFN_F32, T, H, 0, 0, fill_f32, 2);
    a->pool = make_pool(work, g->index_format, T * S);
    a->table = make_table(work, a->pool.pages);
    a->request = make(work, RFN_I32, T, 0, 0, 0, fill_rows, 1);
    a->lens = make(work, RFN_I32, T, 0, 0, 0, fill_i32, S);
    a->logits = make_out(work, RFN_F32, T, S, 0);
    work->scores = T * S;
    SHAPE("T %d, H %d, S %d", (int)T, (int)H, (int)S);
}

/* All of every context, as far as that is no more than the largest pool. */
static void build_index_gather(struct bench_work *work, int32_t parameter)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_index_gather_args *a = &work->args.index_gather;
    int64_t R = work->size->rows, S = work->size->context;
    int64_t most = POOL_BYTES_MAX / rfn_format_query(g->index_format)->token_bytes / R;
    (void)parameter;
    S = S < most ? S : most;
    a->pool = make_pool(work, g->index_format, R * S);
    a->table = make_table(work, a->pool.pages);
    a->starts = make(work, RFN_I32, R + 1, 0, 0, 0, fill_rows, S);
    a->keys = make_out(work, RFN_E4M3, R * S, g->index_width, 0);
    a->scales = make_out(work, RFN_F32, R * S, 0, 0);
    SHAPE("R %d, S %d", (int)R, (int)S);
}

static fill *const score_fill[] = { fill_f32, fill_equal, fill_one_bin, fill_ascending };

static void build_index_topk(struct bench_work *work, int32_t scores)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_index_topk_args *a = &work->args.index_topk;
    int64_t T = work->size->rows, S = work->size->context;
    a->logits = make(work, RFN_F32, T, S, 0, 0, score_fill[scores], S);
    a->lens = make(work, RFN_I32, T, 0, 0, 0, fill_i32, S);
    a->pages = T * table_pages(work->size);
    a->table = make_table(work, a->pages);
    a->request = make(work, RFN_I32, T, 0, 0, 0, fill_rows, 1);
    a->slots = make_out(work, RFN_I32, T, g->topk, 0);
    a->page_tokens = g->page_tokens;
    work->scores = T * S;
    SHAPE("T %d, K %d, S %d", (int)T, g->topk, (int)S);
}

/* heads 0: the geometry's. */
static void build_sparse_mla(struct bench_work *work, int32_t heads)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_sparse_mla_args *a = &work->args.sparse_mla;
    struct rfn_mla_source *source = &a->source[0];
    int64_t T = work->size->rows, H = heads > 0 ? heads : g->heads;
    int64_t K = g->topk < work->size->context ? g->topk : work->size->context;
    a->q = make(work, RFN_BF16, T, H, g->latent_elems + g->rope_elems, 0, fill_bf16, 1);
    source->pool = make_pool(work, g->latent_format, T * work->size->context);
    source->indices =
        make(work, RFN_I32, T, K, 0, 0, fill_any, source->pool.pages * g->page_tokens);
    a->out = make_out(work, RFN_BF16, T, H, g->v_elems);
    a->lse = make_out(work, RFN_F32, T, H, 0);
    a->scale = g->scale;
    SHAPE("T %d, H %d, K %d", (int)T, (int)H, (int)K);
}

static void build_mla_combine(struct bench_work *work, int32_t partials)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_mla_combine_args *a = &work->args.mla_combine;
    int64_t N = partials, T = work->size->rows, H = g->heads;
    a->out_part = make(work, RFN_F32, N, T, H, g->v_elems, fill_f32, 1);
    a->lse_part = make(work, RFN_F32, N, T, H, 0, fill_f32, 2);
    a->out = make_out(work, RFN_BF16, T, H, g->v_elems);
    a->lse = make_out(work, RFN_F32, T, H, 0);
    SHAPE("N %d, T %d, H %d", (int)N, (int)T, (int)H);
}

static void build_step_update(struct bench_work *work, int32_t next_n)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_step_update_args *a = &work->args.step_update;
    int64_t R = work->size->rows, T = R * next_n;
    a->lens = make(work, RFN_I32, R, 0, 0, 0, fill_i32, work->size->context);
    a->q_lens = make(work, RFN_I32, R, 0, 0, 0, fill_i32, next_n);
    a->pages = R * table_pages(work->size);
    a->table = make_table(work, a->pages);
    a->requests = make(work, RFN_I32, 1, 0, 0, 0, fill_i32, R);
    a->request = make_out(work, RFN_I32, T, 0, 0);
    a->context = make_out(work, RFN_I32, T, 0, 0);
    a->slots = make_out(work, RFN_I64, T, 0, 0);
    a->live = make_out(work, RFN_I32, 1, 0, 0);
    a->next_n = next_n;
    a->page_tokens = g->page_tokens;
    SHAPE("R %d, next_n %d", (int)R, (int)next_n);
}

/* A decode step, divided by keys. */
static void build_split_lists(struct bench_work *work, int32_t keys)
{
    struct rfn_split_lists_args *a = &work->args.split_lists;
    int64_t R = work->size->rows, S = work->size->context;
    int64_t N = R * ((S + keys) / keys);
    a->q_lens = make(work, RFN_I32, R, 0, 0, 0, fill_i32, 1);
    a->cached = make(work, RFN_I32, R, 0, 0, 0, fill_i32, S - 1);
    a->maxima = make_out(work, RFN_I32, RFN_SPLIT_MAXIMA, 0, 0);
    a->decoder = make_out(work, RFN_I32, N, 2, 0);
    a->counts = make_out(work, RFN_I32, RFN_SPLIT_COUNTS, 0, 0);
    a->decoder_keys = keys;
    SHAPE("R %d, N %d", (int)R, (int)N);
}

static void build_prefix_lists(struct bench_work *work, int32_t keys)
{
    struct rfn_prefix_lists_args *a = &work->args.prefix_lists;
    int64_t R = work->size->rows, S = work->size->context;
    int64_t N = R * ((S + keys) / keys);
    a->q_lens = make(work, RFN_I32, R, 0, 0, 0, fill_i32, 1);
    a->cached = make(work, RFN_I32, R, 0, 0, 0, fill_i32, S - 1);
    a->tiles = make_out(work, RFN_I32, N, 2, 0);
    a->key_starts = make_out(work, RFN_I32, R + 1, 0, 0);
    a->counts = make_out(work, RFN_I32, RFN_PREFIX_COUNTS, 0, 0);
    a->prefix_keys = keys;
    SHAPE("R %d, N %d", (int)R, (int)N);
}

static void build_synth_fill(struct bench_work *work, int32_t rows)
{
    const struct rfn_geometry *g = work->size->geometry;
    struct rfn_synth_fill_args *a = &work->args.synth_fill;
    int64_t D = g->latent_elems + g->rope_elems;
    a->out = make_out(work, RFN_BF16, rows, D, 0);
    a->keys = make(work, RFN_I64, rows, 0, 0, 0, fill_rows_i64, 1);
    a->amplitude = 1.0f;
    SHAPE("T %d, D %d", (int)rows, (int)D);
}

/* clang-format off */
static const struct bench_case cases[] = {
    { &rfn_op_step_update,      "step",         0, build_step_update,      1 },
    { &rfn_op_split_lists,      "step",         0, build_split_lists,      SPLIT_KEYS },
    { &rfn_op_prefix_lists,     "step",         0, build_prefix_lists,     SPLIT_KEYS },
    { &rfn_op_kv_pack,          "step",         0, build_kv_pack,          0 },
    { &rfn_op_kv_pack,          "prompt",       0, build_kv_pack,          PROMPT_ROWS },
    { &rfn_op_index_pack,       "step",         0, build_index_pack,       0 },
    { &rfn_op_index_pack,       "prompt",       0, build_index_pack,       PROMPT_ROWS },
    { &rfn_op_index_query_pack, "step",         0, build_index_query_pack, 0 },
    { &rfn_op_index_gather,     "prompt",       0, build_index_gather,     0 },
    { &rfn_op_index_logits,     "step",         1, build_index_logits,     0 },
    { &rfn_op_index_topk,       "random",       0, build_index_topk,       0 },
    { &rfn_op_index_topk,       "all equal",    0, build_index_topk,       1 },
    { &rfn_op_index_topk,       "one fp16 bin", 0, build_index_topk,       2 },
    { &rfn_op_index_topk,       "ascending",    0, build_index_topk,       3 },
    { &rfn_op_sparse_mla,       "step",         1, build_sparse_mla,       0 },
    { &rfn_op_sparse_mla,       "16 heads",     1, build_sparse_mla,       16 },
    { &rfn_op_sparse_mla,       "8 heads",      1, build_sparse_mla,       8 },
    { &rfn_op_mla_combine,      "f32",          0, build_mla_combine,      PARTIALS },
    { &rfn_op_synth_fill,       "prompt",       0, build_synth_fill,       PROMPT_ROWS },
};
/* clang-format on */

const struct bench_case *bench_case_at(size_t i)
{
    return i < sizeof(cases) / sizeof(cases[0]) ? &cases[i] : NULL;
}

int bench_case_applies(const struct bench_case *row, const struct bench_size *size)
{
    return row->build != build_sparse_mla || row->parameter < size->geometry->heads;
}

int bench_work_open(const struct bench_case *row, struct bench_work *work)
{
    row->build(work, row->parameter);
    return work->failed ? TOOL_ENVIRONMENT : TOOL_OK;
}

int bench_work_close(struct bench_work *work)
{
    for (int32_t i = 0; i < work->memories; i++)
    {
        if (rfn_memory_free(work->device, work->memory[i]) != RFN_OK)
        {
            fail(work, rfn_last_error());
        }
    }
    work->memories = 0;
    return work->failed ? TOOL_ENVIRONMENT : TOOL_OK;
}
