/* index_topk: exactly the K largest scores of each row, by a radix select on keys. */
#include "kernels/bounds.h"
#include "kernels/num.h"
#include "kernels/op.h"
#include "kernels/parallel.h"

#define K_MAX 2048
#define BIN_BITS 11 /* 11 + 11 + 10 bits of a key */
#define BINS (1 << BIN_BITS)
#define HISTOGRAMS 4 /* columns s mod 4: equal keys do not wait for each other's count */
#define BLOCK 64     /* columns whose keys are made at once */

#define ARGS struct rfn_index_topk_args
#define I32 RFN_DTYPE_BIT(RFN_I32)

static const struct rfn_operand operands[] = {
    { "logits", offsetof(ARGS, logits), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_F32), "T,S", 4 },
    { "lens", offsetof(ARGS, lens), RFN_OPERAND_TENSOR, RFN_READ, 0, I32, "T", 0 },
    { "live", offsetof(ARGS, live), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "1", 0 },
    { "table", offsetof(ARGS, table), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "R,W", 0 },
    { "request", offsetof(ARGS, request), RFN_OPERAND_TENSOR, RFN_READ, 1, I32, "T", 0 },
    { "slots", offsetof(ARGS, slots), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I32, "T,K", 0 },
    { "positions", offsetof(ARGS, positions), RFN_OPERAND_TENSOR, RFN_WRITE, 1, I32,
      "T,K", 0 },
    { "bounds", offsetof(ARGS, bounds.header), RFN_OPERAND_TENSOR, RFN_READ, 1,
      RFN_DTYPE_BIT(RFN_I64), "8", 0 },
};

static const struct rfn_scalar scalars[] = {
    { "page_tokens", offsetof(ARGS, page_tokens), sizeof(int32_t), 0 },
    { "pages", offsetof(ARGS, pages), sizeof(int64_t), 0 },
    { "bounds.rows", offsetof(ARGS, bounds.rows), sizeof(int64_t), 0 },
    { "bounds.next_n", offsetof(ARGS, bounds.next_n), sizeof(int32_t), 0 },
};

static int64_t width(const ARGS *a)
{
    return a->slots.data ? a->slots.shape[1] : a->positions.shape[1];
}

static enum rfn_status check(const void *v)
{
    const ARGS *a = v;
    if (a->logits.shape[0] == 0)
        return RFN_OK; /* no rows: the outputs may have no address */
    enum rfn_status status = rfn_bounds_check(&a->bounds, a->logits.shape[0]);
    if (status != RFN_OK)
        return status;
    if (!a->slots.data && !a->positions.data)
        return RFN_FAIL(RFN_INVALID, "slots, positions: neither is given, one is needed");
    if (width(a) < 1)
        return RFN_FAIL(RFN_INVALID, "K = %lld, below 1", (long long)width(a));
    if (width(a) > K_MAX)
        return RFN_FAIL(RFN_LIMIT, "K = %lld, and %d is the most", (long long)width(a),
                        K_MAX);
    if (a->logits.shape[1] > INT32_MAX)
        return RFN_FAIL(RFN_INVALID, "logits: S = %lld, but positions are i32, up to %d",
                        (long long)a->logits.shape[1], INT32_MAX);
    if (!a->slots.data)
        return RFN_OK;
    if (!a->table.data || !a->request.data)
        return RFN_FAIL(RFN_INVALID, "%s: not given, but slots need it",
                        a->table.data ? "request" : "table");
    if (a->page_tokens < 1 || a->pages < 1)
        return RFN_FAIL(RFN_INVALID, "page_tokens = %d and pages = %lld, below 1",
                        a->page_tokens, (long long)a->pages);
    if (a->pages > ((int64_t)INT32_MAX + 1) / a->page_tokens)
        return RFN_FAIL(RFN_INVALID,
                        "pages = %lld of %d tokens, but slots are i32, up to %d",
                        (long long)a->pages, a->page_tokens, INT32_MAX);
    return RFN_OK;
}

/* Order-preserving: NaN < -inf < ... < -0 == +0 < ... < +inf, as signed integers. */
static inline int32_t key_of(float x)
{
    x += 0.0f; /* -0 becomes +0 */
    int32_t b;
    memcpy(&b, &x, sizeof b);
    int32_t key = b ^ (int32_t)((uint32_t)(b >> 31) >> 1);
    return x != x ? INT32_MIN : key;
}

static inline uint32_t rank_of(int32_t key)
{
    return (uint32_t)key ^ 0x80000000u;
}

/* What is known of the threshold: keys whose top bits are above `prefix` are chosen, `need`
 * more come from those that share it. */
struct threshold
{
    uint32_t prefix; /* a rank, low bits 0 */
    int low_bits;    /* bits that are still open */
    int64_t need;
};

static void count_all(const float *x, int64_t n, uint32_t (*bin)[BINS])
{
    int64_t s = 0;
    for (; s + HISTOGRAMS <= n; s += HISTOGRAMS)
        for (int i = 0; i < HISTOGRAMS; i++)
            bin[i][rank_of(key_of(x[s + i])) >> (32 - BIN_BITS)]++;
    for (; s < n; s++)
        bin[0][rank_of(key_of(x[s])) >> (32 - BIN_BITS)]++;
}

/* Counts the next bits of those columns that share the prefix. Most blocks have none. */
static void count_prefix(const float *x, int64_t n, const struct threshold *at, int bits,
                         uint32_t (*bin)[BINS])
{
    uint32_t mask = (1u << bits) - 1;
    int shift = at->low_bits - bits;
    for (int64_t s = 0; s < n; s += BLOCK)
    {
        uint32_t rank[BLOCK], any = 0;
        int m = n - s < BLOCK ? (int)(n - s) : BLOCK;
#pragma omp simd reduction(| : any)
        for (int i = 0; i < m; i++)
        {
            rank[i] = rank_of(key_of(x[s + i]));
            any |= (rank[i] ^ at->prefix) >> at->low_bits == 0;
        }
        for (int i = 0; any && i < m; i++)
            if ((rank[i] ^ at->prefix) >> at->low_bits == 0)
                bin[i % HISTOGRAMS][rank[i] >> shift & mask]++;
    }
}

/* Walks the bins from the top to the one that holds the need-th key. Returns how many keys
 * that bin has. */
static int64_t descend(struct threshold *at, int bits, uint32_t (*bin)[BINS])
{
    at->low_bits -= bits;
    for (uint32_t b = (1u << bits) - 1;; b--)
    {
        int64_t keys = 0;
        for (int i = 0; i < HISTOGRAMS; i++)
            keys += bin[i][b];
        if (keys >= at->need || b == 0)
        {
            at->prefix |= b << at->low_bits;
            return keys;
        }
        at->need -= keys;
    }
}

static struct threshold find_threshold(const float *x, int64_t n, int64_t k)
{
    static const int bits[3] = { BIN_BITS, BIN_BITS, 32 - 2 * BIN_BITS };
    struct threshold at = { 0, 32, k };
    for (int pass = 0; pass < 3; pass++)
    {
        uint32_t bin[HISTOGRAMS][BINS];
        memset(bin, 0, sizeof bin);
        if (pass == 0)
            count_all(x, n, bin);
        else
            count_prefix(x, n, &at, bits[pass], bin);
        int64_t keys = descend(&at, bits[pass], bin);
        if (keys == at.need)
            break; /* the whole bin is chosen */
    }
    return at;
}

/* Positions of the k largest, ascending; of those at the threshold the first `need`. */
static void emit(const float *x, int64_t n, struct threshold at, int32_t *ret)
{
    int32_t least = (int32_t)(at.prefix ^ 0x80000000u);
    int64_t at_most = (int64_t)at.prefix + ((int64_t)1 << at.low_bits) - 1;
    for (int64_t s = 0; s < n; s += BLOCK)
    {
        int32_t key[BLOCK], any = 0;
        int m = n - s < BLOCK ? (int)(n - s) : BLOCK;
#pragma omp simd reduction(| : any)
        for (int i = 0; i < m; i++)
        {
            key[i] = key_of(x[s + i]);
            any |= key[i] >= least;
        }
        for (int i = 0; any && i < m; i++)
        {
            if (key[i] < least)
                continue;
            int above = (int64_t)rank_of(key[i]) > at_most;
            if (!above && at.need == 0)
                continue;
            at.need -= !above;
            *ret++ = (int32_t)(s + i);
        }
    }
}

/* Physical slots of one row's positions; -1 where the table or a page is out of bounds. */
static void translate(const ARGS *a, int64_t t, const int32_t *position, int64_t chosen,
                      int32_t *ret, struct rfn_fault *seen)
{
    int64_t r = ((const int32_t *)a->request.data)[t], R = a->table.shape[0];
    int64_t W = a->table.shape[1], P = a->page_tokens;
    int known = r >= 0 && r < R;
    if (!known && chosen)
        rfn_fault_note(seen, "index_topk", "request", t, 0, r);
    const int32_t *table = (const int32_t *)a->table.data;
    table += known ? r * a->table.stride[0] : 0;
    for (int64_t k = 0; k < chosen; k++)
    {
        int64_t w = position[k] / P;
        ret[k] = -1;
        if (!known)
            continue;
        if (w >= W)
            rfn_fault_note(seen, "index_topk", "table", t, w, w);
        else if (table[w] < 0 || table[w] >= a->pages)
            rfn_fault_note(seen, "index_topk", "table", t, w, table[w]);
        else
            ret[k] = (int32_t)(table[w] * P + position[k] % P);
    }
}

static void select_row(const ARGS *a, int64_t t, struct rfn_fault *seen)
{
    int64_t S = a->logits.shape[1], K = width(a), L = ((const int32_t *)a->lens.data)[t];
    L = L < 0 ? 0 : L > S ? S : L;
    int64_t chosen = L < K ? L : K;
    const float *x = (const float *)a->logits.data + t * a->logits.stride[0];

    int32_t position[K_MAX];
    if (L <= K)
        for (int32_t s = 0; s < L; s++)
            position[s] = s;
    else
        emit(x, L, find_threshold(x, L, K), position);

    if (a->positions.data)
    {
        int32_t *out = (int32_t *)a->positions.data + t * a->positions.stride[0];
        memcpy(out, position, (size_t)chosen * sizeof *out);
        for (int64_t k = chosen; k < K; k++)
            out[k] = -1;
    }
    if (a->slots.data)
    {
        int32_t *out = (int32_t *)a->slots.data + t * a->slots.stride[0];
        translate(a, t, position, chosen, out, seen);
        for (int64_t k = chosen; k < K; k++)
            out[k] = -1;
    }
}

struct run
{
    const ARGS *a;
    struct rfn_fault *note;
};

static void select_one(void *ctx, int64_t t)
{
    const struct run *r = ctx;
    select_row(r->a, t, r->note);
}

static void host(const void *v, const struct rfn_host_env *env)
{
    const ARGS *a = v;
    const struct rfn_bound_set own = rfn_bounds_of_topk(a);
    if (!rfn_bounds_hold(&a->bounds, &own, "index_topk", env->fault))
        return;
    struct rfn_fault seen = { 0 };
    struct run r = { a, env->fault ? &seen : NULL };
    rfn_parallel(env->threads, rfn_live_rows(&a->live, a->logits.shape[0]), select_one,
                 &r);
    rfn_fault_merge(env->fault, &seen);
}

static struct rfn_cost cost(const void *v)
{
    const ARGS *a = v;
    int64_t T = a->logits.shape[0], S = a->logits.shape[1], K = width(a);
    int outputs = (a->slots.data != NULL) + (a->positions.data != NULL);
    return (struct rfn_cost) {
        .bytes_read = 4 * T * S + 4 * T * (a->slots.data ? 2 : 1),
        .bytes_written = 4 * T * K * outputs,
    };
}

const struct rfn_op rfn_op_index_topk = {
    .name = "index_topk",
    .args_bytes = sizeof(ARGS),
    .operand = operands,
    .operands = RFN_COUNT(operands),
    .scalar = scalars,
    .scalars = RFN_COUNT(scalars),
    .check = check,
    .host = host,
#if RFN_CUDA
    .cuda = rfn_index_topk_cuda,
#endif
    .cost = cost,
};
