/* index_topk written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(last_column_not_read)                                                              \
    X(read_past_the_row)                                                                 \
    X(ties_to_the_larger_position)                                                       \
    X(minus_zero_below_zero)                                                             \
    X(nan_first)                                                                         \
    X(nan_equals_minus_infinity)                                                         \
    X(minus_infinity_not_chosen)                                                         \
    X(compared_in_fp16)                                                                  \
    X(compared_as_integers)                                                              \
    X(at_most_4096_candidates)                                                           \
    X(best_first)                                                                        \
    X(short_row_by_score)                                                                \
    X(tail_left_as_it_was)                                                               \
    X(written_past_k)                                                                    \
    X(written_past_the_length)                                                           \
    X(live_ignored)                                                                      \
    X(negative_length_as_all)                                                            \
    X(length_past_the_columns)                                                           \
    X(row_stride_ignored)                                                                \
    X(table_stride_ignored)                                                              \
    X(out_stride_ignored)                                                                \
    X(positions_as_slots)                                                                \
    X(row_as_request)                                                                    \
    X(page_not_checked)                                                                  \
    X(bad_page_not_reported)                                                             \
    X(request_clamped)                                                                   \
    X(table_width_ignored)                                                               \
    X(page_0_is_reserved)

enum bug
{
#define X(name) name,
    BUGS(X)
#undef X
};

struct score
{
    float value;
    int32_t position;
};

static enum bug comparing; /* qsort has no context; broken twins run on one thread */

static float coarse(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    u &= 0xffffe000u; /* ten bits of mantissa, as fp16 */
    memcpy(&x, &u, 4);
    return x;
}

static int32_t bits_of(float x)
{
    int32_t b;
    memcpy(&b, &x, 4);
    return b;
}

static int by_rank(const void *va, const void *vb)
{
    const struct score *a = va, *b = vb;
    float x = a->value, y = b->value;
    int tie = a->position < b->position ? -1 : 1;
    if (comparing == ties_to_the_larger_position)
        tie = -tie;
    if (comparing == compared_in_fp16)
    {
        x = coarse(x);
        y = coarse(y);
    }
    if (comparing == nan_equals_minus_infinity)
    {
        x = isnan(x) ? -INFINITY : x;
        y = isnan(y) ? -INFINITY : y;
    }
    if (isnan(x) || isnan(y))
    {
        int order = !!isnan(x) - !!isnan(y);
        return order == 0 ? tie : comparing == nan_first ? -order : order;
    }
    if (comparing == compared_as_integers && x != y)
        return bits_of(x) > bits_of(y) ? -1 : 1;
    if (comparing == minus_zero_below_zero && x == y && !signbit(x) != !signbit(y))
        return signbit(x) ? 1 : -1;
    return x > y ? -1 : x < y ? 1 : tie;
}

static int by_position(const void *va, const void *vb)
{
    return ((const struct score *)va)->position - ((const struct score *)vb)->position;
}

static int32_t slot_of(const struct rfn_index_topk_args *a, int64_t t, int32_t position,
                       int first, struct rfn_fault *fault, enum bug bug)
{
    int64_t R = a->table.shape[0], W = a->table.shape[1], w = position / a->page_tokens;
    int64_t r = ((int32_t *)a->request.data)[t];
    int64_t stride = bug == table_stride_ignored ? W : a->table.stride[0];
    const char *operand = "table";
    int64_t column = w, value = w;
    if (bug == row_as_request)
        r = t < R ? t : R - 1;
    if (bug == request_clamped)
        r = r < 0 ? 0 : r >= R ? R - 1 : r;
    if (bug == positions_as_slots)
        return position;
    if (r >= 0 && r < R && (w < W || bug == table_width_ignored))
    {
        int32_t page = ((int32_t *)a->table.data)[r * stride + w];
        int inside = page >= 0 && page < a->pages;
        if (bug == page_0_is_reserved && page == 0)
            return -1;
        if (inside || bug == page_not_checked)
            return (int32_t)(page * (uint32_t)a->page_tokens) + position % a->page_tokens;
        value = page;
    }
    else if (r < 0 || r >= R)
    {
        operand = "request";
        column = 0;
        value = r;
        if (!first)
            return -1;
    }
    if (fault && bug != bad_page_not_reported && fault->count++ == 0)
        *fault = (struct rfn_fault) { "index_topk", operand, t, column, value, 1 };
    return -1;
}

static int64_t choose(const struct rfn_index_topk_args *a, int64_t t, int64_t K,
                      struct score *list, enum bug bug)
{
    int64_t S = a->logits.shape[1], L = ((int32_t *)a->lens.data)[t];
    int64_t stride = bug == row_stride_ignored ? S : a->logits.stride[0];
    const float *x = (float *)a->logits.data + t * stride;
    if (bug == negative_length_as_all && L < 0)
        L = S;
    if (bug == length_past_the_columns && L > S)
        S += 1;
    L = L < 0 ? 0 : L > S ? S : L;
    int64_t read = L;
    if (L > K && bug == last_column_not_read)
        read--;
    if (L > K && bug == read_past_the_row)
        read++;
    int64_t n = 0;
    for (int64_t s = 0; s < read; s++)
        if (!(bug == minus_infinity_not_chosen && L > K && x[s] == -INFINITY))
            list[n++] = (struct score) { x[s], (int32_t)s };
    int by_score = bug == short_row_by_score && n <= K;
    if (n > K || by_score)
    {
        qsort(list, (size_t)n, sizeof *list, by_rank);
        /* A cap on candidates is met when more than that share the threshold. */
        if (bug == at_most_4096_candidates && n > 4096 + K &&
            list[0].value == list[4096].value)
            list[K - 1] = list[4096];
        n = n < K ? n : K;
        if (bug != best_first && !by_score)
            qsort(list, (size_t)n, sizeof *list, by_position);
    }
    return n;
}

static void write_row(const struct rfn_tensor *out, int64_t t, int64_t k, int32_t value,
                      enum bug bug)
{
    int64_t stride = bug == out_stride_ignored ? out->shape[1] : out->stride[0];
    if (out->data)
        ((int32_t *)out->data)[t * stride + k] = value;
}

static void twin(const struct rfn_index_topk_args *a, struct rfn_fault *fault,
                 enum bug bug)
{
    int64_t T = a->logits.shape[0], live = a->live.data ? *(int32_t *)a->live.data : T;
    int64_t K = a->slots.data ? a->slots.shape[1] : a->positions.shape[1];
    struct score *list = malloc((size_t)(a->logits.shape[1] + K + 2) * sizeof *list);
    if (bug == live_ignored || live > T)
        live = T;
    comparing = bug;
    for (int64_t t = 0; t < live; t++)
    {
        int64_t n = choose(a, t, K, list, bug);
        int64_t end = bug == tail_left_as_it_was ? n : K + (bug == written_past_k);
        if (bug == written_past_the_length && n < K)
            n++, list[n - 1].position = (int32_t)n - 1;
        for (int64_t k = 0; k < end; k++)
        {
            int32_t position = k < n ? list[k].position : -1;
            write_row(&a->positions, t, k, position, bug);
            if (a->slots.data)
                write_row(&a->slots, t, k,
                          position < 0 ? -1 : slot_of(a, t, position, k == 0, fault, bug),
                          bug);
        }
    }
    free(list);
}

#define X(name)                                                                          \
    static void twin_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        twin(args, env->fault, name);                                                    \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_index_topk[] = {
#define X(name) { &rfn_op_index_topk, #name, twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_index_topks = CK_COUNT(ck_broken_index_topk);
