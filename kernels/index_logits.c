/* index_logits: scores of every cached token against each query token. */
#include "kernels/bounds.h"
#include "kernels/isa.h"
#include "kernels/num.h"
#include "kernels/op.h"
#include "kernels/parallel.h"

#include <math.h>
#include <string.h>

#define DIM 128
#define HEADS_MIN 4
#define HEADS_MAX 64
#define TILE 32    /* keys that are dequantised at once */
#define GROUP 8    /* rows of one request that share a tile: next_n */
#define CHUNK 1024 /* columns of one unit of work */

#define ARGS struct rfn_index_logits_args
#define I32 RFN_DTYPE_BIT(RFN_I32)
#define F32 RFN_DTYPE_BIT(RFN_F32)

static const struct rfn_operand operands[] = {
    { "q8", offsetof(ARGS, q8), RFN_OPERAND_TENSOR, RFN_READ, 0, RFN_DTYPE_BIT(RFN_E4M3),
      "T,H,D", 16 },
    { "w8", offsetof(ARGS, w8), RFN_OPERAND_TENSOR, RFN_READ, 0, F32, "T,H", 0 },
    { "pool", offsetof(ARGS, pool), RFN_OPERAND_POOL, RFN_READ, 0,
      1u << RFN_INDEX_FP8_132, NULL, 16 },
    { "table", offsetof(ARGS, table), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "R,W", 0 },
    { "request", offsetof(ARGS, request), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "T", 0 },
    { "lens", offsetof(ARGS, lens), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "T", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1", 0 },
    { "logits", offsetof(ARGS, logits), RFN_OPERAND_TENSOR, RFN_WRITE, 0, F32, "T,S", 0 },
    { "bounds", offsetof(ARGS, bounds.header), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I64), "8", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "bounds.rows", offsetof(ARGS, bounds.rows), sizeof(int64_t), 0 },
    { "bounds.next_n", offsetof(ARGS, bounds.next_n), sizeof(int32_t), 0 },
};

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    long long H = a->q8.shape[1], D = a->q8.shape[2];
    if (H < HEADS_MIN || H > HEADS_MAX)
        return RFN_FAIL(RFN_INVALID, "q8: H = %lld, but %d .. %d is needed", H, HEADS_MIN,
                        HEADS_MAX);
    if (D != DIM)
        return RFN_FAIL(RFN_INVALID, "q8: D = %lld, but %d is needed", D, DIM);
    return rfn_bounds_check(&a->bounds, a->q8.shape[0]);
}

/* ---- inner kernels, one instance for each instruction set ---------------------------- */

struct inner
{
    void (*queries)(const uint8_t *q8, int64_t stride, int H, float *ret);
    void (*keys)(const uint8_t *const *row, float *ret);
    void (*scores)(const float *q, const float *w, int H, const float *key, float *ret);
};

typedef uint8_t bytes16 __attribute__((vector_size(16)));
#define INTERLEAVE_LOW(a, b)                                                             \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define INTERLEAVE_HIGH(a, b)                                                            \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,  \
                            15, 31)

#define INNER_KERNELS "kernels/index_inner.h"
#include "kernels/instances.h"

static const struct inner inner_table[RFN_ISAS] = {
    { queries_base, keys_base, scores_base },
#if defined(__x86_64__)
    { queries_avx2, keys_avx2, scores_avx2 },
    { queries_avx512, keys_avx512, scores_avx512 },
#endif
};

/* ---- the columns of a row ------------------------------------------------------------ */

static int64_t length_of(const ARGS *a, int64_t t)
{
    int64_t n = ((const int32_t *)a->lens.data)[t], S = a->logits.shape[1];
    return n < 0 ? 0 : n < S ? n : S;
}

/* The block table of a row; NULL for a request that is none. */
static const int32_t *table_of(const ARGS *a, int64_t t)
{
    int64_t request = ((const int32_t *)a->request.data)[t];
    return request < 0 || request >= a->table.shape[0]
               ? NULL
               : (const int32_t *)a->table.data + request * a->table.stride[0];
}

/* The pool's page of the i-th page of a request; -1 where table or pool have none. */
static int64_t page_at(const ARGS *a, const int32_t *table, int64_t i)
{
    int64_t page = i < a->table.shape[1] ? table[i] : -1;
    return page < a->pool.pages ? page : -1;
}

/* What check mode reports, in an order that no thread has a say in. */
static void note_faults(const ARGS *a, int64_t rows, struct rfn_fault *fault)
{
    struct rfn_fault seen = { 0 };
    int64_t P = a->pool.page_tokens, W = a->table.shape[1];
    for (int64_t t = 0; t < rows; t++)
    {
        const int32_t *table = table_of(a, t);
        int64_t pages = (length_of(a, t) + P - 1) / P;
        if (!table && pages)
            rfn_fault_note(&seen, "index_logits", "request", t, 0,
                           ((const int32_t *)a->request.data)[t]);
        for (int64_t i = 0; table && i < pages; i++)
            if (page_at(a, table, i) < 0)
                rfn_fault_note(&seen, "index_logits", "table", t, i,
                               i < W ? table[i] : i);
    }
    rfn_fault_merge(fault, &seen);
}

/* ---- one chunk of columns of rows that share a request ------------------------------- */

struct tile
{
    const uint8_t *row[TILE]; /* zeros where there is no key to load */
    float scale[TILE];
    uint8_t bad[TILE]; /* no such page: the score is -inf */
};

static void find_keys(struct tile *tile, const ARGS *a, const int32_t *table, int64_t s,
                      int n)
{
    static const uint8_t zeros[DIM];
    const struct rfn_format_info *info = rfn_format_query(RFN_INDEX_FP8_132);
    int64_t P = a->pool.page_tokens, stride = rfn_pool_stride(&a->pool);
    int64_t i = s / P, offset = s % P, page = page_at(a, table, i);
    for (int k = 0; k < TILE; k++)
    {
        tile->row[k] = zeros;
        tile->bad[k] = page < 0;
        if (k >= n)
            continue;
        if (page >= 0)
        {
            struct rfn_token token = rfn_page_token(&a->pool, info, stride, page, offset);
            tile->row[k] = token.data;
            memcpy(&tile->scale[k], token.scales, sizeof tile->scale[k]);
        }
        if (++offset == P)
        {
            offset = 0;
            i++;
            page = k + 1 < n ? page_at(a, table, i) : -1;
        }
    }
}

struct block
{
    _Alignas(64) float q[GROUP][HEADS_MAX * DIM];
    float key[DIM * TILE];
    float sum[TILE];
};

static void score(const ARGS *a, const struct inner *inner, int64_t t0, int rows,
                  int64_t begin, int64_t end)
{
    struct block b;
    struct tile tile;
    int H = (int)a->q8.shape[1];
    const int32_t *table = table_of(a, t0);
    int64_t length[GROUP], most = 0;
    for (int r = 0; r < rows; r++)
    {
        int64_t n = length_of(a, t0 + r);
        length[r] = n < end ? n : end;
        most = length[r] > most ? length[r] : most;
        float *logits = (float *)a->logits.data + (t0 + r) * a->logits.stride[0];
        for (int64_t s = begin; !table && s < length[r]; s++)
            logits[s] = -INFINITY;
        if (table && begin < length[r])
            inner->queries((const uint8_t *)a->q8.data + (t0 + r) * a->q8.stride[0],
                           a->q8.stride[1], H, b.q[r]);
    }
    for (int64_t s = begin; table && s < most; s += TILE)
    {
        find_keys(&tile, a, table, s, most - s < TILE ? (int)(most - s) : TILE);
        inner->keys(tile.row, b.key);
        for (int r = 0; r < rows; r++)
        {
            const float *w = (const float *)a->w8.data + (t0 + r) * a->w8.stride[0];
            float *logits = (float *)a->logits.data + (t0 + r) * a->logits.stride[0];
            int64_t n = length[r] - s < TILE ? length[r] - s : TILE;
            if (n > 0)
                inner->scores(b.q[r], w, H, b.key, b.sum);
            for (int64_t k = 0; k < n; k++)
                logits[s + k] = tile.bad[k] ? -INFINITY : b.sum[k] * tile.scale[k];
        }
    }
}

/* Rows of one request stand side by side; the first of each GROUP does the work of all. */
static int first_of_group(const ARGS *a, int64_t t)
{
    const int32_t *request = a->request.data;
    return t % GROUP == 0 || request[t] != request[t - 1];
}

struct run
{
    const ARGS *a;
    const struct inner *inner;
    int64_t rows, chunks;
};

/* One chunk of columns of one row, and of the rows behind it that share its keys. */
static void score_chunk(void *ctx, int64_t u)
{
    const struct run *r = ctx;
    int64_t t = u / r->chunks, begin = u % r->chunks * CHUNK;
    int n = 1;
    if (!first_of_group(r->a, t))
        return;
    while (t + n < r->rows && !first_of_group(r->a, t + n))
        n++;
    score(r->a, r->inner, t, n, begin, begin + CHUNK);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    const struct rfn_bound_set own = rfn_bounds_of_logits(a);
    if (!rfn_bounds_hold(&a->bounds, &own, "index_logits", env->fault))
        return;
    int64_t rows = rfn_live_rows(&a->live, a->q8.shape[0]), most = 0;
    for (int64_t t = 0; t < rows; t++)
        most = length_of(a, t) > most ? length_of(a, t) : most;
    if (env->fault)
        note_faults(a, rows, env->fault);
    struct run r = { a, &inner_table[rfn_isa_here()], rows, (most + CHUNK - 1) / CHUNK };
    rfn_parallel(env->threads, rows * r.chunks, score_chunk, &r);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    int64_t T = a->q8.shape[0], H = a->q8.shape[1], S = a->logits.shape[1];
    if (!T || !S)
        return (struct rfn_cost) { 0 };
    return (struct rfn_cost) {
        .bytes_read = T * (H * (DIM + 4) + S * info->token_bytes),
        .bytes_written = 4 * T * S,
        .flops = 2 * T * S * H * DIM,
    };
}

const struct rfn_op rfn_op_index_logits = {
    .name = "index_logits",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_index_logits_cuda,
#endif
    .cost = cost,
    .tolerance = 1e-5,
};
