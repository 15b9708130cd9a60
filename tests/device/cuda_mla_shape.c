/* Pools, queries and hard rows of indices for cuda_mla.c. */
#include "tests/checkop/reference.h"
#include "tests/device/cuda_mla.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rfn_device *device;
struct rfn_stream *stream;
uint64_t base_seed = 1;

void must(enum rfn_status status, const char *call, int line)
{
    if (status == RFN_OK)
        return;
    fprintf(stderr, "line %d: %s: %s: %s\n", line, call, rfn_status_name(status),
            rfn_last_error());
    exit(1);
}

/* ---- GPUs that launches are planned for ------------------------------------------ */

struct rfn_device_info info;

const struct gpu gpus[GPUS] = { { "this GPU", 0, 232448, 0 },
                                { "portable", 80, 232448, 0 },
                                { "like sm_80", 80, 166912, 0 },
                                { "like sm_86", 80, 101376, 0 } };
const struct gpu *gpu = &gpus[0];

static enum rfn_status plan(const void *args, const struct rfn_plan_env *env,
                            struct rfn_launch *ret)
{
    struct rfn_plan_env as = *env;
    if (gpu->sm_arch)
    {
        as.sm_arch = gpu->sm_arch;
        as.shared_bytes_max = gpu->shared_bytes;
    }
    if (gpu->sm_count)
        as.sm_count = gpu->sm_count;
    return rfn_op_sparse_mla.cuda(args, &as, ret);
}

struct rfn_op op;

void plan_ready(void)
{
    op = rfn_op_sparse_mla;
    op.cuda = plan;
}

struct rfn_launch plan_here(const struct rfn_sparse_mla_args *a)
{
    static struct rfn_launch launch;
    struct rfn_plan_env env = { .sm_count = info.sm_count,
                                .sm_arch = info.sm_arch,
                                .shared_bytes_max = gpu->shared_bytes };
    MUST(plan(a, &env, &launch));
    return launch;
}

struct rfn_graph *capture(const struct rfn_sparse_mla_args *a, int times)
{
    struct rfn_graph *graph = NULL;
    MUST(rfn_capture_begin(stream, NULL));
    for (int i = 0; i < times; i++)
        MUST(rfn_op_launch(stream, &op, &a[i]));
    MUST(rfn_capture_end(stream, &graph));
    return graph;
}

/* ---- buffers that are on both sides ---------------------------------------------- */

struct buffer buffer_of(int64_t bytes)
{
    struct buffer b = { .host = calloc(1, (size_t)bytes), .bytes = bytes };
    if (!b.host)
        exit(1);
    MUST(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, bytes, &b.device));
    return b;
}

void buffer_free(struct buffer *b)
{
    if (!b->host)
        return;
    MUST(rfn_memory_free(device, b->device));
    free(b->host);
}

void upload(const struct buffer *b)
{
    if (b->host)
        MUST(rfn_copy_sync(device, b->device, b->host, b->bytes));
}

void download(const struct buffer *b, void *ret)
{
    MUST(rfn_copy_sync(device, ret, b->device, b->bytes));
}

/* ---- one shape ------------------------------------------------------------------- */

static int64_t page_stride(const struct want *w, int i)
{
    return ref_page_bytes(w->format[i], w->page_tokens) + w->page_gap;
}

static struct rfn_tensor view(void *data, enum rfn_dtype dtype, int64_t d0, int64_t d1,
                              int64_t d2, int64_t stride)
{
    struct rfn_tensor v = rfn_tensor_of(data, dtype, d0, d1, d2, 0);
    if (d1)
        v.stride[0] = stride;
    return v;
}

static struct rfn_pool pool_of(const struct shape *s, int i, int on_device)
{
    return (struct rfn_pool) {
        .data = on_device ? s->pool[i].device : s->pool[i].host,
        .format = s->want.format[i],
        .page_tokens = s->want.page_tokens,
        .pages = s->want.pages,
        .page_stride_bytes = page_stride(&s->want, i),
    };
}

struct rfn_sparse_mla_args args_of(const struct shape *s, int on_device)
{
#define SIDE(b) (on_device ? s->b.device : s->b.host)
    const struct want *w = &s->want;
    int T = w->T, H = w->H;
    struct rfn_sparse_mla_args a = {
        .q = view(SIDE(q), RFN_BF16, T, H, w->split ? s->latent : s->qk, s->q_row),
        .out = view(SIDE(out), RFN_BF16, T, H, 512, s->out_row),
        .scale = w->format[0] == RFN_LATENT_FP8_584 ? 0.0625f : 0.135234f,
        .empty_lse_positive = w->empty_positive,
    };
    if (w->split)
        a.q_rope = view(SIDE(rope), RFN_BF16, T, H, 64, H * 64 + w->gap);
    if (w->live)
        a.live = view(SIDE(live), RFN_I32, 1, 0, 0, 0);
    for (int i = 0; i < 2 && w->K[i]; i++)
    {
        a.source[i].pool = pool_of(s, i, on_device);
        a.source[i].indices =
            view(SIDE(indices[i]), RFN_I32, T, w->K[i], 0, s->index_row[i]);
        if (w->lens)
            a.source[i].lens = view(SIDE(lens[i]), RFN_I32, T, 0, 0, 0);
    }
    if (w->sink)
        a.sink = view(SIDE(sink), RFN_F32, H, 0, 0, 0);
    if (!w->no_lse)
        a.lse = view(SIDE(lse), RFN_F32, T, H, 0, H + (w->gap ? 3 : 0));
    return a;
#undef SIDE
}

/* Rows of a pool: KEYS different ones, then the same again; every HOLE-th is NaN. */
static void fill_pool(struct shape *s, int i, struct rng *r)
{
    struct rfn_pool pool = pool_of(s, i, 0);
    int64_t slots = (int64_t)pool.pages * pool.page_tokens;
    int64_t row_bytes = pool.format == RFN_LATENT_FP8_656    ? 656
                        : pool.format == RFN_LATENT_BF16_576 ? 1152
                                                             : 576;
    memset(s->pool[i].host, 0xff, (size_t)s->pool[i].bytes);
    unsigned char row[KEYS][1152], scales[KEYS][8];
    static unsigned char page[1 << 12];
    struct rfn_pool one = { page, pool.format, 1, 1, 4096 };
    for (int k = 0; k < KEYS; k++)
    {
        uint16_t x[576];
        int group;
        float size = k % 3 == 1 ? expf(1.5f * rng_normal(r)) : 1.0f;
        for (int d = 0; d < s->qk; d++)
            x[d] = ref_bf16_code(rng_normal(r) * (d < s->latent ? size : 1.0f));
        if (k % 11 == 5)
            memset(x + 128, 0, 256); /* a group of zeros */
        if (k == NAN_KEY)
            x[s->qk / 2] = 0x7fc1;
        ref_pack_row(&one, 0, x, x + s->latent, k % 2 ? RFN_SCALE_UE8M0 : RFN_SCALE_F32,
                     RFN_FLOOR_DEFAULT, 0, &group);
        memcpy(row[k], ref_row(&one, 0), (size_t)row_bytes);
        memcpy(scales[k], ref_scales(&one, 0), 8);
        scales[k][7] = pool.format == RFN_LATENT_FP8_584 ? 0xff : scales[k][7];
    }
    for (int64_t slot = 0; slot < slots; slot++)
    {
        if (slot % HOLE == 0)
            continue;
        memcpy(ref_row(&pool, slot), row[slot % KEYS], (size_t)row_bytes);
        if (pool.format == RFN_LATENT_FP8_584)
            memcpy(ref_scales(&pool, slot), scales[slot % KEYS], 8);
    }
}

struct shape shape_of(const struct want *want)
{
    struct shape s = { .want = *want };
    struct want *w = &s.want;
    w->page_tokens = w->page_tokens ? w->page_tokens : 64;
    w->pages = w->pages ? w->pages : 40;
    s.qk = ref_qk(w->format[0]);
    s.latent = ref_latent(w->format[0]);
    s.q_row = w->H * (w->split ? s.latent : s.qk) + w->gap;
    s.out_row = w->H * 512 + w->gap;
    s.q = buffer_of(2 * w->T * s.q_row);
    if (w->split)
        s.rope = buffer_of(2 * w->T * (w->H * 64 + w->gap));
    s.live = buffer_of(4);
    struct rng r = rng_of(base_seed ^ 0x517);
    for (int i = 0; i < 2 && w->K[i]; i++)
    {
        s.index_row[i] = w->K[i] + (w->gap ? 3 : 0);
        s.pool[i] = buffer_of(w->pages * page_stride(w, i));
        s.indices[i] = buffer_of(4 * w->T * s.index_row[i]);
        s.lens[i] = buffer_of(4 * w->T);
        fill_pool(&s, i, &r);
        upload(&s.pool[i]);
    }
    s.sink = buffer_of(4 * w->H);
    s.out = buffer_of(2 * w->T * s.out_row);
    s.lse = buffer_of(4 * w->T * (w->H + (w->gap ? 3 : 0)));
    return s;
}

void shape_free(struct shape *s)
{
    struct buffer *all[] = { &s->q,       &s->rope,       &s->live,       &s->pool[0],
                             &s->pool[1], &s->indices[0], &s->indices[1], &s->lens[0],
                             &s->lens[1], &s->sink,       &s->out,        &s->lse };
    for (int i = 0; i < 12; i++)
        buffer_free(all[i]);
}

/* ---- hard rows ------------------------------------------------------------------- */

enum picks
{
    RANDOM,
    ALL_MASKED,
    HOLES,
    DUPLICATES,
    PAST, /* the pool */
    LAST_PAGE,
    TAIL, /* -1 behind the first few: a short context */
    PICKS
};

void fill_row(struct shape *s, int t, int round, struct rng *r)
{
    const struct want *w = &s->want;
    enum picks picks = (enum picks)((t + round) % (PICKS + 2));
    float size = (t + round) % 3 == 2 ? 2.0f : 0.1f;
    int D = w->split ? s->latent : s->qk;
    for (int h = 0; h < w->H; h++)
    {
        uint16_t *q = (uint16_t *)s->q.host + t * s->q_row + h * D;
        float of_head = h % 5 == 3 ? 1e-3f : h % 5 == 4 ? 0.0f : 1.0f;
        for (int d = 0; d < D; d++)
            q[d] = ref_bf16_code(rng_normal(r) * size * of_head);
        for (int e = 0; w->split && e < 64; e++)
            ((uint16_t *)s->rope.host)[t * (w->H * 64 + w->gap) + h * 64 + e] =
                ref_bf16_code(rng_normal(r) * size * of_head);
        if (h == w->H / 2 && t % 4 == 3)
            q[7] = 0x7fc0; /* NaN in one head's query */
    }
    int64_t slots = (int64_t)w->pages * w->page_tokens;
    for (int i = 0; i < 2 && w->K[i]; i++)
    {
        int32_t *index = (int32_t *)s->indices[i].host + t * s->index_row[i];
        int K = w->K[i], lens[] = { K, K - 1, 0, 1, -3, K + 70, (K + 1) / 2 };
        int L = w->lens && (round || t) ? lens[rng_below(r, 7)] : K;
        ((int32_t *)s->lens[i].host)[t] = L;
        int nan_at = t % 6 == 4 && picks == RANDOM ? K / 3 : -1;
        for (int k = 0; k < s->index_row[i]; k++)
        {
            int64_t slot;
            do
                slot = picks == LAST_PAGE ? slots - 1 - rng_below(r, w->page_tokens)
                                          : rng_below(r, slots);
            while (slot % HOLE == 0 || slot % KEYS == NAN_KEY);
            int odd = rng_below(r, 4) == 0;
            if (picks == ALL_MASKED || (picks == TAIL && k >= K / 4 + 3))
                slot = -1;
            else if (picks == HOLES && odd)
                slot = k % 3 ? -1 : -1 - rng_below(r, slots);
            else if (picks == DUPLICATES)
                slot = slots / 7 * rng_below(r, 5) / (HOLE * KEYS) * (HOLE * KEYS) + 1 +
                       k % 4;
            else if (picks == PAST && odd)
                slot = slots + (k % 2 ? 0 : rng_below(r, 1000000));
            if (k == nan_at)
                slot = KEYS; /* NAN_KEY, and no hole */
            if (k >= L && k % 2)
                slot = slots / HOLE * HOLE - HOLE; /* NaN, and masked */
            index[k] = (int32_t)slot;
        }
    }
}

void fill(struct shape *s, int round)
{
    const struct want *w = &s->want;
    struct rng r =
        rng_of(base_seed ^ (uint64_t)(round + 1) << 32 ^ (uint64_t)(w->H * 4096 + w->T));
    for (int t = 0; t < w->T; t++)
        fill_row(s, t, round, &r);
    for (int h = 0; h < w->H; h++)
    {
        static const float special[] = { -INFINITY, INFINITY, 1e30f, -1e30f };
        ((float *)s->sink.host)[h] =
            w->sink == 2 && h % 6 < 4 ? special[h % 6] : 5.0f * rng_normal(&r);
    }
    *(int32_t *)s->live.host = round == 2 ? w->T - 1 : w->T + 1;
}

void upload_all(const struct shape *s)
{
    memset(s->out.host, POISON, (size_t)s->out.bytes);
    memset(s->lse.host, POISON, (size_t)s->lse.bytes);
    upload(&s->q);
    upload(&s->rope);
    upload(&s->live);
    for (int i = 0; i < 2; i++)
    {
        upload(&s->indices[i]);
        upload(&s->lens[i]);
    }
    upload(&s->sink);
    upload(&s->out);
    upload(&s->lse);
    /* A copy from pageable memory may return before the bytes have arrived. */
    MUST(rfn_device_sync(device));
}
