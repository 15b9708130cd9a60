/* mla_combine written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(last_partial_dropped)                                                              \
    X(first_partial_alone)                                                               \
    X(heaviest_partial_alone)                                                            \
    X(mean_of_the_partials)                                                              \
    X(weights_not_normalised)                                                            \
    X(maximum_not_subtracted)                                                            \
    X(maximum_from_zero)                                                                 \
    X(maximum_of_the_first)                                                              \
    X(stale_maximum)                                                                     \
    X(sums_in_base_2)                                                                    \
    X(lse_in_base_2)                                                                     \
    X(lse_is_the_maximum)                                                                \
    X(sink_in_the_lse)                                                                   \
    X(sink_ignored)                                                                      \
    X(sink_of_head_0)                                                                    \
    X(sink_above_the_maximum)                                                            \
    X(sink_on_each_partial)                                                              \
    X(empty_partial_read)                                                                \
    X(empty_partial_counts_one)                                                          \
    X(all_empty_is_nan)                                                                  \
    X(all_empty_left_as_it_was)                                                          \
    X(empty_lse_always_negative)                                                         \
    X(empty_lse_always_positive)                                                         \
    X(plus_infinity_always_empty)                                                        \
    X(plus_infinity_never_empty)                                                         \
    X(nan_sum_is_empty)                                                                  \
    X(nan_value_is_zero)                                                                 \
    X(live_ignored)                                                                      \
    X(sum_of_the_partial_before)                                                         \
    X(lse_stride_of_the_parts_ignored)                                                   \
    X(lse_stride_of_the_rows_ignored)                                                    \
    X(part_stride_ignored)                                                               \
    X(row_stride_ignored)                                                                \
    X(head_stride_ignored)                                                               \
    X(out_row_stride_ignored)                                                            \
    X(out_head_stride_ignored)                                                           \
    X(lse_out_stride_ignored)                                                            \
    X(out_truncated)                                                                     \
    X(rounded_after_each_partial)                                                        \
    X(weights_in_bf16)                                                                   \
    X(f32_partials_through_bf16)                                                         \
    X(columns_past_512_dropped)                                                          \
    X(columns_in_eights_only)                                                            \
    X(written_past_the_row)

enum bug
{
#define X(name) name,
    BUGS(X)
#undef X
};

static int empty(const struct rfn_mla_combine_args *a, float lse, enum bug bug)
{
    if (bug == nan_sum_is_empty && isnan(lse))
        return 1;
    if (bug == plus_infinity_always_empty && lse == INFINITY)
        return 1;
    if (bug == plus_infinity_never_empty && lse == INFINITY)
        return 0;
    return lse == -INFINITY || (lse == INFINITY && a->empty_lse_positive);
}

static float sum_at(const struct rfn_mla_combine_args *a, int64_t n, int64_t t, int64_t h,
                    enum bug bug)
{
    const struct rfn_tensor *x = &a->lse_part;
    int64_t row = bug == lse_stride_of_the_rows_ignored ? x->shape[2] : x->stride[1];
    int64_t part =
        bug == lse_stride_of_the_parts_ignored ? x->shape[1] * x->shape[2] : x->stride[0];
    if (bug == sum_of_the_partial_before && n)
        n--;
    return ((float *)x->data)[n * part + t * row + h];
}

static float value_at(const struct rfn_mla_combine_args *a, int64_t n, int64_t t,
                      int64_t h, int64_t v, enum bug bug)
{
    const struct rfn_tensor *x = &a->out_part;
    int64_t H = x->shape[2], V = x->shape[3];
    int64_t head = bug == head_stride_ignored ? V : x->stride[2];
    int64_t row = bug == row_stride_ignored ? H * V : x->stride[1];
    int64_t part = bug == part_stride_ignored ? x->shape[1] * H * V : x->stride[0];
    int64_t at = n * part + t * row + h * head + v;
    float value = x->dtype == RFN_F32 ? ((float *)x->data)[at]
                                      : (float)ref_bf16_value(((uint16_t *)x->data)[at]);
    if (bug == f32_partials_through_bf16)
        value = (float)ref_bf16_value(ref_bf16_code(value));
    return isnan(value) && bug == nan_value_is_zero ? 0 : value;
}

static float maximum(const struct rfn_mla_combine_args *a, int64_t N, int64_t t,
                     int64_t h, enum bug bug)
{
    float max = bug == maximum_from_zero ? 0 : -INFINITY;
    for (int64_t n = 0; n < N; n++)
    {
        float x = sum_at(a, n, t, h, bug);
        max = !empty(a, x, bug) && x > max ? x : max;
        if (bug == maximum_of_the_first)
            break;
    }
    return bug == maximum_not_subtracted ? 0 : max;
}

static void combine(const struct rfn_mla_combine_args *a, int64_t t, int64_t h,
                    enum bug bug)
{
    int64_t N = a->out_part.shape[0], H = a->out.shape[1], V = a->out.shape[2];
    int64_t head = bug == out_head_stride_ignored ? V : a->out.stride[1], parts = 0;
    int64_t row = bug == out_row_stride_ignored ? H * V : a->out.stride[0];
    uint16_t *out = (uint16_t *)a->out.data + t * row + h * head;
    int64_t lse_row = bug == lse_out_stride_ignored ? H : a->lse.stride[0];
    N -= bug == last_partial_dropped;
    N = bug == first_partial_alone && N > 1 ? 1 : N;
    float *o = calloc((size_t)V + 1, sizeof *o), sum = 0, share = 1;
    float max = maximum(a, N, t, h, bug), running = -INFINITY;
    for (int64_t n = 0; n < N; n++)
    {
        float x = sum_at(a, n, t, h, bug);
        running = x > running ? x : running;
        float w = expf(x - (bug == stale_maximum ? running : max));
        if (bug == sums_in_base_2)
            w = exp2f(x - max);
        if (bug == weights_in_bf16)
            w = (float)ref_bf16_value(ref_bf16_code(w));
        if (bug == mean_of_the_partials)
            w = 1;
        if (bug == heaviest_partial_alone)
            w = x == max;
        if (empty(a, x, bug))
            w = bug == empty_partial_counts_one ? 1 : 0;
        parts += !empty(a, x, bug);
        sum += w;
        for (int64_t v = 0; v < V; v++)
        {
            if (!empty(a, x, bug) || bug == empty_partial_read)
                o[v] += w * value_at(a, n, t, h, v, bug);
            if (bug == rounded_after_each_partial)
                o[v] = (float)ref_bf16_value(ref_bf16_code(o[v]));
        }
    }
    float lse = bug == lse_is_the_maximum ? max : max + logf(sum);
    if (bug == weights_not_normalised)
        sum = 1;
    if (a->sink.data && bug != sink_ignored)
    {
        float sink = ((float *)a->sink.data)[bug == sink_of_head_0 ? 0 : h];
        float weight = expf(sink - (bug == sink_above_the_maximum ? 0 : max));
        sum += bug == sink_on_each_partial ? weight * (float)parts : weight;
        if (bug == sink_in_the_lse)
            lse = max + logf(sum);
    }
    share = 1 / sum;
    if (bug == lse_in_base_2)
        lse *= 1.442695f;
    if (!parts && bug != all_empty_is_nan)
    {
        int positive = a->empty_lse_positive && bug != empty_lse_always_negative;
        share = 0;
        lse = positive || bug == empty_lse_always_positive ? INFINITY : -INFINITY;
    }
    if (!parts && bug == all_empty_left_as_it_was)
        V = 0;
    if (bug == columns_past_512_dropped && V > 512)
        V = 512;
    if (bug == columns_in_eights_only)
        V = V / 8 * 8;
    for (int64_t v = 0; v < V + (bug == written_past_the_row); v++)
    {
        float x = o[v] * share;
        uint32_t u;
        memcpy(&u, &x, 4);
        out[v] = bug == out_truncated ? (uint16_t)(u >> 16) : ref_bf16_code(x);
    }
    if (a->lse.data && (parts || bug != all_empty_left_as_it_was))
        ((float *)a->lse.data)[t * lse_row + h] = lse;
    free(o);
}

static void twin(const struct rfn_mla_combine_args *a, enum bug bug)
{
    int64_t T = a->out.shape[0], live = a->live.data ? *(int32_t *)a->live.data : T;
    if (bug == live_ignored || live > T)
        live = T;
    for (int64_t t = 0; t < live; t++)
        for (int64_t h = 0; h < a->out.shape[1]; h++)
            combine(a, t, h, bug);
}

#define X(name)                                                                          \
    static void twin_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        (void)env;                                                                       \
        twin(args, name);                                                                \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_mla_combine[] = {
#define X(name) { &rfn_op_mla_combine, #name, twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_mla_combines = CK_COUNT(ck_broken_mla_combine);
