/* Speculative decode without a device: the option, what is accepted, lengths and pages. */
#include "tools/speculative.h"
#include "tools/batch.h"
#include "tools/synth.h"
#include "tools/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define PAGE 64

static void the_option_is_read_whole(void **state)
{
    (void)state;
    static const struct
    {
        const char *text;
        int32_t drafts;
        double rate;
    } good[] = {
        { "3", 3, SPECULATIVE_RATE },
        { "1", 1, SPECULATIVE_RATE },
        { "7:1", 7, 1 },
        { "3:0.7", 3, 0.7 },
        { "1:0", 1, 0 },
        { "2:.25", 2, 0.25 },
        { "2:1e-3", 2, 1e-3 },
        { "5:1.0", 5, 1 },
    };
    static const char *const bad[] = {
        "",       "0",     "8",      "-1",      "+3",
        " 3",     "3 ",    "x",      "3x",      "3.5",
        ".5",     ":",     ":0.5",   "3:",      "3:x",
        "3:-0.1", "3:1.1", "3:0.5x", "3:0.5:1", "3:nan",
        "3:inf",  "3: 1",  "3:.",    "3,0.7",   "99999999999999999999999",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
    {
        struct speculative got = { -1, -1 };
        assert_null(speculative_read(good[i].text, &got));
        assert_int_equal(got.drafts, good[i].drafts);
        assert_true(got.rate == good[i].rate);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    {
        struct speculative got = { -1, -1 };
        assert_non_null(speculative_read(bad[i], &got));
        assert_true(got.drafts == -1 && got.rate == -1);
    }
}

static void acceptance_has_its_rate_and_depends_on_nothing_else(void **state)
{
    (void)state;
    const int draws = 20000;
    int64_t accepted = 0;
    int64_t other_seed = 0;
    int64_t other_request = 0;
    for (int i = 0; i < draws; i++)
    {
        struct speculative s = { 3, 0.7 };
        int32_t a = speculative_accepted(&s, 5, i % 40, 100 + i / 40);
        assert_in_range(a, 0, 3);
        assert_int_equal(a, speculative_accepted(&s, 5, i % 40, 100 + i / 40));
        accepted += a;
        other_seed += a != speculative_accepted(&s, 6, i % 40, 100 + i / 40);
        other_request += a != speculative_accepted(&s, 5, i % 40 + 1, 100 + i / 40);
        s.rate = 0.8; /* what stood stands */
        assert_true(speculative_accepted(&s, 5, i % 40, 100 + i / 40) >= a);
        s.rate = 0;
        assert_int_equal(speculative_accepted(&s, 5, i % 40, 100 + i / 40), 0);
        s.rate = 1;
        assert_int_equal(speculative_accepted(&s, 5, i % 40, 100 + i / 40), 3);
        s.drafts = 0;
        assert_int_equal(speculative_accepted(&s, 5, i % 40, 100 + i / 40), 0);
    }
    /* 0.7 + 0.49 + 0.343, its error a hundredth; two draws differ in two thirds. */
    double mean = (double)accepted / draws;
    assert_true(mean > 1.533 - 0.05 && mean < 1.533 + 0.05);
    assert_true(other_seed > draws / 2 && other_request > draws / 2);
}

/* A step's rows against the request they belong to; the row of its first rejected token
 * behind the step, -1 where all stand. */
static int64_t look_at(const struct batch *batch, int32_t s, int64_t rejected)
{
    const struct batch_desc *desc = &batch->desc;
    const struct batch_seat *seat = &batch->seat[s];
    const struct trace_request *request = &desc->trace->request[seat->request];
    int64_t first = batch->lens[s] - batch->q_lens[s];
    assert_int_equal(batch->q_lens[s], desc->next_n);
    assert_in_range(batch->kept[s], 1, desc->next_n);
    assert_int_equal(first, request->input_tokens + seat->made_tokens);
    assert_true(batch->lens[s] <=
                request->input_tokens + request->output_tokens + desc->next_n - 1);
    assert_true(seat->pages * PAGE >= batch->lens[s]);
    assert_true(seat->promised_pages >= 0);
    /* What was rejected begins where this step begins: the rows lie on all of it. */
    assert_true(rejected < 0 || rejected == first);
    for (int32_t j = 0; j < desc->next_n; j++)
    {
        int64_t real =
            synth_token(desc->seed, desc->trace->request, seat->request, first + j);
        int64_t got = batch_token(batch, s, first + j);
        assert_true((got == real) == (j < batch->kept[s]));
    }
    assert_true(batch_token(batch, s, first - 1) ==
                synth_token(desc->seed, desc->trace->request, seat->request, first - 1));
    return batch->kept[s] < desc->next_n ? first + batch->kept[s] : -1;
}

static void rejected_tokens_are_taken_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 9; seed++)
    {
        struct trace trace;
        struct batch batch;
        char error[TRACE_ERROR_BYTES];
        int64_t rejected[40];
        int64_t output = 0;
        int64_t steps = 0;
        int32_t drafts = 1 + (int32_t)seed % SPECULATIVE_DRAFTS_MAX;
        assert_int_equal(traffic_make(seed, 40, &trace, error), TRACE_OK);
        trace_clip(&trace, 3000 - drafts);
        struct batch_desc desc = {
            .trace = &trace,
            .seats = 5,
            .next_n = drafts + 1,
            .page_tokens = PAGE,
            .table_pages = (3000 + PAGE - 1) / PAGE,
            .pages = batch_pool_pages(&trace, 1 + (int32_t)seed % 3, PAGE, drafts),
            .seed = seed,
            .speculative = { drafts, (double)(seed % 5) / 4 },
        };
        for (int i = 0; i < 40; i++)
        {
            rejected[i] = -1;
            output += trace.request[i].output_tokens;
        }
        assert_int_equal(batch_create(&desc, &batch), 0);
        for (;;)
        {
            while (batch_admit(&batch) >= 0)
            {
            }
            if (batch_begin_step(&batch) == 0)
            {
                break;
            }
            for (int32_t s = 0; s < batch.lives; s++)
            {
                int64_t *last = &rejected[batch.seat[s].request];
                *last = look_at(&batch, s, *last);
            }
            assert_true(batch.pages.free >= batch.promised_pages);
            batch_end_step(&batch);
            steps++;
        }
        assert_int_equal(batch.finished, 40);
        assert_int_equal(batch.tokens, output);
        assert_int_equal(batch_drain(&batch), 0);
        assert_int_equal(batch_simulate(&desc, 0), steps);
        batch_destroy(&batch);
        trace_free(&trace);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_option_is_read_whole),
        cmocka_unit_test(acceptance_has_its_rate_and_depends_on_nothing_else),
        cmocka_unit_test(rejected_tokens_are_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
