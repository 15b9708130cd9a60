/*
 * Memory: kinds, generations, imports, ranges that leave their allocation, pins by
 * captures, graphs and executables, and copies in every direction.
 */
#include "tests/device/open.h"

#include <inttypes.h>

#define BYTES 4096

static void kinds_are_told_apart(struct test *t)
{
    struct rfn_memory_info info;
    char *d = test_device_memory(t, 1000), *p = test_alloc(t, RFN_MEMORY_PINNED, 500);
    char *heap = malloc(100), stack[16];
    HOLDS(t, (uintptr_t)d % 256 == 0 && (uintptr_t)p % 256 == 0);
    OK(t, rfn_memory_query(t->dev, d + 999, &info));
    HOLDS(t, info.kind == RFN_MEMORY_DEVICE && info.base == d && info.bytes == 1000);
    HOLDS(t, info.generation > 0 && info.pins == 0 && !info.foreign);
    OK(t, rfn_memory_query(t->dev, p, &info));
    HOLDS(t, info.kind == RFN_MEMORY_PINNED && info.base == p && info.bytes == 500);
    const void *unknown[] = { heap, stack, NULL, &unknown };
    for (int i = 0; i < 4; i++)
    {
        OK(t, rfn_memory_query(t->dev, unknown[i], &info));
        HOLDS(t, info.kind == RFN_MEMORY_PAGEABLE && !info.base && !info.generation);
    }
    free(heap);
    FREE(t, d);
    FREE(t, p);
}

static void generations_are_never_used_twice(struct test *t)
{
    uint64_t last = 0;
    for (int i = 0; i < 50; i++)
    {
        struct rfn_memory_info info;
        enum rfn_memory_kind kind = i & 1 ? RFN_MEMORY_PINNED : RFN_MEMORY_DEVICE;
        void *p = test_alloc(t, kind, 64 + i);
        OK(t, rfn_memory_query(t->dev, p, &info));
        HOLDS(t, info.generation > last);
        last = info.generation;
        FREE(t, p);
    }
}

static void what_cannot_be_allocated_is_refused(struct test *t)
{
    void *p = &p;
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_PAGEABLE, 64, &p), RFN_INVALID,
            "0|2|1");
    REFUSED(t, rfn_memory_alloc(t->dev, (enum rfn_memory_kind)7, 64, &p), RFN_INVALID,
            "7");
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, 0, &p), RFN_INVALID,
            "0 bytes");
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, -5, &p), RFN_INVALID,
            "-5 bytes");
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, INT64_MAX, &p), RFN_NOMEM,
            "9223372036854775807");
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, 1ll << 46, &p), RFN_NOMEM,
            "70368744177664");
    HOLDS(t, p == &p);
    OK(t, rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, 64, &p)); /* and it goes on */
    FREE(t, p);
}

static void only_the_base_of_a_live_allocation_is_freed(struct test *t)
{
    char *p = test_device_memory(t, 1024), *gone = p, words[64], local;
    snprintf(words, sizeof words, "%p|%p", (void *)(p + 256), (void *)p);
    REFUSED(t, rfn_memory_free(t->dev, p + 256), RFN_INVALID, words);
    REFUSED(t, rfn_memory_free(t->dev, p + 1024), RFN_INVALID, "");
    REFUSED(t, rfn_memory_free(t->dev, p - 1), RFN_INVALID, "");
    REFUSED(t, rfn_memory_free(t->dev, &local), RFN_INVALID, "no live allocation");
    REFUSED(t, rfn_memory_release(t->dev, p), RFN_INVALID, "import");
    FREE(t, p);
    snprintf(words, sizeof words, "%p|no live allocation", (void *)gone);
    REFUSED(t, rfn_memory_free(t->dev, gone), RFN_INVALID, words);
}

static void imports_are_known_until_released(struct test *t)
{
    static _Alignas(256) char foreign[4096];
    struct rfn_memory_info info;
    uint64_t first;
    char words[128];
    OK(t, rfn_memory_import(t->dev, foreign + 1024, 1024, RFN_MEMORY_PINNED));
    OK(t, rfn_memory_query(t->dev, foreign + 2047, &info));
    HOLDS(t, info.foreign && info.base == foreign + 1024 && info.bytes == 1024);
    HOLDS(t, info.kind == RFN_MEMORY_PINNED && info.generation > 0);
    first = info.generation;
    snprintf(words, sizeof words, "%p|%p|1024 bytes", (void *)foreign,
             (void *)(foreign + 1024));
    REFUSED(t, rfn_memory_import(t->dev, foreign, 1025, RFN_MEMORY_PINNED), RFN_INVALID,
            words);
    REFUSED(t, rfn_memory_import(t->dev, foreign + 2047, 10, RFN_MEMORY_PINNED),
            RFN_INVALID, "overlap");
    REFUSED(t, rfn_memory_import(t->dev, foreign, 4096, RFN_MEMORY_DEVICE), RFN_INVALID,
            "overlap");
    REFUSED(t, rfn_memory_import(t->dev, foreign + 1500, 1, RFN_MEMORY_PINNED),
            RFN_INVALID, "overlap");
    OK(t, rfn_memory_import(t->dev, foreign, 1024, RFN_MEMORY_PINNED)); /* touch: fine */
    OK(t, rfn_memory_import(t->dev, foreign + 2048, 1, RFN_MEMORY_PINNED));
    REFUSED(t, rfn_memory_import(t->dev, NULL, 8, RFN_MEMORY_PINNED), RFN_INVALID, "");
    REFUSED(t, rfn_memory_import(t->dev, foreign + 3000, 0, RFN_MEMORY_PINNED),
            RFN_INVALID, "0 bytes");
    REFUSED(t, rfn_memory_import(t->dev, foreign + 3000, 8, RFN_MEMORY_PAGEABLE),
            RFN_INVALID, "0");
    REFUSED(t, rfn_memory_free(t->dev, foreign + 1024), RFN_INVALID, "release");
    REFUSED(t, rfn_memory_release(t->dev, foreign + 1025), RFN_INVALID, "import");
    /* A pageable range that runs into them. */
    OK(t, rfn_memory_release(t->dev, foreign));
    snprintf(words, sizeof words, "8 bytes|%p|1024 bytes at %p", (void *)(foreign + 1017),
             (void *)(foreign + 1024));
    REFUSED(t, rfn_copy_sync(t->dev, foreign + 1017, words, 8), RFN_INVALID, words);
    REFUSED(t, rfn_copy_sync(t->dev, words, foreign + 1017, 8), RFN_INVALID, words);
    OK(t, rfn_copy_sync(t->dev, foreign + 1017, words, 7));
    OK(t, rfn_memory_release(t->dev, foreign + 1024));
    OK(t, rfn_memory_release(t->dev, foreign + 2048));
    REFUSED(t, rfn_memory_release(t->dev, foreign), RFN_INVALID, "import");
    REFUSED(t, rfn_memory_release(t->dev, NULL), RFN_INVALID, "import");
    OK(t, rfn_memory_import(t->dev, foreign + 1024, 1024, RFN_MEMORY_PINNED));
    OK(t, rfn_memory_query(t->dev, foreign + 1024, &info));
    HOLDS(t, info.generation > first);
    OK(t, rfn_memory_release(t->dev, foreign + 1024));
}

static void ranges_that_leave_their_allocation_are_refused(struct test *t)
{
    static const enum rfn_memory_kind kinds[] = { RFN_MEMORY_DEVICE, RFN_MEMORY_PINNED };
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    char *good = test_device_memory(t, BYTES), words[96];
    OK(t, rfn_set_sync(t->dev, good, 7, BYTES));
    for (int k = 0; k < 2; k++)
    {
        char *p = test_alloc(t, kinds[k], 1000);
        OK(t, rfn_set_sync(t->dev, p, 3, 1000));
        snprintf(words, sizeof words, "1001 bytes|1000 bytes at %p|1000 left", (void *)p);
        REFUSED(t, rfn_copy_sync(t->dev, p, good, 1001), RFN_INVALID, words);
        REFUSED(t, rfn_copy_sync(t->dev, good, p, 1001), RFN_INVALID, words);
        REFUSED(t, rfn_copy_async(s, p, good, 1001), RFN_INVALID, words);
        REFUSED(t, rfn_copy_async(s, good, p, 1001), RFN_INVALID, words);
        REFUSED(t, rfn_set_sync(t->dev, p, 9, 1001), RFN_INVALID, words);
        REFUSED(t, rfn_set_async(s, p, 9, 1001), RFN_INVALID, words);
        snprintf(words, sizeof words, "2 bytes|1000 bytes at %p|1 left", (void *)p);
        REFUSED(t, rfn_copy_sync(t->dev, p + 999, good, 2), RFN_INVALID, words);
        REFUSED(t, rfn_set_async(s, p + 999, 9, 2), RFN_INVALID, words);
        /* One byte in front: part of nothing, or of a neighbour. */
        snprintf(words, sizeof words, "%p", (void *)(p - 1));
        REFUSED(t, rfn_copy_sync(t->dev, p - 1, good, 2), RFN_INVALID, words);
        REFUSED(t, rfn_copy_sync(t->dev, good, p - 1, 2), RFN_INVALID, words);
        REFUSED(t, rfn_copy_async(s, p - 1, good, 1000), RFN_INVALID, words);
        REFUSED(t, rfn_copy_async(s, good, p - 1, 1000), RFN_INVALID, words);
        REFUSED(t, rfn_set_sync(t->dev, p - 1, 9, 2), RFN_INVALID, "");
        REFUSED(t, rfn_set_async(s, p - 1, 9, 2), RFN_INVALID, "");
        REFUSED(t, rfn_copy_sync(t->dev, p, good, -1), RFN_INVALID, "-1 bytes");
        REFUSED(t, rfn_copy_async(s, p, good, INT64_MIN), RFN_INVALID, "bytes");
        REFUSED(t, rfn_copy_async(s, p, good, INT64_MAX), RFN_INVALID, "left");
        REFUSED(t, rfn_set_sync(t->dev, p, 9, -1), RFN_INVALID, "-1 bytes");
        OK(t, rfn_stream_sync(s));
        HOLDS(t, test_all(t, p, 1000, 3));
        OK(t, rfn_copy_sync(t->dev, p + 999, good, 1)); /* the last byte is fine */
        OK(t, rfn_copy_sync(t->dev, p, good, 1000));
        OK(t, rfn_copy_sync(t->dev, p, good, 0));
        FREE(t, p);
    }
    HOLDS(t, test_all(t, good, BYTES, 7));
    REFUSED(t, rfn_copy_sync(t->dev, NULL, good, 8), RFN_INVALID, "NULL|8 bytes");
    REFUSED(t, rfn_copy_async(s, good, NULL, 8), RFN_INVALID, "NULL|8 bytes");
    REFUSED(t, rfn_set_async(s, good, 256, 8), RFN_INVALID, "256|255");
    REFUSED(t, rfn_set_sync(t->dev, good, -1, 8), RFN_INVALID, "-1|255");
    REFUSED(t, rfn_set_async(s, words, 0, 8), RFN_INVALID, "pageable");
    FREE(t, good);
    OK(t, rfn_stream_destroy(&s));
}

static void freed_memory_is_refused(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    char *good = test_device_memory(t, BYTES), words[64];
    char *gone = test_device_memory(t, BYTES), *stale = gone;
    FREE(t, gone);
    if (t->host) /* CUDA may hand the range out again, and has no memory of it */
    {
        snprintf(words, sizeof words, "%p|freed", (void *)(stale + 16));
        REFUSED(t, rfn_copy_sync(t->dev, good, stale + 16, 16), RFN_INVALID, words);
        REFUSED(t, rfn_copy_async(s, stale + 16, good, 16), RFN_INVALID, words);
        REFUSED(t, rfn_set_sync(t->dev, stale + 16, 0, 16), RFN_INVALID, words);
        REFUSED(t, rfn_set_async(s, stale + 16, 0, 16), RFN_INVALID, words);
        struct rfn_index_topk_args args = {
            .logits = rfn_tensor_of(stale, RFN_F32, 1, 8, 0, 0),
            .lens = rfn_tensor_of(good, RFN_I32, 1, 0, 0, 0),
            .positions = rfn_tensor_of(good + 64, RFN_I32, 1, 4, 0, 0),
        };
        REFUSED(t, rfn_index_topk(s, &args), RFN_INVALID, "logits|freed");
    }
    FREE(t, good);
    OK(t, rfn_stream_destroy(&s));
}

static void memory_of_another_device_is_refused(struct test *t)
{
    if (!t->host)
        return; /* CUDA would copy between peers */
    struct rfn_device *other = test_open(t);
    void *mine = test_device_memory(t, 64), *theirs = NULL;
    OK(t, rfn_memory_alloc(other, RFN_MEMORY_DEVICE, 64, &theirs));
    REFUSED(t, rfn_copy_sync(t->dev, mine, theirs, 64), RFN_INVALID, "device");
    REFUSED(t, rfn_copy_sync(t->dev, theirs, mine, 64), RFN_INVALID, "device");
    REFUSED(t, rfn_set_sync(t->dev, theirs, 0, 64), RFN_INVALID, "");
    REFUSED(t, rfn_memory_free(t->dev, theirs), RFN_INVALID, "no live allocation");
    OK(t, rfn_memory_free(other, theirs));
    FREE(t, mine);
    OK(t, rfn_device_close(&other));
}

static void pinned_memory_is_busy_by_name(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_capture_desc desc = { .mode = RFN_CAPTURE_RELAXED, .name = "the holder" };
    struct rfn_memory_info info;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    char *dst = test_device_memory(t, 64), *src = test_device_memory(t, 64);
    char *arg = test_device_memory(t, 4096);
    struct rfn_index_topk_args args = {
        .logits = rfn_tensor_of(arg, RFN_F32, 1, 8, 0, 0),
        .lens = rfn_tensor_of(arg + 1024, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(arg + 2048, RFN_I32, 1, 4, 0, 0),
    };
    OK(t, rfn_set_sync(t->dev, arg, 0, 4096));
    OK(t, rfn_capture_begin(s, &desc));
    OK(t, rfn_copy_async(s, dst, src, 32));
    OK(t, rfn_index_topk(s, &args));
    void *all[] = { dst, src, arg };
    static const char *const stages[] = { "a capture", "a graph", "both",
                                          "an executable" };
    for (int stage = 0; stage < 4; stage++)
    {
        if (stage == 1)
            OK(t, rfn_capture_end(s, &graph));
        if (stage == 2)
            OK(t, rfn_graph_instantiate(graph, &exec));
        if (stage == 3)
            OK(t, rfn_graph_destroy(&graph));
        for (int i = 0; i < 3; i++)
        {
            enum rfn_status status = rfn_memory_free(t->dev, all[i]);
            harness_check(&t->h, "pinned memory is busy",
                          status == RFN_BUSY && test_line_has("the holder|memory.c"),
                          "%s held by %s: %s", rfn_status_name(status), stages[stage],
                          rfn_last_error());
            OK(t, rfn_memory_query(t->dev, all[i], &info));
            HOLDS(t, info.pins > 0);
        }
    }
    /* An update moves the pins; what the captured graph touched stays with its body. */
    char *next = test_device_memory(t, 4096);
    OK(t, rfn_set_sync(t->dev, next, 0, 4096));
    OK(t, rfn_device_sync(t->dev));
    args.logits.data = next;
    args.lens.data = next + 1024;
    OK(t, rfn_exec_update(exec, 0, &args));
    REFUSED(t, rfn_memory_free(t->dev, next), RFN_BUSY, "the holder");
    OK(t, rfn_exec_launch(exec, s));
    OK(t, rfn_stream_sync(s));
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_memory_query(t->dev, dst, &info));
    HOLDS(t, info.pins == 0);
    FREE(t, dst);
    FREE(t, src);
    FREE(t, arg);
    FREE(t, next);
    /* A capture that fails holds nothing any more. */
    dst = test_device_memory(t, 64);
    OK(t, rfn_capture_begin(s, &desc));
    OK(t, rfn_set_async(s, dst, 1, 64));
    REFUSED(t, rfn_memory_free(t->dev, dst), RFN_BUSY, "the holder");
    CAPTURE_CODE(t, rfn_stream_sync(s), 900);
    CAPTURE_CODE(t, rfn_capture_end(s, &graph), 901);
    FREE(t, dst);
    OK(t, rfn_stream_destroy(&s));
}

static void released_import_stops_the_replay_by_name(struct test *t)
{
    static _Alignas(256) char foreign[256], words[96];
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_graph *graph = NULL, *parent = NULL;
    struct rfn_exec *exec = NULL, *outer = NULL;
    char *src = test_device_memory(t, 256);
    OK(t, rfn_set_sync(t->dev, src, 5, 256));
    OK(t,
       rfn_device_sync(t->dev)); /* a set does not wait, and the stream is non-blocking */
    OK(t, rfn_memory_import(t->dev, foreign, 256, RFN_MEMORY_PINNED));
    OK(t, rfn_capture_begin(s, &(struct rfn_capture_desc) { .name = "stale one" }));
    OK(t, rfn_copy_async(s, foreign, src, 256));
    OK(t, rfn_capture_end(s, &graph));
    OK(t, rfn_capture_begin(s, &(struct rfn_capture_desc) { .name = "outer" }));
    OK(t, rfn_capture_add_child(s, graph));
    OK(t, rfn_capture_end(s, &parent));
    OK(t, rfn_graph_instantiate(graph, &exec));
    OK(t, rfn_graph_instantiate(parent, &outer));
    OK(t, rfn_exec_launch(exec, s));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, foreign[0] == 5 && foreign[255] == 5);
    memset(foreign, 1, sizeof foreign);
    OK(t, rfn_memory_release(t->dev, foreign));
    snprintf(words, sizeof words, "stale one|%p|256 bytes|released", (void *)foreign);
    REFUSED(t, rfn_exec_launch(exec, s), RFN_INVALID, words);
    REFUSED(t, rfn_exec_launch(outer, s), RFN_INVALID, "outer|released");
    /* The same range again is other memory. */
    OK(t, rfn_memory_import(t->dev, foreign, 256, RFN_MEMORY_PINNED));
    REFUSED(t, rfn_exec_launch(exec, s), RFN_INVALID, words);
    OK(t, rfn_memory_release(t->dev, foreign));
    OK(t, rfn_stream_sync(s));
    HOLDS(t, foreign[0] == 1 && foreign[255] == 1);
    OK(t, rfn_exec_destroy(&exec));
    OK(t, rfn_exec_destroy(&outer));
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_graph_destroy(&parent));
    FREE(t, src);
    OK(t, rfn_stream_destroy(&s));
}

static void copies_arrive_in_every_direction(struct test *t)
{
    unsigned char *a = malloc(BYTES), *b = malloc(BYTES);
    unsigned char *p = test_alloc(t, RFN_MEMORY_PINNED, BYTES);
    unsigned char *d = test_device_memory(t, BYTES), *e = test_device_memory(t, BYTES);
    for (int n = 1; n <= BYTES; n = 3 * n + 1)
    {
        for (int i = 0; i < BYTES; i++)
            a[i] = (unsigned char)(i * 7 + n);
        OK(t, rfn_set_sync(t->dev, e, 0xee, BYTES));
        OK(t, rfn_copy_sync(t->dev, d, a, n)); /* pageable to device */
        OK(t, rfn_copy_sync(t->dev, e, d, n)); /* device to device */
        OK(t, rfn_copy_sync(t->dev, p, e, n)); /* device to pinned */
        memset(b, 0, BYTES);
        OK(t, rfn_copy_sync(t->dev, b, p, n)); /* host to host */
        HOLDS(t, memcmp(a, b, (size_t)n) == 0 && (n == BYTES || b[n] == 0));
        HOLDS(t, n == BYTES || test_all(t, e + n, BYTES - n, 0xee));
        OK(t, rfn_copy_sync(t->dev, d, p, n)); /* pinned to device */
        OK(t, rfn_copy_sync(t->dev, b, d, n)); /* device to pageable */
        HOLDS(t, memcmp(a, b, (size_t)n) == 0);
    }
    free(a);
    free(b);
    FREE(t, p);
    FREE(t, d);
    FREE(t, e);
}

static void freeing_waits_for_what_still_uses_it(struct test *t)
{
    struct rfn_stream *s = test_stream(t, RFN_STREAM_NONBLOCKING);
    unsigned char *out = test_alloc(t, RFN_MEMORY_PINNED, BYTES);
    memset(out, 0, BYTES);
    for (int i = 1; i <= 5; i++)
    {
        unsigned char *d = test_device_memory(t, BYTES);
        OK(t, rfn_set_async(s, d, i, BYTES));
        OK(t, rfn_copy_async(s, out, d, BYTES));
        FREE(t, d);
        OK(t, rfn_stream_sync(s));
        HOLDS(t, out[0] == i && out[BYTES - 1] == i);
    }
    FREE(t, out);
    OK(t, rfn_stream_destroy(&s));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "memory", &argc, argv);
    kinds_are_told_apart(&t);
    generations_are_never_used_twice(&t);
    what_cannot_be_allocated_is_refused(&t);
    only_the_base_of_a_live_allocation_is_freed(&t);
    imports_are_known_until_released(&t);
    ranges_that_leave_their_allocation_are_refused(&t);
    freed_memory_is_refused(&t);
    memory_of_another_device_is_refused(&t);
    pinned_memory_is_busy_by_name(&t);
    released_import_stops_the_replay_by_name(&t);
    copies_arrive_in_every_direction(&t);
    freeing_waits_for_what_still_uses_it(&t);
    return test_end(&t);
}
