/* Top-k of a row of any length by one block that passes over it two to four times. */
#ifndef RFN_KERNELS_CUDA_TOPK_PASSES_CUH
#define RFN_KERNELS_CUDA_TOPK_PASSES_CUH

#include "kernels/cuda/topk_parts.cuh"

namespace topk
{

constexpr uint32_t QUADS = 4;              /* loads of 16 bytes in flight a thread */
constexpr uint32_t TILE = THREADS * QUADS; /* quads of one step of the block */
constexpr uint32_t COPIES = 4;             /* of each bin, by lane: fewer collisions */
constexpr uint32_t LIST = 8192;            /* gathered keys, at least K_MAX */
constexpr uint32_t NEED_ALL = 0x7fffffff;

/* A histogram of the top 12 bits finds the bin of the K-th key; what lies in or above it is
 * gathered, in order, into `key` and `position`, where the other 20 bits are settled. Where
 * the bin is too full for that they are settled by passes over the row. */
struct passes_memory
{
    uint32_t bin[BINS * COPIES];
    uint32_t key[LIST];
    int32_t position[LIST];
    int32_t chosen[K_MAX];
    uint32_t total[2][WARPS]; /* for prefix sums */
    uint32_t found_bin;
    uint32_t found_need;
    uint32_t found_keys;
};

/* Keys whose top bits are above `prefix` are chosen, and the first `need` of those that
 * share them. */
struct threshold
{
    uint32_t prefix; /* key >> low_bits */
    uint32_t low_bits;
    uint32_t need;
};

/* Four neighbours, of which those in `valid` exist. */
struct quad
{
    uint32_t key[4];
    uint32_t valid;
};

/* A row in global memory. Its quads lie on 16-byte boundaries; the first and the last may
 * hang over the row's ends, and what hangs over is not read. */
struct row_source
{
    const float *x;
    uint32_t length;
    uint32_t shift; /* columns by which quad 0 begins before the row */

    __device__ __forceinline__ row_source(const float *row, uint32_t columns)
        : x(row), length(columns), shift((uint32_t)((uintptr_t)row / 4 % 4))
    {
    }
    __device__ __forceinline__ uint32_t quads() const
    {
        return (length + shift + 3) / 4;
    }
    /* Columns before the row wrap around to numbers past its end. */
    __device__ __forceinline__ uint32_t first(uint32_t q) const
    {
        return 4 * q - shift;
    }
    __device__ __forceinline__ int32_t position(uint32_t q, uint32_t i) const
    {
        return (int32_t)(first(q) + i);
    }
    __device__ __forceinline__ quad load(uint32_t q) const
    {
        uint32_t s = first(q);
        float v[4] = { 0, 0, 0, 0 };
        quad ret;
        ret.valid = 0;
        if (s < length && length - s >= 4)
        {
            float4 f = *(const float4 *)(x + s);
            v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
            ret.valid = 15;
        }
        else if (q < quads())
        {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
            {
                if (s + i < length)
                {
                    v[i] = x[s + i];
                    ret.valid |= 1u << i;
                }
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            ret.key[i] = key_of(v[i]);
        return ret;
    }
};

/* The gathered keys. */
struct list_source
{
    const uint32_t *key;
    const int32_t *at;
    uint32_t length;

    __device__ __forceinline__ uint32_t quads() const
    {
        return (length + 3) / 4;
    }
    __device__ __forceinline__ int32_t position(uint32_t q, uint32_t i) const
    {
        return at[4 * q + i];
    }
    __device__ __forceinline__ quad load(uint32_t q) const
    {
        quad ret = {};
        if (q < quads())
        {
            uint4 k = *(const uint4 *)(key + 4 * q);
            ret.key[0] = k.x, ret.key[1] = k.y, ret.key[2] = k.z, ret.key[3] = k.w;
            uint32_t left = length - 4 * q;
            ret.valid = left >= 4 ? 15u : (1u << left) - 1;
        }
        return ret;
    }
};

/* Counts `bits` bits below the prefix, of the keys that share it. */
template <class Source>
static __device__ __forceinline__ void count(const Source &source, threshold at,
                                             uint32_t bits, passes_memory *m)
{
    for (uint32_t i = threadIdx.x; i < BINS * COPIES / 4; i += THREADS)
        ((uint4 *)m->bin)[i] = make_uint4(0, 0, 0, 0);
    __syncthreads();

    uint32_t shift = at.low_bits - bits;
    uint32_t mask = (1u << bits) - 1;
    uint32_t copy = threadIdx.x % COPIES;
    uint32_t quads = source.quads();
    for (uint32_t q = threadIdx.x; q - threadIdx.x < quads; q += TILE)
    {
        quad x[QUADS];
#pragma unroll
        for (uint32_t j = 0; j < QUADS; j++)
            x[j] = source.load(q + j * THREADS);
#pragma unroll
        for (uint32_t j = 0; j < QUADS; j++)
        {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
            {
                uint32_t key = x[j].key[i];
                /* A shift by 32 is none: with no bit known yet all keys share them. */
                uint32_t known = at.low_bits < 32 ? key >> at.low_bits : 0;
                if (known == at.prefix && (x[j].valid >> i & 1))
                    atomicAdd(&m->bin[(key >> shift & mask) * COPIES + copy], 1u);
            }
        }
    }
    __syncthreads();
}

/* Walks the bins from the top to the one that holds the need-th key. Returns how many keys
 * that bin has. A thread looks at four bins. */
static __device__ __forceinline__ uint32_t descend(threshold *at, uint32_t bits,
                                                   passes_memory *m)
{
    uint32_t bins = 1u << bits;
    uint32_t top = bins - 1 - 4 * threadIdx.x; /* wraps where the thread has no bins */
    uint32_t keys[4] = { 0, 0, 0, 0 };
    if (4 * threadIdx.x < bins)
    {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
        {
            uint4 c = ((const uint4 *)m->bin)[top - i];
            keys[i] = c.x + c.y + c.z + c.w;
        }
    }
    uint32_t own = keys[0] + keys[1] + keys[2] + keys[3];
    uint32_t to = rfn_warp_sum_to(own, threadIdx.x % 32);
    uint32_t all;
    uint32_t before = rfn_block_sum_before(to, m->total[0], &all) + to - own;
    if (before < at->need && at->need <= before + own)
    {
        uint32_t need = at->need - before;
        bool found = false;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
        {
            if (!found && need <= keys[i])
            {
                m->found_bin = top - i;
                m->found_need = need;
                m->found_keys = keys[i];
                found = true;
            }
            need -= keys[i];
        }
    }
    __syncthreads();
    at->low_bits -= bits;
    at->prefix = at->prefix << bits | m->found_bin;
    at->need = m->found_need;
    return m->found_keys;
}

/* Settles what bits are still open, 12 and then 8. */
template <class Source>
static __device__ __forceinline__ void refine(const Source &source, threshold *at,
                                              passes_memory *m)
{
    while (at->low_bits)
    {
        uint32_t bits = at->low_bits > 8 ? 12 : 8;
        count(source, *at, bits, m);
        if (descend(at, bits, m) == at->need)
            break; /* the whole bin is chosen */
    }
}

/* Hands what the threshold chooses to emit(place, key, position), places ascending with
 * positions. Returns how many there are. A warp takes 32 * QUADS quads in a row, so that
 * one block-wide sum serves a tile. Sums carry two counts of at most 16384: the keys above
 * in the low half, those that share the prefix in the high one. */
template <class Source, class Emit>
static __device__ __forceinline__ uint32_t ordered(const Source &source, threshold at,
                                                   uint32_t most, passes_memory *m,
                                                   const Emit &emit)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t warp = threadIdx.x / 32;
    uint32_t quads = source.quads();
    uint32_t above = 0; /* of all tiles before */
    uint32_t equal = 0;
    uint32_t turn = 0;
    uint32_t done = 0;
    for (uint32_t tile = 0; tile < quads && done < most; tile += TILE)
    {
        uint32_t q = tile + warp * (32 * QUADS) + lane;
        quad x[QUADS];
#pragma unroll
        for (uint32_t j = 0; j < QUADS; j++)
            x[j] = source.load(q + j * 32);

        uint32_t flags[QUADS]; /* bit i: above, bit i + 4: shares the prefix */
        uint32_t before[QUADS];
        uint32_t total = 0;
#pragma unroll
        for (uint32_t j = 0; j < QUADS; j++)
        {
            uint32_t f = 0;
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
            {
                uint32_t top = x[j].key[i] >> at.low_bits;
                f |= (top > at.prefix ? 1u : 0u) << i;
                f |= (top == at.prefix ? 16u : 0u) << i;
            }
            f &= x[j].valid * 17u;
            flags[j] = f;
            before[j] = total;
            if (__any_sync(RFN_ALL_LANES, f != 0))
            {
                uint32_t own = __popc(f & 15u) | (uint32_t)__popc(f >> 4) << 16;
                uint32_t to = rfn_warp_sum_to(own, lane);
                before[j] += to - own;
                total += __shfl_sync(RFN_ALL_LANES, to, 31);
            }
        }

        uint32_t all;
        uint32_t base = rfn_block_sum_before(total, m->total[turn], &all);
        turn ^= 1;
#pragma unroll
        for (uint32_t j = 0; j < QUADS; j++)
        {
            uint32_t a = above + ((base + before[j]) & 0xffffu);
            uint32_t e = equal + ((base + before[j]) >> 16);
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
            {
                bool is_above = flags[j] >> i & 1;
                bool is_equal = flags[j] >> i & 16;
                if (is_above || (is_equal && e < at.need))
                    emit(a + min(e, at.need), x[j].key[i], source, q + j * 32, i);
                a += is_above;
                e += is_equal;
            }
        }
        above += all & 0xffffu;
        equal += all >> 16;
        done = above + min(equal, at.need);
    }
    __syncthreads();
    return done;
}

struct emit_chosen
{
    int32_t *chosen;

    template <class Source>
    __device__ __forceinline__ void operator()(uint32_t place, uint32_t,
                                               const Source &source, uint32_t q,
                                               uint32_t i) const
    {
        chosen[place] = source.position(q, i);
    }
};

struct emit_listed
{
    uint32_t *key;
    int32_t *at;

    template <class Source>
    __device__ __forceinline__ void operator()(uint32_t place, uint32_t k,
                                               const Source &source, uint32_t q,
                                               uint32_t i) const
    {
        key[place] = k;
        at[place] = source.position(q, i);
    }
};

/* Fills m->chosen with the K chosen positions, ascending. L > K >= 1. */
static __device__ __forceinline__ void select_by_passes(const row_source &row, uint32_t K,
                                                        passes_memory *m)
{
    threshold at = { 0, 32, K };
    emit_chosen to_chosen = { m->chosen };
    count(row, at, 12, m);
    uint32_t keys = descend(&at, 12, m);
    uint32_t listed = K - at.need + keys;
    if (keys == at.need || listed > LIST)
    {
        if (keys != at.need)
            refine(row, &at, m);
        ordered(row, at, K, m, to_chosen);
        return;
    }
    threshold whole = { at.prefix, at.low_bits, NEED_ALL };
    emit_listed to_list = { m->key, m->position };
    ordered(row, whole, listed, m, to_list);
    list_source list = { m->key, m->position, listed };
    refine(list, &at, m);
    ordered(list, at, K, m, to_chosen);
}

} // namespace topk

#endif
