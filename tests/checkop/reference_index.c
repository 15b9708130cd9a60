/* References of index_pack, index_query_pack and index_logits, and of the planar page. */
#include "tests/checkop/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define D 128

static int64_t live_rows(const struct rfn_tensor *live, int64_t rows)
{
    int64_t n = live->data ? *(int32_t *)live->data : rows;
    return n < 0 ? 0 : n > rows ? rows : n;
}

static void bad(struct rfn_fault *fault, const char *op, const char *operand, int64_t row,
                int64_t column, int64_t value)
{
    if (fault->count++ == 0)
        *fault = (struct rfn_fault) { op, operand, row, column, value, 1 };
}

/* ---- the page: P keys of 128 bytes, then P scales ------------------------------------- */

static unsigned char *page_of(const struct rfn_pool *pool, int64_t slot)
{
    int64_t stride = pool->page_stride_bytes ? pool->page_stride_bytes
                                             : (int64_t)pool->page_tokens * (D + 4);
    return (unsigned char *)pool->data + slot / pool->page_tokens * stride;
}

unsigned char *ref_index_key(const struct rfn_pool *pool, int64_t slot)
{
    return page_of(pool, slot) + slot % pool->page_tokens * D;
}

unsigned char *ref_index_scale(const struct rfn_pool *pool, int64_t slot)
{
    return page_of(pool, slot) + (int64_t)pool->page_tokens * D +
           slot % pool->page_tokens * 4;
}

/* ---- quantising ----------------------------------------------------------------------- */

int ref_index_quantise(const uint16_t *x, enum rfn_scale kind, enum rfn_floor on,
                       float floor, uint8_t *ret_q, float *ret_scale)
{
    double amax = 0, scale;
    int nan = 0;
    for (int i = 0; i < D; i++)
    {
        double size = fabs(ref_bf16_value(x[i]));
        nan |= isnan(size);
        amax = size > amax ? size : amax;
    }
    if (on == RFN_FLOOR_DEFAULT)
        floor = 1e-4f;
    /* The quotient of two f32 in double, rounded once more, is the f32 quotient. */
    if (on == RFN_FLOOR_SCALE)
        scale = fmax((float)(amax / 448.0), floor);
    else
        scale = (float)(fmax(amax, floor) / 448.0);
    if (kind == RFN_SCALE_UE8M0 && isfinite(scale))
    {
        int exponent;
        double fraction = frexp(scale, &exponent);
        scale = ldexp(1, exponent - (fraction == 0.5));
    }
    for (int i = 0; i < D; i++)
        ret_q[i] = nan ? 0x7f : ref_e4m3_code((float)(ref_bf16_value(x[i]) / scale));
    *ret_scale = (float)scale;
    if (nan)
        memcpy(ret_scale, &(uint32_t) { 0x7fc00000 }, 4);
    return nan;
}

void ref_index_pack(const struct rfn_index_pack_args *a, struct rfn_fault *fault)
{
    int64_t rows = live_rows(&a->live, a->k.shape[0]);
    for (int64_t t = 0; t < rows; t++)
    {
        int64_t slot = ((int64_t *)a->slots.data)[t];
        if (slot < 0)
            continue;
        if (slot >= a->pool.pages * a->pool.page_tokens)
        {
            bad(fault, "index_pack", "slots", t, 0, slot);
            continue;
        }
        float scale;
        if (ref_index_quantise((uint16_t *)a->k.data + t * a->k.stride[0], a->scale,
                               a->floor_on, a->floor, ref_index_key(&a->pool, slot),
                               &scale))
            bad(fault, "index_pack", "k", t, 0, 0);
        memcpy(ref_index_scale(&a->pool, slot), &scale, 4);
    }
}

float ref_index_share(int64_t H)
{
    return (float)(1 / sqrtl((long double)(D * H)));
}

/* The product of two f32 is exact in double: one rounding. */
static float product(float x, float y)
{
    return (float)((double)x * y);
}

void ref_index_query_pack(const struct rfn_index_query_pack_args *a,
                          struct rfn_fault *fault)
{
    int64_t rows = live_rows(&a->live, a->q.shape[0]), H = a->q.shape[1];
    for (int64_t t = 0; t < rows; t++)
        for (int64_t h = 0; h < H; h++)
        {
            int64_t at = t * a->w.stride[0] + h;
            float scale, w = a->w.dtype == RFN_F32
                                 ? ((float *)a->w.data)[at]
                                 : (float)ref_bf16_value(((uint16_t *)a->w.data)[at]);
            if (ref_index_quantise(
                    (uint16_t *)a->q.data + t * a->q.stride[0] + h * a->q.stride[1],
                    a->scale, RFN_FLOOR_DEFAULT, 0,
                    (uint8_t *)a->q8.data + t * a->q8.stride[0] + h * a->q8.stride[1],
                    &scale))
                bad(fault, "index_query_pack", "q", t, h, 0);
            w = product(product(w, scale), ref_index_share(H));
            if (isnan(w))
                memcpy(&w, &(uint32_t) { 0x7fc00000 }, 4);
            ((float *)a->w8.data)[t * a->w8.stride[0] + h] = w;
        }
}

/* ---- index_logits --------------------------------------------------------------------- */

/* Value and size of one score: the size is what it would be if nothing cancelled out. */
static void score(const struct rfn_index_logits_args *a, int64_t t, const double *q,
                  int64_t slot, double *ret, double *ret_size)
{
    const unsigned char *key = ref_index_key(&a->pool, slot);
    const float *w = (float *)a->w8.data + t * a->w8.stride[0];
    double k[D], sum = 0, size = 0;
    float scale;
    memcpy(&scale, ref_index_scale(&a->pool, slot), 4);
    for (int d = 0; d < D; d++)
        k[d] = ref_e4m3_value(key[d]);
    for (int64_t h = 0; h < a->q8.shape[1]; h++)
    {
        double dot = 0, dot_size = 0;
#pragma omp simd reduction(+ : dot, dot_size)
        for (int d = 0; d < D; d++)
        {
            dot += q[h * D + d] * k[d];
            dot_size += fabs(q[h * D + d] * k[d]);
        }
        sum += w[h] * (dot < 0 ? 0 : dot);
        size += fabs(w[h]) * dot_size;
    }
    *ret = sum * scale;
    *ret_size = size * fabs(scale);
}

void ref_index_logits(const struct rfn_index_logits_args *a, double *ret,
                      double *ret_size, struct rfn_fault *fault)
{
    int64_t rows = live_rows(&a->live, a->q8.shape[0]), S = a->logits.shape[1];
    int64_t H = a->q8.shape[1], P = a->pool.page_tokens;
    double *q = malloc((size_t)(H * D) * sizeof *q);
    for (int64_t t = 0; t < rows; t++)
    {
        int64_t L = ((int32_t *)a->lens.data)[t];
        int32_t request = ((int32_t *)a->request.data)[t];
        int known = request >= 0 && request < a->table.shape[0];
        for (int64_t h = 0; h < H; h++)
            for (int d = 0; d < D; d++)
                q[h * D + d] = ref_e4m3_value(
                    ((uint8_t *)
                         a->q8.data)[t * a->q8.stride[0] + h * a->q8.stride[1] + d]);
        for (int64_t s = 0; s < L && s < S; s++)
        {
            int64_t page = -1;
            if (known && s / P < a->table.shape[1])
                page = ((int32_t *)a->table.data)[request * a->table.stride[0] + s / P];
            ret[t * S + s] = -INFINITY;
            ret_size[t * S + s] = 0;
            if (page >= 0 && page < a->pool.pages)
                score(a, t, q, page * P + s % P, &ret[t * S + s], &ret_size[t * S + s]);
            else if (!known && s == 0)
                bad(fault, "index_logits", "request", t, 0, request);
            else if (known && s % P == 0)
                bad(fault, "index_logits", "table", t, s / P,
                    s / P < a->table.shape[1] ? page : s / P);
        }
    }
    free(q);
}
