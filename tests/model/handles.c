/*
 * Random creation, use and destruction of streams, events and memory against a model that
 * knows only what is live, what every byte is, and which stream touched it last, under
 * each schedule. RFN_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/rng.h"

#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STREAMS 5
#define EVENTS 5
#define MEMORIES 7
#define BYTES_MAX 300
#define STEPS 4000

struct memory
{
    unsigned char *address;
    enum rfn_memory_kind kind;
    int64_t bytes;
    uint64_t generation;
    unsigned char model[BYTES_MAX];
    int last; /* stream that touched it last, -1: none or destroyed since */
};

struct model
{
    struct rfn_device *dev;
    struct rng rng;
    struct rfn_stream *stream[STREAMS], *gone_stream;
    struct rfn_event *event[EVENTS], *gone_event;
    int recorded[EVENTS];
    struct memory memory[MEMORIES];
    unsigned char *gone_memory;
    uint64_t generation;
    int step;
};

static void good(const struct model *m, enum rfn_status status)
{
    if (status != RFN_OK)
        fail_msg("step %d: %s: %s", m->step, rfn_status_name(status), rfn_last_error());
}

static void refused(const struct model *m, enum rfn_status status)
{
    if (status != RFN_INVALID)
        fail_msg("step %d: %s where INVALID is due", m->step, rfn_status_name(status));
}

static int pick(struct model *m, int n)
{
    return (int)rng_below(&m->rng, n);
}

static int live_stream(struct model *m)
{
    int i = pick(m, STREAMS);
    return m->stream[i] ? i : -1;
}

static int live_memory(struct model *m)
{
    int i = pick(m, MEMORIES);
    return m->memory[i].address ? i : -1;
}

/* What stream s does next comes after what touched the memory last. */
static void order(struct model *m, int s, struct memory *x)
{
    if (x->last != s && x->last >= 0)
    {
        struct rfn_event *e = NULL;
        good(m, rfn_event_create(m->dev, &e));
        good(m, rfn_event_record(e, m->stream[x->last], 0));
        good(m, rfn_stream_wait(m->stream[s], e, 0));
        good(m, rfn_event_destroy(&e)); /* what waits still waits */
    }
    x->last = s;
}

/* Nobody touches the memory any more. */
static void settle(struct model *m, struct memory *x)
{
    if (x->last >= 0)
        good(m, rfn_stream_sync(m->stream[x->last]));
    x->last = -1;
}

static void compare(struct model *m, struct memory *x)
{
    unsigned char seen[BYTES_MAX];
    settle(m, x);
    if (x->kind == RFN_MEMORY_PINNED)
        memcpy(seen, x->address, (size_t)x->bytes);
    else
        good(m, rfn_copy_sync(m->dev, seen, x->address, x->bytes));
    if (memcmp(seen, x->model, (size_t)x->bytes) != 0)
        fail_msg("step %d: memory is not what the model says", m->step);
}

static void stream_step(struct model *m)
{
    int i = pick(m, STREAMS);
    enum rfn_stream_kind kind = pick(m, 2) ? RFN_STREAM_BLOCKING : RFN_STREAM_NONBLOCKING;
    if (!m->stream[i])
    {
        good(m, rfn_stream_create(m->dev, kind, &m->stream[i]));
        return;
    }
    if (pick(m, 2)) /* its work still runs, but only the device can be waited for */
        good(m, rfn_stream_sync(m->stream[i]));
    for (int k = 0; k < MEMORIES; k++)
        if (m->memory[k].address && m->memory[k].last == i)
            settle(m, &m->memory[k]);
    m->gone_stream = m->stream[i];
    good(m, rfn_stream_destroy(&m->stream[i]));
    assert_null(m->stream[i]);
}

static void event_step(struct model *m)
{
    int i = pick(m, EVENTS), s = live_stream(m);
    if (!m->event[i])
    {
        good(m, rfn_event_create(m->dev, &m->event[i]));
        m->recorded[i] = 0;
        good(m, rfn_event_query(m->event[i])); /* never recorded: nothing to wait for */
        return;
    }
    switch (pick(m, 5))
    {
    case 0:
        m->gone_event = m->event[i];
        good(m, rfn_event_destroy(&m->event[i]));
        assert_null(m->event[i]);
        break;
    case 1:
        if (s < 0)
            break;
        good(m, rfn_event_record(m->event[i], m->stream[s], 0));
        m->recorded[i] = 1;
        break;
    case 2:
        if (s >= 0)
            good(m, rfn_stream_wait(m->stream[s], m->event[i], 0));
        break;
    case 3:
        good(m, rfn_event_sync(m->event[i]));
        good(m, rfn_event_query(m->event[i]));
        break;
    default:
    {
        enum rfn_status status = rfn_event_query(m->event[i]);
        assert_true(status == RFN_OK || status == RFN_NOT_READY);
        float ms = -1;
        if (m->recorded[i] && status == RFN_OK)
        {
            good(m, rfn_event_elapsed(m->event[i], m->event[i], &ms));
            assert_true(ms == 0);
        }
    }
    }
}

static void alloc_step(struct model *m)
{
    struct memory *x = &m->memory[pick(m, MEMORIES)];
    struct rfn_memory_info info;
    if (x->address)
    {
        compare(m, x);
        m->gone_memory = x->address;
        good(m, rfn_memory_free(m->dev, x->address));
        x->address = NULL;
        return;
    }
    x->bytes = rng_between(&m->rng, 1, BYTES_MAX);
    x->kind = pick(m, 2) ? RFN_MEMORY_PINNED : RFN_MEMORY_DEVICE;
    x->last = -1;
    good(m, rfn_memory_alloc(m->dev, x->kind, x->bytes, (void *)&x->address));
    good(m, rfn_memory_query(m->dev, x->address, &info));
    assert_true(info.kind == x->kind && info.bytes == x->bytes && info.pins == 0);
    assert_true(info.generation > m->generation);
    m->generation = info.generation;
    good(m, rfn_set_sync(m->dev, x->address, 0, x->bytes));
    good(m, rfn_stream_sync(rfn_stream_legacy(m->dev))); /* for non-blocking streams */
    memset(x->model, 0, sizeof x->model);
}

static void write_step(struct model *m)
{
    int s = live_stream(m), i = live_memory(m), k = live_memory(m);
    if (s < 0 || i < 0)
        return;
    struct memory *to = &m->memory[i], *from = k < 0 ? NULL : &m->memory[k];
    int64_t at = rng_below(&m->rng, to->bytes);
    int64_t n = rng_between(&m->rng, 0, to->bytes - at);
    order(m, s, to);
    if (!from || from == to)
    {
        int value = pick(m, 256);
        good(m, rfn_set_async(m->stream[s], to->address + at, value, n));
        memset(to->model + at, value, (size_t)n);
        return;
    }
    n = n > from->bytes ? from->bytes : n;
    order(m, s, from);
    good(m, rfn_copy_async(m->stream[s], to->address + at, from->address, n));
    memcpy(to->model + at, from->model, (size_t)n);
}

/* What is not live, and ranges that leave what is. */
static void wrong_step(struct model *m)
{
    int s = live_stream(m), i = live_memory(m);
    char local[8];
    refused(m, rfn_stream_sync((struct rfn_stream *)(void *)local));
    refused(m, rfn_memory_free(m->dev, local));
    if (m->gone_stream)
    {
        struct rfn_stream *gone = m->gone_stream;
        refused(m, rfn_stream_sync(gone));
        refused(m, rfn_stream_destroy(&gone));
        assert_ptr_equal(gone, m->gone_stream);
    }
    if (m->gone_event)
    {
        refused(m, rfn_event_sync(m->gone_event));
        if (s >= 0)
            refused(m, rfn_stream_wait(m->stream[s], m->gone_event, 0));
    }
    if (m->gone_memory)
        refused(m, rfn_memory_free(m->dev, m->gone_memory));
    if (i < 0 || s < 0)
        return;
    struct memory *x = &m->memory[i];
    int64_t at = rng_below(&m->rng, x->bytes);
    refused(m, rfn_set_async(m->stream[s], x->address + at, 1, x->bytes - at + 1));
    refused(m, rfn_copy_async(m->stream[s], x->address + at, local, x->bytes - at + 1));
    refused(m, rfn_set_sync(m->dev, x->address - 1, 1, 2));
    if (m->gone_memory)
        refused(m, rfn_copy_async(m->stream[s], x->address, m->gone_memory, 1));
    if (at > 0)
        refused(m, rfn_memory_free(m->dev, x->address + at));
}

static void count_and_close(struct model *m)
{
    struct rfn_device *same = m->dev;
    int streams = 0, events = 0, memories = 0;
    char words[96];
    for (int i = 0; i < STREAMS; i++)
        streams += m->stream[i] != NULL;
    for (int i = 0; i < EVENTS; i++)
        events += m->event[i] != NULL;
    for (int i = 0; i < MEMORIES; i++)
        memories += m->memory[i].address != NULL;
    if (streams + events + memories == 0)
        return;
    assert_int_equal(rfn_device_close(&m->dev), RFN_BUSY);
    assert_ptr_equal(m->dev, same);
    snprintf(words, sizeof words, "%d allocations, %d streams, %d events", memories,
             streams, events);
    if (!strstr(rfn_last_error(), words))
        fail_msg("\"%s\" lacks \"%s\"", rfn_last_error(), words);
}

static void agree(enum rfn_host_sched sched, uint64_t seed)
{
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST,
                                    .check = 1,
                                    .sched = sched,
                                    .sched_seed = seed,
                                    .reserve_bytes = 4ll << 30 };
    struct model m = { .rng = rng_of(seed) };
    printf("RFN_SEED=%llu, schedule %d\n", (unsigned long long)seed, sched);
    good(&m, rfn_device_open(&desc, &m.dev));
    for (m.step = 0; m.step < STEPS; m.step++)
    {
        int kind = pick(&m, 100);
        if (kind < 8)
            stream_step(&m);
        else if (kind < 30)
            event_step(&m);
        else if (kind < 40)
            alloc_step(&m);
        else if (kind < 84)
            write_step(&m);
        else if (kind < 94)
            wrong_step(&m);
        else if (kind < 99)
        {
            int i = live_memory(&m);
            if (i >= 0)
                compare(&m, &m.memory[i]);
        }
        else
            count_and_close(&m);
    }
    for (int i = 0; i < MEMORIES; i++)
        if (m.memory[i].address)
        {
            compare(&m, &m.memory[i]);
            good(&m, rfn_memory_free(m.dev, m.memory[i].address));
        }
    for (int i = 0; i < STREAMS; i++)
        good(&m, rfn_stream_destroy(&m.stream[i]));
    for (int i = 0; i < EVENTS; i++)
        good(&m, rfn_event_destroy(&m.event[i]));
    good(&m, rfn_device_close(&m.dev));
}

static void random_steps_agree_with_the_model(void **state)
{
    const char *given = getenv("RFN_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    (void)state;
    agree(RFN_SCHED_FIFO, seed);
    agree(RFN_SCHED_LAZY, seed);
    for (uint64_t i = 0; i < 10; i++)
        agree(RFN_SCHED_RANDOM, seed + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_steps_agree_with_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
