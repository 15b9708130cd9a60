/*
 * index_logits on Hopper: keys through the matrix unit of a warpgroup.
 *
 * Two blocks an SM, of two warpgroups that score and a warp that loads. The warp feeds a ring
 * of stages by 1-D bulk copies, one a page, lane i the i-th of the next 32 tiles; stage k is
 * of warpgroup k % 2. A tile's keys go through registers, where they become f16, as the A
 * operand, 64 tokens x 128 dimensions; the queries of a group of rows lie in shared memory as
 * f16 images. e4m3 is exact in f16, products are exact, sums are f32. (The fp8 products of
 * the matrix unit round their sums low by 8e-4, and 1e-5 is promised.)
 *
 * A score comes from one row of the products and a sum over heads in a fixed order, so it has
 * the same bits whatever else runs, and however the tiles are dealt out.
 */
#ifndef RFN_KERNELS_CUDA_LOGITS_HOPPER_CUH
#define RFN_KERNELS_CUDA_LOGITS_HOPPER_CUH

#include "kernels/cuda/bulk.cuh"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/index_tiles.cuh"

namespace
{
namespace hopper
{

constexpr uint32_t TOKENS = 64; /* of a tile */

/* As a whole page of 64 tokens lies in the pool. */
struct stage
{
    uint8_t key[TOKENS * DIM];
    float scale[TOKENS];
};

constexpr uint32_t GROUPS = 2; /* warpgroups that score */
constexpr uint32_t BLOCKS = 2; /* an SM */
constexpr uint32_t STAGES = 4; /* a multiple of GROUPS */
constexpr uint32_t SCORERS = 128 * GROUPS;
constexpr uint32_t THREADS = SCORERS + 32;

/* N heads, rounded up to what a product takes. With SHARE a group has up to GROUP rows. */
template <uint32_t N, bool SHARE> struct shared_memory
{
    static constexpr uint32_t ROWS = SHARE ? GROUP : 1;
    /* 1024-byte aligned: the swizzle counts from there. */
    uint8_t image[ROWS][N * 2 * DIM];
    stage ring[STAGES];
    float w[ROWS][N];
    row_sums sums;
    int2 what[STAGES];     /* column and tokens; negative tokens: on no page */
    uint64_t full[STAGES]; /* mbarriers */
    uint64_t empty[STAGES];
    uint64_t turn[GROUPS]; /* a warpgroup's, ended by the other */
    uint64_t scorers;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/* Four e4m3 as f16, two in a word, the low byte in the low half. NaN stays NaN. */
__device__ __forceinline__ void halves_of(uint32_t four, uint32_t *ret_low,
                                          uint32_t *ret_high)
{
    asm("{\n"
        ".reg .b16 low, high;\n"
        "mov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low;\n"
        "cvt.rn.f16x2.e4m3x2 %1, high;\n"
        "}\n"
        : "=r"(*ret_low), "=r"(*ret_high)
        : "r"(four));
}

/* ---- products ---------------------------------------------------------------------- */

/* c = a x image: 64 tokens x N heads over 8 steps of 16 dimensions, `second` from the last
 * step of the first half of the dimensions to the first of the other (a step is 2). One asm
 * from the fence to the wait, so that no register moves under the matrix unit. */
#define WORD(i, j, k, l) "{%" #i ", %" #j ", %" #k ", %" #l "}"
#define STEP(heads, sums, word, on, next)                                                \
    "wgmma.mma_async.sync.aligned.m64n" heads "k16.f32.f16.f16 " sums ", " word          \
    ", d, " on ", 1, 1, 0;\nadd.s64 d, d, " next ";\n"
#define BEGIN(image)                                                                     \
    "{\n"                                                                                \
    ".reg .pred none, all;\n"                                                            \
    ".reg .b64 d;\n"                                                                     \
    ".reg .b32 zero;\n"                                                                  \
    "mov.b32 zero, 0;\n"                                                                 \
    "setp.eq.b32 all, zero, 0;\n"                                                        \
    "setp.ne.b32 none, zero, 0;\n"                                                       \
    "mov.b64 d, %" #image ";\n"                                                          \
    "wgmma.fence.sync.aligned;\n"
#define END                                                                              \
    "wgmma.commit_group.sync.aligned;\n"                                                 \
    "wgmma.wait_group.sync.aligned 0;\n"                                                 \
    "}\n"
#define HALF(heads, sums, on, next, w0, w1, w2, w3)                                      \
    STEP(heads, sums, w0, on, "2")                                                       \
    STEP(heads, sums, w1, "all", "2")                                                    \
    STEP(heads, sums, w2, "all", "2")                                                    \
    STEP(heads, sums, w3, "all", next)
#define FOUR(c, i) "=&f"(c[i]), "=&f"(c[i + 1]), "=&f"(c[i + 2]), "=&f"(c[i + 3])
#define EIGHT(c, i) FOUR(c, i), FOUR(c, i + 4)
#define WORDS(a, k) "r"(a[k][0]), "r"(a[k][1]), "r"(a[k][2]), "r"(a[k][3])
#define ALL_WORDS(a)                                                                     \
    WORDS(a, 0), WORDS(a, 1), WORDS(a, 2), WORDS(a, 3), WORDS(a, 4), WORDS(a, 5),        \
        WORDS(a, 6), WORDS(a, 7)
#define SUMS_16 "{%0, %1, %2, %3, %4, %5, %6, %7}"
#define SUMS_32 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}"
#define SUMS_64                                                                          \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "            \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, "        \
    "%31}"

__device__ __forceinline__ void multiply(float (&c)[8], const uint32_t (&a)[8][4],
                                         uint64_t image)
{
    asm volatile(
        BEGIN(40) HALF("16", SUMS_16, "none", "122", WORD(8, 9, 10, 11),
                       WORD(12, 13, 14, 15), WORD(16, 17, 18, 19), WORD(20, 21, 22, 23))
            HALF("16", SUMS_16, "all", "2", WORD(24, 25, 26, 27), WORD(28, 29, 30, 31),
                 WORD(32, 33, 34, 35), WORD(36, 37, 38, 39)) END
        : EIGHT(c, 0)
        : ALL_WORDS(a), "l"(image)
        : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[16], const uint32_t (&a)[8][4],
                                         uint64_t image)
{
    asm volatile(
        BEGIN(48) HALF("32", SUMS_32, "none", "250", WORD(16, 17, 18, 19),
                       WORD(20, 21, 22, 23), WORD(24, 25, 26, 27), WORD(28, 29, 30, 31))
            HALF("32", SUMS_32, "all", "2", WORD(32, 33, 34, 35), WORD(36, 37, 38, 39),
                 WORD(40, 41, 42, 43), WORD(44, 45, 46, 47)) END
        : EIGHT(c, 0), EIGHT(c, 8)
        : ALL_WORDS(a), "l"(image)
        : "memory");
}

__device__ __forceinline__ void multiply(float (&c)[32], const uint32_t (&a)[8][4],
                                         uint64_t image)
{
    asm volatile(
        BEGIN(64) HALF("64", SUMS_64, "none", "506", WORD(32, 33, 34, 35),
                       WORD(36, 37, 38, 39), WORD(40, 41, 42, 43), WORD(44, 45, 46, 47))
            HALF("64", SUMS_64, "all", "2", WORD(48, 49, 50, 51), WORD(52, 53, 54, 55),
                 WORD(56, 57, 58, 59), WORD(60, 61, 62, 63)) END
        : EIGHT(c, 0), EIGHT(c, 8), EIGHT(c, 16), EIGHT(c, 24)
        : ALL_WORDS(a), "l"(image)
        : "memory");
}

#undef WORD
#undef STEP
#undef BEGIN
#undef END
#undef HALF
#undef FOUR
#undef EIGHT
#undef WORDS
#undef ALL_WORDS
#undef SUMS_16
#undef SUMS_32
#undef SUMS_64

/* Of an image: rows of 128 bytes (64 dimensions), eight of them 1024 bytes, 128-byte swizzle. */
__device__ __forceinline__ uint64_t descriptor_of(const void *image)
{
    uint64_t address = (rfn_shared_address(image) & 0x3ffff) >> 4;
    return address | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

/* threadIdx.x, computed with where it stands: what is computed of it is not kept in registers
 * across the loops, where there are none to spare. */
__device__ __forceinline__ uint32_t thread_here()
{
    uint32_t ret;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(ret));
    return ret;
}

/* ---- queries ----------------------------------------------------------------------- */

/* Lane (g, t) has dimensions 16t .. 16t + 15 and 64 more of head g of eight. Of a key it has
 * the same ones: word k of eight is the lane's part of step k, and the image is in the order
 * that this gives. */
struct heads
{
    uint4 q[2];

    __device__ __forceinline__ void load(const problem &p, int32_t t, uint32_t eight)
    {
        uint32_t lane = thread_here() % 32;
        int32_t h = (int32_t)(8 * eight + lane / 4);
        q[0] = q[1] = make_uint4(0, 0, 0, 0);
        if (h >= p.H)
            return;
        const uint8_t *row = p.q8 + t * p.q8_row + h * p.q8_head + 16 * (lane % 4);
        q[0] = *(const uint4 *)row;
        q[1] = *(const uint4 *)(row + 64);
    }

    template <uint32_t N>
    __device__ __forceinline__ void store(uint8_t *image, uint32_t eight) const
    {
        uint32_t lane = thread_here() % 32;
        uint32_t r = lane / 4;
        uint8_t *to = image + 1024 * eight + 128 * r + 4 * (lane % 4);
#pragma unroll
        for (uint32_t half = 0; half < 2; half++)
        {
            const uint32_t word[4] = { q[half].x, q[half].y, q[half].z, q[half].w };
#pragma unroll
            for (uint32_t k = 0; k < 4; k++)
            {
                uint32_t low, high;
                halves_of(word[k], &low, &high);
                *(uint32_t *)(to + half * N * DIM + ((2 * k ^ r) * 16)) = low;
                *(uint32_t *)(to + half * N * DIM + (((2 * k + 1) ^ r) * 16)) = high;
            }
        }
    }
};

/* ---- loading ----------------------------------------------------------------------- */

/* Into an empty stage. */
__device__ __forceinline__ void load(const problem &p, const tile &what, stage *to,
                                     int2 *place, uint64_t *full)
{
    *place = make_int2(what.column, what.entry < 0 ? -what.tokens : what.tokens);
    if (what.entry < 0)
    {
        rfn_barrier_arrive(full, 0);
        return;
    }
    const uint8_t *base = p.pool + what.entry * p.page_bytes;
    if (what.tokens == (int32_t)TOKENS && p.P == (int32_t)TOKENS)
    {
        rfn_barrier_arrive(full, sizeof(stage));
        rfn_bulk_copy(to, base, sizeof(stage), full);
        return;
    }
    const uint8_t *key = base + what.offset * (int32_t)DIM;
    const uint8_t *scale = base + p.P * (int32_t)DIM + what.offset * 4;
    uint32_t key_bytes = (uint32_t)what.tokens * DIM;
    uint32_t scale_bytes = ((uint32_t)what.tokens * 4 + 15) / 16 * 16;
    if (p.P % 4)
    {
        /* The page need not have the bytes up to a multiple of 16. */
#pragma unroll 1
        for (int32_t i = 0; i < what.tokens; i++)
            to->scale[i] = *((const float *)scale + i);
        scale_bytes = 0;
    }
    rfn_barrier_arrive(full, key_bytes + scale_bytes);
    rfn_bulk_copy(to->key, key, key_bytes, full);
    if (scale_bytes)
        rfn_bulk_copy(to->scale, scale, scale_bytes, full);
}

/* A share, by a whole warp; its first tile is number `n` of the block. */
template <uint32_t N, bool SHARE>
__device__ __forceinline__ void load_share(const problem &p, shared_memory<N, SHARE> *m,
                                           share s, uint32_t n)
{
    uint32_t lane = threadIdx.x % 32;
#pragma unroll 1
    while (s.left)
    {
        uint32_t many = min(s.left, 32u);
        tile what = next_tiles<TOKENS>(p, &m->sums, &s);
#pragma unroll 1
        for (uint32_t i = 0; i < many; i++, n++)
        {
            uint32_t k = n % STAGES;
            rfn_barrier_wait(&m->empty[k], ~(n / STAGES) & 1);
            if (lane == i)
                load(p, what, &m->ring[k], &m->what[k], &m->full[k]);
            __syncwarp();
        }
    }
}

/* ---- scoring ----------------------------------------------------------------------- */

template <uint32_t N, bool SHARE> struct scorer
{
    static constexpr uint32_t PAIRS = N / 8;

    /* Of all scorers, the first or the second of take_queries: its phases by parity. Not a
     * named barrier of 256 threads: beside one, racecheck does not follow the barriers of the
     * whole block, nor this one beside bar.arrive, and reports what they order. */
    __device__ __forceinline__ void sync(shared_memory<N, SHARE> *m,
                                         uint32_t second) const
    {
        rfn_barrier_release(&m->scorers);
        rfn_barrier_wait(&m->scorers, second);
    }

    /* Images and weights of `rows` rows from t on, by all scorers. */
    __device__ __forceinline__ void take_queries(const problem &p,
                                                 shared_memory<N, SHARE> *m, int32_t t,
                                                 int32_t rows)
    {
        uint32_t thread = thread_here();
        uint32_t warp = thread / 32;
        uint32_t many = (uint32_t)rows * PAIRS;
        heads h;
        if (warp < many)
            h.load(p, t + (int32_t)(warp / PAIRS), warp % PAIRS);
        float weight = 0;
        uint32_t i = thread / N;
        uint32_t head = thread % N;
        static_assert(SCORERS >= N * (SHARE ? GROUP : 1), "a thread a weight");
        if (i < (uint32_t)rows && (int32_t)head < p.H)
            weight = p.w8[(t + (int32_t)i) * p.w8_row + head];
        sync(m, 0); /* nobody uses the ones before any more */
#pragma unroll 1
        for (uint32_t k = warp; k < many; k += SCORERS / 32)
        {
            if (k != warp)
                h.load(p, t + (int32_t)(k / PAIRS), k % PAIRS);
            h.template store<N>(m->image[k / PAIRS], k % PAIRS);
        }
        if (i < (uint32_t)rows)
            m->w[i][head] = weight;
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        sync(m, 1);
    }

    /* Twice the sum over all heads, of token g of 16 in the lanes of even t, of g + 8 in the
     * others: x + |x| is twice relu(x), and NaN where x is. */
    __device__ __forceinline__ float sum_of(const float (&c)[N / 2],
                                            const float *weight) const
    {
        float sum[2][2] = {};
#pragma unroll
        for (uint32_t j = 0; j < PAIRS; j++)
        {
            float2 two = *(const float2 *)(weight + 8 * j + threadIdx.x % 4 * 2);
#pragma unroll
            for (uint32_t i = 0; i < 2; i++)
            {
                const float *x = &c[4 * j + 2 * i];
                sum[i][0] = fmaf(two.x, x[0] + fabsf(x[0]), sum[i][0]);
                sum[i][1] = fmaf(two.y, x[1] + fabsf(x[1]), sum[i][1]);
            }
        }
        float low = sum[0][0] + sum[0][1];
        float high = sum[1][0] + sum[1][1];
        bool odd = threadIdx.x & 1;
        float kept = odd ? high : low;
        float sent = odd ? low : high;
        kept += __shfl_xor_sync(ALL, sent, 1);
        return kept + __shfl_xor_sync(ALL, kept, 2);
    }

    /* The two warpgroups' products take turns, in the order of their tiles: while one has the
     * matrix unit the other has the rest of the SM. Left alone they go in step and all wait
     * for the same thing. Groups of several rows do without: their products are longer than
     * the rest, and a turn is lost time. */
    __device__ __forceinline__ void wait_turn(shared_memory<N, SHARE> *m,
                                              uint32_t n) const
    {
        if (!SHARE && n > 0)
            rfn_barrier_wait(&m->turn[n % GROUPS], (n - 1) / GROUPS & 1);
    }

    __device__ __forceinline__ void end_turn(shared_memory<N, SHARE> *m, uint32_t n) const
    {
        if (!SHARE)
            rfn_barrier_release(&m->turn[(n + 1) % GROUPS]);
    }

    /* Tile number n of the block, for `rows` rows from t on, which is row `leader` of the
     * chunk. */
    __device__ __forceinline__ void score(const problem &p, shared_memory<N, SHARE> *m,
                                          uint32_t n, int32_t t, int32_t leader,
                                          int32_t rows)
    {
        uint32_t lane = thread_here() % 32;
        uint32_t g = lane / 4;
        uint32_t first = thread_here() / 32 % 4 * 16; /* token of the warp */
        uint32_t k = n % STAGES;
        const stage *from = &m->ring[k];
        rfn_barrier_wait(&m->full[k], n / STAGES & 1);

        uint32_t a[8][4];
        bool odd = g & 1;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++)
        {
            const uint8_t *row = from->key + (first + g + 8 * i) * DIM + 16 * (lane % 4);
            /* Odd rows in swapped order: eight lanes then read all banks. */
            uint4 x = *(const uint4 *)(row + (odd ? 64 : 0));
            uint4 y = *(const uint4 *)(row + (odd ? 0 : 64));
            const uint32_t word[8] = { odd ? y.x : x.x, odd ? y.y : x.y, odd ? y.z : x.z,
                                       odd ? y.w : x.w, odd ? x.x : y.x, odd ? x.y : y.y,
                                       odd ? x.z : y.z, odd ? x.w : y.w };
#pragma unroll
            for (uint32_t j = 0; j < 8; j++)
                halves_of(word[j], &a[j][i], &a[j][i + 2]);
        }
        float scale = 0.5f * from->scale[first + g + 8 * (lane & 1)];
        int2 what = m->what[k];
        /* Every lane for itself: one for all behind __syncwarp() would do, but racecheck does
         * not follow that. */
        rfn_barrier_release(&m->empty[k]);

#pragma unroll 1
        for (int32_t i = 0; i < rows; i++)
        {
            /* The tokens are of the group's longest row: this one may have fewer. */
            int32_t many = abs(what.y);
            if (SHARE)
                many = min(many, m->sums.length[leader + i] - what.x);
            wait_turn(m, n);
            if (what.y < 0 || (SHARE && many <= 0))
            {
                end_turn(m, n);
                if (many > 0)
                    no_page(p, t + i, what.x, many, (int32_t)(thread_here() % 128), 128);
                continue;
            }
            float c[N / 2];
            multiply(c, a, descriptor_of(m->image[i]));
            end_turn(m, n);
            float x = sum_of(c, m->w[i]) * scale;
            uint32_t thread = thread_here();
            lane = thread % 32;
            uint32_t token = thread / 32 % 4 * 16 + lane / 4 + 8 * (lane & 1);
            if ((lane & 2) == 0 && (int32_t)token < many)
                p.logits[(t + i) * p.logits_row + what.x + (int32_t)token] = x;
            if (!SHARE)
                break;
        }
    }

    /* The warpgroup's tiles of a share. */
    __device__ __forceinline__ void run(const problem &p, shared_memory<N, SHARE> *m,
                                        share s, uint32_t n, int32_t base)
    {
        uint32_t group_of_warps = threadIdx.x / 128;
        int32_t row = s.row;
        int32_t tile = s.tile;
        uint32_t end = n + s.left;
#pragma unroll 1
        while (n < end)
        {
            group g = m->sums.row[row];
            if (g.tiles > tile)
            {
                take_queries(p, m, base + row, g.rows);
                uint32_t to = min(end, n + (uint32_t)(g.tiles - tile));
#pragma unroll 1
                for (n += (n + group_of_warps) % GROUPS; n < to; n += GROUPS)
                    score(p, m, n, base + row, row, SHARE ? g.rows : 1);
                n = to;
            }
            tile = 0;
            row++;
        }
    }
};

#endif

template <uint32_t N, bool SHARE>
__global__ void __launch_bounds__(THREADS, BLOCKS)
    index_logits_kernel(INDEX_LOGITS_PARAMS)
{
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) unsigned char bytes[];
    shared_memory<N, SHARE> *m = (shared_memory<N, SHARE> *)bytes;
    uint32_t warp = threadIdx.x / 32;
    if (threadIdx.x < STAGES)
    {
        rfn_barrier_init(&m->full[threadIdx.x], 1);
        rfn_barrier_init(&m->empty[threadIdx.x], 128);
        if (threadIdx.x < GROUPS)
            rfn_barrier_init(&m->turn[threadIdx.x], 128);
        if (threadIdx.x == 0)
            rfn_barrier_init(&m->scorers, SCORERS);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    INDEX_LOGITS_PROBLEM(p);
    uint32_t inverse = touch(p, gridDim.x);
    rfn_edge_wait();
    if (!rfn_bounds_hold_cuda(bounds, bounds_own, fault, name, bound_names))
        return;
    uint32_t n = 0; /* tiles before */
    scorer<N, SHARE> s;
#pragma unroll 1
    for (int32_t base = 0; base < p.rows; base += CHUNK)
    {
        int32_t rows = min(p.rows - base, (int32_t)CHUNK);
        if (base > 0)
            __syncthreads();
        sum_rows<TOKENS, SHARE>(p, base, rows, &m->sums, warp, THREADS / 32);
        __syncthreads();
        share own = share_of(&m->sums, rows, blockIdx.x, gridDim.x, inverse);
        if (warp < SCORERS / 32)
            s.run(p, m, own, n, base);
        else
            load_share(p, m, own, n);
        n += own.left;
    }
#endif
}

} // namespace hopper
} // namespace

#endif
