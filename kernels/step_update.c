/* step_update: per-request lengths and tables become rows, contexts and slots. */
#include "kernels/bounds.h"
#include "kernels/op.h"

#include <string.h>

#define NEXT_N_MAX 8

#define ARGS struct rfn_step_update_args
#define I32 RFN_DTYPE_BIT(RFN_I32)
#define I64 RFN_DTYPE_BIT(RFN_I64)

static const struct rfn_operand operands[] = {
    { "lens", offsetof(ARGS, lens), RFN_OPERAND_TENSOR, RFN_READ_WRITE, 0, I32, "R", 0 },
    { "q_lens", offsetof(ARGS, q_lens), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "R", 0 },
    { "table", offsetof(ARGS, table), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "R,W", 0 },
    { "requests", offsetof(ARGS, requests), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "1",
      0 },
    { "request", offsetof(ARGS, request), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32, "T", 0 },
    { "context", offsetof(ARGS, context), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32, "T", 0 },
    { "slots", offsetof(ARGS, slots), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I64, "T", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_WRITE, 0, I32, "1", 0 },
    { "advance", offsetof(ARGS, advance), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1", 0 },
    { "rejected", offsetof(ARGS, rejected), RFN_OPERAND_TENSOR, RFN_READ_WRITE, 1, I32,
      "R", 0 },
    { "bounds", offsetof(ARGS, bounds), RFN_OPERAND_TENSOR, RFN_WRITE, 1,
      RFN_DTYPE_BIT(RFN_I64), "8", 0 },
    { "records", offsetof(ARGS, records), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "N,C",
      16 },
    { "turn", offsetof(ARGS, turn), RFN_OPERAND_TENSOR, RFN_READ_WRITE, 1, I64, "2", 0 },
    { "taken", offsetof(ARGS, taken), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I64, "1", 0 },
    { "kept", offsetof(ARGS, kept), RFN_OPERAND_TENSOR, RFN_READ_WRITE, 1, I32, "Q", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "next_n", offsetof(ARGS, next_n), sizeof(int32_t), 0 },
    { "page_tokens", offsetof(ARGS, page_tokens), sizeof(int32_t), 0 },
    { "pages", offsetof(ARGS, pages), sizeof(int64_t), 0 },
};

/* Whether `part` lies in `kept` from its first to its last byte; what is not given does. */
static int is_kept(const ARGS *a, const struct rfn_tensor *part)
{
    const char *begin = a->kept.data, *end = begin + 4 * a->kept.shape[0];
    const char *from = part->data, *to = from;
    int64_t rows = part->shape[0], row = part->dims == 2 ? part->shape[1] : 1;
    if (rows > 0)
        to += 4 * ((rows - 1) * part->stride[0] + row);
    return !from || (from >= begin && to <= end);
}

static enum rfn_status check_records(const ARGS *a)
{
    const long long N = a->records.shape[0], C = a->records.shape[1];
    const long long least =
        (long long)sizeof(struct rfn_step_record) / 4 + 2 * a->lens.shape[0];
    const struct rfn_tensor *part[] = { &a->q_lens, &a->table, &a->requests,
                                        &a->advance };
    static const char *const name[] = { "q_lens", "table", "requests", "advance" };
    if (!a->records.data != !a->turn.data || !a->records.data != !a->taken.data ||
        !a->records.data != !a->kept.data)
        return RFN_FAIL(RFN_INVALID,
                        "records at %p, turn at %p, taken at %p, kept at %p: all four or "
                        "none",
                        a->records.data, a->turn.data, a->taken.data, a->kept.data);
    if (!a->records.data)
        return RFN_OK;
    if (N < 1 || (N & (N - 1)))
        return RFN_FAIL(RFN_INVALID, "records: N = %lld, but a power of 2 is needed", N);
    if (C < least)
        return RFN_FAIL(RFN_INVALID,
                        "records: C = %lld, but a record of R = %lld requests has %lld",
                        C, (long long)a->lens.shape[0], least);
    for (size_t i = 0; i < RFN_COUNT(part); i++)
        if (!is_kept(a, part[i]))
            return RFN_FAIL(RFN_INVALID,
                            "%s at %p: not within kept, %lld elements at %p, as records "
                            "need it",
                            name[i], part[i]->data, (long long)a->kept.shape[0],
                            a->kept.data);
    return RFN_OK;
}

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    long long R = a->lens.shape[0], T = a->request.shape[0];
    int64_t slots;
    if (a->next_n < 1 || a->next_n > NEXT_N_MAX)
        return RFN_FAIL(RFN_INVALID, "next_n = %d, but 1 .. %d is needed", a->next_n,
                        NEXT_N_MAX);
    if (R > INT32_MAX / NEXT_N_MAX)
        return RFN_FAIL(RFN_INVALID, "lens: R = %lld, but rows are i32, up to %d", R,
                        INT32_MAX);
    if (T != R * a->next_n)
        return RFN_FAIL(RFN_INVALID,
                        "request: T = %lld, but lens: R = %lld with next_n = %d has %lld",
                        T, R, a->next_n, R * a->next_n);
    if (a->page_tokens < 1 || a->pages < 1)
        return RFN_FAIL(RFN_INVALID, "page_tokens = %d and pages = %lld, below 1",
                        a->page_tokens, (long long)a->pages);
    if (__builtin_mul_overflow(a->pages, (int64_t)a->page_tokens, &slots))
        return RFN_FAIL(RFN_INVALID, "pages = %lld of %d tokens overflow",
                        (long long)a->pages, a->page_tokens);
    return check_records(a);
}

/* Tokens that a row of the table names pages for. */
static int64_t table_tokens(const ARGS *a)
{
    int64_t tokens;
    if (__builtin_mul_overflow(a->table.shape[1], (int64_t)a->page_tokens, &tokens) ||
        tokens > INT32_MAX)
        return INT32_MAX;
    return tokens;
}

/* Slot of a position of request b; -1 past the table and on a page outside the pool. */
static int64_t slot_of(const ARGS *a, int64_t b, int64_t position, struct rfn_fault *seen)
{
    int64_t w = position / a->page_tokens;
    if (w >= a->table.shape[1])
        return -1;
    int64_t page = ((const int32_t *)a->table.data)[b * a->table.stride[0] + w];
    if (page < 0 || page >= a->pages)
    {
        rfn_fault_note(seen, "step_update", "table", b, w, page);
        return -1;
    }
    return page * a->page_tokens + position % a->page_tokens;
}

static void put(const ARGS *a, int64_t t, int64_t request, int64_t context, int64_t slot)
{
    ((int32_t *)a->request.data)[t] = (int32_t)request;
    ((int32_t *)a->context.data)[t] = (int32_t)context;
    ((int64_t *)a->slots.data)[t] = slot;
}

/* Tokens to take back from a length of L, which they are when this returns. */
static int64_t take_back(const ARGS *a, int64_t b, int64_t L, struct rfn_fault *seen)
{
    if (!a->rejected.data)
        return 0;
    int32_t *rejected = (int32_t *)a->rejected.data + b;
    int64_t n = *rejected;
    if (n < 0 || n > L)
        rfn_fault_note(seen, "step_update", "rejected", b, 0, n);
    *rejected = 0;
    return n < 0 ? 0 : n < L ? n : L;
}

/* The rows of a live request; then, behind everything that was read of it, its length. */
static void update_request(const ARGS *a, int64_t b, int advance, struct rfn_fault *seen)
{
    int32_t *len = (int32_t *)a->lens.data + b;
    int64_t n = a->next_n, q = ((const int32_t *)a->q_lens.data)[b], L = *len;
    int64_t most = table_tokens(a);
    if (L < 0 || L > most)
        rfn_fault_note(seen, "step_update", "lens", b, 0, L);
    L = L < 0 ? 0 : L;
    q = q < 0 ? 0 : q < n ? q : n;
    int64_t back = take_back(a, b, L, seen);
    L -= back;
    for (int64_t j = 0; j < n; j++)
    {
        int64_t context = L - q + j + 1;
        if (j < q && context > 0)
            put(a, b * n + j, b, context, slot_of(a, b, context - 1, seen));
        else
            put(a, b * n + j, -1, 0, -1);
    }
    if (advance)
        *len = (int32_t)(L + q < most ? L + q : most);
    else if (back)
        *len = (int32_t)L;
}

static void change_table(const ARGS *a, const struct rfn_step_record *r,
                         struct rfn_fault *seen)
{
    const int64_t R = a->table.shape[0], W = a->table.shape[1];
    for (int32_t i = 0; i < r->changes && i < RFN_STEP_CHANGES; i++)
    {
        const struct rfn_step_change *c = &r->change[i];
        const int far = c->request < 0 || c->request >= R;
        if (far || c->column < 0 || c->column >= W)
            rfn_fault_note(seen, "step_update", "records", i, !far,
                           far ? c->request : c->column);
        else
            ((int32_t *)a->table.data)[c->request * a->table.stride[0] + c->column] =
                c->page;
    }
}

static void change_lengths(const ARGS *a, const struct rfn_step_record *r)
{
    const int32_t *pair = (const int32_t *)(r + 1);
    for (int64_t b = 0; b < a->lens.shape[0]; b++)
    {
        ((int32_t *)a->lens.data)[b] = b < r->requests ? pair[2 * b] : 0;
        ((int32_t *)a->q_lens.data)[b] = b < r->requests ? pair[2 * b + 1] : 0;
        if (a->rejected.data)
            ((int32_t *)a->rejected.data)[b] = 0;
    }
}

/* What the record of this turn says, if there is one. */
static void take_record(const ARGS *a, struct rfn_fault *seen)
{
    int64_t *turn = a->turn.data, at = turn[0] & (a->records.shape[0] - 1);
    const struct rfn_step_record *r =
        (const void *)((const int32_t *)a->records.data + at * a->records.stride[0]);
    if (__atomic_load_n(&r->turn, __ATOMIC_ACQUIRE) == turn[0])
    {
        *(int32_t *)a->requests.data = r->requests;
        if (a->advance.data)
            *(int32_t *)a->advance.data = r->advance;
        if (r->lengths)
            change_lengths(a, r);
        change_table(a, r, seen);
    }
    turn[0]++;
    __atomic_store_n((int64_t *)a->taken.data, turn[0], __ATOMIC_RELEASE);
}

/* A few thousand rows at most: one thread has done them before others are awake. */
static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    struct rfn_fault seen = { 0 }, *note = env->fault ? &seen : NULL;
    if (a->records.data)
        take_record(a, note);
    int64_t R = a->lens.shape[0], n = a->next_n;
    int64_t requests = rfn_live_rows(&a->requests, R);
    int advance = a->advance.data && *(const int32_t *)a->advance.data != 0;
    for (int64_t b = 0; b < requests; b++)
        update_request(a, b, advance, note);
    for (int64_t t = requests * n; t < R * n; t++)
        put(a, t, -1, 0, -1);
    *(int32_t *)a->live.data = (int32_t)(requests * n);
    const struct rfn_bound_set made_for = rfn_bounds_of_step(a);
    if (a->bounds.data)
        memcpy(a->bounds.data, made_for.field, sizeof made_for.field);
    rfn_fault_merge(env->fault, &seen);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t R = a->lens.shape[0], T = a->request.shape[0];
    int64_t record =
        a->records.data ? (int64_t)sizeof(struct rfn_step_record) + 8 * R : 0;
    return (struct rfn_cost) {
        .bytes_read = 8 * R + 4 * T + 4 + (a->advance.data ? 4 : 0) +
                      (a->rejected.data ? 4 * R : 0) + record,
        .bytes_written = 16 * T + 4 + (a->advance.data ? 4 * R : 0) +
                         (a->rejected.data ? 4 * R : 0) + record,
    };
}

const struct rfn_op rfn_op_step_update = {
    .name = "step_update",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_step_update_cuda,
#endif
    .cost = cost,
};
