/* Top-k of a row whose keys lie in registers: of the row itself, or, where it has more
 * columns than that, of the groups of columns that can hold the largest. */
#ifndef RFN_KERNELS_CUDA_TOPK_ROW_CUH
#define RFN_KERNELS_CUDA_TOPK_ROW_CUH

#include "kernels/cuda/topk_parts.cuh"

namespace topk
{

/* One block's part of a row. Quads lie on 16-byte boundaries: the first and the last of a
 * row may hang over its ends, and what hangs over is not read. */
struct part
{
    const float *x;
    uint32_t length;
    uint32_t shift; /* columns by which quad 0 begins before the row */
    uint32_t rank;  /* of the block in its cluster */

    __device__ __forceinline__ part(const float *row, uint32_t rank)
        : x(row), length(0), shift((uint32_t)((uintptr_t)row / 4 % 4)), rank(rank)
    {
    }
    __device__ __forceinline__ uint32_t quads() const
    {
        return (length + shift + 3) / 4;
    }
    __device__ __forceinline__ uint32_t groups() const
    {
        return (length + shift + GROUP - 1) / GROUP;
    }
};

static __device__ __forceinline__ bool is_whole(uint32_t column, uint32_t columns)
{
    return column < columns && columns - column >= 4;
}

/* Four columns; what lies outside [0, columns) is not read and becomes `none`. Columns
 * before the row are numbers past its end. */
static __device__ __forceinline__ float4 load_quad(const float *x, uint32_t column,
                                                   uint32_t columns, float none)
{
    if (is_whole(column, columns))
        return *(const float4 *)(x + column);
    float4 ret = make_float4(none, none, none, none);
    if (column < columns)
        ret.x = x[column];
    if (column + 1 < columns)
        ret.y = x[column + 1];
    if (column + 2 < columns)
        ret.z = x[column + 2];
    if (column + 3 < columns)
        ret.w = x[column + 3];
    return ret;
}

/* Loads bits into key[]: in a warp's chunk j those of the lane's four columns. */
template <uint32_t E, class Values>
static __device__ __forceinline__ void load_chunks(uint32_t (&key)[E], uint32_t chunks,
                                                   const Values &values)
{
#pragma unroll
    for (uint32_t j = 0; j < E / 4; j++)
    {
        if (j < chunks)
        {
            float4 f = values(j);
            key[4 * j] = __float_as_uint(f.x);
            key[4 * j + 1] = __float_as_uint(f.y);
            key[4 * j + 2] = __float_as_uint(f.z);
            key[4 * j + 3] = __float_as_uint(f.w);
        }
        else
            key[4 * j] = key[4 * j + 1] = key[4 * j + 2] = key[4 * j + 3] = 0;
    }
}

/* Makes keys of the bits, 0 where there is no column below `limit`, and counts their first
 * 12 bits. A lane's four columns of chunk j begin at columns(j); m->bin is clear. */
template <uint32_t E, class Columns>
static __device__ __forceinline__ void make_keys(uint32_t (&key)[E], uint32_t chunks,
                                                 uint32_t limit, const Columns &columns,
                                                 shared_memory *m)
{
#pragma unroll
    for (uint32_t j = 0; j < E / 4; j++)
    {
        if (j < chunks)
        {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                key[4 * j + i] = key_of(__uint_as_float(key[4 * j + i]));
            uint32_t column = columns(j);
            if (!is_whole(column, limit))
            {
#pragma unroll
                for (uint32_t i = 0; i < 4; i++)
                    key[4 * j + i] = column + i < limit ? key[4 * j + i] : 0;
            }
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                atomicAdd(&m->bin[key[4 * j + i] >> 20], 1u);
        }
    }
}

/* Writes what is chosen, ascending, into list[0 .. returned); value(j) is that of the first
 * key of this lane in chunk j, and the others follow. Ends without a barrier: the list is
 * whole behind the next one. m->above[stage] is ready behind the next wait<C>(). */
template <uint32_t C, uint32_t E, class Value>
static __device__ __forceinline__ uint32_t list_chosen(uint32_t (&key)[E],
                                                       uint32_t chunks, const cut &at,
                                                       uint32_t stage, int32_t *list,
                                                       const Value &value,
                                                       shared_memory *m)
{
    if (at.quota)
        settle_ties<C>(key, chunks, at, m);
    uint32_t least = at.least;
    counts<E> n(key, chunks, [least](uint32_t k) { return k >= least; });
    uint32_t all;
    uint32_t place = rfn_block_sum_before(n.all, m->total[1], &all);
    if (threadIdx.x == 0)
        m->above[stage] = all;
    arrive<C>();
#pragma unroll
    for (uint32_t j = 0; j < E / 4; j++)
    {
        if (j < chunks && n.total_of(j))
        {
            uint32_t to = place + n.before_of(j);
            int32_t v = value(j);
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                if (key[4 * j + i] >= least)
                    list[to++] = v + (int32_t)i;
            place += n.total_of(j);
        }
    }
    return all;
}

/* Maxima of the groups [first, first + 32 * steps), a warp 32 groups a step. NaN where a
 * group has no number. */
static __device__ __forceinline__ void maxima(const part &row, uint32_t first,
                                              uint32_t steps, float *ret)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t odd = lane & 1, high = lane & 2;
    const float nan = __uint_as_float(0x7fffffffu);
#pragma unroll 2
    for (uint32_t s = threadIdx.x / 32; s < steps; s += WARPS)
    {
        uint32_t column = (first + 32 * s) * GROUP + 4 * lane - row.shift;
        float a[4];
#pragma unroll
        for (uint32_t c = 0; c < 4; c++)
        {
            float4 f = load_quad(row.x, column + 128 * c, row.length, nan);
            a[c] = fmaxf(fmaxf(f.x, f.y), fmaxf(f.z, f.w));
        }
        /* Four lanes have a group's four quads in each a[c]; lane l ends with that of
         * a[l % 4]. */
        float r0 = __shfl_xor_sync(RFN_ALL_LANES, odd ? a[0] : a[1], 1);
        float r1 = __shfl_xor_sync(RFN_ALL_LANES, odd ? a[2] : a[3], 1);
        r0 = fmaxf(r0, odd ? a[1] : a[0]);
        r1 = fmaxf(r1, odd ? a[3] : a[2]);
        float r = __shfl_xor_sync(RFN_ALL_LANES, high ? r0 : r1, 2);
        ret[32 * s + 8 * (lane % 4) + lane / 4] = fmaxf(r, high ? r1 : r0);
    }
}

/* Groups a block of a cluster takes, a multiple of 32. */
static __host__ __device__ __forceinline__ uint32_t groups_of_block(uint32_t groups,
                                                                    uint32_t blocks)
{
    return ((groups + blocks - 1) / blocks + 31) / 32 * 32;
}

/* Ranks groups of neighbours by (maximum, position): whatever is among the row's K largest
 * lies in one of the first K groups, since K groups before its own would each have one that
 * goes before it. Leaves this block's groups, ascending, in m->group and returns their
 * number. */
template <uint32_t C, uint32_t E>
static __device__ __forceinline__ uint32_t choose_groups(const part &row, uint32_t K,
                                                         uint32_t (&key)[E],
                                                         float *maximum, shared_memory *m)
{
    uint32_t groups = row.groups();
    uint32_t mine = groups_of_block(groups, C);
    uint32_t first = row.rank * mine;
    uint32_t there = groups > first ? min(mine, groups - first) : 0;
    maxima(row, first, (there + 31) / 32, maximum);
    __syncthreads(); /* and m->bin is clear */
    uint32_t chunks = (mine / 4 + THREADS - 1) / THREADS;
    uint32_t from = 4 * (threadIdx.x / 32 * chunks * 32 + threadIdx.x % 32);
    auto columns = [&](uint32_t j) { return from + 128 * j; };
    auto values = [&](uint32_t j) {
        uint32_t g = columns(j);
        return g < there ? *(const float4 *)(maximum + g) : make_float4(0, 0, 0, 0);
    };
    load_chunks<E>(key, chunks, values);
    make_keys<E>(key, chunks, there, columns, m);
    cut at = cut_of<C, E>(key, chunks, K, m);
    uint32_t n = list_chosen<C, E>(
        key, chunks, at, 0, m->group,
        [&](uint32_t j) { return (int32_t)(first + columns(j)); }, m);
    wait<C>(); /* nobody looks at m->bin any more, and the list is whole */
    clear_bins(m);
    __syncthreads();
    return n;
}

} // namespace topk

#endif
