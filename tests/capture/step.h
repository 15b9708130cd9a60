/*
 * What the capture programs share: a device with a checker, and the buffers of a small
 * decode step that picks the best K cached tokens of each request. Public API only.
 */
#ifndef TEST_CAPTURE_STEP_H
#define TEST_CAPTURE_STEP_H

#include "tests/support/harness.h"

#include <refrain/refrain.h>
#include <stdio.h>
#include <string.h>

#define STEP_ROWS 2     /* query tokens, one a request */
#define STEP_CONTEXT 64 /* columns of the scores */
#define STEP_TOP 8      /* picked a row */
#define STEP_PAGE_TOKENS 16
#define STEP_TABLE 4 /* pages a request */
#define STEP_PAGES (STEP_ROWS * STEP_TABLE)
#define STEP_PICKED_BYTES ((int64_t)sizeof(int32_t) * STEP_ROWS * STEP_TOP)
#define STEP_LENS_BYTES ((int64_t)sizeof(int32_t) * STEP_ROWS)

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
};

/* A named check that a call gives RFN_OK. */
#define WORKS(s, call)                                                                   \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status status_ = (call);                                                \
        harness_check(&(s)->h, #call, status_ == RFN_OK, "%s: %s",                       \
                      rfn_status_name(status_), rfn_last_error());                       \
    } while (0)

/* Device memory that holds a copy of `from`. */
static inline void *step_upload(struct step *s, const void *from, size_t bytes)
{
    void *to = NULL;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, (int64_t)bytes, &to));
    WORKS(s, rfn_copy_sync(s->device, to, from, (int64_t)bytes));
    return to;
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
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST, .check = 1 };
    WORKS(s, rfn_device_open(&desc, &s->device));
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
        harness_check(&s->h, "proved", f.confidence == RFN_PROVED && f.capture_id, "no");
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
    return harness_end(&s->h);
}

#endif
