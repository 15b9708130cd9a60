/* Reference of index_gather: each row from nothing but its number. */
#include "tests/checkop/reference.h"

#include <string.h>

#define D 128

static void bad(struct rfn_fault *fault, const char *operand, int64_t row, int64_t column,
                int64_t value)
{
    if (fault->count++ == 0)
        *fault = (struct rfn_fault) { "index_gather", operand, row, column, value, 1 };
}

/* Of starts[first .. first + count): the half that may hold row n, until one is left. */
static int64_t halve(const int32_t *starts, int64_t first, int64_t count, int64_t n)
{
    int64_t front = count / 2;
    if (count == 1)
        return first;
    return n >= starts[first + front] ? halve(starts, first + front, count - front, n)
                                      : halve(starts, first, front, n);
}

/* The request of row n, -1 where there is none. In order, no search is needed to know. */
static int64_t owner(const int32_t *starts, int64_t requests, int sorted, int64_t n)
{
    if (sorted)
    {
        for (int64_t r = 0; r < requests; r++)
            if (starts[r] <= n && n < starts[r + 1])
                return r;
        return -1;
    }
    int64_t r = halve(starts, 0, requests, n);
    return starts[r] >= 0 && starts[r] <= n && n < starts[r + 1] ? r : -1;
}

void ref_index_gather(const struct rfn_index_gather_args *a, struct rfn_fault *fault)
{
    const int32_t *starts = a->starts.data;
    int64_t requests = a->table.shape[0], P = a->pool.page_tokens, W = a->table.shape[1];
    int64_t bound = a->bound ? a->bound : a->keys.shape[0];
    if (a->requests.data && *(int32_t *)a->requests.data < requests)
        requests = *(int32_t *)a->requests.data;
    requests = requests < 0 ? 0 : requests;
    int64_t total = starts[requests], rows = total < bound ? total : bound;
    int sorted = starts[0] >= 0;
    if (starts[0] < 0)
        bad(fault, "starts", 0, 0, starts[0]);
    for (int64_t r = 0; r < requests; r++)
    {
        if (starts[r] <= starts[r + 1])
            continue;
        sorted = 0;
        bad(fault, "starts", r + 1, starts[r], starts[r + 1]);
    }
    if (total > bound)
        bad(fault, "starts", requests, bound, total);
    for (int64_t n = 0; requests && n < rows; n++)
    {
        int64_t r = owner(starts, requests, sorted, n);
        if (r < 0)
            continue;
        int64_t token = n - starts[r], w = token / P, page = -1;
        unsigned char *key = (unsigned char *)a->keys.data + n * a->keys.stride[0];
        float *scale = (float *)a->scales.data + n;
        if (w < W)
            page = ((int32_t *)a->table.data)[r * a->table.stride[0] + w];
        if (page >= 0 && page < a->pool.pages)
        {
            memcpy(key, ref_index_key(&a->pool, page * P + token % P), D);
            memcpy(scale, ref_index_scale(&a->pool, page * P + token % P), 4);
            continue;
        }
        memset(key, 0, D);
        *scale = 0;
        if (token % P == 0)
            bad(fault, "table", r, w, w < W ? page : w);
    }
}
