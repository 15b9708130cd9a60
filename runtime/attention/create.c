/* Making and unmaking an attention object: everything it will ever allocate. */
#include "runtime/attention/attention.h"

#include "kernels/op.h"
#include "runtime/guard.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS_MAX 65536
#define DEFAULT_LOGITS_BYTES (INT64_C(256) << 20)
#define ALIGN 256
/* Slots of the ring share no page: the host device watches pages. */
#define RING_ALIGN 4096
#define SLOTS_MAX ((int64_t)INT32_MAX + 1) /* chosen slots are i32 */

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- captures -------------------------------------------------------------------- */

enum rfn_status rfn_outside_captures(struct rfn_device *device, struct rfn_stream *stream,
                                     const char *what)
{
    struct rfn_call_event event;
    const char *region = rfn_region_text();
    const char *const quote[] = { region[0] ? " in region \"" : "",
                                  region[0] ? "\"" : "" };
    /* The frame of a call, for the thread, the site and the stream's capture; no call. */
    enum rfn_status status =
        rfn_call_begin(&event, device, RFN_CALL_capture_query, stream);
    if (status != RFN_OK)
        return status;
    pthread_mutex_lock(&device->lock);
    const struct rfn_body *open =
        event.before.status != RFN_CAPTURE_NONE ? rfn_capture_find(device, &event) : NULL;
    for (const struct rfn_body *b = device->bodies; b && !open; b = b->next)
        if (b->origin && b->thread == event.thread)
            open = b;
    if (open)
        status = rfn_error_at(
            __FILE__, __LINE__, RFN_CAPTURE, RFN_CODE_CAPTURE_UNSUPPORTED,
            "%s%s%.200s%s at %s:%d: refused in capture \"%s\" (capture %" PRIu64
            ", begun at %s:%d); call it outside",
            what, quote[0], region, quote[1], event.site.file, event.site.line,
            open->name, open->capture_id, open->begun.file, open->begun.line);
    else if (event.before.status != RFN_CAPTURE_NONE)
        status =
            rfn_error_at(__FILE__, __LINE__, RFN_CAPTURE, RFN_CODE_CAPTURE_UNSUPPORTED,
                         "%s%s%.200s%s at %s:%d: refused in capture %" PRIu64
                         ", which was not begun through this library",
                         what, quote[0], region, quote[1], event.site.file,
                         event.site.line, event.before.id);
    pthread_mutex_unlock(&device->lock);
    return status;
}

/* ---- limits ---------------------------------------------------------------------- */

static enum rfn_status check_limits(const struct rfn_geometry *g,
                                    const struct rfn_attention_limits *limits,
                                    struct rfn_attention_limits *ret)
{
    struct rfn_attention_limits l = *limits;
    if (!l.context)
        l.context = g->context;
    if (!l.logits_bytes)
        l.logits_bytes = DEFAULT_LOGITS_BYTES;
    /* A score of each token of the longest context: the least that can be selected from. */
    int64_t row_bytes = round_up(l.context, 4) * (int64_t)sizeof(float);
    const struct
    {
        const char *name;
        int64_t value, least, most;
    } range[] = {
        { "requests", l.requests, 1, REQUESTS_MAX },
        { "next_n", l.next_n, 1, RFN_NEXT_N_MAX },
        { "context", l.context, 1, g->context },
        { "pages", l.pages, 1, SLOTS_MAX / g->page_tokens },
        { "logits_bytes", l.logits_bytes, row_bytes, INT64_MAX },
        { "batch_invariant", l.batch_invariant, 0, 1 },
    };
    for (size_t i = 0; i < RFN_COUNT(range); i++)
        if (range[i].value < range[i].least || range[i].value > range[i].most)
            return RFN_FAIL(RFN_LIMIT,
                            "limits of %.64s: %s = %" PRId64 ", but %" PRId64
                            " .. %" PRId64 " is needed",
                            g->name, range[i].name, range[i].value, range[i].least,
                            range[i].most);
    *ret = l;
    return RFN_OK;
}

/* ---- layout ---------------------------------------------------------------------- */

/* The next `bytes`; NULL while `base` is. */
static void *take(char *base, int64_t *at, int64_t bytes, int64_t align)
{
    int64_t from = round_up(*at, align);
    *at = from + bytes;
    return base ? base + from : NULL;
}

/* Sizes with base NULL, carves with the real one: one path, so that both agree. */
static struct rfn_step_buffers carve(const struct rfn_attention *a, char *base)
{
    const struct rfn_geometry *g = &a->geometry;
    const int64_t R = a->limits.requests, T = a->rows, W = a->width, int_bytes = 4;
    struct rfn_step_buffers b = { 0 };
    int64_t at = 0;
    b.header = take(base, &at, RFN_HEADER_INTS * int_bytes, ALIGN);
    b.turn = base ? (int64_t *)(void *)(b.header + RFN_HEADER_TURN) : NULL;
    b.lens = take(base, &at, R * int_bytes, 16);
    b.q_lens = take(base, &at, R * int_bytes, 16);
    b.rejected = take(base, &at, R * int_bytes, 16);
    b.table = take(base, &at, 0, 16);
    b.table_at = at;
    (void)take(base, &at, R * W * int_bytes, 1);
    b.packed = at;
    b.request = take(base, &at, T * int_bytes, ALIGN);
    b.context = take(base, &at, T * int_bytes, ALIGN);
    b.slots = take(base, &at, T * 8, ALIGN);
    b.live = take(base, &at, int_bytes, ALIGN);
    b.bounds = take(base, &at, RFN_BOUNDS * 8, 16);
    b.step = at;
    b.q8 = take(base, &at, T * g->index_heads * g->index_width, ALIGN);
    b.w8 = take(base, &at, T * g->index_heads * 4, ALIGN);
    b.logits = take(base, &at, a->logits_rows * a->row_logits * 4, ALIGN);
    b.chosen = take(base, &at, a->choices * T * g->topk * int_bytes, ALIGN);
    b.bytes = at;
    return b;
}

/* Each choice that a later layer uses has a buffer of its own, the others share the first. */
static void assign_choices(struct rfn_attention *a)
{
    const int32_t *source = a->geometry.index_source;
    int32_t layers = a->geometry.layers;
    a->choices = 1;
    for (int32_t i = 0; i < layers; i++)
    {
        struct rfn_layer *l = &a->layer[i];
        l->source = source ? source[i] : i;
        if (l->source != i && a->layer[l->source].choice == 0)
            a->layer[l->source].choice = a->choices++;
    }
}

/* The object with its host parts in one block. */
static struct rfn_attention *make_object(const struct rfn_geometry *g, int32_t requests)
{
    size_t layers = (size_t)g->layers, R = (size_t)requests, name = strlen(g->name) + 1;
    size_t ints = (6 + 2 * RFN_ATTENTION_RING) * R + (g->index_source ? layers : 0);
    struct rfn_attention *a =
        calloc(1, sizeof *a + layers * sizeof *a->layer + ints * sizeof(int32_t) + name);
    if (!a)
        return NULL;
    a->layer = (struct rfn_layer *)(a + 1);
    int32_t *next = (int32_t *)(a->layer + layers);
    a->handed.lens = next;
    a->handed.q_lens = next + R;
    a->handed.pages = next + 2 * R;
    a->handed.columns = next + 3 * R;
    next += 4 * R;
    a->fresh = (struct rfn_entries *)next;
    next += 2 * R;
    a->stale = (struct rfn_entries *)next;
    next += 2 * RFN_ATTENTION_RING * R;
    a->geometry = *g;
    if (g->index_source)
    {
        memcpy(next, g->index_source, layers * sizeof(int32_t));
        a->geometry.index_source = next;
        next += layers;
    }
    a->geometry.name = memcpy(next, g->name, name);
    return a;
}

static enum rfn_status allocate(struct rfn_attention *a)
{
    a->rows = (int64_t)a->limits.requests * a->limits.next_n;
    a->width =
        (a->limits.context + a->geometry.page_tokens - 1) / a->geometry.page_tokens;
    a->row_logits = round_up(a->limits.context, 4);
    a->logits_rows = a->limits.logits_bytes / (a->row_logits * (int64_t)sizeof(float));
    if (a->logits_rows > a->rows)
        a->logits_rows = a->rows;
    assign_choices(a);
    a->at = carve(a, NULL);
    enum rfn_status status =
        rfn_memory_alloc(a->device, RFN_MEMORY_DEVICE, a->at.bytes, &a->memory);
    if (status != RFN_OK)
        return status;
    a->at = carve(a, a->memory);
    a->slot_bytes = round_up(a->at.packed, RING_ALIGN);
    const size_t table_bytes = (size_t)(a->limits.requests * a->width) * sizeof(int32_t);
    a->handed.table = malloc(table_bytes);
    if (!a->handed.table)
        return RFN_FAIL(RFN_NOMEM, "no memory for tables of %d requests",
                        a->limits.requests);
    memset(a->handed.table, 0xff, table_bytes); /* and is there before the first step */
    const int64_t slots_bytes = RFN_ATTENTION_RING * a->slot_bytes;
    void *ring;
    status = rfn_memory_alloc(a->device, RFN_MEMORY_PINNED,
                              slots_bytes + rfn_records_carve(a, NULL), &ring);
    if (status != RFN_OK)
        return status;
    a->ring = ring;
    rfn_records_carve(a, a->ring + slots_bytes);
    rfn_records_init(a);
    for (int i = 0; status == RFN_OK && i < RFN_ATTENTION_RING; i++)
        status = rfn_event_create_plain(a->device, &a->copied[i]);
    if (status != RFN_OK)
        return status;
    /* No requests: what is launched before the first plan is an idle step. */
    memset(a->ring, 0, (size_t)a->at.table_at);
    return rfn_copy_sync(a->device, a->at.header, a->ring, a->at.table_at);
}

/* Undoes as much of allocate as was done; can be called again after an error. A device that
 * turns out to be lost takes everything back all the same. */
static enum rfn_status release(struct rfn_attention *a)
{
    enum rfn_status status = RFN_OK;
    if (a->memory) /* first: a graph may hold it */
        status = rfn_memory_free(a->device, a->memory);
    if (status != RFN_OK && status != RFN_DEVICE)
        return status;
    a->memory = NULL;
    if (a->ring)
        status = rfn_memory_free(a->device, a->ring);
    if (status != RFN_OK && status != RFN_DEVICE)
        return status;
    a->ring = NULL;
    for (int i = 0; i < RFN_ATTENTION_RING; i++)
    {
        status = rfn_event_destroy(&a->copied[i]);
        if (status != RFN_OK && status != RFN_DEVICE)
            return status;
    }
    return RFN_OK;
}

static void drop(struct rfn_attention *a)
{
    rfn_plan_state_drop(a->state);
    free(a->handed.table);
    free(a);
}

/* ---- public ---------------------------------------------------------------------- */

enum rfn_status rfn_attention_create(struct rfn_device *device,
                                     const struct rfn_geometry *geometry,
                                     const struct rfn_attention_limits *limits,
                                     struct rfn_attention **ret_attention)
{
    struct rfn_attention_limits whole;
    enum rfn_status status = rfn_supported(device, geometry);
    if (status == RFN_OK && (!limits || !ret_attention))
        status = RFN_FAIL(RFN_INVALID, "attention_create: %s is NULL",
                          limits ? "ret_attention" : "limits");
    if (status == RFN_OK)
        status = check_limits(geometry, limits, &whole);
    if (status == RFN_OK)
        status = rfn_outside_captures(device, NULL, "attention_create");
    if (status != RFN_OK)
        return status;
    struct rfn_attention *a = make_object(geometry, whole.requests);
    if (!a)
        return RFN_FAIL(RFN_NOMEM, "no memory for an attention object of %d layers",
                        geometry->layers);
    a->device = device;
    a->limits = whole;
    a->state = rfn_plan_state_create();
    status = a->state ? allocate(a) : RFN_FAIL(RFN_NOMEM, "no memory for a plan's state");
    if (status == RFN_OK)
    {
        *ret_attention = a;
        return RFN_OK;
    }
    release(a);
    drop(a);
    return status;
}

enum rfn_status rfn_attention_destroy(struct rfn_attention **attention)
{
    if (!attention)
        return RFN_FAIL(RFN_INVALID, "attention is NULL where its address is due");
    struct rfn_attention *a = *attention;
    if (!a)
        return RFN_OK;
    if (a->ladders)
        return RFN_FAIL(RFN_BUSY, "attention_destroy: %d ladders of it live", a->ladders);
    enum rfn_status status = rfn_outside_captures(a->device, NULL, "attention_destroy");
    if (status == RFN_OK || status == RFN_DEVICE) /* a lost device takes all back */
        status = release(a);
    if (status != RFN_OK)
        return status;
    drop(a);
    *attention = NULL;
    return RFN_OK;
}

enum rfn_status rfn_attention_view(struct rfn_attention *attention, int32_t layer,
                                   struct rfn_step_view *ret_view)
{
    const struct rfn_attention *a = attention;
    if (!a || !ret_view)
        return RFN_FAIL(RFN_INVALID, "attention_view: %s is NULL",
                        a ? "ret_view" : "attention");
    if (layer < 0 || layer >= a->geometry.layers)
        return RFN_FAIL(RFN_NOT_FOUND, "layer %d of a geometry with %d layers", layer,
                        a->geometry.layers);
    const int64_t R = a->limits.requests, T = a->rows;
    *ret_view = (struct rfn_step_view) {
        .lens = rfn_tensor_of(a->at.lens, RFN_I32, R, 0, 0, 0),
        .q_lens = rfn_tensor_of(a->at.q_lens, RFN_I32, R, 0, 0, 0),
        .rejected = rfn_tensor_of(a->at.rejected, RFN_I32, R, 0, 0, 0),
        .table = rfn_tensor_of(a->at.table, RFN_I32, R, a->width, 0, 0),
        .requests = rfn_tensor_of(a->at.header, RFN_I32, 1, 0, 0, 0),
        .request = rfn_tensor_of(a->at.request, RFN_I32, T, 0, 0, 0),
        .context = rfn_tensor_of(a->at.context, RFN_I32, T, 0, 0, 0),
        .slots = rfn_tensor_of(a->at.slots, RFN_I64, T, 0, 0, 0),
        .live = rfn_tensor_of(a->at.live, RFN_I32, 1, 0, 0, 0),
        .bounds = rfn_tensor_of(a->at.bounds, RFN_I64, RFN_BOUNDS, 0, 0, 0),
        .chosen = rfn_chosen(a, &a->layer[layer], T),
        .workspace_bytes = a->at.bytes - a->at.step,
    };
    return RFN_OK;
}
