#define RFN_NO_SITES
#include "graph/ledger.h"

#include <stdlib.h>
#include <string.h>

static void release(struct rfn_ledger_capture *capture)
{
    for (int32_t i = 0; i < capture->items; i++)
    {
        free(capture->item[i].access);
        free(capture->item[i].region);
    }
    free(capture->item);
}

void rfn_ledger_release(struct rfn_ledger *ledger)
{
    for (int32_t i = 0; i < ledger->captures; i++)
        release(&ledger->capture[i]);
    free(ledger->capture);
    *ledger = (struct rfn_ledger) { 0 };
}

void rfn_ledger_drop(struct rfn_ledger *ledger, int32_t i)
{
    size_t behind = (size_t)(ledger->captures - (i + 1));
    release(&ledger->capture[i]);
    memmove(&ledger->capture[i], &ledger->capture[i + 1],
            behind * sizeof *ledger->capture);
    ledger->captures--;
}

int rfn_ledger_wants(const struct rfn_call_event *event)
{
    if (event->code || event->before.status != RFN_CAPTURE_ACTIVE)
        return 0;
    return event->call == RFN_CALL_op_launch || event->call == RFN_CALL_copy_async ||
           event->call == RFN_CALL_set_async || event->call == RFN_CALL_host_call ||
           event->call == RFN_CALL_capture_add_child;
}

static struct rfn_ledger_access access_of(struct rfn_device *device, const char *operand,
                                          const void *address, int64_t bytes,
                                          enum rfn_access access)
{
    struct rfn_ledger_access ret = {
        .operand = operand,
        .address = address,
        .bytes = bytes,
        .access = access,
        .kind = RFN_MEMORY_PAGEABLE,
    };
    struct rfn_memory_info info;
    if (rfn_memory_query(device, address, &info) == RFN_OK)
    {
        ret.kind = info.kind;
        ret.generation = info.generation;
    }
    return ret;
}

void rfn_ledger_describe(struct rfn_device *device, const struct rfn_call_event *event,
                         struct rfn_ledger_item *item)
{
    *item = (struct rfn_ledger_item) {
        .entry = {
            .what = rfn_call_name(event->call),
            .file = event->site.file ? event->site.file : "",
            .line = event->site.line,
            .region = event->region ? event->region : "", /* until it is added */
            .stream = event->stream_serial,
            .thread = event->thread,
        },
    };
    const struct rfn_op *op = event->call == RFN_CALL_op_launch ? event->op : NULL;
    if (op)
        item->entry.what = op->name;
    item->entry.launch = op != NULL;
    size_t most = op ? op->operands : 2;
    struct rfn_ledger_access *access = calloc(most ? most : 1, sizeof *access);
    if (!access)
    {
        item->entry.accesses = -1;
        return;
    }

    int32_t n = 0;
    for (uint32_t i = 0; op && i < op->operands; i++)
    {
        void *begin = NULL;
        int64_t bytes = 0;
        rfn_op_extent(op, i, event->args, &begin, &bytes);
        if (bytes > 0)
            access[n++] = access_of(device, op->operand[i].name, begin, bytes,
                                    op->operand[i].access);
    }
    if (event->bytes > 0 &&
        (event->call == RFN_CALL_copy_async || event->call == RFN_CALL_set_async))
        access[n++] = access_of(device, "dst", event->dst, event->bytes, RFN_WRITE);
    if (event->bytes > 0 && event->call == RFN_CALL_copy_async)
        access[n++] = access_of(device, "src", event->src, event->bytes, RFN_READ);
    item->access = access;
    item->entry.accesses = n;
}

static struct rfn_ledger_capture *find(const struct rfn_ledger *ledger, uint64_t id)
{
    for (int32_t i = ledger->captures - 1; id && i >= 0; i--)
        if (ledger->capture[i].id == id)
            return &ledger->capture[i];
    return NULL;
}

const struct rfn_ledger_capture *rfn_ledger_find(const struct rfn_ledger *ledger,
                                                 uint64_t capture_id)
{
    const struct rfn_ledger_capture *capture = find(ledger, capture_id);
    return capture && !capture->incomplete ? capture : NULL;
}

/* Makes room for one more of `bytes` each; 0 when there is no memory. */
static int grow(void **array, int32_t used, int32_t *room, size_t bytes)
{
    if (used < *room)
        return 1;
    if (*room > INT32_MAX / 2)
        return 0;
    int32_t more = *room ? *room * 2 : 16;
    void *grown = realloc(*array, (size_t)more * bytes);
    if (!grown)
        return 0;
    *array = grown;
    *room = more;
    return 1;
}

void rfn_ledger_open(struct rfn_ledger *ledger, uint64_t capture_id)
{
    void *array = ledger->capture;
    if (find(ledger, capture_id)) /* of somebody else, lost sight of and seen again */
        return;
    if (!grow(&array, ledger->captures, &ledger->capture_room, sizeof *ledger->capture))
        return;
    ledger->capture = array;
    ledger->capture[ledger->captures++] =
        (struct rfn_ledger_capture) { .id = capture_id };
}

void rfn_ledger_add(struct rfn_ledger *ledger, uint64_t capture_id,
                    struct rfn_ledger_item *item)
{
    struct rfn_ledger_capture *capture = find(ledger, capture_id);
    if (!capture || item->entry.accesses < 0)
        goto drop;
    void *array = capture->item;
    if (!grow(&array, capture->items, &capture->item_room, sizeof *capture->item))
        goto drop;
    capture->item = array;
    /* Most calls come from the region of the one before. */
    const char *before =
        capture->items ? capture->item[capture->items - 1].entry.region : "";
    if (strcmp(item->entry.region, before) != 0)
    {
        item->region = strdup(item->entry.region);
        before = item->region ? item->region : "";
    }
    item->entry.region = before;
    capture->item[capture->items++] = *item;
    return;
drop:
    if (capture)
        capture->incomplete = 1;
    free(item->access);
}
