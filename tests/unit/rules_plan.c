/* The live rules, fed with events by hand: copies to the host that a plan did not wait for. */
#include "tests/unit/rules.h"

static int32_t target[16];

static void feed_copy(uint64_t thread, uint64_t plan, int line)
{
    struct rfn_call_event e = on_stream(RFN_CALL_copy_async, thread, OTHER, 0);
    e.site = (struct rfn_site) { "plan.c", line };
    e.region = "plan";
    e.plan = plan;
    e.bytes = sizeof target;
    e.dst = target;
    e.dst_kind = RFN_MEMORY_PINNED;
    e.src_kind = RFN_MEMORY_DEVICE;
    rfn_rules_feed(&rules, &e);
}

static void feed_end_of(uint64_t thread, uint64_t plan)
{
    struct rfn_call_event e = event_of(RFN_CALL_region_end, thread);
    e.plan = plan;
    e.name = "plan";
    rfn_rules_feed(&rules, &e);
}

static void feed_read(const int32_t *from, int64_t bytes)
{
    struct rfn_call_event e = event_of(RFN_CALL_attention_plan, 1);
    e.name = "lens";
    e.src = from;
    e.bytes = bytes;
    rfn_rules_feed(&rules, &e);
}

static void feed_wait(void)
{
    struct rfn_call_event e = on_stream(RFN_CALL_stream_sync, 1, OTHER, 0);
    rfn_rules_feed(&rules, &e);
}

static void a_plan_that_ends_before_its_copy_is_likely_wrong(void **state)
{
    (void)state;
    feed_copy(1, 3, 7);
    feed_end_of(1, 2); /* another one of the thread */
    feed_end_of(2, 3); /* another thread's */
    feed_end_of(1, 0);
    assert_int_equal(rfn_rules_count(&rules), 0);
    feed_end_of(1, 3);
    assert_int_equal(rfn_rules_count(&rules), 1);
    const struct rfn_finding *f = last();
    assert_int_equal(f->rule, RFN_CAP017);
    assert_int_equal(f->confidence, RFN_HEURISTIC);
    assert_int_equal(f->severity, RFN_WARNING);
    assert_int_equal(f->line, 7);
    assert_string_equal(f->region, "plan");
    assert_non_null(strstr(f->why, "when region 'plan', in which it was made, ended"));
    feed_copy(1, 4, 7);
    feed_end_of(1, 4);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->count, 2);
}

static void what_was_waited_for_or_is_for_later_is_not_told(void **state)
{
    (void)state;
    feed_copy(1, 3, 7);
    feed_wait();
    feed_end_of(1, 3);
    feed_copy(1, 0, 8); /* of no plan */
    feed_end_of(1, 4);
    struct rfn_call_event e = on_stream(RFN_CALL_copy_async, 1, OTHER, 0);
    e.plan = 5;
    e.foreign = 1; /* others may wait for an imported stream */
    e.bytes = 4;
    e.dst = target;
    e.dst_kind = RFN_MEMORY_PINNED;
    e.src_kind = RFN_MEMORY_DEVICE;
    rfn_rules_feed(&rules, &e);
    feed_end_of(1, 5);
    assert_int_equal(rfn_rules_count(&rules), 0);
}

static void a_plan_that_reads_the_target_is_wrong(void **state)
{
    (void)state;
    feed_copy(1, 0, 7);
    feed_read(target + 16, 64); /* behind it */
    assert_int_equal(rfn_rules_count(&rules), 0);
    feed_read(target + 15, 64);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->rule, RFN_CAP017);
    assert_int_equal(last()->confidence, RFN_PROVED);
    assert_int_equal(last()->severity, RFN_ERROR);
    assert_int_equal(last()->line, 7);
    assert_non_null(strstr(last()->why, "attention_plan at step.c:10 read the 'lens'"));
    feed_wait();
    feed_read(target, 64);
    assert_int_equal(last()->count, 1);
}

/* What the fault handler has told of a site is not told again, as less sure. */
static void what_is_proved_stays_so(void **state)
{
    (void)state;
    struct rfn_touch touch = { target, 64, 0, 1, "plan.c", 7 };
    feed_copy(1, 3, 7);
    rfn_rules_touched(&rules, &touch, 1, 1);
    feed_end_of(1, 3);
    feed_read(target, 64);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->count, 1);
    assert_int_equal(last()->confidence, RFN_PROVED);
}

/* Of more copies than are remembered the oldest are forgotten first. */
static void the_newest_copies_are_remembered(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * RFN_RULES_FETCHES; i++)
    {
        feed_copy(1, 3, 1000 + i);
        if (i == RFN_RULES_FETCHES)
            feed_wait();
    }
    feed_end_of(1, 3);
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_FETCHES);
    for (int i = 0; i < RFN_RULES_FETCHES; i++)
        assert_true(rfn_rules_at(&rules, i)->line >= 1000 + 2 * RFN_RULES_FETCHES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULES_TEST(a_plan_that_ends_before_its_copy_is_likely_wrong),
        RULES_TEST(what_was_waited_for_or_is_for_later_is_not_told),
        RULES_TEST(a_plan_that_reads_the_target_is_wrong),
        RULES_TEST(what_is_proved_stays_so),
        RULES_TEST(the_newest_copies_are_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
