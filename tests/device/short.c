/*
 * Too little memory: what was asked for and what is there are both named, and nothing of a
 * failed creation stays behind.
 */
#include "tests/device/ladder.h"

#include "runtime/object.h"

#define PIB ((int64_t)1 << 50)
#define MIB ((int64_t)1 << 20)
#define BLOCKS 512
#define CHUNK (2 * MIB) /* of the driver */

struct living
{
    int32_t objects[RFN_OBJECT_TYPES];
    int32_t allocations;
    int64_t free_bytes;
};

static struct living living(struct test *t)
{
    struct living l = { .allocations = t->dev->memory.entries };
    struct rfn_device_info info;
    for (int i = 0; i < RFN_OBJECT_TYPES; i++)
        l.objects[i] = t->dev->alive[i];
    OK(t, rfn_device_query(t->dev, &info));
    l.free_bytes = info.memory_free_bytes;
    return l;
}

static int same(const struct living *a, const struct living *b)
{
    return memcmp(a->objects, b->objects, sizeof a->objects) == 0 &&
           a->allocations == b->allocations;
}

static void a_pebibyte_is_refused_with_both_numbers(struct test *t)
{
    struct living before = living(t);
    void *p = NULL;
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, PIB, &p), RFN_NOMEM,
            "1125899906842624 bytes of device|are free");
    REFUSED(t, rfn_memory_alloc(t->dev, RFN_MEMORY_PINNED, PIB, &p), RFN_NOMEM,
            "1125899906842624 bytes of pinned");
    struct living after = living(t);
    HOLDS(t, !p && same(&before, &after));
}

/* The scores of the largest step alone are 320 GiB. */
static void an_attention_object_too_large_leaves_nothing(struct test *t)
{
    const struct rfn_geometry *big;
    struct rfn_attention *a = NULL;
    struct rfn_attention_limits limits = {
        .requests = 65536, .next_n = 8, .pages = 64, .logits_bytes = PIB
    };
    OK(t, rfn_geometry_find("deepseek-v3.2", &big));
    struct living before = living(t);
    for (int i = 0; i < 8; i++)
        REFUSED(t, rfn_attention_create(t->dev, big, &limits, &a), RFN_NOMEM,
                "bytes of device|are free");
    struct living after = living(t);
    HOLDS(t, !a && same(&before, &after));
    if (!t->host)
        HOLDS(t, before.free_bytes - after.free_bytes < CHUNK);
}

/* Everything but less than a MiB is taken. */
static int32_t fill(struct test *t, void *block[BLOCKS])
{
    int32_t n = 0;
    for (int64_t bytes = 16384 * MIB; bytes >= MIB / 2; bytes /= 2)
        while (n < BLOCKS &&
               rfn_memory_alloc(t->dev, RFN_MEMORY_DEVICE, bytes, &block[n]) == RFN_OK)
            n++;
    return n;
}

#define LAUNCHES 400

/* A large graph: about a MiB. */
static enum rfn_status record_many(void *ctx, struct rfn_stream *stream,
                                   const struct rfn_bucket *bucket)
{
    enum rfn_status status = RFN_OK;
    (void)bucket;
    for (int i = 0; i < LAUNCHES && !status; i++)
        status = rfn_index_topk(stream, ctx);
    return status;
}

static void creating_on_a_full_device_fails_whole(struct world *w)
{
    struct test *t = w->t;
    char *memory = test_device_memory(t, 4096);
    struct rfn_index_topk_args args = {
        .logits = rfn_tensor_of(memory, RFN_F32, 1, 64, 0, 0),
        .lens = rfn_tensor_of(memory + 1024, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(memory + 2048, RFN_I32, 1, 4, 0, 0),
    };
    static const int32_t bucket[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    struct rfn_ladder_desc desc = {
        .bucket = bucket, .buckets = 12, .record = record_many, .ctx = &args
    };
    struct rfn_ladder *ladder = ladder_of(w, &desc);
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_attention *a = NULL;
    struct plan p;
    void *block[BLOCKS];
    int made = 0, refused = 0;
    OK(t, rfn_set_sync(t->dev, memory, 0, 4096));
    OK(t, rfn_ladder_prepare(ladder, 1, 0));
    struct living before = living(t);
    int32_t n = fill(t, block);
    struct living full = living(t);
    printf("  %d blocks, %lld bytes are left\n", n, (long long)full.free_bytes);
    for (int i = 0; i < 8; i++)
        REFUSED(t,
                rfn_attention_create(
                    t->dev, w->geometry,
                    &(struct rfn_attention_limits) { 64, 8, w->limits.context, 64, 0 },
                    &a),
                RFN_NOMEM, "bytes of device|are free");
    struct living after = living(t);
    HOLDS(t, !a && same(&full, &after));

    /* The driver has room for some; where it has not, that is said, and the others go on. */
    for (int32_t requests = 2; requests <= REQUESTS; requests++)
        for (int32_t s = 0; s < 2; s++)
        {
            int32_t graphs = info_of(w, ladder).graphs;
            enum rfn_status status = rfn_ladder_prepare(ladder, requests, s);
            int32_t more = info_of(w, ladder).graphs - graphs;
            harness_check(&t->h, "a graph is made whole or not at all",
                          status == RFN_OK ? more == 0 || more == 1
                                           : status == RFN_NOMEM && more == 0 &&
                                                 test_line_has("nodes|are free"),
                          "%s, %d graphs more: %s", rfn_status_name(status), more,
                          rfn_last_error());
            made += more;
            refused += status != RFN_OK;
        }
    plan_make(w, &p, 1, LONG, 1);
    OK(t, rfn_ladder_replay(ladder, stream, &p.step, NULL));
    OK(t, rfn_stream_sync(stream));
    printf("  %d graphs made, %d refused\n", made, refused);
    HOLDS(t, refused > 0);
    while (n)
        OK(t, rfn_memory_free(t->dev, block[--n]));
    struct living freed = living(t);
    HOLDS(t, freed.allocations == before.allocations);
    HOLDS(t, before.free_bytes - freed.free_bytes <=
                 info_of(w, ladder).driver_bytes + CHUNK);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&stream));
    FREE(t, memory);
}

static void a_stream_of_another_device_is_refused(struct world *w)
{
    struct test *t = w->t;
    struct rfn_device *other = test_open(t);
    struct rfn_stream *theirs = NULL;
    struct rfn_bucket bucket = { 1, 1, 0 };
    struct plan p;
    char words[96];
    struct rfn_ladder *ladder = ladder_of(w, NULL);
    OK(t, rfn_ladder_prepare(ladder, 1, 0));
    OK(t, rfn_stream_create(other, RFN_STREAM_NONBLOCKING, &theirs));
    snprintf(words, sizeof words, "%p|%p", (void *)t->dev, (void *)other);
    plan_make(w, &p, 1, LONG, 1);
    REFUSED(t, rfn_attention_plan(w->attention, theirs, &p.step, &bucket), RFN_INVALID,
            words);
    REFUSED(t, rfn_attention_update(w->attention, theirs, &bucket), RFN_INVALID, words);
    REFUSED(t, rfn_attention_forward(w->attention, theirs, 0, &bucket), RFN_INVALID,
            words);
    REFUSED(t, rfn_ladder_replay(ladder, theirs, &p.step, NULL), RFN_INVALID, words);
    OK(t, rfn_ladder_destroy(&ladder));
    OK(t, rfn_stream_destroy(&theirs));
    OK(t, rfn_device_close(&other));
}

int main(int argc, char **argv)
{
    struct test t;
    struct world w;
    test_begin(&t, "short", &argc, argv);
    if (lacks_ops(&t))
        return test_skip(&t, "memory", rfn_last_error());
    a_pebibyte_is_refused_with_both_numbers(&t);
    an_attention_object_too_large_leaves_nothing(&t);
    world_open(&w, &t, REQUESTS, 1);
    a_stream_of_another_device_is_refused(&w);
    if (!t.host)
        creating_on_a_full_device_fails_whole(&w);
    world_close(&w);
    return test_end(&t);
}
