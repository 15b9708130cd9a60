/* refrain explain CAP003: a rule in words; without a rule, all of them in a line each. */
#include "tools/catalogue.h"
#include "tools/cli.h"
#include "tools/tool.h"
#include <refrain/check.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *severity_of(const struct rfn_rule_info *rule)
{
    static const char *const names[] = { "info", "warning", "error" };
    return names[rule->severity];
}

static const char *confidence_of(const struct rfn_rule_info *rule)
{
    return rule->confidence == RFN_PROVED ? "proved" : "heuristic";
}

static enum rfn_rule rule_of(const struct rfn_rule_info *rule)
{
    return (enum rfn_rule)(rule - rfn_rule_query((enum rfn_rule)0));
}

static void explain(const struct rfn_rule_info *rule)
{
    printf("%s %s: %s, %s\n\n", rule->id, rule->name, severity_of(rule),
           confidence_of(rule));
    printf("  What   %s.\n", rule->why);
    printf("  Fix    %s.\n", rule->fix);
    const char *where = rule_devices_why(rule_of(rule));
    if (where != NULL)
    {
        printf("  Where  %s.\n", where);
    }
    printf(
        "  Proof  tests/capture/cap%s_bad.c does it and is told; cap%s_good.c does it\n"
        "         right and is not.\n",
        rule->id + 3, rule->id + 3);
}

static void explain_uncovered(const struct uncovered *rule)
{
    printf("%s %s: not covered\n\n", rule->id, rule->name);
    printf("  What   %s.\n", rule->what);
    printf("  Why    it is not covered: %s.\n", rule->reason);
}

/* TOOL_OK, or an exit status after an error line that has the nearest name. */
static int find(const char *word, const struct rfn_rule_info **ret_rule,
                const struct uncovered **ret_uncovered)
{
    struct cli_nearest nearest;
    cli_nearest_init(&nearest, word);
    *ret_rule = NULL;
    *ret_uncovered = NULL;
    for (int i = 0; i < RFN_RULES + UNCOVERED; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        const struct uncovered *other = rule != NULL ? NULL : &uncovered[i - RFN_RULES];
        const char *id = rule != NULL ? rule->id : other->id;
        const char *name = rule != NULL ? rule->name : other->name;
        if (strcasecmp(word, id) == 0 || strcmp(word, name) == 0)
        {
            *ret_rule = rule;
            *ret_uncovered = other;
            return TOOL_OK;
        }
        cli_nearest_try(&nearest, id);
        cli_nearest_try(&nearest, name);
    }
    tool_error("no rule '%s'; the nearest is '%s'", word, nearest.best);
    return TOOL_ARGUMENTS;
}

static void list(void)
{
    for (int i = 0; i < RFN_RULES; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        printf("%s  %-20s %-8s %-10s %s\n", rule->id, rule->name, severity_of(rule),
               confidence_of(rule), rule->why);
    }
    for (int i = 0; i < UNCOVERED; i++)
    {
        const struct uncovered *rule = &uncovered[i];
        printf("%s  %-20s %-8s %-10s %s\n", rule->id, rule->name, "-", "-", rule->what);
    }
    printf("- : not covered; `refrain explain RULE` says why\n");
}

int explain_main(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
    {
        printf("usage: refrain explain [RULE...]\n\n"
               "A rule goes by its id or its name; without one all are listed.\n");
        return TOOL_OK;
    }
    if (argc == 1)
    {
        list();
    }
    for (int i = 1; i < argc; i++)
    {
        const struct rfn_rule_info *rule;
        const struct uncovered *other;
        int status = find(argv[i], &rule, &other);
        if (status != TOOL_OK)
        {
            return status;
        }
        printf("%s", i > 1 ? "\n" : "");
        if (rule != NULL)
        {
            explain(rule);
        }
        else
        {
            explain_uncovered(other);
        }
    }
    return TOOL_OK;
}
