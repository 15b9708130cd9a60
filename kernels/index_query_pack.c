/* index_query_pack: quantises indexer queries and folds all scales into the weights. */
#include "kernels/bounds.h"
#include "kernels/parallel.h"
#include "kernels/quant.h"

#define DIM 128
#define HEADS_MIN 4
#define HEADS_MAX 64

#define ARGS struct rfn_index_query_pack_args

static const struct rfn_operand operands[] = {
    { "q", offsetof(ARGS, q), RFN_OPERAND_TENSOR, RFN_READ, 0, RFN_DTYPE_BIT(RFN_BF16),
      "T,H,D", 16 },
    /* A row of few heads has fewer than 16 bytes: the element's alignment. */
    { "w", offsetof(ARGS, w), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_BF16) | RFN_DTYPE_BIT(RFN_F32), "T,H", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I32), "1", 0 },
    { "q8", offsetof(ARGS, q8), RFN_OPERAND_TENSOR, RFN_WRITE, 0, RFN_DTYPE_BIT(RFN_E4M3),
      "T,H,D", 16 },
    { "w8", offsetof(ARGS, w8), RFN_OPERAND_TENSOR, RFN_WRITE, 0, RFN_DTYPE_BIT(RFN_F32),
      "T,H", 0 },
    { "bounds", offsetof(ARGS, bounds.header), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I64), "8", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "scale", offsetof(ARGS, scale), sizeof(enum rfn_scale), 0 },
    { "bounds.rows", offsetof(ARGS, bounds.rows), sizeof(int64_t), 0 },
    { "bounds.next_n", offsetof(ARGS, bounds.next_n), sizeof(int32_t), 0 },
};

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    long long H = a->q.shape[1], D = a->q.shape[2];
    if (H < HEADS_MIN || H > HEADS_MAX)
        return RFN_FAIL(RFN_INVALID, "q: H = %lld, but %d .. %d is needed", H, HEADS_MIN,
                        HEADS_MAX);
    if (D != DIM)
        return RFN_FAIL(RFN_INVALID, "q: D = %lld, but %d is needed", D, DIM);
    enum rfn_status status = rfn_bounds_check(&a->bounds, a->q.shape[0]);
    return status == RFN_OK ? rfn_scaling_check(a->scale, RFN_FLOOR_DEFAULT, 0) : status;
}

static float weight_of(const ARGS *a, int64_t t, int64_t h)
{
    int64_t at = t * a->w.stride[0] + h;
    return a->w.dtype == RFN_BF16 ? rfn_bf16_to_f32(((const uint16_t *)a->w.data)[at])
                                  : ((const float *)a->w.data)[at];
}

static void pack_row(const ARGS *a, int64_t t, struct rfn_fault *seen)
{
    int64_t H = a->q.shape[1];
    struct rfn_scaling how = { a->scale == RFN_SCALE_UE8M0, RFN_FLOOR_AMAX,
                               RFN_INDEX_FLOOR };
    const uint16_t *q = (const uint16_t *)a->q.data + t * a->q.stride[0];
    uint8_t *q8 = (uint8_t *)a->q8.data + t * a->q8.stride[0];
    float *w8 = (float *)a->w8.data + t * a->w8.stride[0];
    float share = (float)(1.0 / sqrt((double)(DIM * H))); /* D^-0.5 * H^-0.5 */
    for (int64_t h = 0; h < H; h++)
    {
        float scale = rfn_quantise_group(q + h * a->q.stride[1], DIM, how,
                                         q8 + h * a->q8.stride[1]);
        if (isnan(scale))
            rfn_fault_note(seen, "index_query_pack", "q", t, h, 0);
        float w = weight_of(a, t, h) * scale * share;
        /* Which NaN comes out of a product is the CPU's affair; one is stored. */
        w8[h] = isnan(w) ? rfn_f32_from_bits(RFN_F32_NAN_BITS) : w;
    }
}

struct run
{
    const ARGS *a;
    struct rfn_fault *note;
};

static void pack_one(void *ctx, int64_t t)
{
    const struct run *r = ctx;
    pack_row(r->a, t, r->note);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    const struct rfn_bound_set own = rfn_bounds_of_rows(&a->bounds, a->q.shape[0]);
    if (!rfn_bounds_hold(&a->bounds, &own, "index_query_pack", env->fault))
        return;
    struct rfn_fault seen = { 0 };
    struct run r = { a, env->fault ? &seen : NULL };
    rfn_parallel(env->threads, rfn_live_rows(&a->live, a->q.shape[0]), pack_one, &r);
    rfn_fault_merge(env->fault, &seen);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t groups = a->q.shape[0] * a->q.shape[1];
    return (struct rfn_cost) {
        .bytes_read = groups * (2 * DIM + rfn_dtype_bytes(a->w.dtype)),
        .bytes_written = groups * (DIM + 4),
        .flops = groups * (2 * DIM + 2), /* amax and division, two products */
    };
}

const struct rfn_op rfn_op_index_query_pack = {
    .name = "index_query_pack",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_index_query_pack_cuda,
#endif
    .cost = cost,
};
