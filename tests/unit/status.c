/* Status codes, the thread's error line and its call site. */
#include "runtime/error.h"

#include <pthread.h>
#include <refrain/refrain.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void values_are_pinned(void **state)
{
    (void)state;
    static const struct
    {
        enum rfn_status status;
        int value;
        const char *name;
    } row[] = {
        { RFN_OK, 0, "OK" },
        { RFN_INVALID, -1, "INVALID" },
        { RFN_NOMEM, -2, "NOMEM" },
        { RFN_UNSUPPORTED, -3, "UNSUPPORTED" },
        { RFN_CAPTURE, -4, "CAPTURE" },
        { RFN_BUSY, -5, "BUSY" },
        { RFN_NOT_READY, -6, "NOT_READY" },
        { RFN_NOT_FOUND, -7, "NOT_FOUND" },
        { RFN_LIMIT, -8, "LIMIT" },
        { RFN_IO, -9, "IO" },
        { RFN_CORRUPT, -10, "CORRUPT" },
        { RFN_TIMEOUT, -11, "TIMEOUT" },
        { RFN_DEVICE, -12, "DEVICE" },
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
    {
        assert_int_equal(row[i].status, row[i].value);
        assert_string_equal(rfn_status_name(row[i].status), row[i].name);
        assert_true(strlen(rfn_status_advice(row[i].status)) > 10);
    }
}

static void a_value_that_is_none_has_words_too(void **state)
{
    (void)state;
    assert_string_equal(rfn_status_name((enum rfn_status)7), "UNKNOWN");
    assert_non_null(rfn_status_advice((enum rfn_status) - 99));
}

static void error_line_has_file_and_line_and_code(void **state)
{
    (void)state;
    int line = __LINE__ + 1;
    assert_int_equal(
        rfn_error_at(__FILE__, line, RFN_CAPTURE, 900, "a %d is no %s", 3, "b"),
        RFN_CAPTURE);
    char want[128];
    snprintf(want, sizeof want, "a 3 is no b [tests/unit/status.c:%d]", line);
    assert_string_equal(rfn_last_error(), want);
    assert_int_equal(rfn_last_code(), 900);
    assert_int_equal(RFN_FAIL(RFN_INVALID, "next"), RFN_INVALID);
    assert_int_equal(rfn_last_code(), 0);
}

static void error_line_of_a_caller_stands_alone(void **state)
{
    (void)state;
    assert_int_equal(rfn_error(RFN_LIMIT, "%d > %d", 2, 1), RFN_LIMIT);
    assert_string_equal(rfn_last_error(), "2 > 1");
}

static void an_endless_error_line_is_cut(void **state)
{
    (void)state;
    static char words[5000];
    memset(words, 'x', sizeof words - 1);
    rfn_error_at("file.c", 1, RFN_INVALID, 0, "%s", words);
    assert_true(strlen(rfn_last_error()) < 1000);
    assert_non_null(strstr(rfn_last_error(), "[file.c:1]"));
    rfn_error(RFN_INVALID, "%s", words);
    assert_true(strlen(rfn_last_error()) < 1000);
}

static void *other_thread(void *arg)
{
    (void)arg;
    int clean = rfn_last_error()[0] == '\0' && rfn_last_code() == 0 &&
                rfn_site_here().file[0] == '\0';
    rfn_error(RFN_IO, "of the other");
    rfn_site_note("other.c", 9);
    return clean ? NULL : (void *)"not clean";
}

static void line_and_site_are_the_threads_own(void **state)
{
    (void)state;
    rfn_error_at("a.c", 1, RFN_INVALID, 1, "mine");
    rfn_site_note("mine.c", 4);
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
    assert_string_equal(rfn_last_error(), "mine [a.c:1]");
    assert_string_equal(rfn_site_here().file, "mine.c");
    assert_int_equal(rfn_site_here().line, 4);
    rfn_site_note(NULL, 0);
    assert_string_equal(rfn_site_here().file, "");
}

static void library_and_headers_agree_on_the_version(void **state)
{
    (void)state;
    char want[32];
    snprintf(want, sizeof want, "%d.%d.%d", RFN_VERSION_MAJOR, RFN_VERSION_MINOR,
             RFN_VERSION_PATCH);
    assert_string_equal(RFN_VERSION, want);
    assert_string_equal(rfn_version(), want);
    assert_string_equal(PROJECT_VERSION, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_pinned),
        cmocka_unit_test(a_value_that_is_none_has_words_too),
        cmocka_unit_test(error_line_has_file_and_line_and_code),
        cmocka_unit_test(error_line_of_a_caller_stands_alone),
        cmocka_unit_test(an_endless_error_line_is_cut),
        cmocka_unit_test(line_and_site_are_the_threads_own),
        cmocka_unit_test(library_and_headers_agree_on_the_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
