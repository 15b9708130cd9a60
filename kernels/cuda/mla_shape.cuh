/*
 * sparse_mla: cache formats in shared memory, how a block is divided, and the copy of keys.
 */
#ifndef RFN_KERNELS_CUDA_MLA_SHAPE_CUH
#define RFN_KERNELS_CUDA_MLA_SHAPE_CUH

#include "kernels/cuda/mma.cuh"

#include <refrain/types.h>

namespace mla
{

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / 32;
constexpr int TILE = 64;         /* keys */
constexpr int SCORE_PITCH = 68;  /* floats between heads: no conflicts in either way */
constexpr int WEIGHT_PITCH = 72; /* halves between heads, for ldmatrix */
constexpr int V = 512;
constexpr int V_WARP = V / WARPS; /* columns of the output of one warp */
constexpr float SLACK = 8.0f;     /* weights are at most 2^8 */
constexpr int UNIT_BIAS = 7; /* and values in units 2^7 at most: f16 holds the product */
constexpr uint32_t LANES = 0xffffffffu;

/* Formats as they lie in shared memory. A chunk is 64 dimensions. */
template <int Format> struct layout;
template <> struct layout<RFN_LATENT_FP8_656>
{
    static constexpr int pitch = 656; /* bytes between rows: odd in units of 16 */
    static constexpr int pieces = 41; /* of 16 bytes, of a data row */
    static constexpr int row_bytes = 656;
    static constexpr int planar_scales = 0;
    static constexpr int fp8_chunks = 8;
    static constexpr int chunks_per_scale = 2;
    static constexpr int chunks = 9; /* of QK */
    static constexpr int rope_at = 528;
    static constexpr int scales_at = 512;
};
template <> struct layout<RFN_LATENT_FP8_584>
{
    static constexpr int pitch = 592;
    static constexpr int pieces = 36;
    static constexpr int row_bytes = 576;
    static constexpr int planar_scales = 8; /* bytes of a token */
    static constexpr int fp8_chunks = 7;
    static constexpr int chunks_per_scale = 1;
    static constexpr int chunks = 8;
    static constexpr int rope_at = 448;
    static constexpr int scales_at = 576; /* behind the row, in shared memory only */
};
template <> struct layout<RFN_LATENT_BF16_576>
{
    static constexpr int pitch = 1168;
    static constexpr int pieces = 72;
    static constexpr int row_bytes = 1152;
    static constexpr int planar_scales = 0;
    static constexpr int fp8_chunks = 0;
    static constexpr int chunks_per_scale = 1;
    static constexpr int chunks = 9;
    static constexpr int rope_at = 1024;
    static constexpr int scales_at = 0;
};

/* How a block is divided. `heads` is 16, 32 or 64; eight warps are m_warps of heads times
 * n_warps of keys times k_warps of dimensions in QK, and of V / 8 columns each in PV. A small
 * one makes do with little shared memory: one tile of keys, which nothing is copied behind. */
template <int First, int Second, int Heads, bool Small = false> struct shape
{
    static constexpr int first = First;
    static constexpr int second = Second;
    static constexpr bool mixed = First != Second;
    static constexpr int heads = Heads;
    static constexpr int m_warps = Heads == 64 ? 4 : 1;
    static constexpr int n_warps = Heads == 16 ? 4 : 2;
    static constexpr int k_warps = WARPS / m_warps / n_warps;
    static constexpr int m_tiles = Heads / 16; /* of the block */
    static constexpr int m_qk = m_tiles / m_warps;
    static constexpr int n_qk = TILE / 8 / n_warps;
    static constexpr int pitch = layout<First>::pitch > layout<Second>::pitch
                                     ? layout<First>::pitch
                                     : layout<Second>::pitch;
    /* Two small blocks share an SM: one computes while the other waits. */
    static constexpr int on_sm = Heads == 16 && pitch < 1024 ? 2 : 1;
    static constexpr int stages = Small ? 1 : pitch > 1024 || on_sm == 2 ? 2 : 3;
    /* Fragments of the queries, one set a format. */
    static constexpr int steps_first = 4 * layout<First>::chunks;
    static constexpr int steps = steps_first + (mixed ? 4 * layout<Second>::chunks : 0);
    static constexpr bool f16 = layout<First>::fp8_chunks > 0;
    static constexpr bool bf16 = First != RFN_LATENT_FP8_656 || mixed;
    /* Of the dimensions of a scale in QK, as far as registers allow. */
    static constexpr int unroll = Heads == 64 ? 1 : Small ? 2 : 4;
    /* Softmax: rows of a warp, threads of a row, groups of four keys of a thread. */
    static constexpr int rows = Heads / WARPS;
    static constexpr int parts = 32 / rows;
    static constexpr int quads = TILE / 4 / parts;
};

template <class S> struct shared_memory
{
    uint4 q[S::m_tiles * S::steps * 32]; /* A fragments, lane by lane */
    unsigned char ring[S::stages][TILE * S::pitch];
    float score[S::k_warps][S::heads * SCORE_PITCH];
    uint16_t weight_f16[S::f16 ? S::heads * WEIGHT_PITCH : 8];
    /* bf16 alone is too coarse for weights: what it rounds off is the second part. */
    uint16_t weight_bf16[2][S::bf16 ? S::heads * WEIGHT_PITCH : 8];
    uint16_t ratio[S::f16 ? WARPS : 1][TILE]; /* f16: a key's value scale in units */
    float shrink[S::heads];                   /* of what was summed before this tile */
    float factor[S::heads]; /* of the scores: scale * log2(e), without q's power */
    float max[S::heads];    /* when all is done, for the rest of the cluster */
    float sum[S::heads];
    float share[S::heads][8]; /* of the output of a block of the cluster */
    int32_t slot[TILE];       /* of the tile that is copied next */
    /* Bit r of byte w: key 8 * w + r counts. */
    alignas(8) unsigned char chosen[S::stages][WARPS];
};

__device__ __forceinline__ float power(int exponent)
{
    return __uint_as_float((uint32_t)(exponent + 127) << 23);
}

__device__ __forceinline__ float ue8m0(uint32_t e)
{
    uint32_t bits = e == 0 ? 0x00400000u : e << 23;
    return __uint_as_float(e == 255 ? 0x7fc00000u : bits);
}

/* ---- copying -------------------------------------------------------------------------- */

struct source
{
    const unsigned char *pool;
    int32_t page_tokens;
    int64_t page_stride;
    int64_t slots;
};

/* Keys of a tile that lane copies a part of: 8 * warp + lane / 8, and 4 more. */
struct pair
{
    int32_t slot[2];
};

__device__ __forceinline__ bool key_counts(const source &from, int32_t slot)
{
    return slot >= 0 && slot < from.slots;
}

/* Starts the copy of half of a warp's eight keys: eight lanes a key. A key that does not
 * count becomes zeros: 0 * NaN would not vanish. */
template <class S, int Format>
__device__ __forceinline__ void copy_keys(shared_memory<S> *m, int stage,
                                          const source &from, int32_t key_slot, int half)
{
    using L = layout<Format>;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    bool counts = key_counts(from, key_slot);
    uint32_t slot = counts ? (uint32_t)key_slot : 0;
    uint32_t page = slot / (uint32_t)from.page_tokens;
    uint32_t offset = slot % (uint32_t)from.page_tokens;
    const unsigned char *base = from.pool + page * from.page_stride;
    const unsigned char *row = base + (uint64_t)offset * L::row_bytes + lane % 8 * 16;
    int key = warp * 8 + 4 * half + lane / 8;
    uint32_t to = rfn_shared_address(&m->ring[stage][key * L::pitch + lane % 8 * 16]);
#pragma unroll
    for (int k = 0; k + 8 <= L::pieces; k += 8)
        rfn_copy_16(to + 16 * k, row + 16 * k, counts);
    constexpr int done = L::pieces / 8 * 8;
    if (lane % 8 < L::pieces % 8)
        rfn_copy_16(to + 16 * done, row + 16 * done, counts);
    if (L::planar_scales && lane % 8 == 0)
        rfn_copy_8(to + L::scales_at,
                   base + (uint64_t)from.page_tokens * L::row_bytes +
                       (uint64_t)offset * L::planar_scales,
                   counts);
}

/* Notes which of the eight keys count. */
template <class S>
__device__ __forceinline__ void note_chosen(shared_memory<S> *m, int stage,
                                            const source &from, const pair &keys)
{
    uint32_t a = __ballot_sync(LANES, key_counts(from, keys.slot[0]));
    uint32_t b = __ballot_sync(LANES, key_counts(from, keys.slot[1]));
    a = (a & 1) | (a >> 7 & 2) | (a >> 14 & 4) | (a >> 21 & 8);
    b = (b & 1) | (b >> 7 & 2) | (b >> 14 & 4) | (b >> 21 & 8);
    if (threadIdx.x % 32 == 0)
        m->chosen[stage][threadIdx.x / 32] = (unsigned char)(a | b << 4);
}

} // namespace mla

#endif
