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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_copied_and_joined),
        cmocka_unit_test(what_is_wrong_says_so),
        cmocka_unit_test(deep_ones_are_counted_and_long_ones_cut),
        cmocka_unit_test(each_thread_has_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
