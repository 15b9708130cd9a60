/*
 * A ladder's whole life with the n-th allocation failing, for every n, once and for good:
 * the call that meets it says RFN_NOMEM and changes nothing, so the same call then
 * succeeds; the result is right and nothing is left.
 */
#include "tests/device/ladder.h"

#include <errno.h>
#include <malloc.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static long fail_at = -1; /* this many more succeed; below 0: all do */
static int for_ever;      /* and all that come after fail too */
static long failures;     /* that were handed out */
static long live_blocks, live_bytes;

#if !SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static int fails(void)
{
    if (fail_at < 0 || fail_at-- > 0)
        return 0;
    fail_at = for_ever ? 0 : -1;
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

void free(void *p)
{
    live_blocks -= p != NULL;
    live_bytes -= (long)malloc_usable_size(p);
    __libc_free(p);
}
#endif

/* ---- a life ----------------------------------------------------------------------- */

#define MARKS 20

struct life
{
    struct world *w;
    struct rfn_ladder *ladder;
    struct rfn_stream *stream;
    unsigned char *mark;
    struct plan *p;
};

/* Without OpenMP, whose runtime ends the process when there is no memory. */
static enum rfn_status record(void *ctx, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    struct life *life = ctx;
    enum rfn_status status = rfn_attention_update(life->w->attention, stream, bucket);
    for (int i = 0; i < MARKS && status == RFN_OK; i++)
        status = rfn_set_async(stream, life->mark + i, bucket->requests, 1);
    return status;
}

/* One rank: more is allocated than without ranks, nothing less. */
static enum rfn_status alone(void *ctx, int64_t *values, int32_t count)
{
    (void)ctx;
    (void)values;
    return count > 0 ? RFN_OK : RFN_INVALID;
}

static enum rfn_status create(struct life *life)
{
    struct rfn_ladder_desc desc = { .record = record,
                                    .ctx = life,
                                    .reduce = alone,
                                    .memory_bytes =
                                        2 * (MARKS + 1) * RFN_LADDER_NODE_BYTES };
    return rfn_ladder_create(life->w->attention, &desc, &life->ladder);
}

static enum rfn_status prepare_small(struct life *life)
{
    return rfn_ladder_prepare(life->ladder, 1, 0);
}

static enum rfn_status prepare_short(struct life *life)
{
    return rfn_ladder_prepare(life->ladder, 3, 1);
}

static enum rfn_status prepare_large(struct life *life)
{
    return rfn_ladder_prepare(life->ladder, REQUESTS, 0);
}

static enum rfn_status agree(struct life *life)
{
    return rfn_ladder_agree(life->ladder, NULL, NULL, NULL);
}

static enum rfn_status replay(struct life *life)
{
    return rfn_ladder_replay(life->ladder, life->stream, &life->p->step, NULL);
}

static enum rfn_status destroy(struct life *life)
{
    return rfn_ladder_destroy(&life->ladder);
}

static const struct step
{
    const char *name;
    enum rfn_status (*call)(struct life *life);
    int graphs; /* afterwards */
} steps[] = {
    { "create", create, 0 },
    { "prepare", prepare_small, 1 },
    { "prepare short", prepare_short, 2 },
    { "prepare and evict", prepare_large, 2 },
    { "agree", agree, 2 },
    { "replay", replay, 2 },
    { "replay again", replay, 2 },
    { "destroy", destroy, -1 },
};
#define COUNT ((int)(sizeof steps / sizeof steps[0]))

static int graphs_of(struct life *life)
{
    struct rfn_ladder_info info;
    return life->ladder && rfn_ladder_query(life->ladder, &info) == RFN_OK ? info.graphs
                                                                           : -1;
}

/* One life; 0 when there was no n-th allocation. */
static int live(struct life *life, long n)
{
    struct test *t = life->w->t;
    long blocks = live_blocks, bytes = live_bytes;
    int met = 0, right = 1;
    failures = 0;
    fail_at = n;
    for (int i = 0; i < COUNT && right; i++)
    {
        long before = failures;
        int graphs = graphs_of(life);
        enum rfn_status status = steps[i].call(life);
        if (failures > before)
        {
            int says_so = status == RFN_NOMEM && rfn_last_error()[0];
            fail_at = -1;
            met = 1;
            right = harness_check(
                &t->h, steps[i].name, says_so && graphs_of(life) == graphs,
                "allocation %ld failed: %s, %d graphs after %d: %s", n,
                rfn_status_name(status), graphs_of(life), graphs, rfn_last_error());
            status = steps[i].call(life);
        }
        right = right &&
                harness_check(&t->h, steps[i].name,
                              status == RFN_OK && graphs_of(life) == steps[i].graphs,
                              "allocation %ld: %s, %d graphs: %s", n,
                              rfn_status_name(status), graphs_of(life), rfn_last_error());
    }
    fail_at = -1;
    HOLDS(t, right && test_all(t, life->mark, MARKS, REQUESTS));
    harness_check(&t->h, "nothing is left",
                  n < 0 || (live_blocks == blocks && live_bytes == bytes),
                  "allocation %ld: %ld blocks, %ld bytes", n, live_blocks - blocks,
                  live_bytes - bytes);
    return met && right;
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    struct plan p;
    test_begin(&t, "host_ladder_nomem", &argc, argv);
    if (!t.host || SANITIZED)
        return test_skip(&t, "lives", "of the host device, without sanitizers");
    world_open(&w, &t, REQUESTS, 1);
    struct life life = { .w = &w, .p = &p };
    life.stream = test_stream(&t, RFN_STREAM_NONBLOCKING);
    life.mark = test_device_memory(&t, MARKS);
    plan_make(&w, &p, REQUESTS, LONG, 1);
    live(&life, -1); /* what a device or a library allocates once is there now */
    for (for_ever = 0; for_ever < 2; for_ever++)
    {
        long n = 0;
        OK(&t, rfn_set_sync(t.dev, life.mark, 0, MARKS));
        OK(&t, rfn_device_sync(t.dev));
        while (live(&life, n) && n < 2000)
            n++;
        HOLDS(&t, n > 50 && n < 2000);
        printf("%ld allocations\n", n);
    }
    FREE(&t, life.mark);
    OK(&t, rfn_stream_destroy(&life.stream));
    world_close(&w);
    return test_end(&t);
}
