/* Copies, sets and memory calls. */
#define RFN_NO_SITES
#include "graph/rule.h"

#include <string.h>

#define SCALAR_BYTES 16 /* a copy of so few bytes carries a value, not data */

/* ---- memory calls ------------------------------------------------------------------ */

void rfn_rule_memory(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    static const char *const kind[] = { "pageable", "pinned", "device" };
    struct rfn_sentence s;
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    int frees = event->call == RFN_CALL_memory_free;
    if (!own)
        rfn_rule_foreign(rules, event);
    if (!own || (frees && !event->dst && !event->code) ||
        !rfn_rule_found(rules, RFN_CAP009, own, event, &s))
        return;
    rfn_say(&s, "%s of ", rfn_call_name(event->call));
    if (frees && !event->dst)
        rfn_say(&s, "NULL");
    else
        rfn_say(&s, "%lld bytes of %s memory", (long long)event->bytes,
                kind[event->dst_kind]);
    rfn_say(&s, " inside ");
    rfn_say_capture(&s, own);
    rfn_say_outcome(&s, event, rfn_rule_status(own, event),
                    "it was done now and no replay does it again");
}

/* ---- copies ------------------------------------------------------------------------ */

static void say_ends(struct rfn_sentence *s, const struct rfn_call_event *event)
{
    rfn_say(s, "%s of %lld bytes", rfn_call_name(event->call), (long long)event->bytes);
    if (event->call != RFN_CALL_set_sync)
    {
        rfn_say(s, " from ");
        rfn_say_memory(s, event->src_kind, event->src);
    }
    rfn_say(s, " to ");
    rfn_say_memory(s, event->dst_kind, event->dst);
}

static int is_scalar(const struct rfn_call_event *event)
{
    return event->bytes > 0 && event->bytes <= SCALAR_BYTES &&
           event->call != RFN_CALL_set_sync && event->src_kind == RFN_MEMORY_PAGEABLE &&
           event->dst_kind == RFN_MEMORY_DEVICE;
}

static void scalar(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                   const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    if (!rfn_rule_found(rules, RFN_CAP057, open, event, &s))
        return;
    say_ends(&s, event);
    rfn_say(&s, " inside ");
    rfn_say_capture(&s, open);
    rfn_say_outcome(&s, event, rfn_rule_status(open, event),
                    event->before.id == open->id
                        ? "a value of the host is a tensor, and every replay reads that "
                          "host address again"
                        : "a value of the host is a tensor that is copied now and never "
                          "at replay");
}

void rfn_rule_sync_copy(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    if (!own)
        rfn_rule_foreign(rules, event);
    if (!own || (!event->bytes && !event->code))
        return;
    if (is_scalar(event))
    {
        scalar(rules, own, event);
        return;
    }
    if (!rfn_rule_found(rules, RFN_CAP002, own, event, &s))
        return;
    say_ends(&s, event);
    rfn_say(&s, " inside ");
    rfn_say_capture(&s, own);
    rfn_say_outcome(&s, event, rfn_rule_status(own, event),
                    "it ran now and is not in the graph");
}

static void pageable(struct rfn_rules *rules, const struct rfn_rules_capture *on,
                     const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    int src = event->src_kind == RFN_MEMORY_PAGEABLE;
    int dst = event->dst_kind == RFN_MEMORY_PAGEABLE;
    enum rfn_rule rule = dst ? RFN_CAP024 : event->src_on_stack ? RFN_CAP023 : RFN_CAP003;
    if ((!src && !dst) || !rfn_rule_found(rules, rule, on, event, &s))
        return;
    rfn_say(&s, "copy_async of %lld bytes on ", (long long)event->bytes);
    rfn_say_stream(&s, event->stream_kind, event->stream_serial);
    rfn_say(&s, " in ");
    rfn_say_capture(&s, on);
    if (src && dst)
        rfn_say(&s,
                ": source %p and destination %p are pageable, every replay reads the one "
                "and writes the other again",
                event->src, event->dst);
    else if (event->src_on_stack)
        rfn_say(&s,
                ": its source %p lies on the stack of thread %llu, every replay reads "
                "what is there by then",
                event->src, (unsigned long long)event->thread);
    else
        rfn_say(&s, ": its %s %p is pageable, every replay %s that address again",
                src ? "source" : "destination", src ? event->src : event->dst,
                src ? "reads" : "writes");
}

/* ---- copies of caches -------------------------------------------------------------- */

static int holds(const void *address, int64_t bytes, const struct rfn_rules_pool *pool)
{
    uintptr_t before = (uintptr_t)pool->begin - (uintptr_t)address;
    return pool->bytes > 0 && before <= (uintptr_t)bytes &&
           (uintptr_t)pool->bytes <= (uintptr_t)bytes - before;
}

static void cache_copy(struct rfn_rules *rules, const struct rfn_rules_capture *on,
                       enum rfn_capture_status status, const struct rfn_rules_copy *copy,
                       const struct rfn_rules_pool *pool)
{
    struct rfn_sentence s;
    if (!rfn_rule_report(rules, RFN_CAP056, on->id, status, &copy->at, "", &s))
        return;
    rfn_say(&s, "copy_async of %lld bytes on ", (long long)copy->bytes);
    rfn_say_stream(&s, copy->at.kind, copy->at.stream);
    rfn_say(&s, " in ");
    rfn_say_capture(&s, on);
    rfn_say(&s,
            ": its %s holds all of a pool (%lld bytes at %p, '%s' of %s), and every "
            "replay copies it again",
            holds(copy->src, copy->bytes, pool) ? "source" : "destination",
            (long long)pool->bytes, (const void *)pool->begin, pool->operand, pool->op);
}

static const struct rfn_rules_pool *pool_in(const struct rfn_rules *rules,
                                            const struct rfn_rules_copy *copy)
{
    for (uint64_t i = 0; i < RFN_RULES_POOLS && i < rules->pools; i++)
        if (holds(copy->src, copy->bytes, &rules->pool[i]) ||
            holds(copy->dst, copy->bytes, &rules->pool[i]))
            return &rules->pool[i];
    return NULL;
}

static struct rfn_rules_copy copy_of(const struct rfn_call_event *event)
{
    return (struct rfn_rules_copy) {
        .at = rfn_rule_where(event),
        .capture_id = event->before.id,
        .dst = event->dst,
        .src = event->src,
        .bytes = event->bytes,
        .node = event->before.status == RFN_CAPTURE_ACTIVE,
    };
}

int rfn_rule_async_copy(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    const struct rfn_rules_capture *own = rfn_rule_own(rules, event);
    if (event->before.status == RFN_CAPTURE_NONE)
    {
        if (own && is_scalar(event))
            scalar(rules, own, event);
        return own && is_scalar(event);
    }
    /* Whoever calls: it is the stream's capture that gets the node. */
    const struct rfn_rules_capture *on = rfn_rule_capture(rules, event->before.id);
    if (event->before.status != RFN_CAPTURE_ACTIVE || event->code || !on || !event->bytes)
        return 1;
    struct rfn_rules_copy copy = copy_of(event);
    const struct rfn_rules_pool *pool = pool_in(rules, &copy);
    if (is_scalar(event))
        scalar(rules, on, event);
    else if (pool)
        cache_copy(rules, on, event->after.status, &copy, pool);
    else
        pageable(rules, on, event);
    return 1;
}

/* ---- what is remembered ------------------------------------------------------------ */

void rfn_rule_note_copy(struct rfn_rules *rules, const struct rfn_call_event *event,
                        int reported)
{
    int sets = event->call == RFN_CALL_set_async;
    if ((event->call != RFN_CALL_copy_async && !sets) || event->code || !event->bytes)
        return;
    struct rfn_rules_copy copy = copy_of(event);
    if (!copy.node && event->dst_kind != RFN_MEMORY_PINNED &&
        (sets || event->src_kind != RFN_MEMORY_PINNED))
        return;
    copy.reported = reported;
    uint64_t i = 0;
    while (i < rules->copies && i < RFN_RULES_COPIES &&
           !(rules->copy[i].at.site.line == copy.at.site.line &&
             !strcmp(rules->copy[i].at.site.file, copy.at.site.file) &&
             rules->copy[i].dst == copy.dst && rules->copy[i].src == copy.src))
        i++;
    if (i == rules->copies || i == RFN_RULES_COPIES)
        i = rules->copies++ % RFN_RULES_COPIES;
    rules->copy[i] = copy;
}

/* Pools in memory that is given back are pools no more. */
static void forget_pools(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    uintptr_t begin = (uintptr_t)event->dst;
    for (int32_t i = 0; i < RFN_RULES_POOLS; i++)
        if ((uintptr_t)rules->pool[i].begin - begin < (uintptr_t)event->bytes)
            rules->pool[i].bytes = 0;
}

void rfn_rule_note_pools(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    if ((event->call == RFN_CALL_memory_free || event->call == RFN_CALL_memory_release) &&
        !event->code)
        forget_pools(rules, event);
    if (event->call != RFN_CALL_op_launch || event->code || !event->op || !event->args)
        return;
    for (uint32_t o = 0; o < event->op->operands; o++)
    {
        void *begin = NULL;
        int64_t bytes = 0;
        if (event->op->operand[o].kind != RFN_OPERAND_POOL)
            continue;
        rfn_op_extent(event->op, o, event->args, &begin, &bytes);
        uint64_t i = 0;
        while (i < rules->pools && i < RFN_RULES_POOLS &&
               !(rules->pool[i].begin == begin && rules->pool[i].bytes == bytes))
            i++;
        if (bytes <= 0 || (i < rules->pools && i < RFN_RULES_POOLS))
            continue;
        struct rfn_rules_pool *pool = &rules->pool[rules->pools++ % RFN_RULES_POOLS];
        *pool = (struct rfn_rules_pool) { begin, bytes, event->op->name,
                                          event->op->operand[o].name };
        /* Copies that came before the launch that tells what they copied. */
        for (uint64_t c = 0; c < rules->copies && c < RFN_RULES_COPIES; c++)
        {
            struct rfn_rules_copy *copy = &rules->copy[c];
            const struct rfn_rules_capture *on =
                copy->node ? rfn_rule_capture(rules, copy->capture_id) : NULL;
            if (!on || copy->reported || !copy->src ||
                !(holds(copy->src, copy->bytes, pool) ||
                  holds(copy->dst, copy->bytes, pool)))
                continue;
            cache_copy(rules, on, on->status, copy, pool);
            copy->reported = 1;
        }
    }
}
