/* References of split_lists and prefix_lists: a tile at a time, from the contract. */
#include "tests/checkop/reference.h"

#include <stdlib.h>
#include <string.h>

struct one
{
    int64_t q, prefill, cached; /* as they are given; q <= 0: idle */
};

/* Of equal rows the first stays, else that of the smallest row. */
static void bad(struct rfn_fault *fault, const char *op, const char *operand, int64_t row,
                int64_t value)
{
    int64_t count = fault->count + 1;
    if (!fault->op || row < fault->row)
        *fault = (struct rfn_fault) { op, operand, row, 0, value, 0 };
    fault->count = count;
}

static int64_t requests_of(const struct rfn_tensor *requests, int64_t R)
{
    int64_t n = requests->data ? *(int32_t *)requests->data : R;
    return n < 0 ? 0 : n > R ? R : n;
}

static struct one one_of(const struct rfn_tensor *q_lens,
                         const struct rfn_tensor *q_starts,
                         const struct rfn_tensor *prefill,
                         const struct rfn_tensor *cached, int64_t b)
{
    const int32_t *starts = q_starts->data;
    struct one r = { 0, 0, ((int32_t *)cached->data)[b] };
    if (q_lens->data)
        r.q = ((int32_t *)q_lens->data)[b];
    else
        r.q = (int64_t)starts[b + 1] - starts[b];
    if (prefill && prefill->data)
        r.prefill = ((int32_t *)prefill->data)[b];
    return r;
}

/* Reports what is wrong and makes it good; 0: idle. */
static int make_good(struct one *r, const char *op, const struct rfn_tensor *q_starts,
                     int64_t b, struct rfn_fault *fault)
{
    if (r->q < 0 && q_starts->data)
        bad(fault, op, "q_starts", b, ((int32_t *)q_starts->data)[b + 1]);
    if (r->q <= 0)
        return 0;
    if (r->prefill < 0)
        bad(fault, op, "prefill", b, r->prefill);
    if (r->cached < 0 || r->cached + r->q > INT32_MAX)
        bad(fault, op, "cached", b, r->cached);
    if (r->prefill < 0)
        r->prefill = 0;
    if (r->cached < 0)
        r->cached = 0;
    if (r->q > INT32_MAX)
        r->q = INT32_MAX;
    return 1;
}

static int64_t context_of(const struct one *r)
{
    return r->q + r->cached > INT32_MAX ? INT32_MAX : r->q + r->cached;
}

static int64_t parts(int64_t n, int64_t size)
{
    return n / size + (n % size != 0);
}

/* What list i (decoder, encoder, kv) divides, and into pieces of how much. */
static int64_t tiles_of(const struct rfn_split_lists_args *a, const struct one *r, int i,
                        int64_t keys)
{
    if (i == 0 && r->prefill == 0)
        return a->decoder_rows ? parts(r->q * a->group, a->decoder_rows)
                               : parts(context_of(r), keys);
    if (i == 1 && r->prefill > 0)
        return parts(r->prefill * a->group, a->encoder_rows);
    if (i == 2 && r->prefill > 0)
        return parts(r->cached % a->kv_keys + r->prefill, a->kv_keys);
    return 0;
}

/* Tiles of all decoding requests that begin in the last wave, for a size. */
static int64_t last_wave(const struct rfn_split_lists_args *a, int64_t keys)
{
    struct rfn_fault ignored = { 0 };
    int64_t n = 0, requests = requests_of(&a->requests, a->cached.shape[0]);
    for (int64_t b = 0; b < requests; b++)
    {
        struct one r = one_of(&a->q_lens, &a->q_starts, &a->prefill, &a->cached, b);
        if (make_good(&r, "", &a->q_starts, b, &ignored) && !r.prefill)
            n += parts(context_of(&r), keys);
    }
    return n % a->sm_count == 0 && n > 0 ? a->sm_count : n % a->sm_count;
}

int64_t ref_split_keys(const struct rfn_split_lists_args *a)
{
    int64_t best = a->kv_keys;
    if (!a->decoder.data || a->decoder_rows)
        return 0;
    if (a->decoder_keys)
        return a->decoder_keys;
    for (int64_t i = 1; i <= 11; i++)
        if (last_wave(a, (int64_t)a->kv_keys << i) > last_wave(a, best))
            best = (int64_t)a->kv_keys << i;
    return best;
}

static void put(const struct rfn_tensor *list, int64_t at, int64_t request, int64_t tile)
{
    if (at >= list->shape[0])
        return;
    ((int32_t *)list->data)[2 * at] = (int32_t)request;
    ((int32_t *)list->data)[2 * at + 1] = (int32_t)tile;
}

void ref_split_due(const struct rfn_split_lists_args *a, int64_t due[3])
{
    struct rfn_fault ignored = { 0 };
    int64_t keys = ref_split_keys(a), R = requests_of(&a->requests, a->cached.shape[0]);
    const void *given[] = { a->decoder.data, a->encoder.data, a->kv.data };
    memset(due, 0, 3 * sizeof *due);
    for (int64_t b = 0; b < R; b++)
    {
        struct one r = one_of(&a->q_lens, &a->q_starts, &a->prefill, &a->cached, b);
        if (make_good(&r, "", &a->q_starts, b, &ignored))
            for (int i = 0; i < 3; i++)
                due[i] += given[i] ? tiles_of(a, &r, i, keys) : 0;
    }
}

static void raise_to(int32_t *max, int64_t x)
{
    if (x > *max)
        *max = (int32_t)x;
}

void ref_split_lists(const struct rfn_split_lists_args *a, struct rfn_fault *fault)
{
    static const char *const name[] = { "decoder", "encoder", "kv" };
    const struct rfn_tensor *list[] = { &a->decoder, &a->encoder, &a->kv };
    int64_t keys = ref_split_keys(a), missing = 0, due[3];
    int64_t R = requests_of(&a->requests, a->cached.shape[0]);
    int32_t *m = a->maxima.data, *counts = a->counts.data;
    memset(m, 0, 6 * sizeof *m);
    for (int64_t b = 0; b < R; b++)
    {
        struct one r = one_of(&a->q_lens, &a->q_starts, &a->prefill, &a->cached, b);
        if (!make_good(&r, "split_lists", &a->q_starts, b, fault))
            continue;
        raise_to(&m[0], r.q);
        raise_to(&m[1], r.prefill);
        raise_to(&m[2], r.cached);
        raise_to(&m[3], context_of(&r));
        raise_to(&m[4], r.prefill ? 0 : r.cached);
        raise_to(&m[5], r.cached ? context_of(&r) : 0);
    }
    ref_split_due(a, due);
    for (int i = 0; i < 3; i++)
    {
        struct rfn_fault ignored = { 0 };
        int64_t at = 0, room = list[i]->data ? list[i]->shape[0] : 0;
        for (int64_t b = 0; room && b < R; b++)
        {
            struct one r = one_of(&a->q_lens, &a->q_starts, &a->prefill, &a->cached, b);
            if (!make_good(&r, "", &a->q_starts, b, &ignored))
                continue;
            int64_t tiles = tiles_of(a, &r, i, keys);
            for (int64_t tile = 0; tile < tiles && at < room; tile++)
                put(list[i], at++, b, tile);
        }
        counts[i] = (int32_t)at;
        for (int64_t end = at; end < room; end++)
            put(list[i], end, -1, -1);
        if (due[i] > room)
            bad(fault, "split_lists", name[i], due[i], room);
        missing += due[i] - at;
    }
    counts[3] = (int32_t)keys;
    counts[4] = missing > INT32_MAX ? INT32_MAX : (int32_t)missing;
}

int64_t ref_prefix_due(const struct rfn_prefix_lists_args *a)
{
    struct rfn_fault ignored = { 0 };
    int64_t due = 0, R = requests_of(&a->requests, a->cached.shape[0]);
    for (int64_t b = 0; a->tiles.data && b < R; b++)
    {
        struct one r = one_of(&a->q_lens, &a->q_starts, NULL, &a->cached, b);
        if (make_good(&r, "", &a->q_starts, b, &ignored))
            due += parts(r.cached, a->prefix_keys);
    }
    return due;
}

void ref_prefix_lists(const struct rfn_prefix_lists_args *a, struct rfn_fault *fault)
{
    int64_t R = requests_of(&a->requests, a->cached.shape[0]), keys = 0, at = 0;
    int64_t most = a->keys_most ? a->keys_most : INT32_MAX;
    int64_t room = a->tiles.data ? a->tiles.shape[0] : 0, due = ref_prefix_due(a);
    int32_t *starts = a->key_starts.data, *counts = a->counts.data;
    starts[0] = 0;
    for (int64_t b = 0; b < a->cached.shape[0]; b++)
    {
        struct one r = { 0, 0, 0 };
        if (b < R)
            r = one_of(&a->q_lens, &a->q_starts, NULL, &a->cached, b);
        if (make_good(&r, "prefix_lists", &a->q_starts, b, fault))
        {
            keys += context_of(&r);
            for (int64_t tile = 0; at < room && tile < parts(r.cached, a->prefix_keys);)
                put(&a->tiles, at++, b, tile++);
        }
        starts[b + 1] = (int32_t)(keys > most ? most : keys);
    }
    counts[0] = (int32_t)at;
    counts[1] = (int32_t)(keys > most ? most : keys);
    counts[2] = (int32_t)(due - at > INT32_MAX ? INT32_MAX : due - at);
    for (; at < room; at++)
        put(&a->tiles, at, -1, -1);
    if (due > room)
        bad(fault, "prefix_lists", "tiles", due, room);
    if (keys > most)
        bad(fault, "prefix_lists", "key_starts", keys, most);
}
