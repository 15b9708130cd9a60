/* synth_fill: rows of numbers that are a function of (key, salt, column). */
#include "kernels/num.h"
#include "kernels/op.h"
#include "kernels/parallel.h"

#include <float.h>
#include <math.h>

#define LANES 4   /* columns of one hash, 16 bits each */
#define BLOCK 256 /* columns that are hashed before they are converted */

#define ARGS struct rfn_synth_fill_args

static const struct rfn_operand operands[] = {
    { "out", offsetof(ARGS, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_BF16) | RFN_DTYPE_BIT(RFN_F32), "T,D", 16 },
    { "keys", offsetof(ARGS, keys), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_I64), "T", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I32), "1", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "salt", offsetof(ARGS, salt), sizeof(int64_t), 0 },
    { "amplitude", offsetof(ARGS, amplitude), sizeof(float), 0 },
};

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    /* Subnormals would depend on how a device treats them. */
    if (!(a->amplitude >= 0x1p15f * FLT_MIN) || isinf(a->amplitude))
        return RFN_FAIL(RFN_INVALID,
                        "amplitude: %g, but a finite value of at least %g is needed",
                        (double)a->amplitude, (double)(0x1p15f * FLT_MIN));
    return RFN_OK;
}

#define GOLDEN 0x9e3779b97f4a7c15u

/* The finaliser of SplitMix64: a bijection. */
static inline uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void to_f32(const int16_t *x, float step, int n, float *ret)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        ret[i] = (float)x[i] * step;
}

static void to_bf16(const int16_t *x, float step, int n, uint16_t *ret)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        ret[i] = rfn_f32_to_bf16((float)x[i] * step);
}

static void fill_row(const ARGS *a, int64_t t)
{
    int64_t D = a->out.shape[1], at = t * a->out.stride[0];
    uint64_t key = ((const uint64_t *)a->keys.data)[t];
    uint64_t state = mix(key + mix((uint64_t)a->salt + GOLDEN));
    float step = a->amplitude * 0x1p-15f; /* exact */
    for (int64_t d = 0; d < D; d += BLOCK)
    {
        int n = D - d < BLOCK ? (int)(D - d) : BLOCK;
        uint64_t hash[BLOCK / LANES];
        for (int i = 0; i < (n + LANES - 1) / LANES; i++)
            hash[i] = mix(state += GOLDEN);
        int16_t x[BLOCK]; /* the low 16 bits come first */
        memcpy(x, hash, (size_t)n * sizeof *x);
        if (a->out.dtype == RFN_F32)
            to_f32(x, step, n, (float *)a->out.data + at + d);
        else
            to_bf16(x, step, n, (uint16_t *)a->out.data + at + d);
    }
}

static void fill_one(void *ctx, int64_t t)
{
    fill_row(ctx, t);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    ARGS a = *(const ARGS *)v;
    rfn_parallel(env->threads, rfn_live_rows(&a.live, a.out.shape[0]), fill_one, &a);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t T = a->out.shape[0], D = a->out.shape[1];
    return (struct rfn_cost) {
        .bytes_read = 8 * T,
        .bytes_written = T * D * rfn_dtype_bytes(a->out.dtype),
        .flops = T * D,
    };
}

const struct rfn_op rfn_op_synth_fill = {
    .name = "synth_fill",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_synth_fill_cuda,
#endif
    .cost = cost,
};
