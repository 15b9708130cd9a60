/* The live rules, fed with events by hand: what fires, what must not, what is kept. */
#include "graph/rules.h"
#include "graph/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define ORIGIN 2u
#define OTHER 5u

static struct rfn_rules rules;
static char handle; /* a stream that is never looked into */

static int set_up(void **state)
{
    (void)state;
    return rfn_rules_init(&rules) != RFN_OK;
}

static int tear_down(void **state)
{
    (void)state;
    rfn_rules_release(&rules);
    return 0;
}

static struct rfn_call_event event_of(enum rfn_call call, uint64_t thread)
{
    return (struct rfn_call_event) {
        .call = call,
        .why = "",
        .site = { "step.c", 10 },
        .thread = thread,
    };
}

static struct rfn_call_event on_stream(enum rfn_call call, uint64_t thread,
                                       uint64_t serial, uint64_t capture)
{
    struct rfn_call_event e = event_of(call, thread);
    e.stream = (struct rfn_stream *)&handle;
    e.stream_serial = serial;
    if (capture)
        e.before = e.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, capture };
    return e;
}

static void feed_begin(uint64_t thread, uint64_t serial, uint64_t capture,
                       enum rfn_capture_mode mode, enum rfn_stream_kind kind)
{
    struct rfn_call_event e = on_stream(RFN_CALL_capture_begin, thread, serial, 0);
    e.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, capture };
    e.mode = mode;
    e.stream_kind = kind;
    e.name = "decode b8";
    rfn_rules_feed(&rules, &e);
}

static void feed_end(uint64_t thread, uint64_t serial, uint64_t capture, int code,
                     enum rfn_capture_status after)
{
    struct rfn_call_event e = on_stream(RFN_CALL_capture_end, thread, serial, capture);
    e.code = code;
    e.after = (struct rfn_capture_info) { after, after ? capture : 0 };
    rfn_rules_feed(&rules, &e);
}

static const struct rfn_finding *last(void)
{
    return rfn_rules_at(&rules, rfn_rules_count(&rules) - 1);
}

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
        { RFN_CALL_device_sync, RFN_CAP001 }, { RFN_CALL_stream_sync, RFN_CAP001 },
        { RFN_CALL_event_sync, RFN_CAP001 },  { RFN_CALL_copy_sync, RFN_CAP002 },
        { RFN_CALL_set_sync, RFN_CAP002 },    { RFN_CALL_op_launch, RFN_CAP004 },
        { RFN_CALL_copy_async, RFN_CAP004 },  { RFN_CALL_set_async, RFN_CAP004 },
        { RFN_CALL_host_call, RFN_CAP004 },
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
        const char *words;
    } row[] = {
        { RFN_MEMORY_PAGEABLE, RFN_MEMORY_DEVICE, "its source 0x1000 is pageable" },
        { RFN_MEMORY_DEVICE, RFN_MEMORY_PAGEABLE, "its destination 0x2000 is pageable" },
        { RFN_MEMORY_PAGEABLE, RFN_MEMORY_PAGEABLE,
          "source 0x1000 and destination 0x2000 are pageable" },
        { RFN_MEMORY_PINNED, RFN_MEMORY_DEVICE, NULL },
        { RFN_MEMORY_DEVICE, RFN_MEMORY_PINNED, NULL },
        { RFN_MEMORY_DEVICE, RFN_MEMORY_DEVICE, NULL },
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
        rfn_rules_feed(&rules, &e);
        seen += row[i].words != NULL;
        assert_int_equal(rfn_rules_count(&rules), seen);
        if (!row[i].words)
            continue;
        assert_int_equal(last()->rule, RFN_CAP003);
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

static void a_stray_stream_sentence_names_both_streams(void **state)
{
    (void)state;
    static const struct rfn_op op = { .name = "index_topk" };
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_THREAD_LOCAL, RFN_STREAM_BLOCKING);
    struct rfn_call_event e = on_stream(RFN_CALL_op_launch, 1, 1, 0);
    e.stream_kind = RFN_STREAM_LEGACY;
    e.op = &op;
    e.code = 906;
    e.why = "Returning 906 from cudaLaunchKernel";
    rfn_rules_feed(&rules, &e);
    assert_int_equal(rfn_rules_count(&rules), 1);
    const struct rfn_finding *f = last();
    assert_int_equal(f->rule, RFN_CAP004);
    assert_int_equal(f->status_after, RFN_CAPTURE_INVALIDATED);
    assert_string_equal(f->driver, "Returning 906 from cudaLaunchKernel");
    assert_string_equal(
        f->why, "op_launch of index_topk on the legacy stream, which is not part of "
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
    feed_end(1, ORIGIN, 7, 901, RFN_CAPTURE_NONE);
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

/* Feeds a wait and says whether it was taken for one inside a capture. */
static int is_in_capture(uint64_t thread)
{
    static int line = 1000;
    int32_t before = rfn_rules_count(&rules);
    struct rfn_call_event e = event_of(RFN_CALL_device_sync, thread);
    e.site.line = ++line;
    rfn_rules_feed(&rules, &e);
    return rfn_rules_count(&rules) > before;
}

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

static void text_is_one_line_and_says_its_length(void **state)
{
    (void)state;
    feed_begin(1, ORIGIN, 7, RFN_CAPTURE_GLOBAL, RFN_STREAM_NONBLOCKING);
    struct rfn_call_event e = event_of(RFN_CALL_set_sync, 1);
    e.bytes = 12;
    e.dst = (const void *)0x4000;
    e.dst_kind = RFN_MEMORY_DEVICE;
    e.code = 906;
    e.why = "the legacy stream depends on it";
    rfn_rules_feed(&rules, &e);
    char text[2048], cut[20];
    size_t n = rfn_finding_text(last(), text, sizeof text);
    assert_int_equal(n, strlen(text));
    assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    assert_ptr_equal(strstr(text, "step.c:10: error CAP002 sync-copy (proved): "), text);
    assert_non_null(strstr(text, "set_sync of 12 bytes to device memory 0x4000"));
    assert_non_null(strstr(text, "capture 7 invalidated, code 906"));
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
            struct rfn_ledger_item item = { .entry = { .what = "x", .line = i } };
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

#define RULES_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RULES_TEST(nothing_fires_outside_captures_or_in_other_threads),
        RULES_TEST(a_begin_that_failed_opens_nothing),
        RULES_TEST(each_call_in_a_capture_has_the_rule_it_should),
        RULES_TEST(pageable_memory_is_named_by_side_address_and_bytes),
        RULES_TEST(a_copy_of_no_bytes_is_not_a_finding),
        RULES_TEST(a_stray_stream_sentence_names_both_streams),
        RULES_TEST(streams_of_the_capture_and_of_other_captures_are_not_stray),
        RULES_TEST(equal_sites_in_one_capture_count_once),
        RULES_TEST(findings_past_the_room_are_counted),
        RULES_TEST(a_capture_is_over_when_its_origin_says_so),
        RULES_TEST(two_captures_of_a_thread_end_one_by_one),
        RULES_TEST(any_number_of_open_captures_is_followed),
        RULES_TEST(per_thread_streams_share_a_serial_but_not_a_capture),
        RULES_TEST(text_is_one_line_and_says_its_length),
        RULES_TEST(a_ledger_that_ran_out_of_memory_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
