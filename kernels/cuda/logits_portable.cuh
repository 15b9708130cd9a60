/*
 * index_logits from sm_80 on: mma.sync and cp.async, nothing newer.
 *
 * A block an SM. Each warp has a share of the tiles, of 32 tokens, and a ring of stages of its
 * own, which it fills itself: no two warps meet after the shares are known. It keeps all heads
 * of a query as f16 in registers, the A operand. Keys become f16 by integer operations: sign
 * and the seven bits below it, moved to their places in an f16, are 2^-8 times the e4m3, and
 * 0x7f, the NaN, is looked for apart. Queries times 2^7 then give halves of the products.
 *
 * A score comes from one column of the products and a sum over heads in a fixed order, so it
 * has the same bits whatever else runs, and however the tiles are dealt out.
 */
#ifndef RFN_KERNELS_CUDA_LOGITS_PORTABLE_CUH
#define RFN_KERNELS_CUDA_LOGITS_PORTABLE_CUH

#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/index_tiles.cuh"

namespace
{
namespace portable
{

constexpr uint32_t TOKENS = 32; /* of a tile */
constexpr uint32_t WARPS = 8;   /* at most */
constexpr uint32_t STAGES = 4;

struct stage
{
    uint8_t key[TOKENS * DIM];
    float scale[TOKENS];
};

/* As many rings follow as there are warps. */
struct shared_memory
{
    row_sums sums;
    tile what[WARPS][STAGES];
    __align__(16) stage ring[];
};

/* ---- e4m3 to f16 ------------------------------------------------------------------- */

/* Four e4m3 as f16 times 2^-8: bytes 0 and 2 in one word, 1 and 3 in the other. */
__device__ __forceinline__ void halves_of(uint32_t four, uint32_t *ret_even,
                                          uint32_t *ret_odd)
{
    uint32_t up = four << 8;
    *ret_even = (up & 0x80008000u) | ((up & 0x7f007f00u) >> 1);
    *ret_odd = (four & 0x80008000u) | ((four & 0x7f007f00u) >> 1);
}

/* Bit 7 of each byte: whether it is NaN. The other bits mean nothing. */
__device__ __forceinline__ uint32_t nan_of(uint32_t four)
{
    return (four & 0x7f7f7f7fu) + 0x01010101u;
}

__device__ __forceinline__ uint32_t times_two_to_15(uint32_t two)
{
    uint32_t ret;
    asm("mul.f16x2 %0, %1, %2;" : "=r"(ret) : "r"(two), "r"(0x78007800u));
    return ret;
}

__device__ __forceinline__ void multiply(float c[4], const uint32_t a[4], uint32_t b0,
                                         uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* ---- scores ------------------------------------------------------------------------ */

/* Token of 32 whose sum query.sum_of leaves in this lane. */
__device__ __forceinline__ uint32_t token_of_lane()
{
    uint32_t lane = threadIdx.x % 32;
    return lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2;
}

/* A query, as the A operands of MT x 8 products of 16 heads x 16 dimensions. Lane (g, t)
 * has dimensions 16t .. 16t + 15 and 64 more of heads g, g + 8, ...: four a step, and of a
 * key the same ones, so that their order among the steps does not matter. */
template <uint32_t MT> struct query
{
    uint32_t a[MT][8][4];
    float w[MT][2];
    bool nan; /* some byte is: all scores are */

    __device__ __forceinline__ void load(const problem &p, int32_t t)
    {
        uint32_t lane = threadIdx.x % 32;
        const uint8_t *row = p.q8 + t * p.q8_row + 16 * (lane % 4);
        const float *weight = p.w8 + t * p.w8_row;
        uint32_t odd = 0;
#pragma unroll
        for (uint32_t i = 0; i < MT; i++)
        {
#pragma unroll
            for (uint32_t half = 0; half < 2; half++)
            {
                int32_t h = (int32_t)(16 * i + 8 * half + lane / 4);
                uint4 q[2] = {};
                w[i][half] = 0;
                if (h < p.H)
                {
                    const uint8_t *head = row + h * p.q8_head;
                    q[0] = *(const uint4 *)head;
                    q[1] = *(const uint4 *)(head + 64);
                    w[i][half] = weight[h];
                }
#pragma unroll
                for (uint32_t j = 0; j < 2; j++)
                {
                    const uint32_t word[4] = { q[j].x, q[j].y, q[j].z, q[j].w };
#pragma unroll
                    for (uint32_t k = 0; k < 4; k++)
                    {
                        uint32_t *to = a[i][4 * j + k];
                        uint32_t even_two, odd_two;
                        halves_of(word[k], &even_two, &odd_two);
                        to[half] = times_two_to_15(even_two);
                        to[half + 2] = times_two_to_15(odd_two);
                        odd |= nan_of(word[k]);
                    }
                }
            }
        }
        nan = __any_sync(ALL, (odd & 0x80808080u) != 0);
    }

    /* Weighted sums over this lane's heads for tokens 2t and 2t + 1 of eight: x + |x| is the
     * relu of the product that x is half of. Returns nan_of this lane's part of key g. */
    __device__ __forceinline__ uint32_t eight(const uint8_t *key, float ret[2]) const
    {
        uint32_t lane = threadIdx.x % 32;
        const uint8_t *row = key + lane / 4 * DIM + 16 * (lane % 4);
        /* Odd rows in swapped order: eight lanes then read all banks. */
        bool odd = lane & 4;
        uint4 x = *(const uint4 *)(row + (odd ? 64 : 0));
        uint4 y = *(const uint4 *)(row + (odd ? 0 : 64));
        const uint32_t word[8] = { odd ? y.x : x.x, odd ? y.y : x.y, odd ? y.z : x.z,
                                   odd ? y.w : x.w, odd ? x.x : y.x, odd ? x.y : y.y,
                                   odd ? x.z : y.z, odd ? x.w : y.w };
        float c[MT][4] = {};
        uint32_t seen = 0;
#pragma unroll
        for (uint32_t k = 0; k < 8; k++)
        {
            uint32_t b[2];
            halves_of(word[k], &b[0], &b[1]);
            seen |= nan_of(word[k]);
#pragma unroll
            for (uint32_t i = 0; i < MT; i++)
                multiply(c[i], a[i][k], b[0], b[1]);
        }
        ret[0] = ret[1] = 0;
#pragma unroll
        for (uint32_t i = 0; i < MT; i++)
        {
#pragma unroll
            for (uint32_t j = 0; j < 4; j++)
                ret[j % 2] = fmaf(w[i][j / 2], c[i][j] + fabsf(c[i][j]), ret[j % 2]);
        }
        return seen & 0x80808080u;
    }

    /* The sum of token `token_of_lane()` of 32, one a lane. */
    __device__ __forceinline__ float sum_of(const uint8_t *key) const
    {
        uint32_t lane = threadIdx.x % 32;
        float sum[4][2]; /* of tokens 8n + 2t + c */
        uint32_t seen[4];
        uint32_t any = nan;
#pragma unroll
        for (uint32_t n = 0; n < 4; n++)
        {
            seen[n] = eight(key + n * 8 * DIM, sum[n]);
            any |= seen[n];
        }

        /* Eight lanes g have parts of each sum: at each step half of the sums goes to the
         * lane across, which keeps them. */
        float two[2][2];
        bool high = lane & 16;
#pragma unroll
        for (uint32_t n = 0; n < 2; n++)
        {
#pragma unroll
            for (uint32_t c = 0; c < 2; c++)
            {
                float kept = high ? sum[n + 2][c] : sum[n][c];
                float sent = high ? sum[n][c] : sum[n + 2][c];
                two[n][c] = kept + __shfl_xor_sync(ALL, sent, 16);
            }
        }
        float one[2];
        high = lane & 8;
#pragma unroll
        for (uint32_t c = 0; c < 2; c++)
        {
            float kept = high ? two[1][c] : two[0][c];
            float sent = high ? two[0][c] : two[1][c];
            one[c] = kept + __shfl_xor_sync(ALL, sent, 8);
        }
        high = lane & 4;
        float kept = high ? one[1] : one[0];
        float sent = high ? one[0] : one[1];
        kept += __shfl_xor_sync(ALL, sent, 4);
        if (!__any_sync(ALL, any != 0))
            return kept;

        uint32_t token = token_of_lane();
        bool bad = nan;
#pragma unroll
        for (uint32_t n = 0; n < 4; n++)
        {
            uint32_t lanes = __ballot_sync(ALL, seen[n] != 0);
            bad |= token / 8 == n && (lanes >> token % 8 * 4 & 0xf) != 0;
        }
        return bad ? __uint_as_float(0x7fffffffu) : kept;
    }
};

/* ---- loading ----------------------------------------------------------------------- */

template <uint32_t BYTES> __device__ __forceinline__ void copy(void *to, const void *from)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(at), "l"(from)
                     : "memory");
}

/* Starts the copy of a tile, by a whole warp. */
__device__ __forceinline__ void load(const problem &p, const tile &what, stage *to)
{
    uint32_t lane = threadIdx.x % 32;
    if (what.entry < 0)
        return;
    const uint8_t *base = p.pool + what.entry * p.page_bytes;
    const uint8_t *key = base + what.offset * (int32_t)DIM;
    const uint8_t *scale = base + p.P * (int32_t)DIM + what.offset * 4;
    uint32_t chunks = (uint32_t)what.tokens * (DIM / 16);
#pragma unroll
    for (uint32_t i = 0; i < TOKENS * DIM / 16; i += 32)
        if (i + lane < chunks)
            copy<16>(to->key + 16 * (i + lane), key + 16 * (i + lane));
    if ((int32_t)lane < what.tokens)
        copy<4>(&to->scale[lane], scale + 4 * lane);
}

/* Scores a share, by a whole warp. */
template <uint32_t MT>
__device__ __forceinline__ void run(const problem &p, shared_memory *m, share s,
                                    int32_t base)
{
    uint32_t lane = threadIdx.x % 32;
    uint32_t warp = threadIdx.x / 32;
    stage *ring = m->ring + warp * STAGES;
    tile *kept = m->what[warp];
    query<MT> q;
    tile ahead = {}; /* of 32 tiles, one a lane */
    int32_t loaded = -1;
    uint32_t many = s.left;
#pragma unroll 1
    for (uint32_t n = 0; n < many + STAGES - 1; n++)
    {
        /* Tile n goes into the stage that the one before last turn has left. */
        if (n < many)
        {
            if (n % 32 == 0)
                ahead = next_tiles<TOKENS>(p, &m->sums, &s);
            int from = (int)(n % 32);
            tile what;
            what.row = __shfl_sync(ALL, ahead.row, from);
            what.column = __shfl_sync(ALL, ahead.column, from);
            what.tokens = __shfl_sync(ALL, ahead.tokens, from);
            what.entry = __shfl_sync(ALL, ahead.entry, from);
            what.offset = __shfl_sync(ALL, ahead.offset, from);
            load(p, what, &ring[n % STAGES]);
            if (lane == 0)
                kept[n % STAGES] = what;
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
        if (n < STAGES - 1)
            continue;

        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 1) : "memory");
        __syncwarp();
        uint32_t k = (n - (STAGES - 1)) % STAGES;
        const tile what = kept[k];
        int32_t t = base + what.row;
        if (what.entry < 0)
            no_page(p, t, what.column, what.tokens, (int32_t)lane, 32);
        else
        {
            if (what.row != loaded)
                q.load(p, t);
            loaded = what.row;
            float x = q.sum_of(ring[k].key);
            int32_t token = (int32_t)token_of_lane();
            if (token < what.tokens)
                p.logits[t * p.logits_row + what.column + token] =
                    x * ring[k].scale[token];
        }
        __syncwarp();
    }
}

template <uint32_t MT>
__global__ void __launch_bounds__(32 * WARPS, 1) index_logits_kernel(INDEX_LOGITS_PARAMS)
{
    extern __shared__ __align__(16) unsigned char portable_bytes[];
    shared_memory *m = (shared_memory *)portable_bytes;
    INDEX_LOGITS_PROBLEM(p);
    uint32_t warp = threadIdx.x / 32;
    uint32_t warps = blockDim.x / 32;
    uint32_t inverse = touch(p, warps * gridDim.x);
    rfn_edge_wait();
    if (!rfn_bounds_hold_cuda(bounds, bounds_own, fault, name, bound_names))
        return;
#pragma unroll 1
    for (int32_t base = 0; base < p.rows; base += CHUNK)
    {
        int32_t rows = min(p.rows - base, (int32_t)CHUNK);
        if (base > 0)
            __syncthreads();
        sum_rows<TOKENS, false>(p, base, rows, &m->sums, warp, warps);
        __syncthreads();
        /* Neighbours in the list are on different SMs: few tiles meet many. */
        run<MT>(p, m,
                share_of(&m->sums, rows, warp * gridDim.x + blockIdx.x, warps * gridDim.x,
                         inverse),
                base);
    }
}

} // namespace portable
} // namespace

#endif
