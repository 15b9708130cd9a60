/*
 * The inner kernels of sparse_mla, written once over a vector of LANES floats; ROWS rows of C
 * are in registers. instances.h makes of them
 *
 *     INNER(product)  C[i][j] += sum_k A[i][k] * B[k][j]
 *     INNER(softmax)  one tile of the online softmax
 *     INNER(key)      one key row of the cache as f32
 *
 * Sums run over k in order in every instance, so that an element's bits do not depend on
 * the rows and columns beside it.
 */
#define VEC INNER(vec)
#define INLINE TARGET static inline __attribute__((always_inline))

typedef float VEC __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t INNER(uvec) __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t INNER(ivec) __attribute__((vector_size(4 * LANES), may_alias));

/* `rows` and `vecs` are constants where it is called; C stays in registers over k. */
INLINE void INNER(block)(const struct matrix *a, const float *b, int64_t b_row, float *c,
                         int64_t c_row, int K, const int rows, const int vecs, int i0)
{
    VEC sum[ROWS][2];
    const float *a0 = a->at + i0 * a->row;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++)
            sum[i][j] = *(const VEC *)(c + i * c_row + j * LANES);
    for (int k = 0; k < K; k++)
    {
        VEC bk[2];
        for (int j = 0; j < vecs; j++)
            bk[j] = *(const VEC *)(b + k * b_row + j * LANES);
        for (int i = 0; i < rows; i++)
        {
            VEC ak = a0[i * a->row + k * a->col] - (VEC) { 0 };
            for (int j = 0; j < vecs; j++)
                sum[i][j] = FMA(ak, bk[j], sum[i][j]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vecs; j++)
            *(VEC *)(c + i * c_row + j * LANES) = sum[i][j];
}

INLINE void INNER(column)(const struct matrix *a, const float *b, int64_t b_row, float *c,
                          int64_t c_row, int I, int K, const int vecs)
{
    int i = 0;
    for (; i + ROWS <= I; i += ROWS)
        INNER(block)(a, b, b_row, c + i * c_row, c_row, K, ROWS, vecs, i);
    for (; i + 2 <= I; i += 2)
        INNER(block)(a, b, b_row, c + i * c_row, c_row, K, 2, vecs, i);
    for (; i < I; i++)
        INNER(block)(a, b, b_row, c + i * c_row, c_row, K, 1, vecs, i);
}

/* I rows, K steps, J columns, a multiple of LANES. */
TARGET static void INNER(product)(const struct matrix *a, const float *b, int64_t b_row,
                                  float *c, int64_t c_row, int I, int J, int K)
{
    int j = 0;
    for (; j + 2 * LANES <= J; j += 2 * LANES)
        INNER(column)(a, b + j, b_row, c + j, c_row, I, K, 2);
    for (; j < J; j += LANES)
        INNER(column)(a, b + j, b_row, c + j, c_row, I, K, 1);
}

/* e^x for x <= 0 (larger x up to 88 too), 2 ulp; below -87 it is 0, NaN stays NaN. */
INLINE VEC INNER(exp)(VEC x)
{
    const VEC zero = { 0 };
    VEC magic = 12582912.0f + zero; /* 1.5 * 2^23: rounds to an integer in the low bits */
    VEC t = FMA(x, 1.44269504f + zero, magic), n = t - magic;
    VEC r = FMA(n, -0.693145752f + zero, x); /* ln 2 in two parts */
    r = FMA(n, -1.42860677e-6f + zero, r);
    VEC p = 1.0f / 5040.0f + zero;
    p = FMA(p, r, 1.0f / 720.0f + zero);
    p = FMA(p, r, 1.0f / 120.0f + zero);
    p = FMA(p, r, 1.0f / 24.0f + zero);
    p = FMA(p, r, 1.0f / 6.0f + zero);
    p = FMA(p, r, 0.5f + zero);
    p = FMA(p, r, 1.0f + zero);
    p = FMA(p, r, 1.0f + zero);
    INNER(uvec) bits = ((INNER(uvec))t << 23) + 0x3f800000u;
    INNER(ivec) gone = x < -87.0f + zero;
    return (VEC)((INNER(ivec))(p * (VEC)bits) & ~gone);
}

/* Turns n rows of scores into weights, heads side by side, and brings maximum and sum up to
 * date. `ret_shrink` is what earlier sums are to be multiplied by; returns whether any of
 * them is not 1. */
TARGET static int INNER(softmax)(float *score, int n, int heads, float scale, float *max,
                                 float *sum, float *ret_shrink)
{
    const VEC zero = { 0 };
    INNER(ivec) shrinks = { 0 };
    for (int h = 0; h < heads; h += LANES)
    {
        VEC was = *(VEC *)(max + h), m = was, total = zero;
        for (int s = 0; s < n; s++)
        {
            VEC x = *(VEC *)(score + s * HEADS + h) * scale;
            *(VEC *)(score + s * HEADS + h) = x;
            INNER(ivec) above = x > m;
            m = (VEC)(((INNER(ivec))x & above) | ((INNER(ivec))m & ~above));
        }
        /* All scores -inf so far: weights of 0, not of e^NaN. */
        INNER(ivec) none = m == -INFINITY + zero;
        VEC base = (VEC)((INNER(ivec))m & ~none);
        for (int s = 0; s < n; s++)
        {
            VEC x = INNER(exp)(*(VEC *)(score + s * HEADS + h) - base);
            *(VEC *)(score + s * HEADS + h) = x;
            total += x;
        }
        VEC shrink = INNER(exp)(was - base);
        shrinks |= shrink != 1.0f + zero;
        *(VEC *)(ret_shrink + h) = shrink;
        *(VEC *)(sum + h) = *(VEC *)(sum + h) * shrink + total;
        *(VEC *)(max + h) = m;
    }
    int any = 0;
    for (int i = 0; i < LANES; i++)
        any |= shrinks[i];
    return any;
}

INLINE void INNER(widen)(const uint16_t *x, int n, float *ret)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        ret[i] = rfn_bf16_to_f32(x[i]);
}

/* Latent, then rope, as f32. */
TARGET static void INNER(key)(const struct rfn_format_info *info, struct rfn_token token,
                              float *ret)
{
    const unsigned char *latent = token.data + info->latent_offset;
    int group = info->scale_group;
    for (int g = 0; g < info->scales; g++)
    {
        float scale;
        if (info->scale_dtype == RFN_U8)
            scale = rfn_ue8m0_to_f32(token.scales[g]);
        else
            memcpy(&scale, token.scales + 4 * g, sizeof scale);
#pragma omp simd
        for (int i = 0; i < group; i++)
            ret[g * group + i] = rfn_e4m3_to_f32(latent[g * group + i]) * scale;
    }
    if (!info->scales)
        INNER(widen)((const uint16_t *)latent, info->latent_elems, ret);
    INNER(widen)
    ((const uint16_t *)(token.data + info->rope_offset), info->rope_elems,
     ret + info->latent_elems);
}

#undef VEC
#undef INLINE
