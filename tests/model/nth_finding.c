/*
 * The checker without memory: what it finds it keeps, and what it cannot follow it says. Each
 * allocation of a call fails in turn, then all of them do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

#define CAPTURES 80 /* more at once than the checker has room for at first */

static long fail_at = -1; /* this many more succeed; below 0: all do */
static int for_ever;      /* and all that come after fail too */

#if !SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);

static int fails(void)
{
    if (fail_at < 0 || fail_at-- > 0)
        return 0;
    if (for_ever)
        fail_at = 0;
    return 1;
}

void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    return fails() ? NULL : __libc_calloc(n, m);
}

void *realloc(void *old, size_t n)
{
    return fails() ? NULL : __libc_realloc(old, n);
}
#endif

static struct rfn_device *device;
static struct rfn_check *check;
static struct rfn_stream *stream[CAPTURES];
static int32_t *pinned;
static void *memory;

static void good(enum rfn_status status)
{
    if (status != RFN_OK)
        fprintf(stderr, "%s: %s\n", rfn_status_name(status), rfn_last_error());
    assert_int_equal(status, RFN_OK);
}

static int set_up(void **state)
{
    (void)state;
    struct rfn_device_desc desc = {
        .kind = RFN_DEVICE_HOST, .check = 1, .fault_handler = 1, .reserve_bytes = 1 << 28
    };
    good(rfn_device_open(&desc, &device));
    good(rfn_check_create(device, &check));
    good(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, 4096, &memory));
    good(rfn_memory_alloc(device, RFN_MEMORY_PINNED, 4096, (void *)&pinned));
    for (int i = 0; i < CAPTURES; i++)
        good(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream[i]));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fail_at = -1;
    for_ever = 0;
    for (int i = 0; i < CAPTURES; i++)
        good(rfn_stream_destroy(&stream[i]));
    good(rfn_memory_free(device, memory));
    good(rfn_memory_free(device, pinned));
    good(rfn_check_destroy(&check));
    good(rfn_device_close(&device));
    return 0;
}

static void findings_need_no_memory(void **state)
{
    (void)state;
    static const enum rfn_rule want[] = { RFN_CAP002, RFN_CAP004, RFN_CAP009,
                                          RFN_CAP001 };
    struct rfn_graph *graph = NULL;
    struct rfn_finding f;
    good(rfn_capture_begin(stream[0], NULL));
    fail_at = 0;
    for_ever = 1;
    good(rfn_region_begin("starved"));
    good(rfn_copy_sync(device, memory, pinned + 512, 256));
    good(rfn_set_async(stream[1], memory, 0, 256));
    assert_int_equal(rfn_memory_free(device, NULL), RFN_CAPTURE);
    assert_int_equal(rfn_stream_sync(stream[1]), RFN_CAPTURE);
    good(rfn_region_end());
    int32_t count = rfn_check_count(check);
    int found[sizeof want / sizeof want[0]] = { 0 };
    for (int32_t i = 0; i < count; i++)
    {
        good(rfn_check_finding(check, i, &f));
        for (size_t w = 0; w < sizeof want / sizeof want[0]; w++)
            found[w] += f.rule == want[w] && !strcmp(f.region, "starved");
    }
    fail_at = -1;
    for_ever = 0;
    for (size_t w = 0; w < sizeof want / sizeof want[0]; w++)
        assert_int_equal(found[w], 1);
    assert_int_equal(count, 4);
    assert_int_equal(rfn_capture_end(stream[0], &graph), RFN_CAPTURE);
}

/* Any number of captures may be open; one that there was no memory to follow is counted. */
static void captures_that_are_not_followed_are_counted(void **state)
{
    (void)state;
    struct rfn_capture_desc desc = { RFN_CAPTURE_RELAXED, NULL };
    struct rfn_graph *graph = NULL;
    struct rfn_finding f;
    for_ever = 1;
    for (int i = 0; i < CAPTURES; i++)
        for (long n = 0;; n++)
        {
            fail_at = SANITIZED ? -1 : n;
            enum rfn_status status = rfn_capture_begin(stream[i], &desc);
            fail_at = -1;
            assert_true(status == RFN_OK || status == RFN_NOMEM);
            if (status == RFN_OK)
                break;
        }
    for_ever = 0;
    assert_int_equal(rfn_check_count(check), !SANITIZED);
    if (!SANITIZED)
    {
        good(rfn_check_finding(check, 0, &f));
        assert_int_equal(f.count, CAPTURES - 64);
        assert_non_null(strstr(f.why, "without memory to follow it"));
    }
    for (int i = 0; i < CAPTURES; i++)
    {
        good(rfn_host_call(stream[i], free, NULL));
        good(rfn_capture_end(stream[i], &graph));
        good(rfn_graph_destroy(&graph));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(findings_need_no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(captures_that_are_not_followed_are_counted,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
