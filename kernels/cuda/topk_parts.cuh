/* Parts of the top-k kernels: keys, clusters of blocks, and the threshold of a row whose keys
 * lie in the registers of one block or of a cluster. */
#ifndef RFN_KERNELS_CUDA_TOPK_PARTS_CUH
#define RFN_KERNELS_CUDA_TOPK_PARTS_CUH

#include "kernels/cuda/scan.cuh"

namespace topk
{

constexpr uint32_t K_MAX = 2048;
constexpr uint32_t THREADS = 1024;
constexpr uint32_t WARPS = THREADS / 32;
constexpr uint32_t GROUP = 16;  /* neighbours that are first ranked by their maximum */
constexpr uint32_t BINS = 4096; /* 12 + 12 + 8 bits of a key */
constexpr uint32_t LOW_BINS = 256;
constexpr uint32_t LEVELS = 3;
constexpr uint32_t PAGES = 2048; /* block table entries that are fetched ahead */
constexpr uint32_t NO_COLUMN = 0xfffffff0u;
constexpr uint32_t IN_GROUPS = 0x80000000u;

struct shared_memory
{
    uint32_t bin[2 * BINS + LOW_BINS];
    uint32_t keys[LEVELS][WARPS]; /* in each warp's 128 bins */
    uint32_t total[2][WARPS];
    uint32_t above[2]; /* of this block, read by its cluster; a stage has its own */
    uint32_t found_bin;
    uint32_t found_need;
    uint32_t found_keys;
    int32_t request;
    uint32_t quads; /* to select from; with IN_GROUPS those of m->group */
    uint32_t unused;
    int32_t group[K_MAX];
    int32_t chosen[K_MAX];
    int32_t page[PAGES];
};

/* 0 < NaN < -inf < ... < -0 == +0 < ... < +inf, as unsigned integers; what is no column of
 * the row has 0. */
static __device__ __forceinline__ uint32_t key_of(float x)
{
    uint32_t b = __float_as_uint(x + 0.0f); /* -0 becomes +0 */
    uint32_t key = b ^ ((uint32_t)((int32_t)b >> 31) | 0x80000000u);
    return x != x ? 1u : key;
}

/* ---- copies that hold no register -------------------------------------------------- */

static __device__ __forceinline__ void copy_word(int32_t *shared, const int32_t *global)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(global)
                 : "memory");
}

/* Of this thread; the block sees them behind its next barrier. */
static __device__ __forceinline__ void copies_wait(void)
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* ---- clusters -------------------------------------------------------------------- */

template <uint32_t C> static __device__ __forceinline__ uint32_t rank_of_block()
{
    return C == 1 ? 0 : blockIdx.x % C;
}

template <uint32_t C> static __device__ __forceinline__ void arrive()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (C > 1)
        asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

/* The second half of a barrier of the whole cluster; of the block where it is alone. */
template <uint32_t C> static __device__ __forceinline__ void wait()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (C > 1)
    {
        asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
        return;
    }
#endif
    __syncthreads();
}

template <uint32_t C> static __device__ __forceinline__ void sync_all()
{
    arrive<C>();
    wait<C>();
}

/* Block `rank`'s word at the place of `own`. */
template <uint32_t C>
static __device__ __forceinline__ uint32_t peer_word(const uint32_t *own, uint32_t rank)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (C > 1)
    {
        uint32_t at, ret;
        asm("mapa.shared::cluster.u32 %0, %1, %2;"
            : "=r"(at)
            : "r"((uint32_t)__cvta_generic_to_shared(own)), "r"(rank));
        asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(ret) : "r"(at) : "memory");
        return ret;
    }
#endif
    return *own;
}

template <uint32_t C>
static __device__ __forceinline__ uint4 peer_quad(const uint32_t *own, uint32_t rank)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (C > 1)
    {
        uint32_t at;
        uint4 ret;
        asm("mapa.shared::cluster.u32 %0, %1, %2;"
            : "=r"(at)
            : "r"((uint32_t)__cvta_generic_to_shared(own)), "r"(rank));
        asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(ret.x), "=r"(ret.y), "=r"(ret.z), "=r"(ret.w)
                     : "r"(at)
                     : "memory");
        return ret;
    }
#endif
    return *(const uint4 *)own;
}

/* ---- the threshold --------------------------------------------------------------- */

/* Chosen are the keys from `least` on, and the first `quota` of those equal to `tie`. */
struct cut
{
    uint32_t least;
    uint32_t tie;
    uint32_t quota;
};

/* Finds the want-th key in a warp's 128 bins. Lane 0 has the topmost four, whose last is bin
 * `top`; before are the keys above the warp's. */
static __device__ __forceinline__ void search(uint4 c, uint32_t before, uint32_t want,
                                              uint32_t top, shared_memory *m)
{
    uint32_t sum = c.x + c.y + c.z + c.w;
    before += rfn_warp_sum_to(sum, threadIdx.x % 32) - sum;
    if (before >= want || want > before + sum)
        return;
    uint32_t need = want - before, bin = top - 4 * (threadIdx.x % 32), keys = c.w;
    if (need > keys)
    {
        need -= keys, bin--, keys = c.z;
        if (need > keys)
        {
            need -= keys, bin--, keys = c.y;
            if (need > keys)
                need -= keys, bin--, keys = c.x;
        }
    }
    m->found_bin = bin;
    m->found_need = need;
    m->found_keys = keys;
}

/* Finds, from the top, the bin that holds the want-th key of a level's histograms, summed
 * over the cluster; every block does so by itself. */
template <uint32_t C, uint32_t E>
static __device__ __forceinline__ void find(shared_memory *m, uint32_t level,
                                            uint32_t want)
{
    const uint32_t *bin = m->bin + level * BINS;
    uint32_t bins = level < 2 ? BINS : LOW_BINS;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint4 c = make_uint4(0, 0, 0, 0);
    if (C > 1 && level == 2 && E < 32)
    {
        /* So few that one warp sums them all, where it has the registers. */
        sync_all<C>();
        if (warp == 0)
        {
            uint4 d = make_uint4(0, 0, 0, 0);
#pragma unroll(E == 32 ? 2 : E == 16 ? 4 : C)
            for (uint32_t r = 0; r < C; r++)
            {
                uint4 p = peer_quad<C>(bin + (LOW_BINS - 4 - 4 * lane), r);
                c.x += p.x, c.y += p.y, c.z += p.z, c.w += p.w;
                p = peer_quad<C>(bin + (LOW_BINS / 2 - 4 - 4 * lane), r);
                d.x += p.x, d.y += p.y, d.z += p.z, d.w += p.w;
            }
            uint32_t half = __reduce_add_sync(RFN_ALL_LANES, c.x + c.y + c.z + c.w);
            if (want <= half)
                search(c, 0, want, LOW_BINS - 1, m);
            else
                search(d, half, want, LOW_BINS / 2 - 1, m);
        }
        __syncthreads();
        return;
    }
    __syncthreads();
    if (level < 2 || threadIdx.x < LOW_BINS / 4)
        c = ((const uint4 *)bin)[bins / 4 - 1 - threadIdx.x];
    uint32_t keys = __reduce_add_sync(RFN_ALL_LANES, c.x + c.y + c.z + c.w);
    if (lane == 0)
        m->keys[level][warp] = keys;
    sync_all<C>();
    if (C == 1)
    {
        uint32_t above = lane < warp ? m->keys[level][lane] : 0;
        above = __reduce_add_sync(RFN_ALL_LANES, above);
        if (above < want && want <= above + keys)
            search(c, above, want, bins - 1 - 128 * warp, m);
    }
    else if (warp == 0)
    {
        uint32_t own = 0;
#pragma unroll
        for (uint32_t r = 0; r < C; r++)
            own += peer_word<C>(&m->keys[level][lane], r);
        uint32_t to = rfn_warp_sum_to(own, lane);
        bool here = to - own < want && want <= to;
        uint32_t w = __ffs((int)__ballot_sync(RFN_ALL_LANES, here)) - 1;
        uint32_t above = __shfl_sync(RFN_ALL_LANES, to - own, (int)w);
        uint32_t top = bins - 1 - 128 * w;
        c = make_uint4(0, 0, 0, 0);
#pragma unroll(E == 32 ? 2 : E == 16 ? 4 : C)
        for (uint32_t r = 0; r < C; r++)
        {
            uint4 p = peer_quad<C>(bin + (top - 3 - 4 * lane), r);
            c.x += p.x, c.y += p.y, c.z += p.z, c.w += p.w;
        }
        search(c, above, want, top, m);
    }
    __syncthreads();
}

static __device__ __forceinline__ void clear_bins(shared_memory *m)
{
#pragma unroll
    for (uint32_t i = 0; i < 2 * BINS / 4 / THREADS; i++)
        ((uint4 *)m->bin)[i * THREADS + threadIdx.x] = make_uint4(0, 0, 0, 0);
    if (threadIdx.x < LOW_BINS / 4)
        ((uint4 *)m->bin)[2 * BINS / 4 + threadIdx.x] = make_uint4(0, 0, 0, 0);
}

/* The cut that chooses `want` of the cluster's keys, at least want of which are not 0. Keys
 * of chunks from `chunks` on are not looked at. The first 12 bits are in m->bin already. */
template <uint32_t C, uint32_t E>
static __device__ __forceinline__ cut cut_of(const uint32_t (&key)[E], uint32_t chunks,
                                             uint32_t want, shared_memory *m)
{
    find<C, E>(m, 0, want);
    uint32_t prefix = m->found_bin;
    want = m->found_need;
    if (m->found_keys == want)
        return cut { prefix << 20, 0, 0 };
#pragma unroll
    for (uint32_t j = 0; j < E / 4; j++)
    {
        if (j < chunks)
        {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (key[4 * j + i] >> 20 == prefix)
                    atomicAdd(&m->bin[BINS + (key[4 * j + i] >> 8 & (BINS - 1))], 1u);
        }
    }
    find<C, E>(m, 1, want);
    prefix = prefix << 12 | m->found_bin;
    want = m->found_need;
    if (m->found_keys == want)
        return cut { prefix << 8, 0, 0 };
#pragma unroll
    for (uint32_t j = 0; j < E / 4; j++)
    {
        if (j < chunks)
        {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (key[4 * j + i] >> 8 == prefix)
                    atomicAdd(&m->bin[2 * BINS + (key[4 * j + i] & (LOW_BINS - 1))], 1u);
        }
    }
    find<C, E>(m, 2, want);
    prefix = prefix << 8 | m->found_bin;
    want = m->found_need;
    if (m->found_keys == want)
        return cut { prefix, 0, 0 };
    return cut { prefix + 1, prefix, want };
}

/* ---- order ----------------------------------------------------------------------- */

/* How many keys are chosen before a lane's quad of each chunk: four chunks a word, a byte
 * each (a chunk of a warp has 128 keys). */
template <uint32_t E> struct counts
{
    static constexpr uint32_t WORDS = (E + 15) / 16;
    uint32_t before[WORDS];
    uint32_t total[WORDS]; /* of the warp */
    uint32_t all;

    template <class Chosen>
    __device__ __forceinline__ counts(const uint32_t (&key)[E], uint32_t chunks,
                                      Chosen chosen)
    {
        all = 0;
#pragma unroll
        for (uint32_t w = 0; w < WORDS; w++)
        {
            uint32_t own = 0;
#pragma unroll
            for (uint32_t j = 4 * w; j < 4 * w + 4 && j < E / 4; j++)
            {
                if (j < chunks)
                {
#pragma unroll
                    for (uint32_t i = 0; i < 4; i++)
                        own += chosen(key[4 * j + i]) ? 1u << 8 * (j % 4) : 0;
                }
            }
            before[w] = total[w] = 0;
            if (__any_sync(RFN_ALL_LANES, own != 0))
            {
                uint32_t to = rfn_warp_sum_to(own, threadIdx.x % 32);
                before[w] = to - own;
                total[w] = __shfl_sync(RFN_ALL_LANES, to, 31);
                all += __dp4a(total[w], 0x01010101u, 0u);
            }
        }
    }
    __device__ __forceinline__ uint32_t before_of(uint32_t j) const
    {
        return before[j / 4] >> 8 * (j % 4) & 255u;
    }
    __device__ __forceinline__ uint32_t total_of(uint32_t j) const
    {
        return total[j / 4] >> 8 * (j % 4) & 255u;
    }
};

/* Sum of the words of the blocks before this one. Behind a barrier of the cluster. */
template <uint32_t C>
static __device__ __forceinline__ uint32_t sum_of_lower(const uint32_t *own,
                                                        uint32_t rank)
{
    uint32_t ret = 0;
#pragma unroll
    for (uint32_t r = 0; r < C; r++)
        if (r < rank)
            ret += peer_word<C>(own, r);
    return ret;
}

/* Makes the ties that are chosen the largest keys: the first `quota`, by position. */
template <uint32_t C, uint32_t E>
static __device__ __forceinline__ void settle_ties(uint32_t (&key)[E], uint32_t chunks,
                                                   const cut &at, shared_memory *m)
{
    uint32_t tie = at.tie;
    /* A bin of the last level is a block's number of them. */
    uint32_t lower =
        sum_of_lower<C>(&m->bin[2 * BINS + (tie & (LOW_BINS - 1))], rank_of_block<C>());
    counts<E> n(key, chunks, [tie](uint32_t k) { return k == tie; });
    uint32_t all;
    uint32_t before = lower + rfn_block_sum_before(n.all, m->total[0], &all);
#pragma unroll
    for (uint32_t j = 0; j < E / 4; j++)
    {
        if (j < chunks && n.total_of(j))
        {
            uint32_t e = before + n.before_of(j);
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (key[4 * j + i] == tie && e++ < at.quota)
                    key[4 * j + i] = 0xffffffffu;
            before += n.total_of(j);
        }
    }
}

} // namespace topk

#endif
