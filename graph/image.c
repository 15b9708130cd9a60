/* Images of captured graphs: what the backend tells, put in order, with what every address
 * belongs to and who made the nodes. */
#define RFN_NO_SITES
#include "graph/image.h"
#include "runtime/call.h"

#include <refrain/check.h>
#include <stdlib.h>
#include <string.h>

/* ---- order ------------------------------------------------------------------------- */

/* place[i]: where node i goes so that all before it come first, else as they were. 0: no
 * memory. Edges are sorted by their ends. */
static int order(const struct rfn_image_raw *raw, int32_t *place)
{
    size_t nodes = (size_t)raw->nodes;
    int32_t *first = calloc(nodes + 1, sizeof *first), *stack = NULL;
    int32_t *next = calloc(nodes + 1, sizeof *next);
    int32_t placed = 0;
    stack = calloc(nodes + 1, sizeof *stack);
    int done = first && next && stack;
    for (int32_t e = 0; done && e < raw->edges; e++)
        first[raw->edge[e].to + 1]++;
    for (size_t i = 0; done && i < nodes; i++)
    {
        first[i + 1] += first[i];
        next[i] = first[i];
        place[i] = -1;
    }
    for (int32_t i = 0; done && i < raw->nodes; i++)
    {
        int32_t depth = 0;
        stack[depth++] = i;
        while (depth)
        {
            int32_t n = stack[depth - 1];
            if (place[n] >= 0)
                depth--;
            else if (next[n] == first[n + 1])
                place[n] = placed++;
            else
            {
                int32_t from = raw->edge[next[n]++].from;
                if (place[from] < 0 && depth < raw->nodes)
                    stack[depth++] = from;
            }
        }
    }
    free(first);
    free(next);
    free(stack);
    return done;
}

int rfn_image_order(struct rfn_image_store *store, struct rfn_image_raw *raw)
{
    int good = 1;
    rfn_image_sort(raw->edge, raw->edges);
    for (int32_t e = 0; e < raw->edges; e++)
        good = good && raw->edge[e].from < raw->edge[e].to;
    if (good)
        return 1;
    struct rfn_image_raw to;
    int32_t *place = malloc((size_t)raw->nodes * sizeof *place);
    int done =
        place && order(raw, place) && rfn_image_raw_nodes(store, &to, (size_t)raw->nodes);
    for (int32_t i = 0; done && i < raw->nodes; i++)
    {
        to.node[place[i]] = raw->node[i];
        to.key[place[i]] = raw->key[i];
        to.child[place[i]] = raw->child[i];
    }
    for (int32_t e = 0; done && e < raw->edges; e++)
    {
        raw->edge[e].from = place[raw->edge[e].from];
        raw->edge[e].to = place[raw->edge[e].to];
    }
    free(place);
    if (!done)
        return 0;
    to.edge = raw->edge;
    to.edges = raw->edges;
    *raw = to;
    rfn_image_sort(raw->edge, raw->edges);
    return 1;
}

/* ---- addresses --------------------------------------------------------------------- */

static const struct rfn_allocation *pinned(const struct rfn_pins *pins, uint64_t address)
{
    for (int32_t i = 0; i < pins->entries; i++)
        if (address - (uintptr_t)pins->entry[i]->base < (uint64_t)pins->entry[i]->bytes)
            return pins->entry[i];
    return NULL;
}

/* Whose image it is: an executable holds its graph's memory on its own account. */
struct owner
{
    struct rfn_device *device;
    const struct rfn_body *body; /* NULL: a graph of somebody else */
    const struct rfn_exec *exec; /* NULL: the graph's own image */
};

/* What a capture pinned says what an address was then; the table says what it is now. */
static void resolve(const struct owner *o, int32_t launch, struct rfn_image_pointer *at)
{
    const struct rfn_allocation *a = NULL;
    struct rfn_memory_info info;
    const void *address = (const void *)(uintptr_t)at->address;
    if (!at->address)
        return;
    if (o->body && launch >= 0)
        a = pinned(o->exec ? &o->exec->launch[launch] : &o->body->launch[launch].pins,
                   at->address);
    if (o->body && !a)
        a = pinned(o->exec ? &o->exec->pins : &o->body->pins, at->address);
    if (a)
        info = (struct rfn_memory_info) { a->kind,       a->base, a->bytes,
                                          a->generation, 0,       a->foreign };
    else if (rfn_memory_query(o->device, address, &info) != RFN_OK)
        return;
    at->kind = info.kind;
    at->base = (uintptr_t)info.base;
    at->bytes = info.bytes;
    at->offset = info.base ? (int64_t)(at->address - at->base) : 0;
    at->generation = info.generation;
    at->imported = info.foreign;
    at->stack = info.kind == RFN_MEMORY_PAGEABLE && rfn_call_on_stack(address);
}

static void resolve_node(const struct owner *o, struct rfn_image_node *node)
{
    /* They are the store's, and written here only. */
    struct rfn_image_param *param = (struct rfn_image_param *)node->param;
    struct rfn_image_access *access = (struct rfn_image_access *)node->access;
    for (int32_t i = 0; i < node->params; i++)
    {
        struct rfn_image_pointer *at = &param[i].pointer;
        resolve(o, node->launch, at);
        /* Any number of a foreign kernel may be an address. */
        if (param[i].role == RFN_IMAGE_FOREIGN && at->kind == RFN_MEMORY_PAGEABLE)
            *at = (struct rfn_image_pointer) { 0 };
    }
    for (int32_t i = 0; i < node->accesses; i++)
        resolve(o, node->launch, &access[i].pointer);
}

/* ---- who made them ----------------------------------------------------------------- */

struct callers
{
    struct rfn_image_store *store;
    struct rfn_ledger_entry *entry;
    struct rfn_ledger_access *access; /* two an entry */
    int32_t entries;
    int32_t next[RFN_IMAGE_TYPES];
    int32_t *launch; /* entries that are op launches, in their order */
    int32_t launches;
};

static int read_ledger(struct callers *c, struct rfn_check *check, uint64_t capture)
{
    int32_t count = rfn_check_ledger_count(check, capture);
    size_t room = count > 0 ? (size_t)count : 1;
    c->entry = calloc(room, sizeof *c->entry);
    c->access = calloc(2 * room, sizeof *c->access);
    c->launch = calloc(room, sizeof *c->launch);
    if (!c->entry || !c->access || !c->launch)
        return 0;
    for (int32_t i = 0; i < count; i++)
    {
        struct rfn_ledger_entry *e = &c->entry[i];
        if (rfn_check_ledger(check, capture, i, e, &c->access[2 * i], 2) != RFN_OK)
            break;
        /* The checker may forget the capture. */
        e->file = rfn_image_text(c->store, e->file);
        e->region = rfn_image_text(c->store, e->region);
        if (e->launch)
            c->launch[c->launches++] = i;
        c->entries = i + 1;
    }
    return 1;
}

/* The entry that became a node: copies and sets are told by what they move. */
static int32_t entry_of(struct callers *c, const struct rfn_image_node *node)
{
    static const char *const what[RFN_IMAGE_TYPES] = {
        [RFN_IMAGE_MEMCPY] = "copy_async",
        [RFN_IMAGE_MEMSET] = "set_async",
        [RFN_IMAGE_HOST] = "host_call",
        [RFN_IMAGE_CHILD] = "capture_add_child",
    };
    if (node->launch >= 0)
        return node->launch < c->launches ? c->launch[node->launch] : -1;
    if (!what[node->type])
        return -1;
    for (int32_t i = c->next[node->type]; i < c->entries; i++)
    {
        const struct rfn_ledger_access *a = &c->access[2 * i];
        if (c->entry[i].launch || strcmp(c->entry[i].what, what[node->type]) != 0)
            continue;
        int same = 1;
        for (int32_t k = 0; k < node->accesses && k < 2; k++)
            same = same && k < c->entry[i].accesses &&
                   node->access[k].pointer.address == (uintptr_t)a[k].address &&
                   node->access[k].bytes == a[k].bytes;
        if (!same)
            continue;
        c->next[node->type] = i + 1;
        return i;
    }
    return -1;
}

static void name_callers(struct callers *c, struct rfn_image_raw *raw)
{
    for (int32_t i = 0; i < raw->nodes; i++)
    {
        int32_t k = entry_of(c, &raw->node[i]);
        if (k < 0)
            continue;
        raw->node[i].file = c->entry[k].file;
        raw->node[i].line = c->entry[k].line;
        raw->node[i].region = c->entry[k].region;
        raw->node[i].stream = c->entry[k].stream;
        raw->node[i].thread = c->entry[k].thread;
    }
}

/* ---- images ------------------------------------------------------------------------ */

struct kept
{
    struct rfn_image image; /* first: what callers hold */
    struct rfn_image_store store;
};

static void number_launches(const struct rfn_body *body, struct rfn_image_raw *raw)
{
    int32_t next = 0;
    for (int32_t i = 0; i < raw->nodes; i++)
        for (int32_t k = 0; raw->key[i] && raw->node[i].launch < 0 && k < body->launches;
             k++)
        {
            /* They mostly come in turn. */
            int32_t launch = (next + k) % body->launches;
            if (body->launch[launch].node != raw->key[i])
                continue;
            raw->node[i].launch = launch;
            next = launch;
        }
}

static int finish(const struct owner *o, struct rfn_check *check,
                  struct rfn_image_store *store, struct rfn_image_raw *raw, int top,
                  struct rfn_image *ret)
{
    struct callers callers = { .store = store };
    const struct rfn_body *body = o->body;
    if (!rfn_image_order(store, raw))
        return 0;
    if (body && top)
        number_launches(body, raw);
    for (int32_t i = 0; i < raw->nodes; i++)
    {
        resolve_node(o, &raw->node[i]);
        if (raw->node[i].type != RFN_IMAGE_CHILD)
            continue;
        struct rfn_image *child = rfn_image_take(store, sizeof *child);
        if (!child || !finish(o, NULL, store, &raw->child[i], 0, child))
            return 0;
        raw->node[i].child = child;
    }
    int done = 1;
    if (body && check)
    {
        done = read_ledger(&callers, check, body->capture_id);
        if (done)
            name_callers(&callers, raw);
        free(callers.entry);
        free(callers.access);
        free(callers.launch);
    }
    *ret = (struct rfn_image) {
        .name = rfn_image_text(store, top && body ? body->name : ""),
        .device = rfn_image_text(store, o->device->backend->name),
        .capture_id = top && body ? body->capture_id : 0,
        .nodes = raw->nodes,
        .edges = raw->edges,
        .node = raw->node,
        .edge = raw->edge,
    };
    return done && !store->failed;
}

static enum rfn_status nomem(const char *what)
{
    return RFN_FAIL(RFN_NOMEM, "%s: no memory for an image", what);
}

/* `native` without a body: somebody else's. */
static enum rfn_status make(const char *what, const struct owner *o, void *native,
                            struct rfn_check *check, struct rfn_image **ret)
{
    struct rfn_device *device = o->device;
    const struct rfn_backend *b = device->backend;
    struct rfn_image_raw raw = { 0 };
    enum rfn_status status = rfn_call_allowed(device, what);
    if (status)
        return status;
    struct kept *kept = calloc(1, sizeof *kept);
    if (!kept)
        return nomem(what);
    int code = o->body ? b->graph_image(device->impl, o->body->native, &kept->store, &raw)
                       : b->native_image(device->impl, native, &kept->store, &raw);
    if (code == RFN_CODE_NOMEM)
        status = nomem(what);
    else if (code)
        status = rfn_error_at(__FILE__, __LINE__, RFN_DEVICE, code, "%s: %d, %s", what,
                              code, b->why(device->impl));
    else
    {
        /* Pins of a graph change when it is destroyed, which nobody does meanwhile. */
        int done = finish(o, check, &kept->store, &raw, 1, &kept->image);
        status = done ? RFN_OK : nomem(what);
    }
    if (status == RFN_OK)
    {
        *ret = &kept->image;
        return RFN_OK;
    }
    rfn_image_drop(&kept->store);
    free(kept);
    return status;
}

enum rfn_status rfn_image_of(struct rfn_graph *graph, struct rfn_check *check,
                             struct rfn_image **ret_image)
{
    enum rfn_status status = rfn_object_check(graph, RFN_OBJECT_GRAPH, "graph");
    if (status)
        return status;
    if (!ret_image)
        return RFN_FAIL(RFN_INVALID, "image_of: ret_image is NULL");
    const struct owner o = { graph->object.device, graph->body, NULL };
    return make("image_of", &o, NULL, check, ret_image);
}

enum rfn_status rfn_image_of_exec(struct rfn_exec *exec, struct rfn_check *check,
                                  struct rfn_image **ret_image)
{
    enum rfn_status status = rfn_object_check(exec, RFN_OBJECT_EXEC, "exec");
    if (status)
        return status;
    if (!ret_image)
        return RFN_FAIL(RFN_INVALID, "image_of_exec: ret_image is NULL");
    const struct owner o = { exec->object.device, exec->body, exec };
    return make("image_of_exec", &o, NULL, check, ret_image);
}

enum rfn_status rfn_image_of_native(struct rfn_device *device, void *native,
                                    struct rfn_image **ret_image)
{
    enum rfn_status status = rfn_object_check(device, RFN_OBJECT_DEVICE, "device");
    if (status)
        return status;
    if (!native || !ret_image)
        return RFN_FAIL(RFN_INVALID, "image_of_native: %s is NULL",
                        native ? "ret_image" : "native");
    if (!device->backend->native_image)
        return RFN_FAIL(RFN_UNSUPPORTED,
                        "image_of_native: graphs of the %s device have no native handle",
                        device->backend->name);
    const struct owner o = { device, NULL, NULL };
    return make("image_of_native", &o, native, NULL, ret_image);
}

enum rfn_status rfn_image_create(const struct rfn_image *from,
                                 struct rfn_image **ret_image)
{
    if (!from || !ret_image)
        return RFN_FAIL(RFN_INVALID, "image_create: %s is NULL",
                        from ? "ret_image" : "from");
    enum rfn_status status = rfn_image_check(from, 0);
    if (status)
        return status;
    struct kept *kept = calloc(1, sizeof *kept);
    if (!kept)
        return nomem("image_create");
    rfn_image_clone(&kept->store, from, &kept->image);
    if (!kept->store.failed)
    {
        *ret_image = &kept->image;
        return RFN_OK;
    }
    rfn_image_drop(&kept->store);
    free(kept);
    return nomem("image_create");
}

enum rfn_status rfn_image_destroy(struct rfn_image **image)
{
    if (!image)
        return RFN_FAIL(RFN_INVALID, "image_destroy: image is NULL");
    struct kept *kept = (struct kept *)*image;
    if (kept)
    {
        rfn_image_drop(&kept->store);
        free(kept);
    }
    *image = NULL;
    return RFN_OK;
}
