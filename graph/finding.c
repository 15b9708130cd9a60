#define RFN_NO_SITES
#include <refrain/check.h>
#include <stdio.h>

static const struct rfn_rule_info rule_info[] = {
#define RULE_ROW(id_, name_, severity_, confidence_, why_, fix_)                         \
    { #id_, #name_, RFN_##severity_, RFN_##confidence_, why_, fix_ },
    RFN_RULE_LIST(RULE_ROW)
#undef RULE_ROW
};

const struct rfn_rule_info *rfn_rule_query(enum rfn_rule rule)
{
    return (unsigned)rule < RFN_RULES ? &rule_info[rule] : NULL;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

size_t rfn_finding_text(const struct rfn_finding *finding, char *text, size_t bytes)
{
    static const char *const severity[] = { "info", "warning", "error" };
    static const char *const status[] = { "over", "active", "invalidated" };
    if (text && bytes)
        text[0] = '\0';
    const struct rfn_rule_info *rule = finding ? rfn_rule_query(finding->rule) : NULL;
    if (!rule)
        return 0;

    char site[32] = "", stream[40] = "", code[24] = "";
    if (finding->line > 0)
        snprintf(site, sizeof site, ":%d", finding->line);
    if (finding->stream)
        snprintf(stream, sizeof stream, " on stream %llu",
                 (unsigned long long)finding->stream);
    if (finding->code)
        snprintf(code, sizeof code, ", code %d", finding->code);
    const char *file = or_empty(finding->file);
    const char *driver = or_empty(finding->driver);
    const char *region = or_empty(finding->region);
    int n = snprintf(
        text, text ? bytes : 0,
        "%s%s: %s %s %s (%s): %s. Fix: %s. [%s%s%s%s by thread %llu, %lld time%s, "
        "%s %llu %s%s]%s%s\n",
        file[0] ? file : "(no site)", site,
        (unsigned)finding->severity < 3 ? severity[finding->severity] : "?", rule->id,
        rule->name, finding->confidence == RFN_PROVED ? "proved" : "heuristic",
        or_empty(finding->why), or_empty(finding->fix), region, region[0] ? ": " : "",
        or_empty(finding->api), stream, (unsigned long long)finding->thread,
        (long long)finding->count, finding->count == 1 ? "" : "s",
        finding->capture_id >> 63 ? "dry run" : "capture",
        (unsigned long long)(finding->capture_id & INT64_MAX),
        (unsigned)finding->status_after < 3 ? status[finding->status_after] : "?", code,
        driver[0] ? " The device said: " : "", driver);
    return n > 0 ? (size_t)n : 0;
}

size_t rfn_finding_fingerprint(const struct rfn_finding *finding, char *text,
                               size_t bytes)
{
    if (text && bytes)
        text[0] = '\0';
    const struct rfn_rule_info *rule = finding ? rfn_rule_query(finding->rule) : NULL;
    if (!rule)
        return 0;
    const char *region = or_empty(finding->region);
    int n = snprintf(text, text ? bytes : 0, "%s:%s:%s%s%s", rule->id,
                     or_empty(finding->file), or_empty(finding->api),
                     region[0] ? ":" : "", region);
    return n > 0 ? (size_t)n : 0;
}
