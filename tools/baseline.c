#include "tools/baseline.h"
#include "tools/cli.h"
#include "tools/text.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void baseline_fingerprint(const struct rfn_finding *finding,
                          char text[RFN_FINGERPRINT_BYTES])
{
    rfn_finding_fingerprint(finding, text, RFN_FINGERPRINT_BYTES);
    text_clean(text);
}

const char *baseline_reason(const struct baseline *baseline,
                            const struct rfn_finding *finding)
{
    char print[RFN_FINGERPRINT_BYTES];
    baseline_fingerprint(finding, print);
    for (int32_t i = 0; i < baseline->entries; i++)
    {
        if (strcmp(baseline->entry[i].fingerprint, print) == 0)
        {
            return baseline->entry[i].reason;
        }
    }
    return NULL;
}

void baseline_free(struct baseline *baseline)
{
    for (int32_t i = 0; i < baseline->entries; i++)
    {
        free(baseline->entry[i].fingerprint);
        free(baseline->entry[i].reason);
    }
    free(baseline->entry);
    *baseline = (struct baseline) { 0 };
}

#if RFN_JANSSON
#include <jansson.h>

static int is_known(const struct baseline *baseline, const char *fingerprint)
{
    int known = 0;
    for (int32_t i = 0; i < baseline->entries && !known; i++)
    {
        known = strcmp(baseline->entry[i].fingerprint, fingerprint) == 0;
    }
    return known;
}

/* An entry that begins with no rule would accept nothing, without a word. */
static int has_rule(const char *path, size_t i, const char *fingerprint)
{
    struct cli_nearest nearest;
    char id[24];
    snprintf(id, sizeof(id), "%.*s", (int)strcspn(fingerprint, ":"), fingerprint);
    cli_nearest_init(&nearest, id);
    for (int r = 0; r < RFN_RULES; r++)
    {
        const char *known = rfn_rule_query((enum rfn_rule)r)->id;
        if (strcmp(known, id) == 0)
        {
            return 1;
        }
        cli_nearest_try(&nearest, known);
    }
    tool_error("%s: entry %zu: no rule '%s'; the nearest is '%s'", path, i + 1, id,
               nearest.best);
    return 0;
}

static int add(const char *path, size_t i, json_t *from, struct baseline *ret)
{
    const char *fingerprint = NULL;
    const char *reason = NULL;
    json_error_t error;
    if (json_unpack_ex(from, &error, JSON_STRICT, "{s:s, s:s}", "fingerprint",
                       &fingerprint, "reason", &reason) != 0)
    {
        tool_error("%s: entry %zu: %s", path, i + 1, error.text);
        return TOOL_ARGUMENTS;
    }
    if (reason[strspn(reason, " \t\r\n")] == '\0')
    {
        tool_error("%s: entry %zu, %s: accepted without a reason", path, i + 1,
                   fingerprint);
        return TOOL_ARGUMENTS;
    }
    if (!has_rule(path, i, fingerprint))
    {
        return TOOL_ARGUMENTS;
    }
    if (is_known(ret, fingerprint))
    {
        tool_error("%s: entry %zu, %s: accepted twice", path, i + 1, fingerprint);
        return TOOL_ARGUMENTS;
    }
    struct baseline_entry *entry = &ret->entry[ret->entries];
    entry->fingerprint = strdup(fingerprint);
    entry->reason = strdup(reason);
    ret->entries++;
    if (entry->fingerprint == NULL || entry->reason == NULL)
    {
        tool_error("no memory for %s", path);
        return TOOL_ENVIRONMENT;
    }
    return TOOL_OK;
}

int baseline_read(const char *path, struct baseline *ret_baseline)
{
    json_error_t error;
    json_int_t version = 0;
    json_t *accepted = NULL;
    *ret_baseline = (struct baseline) { 0 };
    json_t *file = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (file == NULL)
    {
        int unread = json_error_code(&error) == json_error_cannot_open_file;
        if (unread)
        {
            tool_error("%s", error.text);
        }
        else
        {
            tool_error("%s:%d: %s", path, error.line, error.text);
        }
        return unread ? TOOL_ENVIRONMENT : TOOL_ARGUMENTS;
    }
    int status = TOOL_ARGUMENTS;
    if (json_unpack_ex(file, &error, 0, "{s:I, s:o}", "refrain_baseline", &version,
                       "accepted", &accepted) != 0)
    {
        tool_error("%s is no baseline: %s", path, error.text);
    }
    else if (version != BASELINE_VERSION)
    {
        tool_error("%s is a baseline of version %" JSON_INTEGER_FORMAT
                   ", this program reads version %d",
                   path, version, BASELINE_VERSION);
    }
    else if (!json_is_array(accepted))
    {
        tool_error("%s: 'accepted' is no list", path);
    }
    else
    {
        size_t count = json_array_size(accepted);
        ret_baseline->entry = calloc(count + 1, sizeof(*ret_baseline->entry));
        status = ret_baseline->entry != NULL ? TOOL_OK : TOOL_ENVIRONMENT;
        for (size_t i = 0; i < count && status == TOOL_OK; i++)
        {
            status = add(path, i, json_array_get(accepted, i), ret_baseline);
        }
    }
    json_decref(file);
    if (status != TOOL_OK)
    {
        baseline_free(ret_baseline);
    }
    return status;
}

#else

int baseline_read(const char *path, struct baseline *ret_baseline)
{
    *ret_baseline = (struct baseline) { 0 };
    tool_error("cannot read %s: this build has no jansson, which reads JSON", path);
    return TOOL_ENVIRONMENT;
}

#endif
