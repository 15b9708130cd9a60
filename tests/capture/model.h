/* A model of one layer for the capture programs: an attention object of the tiny geometry with
 * its caches, inputs and outputs, all zero. */
#ifndef TEST_CAPTURE_MODEL_H
#define TEST_CAPTURE_MODEL_H

#include "tests/capture/step.h"

#define MODEL_REQUESTS 4
#define MODEL_CONTEXT 256
#define MODEL_PAGES 16
#define MODEL_VIEWS 9

struct model
{
    struct rfn_attention *attention;
    struct rfn_geometry geometry;
    void *memory[MODEL_VIEWS];
    int views;
    int64_t width; /* of a table row */
    int32_t lens[MODEL_REQUESTS];
    int32_t table[MODEL_REQUESTS][MODEL_PAGES];
};

static inline struct rfn_tensor model_view(struct step *s, struct model *m, int64_t d0,
                                           int64_t d1, int64_t d2)
{
    struct rfn_tensor t = rfn_tensor_of(NULL, RFN_BF16, d0, d1, d2, 0);
    int64_t bytes = 2 * d0 * d1 * (d2 ? d2 : 1);
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, bytes, &t.data));
    WORKS(s, rfn_set_sync(s->device, t.data, 0, bytes));
    m->memory[m->views++] = t.data;
    return t;
}

static inline struct rfn_pool model_pool(struct step *s, struct model *m,
                                         enum rfn_format format)
{
    struct rfn_pool pool = { .format = format,
                             .page_tokens = m->geometry.page_tokens,
                             .pages = MODEL_PAGES };
    int64_t bytes = MODEL_PAGES * rfn_format_page_bytes(format, pool.page_tokens);
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_DEVICE, bytes, &pool.data));
    WORKS(s, rfn_set_sync(s->device, pool.data, 0, bytes));
    m->memory[m->views++] = pool.data;
    return pool;
}

static inline void model_open(struct step *s, struct model *m)
{
    const struct rfn_geometry *tiny = NULL;
    memset(m, 0, sizeof *m);
    WORKS(s, rfn_geometry_find("tiny", &tiny));
    m->geometry = *tiny;
    m->geometry.layers = 1;
    m->geometry.index_source = NULL;
    const struct rfn_geometry *g = &m->geometry;
    const struct rfn_attention_limits limits = { .requests = MODEL_REQUESTS,
                                                 .next_n = 2,
                                                 .context = MODEL_CONTEXT,
                                                 .pages = MODEL_PAGES };
    const int64_t T = MODEL_REQUESTS * 2, qk = g->latent_elems + g->rope_elems;
    WORKS(s, rfn_attention_create(s->device, g, &limits, &m->attention));
    const struct rfn_layer_caches caches = {
        .latent = model_pool(s, m, g->latent_format),
        .index = model_pool(s, m, g->index_format),
    };
    const struct rfn_layer_io io = {
        .q = model_view(s, m, T, g->heads, qk),
        .kv = model_view(s, m, T, g->latent_elems, 0),
        .k_rope = model_view(s, m, T, g->rope_elems, 0),
        .index_q = model_view(s, m, T, g->index_heads, g->index_width),
        .index_w = model_view(s, m, T, g->index_heads, 0),
        .index_k = model_view(s, m, T, g->index_width, 0),
        .out = model_view(s, m, T, g->heads, g->v_elems),
    };
    WORKS(s, rfn_attention_bind(m->attention, 0, &caches, &io));
    WORKS(s, rfn_device_sync(s->device)); /* the sets went to the legacy stream */
    m->width = MODEL_PAGES;
    for (int b = 0; b < MODEL_REQUESTS; b++)
    {
        m->lens[b] = 3 + 5 * b;
        for (int w = 0; w < MODEL_PAGES; w++)
            m->table[b][w] = (b + w) % MODEL_PAGES;
    }
}

/* What the scheduler says: this many requests of one query token. */
static inline struct rfn_step model_step(const struct model *m, int32_t requests)
{
    static const int32_t ones[MODEL_REQUESTS] = { 1, 1, 1, 1 };
    return (struct rfn_step) {
        .requests = requests,
        .lens = m->lens,
        .q_lens = ones,
        .table = &m->table[0][0],
        .table_stride = MODEL_PAGES,
    };
}

static inline void model_record(struct step *s, struct model *m,
                                const struct rfn_bucket *bucket)
{
    WORKS(s, rfn_attention_update(m->attention, s->stream, bucket));
    WORKS(s, rfn_attention_forward(m->attention, s->stream, 0, bucket));
}

static inline struct rfn_exec *model_capture(struct step *s, struct model *m,
                                             const struct rfn_bucket *bucket)
{
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    model_record(s, m, bucket);
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_graph_instantiate(graph, &exec));
    WORKS(s, rfn_graph_destroy(&graph));
    return exec;
}

static inline void model_close(struct step *s, struct model *m)
{
    WORKS(s, rfn_device_sync(s->device));
    WORKS(s, rfn_attention_destroy(&m->attention));
    for (int i = 0; i < m->views; i++)
        WORKS(s, rfn_memory_free(s->device, m->memory[i]));
}

/* A call that is refused in words that name all of these, "|" between them. */
static inline void step_stale(struct step *s, enum rfn_status status, const char *words)
{
    char list[128];
    char *rest = list;
    snprintf(list, sizeof list, "%s", words);
    int all = status == RFN_INVALID;
    for (char *word = strtok_r(rest, "|", &rest); word && all;
         word = strtok_r(NULL, "|", &rest))
        all = strstr(rfn_last_error(), word) != NULL;
    harness_check(&s->h, "it is refused and says why", all, "%s: \"%s\" lacks one of %s",
                  rfn_status_name(status), rfn_last_error(), words);
}

#endif
