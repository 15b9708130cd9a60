/* index_logits written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define D 128
#define TILE 32
#define GROUP 8

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(last_row_dropped)                                                                  \
    X(live_ignored)                                                                      \
    X(length_off_by_one)                                                                 \
    X(written_past_the_length)                                                           \
    X(whole_tile_written)                                                                \
    X(tail_of_the_tile_dropped)                                                          \
    X(columns_past_the_length_masked)                                                    \
    X(negative_length_as_all)                                                            \
    X(length_past_the_columns)                                                           \
    X(length_of_the_first_row_of_a_step)                                                 \
    X(query_of_the_first_row_of_a_step)                                                  \
    X(empty_row_written)                                                                 \
    X(scale_dropped)                                                                     \
    X(scale_of_the_next_key)                                                             \
    X(scale_of_the_page)                                                                 \
    X(scales_beside_the_keys)                                                            \
    X(scales_as_of_64_tokens)                                                            \
    X(relu_dropped)                                                                      \
    X(relu_after_the_weight)                                                             \
    X(relu_after_the_sum)                                                                \
    X(weights_dropped)                                                                   \
    X(weight_by_size)                                                                    \
    X(weight_of_head_0)                                                                  \
    X(last_head_dropped)                                                                 \
    X(tail_of_the_heads_dropped)                                                         \
    X(last_dimension_dropped)                                                            \
    X(dots_in_bf16)                                                                      \
    X(subnormals_flushed)                                                                \
    X(nan_read_as_480)                                                                   \
    X(nan_cut_off_by_relu)                                                               \
    X(nan_of_the_column_before)                                                          \
    X(order_of_heads_by_row)                                                             \
    X(bad_page_clamped)                                                                  \
    X(bad_page_scores_zero)                                                              \
    X(bad_page_scores_least)                                                             \
    X(bad_page_left_as_it_was)                                                           \
    X(bad_page_not_reported)                                                             \
    X(bad_page_reported_a_token)                                                         \
    X(page_0_is_bad)                                                                     \
    X(table_end_clamped)                                                                 \
    X(bad_request_clamped)                                                               \
    X(bad_request_not_reported)                                                          \
    X(request_is_the_row)                                                                \
    X(pages_in_order)                                                                    \
    X(page_of_64_tokens)                                                                 \
    X(table_stride_ignored)                                                              \
    X(page_stride_ignored)                                                               \
    X(query_stride_ignored)                                                              \
    X(weight_stride_ignored)                                                             \
    X(logits_stride_ignored)

enum bug
{
#define X(name) name,
    BUGS(X)
#undef X
};

static float value_of(uint8_t code, enum bug bug)
{
    if (bug == subnormals_flushed && (code & 0x78) == 0)
        return 0;
    if (bug == nan_read_as_480 && (code & 0x7f) == 0x7f)
        return code & 0x80 ? -480 : 480;
    return (float)ref_e4m3_value(code);
}

/* The queries of a row, dequantised. */
static void load(const struct rfn_index_logits_args *a, int64_t t, float (*q)[D],
                 enum bug bug)
{
    int64_t H = a->q8.shape[1];
    int64_t row = bug == query_stride_ignored ? H * D : a->q8.stride[0];
    for (int64_t h = 0; h < H; h++)
        for (int d = 0; d < D; d++)
            q[h][d] =
                value_of(((uint8_t *)a->q8.data)[t * row + h * a->q8.stride[1] + d], bug);
}

static float score(const struct rfn_index_logits_args *a, int64_t t, float (*q)[D],
                   int64_t slot, enum bug bug)
{
    struct rfn_pool pool = a->pool;
    if (bug == page_stride_ignored)
        pool.page_stride_bytes = 0;
    int64_t H = a->q8.shape[1], offset = slot % pool.page_tokens;
    const unsigned char *key = ref_index_key(&pool, slot);
    const unsigned char *at = ref_index_scale(&pool, slot);
    if (bug == scale_of_the_next_key && offset + 1 < pool.page_tokens)
        at += 4;
    if (bug == scale_of_the_page)
        at -= offset * 4;
    if (bug == scales_beside_the_keys)
    {
        key += offset * 4;
        at = key + D;
    }
    if (bug == scales_as_of_64_tokens && pool.page_tokens > 64)
        at = key - offset * D + 64 * D + offset * 4;
    float scale, sum = 0, k[D];
    for (int d = 0; d < D; d++)
        k[d] = value_of(key[d], bug);
    if (bug == last_dimension_dropped)
        k[D - 1] = 0;
    memcpy(&scale, at, 4);
    int64_t w_row = bug == weight_stride_ignored ? H : a->w8.stride[0];
    int64_t heads = bug == last_head_dropped           ? H - 1
                    : bug == tail_of_the_heads_dropped ? H / 8 * 8
                                                       : H;
    for (int64_t i = 0; i < heads; i++)
    {
        int64_t h = bug == order_of_heads_by_row && t % 2 ? heads - 1 - i : i;
        float w = ((float *)a->w8.data)[t * w_row + (bug == weight_of_head_0 ? 0 : h)];
        float dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int d = 0; d < D; d++)
            dot += q[h][d] * k[d];
        if (bug == dots_in_bf16)
            dot = (float)ref_bf16_value(ref_bf16_code(dot));
        if (bug == weights_dropped)
            w = 1;
        if (bug == weight_by_size)
            w = fabsf(w);
        float x = dot < 0 || (isnan(dot) && bug == nan_cut_off_by_relu) ? 0 : dot;
        if (bug == relu_dropped || bug == relu_after_the_sum)
            x = dot;
        x *= w;
        if (bug == relu_after_the_weight)
            x = dot * w < 0 ? 0 : dot * w;
        sum += x;
    }
    if (bug == relu_after_the_sum)
        sum = sum < 0 ? 0 : sum;
    return bug == scale_dropped ? sum : sum * scale;
}

static void report(struct rfn_fault *fault, const char *operand, int64_t row,
                   int64_t column, int64_t value)
{
    if (fault && fault->count++ == 0)
        *fault = (struct rfn_fault) { "index_logits", operand, row, column, value, 1 };
}

/* The request's row of the table; -1 for none. */
static int64_t request_of(const struct rfn_index_logits_args *a, int64_t t, int64_t L,
                          struct rfn_fault *fault, enum bug bug)
{
    int64_t request = ((int32_t *)a->request.data)[t], R = a->table.shape[0];
    if (bug == request_is_the_row)
        request = t % R;
    if (request >= 0 && request < R)
        return request;
    if (L > 0 && bug != bad_request_not_reported)
        report(fault, "request", t, 0, request);
    return bug == bad_request_clamped ? (request < 0 ? 0 : R - 1) : -1;
}

static void twin_row(const struct rfn_index_logits_args *a, int64_t t,
                     struct rfn_fault *fault, enum bug bug)
{
    const int32_t *lens = a->lens.data, *requests = a->request.data;
    int64_t S = a->logits.shape[1], L = lens[t], W = a->table.shape[1], first = t;
    int64_t P = bug == page_of_64_tokens ? 64 : a->pool.page_tokens;
    int64_t stride = bug == logits_stride_ignored ? S : a->logits.stride[0];
    float *logits = (float *)a->logits.data + t * stride;
    while (first % GROUP && requests[first - 1] == requests[t])
        first--;
    if (bug == length_of_the_first_row_of_a_step)
        L = lens[first];
    if (bug == negative_length_as_all && L < 0)
        L = S;
    if (bug == empty_row_written && L <= 0 && S)
        logits[0] = -INFINITY;
    if (bug == length_past_the_columns && L > S)
        logits[S] = 0;
    L = L < 0 ? 0 : L > S ? S : L;
    if (bug == written_past_the_length && L < S)
        logits[L] = 0;
    for (int64_t s = L; s < S && (s % TILE || s == L) && bug == whole_tile_written; s++)
        logits[s] = 0;
    for (int64_t s = L; s < S && bug == columns_past_the_length_masked; s++)
        logits[s] = -INFINITY;
    if (bug == length_off_by_one)
        L--;
    if (bug == tail_of_the_tile_dropped)
        L = L / TILE * TILE;
    int64_t request = request_of(a, t, L, fault, bug);
    int64_t of = bug == query_of_the_first_row_of_a_step ? first : t;
    float q[64][D];
    load(a, of, q, bug);
    int64_t row = bug == table_stride_ignored ? W : a->table.stride[0];
    for (int64_t s = 0; s < L; s++)
    {
        int64_t i = s / P, page = -1, shown = i;
        if (bug == table_end_clamped && i >= W)
            i = W - 1;
        if (request >= 0 && i < W)
            page = shown = ((int32_t *)a->table.data)[request * row + i];
        if (bug == pages_in_order && page >= 0)
            page = i;
        int bad = page < 0 || page >= a->pool.pages || (bug == page_0_is_bad && !page);
        if (bad && request >= 0 && bug != bad_page_not_reported &&
            (s % P == 0 || bug == bad_page_reported_a_token))
            report(fault, "table", t, i, shown);
        if (bad && bug == bad_page_clamped)
        {
            page = page < 0 ? 0 : a->pool.pages - 1;
            bad = 0;
        }
        if (bad && bug == bad_page_left_as_it_was)
            continue;
        if (bad)
            logits[s] = bug == bad_page_scores_zero    ? 0
                        : bug == bad_page_scores_least ? -FLT_MAX
                                                       : -INFINITY;
        else
            logits[s] = score(
                a, of, q, page * a->pool.page_tokens + s % P % a->pool.page_tokens, bug);
        if (bug == nan_of_the_column_before && s && isnan(logits[s - 1]))
            logits[s] = NAN;
    }
}

static void twin(const struct rfn_index_logits_args *a, struct rfn_fault *fault,
                 enum bug bug)
{
    int64_t T = a->q8.shape[0], live = a->live.data ? *(int32_t *)a->live.data : T;
    if (bug == live_ignored || live > T)
        live = T;
    for (int64_t t = 0; t < live - (bug == last_row_dropped); t++)
        twin_row(a, t, fault, bug);
}

#define X(name)                                                                          \
    static void twin_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        twin(args, env->fault, name);                                                    \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_index_logits[] = {
#define X(name) { &rfn_op_index_logits, #name, twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_index_logits_count = CK_COUNT(ck_broken_index_logits);
