/*
 * The rules of stream capture as data: one row of capture_rules.def a situation. The host
 * device obeys them, the validator explains them, a recording of the driver is compared
 * with them; who disagrees with the driver is corrected there, not in code.
 */
#ifndef RFN_RUNTIME_CAPTURE_RULES_H
#define RFN_RUNTIME_CAPTURE_RULES_H

#include "runtime/backend.h"
#include "runtime/observe.h"

/* What the stream that a call uses is to the captures that are open. A relation without a
 * row takes the row of the one in brackets. */
enum rfn_relation
{
    RFN_RELATION_NONE = 0,        /* the call has no stream, its device no open capture */
    RFN_RELATION_BESIDE,          /* no stream, a capture is open on the device (NONE) */
    RFN_RELATION_OTHER,           /* the stream does not capture */
    RFN_RELATION_ORIGIN,          /* the capture began on it */
    RFN_RELATION_MEMBER,          /* a wait drew it into the capture (ORIGIN) */
    RFN_RELATION_INVALIDATED,     /* its capture was invalidated */
    RFN_RELATION_LOST_MEMBER,     /* so it was, and began elsewhere (INVALIDATED) */
    RFN_RELATION_LEGACY,          /* legacy stream, no blocking stream captures */
    RFN_RELATION_LEGACY_BLOCKING, /* legacy stream beside a blocking capture of the thread */
    RFN_RELATION_LEGACY_FOREIGN, /* beside one of another thread (LEGACY_BLOCKING) */
    RFN_RELATION_FOREIGN,        /* capture_end: another thread began it, not relaxed */
    RFN_RELATION_UNJOINED,       /* capture_end: a fork did not come back */
    RFN_RELATIONS
};

/* What the event of a call is. EVENT_ANY stands in rows of calls without one, and for all
 * states that have no row of their own. */
enum rfn_event_state
{
    RFN_EVENT_ANY = 0,
    RFN_EVENT_NEVER,   /* never recorded */
    RFN_EVENT_OUTSIDE, /* its last record was work of a stream */
    RFN_EVENT_SAME,    /* captured by the stream's own capture */
    RFN_EVENT_CAPTURED, /* captured by an open capture (another one, if the stream has one) */
    RFN_EVENT_LOST,     /* captured by a capture that was invalidated */
    RFN_EVENT_ENDED, /* captured by a capture that is over */
    RFN_EVENT_NODE,  /* whatever it is: the call has the external flag */
    RFN_EVENT_STATES
};

enum rfn_rule_class
{
    RFN_CLASS_NONE = 0,   /* no such row */
    RFN_CLASS_NODE,       /* becomes a node */
    RFN_CLASS_FREE,       /* done now, as if there were no capture */
    RFN_CLASS_PROHIBITED, /* `code` where the thread-mode predicate says so, else FREE */
    RFN_CLASS_CONFLICTS,  /* `code` always */
    RFN_CLASS_UNSUPPORTED /* `code` always: the operation has no form in a graph */
};

/* Which captures a failing call takes with it. */
enum rfn_invalidates
{
    RFN_HITS_NONE = 0,
    RFN_HITS_STREAM = 1,    /* the stream's */
    RFN_HITS_EVENT = 2,     /* the event's */
    RFN_HITS_PREDICATE = 4, /* those that prohibit the call */
    RFN_HITS_BLOCKING = 8,  /* those with a blocking stream */
    RFN_HITS_DEVICE = 16,   /* all of the device */
    RFN_HITS_END = 32,      /* the capture is over, without a graph */
    RFN_HITS_STREAM_EVENT = 3,
};

struct rfn_rule
{
    enum rfn_rule_class rule;
    int code;
    uint32_t invalidates; /* enum rfn_invalidates */
    enum rfn_node_type node;
    const char *why;
};

/* The row that decides; a call that no row speaks of is FREE. */
const struct rfn_rule *rfn_host_rule(enum rfn_call call, enum rfn_relation relation,
                                     enum rfn_event_state event);

/* The thread-mode predicate: does a capture of `mode`, begun by this thread (own) or by
 * another one, forbid potentially unsafe calls to a thread in `thread_mode`? */
int rfn_host_prohibits(enum rfn_capture_mode mode, int own,
                       enum rfn_capture_mode thread_mode);

#endif
