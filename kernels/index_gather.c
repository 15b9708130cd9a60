/* index_gather: keys of all requests from index pages into flat rows, side by side. */
#include "kernels/op.h"
#include "kernels/parallel.h"

#include <string.h>

#define CHUNK 256 /* rows of one unit of work */

#define ARGS struct rfn_index_gather_args
#define I32 RFN_DTYPE_BIT(RFN_I32)

static const struct rfn_operand operands[] = {
    { "pool", offsetof(ARGS, pool), RFN_OPERAND_POOL, RFN_READ, 0,
      1u << RFN_INDEX_FP8_132, NULL, 16 },
    { "table", offsetof(ARGS, table), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "R,W", 0 },
    { "starts", offsetof(ARGS, starts), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "?", 0 },
    { "requests", offsetof(ARGS, requests), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1",
      0 },
    { "keys", offsetof(ARGS, keys), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_E4M3), "N,D", 16 },
    { "scales", offsetof(ARGS, scales), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_F32), "N", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "bound", offsetof(ARGS, bound), sizeof(int64_t), 0 },
};

static int64_t bound_of(const ARGS *a)
{
    return a->bound ? a->bound : a->keys.shape[0];
}

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    long long R = a->table.shape[0], N = a->keys.shape[0], bound = bound_of(a);
    if (a->keys.shape[1] != info->latent_elems)
        return RFN_FAIL(RFN_INVALID, "keys: D = %lld, but %s has %d",
                        (long long)a->keys.shape[1], info->name, info->latent_elems);
    if (R >= INT32_MAX || a->starts.shape[0] != R + 1)
        return RFN_FAIL(RFN_INVALID,
                        "starts: %lld values, but table: R = %lld needs %lld",
                        (long long)a->starts.shape[0], R, R + 1);
    if (bound < 0 || bound > N)
        return RFN_FAIL(RFN_INVALID, "bound = %lld, but keys: N = %lld", bound, N);
    if (bound > INT32_MAX)
        return RFN_FAIL(RFN_INVALID, "bound = %lld, but rows are i32, up to %d", bound,
                        INT32_MAX);
    return RFN_OK;
}

/* What the device says when the op runs. */
struct run
{
    const ARGS *a;
    const struct rfn_format_info *info;
    const int32_t *starts;
    int64_t requests;
    int64_t rows; /* below the total and the bound */
};

static struct run run_of(const ARGS *a)
{
    int64_t R = a->table.shape[0], bound = bound_of(a);
    struct run r = { .a = a, .info = rfn_format_query(a->pool.format) };
    r.starts = a->starts.data;
    r.requests = rfn_live_rows(&a->requests, R);
    int64_t total = r.requests ? r.starts[r.requests] : 0;
    r.rows = total < bound ? total : bound;
    return r;
}

/* The request that a row lies in, -1 for none. Of those that begin at one place only the
 * last can have rows, and that one the bisection ends at. */
static int64_t request_of(const struct run *r, int64_t n)
{
    int64_t low = 0, high = r->requests;
    while (high - low > 1)
    {
        int64_t middle = low + (high - low) / 2;
        if (r->starts[middle] <= n)
            low = middle;
        else
            high = middle;
    }
    int64_t begin = r->starts[low];
    return begin >= 0 && begin <= n && n < r->starts[low + 1] ? low : -1;
}

/* The pool's page of column w of a request; -1 where table or pool have none. */
static int64_t page_at(const ARGS *a, int64_t request, int64_t w)
{
    if (w >= a->table.shape[1])
        return -1;
    int64_t page = ((const int32_t *)a->table.data)[request * a->table.stride[0] + w];
    return page < a->pool.pages ? page : -1;
}

static void gather_row(const struct run *r, int64_t n)
{
    const ARGS *a = r->a;
    int64_t request = request_of(r, n), P = a->pool.page_tokens;
    if (request < 0)
        return;
    int64_t token = n - r->starts[request], page = page_at(a, request, token / P);
    unsigned char *key = (unsigned char *)a->keys.data + n * a->keys.stride[0];
    float *scale = (float *)a->scales.data + n;
    if (page < 0)
    {
        memset(key, 0, (size_t)r->info->latent_elems);
        *scale = 0;
        return;
    }
    struct rfn_token from =
        rfn_page_token(&a->pool, r->info, rfn_pool_stride(&a->pool), page, token % P);
    memcpy(key, from.data, (size_t)r->info->latent_elems);
    memcpy(scale, from.scales, sizeof *scale);
}

static void gather_chunk(void *ctx, int64_t u)
{
    const struct run *r = ctx;
    int64_t begin = u * CHUNK, end = begin + CHUNK < r->rows ? begin + CHUNK : r->rows;
    for (int64_t n = begin; n < end; n++)
        gather_row(r, n);
}

/* What check mode reports: lengths first, then pages, in an order that no thread has a say
 * in. */
static void note_faults(const struct run *r, struct rfn_fault *fault)
{
    static const char op[] = "index_gather";
    const ARGS *a = r->a;
    struct rfn_fault lengths = { 0 }, pages = { 0 };
    int64_t P = a->pool.page_tokens, total = r->starts[r->requests], bound = bound_of(a);
    if (r->starts[0] < 0)
        rfn_fault_note(&lengths, op, "starts", 0, 0, r->starts[0]);
    for (int64_t b = 1; b <= r->requests; b++)
        if (r->starts[b] < r->starts[b - 1])
            rfn_fault_note(&lengths, op, "starts", b, r->starts[b - 1], r->starts[b]);
    if (total > bound)
        rfn_fault_note(&lengths, op, "starts", r->requests, bound, total);
    for (int64_t n = 0; n < r->rows; n++)
    {
        int64_t request = request_of(r, n);
        int64_t token = request < 0 ? -1 : n - r->starts[request], w = token / P;
        if (request < 0 || token % P || page_at(a, request, w) >= 0)
            continue;
        int64_t value = w;
        if (w < a->table.shape[1])
            value = ((const int32_t *)a->table.data)[request * a->table.stride[0] + w];
        rfn_fault_note(&pages, op, "table", request, w, value);
    }
    rfn_fault_merge(fault, &lengths);
    rfn_fault_merge(fault, &pages);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    struct run r = run_of(v);
    if (env->fault)
        note_faults(&r, env->fault);
    int64_t chunks = r.rows > 0 ? (r.rows + CHUNK - 1) / CHUNK : 0;
    rfn_parallel(env->threads, chunks, gather_chunk, &r);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    const struct rfn_format_info *info = rfn_format_query(a->pool.format);
    int64_t R = a->table.shape[0], bound = bound_of(a);
    int64_t pages = bound / a->pool.page_tokens + R; /* of a request one is partial */
    return (struct rfn_cost) {
        .bytes_read = bound * info->token_bytes + 4 * (R + 1 + pages),
        .bytes_written = bound * info->token_bytes,
    };
}

const struct rfn_op rfn_op_index_gather = {
    .name = "index_gather",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_index_gather_cuda,
#endif
    .cost = cost,
};
