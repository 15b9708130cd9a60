#include "tests/checkop/reference.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- number formats ------------------------------------------------------------------ */

static double make_e4m3(int code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double x = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    if ((code & 127) == 127)
        return NAN;
    return code & 128 ? -x : x;
}

double ref_e4m3_value(uint8_t code)
{
    static double table[256];
    if (table[1] == 0)
        for (int i = 0; i < 256; i++)
            table[i] = make_e4m3(i);
    return table[code];
}

uint8_t ref_e4m3_code(double x)
{
    if (isnan(x))
        return 0x7f;
    uint8_t sign = signbit(x) ? 0x80 : 0;
    x = fabs(x);
    int low = 0, high = 126; /* value(low) <= x, unless x is past the last */
    if (x >= 448)
        return sign | 126;
    while (high - low > 1)
    {
        int middle = (low + high) / 2;
        *(ref_e4m3_value((uint8_t)middle) <= x ? &low : &high) = middle;
    }
    double below = x - ref_e4m3_value((uint8_t)low);
    double above = ref_e4m3_value((uint8_t)high) - x;
    int code = below < above || (below == above && low % 2 == 0) ? low : high;
    return sign | (uint8_t)code;
}

static double make_bf16(int code)
{
    int exponent = code >> 7 & 255, mantissa = code & 127;
    double x = exponent ? ldexp(128 + mantissa, exponent - 134) : ldexp(mantissa, -133);
    if (exponent == 255)
        x = mantissa ? NAN : INFINITY;
    return code & 0x8000 ? -x : x;
}

double ref_bf16_value(uint16_t code)
{
    static double table[65536];
    if (table[1] == 0)
        for (int i = 0; i < 65536; i++)
            table[i] = make_bf16(i);
    return table[code];
}

uint16_t ref_bf16_code(double x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x))
        return 0x7fc0;
    x = fabs(x);
    if (x == 0 || isinf(x))
        return sign | (x == 0 ? 0 : 0x7f80);
    int exponent;
    frexp(x, &exponent); /* x in [2^(e-1), 2^e) */
    int unit = exponent - 8 < -133 ? -133 : exponent - 8;
    double units = nearbyint(ldexp(x, -unit)); /* 128 .. 256, or fewer if subnormal */
    double rounded = ldexp(units, unit);
    if (rounded >= ldexp(1, 128))
        return sign | 0x7f80;
    frexp(rounded, &exponent);
    if (rounded == 0 || exponent - 1 < -126)
        return sign | (uint16_t)ldexp(rounded, 133);
    return sign |
           (uint16_t)((exponent + 126) << 7 | ((int)ldexp(rounded, 8 - exponent) & 127));
}

/* ---- formats -------------------------------------------------------------------------- */

int64_t ref_page_bytes(enum rfn_format format, int64_t P)
{
    switch (format)
    {
    case RFN_LATENT_FP8_656:
        return P * 656;
    case RFN_LATENT_BF16_576:
        return P * 1152;
    case RFN_LATENT_FP8_584:
        return (P * 584 + 575) / 576 * 576;
    default:
        return P * 132;
    }
}

int ref_qk(enum rfn_format format)
{
    return format == RFN_LATENT_FP8_584 ? 512 : 576;
}

int ref_latent(enum rfn_format format)
{
    return ref_qk(format) - 64;
}

static unsigned char *page_of(const struct rfn_pool *pool, int64_t slot)
{
    int64_t stride = pool->page_stride_bytes
                         ? pool->page_stride_bytes
                         : ref_page_bytes(pool->format, pool->page_tokens);
    return (unsigned char *)pool->data + slot / pool->page_tokens * stride;
}

unsigned char *ref_row(const struct rfn_pool *pool, int64_t slot)
{
    int64_t offset = slot % pool->page_tokens;
    int64_t row = pool->format == RFN_LATENT_FP8_656    ? 656
                  : pool->format == RFN_LATENT_BF16_576 ? 1152
                                                        : 576;
    return page_of(pool, slot) + offset * row;
}

unsigned char *ref_scales(const struct rfn_pool *pool, int64_t slot)
{
    if (pool->format == RFN_LATENT_FP8_584)
        return page_of(pool, slot) + 576 * (int64_t)pool->page_tokens +
               slot % pool->page_tokens * 8;
    return ref_row(pool, slot) + 512;
}

static double u16_value(const unsigned char *p)
{
    uint16_t code;
    memcpy(&code, p, 2);
    return ref_bf16_value(code);
}

void ref_key(const struct rfn_pool *pool, int64_t slot, double *ret)
{
    const unsigned char *row = ref_row(pool, slot), *scales = ref_scales(pool, slot);
    int n = ref_latent(pool->format);
    for (int i = 0; i < n; i++)
    {
        float f32 = 1;
        switch (pool->format)
        {
        case RFN_LATENT_BF16_576:
            ret[i] = u16_value(row + 2 * i);
            break;
        case RFN_LATENT_FP8_656:
            memcpy(&f32, scales + i / 128 * 4, 4);
            ret[i] = ref_e4m3_value(row[i]) * f32;
            break;
        default:
            ret[i] = scales[i / 64] == 255
                         ? NAN
                         : ref_e4m3_value(row[i]) * ldexp(1, scales[i / 64] - 127);
        }
    }
    static const int rope_at[] = { 0, 528, 1024, 448 };
    for (int i = 0; i < 64; i++)
        ret[n + i] = u16_value(row + rope_at[pool->format] + 2 * i);
}

/* ---- kv_pack -------------------------------------------------------------------------- */

int ref_pack_row(const struct rfn_pool *pool, int64_t slot, const uint16_t *kv,
                 const uint16_t *rope, enum rfn_scale scale_kind, enum rfn_floor floor_on,
                 float floor, int *ret_group)
{
    unsigned char *row = ref_row(pool, slot), *scales = ref_scales(pool, slot);
    if (pool->format == RFN_LATENT_BF16_576)
    {
        memcpy(row, kv, 1024);
        memcpy(row + 1024, rope, 128);
        return 0;
    }
    int v4 = pool->format == RFN_LATENT_FP8_584, group = v4 ? 64 : 128, nans = 0;
    int power = v4 || scale_kind == RFN_SCALE_UE8M0;
    for (int g = 0; g < (v4 ? 7 : 4); g++)
    {
        double amax = 0;
        int nan = 0;
        for (int i = g * group; i < (g + 1) * group; i++)
        {
            double x = fabs(ref_bf16_value(kv[i]));
            nan |= isnan(x);
            amax = x > amax ? x : amax;
        }
        /* The quotient of two f32 in double, rounded once more, is the f32 quotient. */
        double scale;
        if (floor_on == RFN_FLOOR_AMAX)
            scale = (float)((amax > floor ? amax : floor) / 448.0);
        else
        {
            double least = floor_on == RFN_FLOOR_SCALE ? floor : power ? 1e-4f : FLT_MIN;
            scale = (float)(amax / 448.0);
            scale = scale > least ? scale : least;
        }
        if (nan)
            scale = NAN;
        int byte = 255;
        if (power && isfinite(scale))
        {
            int exponent;
            double fraction = frexp(scale, &exponent);
            exponent -= fraction == 0.5; /* scale <= 2^exponent */
            scale = ldexp(1, exponent);
            byte = exponent + 127;
        }
        for (int i = g * group; i < (g + 1) * group; i++)
            row[i] = ref_e4m3_code((float)(ref_bf16_value(kv[i]) / scale));
        if (v4)
            scales[g] = (unsigned char)byte;
        else
        {
            /* The one NaN that is stored: quiet, positive, no payload. */
            float f32 = (float)scale;
            uint32_t quiet = 0x7fc00000;
            memcpy(scales + 4 * g, nan ? (void *)&quiet : (void *)&f32, 4);
        }
        if (nan && nans++ == 0)
            *ret_group = g * group;
    }
    if (v4)
        scales[7] = 0;
    memcpy(row + (v4 ? 448 : 528), rope, 128);
    return nans;
}

static int64_t live_rows(const struct rfn_tensor *live, int64_t rows)
{
    int64_t n = live->data ? *(int32_t *)live->data : rows;
    return n < 0 ? 0 : n > rows ? rows : n;
}

/* Called in the order of rows and columns: the first is the one that stays. */
static void bad(struct rfn_fault *fault, const char *op, const char *operand, int64_t row,
                int64_t column, int64_t value)
{
    if (fault->count++ == 0)
        *fault = (struct rfn_fault) { op, operand, row, column, value, 1 };
}

void ref_kv_pack(const struct rfn_kv_pack_args *a, struct rfn_fault *fault)
{
    int64_t rows = live_rows(&a->live, a->kv.shape[0]);
    for (int64_t t = 0; t < rows; t++)
    {
        int64_t slot = ((int64_t *)a->slots.data)[t];
        if (slot < 0)
            continue;
        if (slot >= a->pool.pages * a->pool.page_tokens)
        {
            bad(fault, "kv_pack", "slots", t, 0, slot);
            continue;
        }
        int group = 0;
        int nans =
            ref_pack_row(&a->pool, slot, (uint16_t *)a->kv.data + t * a->kv.stride[0],
                         (uint16_t *)a->k_rope.data + t * a->k_rope.stride[0], a->scale,
                         a->floor_on, a->floor, &group);
        for (int i = 0; i < nans; i++)
            bad(fault, "kv_pack", "kv", t, group, 0);
    }
}

/* ---- index_topk ----------------------------------------------------------------------- */

struct score
{
    float value;
    int32_t position;
};

static int by_rank(const void *va, const void *vb)
{
    const struct score *a = va, *b = vb;
    int nan_a = a->value != a->value, nan_b = b->value != b->value;
    if (nan_a != nan_b)
        return nan_a - nan_b;
    if (!nan_a && a->value != b->value)
        return a->value > b->value ? -1 : 1;
    return a->position < b->position ? -1 : 1;
}

static int by_position(const void *va, const void *vb)
{
    const struct score *a = va, *b = vb;
    return a->position < b->position ? -1 : a->position > b->position;
}

static int32_t slot_of(const struct rfn_index_topk_args *a, int64_t t, int32_t position,
                       int first, struct rfn_fault *fault)
{
    int32_t request = ((int32_t *)a->request.data)[t];
    int64_t page = position / a->page_tokens;
    if (request < 0 || request >= a->table.shape[0])
    {
        if (first)
            bad(fault, "index_topk", "request", t, 0, request);
        return -1;
    }
    if (page >= a->table.shape[1])
    {
        bad(fault, "index_topk", "table", t, page, page);
        return -1;
    }
    int32_t physical = ((int32_t *)a->table.data)[request * a->table.stride[0] + page];
    if (physical < 0 || physical >= a->pages)
    {
        bad(fault, "index_topk", "table", t, page, physical);
        return -1;
    }
    return (int32_t)(physical * (int64_t)a->page_tokens + position % a->page_tokens);
}

void ref_index_topk(const struct rfn_index_topk_args *a, struct rfn_fault *fault)
{
    int64_t rows = live_rows(&a->live, a->logits.shape[0]), S = a->logits.shape[1];
    int64_t K = a->slots.data ? a->slots.shape[1] : a->positions.shape[1];
    struct score *list = malloc((size_t)(S + 1) * sizeof *list);
    for (int64_t t = 0; t < rows; t++)
    {
        int64_t L = ((int32_t *)a->lens.data)[t];
        L = L > S ? S : L < 0 ? 0 : L;
        for (int64_t s = 0; s < L; s++)
            list[s] =
                (struct score) { ((float *)a->logits.data)[t * a->logits.stride[0] + s],
                                 (int32_t)s };
        if (L > K)
        {
            qsort(list, (size_t)L, sizeof *list, by_rank);
            qsort(list, (size_t)K, sizeof *list, by_position);
        }
        for (int64_t k = 0; k < K; k++)
        {
            int32_t position = k < L ? list[k].position : -1;
            if (a->positions.data)
                ((int32_t *)a->positions.data)[t * a->positions.stride[0] + k] = position;
            if (a->slots.data)
                ((int32_t *)a->slots.data)[t * a->slots.stride[0] + k] =
                    position < 0 ? -1 : slot_of(a, t, position, k == 0, fault);
        }
    }
    free(list);
}

/* ---- sparse_mla ------------------------------------------------------------------------ */

/* The keys of one row in order, as doubles [n][QK]; returns n. */
static int64_t gather(const struct rfn_sparse_mla_args *a, int64_t t, float *const *full,
                      double *keys, struct rfn_fault *fault)
{
    static const char *const names[] = { "source[0].indices", "source[1].indices" };
    int64_t n = 0;
    for (int i = 0; i < RFN_MLA_SOURCES && a->source[i].pool.data; i++)
    {
        const struct rfn_mla_source *s = &a->source[i];
        int qk = ref_qk(s->pool.format);
        for (int64_t k = 0; k < s->indices.shape[1]; k++)
        {
            if (s->lens.data && k >= ((int32_t *)s->lens.data)[t])
                continue;
            int64_t slot = ((int32_t *)s->indices.data)[t * s->indices.stride[0] + k];
            if (slot < 0)
                continue;
            if (slot >= s->pool.pages * s->pool.page_tokens)
            {
                bad(fault, "sparse_mla", names[i], t, k, slot);
                continue;
            }
            double *key = keys + n++ * qk;
            if (full && full[i])
                for (int d = 0; d < qk; d++)
                    key[d] = full[i][slot * qk + d];
            else
                ref_key(&s->pool, slot, key);
        }
    }
    return n;
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void attend(const struct rfn_sparse_mla_args *a, int64_t t, int64_t h,
                   const double *keys, int64_t n, double *weight, double *o, double *lse)
{
    int qk = ref_qk(a->source[0].pool.format);
    int64_t D = a->q.shape[2];
    double q[576], max = -INFINITY, sum = 0;
    for (int64_t d = 0; d < qk; d++)
    {
        const struct rfn_tensor *part = d < D ? &a->q : &a->q_rope;
        q[d] = ref_bf16_value((
            (uint16_t *)part
                ->data)[t * part->stride[0] + h * part->stride[1] + (d < D ? d : d - D)]);
    }
    memset(o, 0, 512 * sizeof *o);
    *lse = a->empty_lse_positive ? INFINITY : -INFINITY;
    if (n == 0)
        return;
    for (int64_t s = 0; s < n; s++)
    {
        weight[s] = a->scale * dot(q, keys + s * qk, qk);
        max = weight[s] > max ? weight[s] : max;
    }
    for (int64_t s = 0; s < n; s++)
    {
        weight[s] = exp(weight[s] - max);
        sum += weight[s];
        for (int v = 0; v < 512; v++)
            o[v] += weight[s] * keys[s * qk + v];
    }
    *lse = max + log(sum);
    double factor = 1 / sum;
    if (a->sink.data)
        factor /= 1 + exp(((float *)a->sink.data)[h] - *lse);
    for (int v = 0; v < 512; v++)
        o[v] *= factor;
}

void ref_sparse_mla(const struct rfn_sparse_mla_args *a, float *const *full,
                    double *ret_o, double *ret_lse, struct rfn_fault *fault)
{
    int64_t H = a->q.shape[1], most = a->source[0].indices.shape[1];
    if (a->source[1].pool.data)
        most += a->source[1].indices.shape[1];
    int64_t rows = live_rows(&a->live, a->q.shape[0]);
    double *keys = malloc((size_t)(most + 1) * 576 * sizeof *keys);
    double *weight = malloc((size_t)(most + 1) * sizeof *weight);
    for (int64_t t = 0; t < rows; t++)
    {
        int64_t n = gather(a, t, full, keys, fault);
        for (int64_t h = 0; h < H; h++)
            attend(a, t, h, keys, n, weight, ret_o + (t * H + h) * 512,
                   ret_lse + t * H + h);
    }
    free(keys);
    free(weight);
}
