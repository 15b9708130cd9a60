/* Regions: a stack of copied names, each thread's own. */
#include "runtime/call.h"

#include <refrain/check.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants setjmp.h, stdarg.h and stddef.h first */
#include <cmocka.h>

static void names_are_copied_and_joined(void **state)
{
    (void)state;
    char name[16] = "decode";
    assert_string_equal(rfn_region_text(), "");
    assert_int_equal(rfn_region_begin(name), RFN_OK);
    strcpy(name, "forward 3");
    assert_int_equal(rfn_region_begin(name), RFN_OK);
    strcpy(name, "gone");
    assert_string_equal(rfn_region_text(), "decode > forward 3");
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_string_equal(rfn_region_text(), "decode");
    assert_int_equal(rfn_region_begin("forward 4"), RFN_OK);
    assert_string_equal(rfn_region_text(), "decode > forward 4");
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_string_equal(rfn_region_text(), "");
}

static void what_is_wrong_says_so(void **state)
{
    (void)state;
    assert_int_equal(rfn_region_end(), RFN_INVALID);
    assert_non_null(strstr(rfn_last_error(), "no region open"));
    assert_int_equal(rfn_region_begin(NULL), RFN_INVALID);
    assert_int_equal(rfn_region_end(), RFN_INVALID); /* nothing was begun */
    assert_int_equal(rfn_region_begin(""), RFN_OK);
    assert_int_equal(rfn_region_end(), RFN_OK);
}

static void deep_ones_are_counted_and_long_ones_cut(void **state)
{
    (void)state;
    char name[200], text[2048];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < 40; i++)
        assert_int_equal(rfn_region_begin(name), RFN_OK);
    snprintf(text, sizeof text, "%s", rfn_region_text());
    assert_non_null(strstr(text, "xxx... > xxx"));
    assert_non_null(strstr(text, " > (+24 deeper)"));
    for (int i = 0; i < 24; i++)
        assert_int_equal(rfn_region_end(), RFN_OK);
    assert_null(strstr(rfn_region_text(), "deeper"));
    for (int i = 0; i < 16; i++)
        assert_int_equal(rfn_region_end(), RFN_OK);
    assert_string_equal(rfn_region_text(), "");
    assert_int_equal(rfn_region_end(), RFN_INVALID);
}

static void *other(void *arg)
{
    int *ok = arg;
    *ok = rfn_region_text()[0] == '\0' && rfn_region_begin("other") == RFN_OK &&
          !strcmp(rfn_region_text(), "other");
    return NULL; /* a thread may end inside of one */
}

static void each_thread_has_its_own(void **state)
{
    (void)state;
    pthread_t thread;
    int ok = 0;
    assert_int_equal(rfn_region_begin("main"), RFN_OK);
    assert_int_equal(pthread_create(&thread, NULL, other, &ok), 0);
    pthread_join(thread, NULL);
    assert_true(ok);
    assert_string_equal(rfn_region_text(), "main");
    assert_int_equal(rfn_region_end(), RFN_OK);
}

#define DEVICES 3

/* Each of them has a capture of its own left open by one region. */
static void every_device_of_a_region_is_looked_at(void **state)
{
    (void)state;
    struct rfn_device *device[DEVICES];
    struct rfn_check *check[DEVICES];
    struct rfn_stream *stream[DEVICES];
    struct rfn_capture_desc desc = { .mode = RFN_CAPTURE_RELAXED };
    for (int i = 0; i < DEVICES; i++)
    {
        struct rfn_device_desc host = { .kind = RFN_DEVICE_HOST,
                                        .reserve_bytes = 1 << 24 };
        assert_int_equal(rfn_device_open(&host, &device[i]), RFN_OK);
        assert_int_equal(rfn_check_create(device[i], &check[i]), RFN_OK);
        assert_int_equal(rfn_stream_create(device[i], RFN_STREAM_NONBLOCKING, &stream[i]),
                         RFN_OK);
    }
    assert_int_equal(rfn_region_begin("forward"), RFN_OK);
    for (int i = 0; i < DEVICES; i++)
        assert_int_equal(rfn_capture_begin(stream[i], &desc), RFN_OK);
    assert_int_equal(rfn_region_end(), RFN_OK);
    for (int i = 0; i < DEVICES; i++)
    {
        struct rfn_graph *graph = NULL;
        struct rfn_finding f;
        assert_int_equal(rfn_check_count(check[i]), 1);
        assert_int_equal(rfn_check_finding(check[i], 0, &f), RFN_OK);
        assert_int_equal(f.rule, RFN_CAP032);
        assert_string_equal(f.region, "forward");
        assert_int_equal(rfn_capture_end(stream[i], &graph), RFN_OK);
        assert_int_equal(rfn_graph_destroy(&graph), RFN_OK);
        assert_int_equal(rfn_stream_destroy(&stream[i]), RFN_OK);
        assert_int_equal(rfn_check_destroy(&check[i]), RFN_OK);
        assert_int_equal(rfn_device_close(&device[i]), RFN_OK);
    }
}

static void devices_past_sixteen_are_not_passed_over_in_silence(void **state)
{
    (void)state;
    static struct rfn_device device[18]; /* closed ones: an end looks no further */
    assert_int_equal(rfn_region_begin("outer"), RFN_OK);
    assert_int_equal(rfn_region_begin("many"), RFN_OK);
    for (int i = 0; i < 18; i++)
        assert_true(rfn_region_note(&device[i]));
    assert_true(rfn_region_note(&device[3])); /* one that is known */
    assert_int_equal(rfn_region_end(), RFN_LIMIT);
    assert_non_null(strstr(rfn_last_error(), "'many' ended; whether 2 captures"));
    assert_string_equal(rfn_region_text(), "outer");
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_string_equal(rfn_region_text(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_copied_and_joined),
        cmocka_unit_test(what_is_wrong_says_so),
        cmocka_unit_test(deep_ones_are_counted_and_long_ones_cut),
        cmocka_unit_test(each_thread_has_its_own),
        cmocka_unit_test(every_device_of_a_region_is_looked_at),
        cmocka_unit_test(devices_past_sixteen_are_not_passed_over_in_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
