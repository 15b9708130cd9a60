/*
 * What the tests of the host device's own table share: no front end, codes and not statuses.
 */
#ifndef TEST_BACKEND_H
#define TEST_BACKEND_H

#define RFN_NO_SITES
#include "runtime/backend.h"
#include "tests/support/harness.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct rfn_backend *const B = &rfn_backend_host;

/* The op of these tests: dst[i] = src[i] + value. */
struct add_args
{
    struct rfn_tensor dst;
    struct rfn_tensor src;
    int32_t value;
};

static void add_host(const void *args, const struct rfn_host_env *env)
{
    const struct add_args *a = args;
    (void)env;
    for (int64_t i = 0; i < a->dst.shape[0]; i++)
        ((int32_t *)a->dst.data)[i] = ((const int32_t *)a->src.data)[i] + a->value;
}

static const struct rfn_operand add_operand[] = {
    { "dst", offsetof(struct add_args, dst), RFN_OPERAND_TENSOR, RFN_WRITE, 0,
      RFN_DTYPE_BIT(RFN_I32), "T", 0 },
    { "src", offsetof(struct add_args, src), RFN_OPERAND_TENSOR, RFN_READ, 0,
      RFN_DTYPE_BIT(RFN_I32), "T", 0 },
};

static const struct rfn_scalar add_scalar[] = {
    { "value", offsetof(struct add_args, value), 4, 1 },
};

static const struct rfn_op add_op = {
    .name = "test_add",
    .args_bytes = sizeof(struct add_args),
    .operand = add_operand,
    .operands = 2,
    .scalar = add_scalar,
    .scalars = 1,
    .host = add_host,
};

#define N 64
#define BYTES ((int64_t)(N * sizeof(int32_t)))

static inline struct add_args add_of(void *dst, void *src, int32_t value)
{
    struct add_args a = { .value = value };
    a.dst = (struct rfn_tensor) { dst, RFN_I32, 1, { N }, { 1 } };
    a.src = (struct rfn_tensor) { src, RFN_I32, 1, { N }, { 1 } };
    return a;
}

/* A device with some memory; host memory is that of the test. */
struct rig
{
    struct harness *h;
    void *dev;
    void *legacy;
    void *per_thread;
    void *a, *b, *c; /* device */
    int32_t *pinned;
    int32_t pageable[N];
    void *event[32]; /* destroyed at the end */
    int events;
};

static inline int check_code(struct harness *h, const char *call, int line, int got,
                             int want)
{
    char name[320];
    snprintf(name, sizeof name, "line %d: %.240s", line, call);
    return harness_check(h, name, got == want, "%d where %d is due; %s", got, want,
                         B->why(NULL));
}

#define CODE(r, call, want) check_code((r)->h, #call, __LINE__, (call), (want))
#define OK(r, call) CODE((r), call, 0)
#define HOLDS(r, condition)                                                              \
    harness_check((r)->h, #condition, (condition), "line %d", __LINE__)

static inline void rig_open(struct rig *r, struct harness *h, enum rfn_host_sched sched,
                            uint64_t seed)
{
    char why[256] = "";
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST,
                                    .check = 1,
                                    .sched = sched,
                                    .sched_seed = seed,
                                    .threads = 1,
                                    .reserve_bytes = 64 << 20 };
    memset(r, 0, sizeof *r);
    r->h = h;
    if (B->open(&desc, &r->dev, why, sizeof why) != 0)
    {
        printf("no host device: %s\n", why);
        exit(1);
    }
    void *pinned = NULL;
    r->legacy = B->stream_builtin(r->dev, RFN_STREAM_LEGACY);
    r->per_thread = B->stream_builtin(r->dev, RFN_STREAM_PER_THREAD);
    OK(r, B->memory_alloc(r->dev, RFN_MEMORY_DEVICE, BYTES, &r->a));
    OK(r, B->memory_alloc(r->dev, RFN_MEMORY_DEVICE, BYTES, &r->b));
    OK(r, B->memory_alloc(r->dev, RFN_MEMORY_DEVICE, BYTES, &r->c));
    OK(r, B->memory_alloc(r->dev, RFN_MEMORY_PINNED, BYTES, &pinned));
    r->pinned = pinned;
    memset(r->pinned, 0, (size_t)BYTES);
}

static inline void rig_close(struct rig *r)
{
    while (r->events > 0)
        OK(r, B->event_destroy(r->dev, r->event[--r->events]));
    B->close(r->dev);
}

static inline void *stream_of(struct rig *r, enum rfn_stream_kind kind)
{
    void *s = NULL;
    OK(r, B->stream_create(r->dev, kind, &s));
    return s;
}

static inline void *event_of(struct rig *r)
{
    void *e = NULL;
    OK(r, B->event_create(r->dev, &e));
    if (r->events < 32)
        r->event[r->events++] = e;
    return e;
}

static inline int set(struct rig *r, void *stream, void *dst, int value)
{
    struct rfn_set s = { dst, BYTES, value, RFN_MEMORY_DEVICE };
    return stream ? B->set_async(r->dev, stream, &s) : B->set_sync(r->dev, &s);
}

static inline int add(struct rig *r, void *stream, void *dst, void *src, int32_t value)
{
    void *node;
    struct add_args args = add_of(dst, src, value);
    return B->launch(r->dev, stream, &add_op, &args, &node);
}

static inline int upload(struct rig *r, void *stream, void *dst, const void *src,
                         enum rfn_memory_kind kind)
{
    struct rfn_copy c = { dst, src, BYTES, RFN_MEMORY_DEVICE, kind };
    return stream ? B->copy_async(r->dev, stream, &c) : B->copy_sync(r->dev, &c);
}

static inline int download(struct rig *r, void *stream, void *dst, const void *src,
                           enum rfn_memory_kind kind)
{
    struct rfn_copy c = { dst, src, BYTES, kind, RFN_MEMORY_DEVICE };
    return stream ? B->copy_async(r->dev, stream, &c) : B->copy_sync(r->dev, &c);
}

/* What all of device memory holds, -1 when it differs. */
static inline int32_t word_of(struct rig *r, const void *src)
{
    int32_t word[N];
    OK(r, download(r, NULL, word, src, RFN_MEMORY_PAGEABLE));
    for (int i = 1; i < N; i++)
        if (word[i] != word[0])
            return -1;
    return word[0];
}

static inline enum rfn_capture_status status_of(struct rig *r, void *stream)
{
    struct rfn_capture_info info = { RFN_CAPTURE_NONE, 0 };
    OK(r, B->capture_query(r->dev, stream, &info));
    return info.status;
}

/* Ends an active capture and makes it executable. */
static inline void *exec_of(struct rig *r, void *stream)
{
    void *graph = NULL, *exec = NULL;
    OK(r, B->capture_end(r->dev, stream, &graph));
    if (graph)
    {
        OK(r, B->graph_instantiate(r->dev, graph, &exec));
        OK(r, B->graph_destroy(r->dev, graph));
    }
    return exec;
}

/* Runs a function in another thread to its end. */
static inline void in_thread(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, arg) != 0 || pthread_join(thread, NULL) != 0)
        exit(1);
}

#endif
