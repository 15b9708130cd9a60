#define RFN_NO_SITES
#include "runtime/capture_rules.h"

static const struct rfn_rule table[RFN_CALLS][RFN_RELATIONS][RFN_EVENT_STATES] = {
#define RFN_RULE(call, relation, event, kind, code, invalidates, node, why)              \
    [RFN_CALL_##call][RFN_RELATION_##relation][RFN_EVENT_##event] = {                    \
        RFN_CLASS_##kind, code, RFN_HITS_##invalidates, RFN_NODE_##node, why             \
    },
#include "runtime/capture_rules.def"
#undef RFN_RULE
};

/* Whose row a relation without one of its own takes. */
static const enum rfn_relation like[RFN_RELATIONS] = {
    [RFN_RELATION_BESIDE] = RFN_RELATION_NONE,
    [RFN_RELATION_OTHER] = RFN_RELATION_OTHER,
    [RFN_RELATION_ORIGIN] = RFN_RELATION_ORIGIN,
    [RFN_RELATION_MEMBER] = RFN_RELATION_ORIGIN,
    [RFN_RELATION_INVALIDATED] = RFN_RELATION_INVALIDATED,
    [RFN_RELATION_LOST_MEMBER] = RFN_RELATION_INVALIDATED,
    [RFN_RELATION_LEGACY] = RFN_RELATION_LEGACY,
    [RFN_RELATION_LEGACY_BLOCKING] = RFN_RELATION_LEGACY_BLOCKING,
    [RFN_RELATION_LEGACY_FOREIGN] = RFN_RELATION_LEGACY_BLOCKING,
    [RFN_RELATION_FOREIGN] = RFN_RELATION_ORIGIN,
    [RFN_RELATION_UNJOINED] = RFN_RELATION_ORIGIN,
};

static const struct rfn_rule free_rule = { RFN_CLASS_FREE, 0, 0, RFN_NODE_EMPTY, "" };

static const struct rfn_rule *row(enum rfn_call call, enum rfn_relation relation,
                                  enum rfn_event_state event)
{
    const struct rfn_rule *exact = &table[call][relation][event];
    const struct rfn_rule *any = &table[call][relation][RFN_EVENT_ANY];
    if (exact->rule)
        return exact;
    return any->rule ? any : NULL;
}

const struct rfn_rule *rfn_host_rule(enum rfn_call call, enum rfn_relation relation,
                                     enum rfn_event_state event)
{
    const struct rfn_rule *r = row(call, relation, event);
    if (!r)
        r = row(call, like[relation], event);
    return r ? r : &free_rule;
}

int rfn_host_prohibits(enum rfn_capture_mode mode, int own,
                       enum rfn_capture_mode thread_mode)
{
    if (thread_mode == RFN_CAPTURE_RELAXED)
        return 0;
    if (own)
        return mode != RFN_CAPTURE_RELAXED;
    return thread_mode == RFN_CAPTURE_GLOBAL && mode == RFN_CAPTURE_GLOBAL;
}
