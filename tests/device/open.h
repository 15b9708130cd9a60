/*
 * What the device tests share: the device named by RFN_TEST_DEVICE (host, the default, or
 * cuda; check is on), exit status 77 where it is not there, and checks of one call.
 */
#ifndef TEST_OPEN_H
#define TEST_OPEN_H

#include "tests/support/harness.h"

#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test
{
    struct harness h;
    struct rfn_device *dev;
    int host;
};

/* Another device of the same kind. */
static inline struct rfn_device *test_open(const struct test *t)
{
    struct rfn_device_desc desc = {
        .kind = t->host ? RFN_DEVICE_HOST : RFN_DEVICE_CUDA,
        .check = 1,
        .threads = 2,
        .reserve_bytes = 4ll << 30,
    };
    struct rfn_device *device = NULL;
    enum rfn_status status = rfn_device_open(&desc, &device);
    if (status == RFN_OK)
        return device;
    printf("%s: no device: %s\n", t->h.name, rfn_last_error());
    exit(status == RFN_UNSUPPORTED ? 77 : 1);
}

static inline void test_begin(struct test *t, const char *name, int *argc, char **argv)
{
    const char *which = getenv("RFN_TEST_DEVICE");
    *t = (struct test) { .host = !which || strcmp(which, "cuda") != 0 };
    harness_begin(&t->h, name, argc, argv);
    t->dev = test_open(t);
}

/* Each of the words, split by '|', stands in the line. */
static inline int test_line_has(const char *words)
{
    char word[128];
    while (*words)
    {
        size_t n = strcspn(words, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        if (!strstr(rfn_last_error(), word))
            return 0;
        words += n + (words[n] == '|');
    }
    return 1;
}

static inline int test_status(struct test *t, const char *call, int line,
                              enum rfn_status got, enum rfn_status want, int code,
                              const char *words)
{
    char name[320];
    snprintf(name, sizeof name, "line %d: %.250s", line, call);
    int ok = harness_check(&t->h, name, got == want, "%s where %s is due; %s",
                           rfn_status_name(got), rfn_status_name(want),
                           got == RFN_OK ? "" : rfn_last_error());
    if (!ok || got == RFN_OK)
        return ok;
    if (code >= 0)
        ok = harness_check(&t->h, name, rfn_last_code() == code,
                           "code %d where %d is due", rfn_last_code(), code);
    return harness_check(&t->h, name, test_line_has(words), "\"%s\" lacks one of \"%s\"",
                         rfn_last_error(), words) &&
           ok;
}

/* The call succeeds; it is refused with this status and these words in the line; a rule
 * of capture refuses it with this number. */
#define OK(t, call) test_status((t), #call, __LINE__, (call), RFN_OK, -1, "")
#define REFUSED(t, call, want, words)                                                    \
    test_status((t), #call, __LINE__, (call), (want), -1, (words))
#define CAPTURE_CODE(t, call, code)                                                      \
    test_status((t), #call, __LINE__, (call), RFN_CAPTURE, (code), "")
#define HOLDS(t, condition)                                                              \
    harness_check(&(t)->h, #condition, (condition), "line %d", __LINE__)

static inline void *test_alloc(struct test *t, enum rfn_memory_kind kind, int64_t bytes)
{
    void *p = NULL;
    if (rfn_memory_alloc(t->dev, kind, bytes, &p) != RFN_OK)
    {
        printf("%s: %s\n", t->h.name, rfn_last_error());
        exit(1);
    }
    return p;
}

static inline void *test_device_memory(struct test *t, int64_t bytes)
{
    return test_alloc(t, RFN_MEMORY_DEVICE, bytes);
}

static inline struct rfn_stream *test_stream(struct test *t, enum rfn_stream_kind kind)
{
    struct rfn_stream *s = NULL;
    OK(t, rfn_stream_create(t->dev, kind, &s));
    return s;
}

static inline struct rfn_event *test_event(struct test *t)
{
    struct rfn_event *e = NULL;
    OK(t, rfn_event_create(t->dev, &e));
    return e;
}

/* Frees, with a check, and takes the pointer away. */
#define FREE(t, p) (OK((t), rfn_memory_free((t)->dev, (p))), (p) = NULL)

/* All bytes of device memory have this value. */
static inline int test_all(struct test *t, const void *p, int64_t bytes, int value)
{
    unsigned char *copy = malloc((size_t)bytes);
    int same = copy && rfn_copy_sync(t->dev, copy, p, bytes) == RFN_OK;
    for (int64_t i = 0; same && i < bytes; i++)
        same = copy[i] == value;
    free(copy);
    return same;
}

static inline int test_end(struct test *t)
{
    OK(t, rfn_device_close(&t->dev));
    return harness_end(&t->h);
}

#endif
