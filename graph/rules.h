/*
 * The live rules: fed with every call of a device, they follow which captures are open, by
 * whom and on what stream, and keep what is wrong. Nothing here locks; check.c does.
 */
#ifndef RFN_GRAPH_RULES_H
#define RFN_GRAPH_RULES_H

#include "runtime/observe.h"

#include <refrain/check.h>

/* Findings are preallocated, so that a full heap loses none; past these one further finding
 * says how many were not kept. */
#define RFN_RULES_KEPT 1024

struct rfn_rules_finding
{
    struct rfn_finding finding;
    char why[512];
    char driver[512];
};

/* A capture between its begin and its end. */
struct rfn_rules_capture
{
    uint64_t id;
    uint64_t thread; /* that began it */
    uint64_t stream; /* serial of the origin */
    enum rfn_stream_kind kind;
    enum rfn_capture_mode mode;
    enum rfn_capture_status status; /* as far as it was seen */
    char name[64];
};

struct rfn_rules
{
    struct rfn_rules_finding *finding;
    int32_t findings;
    struct rfn_finding lost; /* count 0: nothing was lost */
    struct rfn_rules_capture *open;
    int32_t opens;
    int32_t open_room;
};

enum rfn_status rfn_rules_init(struct rfn_rules *rules);
void rfn_rules_release(struct rfn_rules *rules);

void rfn_rules_feed(struct rfn_rules *rules, const struct rfn_call_event *event);

int32_t rfn_rules_count(const struct rfn_rules *rules);

/* NULL past the last. */
const struct rfn_finding *rfn_rules_at(const struct rfn_rules *rules, int32_t i);

#endif
