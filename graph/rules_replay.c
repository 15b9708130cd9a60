/* What the layers below decided and only tell of. */
#define RFN_NO_SITES
#include "graph/rule.h"

void rfn_rule_notice(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    struct rfn_rules_where where = rfn_rule_where(event);
    uint64_t id = event->graph_id ? event->graph_id : event->before.id;
    static const enum rfn_rule said[] = {
        [RFN_NOTICE_STALE] = RFN_CAP027, [RFN_NOTICE_BUDGET] = RFN_CAP046,
        [RFN_NOTICE_CHURN] = RFN_CAP047, [RFN_NOTICE_DIFFERS] = RFN_CAP031,
        [RFN_NOTICE_SLOW] = RFN_CAP051,  [RFN_NOTICE_UNSEEN] = RFN_CAP054,
    };
    if (event->notice >= RFN_NOTICE_EAGER)
    {
        rfn_rule_watch_ran(rules, event);
        return;
    }
    enum rfn_rule rule = said[event->notice];
    where.code = 0; /* no device was asked */
    if (rfn_rule_report(rules, rule, id, event->before.status, &where, "", &s))
        rfn_say(&s, "%s", event->why);
}
