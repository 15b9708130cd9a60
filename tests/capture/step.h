/*
 * What the capture programs share: a device with a checker, and the buffers of a small
 * decode step that picks the best K cached tokens of each request. Public API only. The
 * device is the one named by RFN_TEST_DEVICE (host, the default, or cuda).
 */
#ifndef TEST_CAPTURE_STEP_H
#define TEST_CAPTURE_STEP_H

#include "tests/support/harness.h"

#include <pthread.h>
#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_ROWS 2     /* query tokens, one a request */
#define STEP_CONTEXT 64 /* columns of the scores */
#define STEP_TOP 8      /* picked a row */
#define STEP_PAGE_TOKENS 16
#define STEP_TABLE 4 /* pages a request */
#define STEP_PAGES (STEP_ROWS * STEP_TABLE)
#define STEP_PICKED_BYTES ((int64_t)sizeof(int32_t) * STEP_ROWS * STEP_TOP)
#define STEP_LENS_BYTES ((int64_t)sizeof(int32_t) * STEP_ROWS)
#define STEP_TABLE_BYTES ((int64_t)sizeof(int32_t) * STEP_ROWS * STEP_TABLE)
#define STEP_LATENT 512
#define STEP_ROPE 64

/* Whether a host device watches its pinned memory; a program that is to be judged as on a GPU
 * says 0 first. */
#ifndef STEP_FAULT_HANDLER
#define STEP_FAULT_HANDLER 1
#endif

struct step
{
    struct harness h;
    struct rfn_device *device;
    struct rfn_check *check;
    struct rfn_stream *stream; /* the decode stream, non-blocking */
    struct rfn_stream *side;   /* another one, non-blocking */
    struct rfn_event *fork;
    struct rfn_event *join;
    struct rfn_index_topk_args pick; /* the step's op */
    int32_t *lens;                   /* device */
    int32_t *host_lens;              /* pinned */
    int32_t *host_picked;            /* pinned, room for pick.slots */
    const char *region;              /* where the finding is due; "" in other threads */
    int heuristic;                   /* it is a warning: a proved rule is not sure */
    int outside; /* of captures is the finding of a rule that is mostly of one */
};

/* A named check that a call gives RFN_OK. */
#define WORKS(s, call)                                                                   \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status status_ = (call);                                                \
        harness_check(&(s)->h, #call, status_ == RFN_OK, "%s: %s",                       \
                      rfn_status_name(status_), rfn_last_error());                       \
    } while (0)

/* Calls fn(arg) in another thread and waits for it. */
static inline void step_elsewhere(struct step *s, void *(*fn)(void *), void *arg)
{
    pthread_t thread;
    int started = !pthread_create(&thread, NULL, fn, arg);
    if (started)
        pthread_join(thread, NULL);
    harness_check(&s->h, "a thread", started, "did not start");
}

/* Device memory that holds a copy of `from`. */
static inline void *step_upload(struct step *s, const void *from, size_t bytes)
{
    void *to = NULL;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, (int64_t)bytes, &to));
    WORKS(s, rfn_copy_sync(s->device, to, from, (int64_t)bytes));
    return to;
}

static inline enum rfn_device_kind step_device(void)
{
    const char *which = getenv("RFN_TEST_DEVICE");
    return which && !strcmp(which, "cuda") ? RFN_DEVICE_CUDA : RFN_DEVICE_HOST;
}

/* A device for a program of these; NULL when that failed. */
static inline struct rfn_device *step_device_open(struct step *s)
{
    struct rfn_device *device = NULL;
    struct rfn_device_desc desc = { .kind = step_device(), .check = 1 };
    desc.fault_handler = STEP_FAULT_HANDLER && desc.kind == RFN_DEVICE_HOST;
    enum rfn_status status = rfn_device_open(&desc, &device);
    if (status == RFN_UNSUPPORTED)
    {
        printf("skip %s: %s\n", s->h.name, rfn_last_error());
        exit(77);
    }
    WORKS(s, status);
    return device;
}

/* Ends a program whose rule needs the host device, where another one is asked for. */
static inline void step_host_only(const char *name, const char *why)
{
    if (step_device() == RFN_DEVICE_HOST)
        return;
    printf("skip %s: %s\n", name, why);
    exit(77);
}

/* Opens device and checker and fills the buffers; 0 when that failed. */
static inline int step_open(struct step *s, const char *name, int *argc, char **argv)
{
    static float logits[STEP_ROWS][STEP_CONTEXT];
    int32_t lens[STEP_ROWS], table[STEP_ROWS][STEP_TABLE], request[STEP_ROWS];
    int32_t empty[STEP_ROWS][STEP_TOP];
    void *pinned = NULL;

    memset(s, 0, sizeof *s);
    harness_begin(&s->h, name, argc, argv);
    s->region = "decode > step 3";
    WORKS(s, rfn_region_begin("decode"));
    WORKS(s, rfn_region_begin("step 3"));
    s->device = step_device_open(s);
    WORKS(s, rfn_check_create(s->device, &s->check));
    if (s->h.failed)
        return 0;
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &s->stream));
    WORKS(s, rfn_stream_create(s->device, RFN_STREAM_NONBLOCKING, &s->side));
    WORKS(s, rfn_event_create(s->device, &s->fork));
    WORKS(s, rfn_event_create(s->device, &s->join));

    for (int t = 0; t < STEP_ROWS; t++)
    {
        for (int i = 0; i < STEP_CONTEXT; i++)
            logits[t][i] = (float)((i * 37 + t * 11) % STEP_CONTEXT);
        for (int w = 0; w < STEP_TABLE; w++)
            table[t][w] = t * STEP_TABLE + w;
        for (int k = 0; k < STEP_TOP; k++)
            empty[t][k] = -7;
        lens[t] = STEP_CONTEXT - 5 * t;
        request[t] = t;
    }
    s->lens = step_upload(s, lens, sizeof lens);
    s->pick = (struct rfn_index_topk_args) {
        .logits = rfn_tensor_of(step_upload(s, logits, sizeof logits), RFN_F32, STEP_ROWS,
                                STEP_CONTEXT, 0, 0),
        .lens = rfn_tensor_of(s->lens, RFN_I32, STEP_ROWS, 0, 0, 0),
        .table = rfn_tensor_of(step_upload(s, table, sizeof table), RFN_I32, STEP_ROWS,
                               STEP_TABLE, 0, 0),
        .request = rfn_tensor_of(step_upload(s, request, sizeof request), RFN_I32,
                                 STEP_ROWS, 0, 0, 0),
        .slots = rfn_tensor_of(step_upload(s, empty, sizeof empty), RFN_I32, STEP_ROWS,
                               STEP_TOP, 0, 0),
        .page_tokens = STEP_PAGE_TOKENS,
        .pages = STEP_PAGES,
    };
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, STEP_LENS_BYTES, &pinned));
    s->host_lens = pinned;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, STEP_PICKED_BYTES, &pinned));
    s->host_picked = pinned;
    if (s->h.failed)
        return 0;
    memcpy(s->host_lens, lens, sizeof lens);
    memset(s->host_picked, 0, (size_t)STEP_PICKED_BYTES);
    return 1;
}

/* A latent cache and what writes two tokens of it. */
static inline struct rfn_kv_pack_args step_cache(struct step *s)
{
    static uint16_t rows[STEP_ROWS * STEP_LATENT];
    int64_t where[STEP_ROWS] = { 3, 70 };
    int64_t page = rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
    void *pool = NULL;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, page * STEP_PAGES, &pool));
    return (struct rfn_kv_pack_args) {
        .kv = rfn_tensor_of(step_upload(s, rows, sizeof rows), RFN_BF16, STEP_ROWS,
                            STEP_LATENT, 0, 0),
        .k_rope = rfn_tensor_of(step_upload(s, rows, 2 * STEP_ROWS * STEP_ROPE), RFN_BF16,
                                STEP_ROWS, STEP_ROPE, 0, 0),
        .slots = rfn_tensor_of(step_upload(s, where, sizeof where), RFN_I64, STEP_ROWS, 0,
                               0, 0),
        .pool = { .data = pool,
                  .format = RFN_LATENT_FP8_656,
                  .page_tokens = STEP_PAGE_TOKENS,
                  .pages = STEP_PAGES },
    };
}

static inline void step_cache_free(struct step *s, struct rfn_kv_pack_args *cache)
{
    WORKS(s, rfn_memory_free(s->device, cache->kv.data));
    WORKS(s, rfn_memory_free(s->device, cache->k_rope.data));
    WORKS(s, rfn_memory_free(s->device, cache->slots.data));
    WORKS(s, rfn_memory_free(s->device, cache->pool.data));
}

/* The rest of a step: what was picked goes to the host. */
static inline void step_fetch(struct step *s)
{
    WORKS(s, rfn_copy_async(s->stream, s->host_picked, s->pick.slots.data,
                            STEP_PICKED_BYTES));
}

/* A call that a capture must refuse, and an end that must fail with `code`. */
static inline void step_refused(struct step *s, enum rfn_status status)
{
    harness_check(&s->h, "it is refused", status == RFN_CAPTURE, "%s",
                  rfn_status_name(status));
}

static inline void step_lost(struct step *s, struct rfn_stream *stream, int code)
{
    struct rfn_graph *graph = NULL;
    enum rfn_status status = rfn_capture_end(stream, &graph);
    harness_check(&s->h, "the capture is lost",
                  status == RFN_CAPTURE && !graph && rfn_last_code() == code, "%s: %s",
                  rfn_status_name(status), rfn_last_error());
}

/* Whether host_picked holds what the op gives for contexts of these lengths: slots that
 * ascend (each request's pages do) and lie in the context, -1 behind the last. */
static inline int step_picked(const struct step *s, const int32_t *lens)
{
    for (int t = 0; t < STEP_ROWS; t++)
    {
        const int32_t *row = s->host_picked + t * STEP_TOP;
        int32_t first = t * STEP_TABLE * STEP_PAGE_TOKENS;
        for (int k = 0; k < STEP_TOP; k++)
        {
            if (k >= lens[t] ? row[k] != -1
                             : row[k] < first + k || row[k] >= first + lens[t])
                return 0;
            if (k && k < lens[t] && row[k] <= row[k - 1])
                return 0;
        }
    }
    return 1;
}

/* Replays a graph once, waits, and looks at what it picked; the graph is gone then. */
static inline void step_replay(struct step *s, struct rfn_graph *graph)
{
    struct rfn_exec *exec = NULL;
    WORKS(s, rfn_graph_instantiate(graph, &exec));
    WORKS(s, rfn_exec_launch(exec, s->stream));
    WORKS(s, rfn_stream_sync(s->stream));
    harness_check(&s->h, "what the replay picks", step_picked(s, s->host_lens), "wrong");
    WORKS(s, rfn_exec_destroy(&exec));
    WORKS(s, rfn_graph_destroy(&graph));
}

/* Rules of calls that need be in no capture. */
static inline int step_anywhere(enum rfn_rule rule)
{
    return rule == RFN_CAP017 || rule == RFN_CAP018 || rule == RFN_CAP027 ||
           rule == RFN_CAP031 || rule == RFN_CAP051 || rule == RFN_CAP054;
}

/* Prints all findings and checks that there is exactly one, of this rule and this place;
 * RFN_RULES: that there is none. */
static inline void step_verdict(struct step *s, enum rfn_rule rule, const char *file,
                                int line, const char *api)
{
    int32_t count = rfn_check_count(s->check);
    for (int32_t i = 0; i < count; i++)
    {
        struct rfn_finding f;
        char text[2048];
        WORKS(s, rfn_check_finding(s->check, i, &f));
        rfn_finding_text(&f, text, sizeof text);
        fputs(text, stdout);
        if (rule == RFN_RULES || i)
            continue;
        harness_check(&s->h, "the rule", f.rule == rule, "%s, not %s",
                      rfn_rule_query(f.rule)->id, rfn_rule_query(rule)->id);
        harness_check(&s->h, "the place", !strcmp(f.file, file) && f.line == line,
                      "%s:%d, not %s:%d", f.file, f.line, file, line);
        harness_check(&s->h, "the call", !strcmp(f.api, api), "%s, not %s", f.api, api);
        harness_check(&s->h, "seen once", f.count == 1, "%lld times", (long long)f.count);
        harness_check(&s->h, "how sure",
                      f.confidence == (s->heuristic ? RFN_HEURISTIC
                                                    : rfn_rule_query(rule)->confidence) &&
                          f.severity == (s->heuristic ? RFN_WARNING
                                                      : rfn_rule_query(rule)->severity),
                      "%d, %d", (int)f.confidence, (int)f.severity);
        harness_check(&s->h, "the capture",
                      s->outside ? !f.capture_id : f.capture_id || step_anywhere(rule),
                      "%llu", (unsigned long long)f.capture_id);
        harness_check(&s->h, "the region", !strcmp(f.region, s->region), "'%s', not '%s'",
                      f.region, s->region);
    }
    int32_t want = rule == RFN_RULES ? 0 : 1;
    harness_check(&s->h, "how many findings", count == want, "%d, not %d", count, want);
}

/* Takes everything down again; the exit code. */
static inline int step_close(struct step *s)
{
    if (!s->device)
        return harness_end(&s->h);
    WORKS(s, rfn_device_sync(s->device));
    WORKS(s, rfn_memory_free(s->device, s->lens));
    WORKS(s, rfn_memory_free(s->device, s->pick.logits.data));
    WORKS(s, rfn_memory_free(s->device, s->pick.table.data));
    WORKS(s, rfn_memory_free(s->device, s->pick.request.data));
    WORKS(s, rfn_memory_free(s->device, s->pick.slots.data));
    WORKS(s, rfn_memory_free(s->device, s->host_lens));
    WORKS(s, rfn_memory_free(s->device, s->host_picked));
    WORKS(s, rfn_event_destroy(&s->fork));
    WORKS(s, rfn_event_destroy(&s->join));
    WORKS(s, rfn_stream_destroy(&s->side));
    WORKS(s, rfn_stream_destroy(&s->stream));
    WORKS(s, rfn_check_destroy(&s->check));
    WORKS(s, rfn_device_close(&s->device));
    WORKS(s, rfn_region_end());
    WORKS(s, rfn_region_end());
    return harness_end(&s->h);
}

#endif
