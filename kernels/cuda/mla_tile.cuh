/*
 * sparse_mla, one tile of 64 keys: copied into shared memory, multiplied with the queries,
 * turned into weights, multiplied with the values. Eight warps; heads are the rows of all
 * products.
 *
 * Keys and values stay as they are in the cache: e4m3 becomes f16, which is exact. A key's
 * scale is applied in f32 to its product with the query. A value's scale is applied to its
 * weight: relative to `unit`, a power of two that grows with the largest scale seen, so that
 * f16 holds it; outputs are kept in that unit.
 *
 * Slots of a tile's products are permuted so that 16 (8) bytes of a row are the fragments
 * of four (two) steps of k, and so that shared memory has no bank conflicts.
 */
#ifndef RFN_KERNELS_CUDA_MLA_TILE_CUH
#define RFN_KERNELS_CUDA_MLA_TILE_CUH

#include "kernels/cuda/mla_shape.cuh"

namespace mla
{

/* ---- QK ------------------------------------------------------------------------------- */

template <class L>
__device__ __forceinline__ float key_scale(const unsigned char *row, int chunk)
{
    if (L::planar_scales)
        return ue8m0(row[L::scales_at + chunk]);
    return *(const float *)(row + L::scales_at + 4 * (chunk / L::chunks_per_scale));
}

/* Scores of a warp's heads and keys, or the part of them that its dimensions give. */
template <class S, int Format>
__device__ __forceinline__ void scores(shared_memory<S> *m, int stage)
{
    using L = layout<Format>;
    constexpr int first_step = Format == S::first ? 0 : S::steps_first;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int g = lane / 4, t = lane % 4;
    int kw = warp % S::k_warps, nw = warp / S::k_warps % S::n_warps;
    int mw = warp / S::k_warps / S::n_warps;
    const uint4 *q = m->q + (mw * S::m_qk * S::steps + first_step) * 32 + lane;
    const unsigned char *keys = m->ring[stage] + nw * S::n_qk * 8 * L::pitch;
    /* Column g of a product is key g / 2 + 4 * (g % 2) of eight. */
    const unsigned char *mine = keys + (g / 2 + 4 * (g % 2)) * L::pitch + 16 * t;

    float sum[S::m_qk][S::n_qk][4] = {};
    auto bf16_pair = [&](const unsigned char *at, int step, int words) {
        uint4 raw[S::n_qk];
#pragma unroll
        for (int n = 0; n < S::n_qk; n++)
            raw[n] = *(const uint4 *)(at + n * 8 * L::pitch);
#pragma unroll
        for (int v = 0; v < 2; v++)
        {
            if (!(words >> v & 1))
                continue;
#pragma unroll
            for (int i = 0; i < S::m_qk; i++)
            {
                uint4 a = q[(i * S::steps + step + v) * 32];
#pragma unroll
                for (int n = 0; n < S::n_qk; n++)
                    rfn_mma_bf16(sum[i][n], a, v ? raw[n].z : raw[n].x,
                                 v ? raw[n].w : raw[n].y);
            }
        }
    };

    constexpr int chunks = 8 / S::k_warps; /* a warp's; the ninth is shared below */
#pragma unroll(S::unroll)
    for (int from = 0; from < chunks; from += L::chunks_per_scale)
    {
        int c0 = kw * chunks + from;
        if (c0 >= L::fp8_chunks)
        {
            int at = L::rope_at + (c0 - (L::chunks - 1)) * 128;
            bf16_pair(mine + at, 4 * c0, 3);
            bf16_pair(mine + at + 64, 4 * c0 + 2, 3);
            continue;
        }
        float part[S::m_qk][S::n_qk][4] = {};
#pragma unroll
        for (int ci = 0; ci < L::chunks_per_scale; ci++)
        {
            int c = c0 + ci;
            uint4 raw[S::n_qk];
#pragma unroll
            for (int n = 0; n < S::n_qk; n++)
                raw[n] = *(const uint4 *)(mine + n * 8 * L::pitch + 64 * c);
#pragma unroll
            for (int w = 0; w < 4; w++)
            {
                uint4 a[S::m_qk];
#pragma unroll
                for (int i = 0; i < S::m_qk; i++)
                    a[i] = q[(i * S::steps + 4 * c + w) * 32];
#pragma unroll
                for (int n = 0; n < S::n_qk; n++)
                {
                    uint32_t four = w == 0   ? raw[n].x
                                    : w == 1 ? raw[n].y
                                    : w == 2 ? raw[n].z
                                             : raw[n].w;
                    uint32_t low, high;
                    rfn_f16x4_of_e4m3x4(four, low, high);
#pragma unroll
                    for (int i = 0; i < S::m_qk; i++)
                        rfn_mma_f16(part[i][n], a[i], low, high);
                }
            }
        }
#pragma unroll
        for (int n = 0; n < S::n_qk; n++)
        {
            /* Columns 2t, 2t + 1 are keys t, t + 4. */
            const unsigned char *row = keys + (8 * n + t) * L::pitch;
            float s0 = key_scale<L>(row, c0), s1 = key_scale<L>(row + 4 * L::pitch, c0);
#pragma unroll
            for (int i = 0; i < S::m_qk; i++)
            {
                sum[i][n][0] = fmaf(part[i][n][0], s0, sum[i][n][0]);
                sum[i][n][1] = fmaf(part[i][n][1], s1, sum[i][n][1]);
                sum[i][n][2] = fmaf(part[i][n][2], s0, sum[i][n][2]);
                sum[i][n][3] = fmaf(part[i][n][3], s1, sum[i][n][3]);
            }
        }
    }
    if (L::chunks == 9 && S::k_warps == 1)
    {
        bf16_pair(mine + L::rope_at, 32, 3);
        bf16_pair(mine + L::rope_at + 64, 34, 3);
    }
    else if (L::chunks == 9 && S::k_warps == 2)
        bf16_pair(mine + L::rope_at + 64 * kw, 32 + 2 * kw, 3);
    else if (L::chunks == 9)
        bf16_pair(mine + L::rope_at + 64 * (kw / 2), 32 + 2 * (kw / 2), 1 << kw % 2);

    float *to =
        m->score[kw] + (mw * S::m_qk * 16 + g) * SCORE_PITCH + nw * S::n_qk * 8 + t;
#pragma unroll
    for (int i = 0; i < S::m_qk; i++)
    {
#pragma unroll
        for (int n = 0; n < S::n_qk; n++)
        {
            float *p = to + i * 16 * SCORE_PITCH + 8 * n;
            p[0] = sum[i][n][0];
            p[4] = sum[i][n][1];
            p[8 * SCORE_PITCH] = sum[i][n][2];
            p[8 * SCORE_PITCH + 4] = sum[i][n][3];
        }
    }
}

/* ---- softmax -------------------------------------------------------------------------- */

/* Of one head, in powers of two; `sum` is over this thread's keys only. */
struct running
{
    float max;
    float sum;
};

/* The thread's i-th group of four keys: eight lanes beside each other meet no conflict. */
template <class S> __device__ __forceinline__ int quad_of(int part, int i)
{
    if (S::rows == 8)
        return part + 4 * i;
    if (S::rows == 4)
        return (part & 1) * 4 + part / 2 + 8 * i;
    return (part & 3) * 2 + (part / 4 & 1) + 8 * (part / 8);
}

template <class S>
__device__ __forceinline__ void weights(shared_memory<S> *m, uint64_t chosen,
                                        float factor, bool f16, bool bf16, running *of)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int row = warp * S::rows + lane % S::rows, part = lane / S::rows;
    float x[S::quads][4];
    float most = -INFINITY;
#pragma unroll
    for (int i = 0; i < S::quads; i++)
    {
        int quad = quad_of<S>(part, i);
        float4 sum = *(const float4 *)(m->score[0] + row * SCORE_PITCH + 4 * quad);
#pragma unroll
        for (int k = 1; k < S::k_warps; k++)
        {
            float4 more = *(const float4 *)(m->score[k] + row * SCORE_PITCH + 4 * quad);
            sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
        }
        uint32_t bits = (uint32_t)(chosen >> 4 * quad);
        x[i][0] = bits & 1 ? sum.x * factor : -INFINITY;
        x[i][1] = bits & 2 ? sum.y * factor : -INFINITY;
        x[i][2] = bits & 4 ? sum.z * factor : -INFINITY;
        x[i][3] = bits & 8 ? sum.w * factor : -INFINITY;
#pragma unroll
        for (int k = 0; k < 4; k++)
            most = fmaxf(most, x[i][k]);
    }
#pragma unroll
    for (int step = S::rows; step < 32; step *= 2)
        most = fmaxf(most, __shfl_xor_sync(LANES, most, step));
    /* The reference follows the maximum only when that is far above: sums and outputs then
     * need no factor. */
    most = most > of->max + SLACK ? most : of->max;
    /* All scores -inf so far: weights of 0, not of e^NaN. */
    float base = most == -INFINITY ? 0.0f : most;
    float shrink = rfn_exp2(of->max - base);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < S::quads; i++)
    {
        int at = row * WEIGHT_PITCH + 4 * quad_of<S>(part, i);
#pragma unroll
        for (int k = 0; k < 4; k++)
        {
            x[i][k] = rfn_exp2(x[i][k] - base);
            sum += x[i][k];
        }
        if (S::f16 && f16)
            *(uint2 *)(m->weight_f16 + at) =
                make_uint2(rfn_f16x2(x[i][0], x[i][1]), rfn_f16x2(x[i][2], x[i][3]));
        if (S::bf16 && bf16)
        {
            uint32_t low = rfn_bf16x2(x[i][0], x[i][1]);
            uint32_t high = rfn_bf16x2(x[i][2], x[i][3]);
            *(uint2 *)(m->weight_bf16[0] + at) = make_uint2(low, high);
            x[i][0] -= __uint_as_float(low << 16);
            x[i][1] -= __uint_as_float(low & 0xffff0000u);
            x[i][2] -= __uint_as_float(high << 16);
            x[i][3] -= __uint_as_float(high & 0xffff0000u);
            *(uint2 *)(m->weight_bf16[1] + at) =
                make_uint2(rfn_bf16x2(x[i][0], x[i][1]), rfn_bf16x2(x[i][2], x[i][3]));
        }
    }
    of->sum = of->sum * shrink + sum;
    of->max = most;
    if (part == 0)
        m->shrink[row] = shrink;
}

/* ---- PV ------------------------------------------------------------------------------- */

/* The outputs of a warp: all heads, V_WARP columns. Column n of product 4 * j + i is
 * dimension 32 * j + 4 * n + i of the warp's. */
template <class S> using outputs = float[S::m_tiles][V_WARP / 8][4];

template <class S>
__device__ __forceinline__ void shrink_outputs(const shared_memory<S> *m,
                                               float unit_ratio, outputs<S> &out)
{
    int g = (int)threadIdx.x % 32 / 4;
    float f[S::m_tiles][2];
    bool changes = false;
#pragma unroll
    for (int i = 0; i < S::m_tiles; i++)
    {
        f[i][0] = m->shrink[16 * i + g] * unit_ratio;
        f[i][1] = m->shrink[16 * i + g + 8] * unit_ratio;
        changes |= f[i][0] != 1.0f || f[i][1] != 1.0f;
    }
    if (!__any_sync(LANES, changes))
        return;
#pragma unroll
    for (int i = 0; i < S::m_tiles; i++)
    {
#pragma unroll
        for (int n = 0; n < V_WARP / 8; n++)
        {
            out[i][n][0] *= f[i][0];
            out[i][n][1] *= f[i][0];
            out[i][n][2] *= f[i][1];
            out[i][n][3] *= f[i][1];
        }
    }
}

/* e4m3 values. `unit` is the exponent of the power of two, biased. */
template <class S, int Format>
__device__ __forceinline__ void values_fp8(shared_memory<S> *m, int stage,
                                           uint64_t chosen, int *unit, outputs<S> &out)
{
    using L = layout<Format>;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int g = lane / 4, t = lane % 4;
    const unsigned char *ring = m->ring[stage];

    /* Scales of the 64 keys in units; keys that do not count have none. */
    float scale[2];
    uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < 2; i++)
    {
        int key = lane + 32 * i;
        scale[i] = chosen >> key & 1 ? key_scale<L>(ring + key * L::pitch, warp) : 0.0f;
        uint32_t bits = __float_as_uint(scale[i]) & 0x7fffffffu;
        largest = max(largest, bits > 0x7f800000u ? 0 : bits);
    }
    largest = __reduce_max_sync(LANES, largest);
    int exponent = min((int)((largest + 0x7fffffu) >> 23), 254);
    int now = max(*unit, exponent), fall = *unit - now;
    float inverse = power(127 + UNIT_BIAS - now);
#pragma unroll
    for (int i = 0; i < 2; i++)
        m->ratio[warp][lane + 32 * i] = (uint16_t)rfn_f16x2(scale[i] * inverse, 0.0f);
    __syncwarp();
    *unit = now;
    shrink_outputs(m, fall > -127 ? power(fall) : 0.0f, out);

    const unsigned char *mine = ring + 2 * t * L::pitch + V_WARP * warp + 4 * g;
    const uint16_t *weight = m->weight_f16 + lane % 16 * WEIGHT_PITCH + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < TILE; k += 16)
    {
        uint4 a[S::m_tiles];
        uint32_t low = *(const uint32_t *)&m->ratio[warp][k + 2 * t];
        uint32_t high = *(const uint32_t *)&m->ratio[warp][k + 2 * t + 8];
#pragma unroll
        for (int i = 0; i < S::m_tiles; i++)
        {
            a[i] = rfn_load_a(weight + i * 16 * WEIGHT_PITCH + k);
            a[i].x = rfn_mul_f16x2(a[i].x, low);
            a[i].y = rfn_mul_f16x2(a[i].y, low);
            a[i].z = rfn_mul_f16x2(a[i].z, high);
            a[i].w = rfn_mul_f16x2(a[i].w, high);
        }
#pragma unroll
        for (int j = 0; j < V_WARP / 32; j++)
        {
            /* Four dimensions of keys 2t, 2t + 1, 2t + 8, 2t + 9. */
            const unsigned char *p = mine + k * L::pitch + 32 * j;
            uint32_t x0 = *(const uint32_t *)p;
            uint32_t x1 = *(const uint32_t *)(p + L::pitch);
            uint32_t x8 = *(const uint32_t *)(p + 8 * L::pitch);
            uint32_t x9 = *(const uint32_t *)(p + 9 * L::pitch);
            uint32_t b01 = __byte_perm(x0, x1, 0x5140), b23 = __byte_perm(x0, x1, 0x7362);
            uint32_t c01 = __byte_perm(x8, x9, 0x5140), c23 = __byte_perm(x8, x9, 0x7362);
            uint32_t b[4], c[4];
            rfn_f16x4_of_e4m3x4(b01, b[0], b[1]);
            rfn_f16x4_of_e4m3x4(b23, b[2], b[3]);
            rfn_f16x4_of_e4m3x4(c01, c[0], c[1]);
            rfn_f16x4_of_e4m3x4(c23, c[2], c[3]);
#pragma unroll
            for (int n = 0; n < 4; n++)
#pragma unroll
                for (int i = 0; i < S::m_tiles; i++)
                    rfn_mma_f16(out[i][4 * j + n], a[i], b[n], c[n]);
        }
    }
}

/* bf16 values, at byte `at` of a row. */
template <class S, int Format>
__device__ __forceinline__ void values_bf16(shared_memory<S> *m, int stage, int at,
                                            int *unit, outputs<S> &out)
{
    using L = layout<Format>;
    int lane = (int)threadIdx.x % 32;
    int g = lane / 4, t = lane % 4;
    float unit_ratio = 1.0f;
    uint32_t in_units = 0;
    if (S::mixed)
    {
        int now = max(*unit, 127), fall = *unit - now;
        float inverse = power(127 + UNIT_BIAS - now);
        in_units = rfn_bf16x2(inverse, inverse);
        unit_ratio = fall > -127 ? power(fall) : 0.0f;
        *unit = now;
    }
    shrink_outputs(m, unit_ratio, out);

    const unsigned char *mine = m->ring[stage] + 2 * t * L::pitch + at + 8 * g;
    int weight = lane % 16 * WEIGHT_PITCH + lane / 16 * 8;
#pragma unroll 1
    for (int k = 0; k < TILE; k += 16)
    {
#pragma unroll
        for (int j = 0; j < V_WARP / 32; j++)
        {
            const unsigned char *p = mine + k * L::pitch + 64 * j;
            uint2 x0 = *(const uint2 *)p;
            uint2 x1 = *(const uint2 *)(p + L::pitch);
            uint2 x8 = *(const uint2 *)(p + 8 * L::pitch);
            uint2 x9 = *(const uint2 *)(p + 9 * L::pitch);
            uint32_t b[4] = { __byte_perm(x0.x, x1.x, 0x5410),
                              __byte_perm(x0.x, x1.x, 0x7632),
                              __byte_perm(x0.y, x1.y, 0x5410),
                              __byte_perm(x0.y, x1.y, 0x7632) };
            uint32_t c[4] = { __byte_perm(x8.x, x9.x, 0x5410),
                              __byte_perm(x8.x, x9.x, 0x7632),
                              __byte_perm(x8.y, x9.y, 0x5410),
                              __byte_perm(x8.y, x9.y, 0x7632) };
#pragma unroll
            for (int part = 0; part < 2; part++)
            {
#pragma unroll
                for (int i = 0; i < S::m_tiles; i++)
                {
                    uint4 a = rfn_load_a(m->weight_bf16[part] + weight +
                                         i * 16 * WEIGHT_PITCH + k);
                    if (S::mixed)
                    {
                        a.x = rfn_mul_bf16x2(a.x, in_units);
                        a.y = rfn_mul_bf16x2(a.y, in_units);
                        a.z = rfn_mul_bf16x2(a.z, in_units);
                        a.w = rfn_mul_bf16x2(a.w, in_units);
                    }
#pragma unroll
                    for (int n = 0; n < 4; n++)
                        rfn_mma_bf16(out[i][4 * j + n], a, b[n], c[n]);
                }
            }
        }
    }
}

template <class S, int Format>
__device__ __forceinline__ void values(shared_memory<S> *m, int stage, uint64_t chosen,
                                       int *unit, outputs<S> &out)
{
    using L = layout<Format>;
    int warp = (int)threadIdx.x / 32;
    if (L::fp8_chunks == 8 || (L::fp8_chunks && warp < L::fp8_chunks))
        values_fp8<S, Format>(m, stage, chosen, unit, out);
    else
        values_bf16<S, Format>(m, stage, L::fp8_chunks ? L::rope_at : 128 * warp, unit,
                               out);
}

} // namespace mla

#endif
