/*
 * A device's whole life, from opening over eager work, a capture with a fork and a child
 * and a replay to closing, with the n-th allocation failing, for every n. The step that
 * meets it says RFN_NOMEM and changes nothing, so the same step then succeeds; the result
 * is right and nothing is leaked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

/* ---- allocation that fails on demand ---------------------------------------------- */

static long fail_at = -1; /* this many more succeed; below 0: all do */
static int for_ever;      /* and all that come after fail too */
static long failures;     /* that were handed out */
static long live_blocks, live_bytes, live_mapped_bytes;

#if !SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static int fails(void)
{
    if (fail_at < 0)
        return 0;
    if (fail_at > 0)
    {
        fail_at--;
        return 0;
    }
    if (!for_ever)
        fail_at = -1;
    failures++;
    return 1;
}

static void *noted(void *p)
{
    live_blocks += p != NULL;
    live_bytes += (long)malloc_usable_size(p);
    return p;
}

void *malloc(size_t n)
{
    return fails() ? NULL : noted(__libc_malloc(n));
}

void *calloc(size_t n, size_t m)
{
    return fails() ? NULL : noted(__libc_calloc(n, m));
}

void *realloc(void *old, size_t n)
{
    long had = (long)malloc_usable_size(old);
    void *p = fails() ? NULL : __libc_realloc(old, n);
    if (!p)
        return NULL;
    live_blocks -= old != NULL;
    live_bytes -= had;
    return noted(p);
}

void *aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : noted(__libc_memalign(align, n));
}

int posix_memalign(void **ret, size_t align, size_t n)
{
    void *p = aligned_alloc(align, n);
    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}

void free(void *p)
{
    live_blocks -= p != NULL;
    live_bytes -= (long)malloc_usable_size(p);
    __libc_free(p);
}

/* Only what reserves fails: a mapping put over a reserved range allocates no memory, and
 * the ones that undo must not fail. */
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (!(flags & MAP_FIXED) && fails())
    {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *p = (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
    if (p != MAP_FAILED && !(flags & MAP_FIXED))
        live_mapped_bytes += (long)bytes;
    return p;
}

int munmap(void *at, size_t bytes)
{
    live_mapped_bytes -= (long)bytes;
    return (int)syscall(SYS_munmap, at, bytes);
}
#endif

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* ---- an op without OpenMP, whose runtime ends the process without memory ----------- */

struct mark_args
{
    struct rfn_tensor in;
    struct rfn_tensor out;
};

static void mark(const void *v, const struct rfn_host_env *env)
{
    const struct mark_args *a = v;
    (void)env;
    for (int64_t i = 0; i < a->out.shape[0]; i++)
        ((int32_t *)a->out.data)[i] = ((const int32_t *)a->in.data)[i] - 1;
}

static const struct rfn_operand mark_operands[] = {
    { "in", offsetof(struct mark_args, in), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_I32), "N", 0 },
    { "out", offsetof(struct mark_args, out), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_I32), "N", 0 },
};

static const struct rfn_op op_mark = {
    .name = "mark",
    .args_bytes = sizeof(struct mark_args),
    .operand = mark_operands,
    .operands = 2,
    .host = mark,
};

/* ---- the steps -------------------------------------------------------------------- */

#define BYTES 256
#define MANY_ALLOCATIONS 70
#define MANY_SETS 4500 /* more than the items a device has at first */
#define LAUNCHES 20
#define NODES (1 + LAUNCHES + 6)

struct world
{
    struct rfn_device_desc desc;
    int checked;
    struct rfn_device *dev;
    struct rfn_check *check;
    struct rfn_stream *s, *fork;
    struct rfn_event *e, *back;
    unsigned char *a, *b, *pinned, *operands;
    void *many[MANY_ALLOCATIONS];
    int done; /* of a step that makes many calls */
    struct rfn_graph *child, *graph;
    struct rfn_exec *exec;
    struct mark_args mark;
    int host_calls;
    struct rfn_attention *attention;
};

static void count(void *user)
{
    ++*(int *)user;
}

static enum rfn_status alloc_operands(struct world *w)
{
    enum rfn_status status =
        rfn_memory_alloc(w->dev, RFN_MEMORY_DEVICE, 4096, (void *)&w->operands);
    if (status != RFN_OK)
        return status;
    w->mark = (struct mark_args) {
        .in = rfn_tensor_of(w->operands, RFN_I32, 4, 0, 0, 0),
        .out = rfn_tensor_of(w->operands + 2048, RFN_I32, 4, 0, 0, 0),
    };
    return RFN_OK;
}

static enum rfn_status alloc_many(struct world *w)
{
    enum rfn_status status = RFN_OK;
    while (status == RFN_OK && w->done < MANY_ALLOCATIONS)
    {
        enum rfn_memory_kind kind = w->done & 1 ? RFN_MEMORY_PINNED : RFN_MEMORY_DEVICE;
        status = rfn_memory_alloc(w->dev, kind, 64, &w->many[w->done]);
        if (status != RFN_OK)
            assert_null(w->many[w->done]);
        w->done += status == RFN_OK;
    }
    return status;
}

static enum rfn_status set_often(struct world *w)
{
    enum rfn_status status = RFN_OK;
    while (status == RFN_OK && w->done < MANY_SETS)
    {
        status = rfn_set_async(w->s, w->a, w->done & 255, 1);
        w->done += status == RFN_OK;
    }
    return status;
}

static enum rfn_status launch_often(struct world *w)
{
    enum rfn_status status = RFN_OK;
    while (status == RFN_OK && w->done < LAUNCHES)
    {
        status = rfn_op_launch(w->s, &op_mark, &w->mark);
        w->done += status == RFN_OK;
    }
    return status;
}

static enum rfn_status upload(struct world *w)
{
    unsigned char pageable[BYTES];
    memset(pageable, 0, sizeof pageable);
    return rfn_copy_async(w->s, w->operands + 1024, pageable, BYTES);
}

static enum rfn_status attention_create(struct world *w)
{
    struct rfn_attention_limits limits = { 2, 2, 128, 4, 0 };
    struct rfn_geometry g = *rfn_geometry_at(6); /* tiny */
    g.index_source = (const int32_t[]) { 0, 0 };
    return rfn_attention_create(w->dev, &g, &limits, &w->attention);
}

static enum rfn_status check_create(struct world *w)
{
    return w->checked ? rfn_check_create(w->dev, &w->check) : RFN_OK;
}

#define MINE(w) rfn_stream_per_thread((w)->dev)
#define NAMED                                                                            \
    &(struct rfn_capture_desc)                                                           \
    {                                                                                    \
        RFN_CAPTURE_RELAXED, "life"                                                      \
    }
/* X(name, what it makes or NULL, the call) */
#define STEPS(X)                                                                         \
    X(open, w->dev, rfn_device_open(&w->desc, &w->dev))                                  \
    X(check, w->check, check_create(w))                                                  \
    X(a, w->a, rfn_memory_alloc(w->dev, RFN_MEMORY_DEVICE, BYTES, (void *)&w->a))        \
    X(b, w->b, rfn_memory_alloc(w->dev, RFN_MEMORY_DEVICE, BYTES, (void *)&w->b))        \
    X(p, w->pinned,                                                                      \
      rfn_memory_alloc(w->dev, RFN_MEMORY_PINNED, BYTES, (void *)&w->pinned))            \
    X(operands, w->operands, alloc_operands(w))                                          \
    X(attention, w->attention, attention_create(w))                                      \
    X(many, NULL, alloc_many(w))                                                         \
    X(s, w->s, rfn_stream_create(w->dev, RFN_STREAM_NONBLOCKING, &w->s))                 \
    X(fork, w->fork, rfn_stream_create(w->dev, RFN_STREAM_BLOCKING, &w->fork))           \
    X(e, w->e, rfn_event_create(w->dev, &w->e))                                          \
    X(back, w->back, rfn_event_create(w->dev, &w->back))                                 \
    X(import, NULL,                                                                      \
      rfn_memory_import(w->dev, &w->host_calls, sizeof(int), RFN_MEMORY_PINNED))         \
    X(clear, NULL, rfn_set_async(w->s, w->operands, 0, 4096))                            \
    X(upload, NULL, upload(w))                                                           \
    X(eager, NULL, rfn_op_launch(w->s, &op_mark, &w->mark))                              \
    X(mine, NULL, rfn_set_async(MINE(w), w->b, 0, BYTES))                                \
    X(sets, NULL, set_often(w))                                                          \
    X(record, NULL, rfn_event_record(w->e, w->s, 0))                                     \
    X(wait, NULL, rfn_stream_wait(w->fork, w->e, 0))                                     \
    X(child_begin, NULL, rfn_capture_begin(w->fork, NULL))                               \
    X(child_set, NULL, rfn_set_async(w->fork, w->a, 5, BYTES))                           \
    X(child_end, w->child, rfn_capture_end(w->fork, &w->child))                          \
    X(begin, NULL, rfn_capture_begin(w->s, NAMED))                                       \
    X(set, NULL, rfn_set_async(w->s, w->a, 1, BYTES))                                    \
    X(launches, NULL, launch_often(w))                                                   \
    X(snapshot, NULL, rfn_event_record(w->e, w->s, 0))                                   \
    X(draw, NULL, rfn_stream_wait(w->fork, w->e, 0))                                     \
    X(copy, NULL, rfn_copy_async(w->fork, w->b, w->a, BYTES))                            \
    X(join_record, NULL, rfn_event_record(w->e, w->fork, 0))                             \
    X(join, NULL, rfn_stream_wait(w->s, w->e, 0))                                        \
    X(add_child, NULL, rfn_capture_add_child(w->s, w->child))                            \
    X(call, NULL, rfn_host_call(w->s, count, &w->host_calls))                            \
    X(external, NULL, rfn_event_record(w->back, w->s, RFN_EVENT_EXTERNAL))               \
    X(await, NULL, rfn_stream_wait(w->s, w->back, RFN_EVENT_EXTERNAL))                   \
    X(out, NULL, rfn_copy_async(w->s, w->pinned, w->a, BYTES))                           \
    X(end, w->graph, rfn_capture_end(w->s, &w->graph))                                   \
    X(instantiate, w->exec, rfn_graph_instantiate(w->graph, &w->exec))                   \
    X(update, NULL, rfn_exec_update(w->exec, 3, &w->mark))                               \
    X(ready, NULL, rfn_exec_upload(w->exec, w->fork))                                    \
    X(launch, NULL, rfn_exec_launch(w->exec, w->s))                                      \
    X(again, NULL, rfn_exec_launch(w->exec, MINE(w)))                                    \
    X(sync, NULL, rfn_copy_sync(w->dev, w->many[0], w->many[1], 64))

/* clang-format off */
#define STEP_FUNCTION(name, made, call) \
    static enum rfn_status step_##name(struct world *w) { return call; } \
    static const void *made_##name(struct world *w) { (void)w; return made; }
STEPS(STEP_FUNCTION)
#define STEP_ROW(name, made, call) { #name, step_##name, made_##name },
/* clang-format on */

static const struct step
{
    const char *name;
    enum rfn_status (*call)(struct world *w);
    const void *(*made)(struct world *w);
} steps[] = { STEPS(STEP_ROW) };
#define COUNT ((int)(sizeof steps / sizeof steps[0]))

static void good(enum rfn_status status)
{
    if (status != RFN_OK)
        fail_msg("%s: %s", rfn_status_name(status), rfn_last_error());
}

static void result_is_right(struct world *w)
{
    unsigned char b[BYTES];
    int32_t marks[4];
    struct rfn_graph_info info;
    good(rfn_stream_sync(w->s));
    good(rfn_stream_sync(MINE(w)));
    good(rfn_copy_sync(w->dev, b, w->b, BYTES));
    good(rfn_copy_sync(w->dev, marks, w->mark.out.data, sizeof marks));
    for (int i = 0; i < BYTES; i++)
    {
        assert_int_equal(b[i], 1);
        assert_int_equal(w->pinned[i], 5);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(marks[i], -1);
    assert_int_equal(w->host_calls, 2);
    good(rfn_graph_query(w->graph, &info));
    assert_int_equal(info.nodes, NODES);
    assert_int_equal(info.launches, LAUNCHES);
}

static void clean_up(struct world *w)
{
    good(rfn_attention_destroy(&w->attention));
    good(rfn_exec_destroy(&w->exec));
    good(rfn_graph_destroy(&w->graph));
    good(rfn_graph_destroy(&w->child));
    good(rfn_event_destroy(&w->e));
    good(rfn_event_destroy(&w->back));
    good(rfn_stream_destroy(&w->s));
    good(rfn_stream_destroy(&w->fork));
    for (int i = 0; i < MANY_ALLOCATIONS; i++)
        good(rfn_memory_free(w->dev, w->many[i]));
    good(rfn_memory_release(w->dev, &w->host_calls));
    good(rfn_memory_free(w->dev, w->a));
    good(rfn_memory_free(w->dev, w->b));
    good(rfn_memory_free(w->dev, w->pinned));
    good(rfn_memory_free(w->dev, w->operands));
    good(rfn_check_destroy(&w->check));
    good(rfn_device_close(&w->dev));
}

/* Opening reserves less instead; asking whether the thread's own stream captures makes
 * it, and the call itself does so again. An observer cannot fail the call it is told of. */
static int gets_over_it(const char *step)
{
    return strcmp(step, "open") == 0 || strcmp(step, "mine") == 0;
}

/* One life with the n-th allocation failing; 0 when there was no n-th. */
static int live(const struct rfn_device_desc *desc, int checked, long n, int out_for_good)
{
    struct world world = { .desc = *desc, .checked = checked }, *w = &world;
    long blocks = live_blocks, bytes = live_bytes, mapped = live_mapped_bytes;
    int files = open_files(), met = 0;
    failures = 0;
    for_ever = out_for_good;
    fail_at = n;
    for (int i = 0; i < COUNT; i++)
    {
        long before = failures;
        w->done = 0;
        enum rfn_status status = steps[i].call(w);
        if (status == RFN_OK)
        {
            if (failures > before && !checked && !gets_over_it(steps[i].name))
                fail_msg("allocation %ld fails in %s, and nobody says so", n,
                         steps[i].name);
            met |= failures > before;
            continue;
        }
        fail_at = -1;
        met = 1;
        if (status != RFN_NOMEM || failures == before || !rfn_last_error()[0])
            fail_msg("allocation %ld in %s: %s: %s", n, steps[i].name,
                     rfn_status_name(status), rfn_last_error());
        if (steps[i].made(w))
            fail_msg("allocation %ld in %s: the output is set", n, steps[i].name);
        status = steps[i].call(w); /* `done` goes on where it stopped */
        if (status != RFN_OK)
            fail_msg("%s after allocation %ld failed in it: %s", steps[i].name, n,
                     rfn_last_error());
    }
    fail_at = -1;
    result_is_right(w);
    clean_up(w);
    if (live_blocks != blocks || live_bytes != bytes)
        fail_msg("allocation %ld: %ld blocks and %ld bytes are left", n,
                 live_blocks - blocks, live_bytes - bytes);
    assert_int_equal(live_mapped_bytes, mapped);
    assert_int_equal(open_files(), files);
    return met;
}

static void every_n(const struct rfn_device_desc *desc, int checked)
{
    if (SANITIZED)
        skip();
    live(desc, checked, -1, 0); /* what libraries allocate once is there now */
    for (int out_for_good = 0; out_for_good < 2; out_for_good++)
    {
        long n = 0;
        while (live(desc, checked, n, out_for_good))
            assert_true(++n < 5000);
        assert_true(n > 100);
        printf("%ld allocations\n", n);
    }
}

static void plain_device_survives_each_failing_allocation(void **state)
{
    (void)state;
    every_n(&(struct rfn_device_desc) { .kind = RFN_DEVICE_HOST,
                                        .sched = RFN_SCHED_LAZY,
                                        .threads = 1 },
            0);
}

static void checked_device_survives_each_failing_allocation(void **state)
{
    (void)state;
    every_n(&(struct rfn_device_desc) { .kind = RFN_DEVICE_HOST,
                                        .sched = RFN_SCHED_LAZY,
                                        .threads = 1,
                                        .check = 1,
                                        .fault_handler = 1,
                                        .reserve_bytes = 1 << 28 },
            0);
}

static void observed_device_survives_each_failing_allocation(void **state)
{
    (void)state;
    every_n(&(struct rfn_device_desc) { .kind = RFN_DEVICE_HOST,
                                        .sched = RFN_SCHED_LAZY,
                                        .threads = 1 },
            1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_device_survives_each_failing_allocation),
        cmocka_unit_test(checked_device_survives_each_failing_allocation),
        cmocka_unit_test(observed_device_survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
