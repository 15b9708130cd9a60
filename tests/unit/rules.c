/* The live rules, fed with events by hand: what fires, what must not, what is kept. */
#include "tests/unit/rules.h"

#include "graph/ledger.h"

static void feed_all_calls(uint64_t thread)
{
    for (int call = 0; call < RFN_CALLS; call++)
    {
        if (call == RFN_CALL_capture_begin || call == RFN_CALL_capture_end ||
            call == RFN_CALL_stream_destroy)
            continue;
        struct rfn_call_event e = on_stream((enum rfn_call)call, thread, OTHER, 0);
        e.bytes = 64;
        e.src_kind = RFN_MEMORY_PAGEABLE;
        e.dst_kind = RFN_MEMORY_DEVICE;
        rfn_rules_feed(&rules, &e);
    }
}

static void nothing_fires_outside_captures_or_in_other_threads(void **state)
{
    (void)state;
    feed_all_calls(1);
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_all_calls(2);
    feed_end(1, ORIGIN, 7, 0, RFN_CAPTURE_NONE);
    feed_all_calls(1);
    assert_int_equal(rfn_rules_count(&rules), 0);
}

static void a_begin_that_failed_opens_nothing(void **state)
{
    (void)state;
    struct rfn_call_event e = on_stream(RFN_CALL_capture_begin, 1, ORIGIN, 0);
    e.code = 900;
    rfn_rules_feed(&rules, &e);
    feed_all_calls(1);
    assert_int_equal(rfn_rules_count(&rules), 0);

    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    e = on_stream(RFN_CALL_capture_begin, 1, ORIGIN, 7); /* twice */
    e.code = 401;
    rfn_rules_feed(&rules, &e);
    feed_end(1, ORIGIN, 7, 0, RFN_CAPTURE_NONE);
    feed_all_calls(1);
    assert_int_equal(rfn_rules_count(&rules), 0);
}

static void each_call_in_a_capture_has_the_rule_it_should(void **state)
{
    (void)state;
    static const struct
    {
        enum rfn_call call;
        enum rfn_rule rule;
    } want[] = {
        { RFN_CALL_device_sync, RFN_CAP001 },
        { RFN_CALL_stream_sync, RFN_CAP001 },
        { RFN_CALL_event_sync, RFN_CAP001 },
        { RFN_CALL_copy_sync, RFN_CAP002 },
        { RFN_CALL_set_sync, RFN_CAP002 },
        { RFN_CALL_op_launch, RFN_CAP004 },
        { RFN_CALL_copy_async, RFN_CAP004 },
        { RFN_CALL_set_async, RFN_CAP004 },
        { RFN_CALL_host_call, RFN_CAP004 },
        { RFN_CALL_memory_alloc, RFN_CAP009 },
        { RFN_CALL_memory_free, RFN_CAP009 },
        /* The device let them through, so something was relaxed. */
        { RFN_CALL_stream_query, RFN_CAP035 },
        { RFN_CALL_event_query, RFN_CAP035 },
        { RFN_CALL_graph_instantiate, RFN_CAP035 },
        { RFN_CALL_exec_destroy, RFN_CAP035 },
    };
    int32_t expected = (int32_t)(sizeof want / sizeof want[0]);
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    for (int call = 0; call < RFN_CALLS; call++)
    {
        if (call == RFN_CALL_capture_begin || call == RFN_CALL_capture_end)
            continue;
        struct rfn_call_event e = on_stream((enum rfn_call)call, 1, OTHER, 0);
        e.site.line = 100 + call; /* findings of one rule from one site would be one */
        e.bytes = 64;
        e.dst = (const void *)0x2000;
        e.src_kind = RFN_MEMORY_PAGEABLE;
        e.dst_kind = RFN_MEMORY_DEVICE;
        rfn_rules_feed(&rules, &e);
    }
    assert_int_equal(rfn_rules_count(&rules), expected);
    for (int32_t i = 0; i < expected; i++)
    {
        const struct rfn_finding *f = rfn_rules_at(&rules, i);
        int found = 0;
        for (int32_t w = 0; w < expected; w++)
            if (f->line == 100 + (int)want[w].call)
            {
                assert_int_equal(f->rule, want[w].rule);
                assert_string_equal(f->api, rfn_call_name(want[w].call));
                found = 1;
            }
        assert_true(found);
        assert_int_equal(f->confidence, RFN_PROVED);
        assert_int_equal(f->capture_id, 7);
        assert_int_equal(f->status_after, RFN_CAPTURE_ACTIVE);
        assert_string_equal(f->fix, rfn_rule_query(f->rule)->fix);
    }
}

static void pageable_memory_is_named_by_side_address_and_bytes(void **state)
{
    (void)state;
    static const struct
    {
        enum rfn_memory_kind src, dst;
        int stack;
        enum rfn_rule rule;
        const char *words;
    } row[] = {
        { RFN_MEMORY_PAGEABLE, RFN_MEMORY_DEVICE, 0, RFN_CAP003,
          "its source 0x1000 is pageable" },
        { RFN_MEMORY_PAGEABLE, RFN_MEMORY_DEVICE, 1, RFN_CAP023,
          "its source 0x1000 lies on the stack of thread 9" },
        { RFN_MEMORY_DEVICE, RFN_MEMORY_PAGEABLE, 0, RFN_CAP024,
          "its destination 0x2000 is pageable" },
        { RFN_MEMORY_PAGEABLE, RFN_MEMORY_PAGEABLE, 1, RFN_CAP024,
          "source 0x1000 and destination 0x2000 are pageable" },
        { RFN_MEMORY_PINNED, RFN_MEMORY_DEVICE, 0, RFN_RULES, NULL },
        { RFN_MEMORY_DEVICE, RFN_MEMORY_PINNED, 0, RFN_RULES, NULL },
        { RFN_MEMORY_DEVICE, RFN_MEMORY_DEVICE, 0, RFN_RULES, NULL },
    };
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    int32_t seen = 0;
    for (int i = 0; i < (int)(sizeof row / sizeof row[0]); i++)
    {
        /* thread 9: it is the stream's capture, whoever calls */
        struct rfn_call_event e = on_stream(RFN_CALL_copy_async, 9, ORIGIN, 7);
        e.site.line = i;
        e.src = (const void *)0x1000;
        e.dst = (const void *)0x2000;
        e.bytes = 96;
        e.src_kind = row[i].src;
        e.dst_kind = row[i].dst;
        e.src_on_stack = row[i].stack;
        rfn_rules_feed(&rules, &e);
        seen += row[i].words != NULL;
        assert_int_equal(rfn_rules_count(&rules), seen);
        if (!row[i].words)
            continue;
        assert_int_equal(last()->rule, row[i].rule);
        assert_non_null(strstr(last()->why, row[i].words));
        assert_non_null(strstr(last()->why, "96 bytes"));
    }
}

static void a_copy_of_no_bytes_is_not_a_finding(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = event_of(RFN_CALL_copy_sync, 1);
    rfn_rules_feed(&rules, &e);
    e = on_stream(RFN_CALL_copy_async, 1, ORIGIN, 7);
    rfn_rules_feed(&rules, &e);
    e = on_stream(RFN_CALL_copy_async, 1, OTHER, 0);
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 0);
    e = event_of(RFN_CALL_copy_sync, 1);
    e.code = 906; /* but the device minded */
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 1);
}

static void sentences_on_stray_work_name_both_streams(void **state)
{
    (void)state;
    static const struct rfn_op op = { .name = "index_topk" };
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_THREAD_LOCAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = on_stream(RFN_CALL_op_launch, 1, 1, 0);
    e.stream_kind = RFN_STREAM_LEGACY;
    e.op = &op;
    e.code = 906;
    e.caller = (struct rfn_capture_info) { RFN_CAPTURE_INVALIDATED, 7 };
    e.why = "Returning 906 from cudaLaunchKernel";
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 1);
    const struct rfn_finding *f = last();
    assert_int_equal(f->rule, RFN_CAP012);
    assert_int_equal(f->status_after, RFN_CAPTURE_INVALIDATED);
    assert_string_equal(f->driver, "Returning 906 from cudaLaunchKernel");
    assert_string_equal(
        f->why, "op_launch of index_topk on the legacy stream, which can be no part of "
                "capture 7 'decode b8' (thread-local, origin stream 2): it was "
                "refused with 906, and the capture is invalidated");
    e = on_stream(RFN_CALL_set_async, 1, OTHER, 0);
    e.site.line++;
    e.bytes = 4;
    rfn_rules_feed(&rules, &e);
    assert_non_null(strstr(last()->why, "set_async on stream 5, which"));
}

static void streams_of_the_capture_and_of_other_captures_are_not_stray(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = on_stream(RFN_CALL_op_launch, 1, OTHER, 7); /* forked */
    rfn_rules_feed(&rules, &e);
    e = on_stream(RFN_CALL_op_launch, 1, 6, 8); /* another one's capture */
    rfn_rules_feed(&rules, &e);
    e = on_stream(RFN_CALL_op_launch, 1, ORIGIN, 7);
    e.code = 901;
    e.before.status = e.after.status = RFN_CAPTURE_INVALIDATED;
    rfn_rules_feed(&rules, &e);
    e = on_stream(RFN_CALL_exec_launch, 1, 6, 0);
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 0);
}

static void equal_sites_in_one_capture_count_once(void **state)
{
    (void)state;
    char copy_of_name[] = "step.c"; /* another pointer, the same file */
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = event_of(RFN_CALL_device_sync, 1);
    rfn_rules_feed(&rules, &e);
    e.site.file = copy_of_name;
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 1);
    assert_int_equal(last()->count, 2);
    e.site.line++;
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 2);
    e.call = RFN_CALL_set_sync;
    e.bytes = 4;
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 3);
    feed_end(1, ORIGIN, 7, 0, RFN_CAPTURE_NONE);
    feed_begin(1, ORIGIN, 8, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 4);
}

static void findings_past_the_room_are_counted(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = event_of(RFN_CALL_device_sync, 1);
    for (int i = 0; i < RFN_RULES_KEPT + 3; i++)
    {
        e.site.line = i;
        rfn_rules_feed(&rules, &e);
    }
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_KEPT + 1);
    assert_int_equal(last()->count, 3);
    assert_non_null(strstr(last()->why, "1024"));
    assert_null(rfn_rules_at(&rules, RFN_RULES_KEPT + 1));
    assert_null(rfn_rules_at(&rules, -1));
}

static void feed_wait(uint64_t thread, int line)
{
    struct rfn_call_event e = event_of(RFN_CALL_device_sync, thread);
    e.site.line = line;
    rfn_rules_feed(&rules, &e);
}

static void a_site_past_eight_captures_counts_with_the_last(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 100; id++)
    {
        feed_begin(1, ORIGIN, id, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
        feed_wait(1, 10);
        feed_wait(1, 10);
        feed_end(1, ORIGIN, id, 0, RFN_CAPTURE_NONE);
    }
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_TOLD);
    for (int32_t i = 0; i < RFN_RULES_TOLD; i++)
    {
        const struct rfn_finding *f = rfn_rules_at(&rules, i);
        assert_int_equal(f->capture_id, i + 1);
        assert_int_equal(f->count, i < RFN_RULES_TOLD - 1 ? 2 : 2 * (100 - 7));
    }
    feed_begin(1, ORIGIN, 101, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    feed_wait(1, 11); /* another line is another site */
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_TOLD + 1);
    assert_int_equal(last()->capture_id, 101);
}

/* A capture on a blocking stream, begun in this line: the warning CAP013. */
static void feed_warning(uint64_t id, int line)
{
    struct rfn_call_event e = on_stream(RFN_CALL_capture_begin, 1, ORIGIN, 0);
    e.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, id };
    e.stream_kind = RFN_STREAM_BLOCKING;
    e.site.line = line;
    rfn_rules_feed(&rules, &e);
    e = on_stream(RFN_CALL_capture_end, 1, ORIGIN, id);
    e.nodes = e.kernels = 1;
    e.stream_kind = RFN_STREAM_BLOCKING;
    e.after = (struct rfn_capture_info) { RFN_CAPTURE_NONE, 0 };
    rfn_rules_feed(&rules, &e);
}

static void an_error_takes_the_place_of_the_oldest_warning(void **state)
{
    (void)state;
    static struct rfn_finding handed_out[RFN_RULES_KEPT];
    static char why[RFN_RULES_KEPT][512];
    feed_begin(2, OTHER, 5000, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    /* An error before all warnings, and two of these too many. */
    feed_wait(2, 1);
    for (int i = 1; i < RFN_RULES_KEPT + 2; i++)
        feed_warning((uint64_t)i, 100 + i);
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_KEPT + 1);
    assert_int_equal(last()->severity, RFN_WARNING);
    assert_int_equal(last()->count, 2);
    for (int32_t i = 0; i < RFN_RULES_KEPT; i++)
    {
        handed_out[i] = *rfn_rules_at(&rules, i);
        snprintf(why[i], sizeof why[i], "%s", handed_out[i].why);
    }

    feed_wait(2, 2);
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_KEPT + 1);
    assert_int_equal(last()->count, 3); /* what gave way is counted */
    assert_int_equal(rfn_rules_at(&rules, 0)->line, 1);
    assert_int_equal(rfn_rules_at(&rules, 1)->line, 102);
    assert_int_equal(rfn_rules_at(&rules, RFN_RULES_KEPT - 1)->rule, RFN_CAP001);
    assert_int_equal(rfn_rules_at(&rules, RFN_RULES_KEPT - 1)->line, 2);

    for (int i = 3; i < RFN_RULES_KEPT + 4; i++) /* three more than have a place */
        feed_wait(2, i);
    assert_int_equal(rfn_rules_count(&rules), RFN_RULES_KEPT + 1);
    for (int32_t i = 0; i < RFN_RULES_KEPT; i++)
    {
        assert_int_equal(rfn_rules_at(&rules, i)->rule, RFN_CAP001);
        assert_int_equal(rfn_rules_at(&rules, i)->line, i + 1);
        assert_string_equal(handed_out[i].why, why[i]);
    }
    assert_int_equal(last()->severity, RFN_ERROR); /* errors were lost */
    assert_int_equal(last()->count, 2 + (RFN_RULES_KEPT - 1) + 3);
}

static void text_is_one_line_and_says_its_length(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = event_of(RFN_CALL_set_sync, 1);
    e.bytes = 12;
    e.dst = (const void *)0x4000;
    e.dst_kind = RFN_MEMORY_DEVICE;
    e.code = 906;
    e.region = "decode > forward 3";
    e.hits = 1;
    e.hit[0] = 7;
    e.why = "the legacy stream depends on it";
    rfn_rules_feed(&rules, &e);
    char text[2048], cut[20];
    size_t n = rfn_finding_text(last(), text, sizeof text);
    assert_int_equal(n, strlen(text));
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_ptr_equal(strstr(text, "step.c:10: error CAP002 sync-copy (proved): "), text);
    assert_non_null(strstr(text, "set_sync of 12 bytes to device memory 0x4000"));
    assert_non_null(strstr(text, "capture 7 invalidated, code 906"));
    assert_non_null(strstr(text, "[decode > forward 3: set_sync by thread 1, 1 time, "));
    assert_non_null(strstr(text, "The device said: the legacy stream depends on it"));
    assert_int_equal(rfn_finding_text(last(), cut, sizeof cut), n);
    assert_int_equal(strlen(cut), sizeof cut - 1);
    assert_int_equal(rfn_finding_text(last(), NULL, 0), n);
    struct rfn_finding none = { .rule = RFN_RULES };
    assert_int_equal(rfn_finding_text(&none, text, sizeof text), 0);
    assert_string_equal(text, "");
    assert_null(rfn_rule_query(RFN_RULES));
    assert_string_equal(rfn_rule_query(RFN_CAP003)->id, "CAP003");
    assert_string_equal(rfn_rule_query(RFN_CAP003)->name, "pageable-copy");
}

static void a_ledger_that_ran_out_of_memory_is_not_shown(void **state)
{
    (void)state;
    struct rfn_ledger ledger = { 0 };
    for (uint64_t id = 1; id <= 100; id++)
    {
        rfn_ledger_open(&ledger, id);
        for (int i = 0; i < 40; i++)
        {
            struct rfn_ledger_item item = { .entry = {
                                                .what = "x", .line = i, .region = "" } };
            rfn_ledger_add(&ledger, id, &item);
        }
    }
    struct rfn_ledger_item failed = { .entry = { .accesses = -1 } };
    rfn_ledger_add(&ledger, 50, &failed);
    struct rfn_ledger_item stray = { .access = calloc(2, sizeof *stray.access) };
    rfn_ledger_add(&ledger, 101, &stray); /* its capture was not seen: freed */
    assert_null(rfn_ledger_find(&ledger, 50));
    assert_null(rfn_ledger_find(&ledger, 101));
    assert_null(rfn_ledger_find(&ledger, 0));
    const struct rfn_ledger_capture *c = rfn_ledger_find(&ledger, 1);
    assert_non_null(c);
    assert_int_equal(c->items, 40);
    assert_int_equal(c->item[39].entry.line, 39);
    rfn_ledger_release(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULES_TEST(nothing_fires_outside_captures_or_in_other_threads),
        RULES_TEST(a_begin_that_failed_opens_nothing),
        RULES_TEST(each_call_in_a_capture_has_the_rule_it_should),
        RULES_TEST(pageable_memory_is_named_by_side_address_and_bytes),
        RULES_TEST(a_copy_of_no_bytes_is_not_a_finding),
        RULES_TEST(sentences_on_stray_work_name_both_streams),
        RULES_TEST(streams_of_the_capture_and_of_other_captures_are_not_stray),
        RULES_TEST(equal_sites_in_one_capture_count_once),
        RULES_TEST(findings_past_the_room_are_counted),
        RULES_TEST(a_site_past_eight_captures_counts_with_the_last),
        RULES_TEST(an_error_takes_the_place_of_the_oldest_warning),
        RULES_TEST(text_is_one_line_and_says_its_length),
        RULES_TEST(a_ledger_that_ran_out_of_memory_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
