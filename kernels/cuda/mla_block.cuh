/*
 * sparse_mla, one block: queries into fragments, the loop over the tiles of a row, results,
 * and the merge of a cluster.
 */
#ifndef RFN_KERNELS_CUDA_MLA_BLOCK_CUH
#define RFN_KERNELS_CUDA_MLA_BLOCK_CUH

#include "kernels/cuda/bounds.cuh"
#include "kernels/cuda/edge.cuh"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/mla_tile.cuh"

namespace mla
{

constexpr int OUT_PITCH = V + 4; /* floats between heads, for the cluster */
constexpr float LOG2_E = 1.44269504f;
constexpr float LN_2 = 0.693147181f;
constexpr int Q_POWER = 10;  /* the largest |q| of a head becomes 2^10 .. 2^11 */
constexpr int UNIT_MIN = 17; /* biased; smaller scales only belong to zeros */
constexpr int UNIT_ONE = 127 + UNIT_BIAS;

/* What a kernel is given, by name. */
struct job
{
    const uint16_t *q, *q_rope;
    const int32_t *live;
    const int64_t *bounds;
    const unsigned char *pool[2];
    const int32_t *indices[2], *lens[2];
    const float *sink;
    uint16_t *out;
    float *lse;
    int64_t q_row, q_head, rope_row, rope_head, index_row[2], out_row, out_head, lse_row;
    int64_t page_stride[2], slots[2];
    int32_t page_tokens[2], columns[2];
    int32_t H, blocks; /* blocks: of heads */
    float scale;
    int32_t empty_lse_positive;
    struct rfn_fault *fault;
    const char *name, *index_name[2];
};

/* ---- queries -------------------------------------------------------------------------- */

/* Eight values of head h from dimension d on, into the fragments of one format. */
template <class S, int Format>
__device__ __forceinline__ void store_query(shared_memory<S> *m, int h, int d,
                                            const float (&x)[8])
{
    using L = layout<Format>;
    int c = d / 64, fp8 = c < L::fp8_chunks;
    int t = fp8 ? d % 64 / 16 : d % 32 / 8;
    int step = 4 * c + (fp8 ? d % 16 / 4 : d % 64 / 32 * 2);
    step += Format == S::first ? 0 : S::steps_first;
    uint32_t *to = (uint32_t *)(m->q + (h / 16 * S::steps + step) * 32 + h % 8 * 4 + t);
#pragma unroll
    for (int j = 0; j < 4; j++)
    {
        uint32_t pair =
            fp8 ? rfn_f16x2(x[2 * j], x[2 * j + 1]) : rfn_bf16x2(x[2 * j], x[2 * j + 1]);
        to[j / 2 * 128 + j % 2 * 2 + h % 16 / 8] = pair;
    }
}

/* A warp loads Heads / 8 heads. Each is multiplied by a power of two, so that f16 holds it;
 * `factor` takes that back. */
template <class S>
__device__ __forceinline__ void load_queries(shared_memory<S> *m, const job &a, int64_t t,
                                             int h0)
{
    constexpr int groups = 8 * layout<S::first>::chunks; /* of eight dimensions */
    constexpr int each = (groups + 31) / 32;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int from_q = a.q_rope ? groups - 8 : groups;
    uint4 raw[S::rows][each];
#pragma unroll
    for (int r = 0; r < S::rows; r++)
    {
        int h = h0 + warp * S::rows + r;
        const uint4 *q = (const uint4 *)(a.q + t * a.q_row + h * a.q_head);
        const uint4 *rope = (const uint4 *)(a.q_rope + t * a.rope_row + h * a.rope_head);
#pragma unroll
        for (int i = 0; i < each; i++)
        {
            int group = lane + 32 * i;
            raw[r][i] = make_uint4(0, 0, 0, 0);
            if (h < a.H && group < groups)
                raw[r][i] = *(group < from_q ? q + group : rope + (group - from_q));
        }
    }
#pragma unroll
    for (int r = 0; r < S::rows; r++)
    {
        int h = warp * S::rows + r;
        uint32_t largest = 0; /* of finite ones */
#pragma unroll
        for (int i = 0; i < each; i++)
        {
            uint32_t word[4] = { raw[r][i].x, raw[r][i].y, raw[r][i].z, raw[r][i].w };
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                uint32_t low = word[j] & 0x7fffu, high = word[j] >> 16 & 0x7fffu;
                largest = max(largest, low < 0x7f80u ? low : 0);
                largest = max(largest, high < 0x7f80u ? high : 0);
            }
        }
        largest = __reduce_max_sync(LANES, largest);
        int exponent = max((int)(largest >> 7), Q_POWER + 1);
        float up = power(127 + Q_POWER - exponent);
        if (lane == 0)
            m->factor[h] = a.scale * LOG2_E * power(exponent - 127 - Q_POWER);
#pragma unroll
        for (int i = 0; i < each; i++)
        {
            int group = lane + 32 * i;
            if (group >= groups)
                continue;
            uint32_t word[4] = { raw[r][i].x, raw[r][i].y, raw[r][i].z, raw[r][i].w };
            float x[8];
#pragma unroll
            for (int j = 0; j < 4; j++)
            {
                x[2 * j] = __uint_as_float(word[j] << 16) * up;
                x[2 * j + 1] = __uint_as_float(word[j] & 0xffff0000u) * up;
            }
            store_query<S, S::first>(m, h, 8 * group, x);
            if (S::mixed)
                store_query<S, S::second>(m, h, 8 * group, x);
        }
    }
}

/* ---- the tiles of a block ------------------------------------------------------------- */

/* Tiles of both sources, dealt out to the blocks of a cluster in turn. */
struct tiles
{
    int first, second;    /* tiles of the sources */
    int length0, length1; /* columns of the sources */
    int rank, step;

    __device__ __forceinline__ int count() const
    {
        int all = first + second;
        return all > rank ? (all - rank + step - 1) / step : 0;
    }
    __device__ __forceinline__ int source_of(int i) const
    {
        return rank + step * i >= first;
    }
};

__device__ __forceinline__ int columns_of(const job &a, int i, int64_t t)
{
    if (!a.pool[i])
        return 0;
    int length = a.columns[i];
    if (a.lens[i])
        length = min(length, max(a.lens[i][t], 0));
    return length;
}

/* The slots that this lane copies for tile i; -1 where there is none. */
__device__ __forceinline__ pair slots_of(const job &a, const tiles &of, int64_t t, int i)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int tile = of.rank + of.step * i, s = tile >= of.first;
    int column = (tile - (s ? of.first : 0)) * TILE + warp * 8 + lane / 8;
    int length = tile >= of.first + of.second ? 0 : s ? of.length1 : of.length0;
    const int32_t *row =
        s ? a.indices[1] + t * a.index_row[1] : a.indices[0] + t * a.index_row[0];
    pair ret = { { -1, -1 } };
    if (column < length)
        ret.slot[0] = row[column];
    if (column + 4 < length)
        ret.slot[1] = row[column + 4];
    return ret;
}

/* The same by way of shared memory: fetched while another tile is worked on, taken when its
 * copy starts, so that no register waits for global memory. Where two blocks share an SM
 * that would be slower. */
template <class S>
__device__ __forceinline__ void fetch_slots(shared_memory<S> *m, const job &a,
                                            const tiles &of, int64_t t, int i)
{
    int key = (int)threadIdx.x / 32 * 8 + (int)threadIdx.x % 32;
    int tile = of.rank + of.step * i, s = tile >= of.first;
    int column = (tile - (s ? of.first : 0)) * TILE + key;
    int length = tile >= of.first + of.second ? 0 : s ? of.length1 : of.length0;
    const int32_t *row =
        s ? a.indices[1] + t * a.index_row[1] : a.indices[0] + t * a.index_row[0];
    __syncwarp(); /* taken by all */
    if (threadIdx.x % 32 < 8)
        rfn_copy_4(rfn_shared_address(&m->slot[key]), row + column, column < length);
}

template <class S>
__device__ __forceinline__ pair take_slots(const shared_memory<S> *m, const tiles &of,
                                           int i)
{
    int key = (int)threadIdx.x / 32 * 8 + (int)threadIdx.x % 32 / 8;
    int tile = of.rank + of.step * i, s = tile >= of.first;
    int column = (tile - (s ? of.first : 0)) * TILE + key;
    int length = s ? of.length1 : of.length0;
    pair ret;
    ret.slot[0] = column < length ? m->slot[key] : -1;
    ret.slot[1] = column + 4 < length ? m->slot[key + 4] : -1;
    return ret;
}

/* Half of a tile's copy; the second half says which keys count. */
template <class S>
__device__ __forceinline__ void copy_tile(shared_memory<S> *m, const job &a,
                                          const tiles &of, int64_t t, int i,
                                          const pair &keys, int half, bool notes)
{
    int s = of.source_of(i), stage = i % S::stages;
    source from;
    from.pool = s ? a.pool[1] : a.pool[0];
    from.page_tokens = s ? a.page_tokens[1] : a.page_tokens[0];
    from.page_stride = s ? a.page_stride[1] : a.page_stride[0];
    from.slots = s ? a.slots[1] : a.slots[0];
    int32_t slot = half ? keys.slot[1] : keys.slot[0];
    if (notes && threadIdx.x % 8 == 0 && slot >= from.slots)
    {
        int tile = of.rank + of.step * i - (s ? of.first : 0);
        rfn_fault_note_cuda(a.fault, a.name, s ? a.index_name[1] : a.index_name[0], t,
                            tile * TILE + (int)threadIdx.x / 8 % 4 +
                                (int)threadIdx.x / 32 * 8 + 4 * half,
                            slot);
    }
    if (S::mixed && s)
        copy_keys<S, S::second>(m, stage, from, slot, half);
    else
        copy_keys<S, S::first>(m, stage, from, slot, half);
    if (half)
        note_chosen(m, stage, from, keys);
}

/* ---- results -------------------------------------------------------------------------- */

__device__ __forceinline__ float unit_value(int unit)
{
    return power(unit - UNIT_BIAS - 127);
}

/* What a head's sum is multiplied by at last, and its LSE. */
__device__ __forceinline__ float finish_head(const job &a, int64_t t, int h, float max,
                                             float sum, bool writes_lse)
{
    bool none = sum == 0.0f;
    float all = sum;
    if (a.sink && h < a.H)
        all += rfn_exp2(a.sink[h] * LOG2_E - max);
    if (a.lse && writes_lse && h < a.H)
    {
        float empty = a.empty_lse_positive ? INFINITY : -INFINITY;
        a.lse[t * a.lse_row + h] = none ? empty : (max + __log2f(sum)) * LN_2;
    }
    return none ? 0.0f : 1.0f / all;
}

template <class S>
__device__ __forceinline__ void store_outputs(const shared_memory<S> *m, const job &a,
                                              int64_t t, int h0, float unit,
                                              const outputs<S> &out)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int g = lane / 4, t4 = lane % 4;
#pragma unroll
    for (int i = 0; i < 2 * S::m_tiles; i++)
    {
        int h = 8 * i + g;
        if (h0 + h >= a.H)
            continue;
        float f = m->shrink[h];
        uint16_t *to =
            a.out + t * a.out_row + (h0 + h) * a.out_head + V_WARP * warp + 8 * t4;
#pragma unroll
        for (int j = 0; j < V_WARP / 32; j++)
        {
            uint32_t w[4];
#pragma unroll
            for (int k = 0; k < 4; k++)
            {
                const float(&low)[4] = out[i / 2][4 * j + k % 2 * 2];
                const float(&high)[4] = out[i / 2][4 * j + k % 2 * 2 + 1];
                int e = i % 2 * 2 + k / 2;
                w[k] = rfn_bf16x2(low[e] * f * unit, high[e] * f * unit);
            }
            *(uint4 *)(to + 32 * j) = make_uint4(w[0], w[1], w[2], w[3]);
        }
    }
}

/* The blocks of a cluster show each other what they have; each merges some heads. */
template <class S, int Splits>
__device__ __forceinline__ void merge_outputs(shared_memory<S> *m, const job &a,
                                              int64_t t, int h0, int rank, float unit,
                                              const outputs<S> &out)
{
    constexpr int heads = S::heads / Splits;
    static_assert(sizeof m->q + sizeof m->ring >= S::heads * OUT_PITCH * sizeof(float),
                  "");
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int g = lane / 4, t4 = lane % 4;
    float *all = (float *)m->q; /* and the ring behind it */
#pragma unroll
    for (int i = 0; i < 2 * S::m_tiles; i++)
    {
        float *to = all + (8 * i + g) * OUT_PITCH + V_WARP * warp + 8 * t4;
#pragma unroll
        for (int j = 0; j < V_WARP / 32; j++)
        {
#pragma unroll
            for (int k = 0; k < 2; k++)
            {
                int e = i % 2 * 2 + k;
                *(float4 *)(to + 32 * j + 4 * k) = make_float4(
                    out[i / 2][4 * j][e] * unit, out[i / 2][4 * j + 1][e] * unit,
                    out[i / 2][4 * j + 2][e] * unit, out[i / 2][4 * j + 3][e] * unit);
            }
        }
    }
    rfn_cluster_sync();

    if (threadIdx.x < heads)
    {
        int h = rank * heads + (int)threadIdx.x;
        float max[Splits], sum[Splits], most = -INFINITY, total = 0;
#pragma unroll
        for (int s = 0; s < Splits; s++)
        {
            max[s] = rfn_cluster_load(rfn_cluster_map(rfn_shared_address(&m->max[h]), s));
            sum[s] = rfn_cluster_load(rfn_cluster_map(rfn_shared_address(&m->sum[h]), s));
            most = fmaxf(most, max[s]);
        }
        float base = most == -INFINITY ? 0.0f : most;
#pragma unroll
        for (int s = 0; s < Splits; s++)
        {
            max[s] = rfn_exp2(max[s] - base);
            total += sum[s] * max[s];
        }
        float share = finish_head(a, t, h0 + h, most, total, true);
#pragma unroll
        for (int s = 0; s < Splits; s++)
            m->share[threadIdx.x][s] = max[s] * share;
    }
    __syncthreads();

    for (int item = (int)threadIdx.x; item < heads * V / 4; item += THREADS)
    {
        int h = item / (V / 4), d = item % (V / 4) * 4;
        uint32_t from = rfn_shared_address(all + (rank * heads + h) * OUT_PITCH + d);
        float4 part[Splits], sum = {};
#pragma unroll
        for (int s = 0; s < Splits; s++)
            part[s] = rfn_cluster_load4(rfn_cluster_map(from, s));
#pragma unroll
        for (int s = 0; s < Splits; s++)
        {
            float f = m->share[h][s];
            sum.x = fmaf(part[s].x, f, sum.x);
            sum.y = fmaf(part[s].y, f, sum.y);
            sum.z = fmaf(part[s].z, f, sum.z);
            sum.w = fmaf(part[s].w, f, sum.w);
        }
        int head = h0 + rank * heads + h;
        if (head < a.H)
            *(uint2 *)(a.out + t * a.out_row + head * a.out_head + d) =
                make_uint2(rfn_bf16x2(sum.x, sum.y), rfn_bf16x2(sum.z, sum.w));
    }
    rfn_cluster_sync(); /* nobody leaves while others read */
}

/* ---- a block -------------------------------------------------------------------------- */

template <class S, int Splits>
__device__ __forceinline__ void attend(const job &a,
                                       const struct rfn_bound_set &bounds_own,
                                       const char *bound_names)
{
    extern __shared__ __align__(16) unsigned char bytes[];
    shared_memory<S> *m = (shared_memory<S> *)bytes;
    static_assert((sizeof *m + 1024) * S::on_sm <= 228 * 1024, "shared memory of an SM");
    rfn_edge_wait();
    if (!rfn_bounds_hold_cuda(a.bounds, bounds_own, a.fault, a.name, bound_names))
        return;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int rank = (int)blockIdx.x % Splits;
    int64_t t = blockIdx.x / Splits / (uint32_t)a.blocks;
    int h0 = (int)(blockIdx.x / Splits % (uint32_t)a.blocks) * S::heads;
    if (a.live && t >= *a.live)
        return;
    bool notes = a.fault && h0 == 0;

    tiles of;
    of.length0 = columns_of(a, 0, t);
    of.length1 = columns_of(a, 1, t);
    of.first = (of.length0 + TILE - 1) / TILE;
    of.second = (of.length1 + TILE - 1) / TILE;
    of.rank = rank;
    of.step = Splits;
    int n = of.count();

    constexpr int ahead = S::stages == 1 ? 1 : S::stages - 1;
#pragma unroll
    for (int i = 0; i < ahead; i++)
    {
        pair keys = slots_of(a, of, t, i);
        if (i < n)
        {
            copy_tile(m, a, of, t, i, keys, 0, notes);
            copy_tile(m, a, of, t, i, keys, 1, notes);
        }
        if (S::stages != 2 && i == ahead - 1)
            fetch_slots(m, a, of, t, ahead);
        rfn_copy_commit();
    }
    pair keys = { { -1, -1 } };
    if (S::stages == 2)
        keys = slots_of(a, of, t, ahead);
    load_queries(m, a, t, h0);
    rfn_copy_wait<ahead - 1>();
    __syncthreads();

    outputs<S> out = {};
    running softmax = { -INFINITY, 0.0f };
    int row = warp * S::rows + lane % S::rows;
    float factor = m->factor[row];
    bool fp8 = warp < layout<S::first>::fp8_chunks;
    int unit = fp8 ? UNIT_MIN : UNIT_ONE;

    /* Between two barriers lie PV of one tile and QK of the next. Copies are started there:
     * with two stages around QK, with three around PV, when the place is free. With one stage
     * all wait for the copy behind PV. */
#pragma unroll 1
    for (int i = 0; i < n; i++)
    {
        int stage = i % S::stages;
        bool second = S::mixed && of.source_of(i);
        bool copies = i + ahead < n;
        uint64_t chosen = *(const uint64_t *)m->chosen[stage];
        if (S::stages == 2 && copies)
            copy_tile(m, a, of, t, i + ahead, keys, 0, notes);
        if (chosen)
        {
            if (S::mixed && second)
                scores<S, S::second>(m, stage);
            else
                scores<S, S::first>(m, stage);
        }
        if (S::stages == 2 && copies)
        {
            copy_tile(m, a, of, t, i + ahead, keys, 1, notes);
            keys = slots_of(a, of, t, i + ahead + 1);
        }
        if (S::stages == 2)
            rfn_copy_commit();
        __syncthreads();
        if (chosen)
        {
            constexpr int one = S::first, two = S::second;
            bool f16 = second ? layout<two>::fp8_chunks > 0 : layout<one>::fp8_chunks > 0;
            bool bf16 =
                second ? layout<two>::fp8_chunks < 8 : layout<one>::fp8_chunks < 8;
            weights(m, chosen, factor, f16, bf16, &softmax);
        }
        if constexpr (S::stages > 2)
            rfn_copy_wait<ahead - 2>(); /* of tile i + 1 */
        __syncthreads();
        if (S::stages > 2 && copies)
        {
            keys = take_slots(m, of, i + ahead);
            copy_tile(m, a, of, t, i + ahead, keys, 0, notes);
        }
        if (chosen)
        {
            if (S::mixed && second)
                values<S, S::second>(m, stage, chosen, &unit, out);
            else
                values<S, S::first>(m, stage, chosen, &unit, out);
        }
        if (S::stages > 2 && copies)
        {
            copy_tile(m, a, of, t, i + ahead, keys, 1, notes);
            fetch_slots(m, a, of, t, i + ahead + 1);
        }
        if (S::stages > 2)
        {
            rfn_copy_commit();
            continue;
        }
        if (S::stages == 1)
        {
            __syncthreads(); /* the place is free */
            if (copies)
            {
                keys = take_slots(m, of, i + 1);
                copy_tile(m, a, of, t, i + 1, keys, 0, notes);
                copy_tile(m, a, of, t, i + 1, keys, 1, notes);
                fetch_slots(m, a, of, t, i + 2);
            }
            rfn_copy_commit();
        }
        rfn_copy_wait<0>();
        __syncthreads();
    }

#pragma unroll
    for (int step = S::rows; step < 32; step *= 2)
        softmax.sum += __shfl_xor_sync(LANES, softmax.sum, step);
    __syncthreads(); /* the ring and `shrink` are free */
    if (Splits == 1)
    {
        float share =
            finish_head(a, t, h0 + row, softmax.max, softmax.sum, lane / S::rows == 0);
        if (lane / S::rows == 0)
            m->shrink[row] = share;
        __syncthreads();
        store_outputs(m, a, t, h0, unit_value(unit), out);
        return;
    }
    if (lane / S::rows == 0)
    {
        m->max[row] = softmax.max;
        m->sum[row] = softmax.sum;
    }
    merge_outputs<S, Splits>(m, a, t, h0, rank, unit_value(unit), out);
}

} // namespace mla

#endif
