/*
 * Dealing out tiles of keys to a persistent grid: index_logits.
 *
 * A tile is some tokens of one page. The tiles of all rows are one list, row after row (rows
 * side by side that share a request can count as one), which is cut into even shares. Every
 * block reads lengths and requests from device memory, sums the tiles, a warp 32 rows, and
 * finds its shares in the sums.
 */
#ifndef RFN_KERNELS_CUDA_INDEX_TILES_CUH
#define RFN_KERNELS_CUDA_INDEX_TILES_CUH

#include "kernels/cuda/bounds.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/scan.cuh"

#include <refrain/op.h>

namespace
{

constexpr uint32_t DIM = 128;
constexpr uint32_t GROUP = 4;   /* rows of one request that share a tile, at most */
constexpr uint32_t CHUNK = 512; /* rows whose tiles are dealt out at a time */
constexpr uint32_t STRIPS = CHUNK / 32; /* what a warp sums at once */
constexpr uint32_t ALL = RFN_ALL_LANES;

struct problem
{
    const uint8_t *q8;
    const float *w8;
    const uint8_t *pool;
    const int32_t *table;
    const int32_t *request;
    const int32_t *lens;
    const int32_t *live;
    float *logits;
    int64_t q8_row;
    int64_t q8_head;
    int64_t w8_row;
    int64_t page_bytes;
    int64_t table_row;
    int64_t logits_row;
    int64_t pages;
    int64_t R;
    int64_t W;
    int64_t S;
    int32_t rows;
    int32_t H;
    int32_t P;
    int32_t parts; /* tiles of a page */
    struct rfn_fault *fault;
    const char *name;
    const char *table_name;
    const char *request_name;
};

/* What both kernels of the op take, and the problem that it states. */
#define INDEX_LOGITS_PARAMS                                                              \
    const uint8_t *q8, const float *w8, const uint8_t *pool, const int32_t *table,       \
        const int32_t *request, const int32_t *lens, const int32_t *live,                \
        const int64_t *bounds, float *logits, int64_t q8_row, int64_t q8_head,           \
        int64_t w8_row, int64_t page_bytes, int64_t table_row, int64_t logits_row,       \
        int64_t T, int64_t S, int64_t R, int64_t W, int64_t pages, int32_t H, int32_t P, \
        int32_t parts, struct rfn_fault *fault, const char *name,                        \
        const char *table_name, const char *request_name,                                \
        const __grid_constant__ struct rfn_bound_set bounds_own, const char *bound_names
#define INDEX_LOGITS_PROBLEM(p)                                                          \
    const problem p = { q8,         w8,          pool,   table,   request, lens,         \
                        live,       logits,      q8_row, q8_head, w8_row,  page_bytes,   \
                        table_row,  logits_row,  pages,  R,       W,       S,            \
                        (int32_t)T, H,           P,      parts,   fault,   name,         \
                        table_name, request_name }

/* Rows side by side that share a request, kept at the first of them. Groups do not cross
 * multiples of 32. */
struct group
{
    int32_t rows;
    int32_t length; /* the longest */
    int32_t request;
    int32_t tiles; /* 0 at rows that are not the first */
};

struct row_sums
{
    group row[CHUNK];
    int32_t length[CHUNK];  /* of a row by itself */
    uint32_t before[CHUNK]; /* tiles of the strip before the row */
    uint32_t total[STRIPS];
};

template <uint32_t TOKENS>
__device__ __forceinline__ int32_t tiles_of(const problem &p, int32_t length)
{
    /* Unsigned: a length may be 2^31 - 1. */
    if (p.P == (int32_t)TOKENS)
        return (int32_t)(((uint32_t)length + TOKENS - 1) / TOKENS);
    int32_t whole = length / p.P;
    int32_t rest = length - whole * p.P;
    return whole * p.parts + (int32_t)(((uint32_t)rest + TOKENS - 1) / TOKENS);
}

/* Sums the strips of `warp` of `warps`, for `rows` rows from `base` on. */
template <uint32_t TOKENS, bool SHARE>
__device__ __forceinline__ void sum_rows(const problem &p, int32_t base, int32_t rows,
                                         row_sums *m, uint32_t warp, uint32_t warps)
{
    uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
    for (uint32_t strip = warp; 32 * (int32_t)strip < rows; strip += warps)
    {
        int32_t t = (int32_t)(32 * strip + lane);
        int64_t n = 0;
        group g = { 1, 0, -1, 0 };
        if (t < rows)
        {
            n = p.lens[base + t];
            g.request = p.request[base + t];
            int32_t alive = p.live ? *p.live : p.rows;
            n = n < 0 || base + t >= alive ? 0 : n < p.S ? n : p.S;
        }
        m->length[t] = (int32_t)n;
        g.length = (int32_t)n;
        if (SHARE)
        {
            uint32_t up_to = (2u << lane) - 1;
            int32_t before = __shfl_up_sync(ALL, g.request, 1);
            uint32_t first =
                __ballot_sync(ALL, lane == 0 || t >= rows || before != g.request);
            uint32_t run = 31 - (uint32_t)__clz((int)(first & up_to));
            uint32_t leads = __ballot_sync(ALL, (lane - run) % GROUP == 0);
            uint32_t next = leads & ~up_to;
            g.rows = (int32_t)((next ? (uint32_t)__ffs((int)next) - 1 : 32) - lane);
#pragma unroll
            for (uint32_t i = 1; i < GROUP; i++)
            {
                int32_t other = __shfl_down_sync(ALL, (int32_t)n, i);
                if ((int32_t)i < g.rows)
                    g.length = max(g.length, other);
            }
            if (!(leads >> lane & 1))
                g.length = 0;
        }
        g.tiles = tiles_of<TOKENS>(p, g.length);
        uint32_t to = rfn_warp_sum_to((uint32_t)g.tiles, lane);
        m->row[t] = g;
        m->before[t] = to - (uint32_t)g.tiles;
        if (lane == 31)
            m->total[strip] = to;
    }
}

/* A share: `left` tiles from `tile` of the group of `row` on. */
struct share
{
    int32_t row;
    int32_t tile;
    uint32_t left;
};

/* What a kernel does before rfn_edge_wait() to be quick behind it: each line of parameters is
 * fetched. Returns what share_of divides by. */
__device__ __forceinline__ uint32_t touch(const problem &p, uint32_t shares)
{
    asm volatile("" ::"l"(p.q8), "l"(p.lens), "l"(p.logits), "l"(p.page_bytes), "l"(p.R),
                 "l"(p.pages), "r"(p.rows), "r"(p.parts), "l"(p.fault),
                 "l"(p.request_name));
    return 0xffffffffu / shares;
}

/* Share i of `shares` of the tiles of `rows` rows, found by a whole warp after all strips are
 * summed. `inverse`: of touch(). */
__device__ __forceinline__ share share_of(const row_sums *m, int32_t rows, uint32_t i,
                                          uint32_t shares, uint32_t inverse)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t before = 0; /* tiles of the strips before */
    uint32_t all;
    if (rows <= 32)
        all = m->total[0];
    else
    {
        uint32_t own = 32 * (int32_t)lane < rows ? m->total[lane] : 0;
        before = rfn_warp_sum_to(own, lane);
        all = __shfl_sync(ALL, before, 31);
        before -= own;
    }
    uint32_t each = __umulhi(all, inverse); /* too small by 1 at most */
    each += all - each * shares >= shares;
    uint32_t more = all - each * shares;
    uint32_t at = i * each + min(i, more);
    share s = { 0, 0, each + (i < more) };
    if (!s.left)
        return s;
    /* The last strip and the last row of it that begin at the tile or before it. */
    int strip = 0;
    if (rows > 32)
    {
        bool is = 32 * (int32_t)lane < rows && before <= at;
        strip = 31 - __clz((int)__ballot_sync(ALL, is));
        at -= __shfl_sync(ALL, before, strip);
    }
    before = m->before[32 * strip + (int)lane];
    int row = 31 - __clz((int)__ballot_sync(ALL, before <= at));
    s.row = 32 * strip + row;
    s.tile = (int32_t)(at - __shfl_sync(ALL, before, row));
    return s;
}

/* Where the keys of a tile are. */
struct tile
{
    int32_t row; /* of the chunk: the group's first */
    int32_t column;
    int32_t tokens;
    int32_t entry;  /* page of the pool, negative: none */
    int32_t offset; /* of the first token in the page */
};

/* Lane i gets tile i of the share, as far as there is one. The share goes on by 32 tiles. */
template <uint32_t TOKENS>
__device__ __forceinline__ tile next_tiles(const problem &p, const row_sums *m, share *s)
{
    uint32_t lane = threadIdx.x % 32;
    int32_t row = s->row;
    int32_t k = s->tile + (int32_t)lane;
    tile ret = { 0, 0, 0, -1, 0 };
    if (lane < s->left)
    {
        group g = m->row[row];
        while (k >= g.tiles)
        {
            k -= g.tiles;
            g = m->row[++row];
        }
        int32_t page = k;
        if (p.parts != 1)
        {
            page = k / p.parts;
            ret.offset = (k - page * p.parts) * (int32_t)TOKENS;
        }
        ret.row = row;
        ret.column = page * p.P + ret.offset;
        ret.tokens = min(min((int32_t)TOKENS, p.P - ret.offset), g.length - ret.column);
        if (g.request >= 0 && g.request < p.R && page < p.W)
        {
            int32_t entry = p.table[g.request * p.table_row + page];
            ret.entry = entry < p.pages ? entry : -1;
        }
    }
    s->row = __shfl_sync(ALL, row, 31);
    s->tile = __shfl_sync(ALL, k, 31) + 1;
    s->left -= min(s->left, 32u);
    return ret;
}

/* Scores -inf, by thread i of `threads`, and in check mode notes each row of no request and
 * each page once. */
__device__ __forceinline__ void no_page(const problem &p, int32_t t, int32_t column,
                                        int32_t n, int32_t i, int32_t threads)
{
    for (int32_t k = i; k < n; k += threads)
        p.logits[t * p.logits_row + column + k] = __uint_as_float(0xff800000u);
    if (!p.fault || i != 0 || column % p.P != 0)
        return;
    int32_t r = p.request[t];
    int32_t page = column / p.P;
    if (r < 0 || r >= p.R)
    {
        if (page == 0)
            rfn_fault_note_cuda(p.fault, p.name, p.request_name, t, 0, r);
        return;
    }
    rfn_fault_note_cuda(p.fault, p.name, p.table_name, t, page,
                        page < p.W ? p.table[r * p.table_row + page] : page);
}

} // namespace

#endif
