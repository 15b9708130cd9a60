/* split_lists and prefix_lists: mixed, idle and padded requests, sizes given and chosen,
 * lengths that are wrong, lists that are too short. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <string.h>

#define LIST 20
#define ZERO (-1000000) /* a length of 0; 0 itself ends a list */

struct list_param
{
    int R;
    int32_t q[LIST];       /* repeated over the requests; none: random, some idle */
    int32_t prefill[LIST]; /* likewise; none: random, 0 in most */
    int32_t cached[LIST];  /* likewise */
    int starts;            /* q_starts are given */
    int32_t first;         /* of them; 0: random */
    int no_prefill;        /* prefill is not given */
    int requests;          /* 0: not given; else this - 100 */
    int keys, rows, encoder_rows, kv_keys, group, sm_count; /* 0: 0, 0, 16, 64, 8, 132 */
    int lists; /* a bit each that is given; 0: all */
    int room;  /* beyond what is due: 0: 5; else this - 100 */
    int fixed; /* not 0: the room is this - 100, whatever is due */
    int keys_most;
    int end;
};

/* -1: the list has none. */
static int64_t listed(const int32_t *list, int64_t i)
{
    int n = LIST;
    while (n > 0 && list[n - 1] == 0)
        n--;
    if (n == 0)
        return INT64_MIN;
    return list[i % n] == ZERO ? 0 : list[i % n];
}

static int32_t random_q(struct ck_case *c, int starts)
{
    int64_t kind = rng_below(&c->rng, 8);
    if (kind == 0)
        return starts ? 0 : (int32_t)-rng_below(&c->rng, 3);
    return kind == 1 ? 0 : (int32_t)rng_between(&c->rng, 1, kind == 2 ? 3000 : 4);
}

/* What the other lengths of an idle request are must not matter. */
static int32_t garbage(struct ck_case *c)
{
    return (int32_t)(uint32_t)rng_u64(&c->rng);
}

struct lens
{
    struct rfn_tensor q_lens, q_starts, prefill, cached, requests;
};

static struct lens build_lens(struct ck_case *c, const struct list_param *p)
{
    struct lens l = { .requests =
                          ck_live(c, p->requests ? p->requests - 100 : INT32_MIN) };
    int R = p->R, live = p->requests && p->requests - 100 < R ? p->requests - 100 : R;
    if (p->starts)
        l.q_starts = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R + 1, 0, 0);
    else
        l.q_lens = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R, 0, 0);
    if (!p->no_prefill)
        l.prefill = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R, 0, 0);
    l.cached = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, R, 0, 0);
    int32_t *starts = l.q_starts.data;
    if (starts)
        starts[0] = p->first ? p->first : (int32_t)rng_below(&c->rng, 50);
    for (int b = 0; b < live; b++)
    {
        int64_t q = listed(p->q, b), prefill = listed(p->prefill, b);
        int64_t cached = listed(p->cached, b);
        if (q == INT64_MIN)
            q = random_q(c, p->starts);
        if (prefill == INT64_MIN)
            prefill = rng_below(&c->rng, 3) ? 0 : rng_between(&c->rng, 1, 900);
        if (cached == INT64_MIN)
            cached = rng_below(&c->rng, 4) ? rng_below(&c->rng, 5000) : 0;
        if (starts)
            starts[b + 1] = (int32_t)(uint32_t)(starts[b] + q);
        else
            ((int32_t *)l.q_lens.data)[b] = (int32_t)q;
        if (l.prefill.data)
            ((int32_t *)l.prefill.data)[b] = q > 0 ? (int32_t)prefill : garbage(c);
        ((int32_t *)l.cached.data)[b] = q > 0 ? (int32_t)cached : garbage(c);
    }
    return l;
}

static struct rfn_tensor list_of(struct ck_case *c, const struct list_param *p,
                                 int64_t due)
{
    int64_t room = p->fixed ? p->fixed - 100 : due + (p->room ? p->room - 100 : 5);
    struct rfn_tensor list =
        ck_tensor(c, RFN_I32, CK_OUTPUT, 0, room > 0 ? room : 1, 2, 0);
    list.shape[0] = room > 0 ? room : 0;
    return list;
}

static void build_split(struct ck_case *c, const void *param)
{
    static char here; /* a list that is given, for the reference */
    const struct list_param *p = param;
    struct rfn_split_lists_args *a = &c->args.split_lists;
    struct lens l = build_lens(c, p);
    int lists = p->lists ? p->lists : 7;
    int64_t due[3];
    a->q_lens = l.q_lens;
    a->q_starts = l.q_starts;
    a->prefill = l.prefill;
    a->cached = l.cached;
    a->requests = l.requests;
    a->group = p->group ? p->group : 8;
    a->decoder_keys = p->keys;
    a->decoder_rows = p->rows;
    a->encoder_rows = p->encoder_rows ? p->encoder_rows : 16;
    a->kv_keys = p->kv_keys ? p->kv_keys : 64;
    a->sm_count = p->sm_count ? p->sm_count : 132;
    a->decoder.data = lists & 1 ? &here : NULL;
    a->encoder.data = lists & 2 ? &here : NULL;
    a->kv.data = lists & 4 ? &here : NULL;
    ref_split_due(a, due);
    if (lists & 1)
        a->decoder = list_of(c, p, due[0]);
    if (lists & 2)
        a->encoder = list_of(c, p, due[1]);
    if (lists & 4)
        a->kv = list_of(c, p, due[2]);
    a->maxima = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, RFN_SPLIT_MAXIMA, 0, 0);
    a->counts = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, RFN_SPLIT_COUNTS, 0, 0);
}

static int verify_split(struct ck_case *c, const struct rfn_fault *fault,
                        double tolerance)
{
    (void)tolerance;
    struct rfn_split_lists_args a = c->args.split_lists;
    struct rfn_fault right = { 0 };
    a.decoder.data = ck_kept(c, a.decoder.data);
    a.encoder.data = ck_kept(c, a.encoder.data);
    a.kv.data = ck_kept(c, a.kv.data);
    a.maxima.data = ck_kept(c, a.maxima.data);
    a.counts.data = ck_kept(c, a.counts.data);
    ref_split_lists(&a, &right);
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

static void build_prefix(struct ck_case *c, const void *param)
{
    static char here;
    const struct list_param *p = param;
    struct rfn_prefix_lists_args *a = &c->args.prefix_lists;
    struct lens l = build_lens(c, p);
    a->q_lens = l.q_lens;
    a->q_starts = l.q_starts;
    a->cached = l.cached;
    a->requests = l.requests;
    a->prefix_keys = p->keys ? p->keys : 64;
    a->keys_most = p->keys_most;
    a->tiles.data = &here;
    int64_t due = ref_prefix_due(a);
    a->tiles = (struct rfn_tensor) { 0 };
    if (p->lists >= 0)
        a->tiles = list_of(c, p, due);
    a->key_starts = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, p->R + 1, 0, 0);
    a->counts = ck_tensor(c, RFN_I32, CK_OUTPUT, 0, RFN_PREFIX_COUNTS, 0, 0);
}

static int verify_prefix(struct ck_case *c, const struct rfn_fault *fault,
                         double tolerance)
{
    (void)tolerance;
    struct rfn_prefix_lists_args a = c->args.prefix_lists;
    struct rfn_fault right = { 0 };
    a.tiles.data = ck_kept(c, a.tiles.data);
    a.key_starts.data = ck_kept(c, a.key_starts.data);
    a.counts.data = ck_kept(c, a.counts.data);
    ref_prefix_lists(&a, &right);
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

#define Q(...) .q = { __VA_ARGS__ }
#define PREFILL(...) .prefill = { __VA_ARGS__ }
#define CACHED(...) .cached = { __VA_ARGS__ }
#define LISTS_CASE(op, kind, name, ...)                                                  \
    {                                                                                    \
        op, name, 0, build_##kind, verify_##kind, &(struct list_param)                   \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define SPLIT(...) LISTS_CASE(&rfn_op_split_lists, split, __VA_ARGS__)
#define PREFIX(...) LISTS_CASE(&rfn_op_prefix_lists, prefix, __VA_ARGS__)
#define BIG_LEN 2147483647

const struct ck_spec ck_split_lists_specs[] = {
    SPLIT("one_decoding", 1, Q(1), PREFILL(ZERO), CACHED(1000)),
    SPLIT("one_prefilling", 1, Q(300), PREFILL(300), CACHED(100), .keys = 64),
    SPLIT("no_requests", 0),
    SPLIT("no_requests_by_starts", 0, .starts = 1),
    SPLIT("mixed", 9, Q(1, 64, 2, ZERO), PREFILL(ZERO, 64), CACHED(63, 64, 65, 500)),
    SPLIT("mixed_by_starts", 9, Q(1, 64, 2, ZERO), PREFILL(ZERO, 64),
          CACHED(63, 64, 65, 500), .starts = 1),
    SPLIT("all_idle", 6, Q(ZERO, -1, -2147483647)),
    SPLIT("idle_has_the_longest", 4, Q(1, ZERO, -3, 2), PREFILL(ZERO),
          CACHED(10, 9000, 9000, 20)),
    SPLIT("page_edges", 12, Q(1), PREFILL(ZERO),
          CACHED(ZERO, 1, 62, 63, 64, 65, 126, 127, 128, 129, 191, 192), .keys = 64),
    SPLIT("prefill_edges", 12, Q(1), PREFILL(1, 63, 64, 65, 127, 128, 129),
          CACHED(ZERO, 1, 63, 64, 65)),
    SPLIT("no_prefill_given", 9, Q(1, 2), CACHED(100, 7), .no_prefill = 1),
    SPLIT("prefill_alone", 9, Q(5), PREFILL(5, 100), CACHED(ZERO)),
    SPLIT("first_token_without_prefill", 3, Q(1), PREFILL(ZERO), CACHED(ZERO), .keys = 7),
    SPLIT("random", 40),
    SPLIT("random_by_starts", 40, .starts = 1),
    SPLIT("random_rows", 40, .rows = 16),
    SPLIT("random_rows_of_1", 20, .rows = 1, .encoder_rows = 1, .group = 3),
    SPLIT("keys_of_1", 20, Q(1, 2), PREFILL(ZERO, 30), CACHED(3, 50), .keys = 1,
          .kv_keys = 1),
    SPLIT("keys_of_7", 33, .keys = 7, .kv_keys = 9, .encoder_rows = 5, .group = 1),
    SPLIT("keys_of_all", 33, .keys = BIG_LEN, .kv_keys = 1048575,
          .encoder_rows = BIG_LEN),
    SPLIT("group_of_128", 10, .group = 128, .encoder_rows = 64, .rows = 64),
    SPLIT("rows_past_i32", 2, Q(2000000000), PREFILL(ZERO, 2000000000), CACHED(5),
          .group = 2000000000, .rows = BIG_LEN, .encoder_rows = BIG_LEN,
          .kv_keys = 1048575, .fixed = 130),
    SPLIT("chosen_smallest", 1, Q(1), PREFILL(ZERO), CACHED(132 * 64 - 1)),
    SPLIT("chosen_second", 1, Q(1), PREFILL(ZERO), CACHED(133 * 64 - 1)),
    SPLIT("chosen_by_many_waves", 3, Q(1), PREFILL(ZERO), CACHED(33000, 70000, 131071)),
    SPLIT("chosen_with_1_sm", 3, Q(1), PREFILL(ZERO), CACHED(333, 700), .sm_count = 1),
    SPLIT("chosen_with_7_sms", 5, Q(2), PREFILL(ZERO), CACHED(3330, 700, 90),
          .sm_count = 7, .kv_keys = 16),
    SPLIT("chosen_among_ties", 4, Q(1), PREFILL(ZERO), CACHED(63), .sm_count = 4),
    SPLIT("chosen_without_the_prefilling", 6, Q(1, 500), PREFILL(ZERO, 500),
          CACHED(4000, 50000), .sm_count = 20),
    SPLIT("chosen_odd_page", 13, .kv_keys = 48, .sm_count = 108),
    SPLIT("chosen_largest", 1, Q(1), PREFILL(ZERO), CACHED(49152), .kv_keys = 2,
          .sm_count = 13),
    SPLIT("decoder_alone", 20, .lists = 1),
    SPLIT("encoder_alone", 20, .lists = 2),
    SPLIT("kv_alone", 20, .lists = 4),
    SPLIT("requests_is_zero", 7, .requests = 100),
    SPLIT("requests_is_negative", 7, .requests = 50),
    SPLIT("requests_is_part", 9, .requests = 105),
    SPLIT("requests_is_part_by_starts", 9, .requests = 104, .starts = 1),
    SPLIT("requests_past_the_rows", 7, .requests = 5000),
    SPLIT("room_is_exact", 20, .room = 100),
    SPLIT("room_is_one_short", 20, Q(1), PREFILL(ZERO, 30), CACHED(500, 30), .room = 99),
    SPLIT("room_is_short", 20, Q(1), PREFILL(ZERO, 100), CACHED(500, 30), .room = 94),
    SPLIT("no_room", 5, Q(1), PREFILL(ZERO, 100), CACHED(500, 30), .fixed = 100),
    SPLIT("much_room", 5, Q(1), PREFILL(ZERO, 100), CACHED(500, 30), .room = 3000),
    SPLIT("starts_go_down", 8, Q(3, 5, -4, 2), PREFILL(ZERO, 7), CACHED(100),
          .starts = 1),
    SPLIT("starts_past_i32", 3, Q(BIG_LEN, -2147483647), CACHED(10), .no_prefill = 1,
          .starts = 1, .keys = BIG_LEN),
    SPLIT("starts_too_far_apart", 2, Q(-294967296, 1), CACHED(7), .no_prefill = 1,
          .starts = 1, .first = -2000000000, .keys = BIG_LEN),
    SPLIT("negative_lengths", 9, Q(1, 2, ZERO), PREFILL(-5, ZERO, 7, 9),
          CACHED(100, -1, -7, 4, -2147483647)),
    SPLIT("context_past_i32", 4, Q(100, 1), PREFILL(ZERO), CACHED(2147483600, BIG_LEN, 5),
          .keys = 100000000, .kv_keys = 1000000),
    SPLIT("context_up_to_i32", 2, Q(1), PREFILL(ZERO), CACHED(BIG_LEN - 1),
          .kv_keys = 1048575),
    SPLIT("long", 7, Q(1), PREFILL(ZERO), CACHED(131071, 131072, 163839, 1048575, 65536)),
    SPLIT("256_requests", 256, Q(1), PREFILL(ZERO)),
    SPLIT("600_requests", 600, .keys = 512),
    SPLIT("1500_requests", 1500, .requests = 1590),
    SPLIT("4100_requests_of_many_tiles", 4100, Q(1), PREFILL(ZERO), .keys = 300,
          .lists = 5),
};
const int ck_split_lists_count = CK_COUNT(ck_split_lists_specs);

const struct ck_spec ck_prefix_lists_specs[] = {
    PREFIX("one", 1, Q(5), CACHED(100)),
    PREFIX("none", 0),
    PREFIX("none_by_starts", 0, .starts = 1),
    PREFIX("edges", 9, Q(1), CACHED(ZERO, 1, 63, 64, 65, 127, 128, 129, 192)),
    PREFIX("idle_between", 8, Q(3, ZERO, -1, 2, ZERO), CACHED(100, 200, 70)),
    PREFIX("all_idle", 5, Q(ZERO, -5)),
    PREFIX("nothing_cached", 5, Q(10), CACHED(ZERO)),
    PREFIX("random", 50),
    PREFIX("random_by_starts", 50, .starts = 1),
    PREFIX("keys_of_1", 20, Q(2), CACHED(3, 40, ZERO), .keys = 1),
    PREFIX("keys_of_7", 30, .keys = 7),
    PREFIX("keys_of_all", 30, .keys = BIG_LEN),
    PREFIX("no_list", 20, .lists = -1),
    PREFIX("requests_is_zero", 7, .requests = 100),
    PREFIX("requests_is_negative", 7, .requests = 50),
    PREFIX("requests_is_part", 9, .requests = 105),
    PREFIX("requests_is_part_by_starts", 9, .requests = 104, .starts = 1),
    PREFIX("requests_past_the_rows", 7, .requests = 5000),
    PREFIX("room_is_exact", 20, .room = 100),
    PREFIX("room_is_one_short", 20, .room = 99),
    PREFIX("room_is_short", 20, Q(1), CACHED(1000), .room = 57),
    PREFIX("no_room", 5, Q(1), CACHED(1000), .fixed = 100),
    PREFIX("much_room", 5, Q(1), CACHED(1000), .room = 4000),
    PREFIX("starts_go_down", 8, Q(3, 5, -4, 2), CACHED(100), .starts = 1),
    PREFIX("negative_lengths", 9, Q(1, 2, ZERO), CACHED(100, -1, -7, 4, -2147483647)),
    PREFIX("context_past_i32", 4, Q(100, 1), CACHED(2147483600, BIG_LEN, 5),
           .keys = 100000000),
    PREFIX("total_past_i32", 5, Q(1), CACHED(2147483600, 3, 60), .keys = 100000000),
    PREFIX("total_up_to_i32", 2, Q(1), CACHED(BIG_LEN - 2, ZERO), .keys = 1000000),
    PREFIX("total_past_the_bound", 6, Q(1), CACHED(100), .keys_most = 500),
    PREFIX("total_at_the_bound", 6, Q(1), CACHED(100), .keys_most = 606),
    PREFIX("256_requests", 256, Q(1)),
    PREFIX("600_requests", 600),
    PREFIX("1500_requests", 1500, .requests = 1590),
    PREFIX("4100_requests", 4100, Q(1), .keys = 300),
};
const int ck_prefix_lists_count = CK_COUNT(ck_prefix_lists_specs);
