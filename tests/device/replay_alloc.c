/*
 * A replay asks nobody for memory: the malloc family is interposed, and from the call of
 * rfn_ladder_replay to the end of rfn_stream_sync no thread of the process may enter it.
 * A driver is not ours to count, so this is of the host device only.
 */
#include "tests/device/ladder.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static _Atomic int armed;
static _Atomic long calls;
static void *_Atomic first; /* who called first */

#if !SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static void counted(void *caller)
{
    void *nobody = NULL;
    if (!atomic_load(&armed))
        return;
    atomic_fetch_add(&calls, 1);
    atomic_compare_exchange_strong(&first, &nobody, caller);
}

#define COUNTED counted(__builtin_return_address(0))

void *malloc(size_t n)
{
    COUNTED;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
    COUNTED;
    return __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
    COUNTED;
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    COUNTED;
    return __libc_memalign(align, n);
}

void *memalign(size_t align, size_t n);
void *memalign(size_t align, size_t n)
{
    COUNTED;
    return __libc_memalign(align, n);
}

int posix_memalign(void **ret, size_t align, size_t n)
{
    COUNTED;
    void *p = __libc_memalign(align, n);
    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}

void free(void *p)
{
    if (p)
        COUNTED;
    __libc_free(p);
}
#endif

static const char *who(void *caller, char *text, size_t bytes)
{
    Dl_info info = { 0 };
    if (!dladdr(caller, &info) || !info.dli_fname)
        return "somebody unknown";
    snprintf(text, bytes, "%s+0x%lx (%s)", info.dli_fname,
             (unsigned long)((char *)caller - (char *)info.dli_fbase),
             info.dli_sname ? info.dli_sname : "no name");
    return text;
}

/* From the call to the end of the wait. */
static void replay_is_silent(struct world *w, struct rfn_ladder *ladder,
                             struct rfn_stream *stream, const struct rfn_step *step,
                             const char *what)
{
    char text[300];
    struct rfn_replay_info info;
    first = NULL;
    calls = 0;
    armed = 1;
    enum rfn_status status = rfn_ladder_replay(ladder, stream, step, &info);
    if (status == RFN_OK)
        status = rfn_stream_sync(stream);
    armed = 0;
    OK(w->t, status);
    harness_check(&w->t->h, what, calls == 0, "%ld calls; first by %s", calls,
                  who(first, text, sizeof text));
}

static void *other_thread(void *arg)
{
    void *volatile p = malloc(*(size_t *)arg); /* no compiler takes the pair away */
    free(p);
    return NULL;
}

/* The counter counts, on all threads. */
static void allocations_are_seen(struct test *t)
{
    pthread_t thread;
    size_t bytes = 100;
    calls = 0;
    armed = 1;
    other_thread(&bytes);
    long own = calls;
    if (pthread_create(&thread, NULL, other_thread, &bytes) != 0 ||
        pthread_join(thread, NULL) != 0)
        exit(1);
    armed = 0;
    HOLDS(t, own == 2 && calls >= 4);
}

static void replays_allocate_nothing(struct world *w)
{
    struct test *t = w->t;
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    struct rfn_stream *stream[] = { test_stream(t, RFN_STREAM_NONBLOCKING),
                                    test_stream(t, RFN_STREAM_BLOCKING),
                                    rfn_stream_legacy(t->dev) };
    struct plan p;
    /* What OpenMP sets up once for a process is there afterwards. */
    plan_make(w, &p, REQUESTS, LONG, 2);
    run_eagerly(w, stream[0], &p, &(struct rfn_bucket) { REQUESTS, 2, 0 });
    for (int32_t requests = 1; requests <= REQUESTS; requests++)
        for (int32_t s = 0; s < 2; s++)
            OK(t, rfn_ladder_prepare(ladder, requests, s));
    for (int i = 0; i < 12; i++)
    {
        int32_t requests = (int32_t)rng_between(&w->rng, i ? 0 : REQUESTS, REQUESTS);
        plan_make(w, &p, requests, i % 3 ? LONG : SHORT, 2);
        p.step.advance = 1;
        for (int32_t b = 0; b < requests; b++)
            p.lens[b] -= p.lens[b] > 8 ? 4 : 0; /* room to advance in */
        replay_is_silent(w, ladder, stream[i % 3], &p.step, "a step handed over");
        int32_t all[REQUESTS]; /* nothing new in any table */
        for (int32_t b = 0; b < requests; b++)
            all[b] = WIDTH;
        p.step.new_from = p.step.new_to = all;
        replay_is_silent(w, ladder, stream[i % 3], &p.step, "a step in a record");
        struct rfn_step again = { .requests = requests, .unchanged = 1, .advance = 1 };
        replay_is_silent(w, ladder, stream[i % 3], &again, "a step carried on with");
        again.advance = 0;
        replay_is_silent(w, ladder, stream[(i + 1) % 3], &again, "on another stream");
    }
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream[0]));
    OK(t, rfn_stream_destroy(&stream[1]));
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "replay_alloc", &argc, argv);
    if (!t.host || SANITIZED)
        return test_skip(&t, "allocations", "of the host device, without sanitizers");
    allocations_are_seen(&t);
    world_open(&w, &t, REQUESTS, 2);
    replays_allocate_nothing(&w);
    world_close(&w);
    return test_end(&t);
}
