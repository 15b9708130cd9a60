#include "tools/incident.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POISON 0x5a
#define NO_PAGE (-7)

static const struct incident_form *const forms[] = {
    &incident_scalars, &incident_contiguous, &incident_lists,     &incident_early,
    &incident_bound,   &incident_above,      &incident_unguarded, &incident_bounds,
    &incident_stale,   &incident_rows,       &incident_narrow,    &incident_stride,
    &incident_widths,
};

const struct incident_form *incident_at(int i)
{
    return i >= 0 && i < (int)(sizeof(forms) / sizeof(forms[0])) ? forms[i] : NULL;
}

/* ---- what is due --------------------------------------------------------------------- */

int incident_holds(struct incident *in, int holds, const char *format, ...)
{
    if (!holds && in->wrong[0] == '\0')
    {
        va_list args;
        va_start(args, format);
        vsnprintf(in->wrong, sizeof(in->wrong), format, args);
        va_end(args);
    }
    return holds;
}

int incident_works(struct incident *in, const char *call, enum rfn_status status)
{
    return incident_holds(in, status == RFN_OK, "%s: %s: %s", call,
                          rfn_status_name(status), rfn_last_error());
}

void incident_plant(struct incident *in, const char *rule, const char *file, int32_t line)
{
    if (incident_holds(in, in->plants < INCIDENT_PLANTS, "more than %d plants",
                       INCIDENT_PLANTS))
    {
        in->plant[in->plants++] = (struct incident_plant) { rule, file, line };
    }
}

void incident_refused(struct incident *in, const char *call, enum rfn_status status,
                      enum rfn_status want, const char *words)
{
    const char *line = rfn_last_error();
    if (!incident_holds(in, status == want, "%s: %s where %s is due", call,
                        rfn_status_name(status), rfn_status_name(want)))
    {
        return;
    }
    while (words[0] != '\0')
    {
        char word[64];
        size_t length = strcspn(words, "|");
        snprintf(word, sizeof(word), "%.*s", (int)length, words);
        incident_holds(in, strstr(line, word) != NULL, "%s: \"%s\" lacks \"%s\"", call,
                       line, word);
        words += length + (words[length] == '|');
    }
    in->refused++;
    snprintf(in->error, sizeof(in->error), "%s", line);
}

void incident_caught(struct incident *in, int caught, const char *what,
                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(in->error, sizeof(in->error), format, args);
    va_end(args);
    if (incident_holds(in, caught, "%s: %s, which is not due", what, in->error))
    {
        in->caught = what;
    }
}

void incident_fault(struct incident *in, const char *op, const char *operand,
                    const char *words)
{
    struct rfn_fault f = { 0 };
    char line[INCIDENT_LINE];
    WORKS(in, rfn_device_fault(in->device, &f));
    int caught = f.op != NULL && strcmp(f.op, op) == 0 && strcmp(f.operand, operand) == 0;
    if (rfn_fault_text(&f, line, sizeof(line)) == 0)
    {
        snprintf(line, sizeof(line), "nothing");
    }
    while (words[0] != '\0')
    {
        char word[64];
        size_t length = strcspn(words, "|");
        snprintf(word, sizeof(word), "%.*s", (int)length, words);
        caught = caught && strstr(line, word) != NULL;
        words += length + (words[length] == '|');
    }
    incident_caught(in, caught, "check mode", "%s", line);
}

/* ---- the attention object -------------------------------------------------------------- */

int32_t incident_below(struct incident *in, int32_t n)
{
    in->random = in->random * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((in->random >> 33) % (uint64_t)n);
}

void *incident_memory(struct incident *in, enum rfn_memory_kind kind, int64_t bytes)
{
    void *memory = NULL;
    int room = in->memories < (int)(sizeof(in->memory) / sizeof(in->memory[0]));
    if (incident_holds(in, room, "too many allocations") &&
        WORKS(in, rfn_memory_alloc(in->device, kind, bytes, &memory)))
    {
        in->memory[in->memories++] = memory;
    }
    return memory;
}

static int64_t bytes_of(const struct rfn_tensor *t)
{
    int64_t bytes = rfn_dtype_bytes(t->dtype);
    for (int32_t i = 0; i < t->dims; i++)
    {
        bytes *= t->shape[i];
    }
    return bytes;
}

static struct rfn_tensor tensor(struct incident *in, enum rfn_dtype dtype, int64_t d0,
                                int64_t d1, int64_t d2)
{
    struct rfn_tensor t = rfn_tensor_of(NULL, dtype, d0, d1, d2, 0);
    t.data = incident_memory(in, RFN_MEMORY_DEVICE, bytes_of(&t));
    return t;
}

/* bf16 of both signs, 1/32 to 2. */
static void fill(struct incident *in, const struct rfn_tensor *t)
{
    int64_t elems = bytes_of(t) / 2;
    uint16_t *value = malloc((size_t)elems * 2);
    if (!incident_holds(in, value != NULL, "out of memory"))
    {
        return;
    }
    for (int64_t i = 0; i < elems; i++)
    {
        int32_t bits = incident_below(in, 1 << 16);
        value[i] = (uint16_t)(0x3d00 + (bits & 0x2ff) + (bits & 0x8000));
    }
    WORKS(in, rfn_copy_sync(in->device, t->data, value, elems * 2));
    free(value);
}

static struct rfn_pool pool(struct incident *in, enum rfn_format format)
{
    int32_t tokens = in->geometry.page_tokens;
    int64_t bytes = INCIDENT_PAGES * rfn_format_page_bytes(format, tokens);
    return (struct rfn_pool) {
        .data = incident_memory(in, RFN_MEMORY_DEVICE, bytes),
        .format = format,
        .page_tokens = tokens,
        .pages = INCIDENT_PAGES,
    };
}

/* Every slot gets a token. */
static void fill_caches(struct incident *in)
{
    const struct rfn_geometry *g = &in->geometry;
    const int64_t tokens = (int64_t)INCIDENT_PAGES * g->page_tokens;
    struct rfn_tensor slots = tensor(in, RFN_I64, tokens, 0, 0);
    struct rfn_kv_pack_args latent = {
        .kv = tensor(in, RFN_BF16, tokens, g->latent_elems, 0),
        .k_rope = tensor(in, RFN_BF16, tokens, g->rope_elems, 0),
        .slots = slots,
        .scale = g->latent_scale,
    };
    struct rfn_index_pack_args index = {
        .k = tensor(in, RFN_BF16, tokens, g->index_width, 0),
        .slots = slots,
        .scale = g->index_scale,
    };
    int64_t *all = malloc((size_t)tokens * sizeof(*all));
    for (int64_t i = 0; all != NULL && i < tokens; i++)
    {
        all[i] = i;
    }
    if (!incident_holds(in, all != NULL, "out of memory") || in->wrong[0] != '\0')
    {
        free(all);
        return;
    }
    WORKS(in, rfn_copy_sync(in->device, slots.data, all, tokens * 8));
    free(all);
    fill(in, &latent.kv);
    fill(in, &latent.k_rope);
    fill(in, &index.k);
    for (int i = 0; i < INCIDENT_LAYERS; i++)
    {
        latent.pool = in->caches[i].latent;
        index.pool = in->caches[i].index;
        WORKS(in, rfn_kv_pack(in->stream, &latent));
        WORKS(in, rfn_index_pack(in->stream, &index));
    }
    WORKS(in, rfn_stream_sync(in->stream));
}

static void open_model(struct incident *in)
{
    const int64_t T = INCIDENT_REQUESTS;
    const struct rfn_geometry *tiny = NULL;
    const struct rfn_attention_limits limits = {
        .requests = INCIDENT_REQUESTS,
        .next_n = 1,
        .context = INCIDENT_CONTEXT,
        .pages = INCIDENT_PAGES,
    };
    if (!WORKS(in, rfn_geometry_find("tiny", &tiny)))
    {
        return;
    }
    in->geometry = *tiny;
    struct rfn_geometry *g = &in->geometry;
    g->layers = INCIDENT_LAYERS;
    g->index_source = NULL;
    if (!WORKS(in, rfn_attention_create(in->device, g, &limits, &in->attention)))
    {
        return;
    }
    const struct rfn_layer_io inputs = {
        .q = tensor(in, RFN_BF16, T, g->heads, g->latent_elems + g->rope_elems),
        .kv = tensor(in, RFN_BF16, T, g->latent_elems, 0),
        .k_rope = tensor(in, RFN_BF16, T, g->rope_elems, 0),
        .index_q = tensor(in, RFN_BF16, T, g->index_heads, g->index_width),
        .index_w = tensor(in, RFN_BF16, T, g->index_heads, 0),
        .index_k = tensor(in, RFN_BF16, T, g->index_width, 0),
    };
    const struct rfn_tensor *const input[] = { &inputs.q,       &inputs.kv,
                                               &inputs.k_rope,  &inputs.index_q,
                                               &inputs.index_w, &inputs.index_k };
    for (size_t i = 0; in->wrong[0] == '\0' && i < sizeof(input) / sizeof(input[0]); i++)
    {
        fill(in, input[i]);
    }
    for (int i = 0; i < INCIDENT_LAYERS; i++)
    {
        in->io[i] = inputs;
        in->io[i].out = tensor(in, RFN_BF16, T, g->heads, g->v_elems);
        in->io[i].lse = tensor(in, RFN_F32, T, g->heads, 0);
        in->caches[i].latent = pool(in, g->latent_format);
        in->caches[i].index = pool(in, g->index_format);
        WORKS(in, rfn_attention_bind(in->attention, i, &in->caches[i], &in->io[i]));
    }
    fill_caches(in);
}

struct incident_step incident_random(struct incident *in, int32_t requests, int32_t most)
{
    struct incident_step step = { .requests = requests };
    const int32_t P = in->geometry.page_tokens;
    int32_t page[INCIDENT_PAGES];
    for (int32_t i = 0; i < INCIDENT_PAGES; i++)
    {
        int32_t j = incident_below(in, i + 1);
        page[i] = page[j];
        page[j] = i;
    }
    for (int32_t b = 0; b < requests; b++)
    {
        step.lens[b] = 1 + incident_below(in, most);
        for (int32_t i = 0; i < INCIDENT_WIDTH; i++)
        {
            int32_t at = b * INCIDENT_WIDTH + i;
            step.table[at] = i * P < step.lens[b] ? page[at] : NO_PAGE;
        }
    }
    return step;
}

struct rfn_step incident_step_of(const struct incident_step *step)
{
    return (struct rfn_step) {
        .requests = step->requests,
        .lens = step->lens,
        .table = step->table,
        .table_stride = INCIDENT_WIDTH,
    };
}

void incident_record(struct incident *in, const struct rfn_bucket *bucket)
{
    WORKS(in, rfn_attention_update(in->attention, in->stream, bucket));
    for (int32_t i = 0; i < INCIDENT_LAYERS; i++)
    {
        WORKS(in, rfn_attention_forward(in->attention, in->stream, i, bucket));
    }
}

struct rfn_graph *incident_capture(struct incident *in, const struct rfn_bucket *bucket)
{
    struct rfn_graph *graph = NULL;
    WORKS(in, rfn_capture_begin(in->stream, NULL));
    incident_record(in, bucket);
    WORKS(in, rfn_capture_end(in->stream, &graph));
    return graph;
}

struct rfn_exec *incident_exec(struct incident *in, const struct rfn_bucket *bucket)
{
    struct rfn_graph *graph = incident_capture(in, bucket);
    struct rfn_exec *exec = NULL;
    if (graph != NULL)
    {
        WORKS(in, rfn_graph_instantiate(graph, &exec));
        WORKS(in, rfn_graph_destroy(&graph));
    }
    return exec;
}

static void poison(struct incident *in)
{
    for (int i = 0; i < INCIDENT_LAYERS; i++)
    {
        const struct rfn_layer_io *io = &in->io[i];
        WORKS(in, rfn_set_async(in->stream, io->out.data, POISON, bytes_of(&io->out)));
        WORKS(in, rfn_set_async(in->stream, io->lse.data, POISON, bytes_of(&io->lse)));
    }
}

static void fetch(struct incident *in, char *to)
{
    WORKS(in, rfn_stream_sync(in->stream));
    for (int i = 0; i < INCIDENT_LAYERS; i++)
    {
        const struct rfn_tensor *const view[] = { &in->io[i].out, &in->io[i].lse };
        for (int k = 0; k < 2; k++)
        {
            WORKS(in, rfn_copy_sync(in->device, to, view[k]->data, bytes_of(view[k])));
            to += bytes_of(view[k]);
        }
    }
}

uint64_t incident_equal(struct incident *in, struct rfn_exec *exec,
                        const struct rfn_bucket *bucket, const struct rfn_step *step,
                        const struct rfn_step *other)
{
    uint64_t number = 0;
    struct rfn_bucket planned;
    int64_t bytes =
        INCIDENT_LAYERS * (bytes_of(&in->io[0].out) + bytes_of(&in->io[0].lse));
    char *replayed = calloc(2, (size_t)bytes);
    if (!incident_holds(in, replayed != NULL, "out of memory") || in->wrong[0] != '\0')
    {
        free(replayed);
        return 0;
    }
    char *eager = replayed + bytes;
    poison(in);
    WORKS(in, rfn_attention_plan(in->attention, in->stream, step, &planned));
    WORKS(in, rfn_exec_launch(exec, in->stream));
    fetch(in, replayed);
    poison(in);
    if (other != NULL)
    {
        WORKS(in, rfn_attention_plan(in->attention, in->stream, other, &planned));
    }
    incident_record(in, bucket);
    fetch(in, eager);
    int64_t at = 0;
    while (at < bytes && replayed[at] == eager[at])
    {
        at++;
    }
    incident_holds(in, at == bytes,
                   "%d requests, the first of %d tokens: byte %lld of the outputs is %d "
                   "replayed and %d eager",
                   step->requests, step->requests > 0 ? step->lens[0] : 0, (long long)at,
                   at < bytes ? replayed[at] : 0, at < bytes ? eager[at] : 0);
    int written = step->requests == 0;
    for (int64_t i = 0; i < bytes; i++)
    {
        written |= replayed[i] != POISON;
        number = (number ^ (unsigned char)replayed[i]) * 1099511628211u;
    }
    incident_holds(in, written, "the replay wrote nothing");
    free(replayed);
    return number;
}

/* ---- one form -------------------------------------------------------------------------- */

static void judge(struct incident *in, int broken, struct incident_result *ret)
{
    int32_t count = rfn_check_count(in->check);
    int said = 0;
    size_t used = 0;
    for (int32_t i = 0; i < count; i++)
    {
        struct rfn_finding f;
        if (!WORKS(in, rfn_check_finding(in->check, i, &f)))
        {
            return;
        }
        const struct rfn_rule_info *rule = rfn_rule_query(f.rule);
        const struct incident_plant *due = i < in->plants ? &in->plant[i] : NULL;
        incident_holds(in, due != NULL, "%s:%d: %s, which is not due: %s", f.file, f.line,
                       rule->id, f.why);
        incident_holds(in,
                       due == NULL ||
                           (strcmp(rule->id, due->rule) == 0 &&
                            strcmp(f.file, due->file) == 0 && f.line == due->line),
                       "%s:%d: %s, but %s of line %d is due", f.file, f.line, rule->id,
                       due != NULL ? due->rule : "", due != NULL ? due->line : 0);
        if (used < sizeof(ret->found))
        {
            used += (size_t)snprintf(ret->found + used, sizeof(ret->found) - used, "%s%s",
                                     i > 0 ? " " : "", rule->id);
        }
        if (said < INCIDENT_PLANTS)
        {
            snprintf(ret->said[said++], INCIDENT_LINE, "%s:%d: %s %s: %s", f.file, f.line,
                     rule->id, rule->name, f.why);
        }
    }
    incident_holds(in, count == in->plants, "%d findings, but %d are due", count,
                   in->plants);
    incident_holds(in, !broken || in->plants + in->refused > 0 || in->caught != NULL,
                   "nothing was caught");
    if ((in->refused > 0 || in->caught != NULL) && count == 0)
    {
        snprintf(ret->found, sizeof(ret->found), "%s",
                 in->caught != NULL ? in->caught : "refused");
        snprintf(ret->said[0], INCIDENT_LINE, "%s", in->error);
    }
}

enum rfn_status incident_run(const struct incident_form *form, int broken,
                             enum rfn_device_kind kind, uint64_t seed,
                             struct incident_result *ret_result)
{
    struct rfn_device_desc desc = {
        .kind = kind,
        .check = 1,
        .fault_handler = kind == RFN_DEVICE_HOST,
        .threads = 2,
        .reserve_bytes = (int64_t)4 << 30,
    };
    struct incident in = { .seed = seed, .random = seed };
    *ret_result = (struct incident_result) { 0 };
    enum rfn_status status = rfn_device_open(&desc, &in.device);
    if (status != RFN_OK)
    {
        return status;
    }
    if (WORKS(&in, rfn_check_create(in.device, &in.check)) &&
        WORKS(&in, rfn_stream_create(in.device, RFN_STREAM_NONBLOCKING, &in.stream)))
    {
        open_model(&in);
        if (in.wrong[0] == '\0')
        {
            (broken ? form->broken : form->right)(&in);
        }
        judge(&in, broken, ret_result);
    }
    WORKS(&in, rfn_device_sync(in.device));
    WORKS(&in, rfn_attention_destroy(&in.attention));
    while (in.memories > 0)
    {
        WORKS(&in, rfn_memory_free(in.device, in.memory[--in.memories]));
    }
    WORKS(&in, rfn_stream_destroy(&in.stream));
    WORKS(&in, rfn_check_destroy(&in.check));
    WORKS(&in, rfn_device_close(&in.device));
    ret_result->held = in.wrong[0] == '\0';
    snprintf(ret_result->wrong, sizeof(ret_result->wrong), "%s", in.wrong);
    return RFN_OK;
}
