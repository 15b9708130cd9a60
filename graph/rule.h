/* What the files of the rules share. A family's function is fed with the calls it speaks of;
 * what it reports is the call's finding. */
#ifndef RFN_GRAPH_RULE_H
#define RFN_GRAPH_RULE_H

#include "graph/rules.h"

/* CUDA's numbers for what a capture forbids. */
enum
{
    RFN_RULE_INVALID = 1, /* of an event whose capture is over or lost */
    RFN_RULE_NOT_READY = 600,
    RFN_RULE_REFUSED = 900,
    RFN_RULE_INVALIDATED = 901,
    RFN_RULE_MERGE = 902,
    RFN_RULE_UNJOINED = 904,
    RFN_RULE_ISOLATION = 905,
    RFN_RULE_IMPLICIT = 906,
    RFN_RULE_CAPTURED_EVENT = 907,
    RFN_RULE_WRONG_THREAD = 908,
};

/* ---- rules.c: what is open, what was found ----------------------------------------- */

struct rfn_sentence
{
    char *text;
    size_t bytes;
    size_t used;
};

struct rfn_rules_where rfn_rule_where(const struct rfn_call_event *event);

/* NULL for an id of 0 or of a capture that is not open. */
struct rfn_rules_capture *rfn_rule_capture(const struct rfn_rules *rules, uint64_t id);
/* The capture that the calling thread is in: the one of the call's own stream when the
 * thread began that, else the one that it began last; NULL for none. */
struct rfn_rules_capture *rfn_rule_own(const struct rfn_rules *rules,
                                       const struct rfn_call_event *event);
/* What the call left of a capture. */
enum rfn_capture_status rfn_rule_status(const struct rfn_rules_capture *open,
                                        const struct rfn_call_event *event);

/* Reports a rule at a place in a capture (0: none), which is `status` then. 1 when the
 * finding is new: its sentence is due in *ret. */
int rfn_rule_report(struct rfn_rules *rules, enum rfn_rule rule, uint64_t capture_id,
                    enum rfn_capture_status status, const struct rfn_rules_where *where,
                    const char *driver, struct rfn_sentence *ret);
/* The same outside captures where it is likely only: a warning. 0 where it was proved of the
 * site before. */
int rfn_rule_suspect(struct rfn_rules *rules, enum rfn_rule rule,
                     const struct rfn_rules_where *where, struct rfn_sentence *ret);
/* The same for a call in an open capture. */
int rfn_rule_found(struct rfn_rules *rules, enum rfn_rule rule,
                   const struct rfn_rules_capture *open,
                   const struct rfn_call_event *event, struct rfn_sentence *ret);

/* Counts findings that were not kept. */
void rfn_rule_lose(struct rfn_rules *rules, enum rfn_rule rule, const char *api,
                   int64_t count);

/* ---- rules_say.c: sentences -------------------------------------------------------- */

void rfn_say(struct rfn_sentence *s, const char *format, ...) RFN_PRINTF(2, 3);
void rfn_say_stream(struct rfn_sentence *s, enum rfn_stream_kind kind, uint64_t serial);
void rfn_say_memory(struct rfn_sentence *s, enum rfn_memory_kind kind,
                    const void *address);
void rfn_say_capture(struct rfn_sentence *s, const struct rfn_rules_capture *open);
/* " at step.c:10", nothing without a site */
void rfn_say_site(struct rfn_sentence *s, const struct rfn_site *site);
/* "was", in a dry run "would be" */
const char *rfn_say_was(const struct rfn_call_event *event);
/* How a call ended that has no place in a capture; `passed` when it did what was asked. */
void rfn_say_outcome(struct rfn_sentence *s, const struct rfn_call_event *event,
                     enum rfn_capture_status status, const char *passed);

/* ---- the families ------------------------------------------------------------------ */

/* rules_wait.c: 001, 011, and 010 for every call. 1: it was one of 010. */
void rfn_rule_wait(struct rfn_rules *rules, const struct rfn_call_event *event);
int rfn_rule_foreign(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_copy.c: 002, 003, 009, 023, 024, 056, 057 */
void rfn_rule_memory(struct rfn_rules *rules, const struct rfn_call_event *event);
void rfn_rule_sync_copy(struct rfn_rules *rules, const struct rfn_call_event *event);
/* 0: it is no node and no scalar, so it is work like any other. */
int rfn_rule_async_copy(struct rfn_rules *rules, const struct rfn_call_event *event);
/* Remembers a copy, which gave a finding or not, and what pools there are. */
void rfn_rule_note_copy(struct rfn_rules *rules, const struct rfn_call_event *event,
                        int reported);
void rfn_rule_note_pools(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_plan.c: 017 without a fault handler */
void rfn_rule_note_fetch(struct rfn_rules *rules, const struct rfn_call_event *event);
void rfn_rule_plan_end(struct rfn_rules *rules, const struct rfn_call_event *event);
void rfn_rule_plan_read(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_stream.c: 004, 012, 013, 015, 016 */
void rfn_rule_begin(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                    const struct rfn_call_event *event);
void rfn_rule_work(struct rfn_rules *rules, const struct rfn_call_event *event);
void rfn_rule_stream_wait(struct rfn_rules *rules, const struct rfn_call_event *event);
/* 012 by 906, else 010 */
void rfn_rule_any(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_fork.c: who knows of whose work, and events; 014 */
void rfn_rule_track(struct rfn_rules *rules, const struct rfn_call_event *event);
const struct rfn_rules_event *rfn_rule_event(const struct rfn_rules *rules,
                                             const struct rfn_event *event);
void rfn_rule_unjoined(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                       const struct rfn_call_event *event);

/* rules_replay.c: 027, 031, 046, 047, 051, 054, which those who decide them tell of */
void rfn_rule_notice(struct rfn_rules *rules, const struct rfn_call_event *event);
void rfn_rule_watch_ran(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_dry.c: what the call would be, were the dry run a capture; a call of none is itself.
 * 034 for what such a capture would be lost to. */
struct rfn_call_event rfn_rule_dry(struct rfn_rules *rules,
                                   const struct rfn_call_event *event);
int rfn_rule_dry_lost(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_state.c: 035, 053, 055 */
void rfn_rule_relaxed(struct rfn_rules *rules, const struct rfn_call_event *event);
void rfn_rule_watch_begin(const struct rfn_rules *rules, struct rfn_rules_capture *open);
void rfn_rule_watch_end(struct rfn_rules *rules, const struct rfn_rules_capture *open,
                        const struct rfn_call_event *event);
/* Which threads capture, on whatever device: what all checkers of the process share. */
void rfn_rule_device_begin(struct rfn_rules *rules, const struct rfn_rules_capture *open);
void rfn_rule_device_end(const struct rfn_rules *rules, uint64_t capture_id);
void rfn_rule_device_leave(const struct rfn_rules *rules);
void rfn_rule_device_work(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_order.c: 028, 029, 048; follows every call */
void rfn_rule_order(struct rfn_rules *rules, const struct rfn_call_event *event);

/* rules_end.c: 032, 033, 034, 045 */
void rfn_rule_end(struct rfn_rules *rules, struct rfn_rules_capture *open,
                  const struct rfn_call_event *event);
void rfn_rule_left(struct rfn_rules *rules, struct rfn_rules_capture *open,
                   const struct rfn_rules_where *where, const char *how);

#endif
