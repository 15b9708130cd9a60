/* References of step_update, mla_combine and synth_fill. */
#include "tests/checkop/reference.h"
#include "tests/support/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

static int64_t live_rows(const struct rfn_tensor *live, int64_t rows)
{
    return live->data ? clamp(*(int32_t *)live->data, 0, rows) : rows;
}

/* ---- step_update ---------------------------------------------------------------------- */

static void bad(struct rfn_fault *fault, const char *operand, int64_t row, int64_t column,
                int64_t value)
{
    if (fault->count++ == 0)
        *fault = (struct rfn_fault) { "step_update", operand, row, column, value, 1 };
}

static int64_t length_of(const struct rfn_step_update_args *a, int64_t b)
{
    int64_t L = ((int32_t *)a->lens.data)[b];
    return L > 0 ? L : 0;
}

static int64_t query_of(const struct rfn_step_update_args *a, int64_t b)
{
    return clamp(((int32_t *)a->q_lens.data)[b], 0, a->next_n);
}

/* One row at a time, each from nothing but its number. */
static void step_row(const struct rfn_step_update_args *a, int64_t t, int64_t requests,
                     struct rfn_fault *fault)
{
    int64_t b = t / a->next_n, j = t % a->next_n, P = a->page_tokens;
    int64_t context = 0, slot = -1;
    if (b < requests && j < query_of(a, b))
        context = length_of(a, b) - query_of(a, b) + j + 1;
    if (context > 0 && context <= a->table.shape[1] * P)
    {
        int64_t w = (context - 1) / P;
        int64_t page = ((int32_t *)a->table.data)[b * a->table.stride[0] + w];
        if (page >= 0 && page < a->pages)
            slot = page * P + (context - 1) % P;
        else
            bad(fault, "table", b, w, page);
    }
    ((int32_t *)a->request.data)[t] = context > 0 ? (int32_t)b : -1;
    ((int32_t *)a->context.data)[t] = context > 0 ? (int32_t)context : 0;
    ((int64_t *)a->slots.data)[t] = slot;
}

static void take_back(const struct rfn_step_update_args *a, int64_t b,
                      struct rfn_fault *fault)
{
    int32_t *n = (int32_t *)a->rejected.data + b;
    int32_t right = (int32_t)clamp(*n, 0, length_of(a, b));
    if (*n != right)
        bad(fault, "rejected", b, 0, *n);
    ((int32_t *)a->lens.data)[b] -= right;
    *n = 0;
}

/* What the record of this turn changes, before anything is computed. */
static void take_record(const struct rfn_step_update_args *a, struct rfn_fault *fault)
{
    int64_t *turn = a->turn.data, R = a->lens.shape[0];
    const char *row = (const char *)a->records.data +
                      *turn % a->records.shape[0] * a->records.stride[0] * 4;
    const struct rfn_step_record *r = (const void *)row;
    const int32_t *pair = (const int32_t *)(r + 1);
    *(int64_t *)a->taken.data = ++*turn;
    if (r->turn != *turn - 1)
        return;
    *(int32_t *)a->requests.data = r->requests;
    if (a->advance.data)
        *(int32_t *)a->advance.data = r->advance;
    for (int32_t i = 0; i < r->changes; i++)
    {
        struct rfn_step_change c = r->change[i];
        if (c.request < 0 || c.request >= R)
            bad(fault, "records", i, 0, c.request);
        else if (c.column < 0 || c.column >= a->table.shape[1])
            bad(fault, "records", i, 1, c.column);
        else
            ((int32_t *)a->table.data)[c.request * a->table.stride[0] + c.column] =
                c.page;
    }
    for (int64_t b = 0; r->lengths && b < R; b++)
    {
        ((int32_t *)a->lens.data)[b] = b < r->requests ? pair[2 * b] : 0;
        ((int32_t *)a->q_lens.data)[b] = b < r->requests ? pair[2 * b + 1] : 0;
        if (a->rejected.data)
            ((int32_t *)a->rejected.data)[b] = 0;
    }
}

void ref_step_update(const struct rfn_step_update_args *a, struct rfn_fault *fault)
{
    if (a->records.data)
        take_record(a, fault);
    int64_t R = a->lens.shape[0], most = a->table.shape[1] * a->page_tokens;
    int64_t requests = live_rows(&a->requests, R);
    most = most > INT32_MAX ? INT32_MAX : most;
    for (int64_t b = 0; b < R; b++)
    {
        int64_t L = b < requests ? ((int32_t *)a->lens.data)[b] : 0;
        if (L < 0 || L > most)
            bad(fault, "lens", b, 0, L);
        if (a->rejected.data && b < requests)
            take_back(a, b, fault);
        for (int64_t j = 0; j < a->next_n; j++)
            step_row(a, b * a->next_n + j, requests, fault);
    }
    *(int32_t *)a->live.data = (int32_t)(requests * a->next_n);
    const int64_t bounds[] = { 0x73646e756f62,    R,
                               a->next_n,         R * a->next_n,
                               a->table.shape[1], R > 1 ? a->table.stride[0] : -1,
                               a->page_tokens,    a->pages };
    if (a->bounds.data)
        memcpy(a->bounds.data, bounds, sizeof bounds);
    if (!a->advance.data || *(int32_t *)a->advance.data == 0)
        return;
    for (int64_t b = 0; b < requests; b++)
        ((int32_t *)a->lens.data)[b] =
            (int32_t)clamp(length_of(a, b) + query_of(a, b), 0, most);
}

/* ---- mla_combine ---------------------------------------------------------------------- */

static double part_lse(const struct rfn_mla_combine_args *a, int64_t n, int64_t t,
                       int64_t h)
{
    const int64_t *stride = a->lse_part.stride;
    double x = ((float *)a->lse_part.data)[n * stride[0] + t * stride[1] + h];
    return isinf(x) && (x < 0 || a->empty_lse_positive) ? -INFINITY : x;
}

static double part(const struct rfn_mla_combine_args *a, int64_t n, int64_t t, int64_t h,
                   int64_t v)
{
    const int64_t *stride = a->out_part.stride;
    int64_t at = n * stride[0] + t * stride[1] + h * stride[2] + v;
    return a->out_part.dtype == RFN_F32
               ? ((float *)a->out_part.data)[at]
               : ref_bf16_value(((uint16_t *)a->out_part.data)[at]);
}

static void combine(const struct rfn_mla_combine_args *a, int64_t t, int64_t h, double *o,
                    double *lse)
{
    int64_t N = a->out_part.shape[0], V = a->out.shape[2], parts = 0;
    double max = -INFINITY, sum = 0, share = 1;
    for (int64_t n = 0; n < N; n++)
    {
        double x = part_lse(a, n, t, h);
        parts += x != -INFINITY;
        max = x > max ? x : max;
    }
    memset(o, 0, (size_t)V * sizeof *o);
    *lse = a->empty_lse_positive ? INFINITY : -INFINITY;
    if (!parts)
        return;
    for (int64_t n = 0; n < N; n++)
        if (part_lse(a, n, t, h) != -INFINITY)
            sum += exp(part_lse(a, n, t, h) - max);
    *lse = max + log(sum);
    if (a->sink.data)
        share = 1 / (1 + exp(((float *)a->sink.data)[h] - *lse));
    for (int64_t n = 0; n < N; n++)
    {
        double x = part_lse(a, n, t, h), weight = exp(x - *lse) * share;
        for (int64_t v = 0; v < V && x != -INFINITY; v++)
            o[v] += weight * part(a, n, t, h, v);
    }
}

void ref_mla_combine(const struct rfn_mla_combine_args *a, double *ret_o, double *ret_lse)
{
    int64_t H = a->out.shape[1], V = a->out.shape[2];
    int64_t rows = live_rows(&a->live, a->out.shape[0]);
    for (int64_t i = 0; i < rows * H; i++)
        combine(a, i / H, i % H, ret_o + i * V, ret_lse + i);
}

/* ---- synth_fill ----------------------------------------------------------------------- */

/* The columns of a row are the outputs of SplitMix64, 16 bits each from the low end; its
 * state is an output of another whose state is key and another's output. */
static void synth_row(int64_t key, int64_t salt, float amplitude, int64_t columns,
                      float *ret)
{
    uint64_t before = (uint64_t)salt, four = 0;
    uint64_t state = (uint64_t)key + rng_split(&before) - 0x9e3779b97f4a7c15u;
    state = rng_split(&state);
    for (int64_t d = 0; d < columns; d++)
    {
        four = d % 4 ? four / 65536 : rng_split(&state);
        int64_t i = (int64_t)(four % 65536);
        i = i < 32768 ? i : i - 65536;
        ret[d] = (float)((double)i * amplitude / 32768); /* exact before it is rounded */
    }
}

void ref_synth_fill(const struct rfn_synth_fill_args *a)
{
    int64_t D = a->out.shape[1], rows = live_rows(&a->live, a->out.shape[0]);
    float *row = malloc((size_t)(D + 1) * sizeof *row);
    for (int64_t t = 0; t < rows; t++)
    {
        int64_t at = t * a->out.stride[0];
        synth_row(((int64_t *)a->keys.data)[t], a->salt, a->amplitude, D, row);
        if (a->out.dtype == RFN_F32)
            memcpy((float *)a->out.data + at, row, (size_t)D * sizeof *row);
        for (int64_t d = 0; d < D && a->out.dtype == RFN_BF16; d++)
            ((uint16_t *)a->out.data)[at + d] = ref_bf16_code(row[d]);
    }
    free(row);
}
