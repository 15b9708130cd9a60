/* index_gather: every row that there is, none that there could be. */
#include "tests/checkop/checkop.h"
#include "tests/checkop/reference.h"

#include <string.h>

#define D 128
#define ZERO (-1) /* a length of 0; 0 itself ends a list */
#define LIST 20

enum pages
{
    GOOD_PAGES,
    BAD_PAGES,   /* every third is outside the pool */
    LAST_PAGE,   /* the last of the pool, for all */
    FIRST_PAGES, /* 0: an ordinary page */
};

enum order
{
    IN_ORDER,
    DOWN,     /* every fifth start lies below the one before */
    BACKWARD, /* all of them */
    NEGATIVE, /* the first lies below 0 */
    BELOW_0,  /* all but the last */
};

struct param
{
    int R;
    int32_t lens[LIST]; /* repeated over the requests; none: random, a third of them 0 */
    int P;              /* 0: 64 */
    int W;              /* 0: as the longest needs; < 0: none */
    int next_n;         /* > 0: the step's own tokens come on top, ragged up to this */
    int spare;          /* rows of capacity past the total */
    int bound;          /* 0: not given; else bound = total + this - 1000 */
    int first;          /* starts[0] */
    int requests;       /* 0: not given; else this - 100 */
    int gap;            /* of table, pages and keys: that much of each in its unit */
    enum pages pages;
    enum order order;
    int end;
};

static int32_t length_of(struct ck_case *c, const struct param *p, int r)
{
    int n = LIST;
    while (n > 0 && p->lens[n - 1] == 0)
        n--;
    int32_t length = n ? p->lens[r % n] : (int32_t)rng_below(&c->rng, 300);
    if (!n && rng_below(&c->rng, 3) == 0)
        length = 0;
    length = length < 0 ? 0 : length;
    return length + (p->next_n ? (int32_t)rng_below(&c->rng, p->next_n + 1) : 0);
}

static int32_t page_of(struct ck_case *c, const struct param *p, int64_t pages, int64_t w)
{
    if (p->pages == FIRST_PAGES)
        return 0;
    if (p->pages == LAST_PAGE)
        return (int32_t)(pages - 1);
    if (p->pages == BAD_PAGES && w % 3 == 1)
        return (int32_t)(rng_below(&c->rng, 2) ? -1 - rng_below(&c->rng, 3)
                                               : pages + rng_below(&c->rng, 2) * 100000);
    return (int32_t)rng_below(&c->rng, pages);
}

static void spoil_order(int32_t *starts, int requests, enum order order)
{
    int32_t total = starts[requests];
    for (int r = 0; r <= requests; r++)
    {
        if (order == DOWN && r % 5 == 3)
            starts[r] = starts[r - 1] - 1 - r;
        if (order == BACKWARD && r < requests)
            starts[r] = total - r;
        if ((order == NEGATIVE && r == 0) || (order == BELOW_0 && r < requests))
            starts[r] = -70 + r;
    }
}

/* Tokens that lie in no live request keep NaN in all of their bytes, columns of the table
 * behind a length and starts behind the live ones lie outside of everything. */
static void build(struct ck_case *c, const void *param)
{
    const struct param *p = param;
    struct rfn_index_gather_args *a = &c->args.index_gather;
    int requests = p->requests ? p->requests - 100 : p->R, P = p->P ? p->P : 64;
    requests = requests < 0 ? 0 : requests < p->R ? requests : p->R;
    a->starts = ck_tensor(c, RFN_I32, GUARD_INDEX, 0, p->R + 1, 0, 0);
    int32_t *starts = a->starts.data, longest = 1;
    starts[0] = p->first;
    for (int r = 0; r < requests; r++)
    {
        int32_t length = length_of(c, p, r);
        starts[r + 1] = starts[r] + length;
        longest = length > longest ? length : longest;
    }
    int64_t W = p->W > 0 ? p->W : (longest + P - 1) / P, total = starts[requests];
    a->table = ck_tensor(c, RFN_I32, GUARD_INDEX, p->gap, p->R, W, 0);
    W = a->table.shape[1] = p->W < 0 ? 0 : W;
    int64_t pages = 2 * W + 9;
    a->pool = ck_pool(c, RFN_INDEX_FP8_132, P, pages, 16 * p->gap, GUARD_FLOAT);
    for (int r = 0; r < requests; r++)
        for (int64_t w = 0; w < W && w * P < starts[r + 1] - starts[r]; w++)
        {
            int64_t page = page_of(c, p, pages, w), left = starts[r + 1] - starts[r];
            ((int32_t *)a->table.data)[r * a->table.stride[0] + w] = (int32_t)page;
            for (int64_t i = 0; i < P && w * P + i < left && page >= 0 && page < pages;
                 i++)
            {
                uint64_t any[D / 8 + 1];
                for (int k = 0; k <= D / 8; k++)
                    any[k] = rng_u64(&c->rng);
                memcpy(ref_index_key(&a->pool, page * P + i), any, D);
                memcpy(ref_index_scale(&a->pool, page * P + i), any + D / 8, 4);
            }
        }
    int64_t bound = total + p->bound - 1000, rows = total + p->spare;
    if (p->order != IN_ORDER)
        spoil_order(starts, requests, p->order);
    a->requests = ck_live(c, p->requests ? p->requests - 100 : INT32_MIN);
    a->bound = p->bound ? bound : 0;
    a->keys = ck_tensor(c, RFN_E4M3, CK_OUTPUT, 16 * p->gap, rows, D, 0);
    a->scales = ck_tensor(c, RFN_F32, CK_OUTPUT, 0, rows, 0, 0);
}

static int verify(struct ck_case *c, const struct rfn_fault *fault, double tolerance)
{
    (void)tolerance;
    struct rfn_index_gather_args a = c->args.index_gather;
    struct rfn_fault right = { 0 };
    a.keys.data = ck_kept(c, a.keys.data);
    a.scales.data = ck_kept(c, a.scales.data);
    ref_index_gather(&a, &right);
    return ck_all_as_kept(c) && ck_same_fault(c, fault, &right);
}

#define LENS(...) .lens = { __VA_ARGS__ }
#define ROW(slow, name, ...)                                                             \
    {                                                                                    \
        &rfn_op_index_gather, name, slow, build, verify, &(struct param)                 \
        {                                                                                \
            __VA_ARGS__, .end = 0                                                        \
        }                                                                                \
    }
#define CASE(name, ...) ROW(0, name, __VA_ARGS__)
#define SLOW(name, ...) ROW(1, name, __VA_ARGS__)

const struct ck_spec ck_index_gather_specs[] = {
    CASE("one_token", 1, LENS(1)),
    CASE("one_request", 1, LENS(100), .spare = 28),
    CASE("no_requests_at_all", 0, .spare = 5),
    CASE("no_requests_and_no_rows", 0),
    CASE("no_rows", 3, LENS(ZERO)),
    CASE("all_zero", 5, LENS(ZERO), .spare = 40),
    CASE("page_edges", 9, LENS(1, 63, 64, 65, 127, 128, 129, 255, 257), .spare = 3),
    CASE("zeros_leading", 6, LENS(ZERO, ZERO, ZERO, 5, 70, 64), .spare = 9),
    CASE("zeros_in_the_middle", 7, LENS(70, ZERO, ZERO, 5, ZERO, 64, 1), .spare = 9),
    CASE("zeros_trailing", 7, LENS(5, 70, 64, 1, ZERO, ZERO, ZERO), .spare = 9),
    CASE("all_but_one_zero", 33,
         LENS(ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, 200, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO,
              ZERO, ZERO, ZERO, ZERO)),
    CASE("one_each", 100, LENS(1), .spare = 1),
    CASE("ragged", 31, .spare = 100),
    CASE("ragged_32", 32, .spare = 1),
    CASE("ragged_33", 33, .gap = 1),
    CASE("strided_everywhere", 9, .spare = 33, .gap = 3),
    CASE("strided_far", 5, LENS(130, 64, 3), .spare = 3, .gap = 130),
    CASE("no_row_past_the_total", 9, LENS(64, 100, 3)),
    CASE("far_below_the_bound", 4, LENS(3, ZERO, 70), .spare = 3000),
    CASE("bound_of_the_total", 9, .spare = 50, .bound = 1000),
    CASE("bound_above_the_total", 9, .spare = 50, .bound = 1020),
    CASE("total_above_the_bound", 9, .spare = 50, .bound = 995),
    CASE("total_far_above_the_bound", 9, LENS(100, 40, 7), .bound = 700),
    CASE("total_above_the_capacity", 9, LENS(100, 40, 7), .spare = -100),
    CASE("capacity_of_no_row", 3, LENS(2), .spare = -6),
    CASE("starts_past_0", 6, LENS(64, ZERO, 70), .first = 37, .spare = 8),
    CASE("starts_past_0_and_nothing_else", 3, LENS(ZERO), .first = 37, .spare = 8),
    CASE("starts_go_down", 23, .spare = 64, .order = DOWN),
    CASE("starts_go_down_and_past", 23, .spare = -64, .order = DOWN, .bound = 0),
    CASE("starts_backward", 9, LENS(64, 10), .spare = 9, .order = BACKWARD),
    CASE("starts_from_below_0", 9, LENS(64, 10, ZERO), .spare = 9, .order = NEGATIVE),
    CASE("starts_below_0", 9, LENS(64, 10), .spare = 9, .order = BELOW_0),
    CASE("requests_is_zero", 7, .requests = 100, .spare = 60),
    CASE("requests_is_negative", 7, .requests = 50, .spare = 60),
    CASE("requests_is_part", 9, .requests = 105, .spare = 60, .gap = 2),
    CASE("requests_is_all_but_one", 9, .requests = 108, .spare = 60),
    CASE("requests_is_one", 9, LENS(100), .requests = 101, .spare = 60),
    CASE("requests_past_the_rows", 7, .requests = 5000, .spare = 60),
    CASE("bad_pages", 16, LENS(300, 70, 100, 64, 128), .pages = BAD_PAGES, .spare = 9),
    CASE("bad_pages_strided", 7, LENS(200, 65), .pages = BAD_PAGES, .gap = 5),
    CASE("page_0_is_ordinary", 6, .pages = FIRST_PAGES),
    CASE("last_page_of_the_pool", 6, .pages = LAST_PAGE, .gap = 1),
    CASE("past_the_table", 8, LENS(256, 257, 320, 321, 1000, 10), .W = 4, .gap = 2),
    CASE("no_table", 4, LENS(ZERO, ZERO, 1, 130), .W = -1, .spare = 3),
    CASE("four_tokens_a_page", 20, LENS(1, 2, 3, 4, 5, 100, 99), .P = 4),
    CASE("odd_page", 9, LENS(19, 20, 21, 100, 49), .P = 20, .spare = 4, .gap = 4),
    CASE("256_tokens_a_page", 6, LENS(600, 512, 513, 255, 49), .P = 256),
    CASE("next_n_1", 17, LENS(63, 127, 64), .next_n = 1, .spare = 17),
    CASE("next_n_2", 17, LENS(62, 127, 64, ZERO), .next_n = 2, .spare = 34),
    CASE("next_n_3", 17, LENS(61, 127, 64, ZERO), .next_n = 3, .spare = 51, .gap = 1),
    CASE("next_n_4", 16, LENS(60, 126, 64, ZERO), .next_n = 4, .spare = 64),
    CASE("next_n_5", 17, LENS(59, 125, 64, ZERO), .next_n = 5, .spare = 85),
    CASE("next_n_6", 17, LENS(58, 124, 64, ZERO), .next_n = 6, .spare = 102),
    CASE("next_n_7", 17, LENS(57, 123, 64, ZERO), .next_n = 7, .spare = 119),
    CASE("next_n_8", 16, LENS(56, 122, 64, ZERO), .next_n = 8, .spare = 128, .gap = 2),
    CASE("lengths_of_a_tile", 15, LENS(31, 32, 33, 255, 256, 257, ZERO), .spare = 31),
    CASE("128_requests", 128, LENS(9, ZERO, 64, 65, ZERO, ZERO, 31), .spare = 7),
    CASE("1024_requests", 1024, LENS(3, ZERO, 1, ZERO, ZERO, 7, 2), .spare = 11),
    CASE("one_long", 3, LENS(2047, 8193, 2049), .spare = 64),
    SLOW("long", 9, LENS(8191, 8192, 16384, ZERO, 32767, 32769, 65535, 65537, 1),
         .spare = 1000, .gap = 1),
    SLOW("longest", 3, LENS(202752, ZERO, 163840), .spare = 5),
    SLOW("1024_long_requests", 1024, .next_n = 8, .spare = 8192),
};
const int ck_index_gather_count = CK_COUNT(ck_index_gather_specs);
