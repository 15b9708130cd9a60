/* The batch of decode: pages, shared blocks, admission, seats, generated traffic. */
#include "tools/batch.h"
#include "tools/synth.h"
#include "tools/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the first three above first */
#include <cmocka.h>

#define PAGE 64
#define BLOCK_PAGES (TRACE_BLOCK_TOKENS / PAGE)

/* Requests with up to four blocks each. */
struct script
{
    struct trace_request request[8];
    int64_t ids[8][4];
    struct trace trace;
};

static void add(struct script *s, int64_t ms, int64_t input, int64_t output, int64_t a,
                int64_t b)
{
    int64_t i = s->trace.requests++;
    s->ids[i][0] = a;
    s->ids[i][1] = b;
    s->ids[i][2] = 1000 + i;
    s->ids[i][3] = 2000 + i;
    s->request[i] = (struct trace_request) {
        .timestamp_ms = ms,
        .input_tokens = input,
        .output_tokens = output,
        .hash_ids = s->ids[i],
        .blocks = (input + TRACE_BLOCK_TOKENS - 1) / TRACE_BLOCK_TOKENS,
    };
    s->trace.request = s->request;
}

static struct batch open_batch(const struct trace *trace, int32_t seats, int64_t pages,
                               int32_t next_n, int64_t us_per_step)
{
    struct batch batch;
    struct batch_desc desc = {
        .trace = trace,
        .seats = seats,
        .next_n = next_n,
        .page_tokens = PAGE,
        .table_pages = 4096,
        .pages = pages,
        .seed = 7,
        .us_per_step = us_per_step,
    };
    assert_int_equal(batch_create(&desc, &batch), 0);
    return batch;
}

static int32_t page_at(const struct batch *batch, int32_t seat, int64_t w)
{
    return batch->table[seat * batch->desc.table_pages + w];
}

static void pages_differ_and_come_back(void **state)
{
    (void)state;
    struct pages pages;
    char seen[100] = { 0 };
    assert_int_equal(pages_create(100, BLOCK_PAGES, 3, &pages), 0);
    for (int i = 0; i < 100; i++)
    {
        int32_t page = pages_take(&pages);
        assert_in_range(page, 0, 99);
        assert_int_equal(seen[page]++, 0);
    }
    assert_int_equal(pages.free, 0);
    for (int i = 0; i < 100; i++)
    {
        pages_give(&pages, i);
    }
    assert_int_equal(pages.free, 100);
    pages_destroy(&pages);
}

static void a_block_goes_with_its_last_holder(void **state)
{
    (void)state;
    struct pages pages;
    int32_t a[BLOCK_PAGES];
    int32_t b[BLOCK_PAGES];
    assert_int_equal(pages_create(3 * BLOCK_PAGES + 5, BLOCK_PAGES, 3, &pages), 0);
    assert_int_equal(pages_block_take(&pages, 42, a), 1);
    assert_int_equal(pages_block_take(&pages, 42, b), 0);
    assert_memory_equal(a, b, sizeof(a));
    assert_int_equal(pages_block_take(&pages, INT64_MAX, b), 1);
    assert_int_equal(pages_block_take(&pages, 0, b), 1);
    assert_int_equal(pages.free, 5);
    assert_int_equal(pages_block_holders(&pages, 42), 2);
    pages_block_give(&pages, 42);
    assert_int_equal(pages.free, 5);
    pages_block_give(&pages, 42);
    assert_int_equal(pages.free, 5 + BLOCK_PAGES);
    assert_int_equal(pages_block_holders(&pages, 42), 0);
    assert_int_equal(pages_block_holders(&pages, 0), 1);
    pages_block_give(&pages, 0);
    pages_block_give(&pages, INT64_MAX);
    assert_int_equal(pages.free, pages.total);
    pages_destroy(&pages);
}

static void full_blocks_with_equal_ids_share_pages(void **state)
{
    (void)state;
    struct script s = { 0 };
    add(&s, 0, 1100, 10, 5, 6); /* two full blocks and 76 tokens */
    add(&s, 0, 1024, 10, 5, 9);
    add(&s, 0, 511, 10, 5, 0); /* none is full */
    struct batch batch = open_batch(&s.trace, 4, 100, 1, 0);
    assert_int_equal(batch_admit(&batch), 0);
    assert_int_equal(batch.made[0] + batch.made[1] + batch.made[2], 3);
    assert_int_equal(batch_admit(&batch), 1);
    assert_int_equal(batch.made[0], 0);
    assert_int_equal(batch.made[1], 1);
    assert_int_equal(batch_admit(&batch), 2);
    assert_int_equal(batch.made[0], 1);
    assert_int_equal(batch_admit(&batch), -1);
    for (int64_t w = 0; w < BLOCK_PAGES; w++)
    {
        assert_int_equal(page_at(&batch, 0, w), page_at(&batch, 1, w));
        assert_int_not_equal(page_at(&batch, 0, w + BLOCK_PAGES),
                             page_at(&batch, 1, w + BLOCK_PAGES));
        assert_int_not_equal(page_at(&batch, 0, w), page_at(&batch, 2, w));
    }
    assert_int_equal(batch.shared_tokens, TRACE_BLOCK_TOKENS);
    /* 18 + 16 + 8 pages of prompts, 8 of them shared. */
    assert_int_equal(batch.pages.free, 100 - 18 - 16 - 8 + BLOCK_PAGES);
    assert_int_equal(batch_drain(&batch), 0);
    batch_destroy(&batch);
}

static void a_request_waits_for_pages_but_not_for_shared_ones(void **state)
{
    (void)state;
    struct script s = { 0 };
    add(&s, 0, 512, 128, 5, 0); /* 10 pages in its life */
    add(&s, 0, 512, 128, 6, 0); /* 10 more */
    add(&s, 0, 512, 64, 5, 0);  /* one more than what is there */
    struct batch batch = open_batch(&s.trace, 3, 15, 1, 0);
    assert_int_equal(batch_admit(&batch), 0);
    assert_int_equal(batch_admit(&batch), -1);
    assert_int_equal(batch_admit(&batch), -1);
    assert_int_equal(batch.waited, 1);
    for (int i = 0; i < 128; i++)
    {
        assert_int_equal(batch_begin_step(&batch), 1);
        assert_int_equal(batch_admit(&batch), -1);
        batch_end_step(&batch);
    }
    assert_int_equal(batch.finished, 1);
    assert_int_equal(batch.pages.free, 15);
    assert_int_equal(batch_admit(&batch), 0);
    assert_int_equal(batch.waited, 1);
    assert_int_equal(batch_admit(&batch), -1);
    assert_int_equal(batch.waited, 2);
    batch_drain(&batch);
    batch_destroy(&batch);
    /* Behind the first the third fits where the second does not. */
    s.request[1] = s.request[2];
    batch = open_batch(&s.trace, 3, 15, 1, 0);
    assert_int_equal(batch_admit(&batch), 0);
    assert_int_equal(batch_admit(&batch), 1);
    assert_int_equal(batch_drain(&batch), 0);
    batch_destroy(&batch);
}

static void timed_requests_wait_for_their_time_and_time_leaps(void **state)
{
    (void)state;
    struct script s = { 0 };
    add(&s, 0, 10, 3, 1, 0);
    add(&s, 2, 10, 1, 2, 0);
    add(&s, 1000000, 10, 1, 3, 0);
    struct batch batch = open_batch(&s.trace, 3, 100, 1, 1000);
    static const int32_t live[] = { 1, 1, 2, 1 };
    for (int i = 0; i < 4; i++)
    {
        while (batch_admit(&batch) >= 0)
        {
        }
        assert_int_equal(batch_begin_step(&batch), live[i]);
        batch_end_step(&batch);
    }
    assert_int_equal(batch.finished, 3);
    assert_int_equal(batch.waited, 0);
    assert_int_equal(batch.now_us, INT64_C(1000001000));
    struct batch_desc desc = batch.desc;
    batch_destroy(&batch);
    assert_int_equal(batch_simulate(&desc, 0), 4);
    assert_int_equal(batch_simulate(&desc, 2), 2);
}

static void the_last_takes_the_seat_of_one_that_leaves(void **state)
{
    (void)state;
    struct script s = { 0 };
    add(&s, 0, 70, 1, 1, 0);
    add(&s, 0, 80, 9, 2, 0);
    add(&s, 0, 600, 9, 3, 0);
    struct batch batch = open_batch(&s.trace, 3, 100, 1, 0);
    while (batch_admit(&batch) >= 0)
    {
    }
    int32_t page = page_at(&batch, 2, 9);
    assert_int_equal(batch_begin_step(&batch), 3);
    batch_end_step(&batch);
    assert_int_equal(batch.lives, 2);
    assert_int_equal(batch.seat[0].request, 2);
    assert_int_equal(batch.seat[1].request, 1);
    assert_int_equal(page_at(&batch, 0, 9), page);
    assert_int_equal(batch_begin_step(&batch), 2);
    assert_int_equal(batch.lens[0], 602);
    assert_int_equal(batch.lens[1], 82);
    assert_int_equal(batch_slot(&batch, 0, 600), page * PAGE + 24);
    assert_int_equal(batch_drain(&batch), 0);
    batch_destroy(&batch);
}

static void a_step_says_when_something_changed(void **state)
{
    (void)state;
    struct script s = { 0 };
    add(&s, 0, 61, 7, 1, 0);
    struct batch batch = open_batch(&s.trace, 1, 100, 2, 0);
    /* Contexts 63 (new), 65 (a page), 67, 68 (one token is left). */
    static const int32_t lens[] = { 63, 65, 67, 68 };
    static const int changed[] = { 1, 1, 0, 1 };
    batch_admit(&batch);
    for (int i = 0; i < 4; i++)
    {
        assert_int_equal(batch_begin_step(&batch), 1);
        assert_int_equal(batch.lens[0], lens[i]);
        assert_int_equal(batch.q_lens[0], i < 3 ? 2 : 1);
        assert_int_equal(!!batch.changed, changed[i]);
        batch_end_step(&batch);
    }
    assert_int_equal(batch.finished, 1);
    assert_int_equal(batch.tokens, 7);
    assert_int_equal(batch_drain(&batch), 0);
    batch_destroy(&batch);
}

/* Every page belongs to one place, shared blocks apart; free and used ones add up. */
static void account(const struct batch *batch)
{
    int64_t total = batch->desc.pages;
    int64_t *owner = malloc((size_t)total * sizeof(owner[0]));
    int64_t used = 0;
    assert_non_null(owner);
    memset(owner, 0xff, (size_t)total * sizeof(owner[0]));
    for (int32_t s = 0; s < batch->lives; s++)
    {
        const struct batch_seat *seat = &batch->seat[s];
        const struct trace_request *request = &batch->desc.trace->request[seat->request];
        assert_true(seat->pages * PAGE >= batch->lens[s]);
        for (int64_t w = 0; w < seat->pages; w++)
        {
            int32_t page = page_at(batch, s, w);
            int64_t block = w / BLOCK_PAGES;
            int64_t mine = block < seat->blocks
                               ? request->hash_ids[block] * BLOCK_PAGES + w % BLOCK_PAGES
                               : INT64_MAX / 2 + seat->request;
            assert_in_range(page, 0, total - 1);
            assert_true(owner[page] == -1 ||
                        (owner[page] == mine && block < seat->blocks));
            used += owner[page] == -1;
            owner[page] = mine;
        }
    }
    assert_int_equal(used + batch->pages.free, total);
    assert_true(batch->promised_pages >= 0);
    assert_true(batch->promised_pages <= batch->pages.free);
    free(owner);
}

static void random_traffic_leaves_no_page_behind(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++)
    {
        struct trace trace;
        char error[TRACE_ERROR_BYTES];
        assert_int_equal(traffic_make(seed, 60, &trace, error), TRACE_OK);
        trace_clip(&trace, 3000);
        int64_t pages = batch_pool_pages(&trace, 1 + (int32_t)seed % 3, PAGE, 0);
        struct batch batch = open_batch(&trace, 7, pages, 1 + (int32_t)seed % 8,
                                        seed % 2 == 0 ? 100000 : 0);
        int64_t steps = 0;
        for (;;)
        {
            while (batch_admit(&batch) >= 0)
            {
                account(&batch);
            }
            if (batch_begin_step(&batch) == 0)
            {
                break;
            }
            if (steps++ % 16 == 0)
            {
                account(&batch);
            }
            batch_end_step(&batch);
        }
        assert_int_equal(batch.finished, 60);
        assert_int_equal(batch_simulate(&batch.desc, 0), steps);
        assert_int_equal(batch_drain(&batch), 0);
        batch_destroy(&batch);
        trace_free(&trace);
    }
}

static int rising(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void traffic_has_the_distribution_of_the_trace(void **state)
{
    (void)state;
    enum
    {
        N = 4001
    };
    static int64_t in[N];
    static int64_t out[N];
    struct trace trace;
    struct trace again;
    char error[TRACE_ERROR_BYTES];
    int64_t shared = 0;
    int64_t blocks = 0;
    assert_int_equal(traffic_make(5, N, &trace, error), TRACE_OK);
    assert_int_equal(traffic_make(5, 100, &again, error), TRACE_OK);
    int64_t newest = 0;
    for (int64_t i = 0; i < N; i++)
    {
        const struct trace_request *request = &trace.request[i];
        in[i] = request->input_tokens;
        out[i] = request->output_tokens;
        assert_int_equal(request->blocks, (in[i] + 511) / 512);
        assert_int_equal(request->hash_ids[0], 0);
        for (int64_t j = 1; j < request->blocks; j++)
        {
            shared += request->hash_ids[j] <= newest;
            newest = request->hash_ids[j] > newest ? request->hash_ids[j] : newest;
            blocks++;
        }
        if (i < 100)
        {
            assert_int_equal(again.request[i].input_tokens, in[i]);
            assert_memory_equal(again.request[i].hash_ids, request->hash_ids,
                                (size_t)request->blocks * sizeof(int64_t));
        }
    }
    qsort(in, N, sizeof(in[0]), rising);
    qsort(out, N, sizeof(out[0]), rising);
    assert_in_range(in[N / 2], 6300, 7600);
    assert_in_range(out[N / 2], 335, 365);
    assert_in_range(in[N * 9 / 10], 25000, 30000);
    assert_in_range(in[0], 891, 901);
    assert_true(in[N - 1] <= 126195 && out[N - 1] <= 2000 && out[0] >= 1);
    /* Of the trace's blocks 37 % were seen before. */
    assert_in_range(100 * shared / blocks, 18, 45);
    trace_free(&trace);
    trace_free(&again);
}

static void equal_blocks_have_equal_keys(void **state)
{
    (void)state;
    struct script s = { 0 };
    add(&s, 0, 1024, 9, 5, 6);
    add(&s, 0, 700, 9, 5, 7);
    assert_int_equal(synth_token(1, s.request, 0, 511),
                     synth_token(1, s.request, 1, 511));
    assert_int_not_equal(synth_token(1, s.request, 0, 512),
                         synth_token(1, s.request, 1, 512));
    assert_int_not_equal(synth_token(1, s.request, 0, 511),
                         synth_token(2, s.request, 0, 511));
    /* Generated tokens are their request's own. */
    assert_int_not_equal(synth_token(1, s.request, 0, 1030),
                         synth_token(1, s.request, 1, 1030));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_differ_and_come_back),
        cmocka_unit_test(a_block_goes_with_its_last_holder),
        cmocka_unit_test(full_blocks_with_equal_ids_share_pages),
        cmocka_unit_test(a_request_waits_for_pages_but_not_for_shared_ones),
        cmocka_unit_test(timed_requests_wait_for_their_time_and_time_leaps),
        cmocka_unit_test(the_last_takes_the_seat_of_one_that_leaves),
        cmocka_unit_test(a_step_says_when_something_changed),
        cmocka_unit_test(random_traffic_leaves_no_page_behind),
        cmocka_unit_test(traffic_has_the_distribution_of_the_trace),
        cmocka_unit_test(equal_blocks_have_equal_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
