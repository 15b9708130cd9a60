/*
 * Two ranks, a device and a thread each: whatever their batches are, they replay the same
 * bucket in every step, idle ones too, with the bits of the eager step; what keeps one of them
 * from a replay keeps both from it, and none waits for ever; graphs that are not alike are
 * named and left alone.
 */
#include "tests/device/ladder.h"
#include "tests/support/group.h"

#define STEPS 200
#define RANDOM_STEPS 24 /* under each of the seeds */
#define NEXT_N 3

struct did
{
    int32_t requests;
    int32_t is_long;
    struct rfn_replay_info info;
};

struct rank
{
    int number;
    int steps;
    struct group *group;
    struct test t; /* checks are counted apart */
    struct world w, eager;
    struct rfn_ladder *ladder;
    struct rfn_stream *stream;
    struct did did[STEPS];
    char text[1024]; /* of the last finding */
    int32_t findings;
};

/* ---- ranks ------------------------------------------------------------------------ */

/* A GPU of its own where there are two. */
static void open_device(struct rank *r)
{
    struct rfn_device_desc desc = { .kind = r->t.host ? RFN_DEVICE_HOST : RFN_DEVICE_CUDA,
                                    .ordinal = r->t.host ? 0 : r->number,
                                    .check = 1,
                                    .threads = 1,
                                    .reserve_bytes = 4ll << 30 };
    enum rfn_status status = rfn_device_open(&desc, &r->t.dev);
    desc.ordinal = 0;
    if (status && !r->t.host)
        status = rfn_device_open(&desc, &r->t.dev);
    if (!OK(&r->t, status))
        exit(1);
}

/* Ranks of one GPU share its context: who waits for the device there must not meet a capture
 * of another. */
static void meet(struct rank *r)
{
    int64_t nothing = 0;
    OK(&r->t, group_max(r->group, &nothing, 1));
}

/* The same buckets and records everywhere but for what `desc` says; nothing captured. */
static void open_ladder(struct rank *r, const struct rfn_ladder_desc *desc)
{
    struct rfn_ladder_desc own = *desc;
    if (!own.reduce)
        own.reduce = group_max;
    own.reduce_ctx = r->group;
    r->ladder = ladder_of(&r->w, &own);
}

static void *open_rank(void *arg)
{
    struct rank *r = arg;
    open_device(r);
    world_open(&r->w, &r->t, REQUESTS, NEXT_N);
    r->stream = test_stream(&r->t, RFN_STREAM_NONBLOCKING);
    return NULL;
}

static void *close_rank(void *arg)
{
    struct rank *r = arg;
    OK(&r->t, rfn_stream_destroy(&r->stream));
    world_close(&r->w);
    OK(&r->t, rfn_device_close(&r->t.dev));
    return NULL;
}

static void report(void *ctx, const struct rfn_finding *f)
{
    struct rank *r = ctx;
    HOLDS(&r->t, f->rule == RFN_CAP038 && f->count == 1);
    rfn_finding_text(f, r->text, sizeof r->text);
    r->findings++;
}

static struct rfn_agree_info agree(struct rank *r)
{
    struct rfn_agree_info info = { 0 };
    OK(&r->t, rfn_ladder_agree(r->ladder, report, r, &info));
    HOLDS(&r->t, info.differ == r->findings);
    r->findings = 0;
    return info;
}

static int is_bucket(const struct rfn_bucket *b, int32_t requests, int32_t short_context)
{
    return b->requests == requests && b->next_n == NEXT_N &&
           b->short_context == short_context;
}

/* ---- bit for bit ------------------------------------------------------------------ */

static void poison(struct world *w)
{
    for (int i = 0; i < LAYERS; i++)
        OK(w->t, rfn_set_sync(w->t->dev, w->io[i].out.data, 0xff, w->out_bytes));
    OK(w->t, rfn_device_sync(w->t->dev));
}

/* All outputs, padding and the poison behind it too; no live row is left poisoned. */
static int outputs_agree(const struct world *a, const struct world *b,
                         const struct plan *p)
{
    unsigned char *x = malloc((size_t)a->out_bytes), *y = malloc((size_t)a->out_bytes);
    int same = x && y;
    for (int i = 0; i < LAYERS && same; i++)
    {
        OK(a->t, rfn_copy_sync(a->t->dev, x, a->io[i].out.data, a->out_bytes));
        OK(b->t, rfn_copy_sync(b->t->dev, y, b->io[i].out.data, b->out_bytes));
        same = memcmp(x, y, (size_t)a->out_bytes) == 0;
        for (int32_t q = 0; q < p->step.requests && same; q++)
        {
            const unsigned char *row = x + (int64_t)q * NEXT_N * a->row_bytes;
            same = row[0] != 0xff || row[1] != 0xff;
        }
    }
    free(x);
    free(y);
    return same;
}

static int pools_agree(const struct world *a, const struct world *b)
{
    unsigned char *x = snapshot((struct world *)a), *y = snapshot((struct world *)b);
    int same = memcmp(x, y, (size_t)a->pools_bytes) == 0;
    free(x);
    free(y);
    return same;
}

/* Shrinks and grows by a few, is idle now and then, and each rank at a time of its own; every
 * 20th step nobody has anything. */
static int32_t next_batch(struct rank *r, int step, int32_t *live)
{
    *live += (int32_t)rng_between(&r->w.rng, -4, 4);
    *live = *live < 0 ? 0 : *live > REQUESTS ? REQUESTS : *live;
    if (rng_below(&r->w.rng, 8) == 0 || step % 9 == r->number || step % 20 == 19)
        return 0;
    return *live;
}

static void *random_steps(void *arg)
{
    struct rank *r = arg;
    struct test *t = &r->t;
    static const struct rfn_ladder_desc plain;
    struct rfn_agree_info info;
    int32_t live = r->number ? 1 : REQUESTS;
    open_ladder(r, &plain);
    world_open(&r->eager, t, REQUESTS, NEXT_N); /* the same numbers in all buffers */
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &(struct rfn_step) { 0 }, NULL),
            RFN_NOT_READY, "rfn_ladder_agree");
    meet(r);
    for (int32_t requests = 1; requests <= REQUESTS; requests++)
        for (int s = 0; s < 2; s++)
            OK(t, rfn_ladder_prepare(r->ladder, requests, s));
    info = agree(r);
    HOLDS(t, info.graphs == 10 && !info.partial && !info.differ);
    for (int i = 0; i < r->steps; i++)
    {
        struct did *did = &r->did[i];
        struct plan p, again;
        int32_t requests = next_batch(r, i, &live);
        enum length length =
            rng_below(&r->w.rng, 5) && i % 7 != 2 + r->number ? SHORT : LONG;
        r->eager.rng = r->w.rng;
        plan_make(&r->w, &p, requests, length, NEXT_N);
        plan_make(&r->eager, &again, requests, length, NEXT_N);
        if (i % 8 == 0)
        {
            fill_inputs(&r->w);
            fill_inputs(&r->eager);
        }
        poison(&r->w);
        poison(&r->eager);
        did->requests = requests;
        did->is_long = requests && length == LONG;
        OK(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, &did->info));
        OK(t, rfn_stream_sync(r->stream));
        run_eagerly(&r->eager, r->stream, &again, &did->info.bucket);
        HOLDS(t, outputs_agree(&r->w, &r->eager, &p));
        HOLDS(t, did->info.rows == p.rows &&
                     did->info.padded ==
                         did->info.bucket.requests * NEXT_N - did->info.rows);
        if (i % 16 == 0 || i == r->steps - 1)
            HOLDS(t, pools_agree(&r->w, &r->eager));
    }
    HOLDS(t, info_of(&r->w, r->ladder).replays == r->steps);
    world_close(&r->eager);
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

/* One bucket a step: the smallest for the fullest rank. */
static void check_buckets(struct test *t, const struct rank *r)
{
    int32_t alone = 0, nobody = 0, apart = 0, grown = 0, shrunk = 0;
    for (int i = 0; i < r->steps; i++)
    {
        const struct did *a = &r[0].did[i], *b = &r[1].did[i];
        int32_t most = a->requests > b->requests ? a->requests : b->requests;
        int32_t due = most <= 1 ? 1 : most <= 2 ? 2 : most <= 4 ? 4 : most <= 8 ? 8 : 12;
        int is_short = !a->is_long && !b->is_long;
        harness_check(&t->h, "one bucket on both ranks",
                      is_bucket(&a->info.bucket, due, is_short) &&
                          is_bucket(&b->info.bucket, due, is_short) &&
                          a->info.requests == most && b->info.requests == most,
                      "step %d, %d and %d requests: %dx%d%s and %dx%d%s", i, a->requests,
                      b->requests, a->info.bucket.requests, a->info.bucket.next_n,
                      a->info.bucket.short_context ? " short" : "",
                      b->info.bucket.requests, b->info.bucket.next_n,
                      b->info.bucket.short_context ? " short" : "");
        nobody += !most;
        alone += most && (!a->requests || !b->requests);
        apart += a->is_long != b->is_long;
        grown += i && a->requests > a[-1].requests;
        shrunk += i && a->requests < a[-1].requests;
    }
    /* The steps are worth something. */
    harness_check(&t->h, "all kinds of steps",
                  nobody && alone && apart && grown && shrunk,
                  "%d without requests, %d with one idle rank, %d with one long, %d up, "
                  "%d down",
                  nobody, alone, apart, grown, shrunk);
}

/* ---- what keeps one keeps both ----------------------------------------------------- */

/* `number` has a batch that its step lies about. */
static void one_is_refused(struct rank *r, int number)
{
    struct test *t = &r->t;
    struct plan p;
    int64_t before = info_of(&r->w, r->ladder).replays;
    plan_make(&r->w, &p, 2, SHORT, 1);
    poison(&r->w);
    if (r->number == number)
    {
        p.lens[1] = 0;
        REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_INVALID,
                "request 1|context of 0");
    }
    else
        REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_NOT_READY,
                "another rank's step was refused (INVALID)");
    OK(t, rfn_stream_sync(r->stream));
    HOLDS(t, test_all(t, r->w.io[0].out.data, r->w.out_bytes, 0xff));
    HOLDS(t, info_of(&r->w, r->ladder).replays == before);
}

static struct rfn_bucket replayed(struct rank *r, int32_t requests, enum length length)
{
    struct rfn_replay_info info = { 0 };
    struct plan p;
    plan_make(&r->w, &p, requests, length, NEXT_N);
    OK(&r->t, rfn_ladder_replay(r->ladder, r->stream, &p.step, &info));
    OK(&r->t, rfn_stream_sync(r->stream));
    return info.bucket;
}

static void *refusals(void *arg)
{
    struct rank *r = arg;
    struct test *t = &r->t;
    static const struct rfn_ladder_desc plain;
    static const int32_t other[] = { 1, 2, 3, 8, REQUESTS };
    struct rfn_ladder_desc list = { .bucket = other, .buckets = 5 };
    struct rfn_agree_info info;
    struct rfn_bucket b;
    struct plan p;
    open_ladder(r, &plain);

    /* Bucket 8 is on rank 0 alone, 2 on rank 1, 12 on neither yet; classes matter. */
    OK(t, rfn_ladder_prepare(r->ladder, 4, 0));
    OK(t, rfn_ladder_prepare(r->ladder, r->number ? 2 : 8, 0));
    OK(t, rfn_ladder_prepare(r->ladder, 1, 1));
    info = agree(r);
    HOLDS(t, info.graphs == 2 && info.partial == 2 && !info.differ);
    b = replayed(r, r->number ? 1 : 0, SHORT);
    HOLDS(t, is_bucket(&b, 1, 1));
    b = replayed(r, r->number ? 1 : 0, LONG);
    HOLDS(t, is_bucket(&b, 4, 0)); /* not 2, and no short one for an idle rank */
    b = replayed(r, 0, LONG);
    HOLDS(t, is_bucket(&b, 1, 1));
    plan_make(&r->w, &p, r->number ? 3 : 7, LONG, NEXT_N);
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_NOT_READY,
            r->number ? "fullest rank has 7|this one 3|bucket 8x3 is not captured here|"
                        "on all ranks: 1 short, 4"
                      : "fullest rank has 7|this one 7|bucket 8x3 was not found alike|"
                        "on all ranks: 1 short, 4");
    for (int i = 0; i < GROUP_RANKS; i++)
        one_is_refused(r, i);
    b = replayed(r, r->number ? 3 : 0, LONG); /* and on it goes */
    HOLDS(t, is_bucket(&b, 4, 0));

    /* What was captured later is used once it has been compared. */
    if (r->number)
        OK(t, rfn_ladder_prepare(r->ladder, 8, 0));
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_NOT_READY,
            "bucket 8x3 was not found alike");
    info = agree(r);
    HOLDS(t, info.graphs == 3 && info.partial == 1);
    b = replayed(r, r->number ? 3 : 7, LONG);
    HOLDS(t, is_bucket(&b, 8, 0));

    /* No step, a stream that is none: the others hear of it. */
    plan_make(&r->w, &p, 1, SHORT, 1);
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, r->number ? NULL : &p.step, NULL),
            r->number ? RFN_INVALID : RFN_NOT_READY,
            r->number ? "step is NULL" : "refused (INVALID)");
    REFUSED(t, rfn_ladder_replay(r->ladder, r->number ? r->stream : NULL, &p.step, NULL),
            r->number ? RFN_NOT_READY : RFN_INVALID,
            r->number ? "refused (INVALID)" : "stream");
    OK(t, rfn_ladder_destroy(&r->ladder));

    /* Other buckets, as many: told before anything is compared. */
    open_ladder(r, r->number ? &list : &plain);
    REFUSED(t, rfn_ladder_agree(r->ladder, report, r, NULL), RFN_INVALID,
            "the 5 buckets here|not those of another rank");
    OK(t, rfn_ladder_destroy(&r->ladder));
    list.buckets = 4;
    open_ladder(r, r->number ? &list : &plain);
    REFUSED(t, rfn_ladder_agree(r->ladder, report, r, NULL), RFN_INVALID,
            r->number ? "4 buckets here, and 4 to 5" : "5 buckets here, and 4 to 5");
    OK(t, rfn_ladder_destroy(&r->ladder));
    open_ladder(r, &(struct rfn_ladder_desc) { .next_n = r->number ? 1 : 3 });
    REFUSED(t, rfn_ladder_agree(r->ladder, report, r, NULL), RFN_INVALID,
            "rows a request here, and 1 to 3");
    HOLDS(t, !r->findings);
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

/* ---- idle ranks ------------------------------------------------------------------- */

/* The form of the field: a rank without requests, every length zero, whose graph runs for
 * another rank's batch, before it ever had one and between batches that cross the classes. */
static void *idle_ranks(void *arg)
{
    static const struct rfn_ladder_desc plain;
    struct rank *r = arg;
    struct test *t = &r->t;
    unsigned char *pools;
    open_ladder(r, &plain);
    for (int32_t requests = 2; requests <= REQUESTS; requests++)
        OK(t, rfn_ladder_prepare(r->ladder, requests, 0));
    agree(r);
    for (int turn = 0; turn < 6; turn++)
    {
        int idle = turn % 2 == r->number;
        int32_t requests = turn % 3 ? REQUESTS : 3;
        unsigned char *before = snapshot(&r->w);
        struct rfn_bucket b = replayed(r, idle ? 0 : requests, turn % 3 ? LONG : SHORT);
        HOLDS(t, is_bucket(&b, requests == 3 ? 4 : REQUESTS, 0));
        pools = snapshot(&r->w);
        HOLDS(t, idle == (memcmp(before, pools, (size_t)r->w.pools_bytes) == 0));
        free(pools);
        free(before);
    }
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

/* ---- launches in a row -------------------------------------------------------------- */

/* The rank that launches more would wait for ever in its first collective too many. */
static void *other_replays(void *arg)
{
    static const struct rfn_ladder_desc plain;
    struct rank *r = arg;
    struct test *t = &r->t;
    struct rfn_replay_info did = { 0 };
    struct plan p;
    open_ladder(r, &plain);
    OK(t, rfn_ladder_prepare(r->ladder, 4, 0));
    agree(r);
    plan_make(&r->w, &p, r->number ? 0 : 3, SHORT, 1); /* one is idle */
    p.step.advance = 1;
    OK(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL));
    OK(t, rfn_stream_sync(r->stream));
    poison(&r->w);
    REFUSED(t, rfn_ladder_again(r->ladder, r->stream, 2 + r->number, &did), RFN_INVALID,
            r->number ? "again: 3 replays here, and 2 to 3" : "again: 2 replays|2 to 3");
    p.step.unchanged = 1;
    p.step.lens = NULL; /* the device's */
    if (r->number)
        REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, &did), RFN_INVALID,
                "ladder_replay: 1 replays here, and 1 to 2 over");
    else
        REFUSED(t, rfn_ladder_again(r->ladder, r->stream, 2, &did), RFN_INVALID,
                "ladder_again: 2 replays here, and 1 to 2 over");
    REFUSED(t, rfn_ladder_again(r->ladder, r->stream, r->number, &did),
            r->number ? RFN_NOT_READY : RFN_INVALID,
            r->number ? "ladder_again: another rank's step was refused (INVALID)"
                      : "0 replays");
    OK(t, rfn_stream_sync(r->stream));
    HOLDS(t, test_all(t, r->w.io[0].out.data, r->w.out_bytes, 0xff));
    HOLDS(t, info_of(&r->w, r->ladder).replays == 1);
    OK(t, rfn_ladder_again(r->ladder, r->stream, 2, &did)); /* and on it goes */
    HOLDS(t, is_bucket(&did.bucket, 4, 0) && did.requests == 3);
    OK(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL));
    OK(t, rfn_stream_sync(r->stream));
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

/* ---- graphs that are not alike ------------------------------------------------------ */

/* Rank 1 leaves the last layer out of bucket 4, and has another memset in bucket 8. */
static enum rfn_status record(void *ctx, struct rfn_stream *stream,
                              const struct rfn_bucket *bucket)
{
    struct rank *r = ctx;
    int32_t layers = r->number && bucket->requests == 4 ? LAYERS - 1 : LAYERS;
    int value = r->number && bucket->requests == 8 ? 7 : 5;
    enum rfn_status status = rfn_attention_update(r->w.attention, stream, bucket);
    for (int i = 0; i < layers && status == RFN_OK; i++)
        status = rfn_attention_forward(r->w.attention, stream, i, bucket);
    if (status == RFN_OK)
        status = rfn_set_async(stream, r->w.io[0].out.data, value, 16);
    return status;
}

static void expect_text(struct rank *r, const char *words)
{
    harness_check(&r->t.h, "the finding", strstr(r->text, words) != NULL,
                  "no '%s' in: %s", words, r->text);
}

static void *other_graphs(void *arg)
{
    struct rank *r = arg;
    struct test *t = &r->t;
    const struct rfn_ladder_desc desc = { .record = record, .ctx = r };
    struct rfn_agree_info info;
    struct rfn_bucket b;
    open_ladder(r, &desc);
    OK(t, rfn_ladder_prepare(r->ladder, 2, 0));
    OK(t, rfn_ladder_prepare(r->ladder, 4, 0));
    OK(t, rfn_ladder_prepare(r->ladder, REQUESTS, 0));
    info = agree(r);
    HOLDS(t, info.graphs == 2 && info.differ == 1 && !info.partial);
    /* Behind the layer that both have comes the next one's first op, or the memset. */
    expect_text(r, "bucket 4x3: ");
    expect_text(r, r->number ? "its type is memset here, and kernel and memset"
                             : "its type is kernel here, and kernel and memset");
    b = replayed(r, r->number ? 4 : 2, LONG);
    HOLDS(t, is_bucket(&b, REQUESTS, 0));
    b = replayed(r, r->number ? 1 : 2, LONG);
    HOLDS(t, is_bucket(&b, 2, 0));

    OK(t, rfn_ladder_prepare(r->ladder, 8, 0));
    info = agree(r);
    HOLDS(t, info.graphs == 2 && info.differ == 2); /* the first is found again */
    expect_text(r, "bucket 8x3: ");
    expect_text(r, r->number
                       ? "the memset's 'value' is 7 here, and 5 to 7 over the ranks"
                       : "the memset's 'value' is 5 here, and 5 to 7 over the ranks");
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

/* Rank 1 has room for two of three graphs. */
static void *evictions(void *arg)
{
    struct rank *r = arg;
    struct test *t = &r->t;
    struct rfn_ladder_desc desc = { 0 };
    struct rfn_agree_info info;
    struct rfn_bucket b;
    open_ladder(r, &desc);
    for (int32_t requests = 1; requests <= 4; requests++)
        OK(t, rfn_ladder_prepare(r->ladder, requests, 0));
    desc.memory_bytes = r->number ? info_of(&r->w, r->ladder).memory_bytes - 1 : 0;
    OK(t, rfn_ladder_destroy(&r->ladder));
    open_ladder(r, &desc);
    OK(t, rfn_ladder_prepare(r->ladder, 1, 0));
    OK(t, rfn_ladder_prepare(r->ladder, 2, 0));
    info = agree(r);
    HOLDS(t, info.graphs == 2);
    b = replayed(r, 1, LONG);
    HOLDS(t, is_bucket(&b, 1, 0));
    b = replayed(r, 2, LONG);
    OK(t, rfn_ladder_prepare(r->ladder, 4, 0)); /* rank 1 drops 1 */
    HOLDS(t, info_of(&r->w, r->ladder).evictions == r->number);
    b = replayed(r, 1, LONG);
    HOLDS(t, is_bucket(&b, 2, 0));
    OK(t, rfn_ladder_prepare(r->ladder, 1, 0)); /* and 4 for it */
    info = agree(r);
    HOLDS(t, info.graphs == 2 && info.partial == 1 && !info.differ);
    b = replayed(r, 1, LONG);
    HOLDS(t, is_bucket(&b, 1, 0));
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

/* ---- reductions that fail ------------------------------------------------------------ */

static _Thread_local int64_t given;

static enum rfn_status no_maximum(void *ctx, int64_t *values, int32_t count)
{
    enum rfn_status status = group_max(ctx, values, count);
    if (count == 5 + 2 * 5) /* a replay's */
        values[1] = given;
    return status;
}

static enum rfn_status fails_in_replays(void *ctx, int64_t *values, int32_t count)
{
    enum rfn_status status = group_max(ctx, values, count);
    return !status && count == 5 + 2 * 5 ? RFN_IO : status;
}

static void *bad_reductions(void *arg)
{
    struct rank *r = arg;
    struct test *t = &r->t;
    struct rfn_ladder_desc desc = { .reduce = no_maximum };
    struct plan p;
    open_ladder(r, &desc);
    OK(t, rfn_ladder_prepare(r->ladder, 4, 0));
    agree(r);
    plan_make(&r->w, &p, 4 - r->number, LONG, NEXT_N);
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_INVALID,
            r->number ? "gave 0 requests|has 3|no maximum"
                      : "gave 0 requests|has 4|no maximum");
    given = 1000000;
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_INVALID,
            "gave 1000000 requests|buckets up to 12|no maximum");
    OK(t, rfn_ladder_destroy(&r->ladder));
    desc.reduce = fails_in_replays;
    open_ladder(r, &desc);
    OK(t, rfn_ladder_prepare(r->ladder, 4, 0));
    agree(r);
    REFUSED(t, rfn_ladder_replay(r->ladder, r->stream, &p.step, NULL), RFN_IO,
            "ladder_replay|reduction over the ranks|IO");
    HOLDS(t, info_of(&r->w, r->ladder).replays == 0);
    REFUSED(t, rfn_ladder_agree(NULL, NULL, NULL, NULL), RFN_INVALID, "ladder is NULL");
    OK(t, rfn_ladder_destroy(&r->ladder));
    return NULL;
}

int main(int argc, char **argv)
{
    static void *(*const part[])(void *) = {
        open_rank,    random_steps, refusals,       idle_ranks, other_replays,
        other_graphs, evictions,    bad_reductions, close_rank,
    };
    static struct rank rank[GROUP_RANKS];
    const char *sched = getenv("RFN_HOST_SCHED");
    struct group group;
    struct test t;
    test_begin(&t, "ranks", &argc, argv);
    if (lacks_ops(&t))
        return test_skip(&t, "everything", rfn_last_error());
    group_open(&group);
    for (int i = 0; i < GROUP_RANKS; i++)
    {
        rank[i].number = i;
        rank[i].steps = sched && !strncmp(sched, "random", 6) ? RANDOM_STEPS : STEPS;
        rank[i].group = &group;
        rank[i].t = t;
        rank[i].t.h.seed += (uint64_t)i;
    }
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
        group_run(part[i], rank, sizeof rank[0]);
    check_buckets(&t, rank);
    harness_check(&t.h, "reductions of one length",
                  !group.counts_differ && !group.arrived, "%d of them, %d waiting",
                  group.counts_differ, group.arrived);
    for (int i = 0; i < GROUP_RANKS; i++)
    {
        t.h.passed += rank[i].t.h.passed;
        t.h.failed += rank[i].t.h.failed;
    }
    group_close(&group);
    return test_end(&t);
}
