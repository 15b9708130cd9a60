/* The live rules, fed with events by hand: captures from begin to end. */
#include "tests/unit/rules.h"

static void a_capture_is_over_when_its_origin_says_so(void **state)
{
    (void)state;
    static const int over[] = { 0, 901, 904, 908 };
    uint64_t id = 20;
    for (int i = 0; i < 4; i++, id++)
    {
        feed_begin(1, ORIGIN, id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
        assert_true(is_in_capture(1));
        feed_end(over[i] == 908 ? 2 : 1, ORIGIN, id, over[i], RFN_CAPTURE_NONE);
        assert_false(is_in_capture(1));
    }
    feed_begin(1, ORIGIN, id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_end(1, OTHER, id, 903, RFN_CAPTURE_INVALIDATED); /* a joined member */
    assert_true(is_in_capture(1));
    feed_end(1, OTHER, 0, 401, RFN_CAPTURE_NONE); /* an uninvolved stream */
    assert_true(is_in_capture(1));
    feed_end(1, OTHER, id, 903, RFN_CAPTURE_NONE); /* a member whose status is not told */
    assert_true(is_in_capture(1));
    feed_end(1, ORIGIN, id, 1, RFN_CAPTURE_ACTIVE); /* refused, and nothing happened */
    assert_true(is_in_capture(1));
    struct rfn_call_event e = on_stream(RFN_CALL_capture_end, 1, ORIGIN, 0);
    e.before.status = RFN_CAPTURE_INVALIDATED; /* a driver that gives no id then */
    e.code = 901;
    rfn_rules_feed(&rules, &e);
    assert_false(is_in_capture(1));

    feed_begin(1, ORIGIN, ++id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    e = on_stream(RFN_CALL_stream_destroy, 1, OTHER, id);
    rfn_rules_feed(&rules, &e);
    assert_true(is_in_capture(1));
    e = on_stream(RFN_CALL_stream_destroy, 1, ORIGIN, id);
    rfn_rules_feed(&rules, &e);
    assert_false(is_in_capture(1));
}

static void two_captures_of_a_thread_end_one_by_one(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_begin(1, OTHER, 8, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    assert_true(is_in_capture(1));
    assert_int_equal(last()->capture_id, 8);
    struct rfn_call_event e = on_stream(RFN_CALL_stream_sync, 1, ORIGIN, 7);
    e.code = 900;
    e.after.status = RFN_CAPTURE_INVALIDATED;
    rfn_rules_feed(&rules, &e);
    assert_int_equal(last()->capture_id, 7); /* the stream's own, though begun earlier */
    assert_int_equal(last()->status_after, RFN_CAPTURE_INVALIDATED);
    feed_end(1, OTHER, 8, 0, RFN_CAPTURE_NONE);
    assert_true(is_in_capture(1));
    assert_int_equal(last()->capture_id, 7);
    feed_end(1, ORIGIN, 7, 901, RFN_CAPTURE_NONE);
    assert_false(is_in_capture(1));
}

static void any_number_of_open_captures_is_followed(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 300; i++)
        feed_begin(i, 1000 + i, i, RFN_CAPTURE_RELAXED, RFN_STREAM_NONBLOCKING);
    for (uint64_t i = 1; i <= 300; i++)
    {
        assert_true(is_in_capture(i));
        assert_int_equal(last()->capture_id, i);
        feed_end(i, 1000 + i, i, 0, RFN_CAPTURE_NONE);
        assert_false(is_in_capture(i));
    }
}

static void per_thread_streams_share_a_serial_but_not_a_capture(void **state)
{
    (void)state;
    feed_begin(1, 1, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_PER_THREAD);
    feed_begin(2, 1, 8, RFN_CAPTURE_GLOBAL, RFN_STREAM_PER_THREAD);
    struct rfn_call_event e = on_stream(RFN_CALL_capture_end, 1, 1, 0);
    e.stream_kind = RFN_STREAM_PER_THREAD;
    e.before.status = RFN_CAPTURE_INVALIDATED;
    e.code = 901;
    rfn_rules_feed(&rules, &e);
    assert_false(is_in_capture(1));
    assert_true(is_in_capture(2));
}

/* A refused call that took these captures with it. */
static struct rfn_call_event refused(enum rfn_call call, uint64_t thread, int line,
                                     uint64_t first, uint64_t second)
{
    struct rfn_call_event e = event_of(call, thread);
    e.site.line = line;
    e.code = 900;
    e.why = "the device says why";
    e.hit[0] = first;
    e.hit[1] = second;
    e.hits = 1 + (second != 0);
    return e;
}

static void the_first_offender_is_named_where_it_called(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = refused(RFN_CALL_graph_instantiate, 1, 33, 7, 0);
    e.region = "warm-up";
    rfn_rules_feed(&rules, &e);
    e = refused(RFN_CALL_exec_destroy, 1, 34, 0, 0); /* nothing is left to take */
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 0);
    feed_end(1, ORIGIN, 7, 901, RFN_CAPTURE_NONE);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->rule, RFN_CAP034);
    assert_int_equal(last()->line, 33);
    assert_int_equal(last()->code, 900);
    assert_string_equal(last()->region, "warm-up");
    assert_string_equal(last()->api, "graph_instantiate");
    assert_string_equal(
        last()->why, "capture 7 'decode b8' (global, origin stream 2) was invalidated by "
                     "graph_instantiate by thread 1, refused with 900; its end at "
                     "step.c:10 gave 901");
}

static void an_offender_that_was_found_out_is_not_told_again(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_begin(2, OTHER, 8, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = refused(RFN_CALL_memory_alloc, 1, 33, 7, 8);
    rfn_rules_feed(&rules, &e); /* one call, in thread 1's own; it takes thread 2's too */
    feed_end(1, ORIGIN, 7, 901, RFN_CAPTURE_NONE);
    feed_end(2, OTHER, 8, 901, RFN_CAPTURE_NONE);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->rule, RFN_CAP009);
    assert_int_equal(last()->capture_id, 7);

    feed_begin(1, ORIGIN, 9, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    e = refused(RFN_CALL_stream_query, 3, 34, 9, 0);
    rfn_rules_feed(&rules, &e);
    feed_end(1, ORIGIN, 9, 901, RFN_CAPTURE_NONE);
    assert_int_equal(rfn_rules_count(&rules), 2);
    assert_int_equal(last()->rule, RFN_CAP010);
    assert_int_equal(last()->thread, 3);
    assert_int_equal(last()->status_after, RFN_CAPTURE_INVALIDATED);
}

static void an_offender_that_nobody_saw_is_told_at_the_end(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_end(1, ORIGIN, 7, 901, RFN_CAPTURE_NONE);
    assert_int_equal(last()->rule, RFN_CAP034);
    assert_string_equal(last()->api, "capture_end");
    assert_non_null(strstr(last()->why, "a call that this checker did not see"));
}

static void a_fork_is_joined_only_by_what_knows_its_last_work(void **state)
{
    (void)state;
    static char event[4];
    for (int late = 0; late < 2; late++)
    {
        uint64_t id = 20 + (uint64_t)late;
        feed_begin(1, ORIGIN, id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
        struct rfn_call_event e = on_stream(RFN_CALL_event_record, 1, ORIGIN, id);
        e.event = (struct rfn_event *)&event[0];
        rfn_rules_feed(&rules, &e);
        for (uint64_t side = 5; side < 7; side++) /* two forks */
        {
            e = on_stream(RFN_CALL_stream_wait, 1, side, id);
            e.before = (struct rfn_capture_info) { RFN_CAPTURE_NONE, 0 };
            e.event = (struct rfn_event *)&event[0];
            e.site.line = (int)side;
            rfn_rules_feed(&rules, &e);
            for (int i = 0; i < 2; i++) /* the record behind the work, or between */
            {
                e = on_stream(RFN_CALL_op_launch, 1, side, id);
                if (i == 0 || late == 0 || side == 6)
                    rfn_rules_feed(&rules, &e);
                e = on_stream(RFN_CALL_event_record, 1, side, id);
                e.event = (struct rfn_event *)&event[side - 4];
                rfn_rules_feed(&rules, &e);
                e = on_stream(RFN_CALL_op_launch, 1, side, id);
                if (i == 1 && late == 1 && side == 5)
                    rfn_rules_feed(&rules, &e);
            }
            e = on_stream(RFN_CALL_stream_wait, 1, ORIGIN, id);
            e.event = (struct rfn_event *)&event[side - 4];
            rfn_rules_feed(&rules, &e);
        }
        feed_end(1, ORIGIN, id, 904, RFN_CAPTURE_NONE);
        assert_int_equal(rfn_rules_count(&rules), 1 + late);
        assert_int_equal(last()->rule, RFN_CAP014);
        /* Refused though all is joined, as far as was seen: told at the end. */
        assert_int_equal(last()->line, late ? 5 : 10);
        assert_string_equal(last()->api, late ? "stream_wait" : "capture_end");
    }
    assert_non_null(strstr(last()->why, "of its 2 nodes the origin has waited for 1"));
}

static void an_empty_graph_is_told_when_nothing_else_explains_it(void **state)
{
    (void)state;
    struct rfn_call_event end = on_stream(RFN_CALL_capture_end, 1, ORIGIN, 7);
    end.after = (struct rfn_capture_info) { RFN_CAPTURE_NONE, 0 };
    end.nodes = 3;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_BLOCKING);
    rfn_rules_feed(&rules, &end);
    assert_int_equal(rfn_rules_count(&rules), 2);
    assert_int_equal(rfn_rules_at(&rules, 0)->rule, RFN_CAP013);
    assert_int_equal(last()->rule, RFN_CAP045);
    assert_int_equal(last()->severity, RFN_WARNING);
    assert_int_equal(last()->confidence, RFN_HEURISTIC);
    assert_non_null(strstr(last()->why, "has 3 nodes"));

    end.before.id = 8;
    feed_begin(1, ORIGIN, 8, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = on_stream(RFN_CALL_op_launch, 1, OTHER, 0);
    rfn_rules_feed(&rules, &e);
    rfn_rules_feed(&rules, &end);
    assert_int_equal(last()->rule, RFN_CAP004);
    end.before.id = 9;
    end.kernels = -1; /* the device could not say */
    feed_begin(1, ORIGIN, 9, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    rfn_rules_feed(&rules, &end);
    assert_int_equal(rfn_rules_count(&rules), 3);
}

static void a_destroyed_event_is_forgotten(void **state)
{
    (void)state;
    static char event;
    for (int destroyed = 0; destroyed < 2; destroyed++)
    {
        uint64_t id = 7 + (uint64_t)destroyed;
        feed_begin(1, ORIGIN, id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
        struct rfn_call_event e = on_stream(RFN_CALL_event_record, 1, ORIGIN, id);
        e.event = (struct rfn_event *)&event;
        e.site.line = 77;
        rfn_rules_feed(&rules, &e);
        feed_end(1, ORIGIN, id, 0, RFN_CAPTURE_NONE);
        e = event_of(RFN_CALL_event_destroy, 1);
        e.event = (struct rfn_event *)&event;
        if (destroyed)
            rfn_rules_feed(&rules, &e);
        e.call = RFN_CALL_event_sync;
        e.code = 1; /* as the driver has it when the capture is over */
        if (destroyed)
        {
            int32_t before = rfn_rules_count(&rules);
            rfn_rules_feed(&rules, &e);
            assert_int_equal(rfn_rules_count(&rules), before);
            e.code = 907;
        }
        rfn_rules_feed(&rules, &e);
        assert_int_equal(last()->rule, RFN_CAP011);
        assert_int_equal(last()->capture_id, destroyed ? 0 : 7);
        assert_int_equal(strstr(last()->why, "step.c:77") != NULL, !destroyed);
        assert_int_equal(last()->status_after, RFN_CAPTURE_NONE);
    }
}

static void a_pool_in_freed_memory_is_none(void **state)
{
    (void)state;
    static const struct rfn_operand operand = { .name = "pool",
                                                .kind = RFN_OPERAND_POOL,
                                                .access = RFN_READ };
    static const struct rfn_op op = { .name = "reads",
                                      .args_bytes = sizeof(struct rfn_pool),
                                      .operand = &operand,
                                      .operands = 1 };
    struct rfn_pool pool = { .data = (void *)0x10000,
                             .format = RFN_LATENT_FP8_656,
                             .page_tokens = 64,
                             .pages = 4 };
    int64_t bytes = 4 * rfn_format_page_bytes(RFN_LATENT_FP8_656, 64);
    for (int freed = 0; freed < 2; freed++)
    {
        struct rfn_call_event e = on_stream(RFN_CALL_op_launch, 1, OTHER, 0);
        e.op = &op;
        e.args = &pool;
        rfn_rules_feed(&rules, &e);
        e = event_of(RFN_CALL_memory_free, 1);
        e.dst = pool.data;
        e.bytes = bytes;
        if (freed)
            rfn_rules_feed(&rules, &e);
        feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
        e = on_stream(RFN_CALL_copy_async, 1, ORIGIN, 7);
        e.src = pool.data;
        e.dst = (const void *)0x900000;
        e.src_kind = e.dst_kind = RFN_MEMORY_DEVICE;
        e.site.line = 40 + freed;
        e.bytes = bytes - 1;
        rfn_rules_feed(&rules, &e);
        assert_int_equal(rfn_rules_count(&rules), freed); /* one byte short is no pool */
        e.bytes = bytes;
        rfn_rules_feed(&rules, &e);
        assert_int_equal(rfn_rules_count(&rules), 1);
        feed_end(1, ORIGIN, 7, 0, RFN_CAPTURE_NONE);
    }
    assert_int_equal(last()->rule, RFN_CAP056);
    assert_non_null(strstr(last()->why, "'pool' of reads"));
}

static void touches_are_told_once_a_copy_and_past_the_room_counted(void **state)
{
    (void)state;
    struct rfn_touch touch[3] = {
        { (void *)0x1000, 64, 0, 1, "copy.c", 5 },
        { (void *)0x1000, 64, 0, 1, "copy.c", 5 },
        { (void *)0x2000, 8, 1, 0, "copy.c", 6 },
    };
    struct rfn_call_event e = on_stream(RFN_CALL_copy_async, 1, OTHER, 0);
    e.site = (struct rfn_site) { "copy.c", 5 };
    e.region = "fetch";
    e.bytes = 64;
    e.src_kind = RFN_MEMORY_DEVICE;
    e.dst_kind = RFN_MEMORY_PINNED;
    rfn_rules_feed(&rules, &e);
    rfn_rules_touched(&rules, touch, 1, 1);
    rfn_rules_touched(&rules, touch, 3, 3);
    rfn_rules_touched(&rules, touch, 3, 3);
    assert_int_equal(rfn_rules_count(&rules), 2);
    const struct rfn_finding *f = rfn_rules_at(&rules, 0);
    assert_int_equal(f->rule, RFN_CAP017);
    assert_int_equal(f->count, 2);
    assert_string_equal(f->region, "fetch");
    assert_int_equal(f->stream, OTHER);
    assert_string_equal(f->why,
                        "the host read pinned memory 0x1000, the target of a "
                        "copy_async of 64 bytes on stream 5 that it had not waited "
                        "for");
    assert_int_equal(last()->rule, RFN_CAP018);
    assert_int_equal(last()->line, 6);
    rfn_rules_touched(&rules, touch, 3, 10);
    rfn_rules_touched(&rules, touch, 3, 12);
    assert_int_equal(rfn_rules_count(&rules), 3);
    assert_int_equal(last()->count, 9);
}

static void a_checker_that_goes_tells_of_every_open_capture_once(void **state)
{
    (void)state;
    struct rfn_site site = { "close.c", 3 };
    assert_null(rfn_rules_leave(&rules, site));
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_begin(2, OTHER, 8, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    assert_int_equal(rfn_rules_leave(&rules, site)->id, 7);
    assert_int_equal(rfn_rules_leave(&rules, site)->id, 7);
    assert_int_equal(rfn_rules_count(&rules), 2);
    assert_int_equal(last()->capture_id, 8);
    assert_string_equal(last()->api, "check_destroy");
    assert_string_equal(last()->file, "close.c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULES_TEST(a_capture_is_over_when_its_origin_says_so),
        RULES_TEST(two_captures_of_a_thread_end_one_by_one),
        RULES_TEST(any_number_of_open_captures_is_followed),
        RULES_TEST(per_thread_streams_share_a_serial_but_not_a_capture),
        RULES_TEST(the_first_offender_is_named_where_it_called),
        RULES_TEST(an_offender_that_was_found_out_is_not_told_again),
        RULES_TEST(an_offender_that_nobody_saw_is_told_at_the_end),
        RULES_TEST(a_fork_is_joined_only_by_what_knows_its_last_work),
        RULES_TEST(an_empty_graph_is_told_when_nothing_else_explains_it),
        RULES_TEST(a_destroyed_event_is_forgotten),
        RULES_TEST(a_pool_in_freed_memory_is_none),
        RULES_TEST(touches_are_told_once_a_copy_and_past_the_room_counted),
        RULES_TEST(a_checker_that_goes_tells_of_every_open_capture_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
