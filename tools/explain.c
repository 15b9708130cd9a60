/* refrain explain CAP003: a rule in words; without a rule, all of them in a line each. */
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

static void explain(const struct rfn_rule_info *rule)
{
    printf("%s %s: %s, %s\n\n", rule->id, rule->name, severity_of(rule),
           confidence_of(rule));
    printf("  What   %s.\n", rule->why);
    printf("  Fix    %s.\n", rule->fix);
    printf(
        "  Proof  tests/capture/cap%s_bad.c does it and is told; cap%s_good.c does it\n"
        "         right and is not.\n",
        rule->id + 3, rule->id + 3);
}

static void list(void)
{
    for (int i = 0; i < RFN_RULES; i++)
    {
        const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)i);
        printf("%s  %-20s %-8s %-10s %s\n", rule->id, rule->name, severity_of(rule),
               confidence_of(rule), rule->why);
    }
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
        struct cli_nearest nearest;
        const struct rfn_rule_info *found = NULL;
        cli_nearest_init(&nearest, argv[i]);
        for (int r = 0; r < RFN_RULES && found == NULL; r++)
        {
            const struct rfn_rule_info *rule = rfn_rule_query((enum rfn_rule)r);
            found = strcasecmp(argv[i], rule->id) == 0 || strcmp(argv[i], rule->name) == 0
                        ? rule
                        : NULL;
            cli_nearest_try(&nearest, rule->id);
            cli_nearest_try(&nearest, rule->name);
        }
        if (found == NULL)
        {
            tool_error("no rule '%s'; the nearest is '%s'", argv[i], nearest.best);
            return TOOL_ARGUMENTS;
        }
        printf("%s", i > 1 ? "\n" : "");
        explain(found);
    }
    return TOOL_OK;
}
