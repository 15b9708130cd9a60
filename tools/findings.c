#include "tools/findings.h"
#include "tools/text.h"
#include <refrain/refrain.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list ---------------------------------------------------------------------- */

static const char *keep(char **at, const char *text)
{
    char *copy = *at;
    size_t bytes = strlen(text) + 1;
    memcpy(copy, text, bytes);
    text_clean(copy);
    *at += bytes;
    return copy;
}

void findings_add(void *ctx, const struct rfn_finding *finding)
{
    struct findings *f = ctx;
    if (f->count == f->room)
    {
        int32_t room = f->room > 0 ? 2 * f->room : 16;
        struct found *grown = realloc(f->item, (size_t)room * sizeof(*grown));
        if (grown == NULL)
        {
            f->lost = 1;
            return;
        }
        f->item = grown;
        f->room = room;
    }
    struct rfn_finding x = *finding;
    char *at = malloc(strlen(x.file) + strlen(x.region) + strlen(x.api) + strlen(x.why) +
                      strlen(x.fix) + strlen(x.driver) + 6);
    if (at == NULL)
    {
        f->lost = 1;
        return;
    }
    struct found *item = &f->item[f->count++];
    *item = (struct found) { .image = f->image, .strings = at };
    x.file = keep(&at, x.file);
    x.region = keep(&at, x.region);
    x.api = keep(&at, x.api);
    x.why = keep(&at, x.why);
    x.fix = keep(&at, x.fix);
    x.driver = keep(&at, x.driver);
    item->finding = x;
}

void findings_take(struct findings *findings, struct rfn_check *check)
{
    struct rfn_finding finding;
    for (int32_t i = 0; rfn_check_finding(check, i, &finding) == RFN_OK; i++)
    {
        findings_add(findings, &finding);
    }
}

int32_t findings_accept(struct findings *findings, const struct baseline *baseline)
{
    int32_t fresh = 0;
    for (int32_t i = 0; i < findings->count; i++)
    {
        struct found *item = &findings->item[i];
        item->accepted = baseline_reason(baseline, &item->finding);
        fresh += item->accepted == NULL;
    }
    return fresh;
}

void findings_free(struct findings *findings)
{
    for (int32_t i = 0; i < findings->count; i++)
    {
        free(findings->item[i].strings);
    }
    free(findings->item);
    *findings = (struct findings) { 0 };
}

void findings_print(const char *indent, const struct rfn_finding *finding,
                    const struct baseline *baseline)
{
    const char *reason = baseline != NULL ? baseline_reason(baseline, finding) : NULL;
    char text[2048];
    size_t bytes = rfn_finding_text(finding, text, sizeof(text));
    int cut = bytes >= sizeof(text);
    if (!cut && bytes > 0) /* its newline */
    {
        text[bytes - 1] = '\0';
    }
    text_clean(text);
    printf("%s%s%s\n", indent, text, cut ? " ..." : "");
    if (reason != NULL)
    {
        snprintf(text, sizeof(text), "%s", reason);
        text_clean(text);
        printf("%s  accepted: %s\n", indent, text);
    }
}

#if RFN_JANSSON
#include <jansson.h>

static const char *severity_of(enum rfn_severity severity)
{
    static const char *const names[] = { "info", "warning", "error" };
    return names[severity];
}

static const char *level_of(enum rfn_severity severity)
{
    static const char *const names[] = { "note", "warning", "error" };
    return names[severity];
}

static const char *confidence_of(enum rfn_confidence confidence)
{
    return confidence == RFN_PROVED ? "proved" : "heuristic";
}

static const char *status_of(enum rfn_capture_status status)
{
    static const char *const names[] = { "over", "active", "invalidated" };
    return names[status];
}

/* Takes `value` over; 0 when it is in. */
static int put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value);
}

/* ---- JSON ------------------------------------------------------------------------- */

static json_t *finding_json(const struct found *found)
{
    const struct rfn_finding *f = &found->finding;
    char print[RFN_FINGERPRINT_BYTES];
    const struct rfn_rule_info *rule = rfn_rule_query(f->rule);
    baseline_fingerprint(f, print);
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:s, s:i, s:I, "
        "s:s, "
        "s:s, s:s, s:s?}",
        "rule", rule->id, "name", rule->name, "severity", severity_of(f->severity),
        "confidence", confidence_of(f->confidence), "fingerprint", print, "file", f->file,
        "line", (int)f->line, "region", f->region, "api", f->api, "stream",
        (json_int_t)f->stream, "thread", (json_int_t)f->thread, "capture",
        (json_int_t)f->capture_id, "capture_after", status_of(f->status_after), "code",
        (int)f->code, "count", (json_int_t)f->count, "why", f->why, "fix", f->fix,
        "driver", f->driver, "accepted", found->accepted);
    if (row != NULL && f->node > 0 && put(row, "node", json_integer(f->node - 1)) != 0)
    {
        json_decref(row);
        row = NULL;
    }
    return row;
}

json_t *findings_json(const struct findings *findings)
{
    json_t *list = json_array();
    int bad = list == NULL || findings->lost;
    for (int32_t i = 0; !bad && i < findings->count; i++)
    {
        bad = json_array_append_new(list, finding_json(&findings->item[i]));
    }
    if (bad)
    {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:o}", "tool", "refrain", "version", rfn_version(),
                     "findings", list);
}

/* ---- SARIF ------------------------------------------------------------------------ */

/* A rule's sentence as SARIF wants it: "The host waits ... ." */
static json_t *message(const char *text)
{
    char first = text[0] >= 'a' && text[0] <= 'z' ? (char)(text[0] - 'a' + 'A') : text[0];
    json_t *sentence = json_sprintf("%c%s.", first, text + 1);
    return sentence != NULL ? json_pack("{s:o}", "text", sentence) : NULL;
}

static json_t *sarif_rules(void)
{
    json_t *list = json_array();
    int bad = list == NULL;
    for (int i = 0; !bad && i < RFN_RULES; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        json_t *row = json_pack(
            "{s:s, s:s, s:o, s:o, s:{s:s}, s:{s:s}}", "id", rule->id, "name", rule->name,
            "shortDescription", message(rule->why), "help", message(rule->fix),
            "defaultConfiguration", "level", level_of(rule->severity), "properties",
            "confidence", confidence_of(rule->confidence));
        bad = json_array_append_new(list, row);
    }
    if (bad)
    {
        json_decref(list);
        list = NULL;
    }
    return list;
}

/* A path as a URI: what has a meaning there, or no place, as its number. */
static json_t *uri_of(const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~/!$&'()*+,;=@";
    char *uri = malloc(3 * strlen(path) + 1);
    char *at = uri;
    for (; uri != NULL && *path != '\0'; path++)
    {
        int kept = strchr(plain, *path) != NULL;
        at +=
            kept ? sprintf(at, "%c", *path) : sprintf(at, "%%%02X", (unsigned char)*path);
    }
    json_t *text = uri != NULL ? json_stringn(uri, (size_t)(at - uri)) : NULL;
    free(uri);
    return text;
}

/* Without a file the place is a node of a graph. */
static json_t *sarif_location(const struct rfn_finding *f)
{
    if (f->file[0] == '\0')
    {
        return f->node > 0
                   ? json_pack("{s:[{s:o}]}", "logicalLocations", "fullyQualifiedName",
                               json_sprintf("%s (node %d)", f->api, (int)f->node - 1))
                   : json_pack("{s:[{s:s}]}", "logicalLocations", "fullyQualifiedName",
                               f->region[0] != '\0' ? f->region : f->api);
    }
    json_t *place = json_pack("{s:{s:{s:o}}}", "physicalLocation", "artifactLocation",
                              "uri", uri_of(f->file));
    int bad = place == NULL;
    if (!bad && f->line > 0)
    {
        bad = put(json_object_get(place, "physicalLocation"), "region",
                  json_pack("{s:i}", "startLine", (int)f->line));
    }
    if (!bad && f->region[0] != '\0')
    {
        bad = put(place, "logicalLocations",
                  json_pack("[{s:s}]", "fullyQualifiedName", f->region));
    }
    if (bad)
    {
        json_decref(place);
        place = NULL;
    }
    return place;
}

static json_t *sarif_result(const struct found *found)
{
    const struct rfn_finding *f = &found->finding;
    char print[RFN_FINGERPRINT_BYTES];
    baseline_fingerprint(f, print);
    json_t *text = json_sprintf("%s. Fix: %s.", f->why, f->fix);
    json_t *row = json_pack(
        "{s:s, s:i, s:s, s:{s:o}, s:{s:s}, s:I, s:{s:s, s:s, s:I, s:I, s:i, s:s, s:s}}",
        "ruleId", rfn_rule_query(f->rule)->id, "ruleIndex", (int)f->rule, "level",
        level_of(f->severity), "message", "text", text, "partialFingerprints",
        "refrain/v1", print, "occurrenceCount", (json_int_t)f->count, "properties",
        "confidence", confidence_of(f->confidence), "api", f->api, "stream",
        (json_int_t)f->stream, "capture", (json_int_t)f->capture_id, "code", (int)f->code,
        "driver", f->driver, "fix", f->fix);
    int bad = row == NULL;
    if (!bad)
    {
        bad = put(row, "locations", json_pack("[o]", sarif_location(f)));
    }
    if (!bad && found->accepted != NULL)
    {
        bad = put(row, "suppressions",
                  json_pack("[{s:s, s:s}]", "kind", "external", "justification",
                            found->accepted));
    }
    if (bad)
    {
        json_decref(row);
        row = NULL;
    }
    return row;
}

json_t *findings_sarif(const struct findings *findings)
{
    json_t *list = json_array();
    int bad = list == NULL || findings->lost;
    for (int32_t i = 0; !bad && i < findings->count; i++)
    {
        bad = json_array_append_new(list, sarif_result(&findings->item[i]));
    }
    if (bad)
    {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:[{s:{s:{s:s, s:s, s:o}}, s:o}]}", "$schema",
                     "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
                     "sarif-schema-2.1.0.json",
                     "version", "2.1.0", "runs", "tool", "driver", "name", "refrain",
                     "version", rfn_version(), "rules", sarif_rules(), "results", list);
}

/* ---- baseline ---------------------------------------------------------------------- */

static int is_listed(json_t *accepted, const char *fingerprint)
{
    int listed = 0;
    for (size_t i = 0; i < json_array_size(accepted) && !listed; i++)
    {
        json_t *known = json_object_get(json_array_get(accepted, i), "fingerprint");
        listed = strcmp(json_string_value(known), fingerprint) == 0;
    }
    return listed;
}

json_t *findings_baseline(const struct findings *findings)
{
    json_t *accepted = json_array();
    int bad = accepted == NULL || findings->lost;
    for (int32_t i = 0; !bad && i < findings->count; i++)
    {
        char print[RFN_FINGERPRINT_BYTES];
        const char *reason = findings->item[i].accepted;
        baseline_fingerprint(&findings->item[i].finding, print);
        if (!is_listed(accepted, print))
        {
            json_t *entry = json_pack("{s:s, s:s}", "fingerprint", print, "reason",
                                      reason != NULL ? reason : "");
            bad = json_array_append_new(accepted, entry);
        }
    }
    if (bad)
    {
        json_decref(accepted);
        return NULL;
    }
    return json_pack("{s:i, s:o}", "refrain_baseline", BASELINE_VERSION, "accepted",
                     accepted);
}

#else

json_t *findings_json(const struct findings *findings)
{
    (void)findings;
    return NULL;
}

json_t *findings_sarif(const struct findings *findings)
{
    (void)findings;
    return NULL;
}

json_t *findings_baseline(const struct findings *findings)
{
    (void)findings;
    return NULL;
}

#endif
