/* index_gather written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <math.h>
#include <string.h>

#define D 128

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(unguarded_lookup) /* the incident: rows past the total keep what was there */      \
    X(bound_taken_for_the_total)                                                         \
    X(rows_past_the_total_zeroed)                                                        \
    X(last_row_dropped)                                                                  \
    X(one_row_more)                                                                      \
    X(bound_ignored)                                                                     \
    X(whole_tiles_written)                                                               \
    X(requests_ignored)                                                                  \
    X(last_request_dropped)                                                              \
    X(first_of_equal_starts)                                                             \
    X(start_belongs_to_the_one_before)                                                   \
    X(search_stops_at_an_empty_request)                                                  \
    X(search_of_32_requests)                                                             \
    X(rows_before_the_first_start_written)                                               \
    X(token_is_the_row)                                                                  \
    X(starts_from_0)                                                                     \
    X(negative_start_followed)                                                           \
    X(row_outside_its_request_written)                                                   \
    X(page_of_64_tokens)                                                                 \
    X(pages_in_order)                                                                    \
    X(table_of_request_0)                                                                \
    X(table_of_the_next_request)                                                         \
    X(table_stride_ignored)                                                              \
    X(table_end_clamped)                                                                 \
    X(table_end_read_on)                                                                 \
    X(page_stride_ignored)                                                               \
    X(keys_stride_ignored)                                                               \
    X(last_page_dropped)                                                                 \
    X(partial_page_rounded_down)                                                         \
    X(last_piece_dropped)                                                                \
    X(written_past_the_key)                                                              \
    X(keys_as_numbers)                                                                   \
    X(scale_dropped)                                                                     \
    X(scale_of_the_next_key)                                                             \
    X(scale_of_the_page)                                                                 \
    X(scales_beside_the_keys)                                                            \
    X(scales_as_of_64_tokens)                                                            \
    X(scale_as_a_number)                                                                 \
    X(page_0_is_bad)                                                                     \
    X(last_page_is_bad)                                                                  \
    X(bad_page_clamped)                                                                  \
    X(bad_page_left_as_it_was)                                                           \
    X(bad_page_scaled_by_nan)                                                            \
    X(bad_page_not_reported)                                                             \
    X(bad_page_reported_a_token)                                                         \
    X(bad_page_reported_at_its_row)                                                      \
    X(past_the_table_not_reported)                                                       \
    X(going_down_not_reported)                                                           \
    X(going_down_names_one_value)                                                        \
    X(negative_start_not_reported)                                                       \
    X(total_above_the_bound_not_reported)                                                \
    X(bound_of_the_capacity_reported)

enum bug
{
#define X(name) name,
    BUGS(X)
#undef X
};

#define IS(name) (bug == (name))

static void note(struct rfn_fault *fault, const char *operand, int64_t row,
                 int64_t column, int64_t value)
{
    if (fault && fault->count++ == 0)
        *fault = (struct rfn_fault) { "index_gather", operand, row, column, value, 1 };
}

static void note_starts(const struct rfn_index_gather_args *a, int64_t requests,
                        int64_t bound, enum bug bug, struct rfn_fault *fault)
{
    const int32_t *starts = a->starts.data;
    if (starts[0] < 0 && !IS(negative_start_not_reported))
        note(fault, "starts", 0, 0, starts[0]);
    for (int64_t r = 1; r <= requests && !IS(going_down_not_reported); r++)
        if (starts[r] < starts[r - 1])
            note(fault, "starts", r, IS(going_down_names_one_value) ? 0 : starts[r - 1],
                 starts[r]);
    if (IS(bound_of_the_capacity_reported))
        bound = a->keys.shape[0];
    if (starts[requests] > bound && !IS(total_above_the_bound_not_reported))
        note(fault, "starts", requests, bound, starts[requests]);
}

/* -1: none. */
static int64_t find(const int32_t *starts, int64_t requests, int64_t n, enum bug bug)
{
    int64_t low = 0, high = requests;
    if (IS(search_of_32_requests) && high > 32)
        high = 32;
    if (IS(first_of_equal_starts))
        for (int64_t r = 0; r < requests; r++)
            if (starts[r] == n)
                return r;
    while (high - low > 1)
    {
        int64_t mid = low + (high - low) / 2;
        if (IS(search_stops_at_an_empty_request) && starts[mid] == starts[mid + 1])
            return -1;
        int here =
            IS(start_belongs_to_the_one_before) ? starts[mid] < n : starts[mid] <= n;
        low = here ? mid : low;
        high = here ? high : mid;
    }
    if (IS(row_outside_its_request_written) ||
        (IS(start_belongs_to_the_one_before) && starts[low] <= n))
        return low;
    if (IS(rows_before_the_first_start_written) && n < starts[0])
        return 0;
    if (starts[low] < 0 && !IS(negative_start_followed))
        return -1;
    return starts[low] <= n && n < starts[low + 1] ? low : -1;
}

/* Page of column w, -1 for none; *ret_value is what check mode names. */
static int64_t find_page(const struct rfn_index_gather_args *a, int64_t r, int64_t w,
                         enum bug bug, int64_t *ret_value)
{
    int64_t R = a->table.shape[0], W = a->table.shape[1];
    int64_t stride = IS(table_stride_ignored) ? W : a->table.stride[0];
    *ret_value = w;
    r = IS(table_of_request_0) ? 0 : r;
    r += IS(table_of_the_next_request) && r + 1 < R;
    if (IS(pages_in_order))
        return w < a->pool.pages ? w : -1;
    if (w >= W && IS(table_end_clamped) && W)
        w = W - 1;
    if (w >= W && !(IS(table_end_read_on) && r + 1 < R && w < W + 2))
        return -1;
    int64_t page = *ret_value = ((int32_t *)a->table.data)[r * stride + w];
    if (IS(bad_page_clamped))
        page = page < 0 ? 0 : page < a->pool.pages ? page : a->pool.pages - 1;
    if ((IS(page_0_is_bad) && page == 0) ||
        (IS(last_page_is_bad) && page == a->pool.pages - 1))
        return -1;
    return page < a->pool.pages ? page : -1;
}

static const unsigned char *find_scale(const struct rfn_pool *pool, int64_t page,
                                       int64_t offset, enum bug bug)
{
    int64_t P = pool->page_tokens;
    if (IS(scale_of_the_next_key) && offset + 1 < P)
        offset++;
    if (IS(scale_of_the_page))
        offset = 0;
    if (IS(scales_beside_the_keys))
        return ref_index_key(pool, page * P) + offset * (D + 4) + D;
    if (IS(scales_as_of_64_tokens) && P > 64)
        return ref_index_key(pool, page * P) + (int64_t)64 * D + offset * 4;
    return ref_index_scale(pool, page * P + offset);
}

static void gather(const struct rfn_index_gather_args *a, int64_t n, int64_t r,
                   enum bug bug, struct rfn_fault *fault)
{
    const int32_t *starts = a->starts.data;
    struct rfn_pool pool = a->pool;
    int64_t P = IS(page_of_64_tokens) && pool.page_tokens > 64 ? 64 : pool.page_tokens;
    int64_t stride = IS(keys_stride_ignored) ? D : a->keys.stride[0], value;
    int64_t token = IS(token_is_the_row) ? n
                    : IS(starts_from_0)  ? n - starts[r] + starts[0]
                                         : n - starts[r];
    token = token < 0 ? 0 : token;
    int64_t w = token / P, offset = token % P, page = find_page(a, r, w, bug, &value);
    unsigned char *key = (unsigned char *)a->keys.data + n * stride;
    float *scale = (float *)a->scales.data + n;
    if (IS(page_stride_ignored))
        pool.page_stride_bytes = 0;
    if (page < 0)
    {
        int quiet = IS(bad_page_not_reported) ||
                    (IS(past_the_table_not_reported) && w >= a->table.shape[1]);
        if (!quiet && (offset == 0 || IS(bad_page_reported_a_token)))
            note(fault, "table", IS(bad_page_reported_at_its_row) ? n : r, w, value);
        if (IS(bad_page_left_as_it_was))
            return;
        memset(key, 0, D);
        *scale = IS(bad_page_scaled_by_nan) ? NAN : 0;
        return;
    }
    const unsigned char *from = ref_index_key(&pool, page * pool.page_tokens + offset);
    memcpy(key, from, D - 16 * IS(last_piece_dropped) + IS(written_past_the_key));
    for (int d = 0; d < D && IS(keys_as_numbers); d++)
        key[d] = ref_e4m3_code(ref_e4m3_value(from[d]));
    if (!IS(scale_dropped))
        memcpy(scale, find_scale(&pool, page, offset, bug), 4);
    if (IS(scale_as_a_number) && !(fabsf(*scale) >= 0x1p-126f))
        *scale = 0;
}

static void twin(const struct rfn_index_gather_args *a, struct rfn_fault *fault,
                 enum bug bug)
{
    int64_t requests = a->table.shape[0], N = a->keys.shape[0], last = 0;
    int64_t bound = a->bound ? a->bound : N;
    const int32_t *starts = a->starts.data;
    if (a->requests.data && !IS(requests_ignored) &&
        *(int32_t *)a->requests.data < requests)
        requests = *(int32_t *)a->requests.data;
    requests = requests < 0 ? 0 : requests;
    note_starts(a, requests, bound, bug, fault);
    requests -= IS(last_request_dropped) && requests > 0;
    int64_t total = starts[requests];
    if (IS(bound_ignored))
        bound = N;
    if (IS(bound_taken_for_the_total) || IS(unguarded_lookup) ||
        IS(rows_past_the_total_zeroed))
        total = bound;
    total += IS(one_row_more);
    total -= IS(last_row_dropped);
    if (IS(whole_tiles_written))
        total = (total + 31) / 32 * 32;
    for (int64_t n = 0; requests && n < total && n < bound; n++)
    {
        int64_t r = find(starts, requests, n, bug);
        int64_t P = a->pool.page_tokens, length = r < 0 ? 0 : starts[r + 1] - starts[r];
        if (r < 0 && IS(unguarded_lookup))
            r = last; /* of whoever was here before */
        if (r < 0 && n >= starts[requests] &&
            (IS(bound_taken_for_the_total) || IS(one_row_more) ||
             IS(whole_tiles_written)))
            r = requests - 1;
        if (r < 0 && IS(rows_past_the_total_zeroed) && n >= starts[requests])
        {
            memset((unsigned char *)a->keys.data + n * a->keys.stride[0], 0, D);
            ((float *)a->scales.data)[n] = 0;
        }
        if (IS(last_page_dropped) && r >= 0 && (n - starts[r]) / P == (length - 1) / P)
            r = -1;
        if (IS(partial_page_rounded_down) && r >= 0 && n - starts[r] >= length / P * P)
            r = -1;
        if (r >= 0)
            gather(a, n, r, bug, fault);
        last = r >= 0 ? r : last;
    }
}

#undef IS
#define X(name)                                                                          \
    static void twin_##name(const void *args, const struct rfn_host_env *env)            \
    {                                                                                    \
        twin(args, env->fault, name);                                                    \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_index_gather[] = {
#define X(name) { &rfn_op_index_gather, #name, twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_index_gathers = CK_COUNT(ck_broken_index_gather);
