/* Plan, update and forward allocate nothing, in any thread, outside captures. */
#include "tests/device/attention.h"

#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
    __has_feature(memory_sanitizer)
#define INTERPOSED 0
#endif
#endif
#if !defined(INTERPOSED) && defined(__GLIBC__)
#define INTERPOSED 1
#elif !defined(INTERPOSED)
#define INTERPOSED 0
#endif

static atomic_long allocations;

#if INTERPOSED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, n);
}
#endif

int main(int argc, char **argv)
{
    struct test t;
    struct model m;
    const int32_t source[LAYERS] = { 0, 1, 0 };
    test_begin(&t, "host_attention", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    model_begin(&m, &t, &rng, LAYERS, source, 2, 2 * S * 4);
    for (int i = 0; i < 12; i++)
    {
        struct live l = live_random(&rng, R_MAX, i & 1 ? K : S, 2);
        struct rfn_step step = live_step(&l);
        struct rfn_bucket bucket;
        step.advance = i & 1;
        long before = atomic_load(&allocations);
        enum rfn_status status = rfn_attention_plan(m.a, m.s, &step, &bucket);
        if (status == RFN_OK)
            status = rfn_attention_update(m.a, m.s, &bucket);
        for (int k = 0; status == RFN_OK && k < LAYERS; k++)
            status = rfn_attention_forward(m.a, m.s, k, &bucket);
        if (status == RFN_OK)
            status = rfn_stream_sync(m.s);
        long made = atomic_load(&allocations) - before;
        OK(&t, status);
        if (i >= 2) /* the device's pools and OpenMP's threads are there now */
            harness_check(&t.h, "a step allocates nothing", made == 0,
                          "%ld allocations in step %d", made, i);
    }
    if (!INTERPOSED)
        harness_skip(&t.h, "a step allocates nothing", "a sanitizer owns malloc");
    model_end(&m);
    return test_end(&t);
}
