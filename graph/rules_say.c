/* Sentences of findings. */
#define RFN_NO_SITES
#include "graph/rule.h"

#include <stdarg.h>
#include <stdio.h>

void rfn_say(struct rfn_sentence *s, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(s->text + s->used, s->bytes - s->used, format, list);
    va_end(list);
    if (n > 0)
        s->used = (size_t)n < s->bytes - s->used ? s->used + (size_t)n : s->bytes - 1;
}

void rfn_say_stream(struct rfn_sentence *s, enum rfn_stream_kind kind, uint64_t serial)
{
    if (kind == RFN_STREAM_LEGACY)
        rfn_say(s, "the legacy stream");
    else if (kind == RFN_STREAM_PER_THREAD)
        rfn_say(s, "the per-thread stream");
    else
        rfn_say(s, "stream %llu", (unsigned long long)serial);
}

void rfn_say_memory(struct rfn_sentence *s, enum rfn_memory_kind kind,
                    const void *address)
{
    static const char *const name[] = { "pageable", "pinned", "device" };
    rfn_say(s, "%s memory %p", name[kind], address);
}

void rfn_say_capture(struct rfn_sentence *s, const struct rfn_rules_capture *open)
{
    static const char *const mode[] = { "global", "thread-local", "relaxed" };
    rfn_say(s, open->id & RFN_RULES_DRY ? "dry run %llu" : "capture %llu",
            (unsigned long long)(open->id & ~RFN_RULES_DRY));
    if (open->name[0])
        rfn_say(s, " '%s'", open->name);
    if (open->foreign)
        rfn_say(s, " (of somebody else, first seen on ");
    else
        rfn_say(s, " (%s, origin ", mode[open->mode]);
    rfn_say_stream(s, open->kind, open->stream);
    rfn_say(s, ")");
}

void rfn_say_site(struct rfn_sentence *s, const struct rfn_site *site)
{
    if (site->file && site->file[0])
        rfn_say(s, " at %s:%d", site->file, site->line);
}

const char *rfn_say_was(const struct rfn_call_event *event)
{
    return event->dry ? "would be" : "was";
}

void rfn_say_outcome(struct rfn_sentence *s, const struct rfn_call_event *event,
                     enum rfn_capture_status status, const char *passed)
{
    if (!event->code)
        rfn_say(s, ": %s", passed);
    else
        rfn_say(s, ": it %s with %d%s",
                event->code < RFN_RULE_REFUSED || event->code > RFN_RULE_WRONG_THREAD
                    ? "failed"
                : event->dry ? "would be refused"
                             : "was refused",
                event->code,
                status == RFN_CAPTURE_INVALIDATED ? ", and the capture is invalidated"
                                                  : "");
}
