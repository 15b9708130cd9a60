/*
 * Dealing out tiles of keys to the warps of a persistent grid, and loading them: index_logits.
 *
 * The work of all rows is one list of tiles, which is cut into even shares, one a scoring
 * warp. The loading warps read lengths and requests from device memory, sum the work, find
 * the shares of their block, and feed the rings.
 */
#ifndef RFN_KERNELS_CUDA_INDEX_TILES_CUH
#define RFN_KERNELS_CUDA_INDEX_TILES_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/scan.cuh"

#include <refrain/op.h>

namespace
{

constexpr uint32_t DIM = 128;
constexpr uint32_t TOKENS = 64; /* of a tile, at most */
constexpr uint32_t HALF = 32;   /* tokens that are scored at once */
constexpr uint32_t WARPS = 8;   /* that score */
constexpr uint32_t LOADERS = 4; /* warps that load: a whole warpgroup, for setmaxnreg */
constexpr uint32_t THREADS = 32 * (WARPS + LOADERS);
constexpr uint32_t PARTS = 32 * LOADERS; /* threads that sum the work */
constexpr uint32_t STAGES = 3;           /* tiles in a ring */
constexpr uint32_t GROUP = 8;   /* rows of one request that share a tile: next_n */
constexpr uint32_t CHUNK = 512; /* rows whose work is dealt out at a time */
constexpr uint32_t ALL = 0xffffffffu;

struct problem
{
    const uint8_t *q8;
    const float *w8;
    const uint8_t *pool;
    const int32_t *table;
    const int32_t *request;
    const int32_t *lens;
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
    int32_t alive;
    int32_t H;
    int32_t P;
    int32_t tokens; /* of a tile: HALF or TOKENS */
    int32_t parts;  /* tiles of a page */
    int32_t share;  /* 0: each row is a group */
    struct rfn_fault *fault;
    const char *name;
    const char *table_name;
    const char *request_name;
};

/* What a stage of the ring holds. leader < 0: the share has ended. */
struct tile
{
    int32_t leader; /* first row of the group */
    int32_t rows;
    int32_t column; /* of the first token */
    int32_t tokens; /* negative: on no page, nothing was loaded */
};

/* As a whole page of 64 tokens lies in the pool. */
struct stage
{
    uint8_t key[TOKENS * DIM];
    float scale[TOKENS];
};

/* Rows side by side that share a request, kept at the first of them. Groups do not cross
 * multiples of GROUP. */
struct group
{
    int32_t rows;
    int32_t length; /* the longest */
    int32_t request;
    int32_t tiles; /* 0 at rows that are not the first */
};

struct shared_memory
{
    stage ring[WARPS][STAGES];
    tile what[WARPS][STAGES];
    uint64_t full[WARPS][STAGES]; /* mbarriers */
    uint64_t empty[WARPS][STAGES];
    group row[CHUNK];
    int32_t length[CHUNK];  /* of a row by itself */
    uint32_t before[PARTS]; /* work before a thread's rows */
    uint32_t total[LOADERS];
    int32_t first[WARPS]; /* first row of a share */
};

/* ---- rows and their work ---------------------------------------------------------- */

__device__ __forceinline__ int32_t tiles_of(const problem &p, int32_t length)
{
    int32_t whole = length / p.P;
    int32_t rest = length - whole * p.P;
    return whole * p.parts + (rest + p.tokens - 1) / p.tokens;
}

/* A barrier of the loading warps. */
__device__ __forceinline__ void loaders_sync()
{
    asm volatile("bar.sync 1, %0;" ::"n"(PARTS) : "memory");
}

/* Rows of the chunk that one thread has in m->before. */
__device__ __forceinline__ int32_t rows_each(int32_t rows)
{
    return (rows + (int32_t)PARTS - 1) / (int32_t)PARTS;
}

/* Fills m->row, m->length and m->before for `rows` rows from `base` on. Returns the work of
 * them all. */
__device__ __forceinline__ uint32_t sum_work(const problem &p, int32_t base, int32_t rows,
                                             shared_memory *m)
{
    uint32_t thread = threadIdx.x - 32 * WARPS;
    uint32_t lane = thread % 32;
    uint32_t warp = thread / 32;
#pragma unroll 1
    for (int32_t t = (int32_t)thread; t < rows; t += PARTS)
    {
        int64_t n = __ldg(p.lens + base + t);
        m->row[t].request = __ldg(p.request + base + t);
        n = n < 0 || base + t >= p.alive ? 0 : n < p.S ? n : p.S;
        m->length[t] = (int32_t)n;
    }
    loaders_sync();

    uint32_t own = 0;
    int32_t each = rows_each(rows);
    int32_t first = (int32_t)thread * each;
#pragma unroll 1
    for (int32_t t = first; t < first + each && t < rows; t++)
    {
        group g = { 1, m->length[t], m->row[t].request, 0 };
        int32_t n = t + 1;
        if (p.share)
        {
#pragma unroll 1
            for (; n % GROUP != 0 && n < rows && m->row[n].request == g.request; n++)
                g.length = max(g.length, m->length[n]);
            if (t % GROUP != 0 && m->row[t - 1].request == g.request)
                g.length = 0; /* another row leads */
        }
        m->row[t].rows = n - t;
        m->row[t].length = g.length;
        m->row[t].tiles = tiles_of(p, g.length);
        own += (uint32_t)(n - t) * (uint32_t)m->row[t].tiles;
    }
    uint32_t to = rfn_warp_sum_to(own, lane);
    if (lane == 31)
        m->total[warp] = to;
    loaders_sync();
    uint32_t all = 0;
    uint32_t before = 0;
#pragma unroll
    for (uint32_t w = 0; w < LOADERS; w++)
    {
        before = w == warp ? all : before;
        all += m->total[w];
    }
    m->before[thread] = before + to - own;
    loaders_sync();
    return all;
}

/* ---- loading: one lane a share ----------------------------------------------------- */

struct loader
{
    int32_t budget;   /* work of the share that is still to load */
    int32_t in_chunk; /* rows */
    int32_t leader;
    int32_t rows;
    int32_t length;
    int32_t left;         /* tiles of this group from here */
    int32_t page;         /* of the request */
    int32_t part;         /* tile of the page */
    const int32_t *table; /* NULL: no such request */
    int32_t entry;        /* page of the pool, negative: none */
    int32_t entry_next;   /* of the page after it */

    __device__ __forceinline__ int32_t entry_at(const problem &p, int32_t i) const
    {
        if (!table || i >= p.W || (int64_t)i * p.P >= length)
            return -1;
        int32_t e = __ldg(table + i);
        return e < p.pages ? e : -1;
    }

    /* From tile `at` of the group that row t of the chunk leads. */
    __device__ __forceinline__ void enter(const problem &p, const shared_memory *m,
                                          int32_t t, int32_t at)
    {
        group g = m->row[t];
        leader = t;
        rows = g.rows;
        length = g.length;
        left = g.tiles - at;
        table =
            g.request >= 0 && g.request < p.R ? p.table + g.request * p.table_row : NULL;
        page = p.parts == 1 ? at : at / p.parts;
        part = at - page * p.parts;
        entry = entry_at(p, page);
        entry_next = entry_at(p, page + 1);
    }

    /* The share of `work` units from unit `at` on. A tile belongs to the share that has its
     * first unit. */
    __device__ __forceinline__ void begin(const problem &p, const shared_memory *m,
                                          int32_t chunk, uint32_t at, uint32_t work)
    {
        budget = (int32_t)work;
        left = 0;
        leader = -1;
        in_chunk = chunk;
        if (!work)
            return;
        uint32_t i = 0; /* the last of m->before that is at or before it */
#pragma unroll 1
        for (uint32_t step = PARTS / 2; step; step /= 2)
            if (m->before[i + step] <= at)
                i += step;
        at -= m->before[i];
        int32_t t = (int32_t)i * rows_each(chunk);
        uint32_t units = (uint32_t)(m->row[t].rows * m->row[t].tiles);
#pragma unroll 1
        while (at >= units)
        {
            at -= units;
            t++;
            units = (uint32_t)(m->row[t].rows * m->row[t].tiles);
        }
        uint32_t n = (uint32_t)m->row[t].rows;
        uint32_t first = n == 1 ? at : (at + n - 1) / n;
        budget -= (int32_t)(first * n - at);
        enter(p, m, t, (int32_t)first);
        seek(p, m);
    }

    /* To the next group that has a tile, where this one is through; at the end of the share
     * budget is 0. */
    __device__ __forceinline__ void seek(const problem &p, const shared_memory *m)
    {
        int32_t t = leader;
        if (budget > 0 && left)
            return;
        if (budget > 0)
        {
            do
                t++;
            while (t < in_chunk && m->row[t].tiles == 0);
        }
        if (budget <= 0 || t >= in_chunk)
            budget = 0;
        else
            enter(p, m, t, 0);
    }

    /* Loads the tile into an empty stage and goes to the next. */
    __device__ __forceinline__ void load(const problem &p, shared_memory *m,
                                         uint32_t ring, uint32_t k)
    {
        int32_t offset = part * p.tokens;
        int32_t column = page * p.P + offset;
        int32_t most = min(p.tokens, p.P - offset);
        int32_t n = min(most, length - column);
        const uint8_t *base = p.pool + entry * p.page_bytes;
        const uint8_t *key = base + offset * (int32_t)DIM;
        const uint8_t *scale = base + p.P * (int32_t)DIM + offset * 4;
        stage *to = &m->ring[ring][k];
        uint64_t *full = &m->full[ring][k];
        m->what[ring][k] = { leader, rows, column, entry < 0 ? -n : n };
        if (entry < 0)
            rfn_barrier_arrive(full, 0);
        else if (n == (int32_t)TOKENS && n == p.P)
        {
            rfn_barrier_arrive(full, sizeof(stage));
            rfn_bulk_copy(to, key, sizeof(stage), full);
        }
        else
        {
            uint32_t key_bytes = (uint32_t)n * DIM;
            uint32_t scale_bytes = ((uint32_t)n * 4 + 15) / 16 * 16;
            if (p.P % 4)
            {
                /* The page need not have the bytes up to a multiple of 16. */
#pragma unroll 1
                for (int32_t i = 0; i < n; i++)
                    to->scale[i] = __ldg((const float *)scale + i);
                scale_bytes = 0;
            }
            rfn_barrier_arrive(full, key_bytes + scale_bytes);
            rfn_bulk_copy(to->key, key, key_bytes, full);
            if (scale_bytes)
                rfn_bulk_copy(to->scale, scale, scale_bytes, full);
        }

        budget -= rows;
        left--;
        if (++part == p.parts)
        {
            part = 0;
            page++;
            entry = entry_next;
            entry_next = entry_at(p, page + 1);
        }
        seek(p, m);
    }
};

/* Where a ring stands: its stage, and the parity of its barriers. */
struct cursor
{
    uint32_t k;
    uint32_t parity;

    __device__ __forceinline__ void next()
    {
        if (++k == STAGES)
        {
            k = 0;
            parity ^= 1;
        }
    }
};

/* The ring that this lane loads, if there are as many. */
__device__ __forceinline__ uint32_t ring_of_loader()
{
    return threadIdx.x / 32 - WARPS + LOADERS * (threadIdx.x % 32);
}

/* Loads the rings of the warp; behind the last tile of each comes one that says so. */
__device__ __forceinline__ void run_loader(const problem &p, shared_memory *m, loader &l,
                                           cursor *at)
{
    uint32_t ring = ring_of_loader();
    bool runs = ring < WARPS;
    while (__any_sync(ALL, runs))
    {
        bool ready = runs && rfn_barrier_test(&m->empty[ring][at->k], at->parity);
        if (ready)
        {
            if (l.budget > 0)
                l.load(p, m, ring, at->k);
            else
            {
                m->what[ring][at->k].leader = -1;
                rfn_barrier_arrive(&m->full[ring][at->k], 0);
                runs = false;
            }
            at->next();
        }
        if (!__any_sync(ALL, ready))
            __nanosleep(64);
    }
}

} // namespace

#endif
