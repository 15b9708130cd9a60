/*
 * The inner kernels of index_logits, written once over a vector of LANES floats; ROWS heads
 * have their dots in registers. instances.h makes of them
 *
 *     INNER(queries)  heads of one row as f32
 *     INNER(keys)     a tile of keys as f32, tokens side by side
 *     INNER(scores)   sum_h w[h] * relu(dot(q[h], k[s])) for the tokens of a tile
 *
 * A token has a lane of its own from end to end: its dots run over d in order, its sum over
 * h in order. Products of two e4m3 are exact in f32 and the weighted sum is never fused, so
 * that every instance gives the same bits.
 */
#define VEC INNER(vec)
#define INLINE TARGET static inline __attribute__((always_inline))

typedef float VEC __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t INNER(ivec) __attribute__((vector_size(4 * LANES), may_alias));

INLINE void INNER(widen)(const uint8_t *x, int n, float *ret)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        ret[i] = rfn_e4m3_to_f32(x[i]);
}

/* [H][DIM], dense, from rows `stride` bytes apart. */
TARGET static void INNER(queries)(const uint8_t *q8, int64_t stride, int H, float *ret)
{
    for (int h = 0; h < H; h++)
        INNER(widen)(q8 + h * stride, DIM, ret + h * DIM);
}

/* [DIM][TILE]. Four rounds of interleaving rows i and i + 8 transpose 16 x 16 bytes. */
TARGET static void INNER(keys)(const uint8_t *const *row, float *ret)
{
    _Alignas(64) uint8_t byte[DIM][TILE];
    for (int s = 0; s < TILE; s += 16)
        for (int d = 0; d < DIM; d += 16)
        {
            bytes16 a[16], b[16];
            for (int i = 0; i < 16; i++)
                memcpy(&a[i], row[s + i] + d, sizeof a[i]);
            for (int round = 0; round < 2; round++)
            {
                for (int i = 0; i < 8; i++)
                {
                    b[2 * i] = INTERLEAVE_LOW(a[i], a[i + 8]);
                    b[2 * i + 1] = INTERLEAVE_HIGH(a[i], a[i + 8]);
                }
                for (int i = 0; i < 8; i++)
                {
                    a[2 * i] = INTERLEAVE_LOW(b[i], b[i + 8]);
                    a[2 * i + 1] = INTERLEAVE_HIGH(b[i], b[i + 8]);
                }
            }
            for (int i = 0; i < 16; i++)
                memcpy(&byte[d + i][s], &a[i], sizeof a[i]);
        }
    INNER(widen)(byte[0], DIM * TILE, ret);
}

/* `rows` is a constant where it is called: 2 * rows dots stay in registers over d. */
INLINE void INNER(block)(const float *q, const float *w, const float *key, float *sum,
                         const int rows)
{
    VEC dot[ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++)
            dot[i][j] = (VEC) { 0 };
    for (int d = 0; d < DIM; d++)
    {
        VEC k0 = *(const VEC *)(key + d * TILE),
            k1 = *(const VEC *)(key + d * TILE + LANES);
        for (int i = 0; i < rows; i++)
        {
            VEC qd = q[i * DIM + d] - (VEC) { 0 };
            dot[i][0] = FMA(qd, k0, dot[i][0]);
            dot[i][1] = FMA(qd, k1, dot[i][1]);
        }
    }
    for (int j = 0; j < 2; j++)
    {
        VEC total = *(VEC *)(sum + j * LANES);
        for (int i = 0; i < rows; i++)
        {
            INNER(ivec) negative = dot[i][j] < (VEC) { 0 }; /* a NaN is not */
            VEC positive = (VEC)((INNER(ivec))dot[i][j] & ~negative);
            total += w[i] * positive;
        }
        *(VEC *)(sum + j * LANES) = total;
    }
}

TARGET static void INNER(scores)(const float *q, const float *w, int H, const float *key,
                                 float *ret)
{
    memset(ret, 0, TILE * sizeof *ret);
    for (int s = 0; s < TILE; s += 2 * LANES)
    {
        int h = 0;
        for (; h + ROWS <= H; h += ROWS)
            INNER(block)(q + h * DIM, w + h, key + s, ret + s, ROWS);
        for (; h + 4 <= H; h += 4)
            INNER(block)(q + h * DIM, w + h, key + s, ret + s, 4);
        for (; h < H; h++)
            INNER(block)(q + h * DIM, w + h, key + s, ret + s, 1);
    }
}

#undef VEC
#undef INLINE
