/* What the layers below decided and only tell of. */
#define RFN_NO_SITES
#include "graph/rule.h"

void rfn_rule_notice(struct rfn_rules *rules, const struct rfn_call_event *event)
{
    struct rfn_sentence s;
    struct rfn_rules_where where = rfn_rule_where(event);
    uint64_t id = event->graph_id ? event->graph_id : event->before.id;
    enum rfn_rule rule = RFN_CAP027;
    where.code = 0; /* no device was asked */
    if (rfn_rule_report(rules, rule, id, event->before.status, &where, "", &s))
        rfn_say(&s, "%s", event->why);
}
