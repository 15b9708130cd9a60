/* split_lists and prefix_lists written plainly, with one mistake in each instance. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <string.h>

#define BUGS(X)                                                                          \
    X(right)                                                                             \
    X(idle_counts_in_the_maxima)                                                         \
    X(idle_counts_in_the_cached_maximum)                                                 \
    X(idle_has_tiles)                                                                    \
    X(negative_query_counts)                                                             \
    X(requests_ignored)                                                                  \
    X(last_request_dropped)                                                              \
    X(starts_not_subtracted)                                                             \
    X(start_that_goes_down_is_positive)                                                  \
    X(start_not_reported)                                                                \
    X(difference_in_32_bits)                                                             \
    X(negative_prefill_kept)                                                             \
    X(negative_prefill_not_reported)                                                     \
    X(negative_cached_kept)                                                              \
    X(negative_cached_not_reported)                                                      \
    X(context_wraps)                                                                     \
    X(context_not_reported)                                                              \
    X(context_without_this_step)                                                         \
    X(maxima_not_written)                                                                \
    X(maximum_of_the_last_request)                                                       \
    X(decode_cached_of_all)                                                              \
    X(cached_context_of_all)                                                             \
    X(prefilling_is_in_the_decoder_list)                                                 \
    X(first_tokens_are_not_decoded)                                                      \
    X(part_of_a_tile_dropped)                                                            \
    X(one_tile_more)                                                                     \
    X(tiles_begin_at_1)                                                                  \
    X(tiles_before_requests)                                                             \
    X(group_left_out)                                                                    \
    X(rows_in_32_bits)                                                                   \
    X(rows_of_the_longest)                                                               \
    X(encoder_takes_the_query)                                                           \
    X(kv_without_the_page_begun)                                                         \
    X(kv_of_the_whole_context)                                                           \
    X(kv_tile_of_64)                                                                     \
    X(largest_of_ties_chosen)                                                            \
    X(smallest_never_chosen)                                                             \
    X(largest_never_chosen)                                                              \
    X(full_wave_is_empty)                                                                \
    X(prefilling_counts_in_the_choice)                                                   \
    X(choice_in_pages_of_64)                                                             \
    X(given_size_ignored)                                                                \
    X(tail_left)                                                                         \
    X(tail_is_0)                                                                         \
    X(one_pair_past_the_room)                                                            \
    X(count_is_what_is_due)                                                              \
    X(count_is_the_room)                                                                 \
    X(counts_only_the_first_list)                                                        \
    X(missing_left)                                                                      \
    X(missing_of_the_last_list)                                                          \
    X(shortage_not_reported)                                                             \
    X(list_that_is_not_given_counts)

#define PREFIX_BUGS(X)                                                                   \
    X(right)                                                                             \
    X(idle_adds_its_prefix)                                                              \
    X(idle_has_tiles)                                                                    \
    X(negative_query_takes_keys_away)                                                    \
    X(requests_ignored)                                                                  \
    X(last_request_dropped)                                                              \
    X(starts_not_subtracted)                                                             \
    X(start_not_reported)                                                                \
    X(negative_cached_kept)                                                              \
    X(negative_cached_not_reported)                                                      \
    X(context_wraps)                                                                     \
    X(context_not_reported)                                                              \
    X(keys_without_this_step)                                                            \
    X(keys_without_the_prefix)                                                           \
    X(keys_wrap)                                                                         \
    X(bound_ignored)                                                                     \
    X(bound_not_reported)                                                                \
    X(starts_without_the_0)                                                              \
    X(last_start_left)                                                                   \
    X(starts_of_dead_requests_left)                                                      \
    X(starts_of_dead_requests_are_0)                                                     \
    X(tiles_of_the_context)                                                              \
    X(part_of_a_tile_dropped)                                                            \
    X(one_tile_more)                                                                     \
    X(tile_of_64)                                                                        \
    X(tail_left)                                                                         \
    X(tail_is_0)                                                                         \
    X(one_pair_past_the_room)                                                            \
    X(count_is_what_is_due)                                                              \
    X(missing_left)                                                                      \
    X(shortage_not_reported)                                                             \
    X(total_not_written)

enum bug
{
#define X(name) split_##name,
    BUGS(X)
#undef X
#define X(name) prefix_##name,
    PREFIX_BUGS(X)
#undef X
};

/* In both ops; in one. */
#define EITHER(name) (bug == split_##name || bug == prefix_##name)
#define IS(name) (bug == split_##name)
#define PREFIX_IS(name) (bug == prefix_##name)

struct given
{
    const char *op;
    const int32_t *q_lens, *q_starts, *prefill, *cached;
    struct rfn_fault *fault;
};

struct request
{
    int64_t q, prefill, cached, context;
    int idle;
};

static void note(const struct given *g, const char *operand, int64_t row, int64_t value)
{
    if (!g->fault)
        return;
    int64_t count = g->fault->count + 1;
    if (!g->fault->op || row < g->fault->row)
        *g->fault = (struct rfn_fault) { g->op, operand, row, 0, value, 0 };
    g->fault->count = count;
}

static struct request request_of(const struct given *g, int64_t b, int tell, enum bug bug)
{
    struct request r = { 0, g->prefill ? g->prefill[b] : 0, g->cached[b], 0, 0 };
    if (g->q_lens)
        r.q = g->q_lens[b];
    else if (EITHER(starts_not_subtracted))
        r.q = g->q_starts[b + 1];
    else
        r.q = (int64_t)g->q_starts[b + 1] - g->q_starts[b];
    if (IS(difference_in_32_bits))
        r.q = (int32_t)(uint32_t)r.q;
    if (tell && g->q_starts && r.q < 0 && !EITHER(start_not_reported))
        note(g, "q_starts", b, g->q_starts[b + 1]);
    if (IS(start_that_goes_down_is_positive) && g->q_starts && r.q < 0)
        r.q = -r.q;
    r.idle = r.q <= 0 && !(IS(negative_query_counts) && r.q < 0);
    if (r.idle)
        return r;
    if (tell && r.prefill < 0 && !IS(negative_prefill_not_reported))
        note(g, "prefill", b, r.prefill);
    int negative = r.cached<0, far = r.cached + r.q> INT32_MAX;
    if (tell && ((negative && !EITHER(negative_cached_not_reported)) ||
                 (far && !EITHER(context_not_reported))))
        note(g, "cached", b, r.cached);
    r.prefill = r.prefill < 0 && !IS(negative_prefill_kept) ? 0 : r.prefill;
    r.cached = r.cached < 0 && !EITHER(negative_cached_kept) ? 0 : r.cached;
    r.q = r.q > INT32_MAX ? INT32_MAX : r.q;
    r.context = r.cached + (IS(context_without_this_step) ? 0 : r.q);
    if (EITHER(context_wraps))
        r.context = (int32_t)(uint32_t)r.context;
    r.context = r.context > INT32_MAX ? INT32_MAX : r.context;
    return r;
}

static int64_t live_of(const struct rfn_tensor *requests, int64_t R, enum bug bug)
{
    int64_t n =
        requests->data && !EITHER(requests_ignored) ? *(int32_t *)requests->data : R;
    n = n < 0 ? 0 : n > R ? R : n;
    return n - (EITHER(last_request_dropped) && n > 0);
}

static int64_t divide(int64_t n, int64_t size, enum bug bug)
{
    if (EITHER(part_of_a_tile_dropped))
        return n / size;
    return (n + size - 1) / size + EITHER(one_tile_more);
}

/* ---- split_lists --------------------------------------------------------------------- */

static int64_t due_of(const struct rfn_split_lists_args *a, const struct request *r,
                      int i, int64_t keys, enum bug bug)
{
    int64_t group = IS(group_left_out) ? 1 : a->group;
    int64_t kv_keys = IS(kv_tile_of_64) ? 64 : a->kv_keys, rows, n = 0;
    if (r->idle && !IS(idle_has_tiles))
        return 0;
    if (i == 0 && (r->prefill == 0 || IS(prefilling_is_in_the_decoder_list)))
    {
        if (IS(first_tokens_are_not_decoded) && r->cached == 0)
            return 0;
        rows = r->q * group;
        if (IS(rows_in_32_bits))
            rows = (uint32_t)rows;
        n = a->decoder_rows ? divide(rows, a->decoder_rows, bug)
                            : divide(r->context, keys, bug);
    }
    else if (i == 1 && r->prefill)
    {
        rows = (IS(encoder_takes_the_query) ? r->q : r->prefill) * group;
        if (IS(rows_in_32_bits))
            rows = (uint32_t)rows;
        n = divide(rows, a->encoder_rows, bug);
    }
    else if (i == 2 && r->prefill)
    {
        int64_t begun = IS(kv_without_the_page_begun) ? 0
                        : IS(kv_of_the_whole_context) ? r->cached
                                                      : r->cached % kv_keys;
        n = divide(begun + r->prefill, kv_keys, bug);
    }
    return n < 0 ? 0 : n;
}

static int64_t choose(const struct rfn_split_lists_args *a, const struct given *g,
                      int64_t live, enum bug bug)
{
    int64_t base = IS(choice_in_pages_of_64) ? 64 : a->kv_keys, most = 0, best = base;
    if (!a->decoder.data || a->decoder_rows)
        return 0;
    if (a->decoder_keys && !IS(given_size_ignored))
        return a->decoder_keys;
    if (a->decoder_keys)
        return 64;
    for (int i = IS(smallest_never_chosen); i < 12 - IS(largest_never_chosen); i++)
    {
        int64_t n = 0, wave;
        for (int64_t b = 0; b < live; b++)
        {
            struct request r = request_of(g, b, 0, bug);
            if (!r.idle && (!r.prefill || IS(prefilling_counts_in_the_choice)))
                n += (r.context + (base << i) - 1) / (base << i);
        }
        wave = n % a->sm_count;
        if (wave == 0 && n && !IS(full_wave_is_empty))
            wave = a->sm_count;
        if (wave > most || (wave == most && wave && IS(largest_of_ties_chosen)))
        {
            most = wave;
            best = base << i;
        }
    }
    return best;
}

static void raise_to(int32_t *max, int64_t x, enum bug bug)
{
    if (x > *max || IS(maximum_of_the_last_request))
        *max = (int32_t)x;
}

static void maxima(const struct request *r, int32_t *m, enum bug bug)
{
    if (r->idle && IS(idle_counts_in_the_cached_maximum))
        raise_to(&m[2], r->cached, bug);
    if (r->idle && !IS(idle_counts_in_the_maxima))
        return;
    raise_to(&m[0], r->q, bug);
    raise_to(&m[1], r->prefill, bug);
    raise_to(&m[2], r->cached, bug);
    raise_to(&m[3], r->context, bug);
    if (r->prefill == 0 || IS(decode_cached_of_all))
        raise_to(&m[4], r->cached, bug);
    if (r->cached > 0 || IS(cached_context_of_all))
        raise_to(&m[5], r->context, bug);
}

/* A list of what `due` says; the pairs that are due. */
static int64_t put_list(const struct rfn_tensor *list, int64_t live, const int64_t *due,
                        enum bug bug)
{
    int64_t room = list->data ? list->shape[0] : 0, at = 0, most = 0;
    int32_t *pair = list->data;
    for (int64_t b = 0; b < live; b++)
        most = due[b] > most ? due[b] : most;
    /* Of what would be very long only the beginning. */
    for (int64_t b = 0; b < live; b++)
    {
        int64_t tiles = IS(rows_of_the_longest) ? most : due[b];
        for (int64_t i = 0; i < tiles && at + i < room + EITHER(one_pair_past_the_room);
             i++)
        {
            if (!pair)
                break;
            pair[2 * (at + i)] = (int32_t)b;
            pair[2 * (at + i) + 1] = (int32_t)(i + IS(tiles_begin_at_1));
        }
        at += tiles;
    }
    if (IS(tiles_before_requests) && at < room)
    {
        int64_t p = 0;
        for (int64_t i = 0; i < most; i++)
            for (int64_t b = 0; b < live; b++)
                if (i < due[b])
                {
                    pair[2 * p] = (int32_t)b;
                    pair[2 * p++ + 1] = (int32_t)i;
                }
    }
    for (int64_t p = at; p < room && !EITHER(tail_left); p++)
        pair[2 * p] = pair[2 * p + 1] = EITHER(tail_is_0) ? 0 : -1;
    return at;
}

#define REQUESTS_MAX 5000
static int64_t dues[REQUESTS_MAX];

static void split_twin(const struct rfn_split_lists_args *a, struct rfn_fault *fault,
                       enum bug bug)
{
    static const char *const name[] = { "decoder", "encoder", "kv" };
    const struct rfn_tensor *list[] = { &a->decoder, &a->encoder, &a->kv };
    struct given g = { "split_lists",   a->q_lens.data, a->q_starts.data,
                       a->prefill.data, a->cached.data, fault };
    int64_t live = live_of(&a->requests, a->cached.shape[0], bug), missing = 0;
    int64_t keys = choose(a, &g, live, bug);
    int32_t *counts = a->counts.data, m[6] = { 0 };
    for (int64_t b = 0; b < live; b++)
    {
        struct request r = request_of(&g, b, 1, bug);
        maxima(&r, m, bug);
    }
    if (!IS(maxima_not_written))
        memcpy(a->maxima.data, m, sizeof m);
    for (int i = 0; i < 3; i++)
    {
        int given = list[i]->data || IS(list_that_is_not_given_counts);
        int64_t room = list[i]->data ? list[i]->shape[0] : 0;
        for (int64_t b = 0; b < live; b++)
        {
            struct request r = request_of(&g, b, 0, bug);
            dues[b] = given ? due_of(a, &r, i, keys ? keys : 64, bug) : 0;
        }
        int64_t due = put_list(list[i], live, dues, bug);
        int64_t fits = due < room ? due : room;
        if (due > room && !IS(shortage_not_reported))
            note(&g, name[i], due, room);
        missing = (IS(missing_of_the_last_list) ? 0 : missing) + due - fits;
        if (IS(count_is_what_is_due))
            fits = due;
        if (IS(count_is_the_room))
            fits = room;
        if (!IS(counts_only_the_first_list) || i == 0)
            counts[i] = (int32_t)fits;
    }
    counts[3] = (int32_t)keys;
    if (!IS(missing_left))
        counts[4] = missing > INT32_MAX ? INT32_MAX : (int32_t)missing;
}

#define X(name)                                                                          \
    static void split_twin_##name(const void *args, const struct rfn_host_env *env)      \
    {                                                                                    \
        split_twin(args, env->fault, split_##name);                                      \
    }
BUGS(X)
#undef X

const struct ck_broken ck_broken_split_lists[] = {
#define X(name) { &rfn_op_split_lists, #name, split_twin_##name },
    BUGS(X)
#undef X
};
const int ck_broken_split_lists_count = CK_COUNT(ck_broken_split_lists);

/* ---- prefix_lists -------------------------------------------------------------------- */

static void prefix_twin(const struct rfn_prefix_lists_args *a, struct rfn_fault *fault,
                        enum bug bug)
{
    struct given g = { "prefix_lists", a->q_lens.data, a->q_starts.data,
                       NULL,           a->cached.data, fault };
    int64_t R = a->cached.shape[0], live = live_of(&a->requests, R, bug), keys = 0;
    int64_t most = a->keys_most ? a->keys_most : INT32_MAX;
    int64_t size = PREFIX_IS(tile_of_64) ? 64 : a->prefix_keys, stop;
    int32_t *starts = a->key_starts.data, *counts = a->counts.data;
    for (int64_t b = 0; b < live; b++)
    {
        struct request r = request_of(&g, b, 1, bug);
        int idle = r.idle && !PREFIX_IS(idle_has_tiles);
        int64_t n = PREFIX_IS(tiles_of_the_context) ? r.context : r.cached;
        dues[b] = idle || !a->tiles.data || n < 0 ? 0 : divide(n, size, bug);
        int64_t at = PREFIX_IS(keys_wrap) ? (int32_t)(uint32_t)keys : keys;
        int64_t add = r.context;
        if (PREFIX_IS(keys_without_this_step))
            add -= r.q;
        if (PREFIX_IS(keys_without_the_prefix))
            add -= r.cached;
        if (r.idle)
            add = PREFIX_IS(idle_adds_its_prefix)             ? r.cached
                  : PREFIX_IS(negative_query_takes_keys_away) ? r.q
                                                              : 0;
        keys += add;
        if (PREFIX_IS(starts_without_the_0))
            at = keys;
        stop = at > most && !PREFIX_IS(bound_ignored) ? most : at;
        starts[b] = (int32_t)(uint32_t)stop;
    }
    if (keys > most && !PREFIX_IS(bound_not_reported))
        note(&g, "key_starts", keys, most);
    stop = keys > most && !PREFIX_IS(bound_ignored) ? most : keys;
    if (PREFIX_IS(keys_wrap))
        stop = (int32_t)(uint32_t)keys;
    for (int64_t b = live; b <= R - PREFIX_IS(last_start_left); b++)
        if (b == live || !PREFIX_IS(starts_of_dead_requests_left))
            starts[b] = b > live && PREFIX_IS(starts_of_dead_requests_are_0)
                            ? 0
                            : (int32_t)(uint32_t)stop;
    int64_t room = a->tiles.data ? a->tiles.shape[0] : 0;
    int64_t due = put_list(&a->tiles, live, dues, bug), fits = due < room ? due : room;
    if (due > room && !PREFIX_IS(shortage_not_reported))
        note(&g, "tiles", due, room);
    counts[0] = (int32_t)(PREFIX_IS(count_is_what_is_due) ? due : fits);
    if (!PREFIX_IS(total_not_written))
        counts[1] = (int32_t)(uint32_t)stop;
    if (!PREFIX_IS(missing_left))
        counts[2] = due - fits > INT32_MAX ? INT32_MAX : (int32_t)(due - fits);
}

#define X(name)                                                                          \
    static void prefix_twin_##name(const void *args, const struct rfn_host_env *env)     \
    {                                                                                    \
        prefix_twin(args, env->fault, prefix_##name);                                    \
    }
PREFIX_BUGS(X)
#undef X

const struct ck_broken ck_broken_prefix_lists[] = {
#define X(name) { &rfn_op_prefix_lists, #name, prefix_twin_##name },
    PREFIX_BUGS(X)
#undef X
};
const int ck_broken_prefix_lists_count = CK_COUNT(ck_broken_prefix_lists);
