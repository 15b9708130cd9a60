/* refrain incidents: field incidents of serving frameworks, in their broken and right forms. */
#include "tools/cli.h"
#include "tools/incident.h"
#include "tools/tool.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct options
{
    const char *device;
    const char *only;
    uint64_t seed;
};

static const struct cli_option table[] = {
    { .name = "--device",
      .value = "host|cuda",
      .help = "where to run (host)",
      .kind = CLI_TEXT,
      .offset = offsetof(struct options, device) },
    { .name = "--only",
      .value = "NAME",
      .help = "one incident: I1",
      .kind = CLI_TEXT,
      .offset = offsetof(struct options, only) },
    { .name = "--seed",
      .value = "N",
      .help = "of contents and steps (1)",
      .kind = CLI_U64,
      .offset = offsetof(struct options, seed) },
};

struct tally
{
    int broken; /* forms that were run */
    int caught;
    int right;
    int hold;
};

static int run(const struct incident_form *form, int broken, enum rfn_device_kind kind,
               uint64_t seed, struct incident_result *ret_result)
{
    if (incident_run(form, broken, kind, seed, ret_result) == RFN_OK)
    {
        return TOOL_OK;
    }
    tool_error("incidents: %s", rfn_last_error());
    return TOOL_ENVIRONMENT;
}

static void explain(const char *which, const struct incident_result *result)
{
    for (int i = 0; i < INCIDENT_PLANTS && result->said[i][0] != '\0'; i++)
    {
        printf("       %s\n", result->said[i]);
    }
    if (!result->held)
    {
        printf("       the %s form FAILED: %s\n", which, result->wrong);
    }
}

static int run_pair(const struct incident_form *form, enum rfn_device_kind kind,
                    uint64_t seed, struct tally *tally)
{
    struct incident_result broken = { 0 };
    struct incident_result right = { 0 };
    char here[80] = "";
    int runs = 0;
    int status = TOOL_OK;
    if (form->host_only && kind == RFN_DEVICE_CUDA)
    {
        snprintf(here, sizeof(here), "- (host only)");
    }
    else
    {
        runs = 1;
        status = run(form, 1, kind, seed, &broken);
        snprintf(here, sizeof(here), "%s",
                 broken.found[0] != '\0' ? broken.found : "nothing");
    }
    if (status == TOOL_OK)
    {
        status = run(form, 0, kind, seed, &right);
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    if (tally->right == 0)
    {
        printf("%-4s %-19s %-39s %-21s %s\n", "", "upstream", "CUDA said",
               "broken form here", "right form");
    }
    printf("%-4s %-19s %-39s %-21s %s\n", form->name, form->upstream, form->cuda, here,
           right.held ? "holds" : "FAILED");
    printf("       %s\n", form->what);
    if (runs)
    {
        explain("broken", &broken);
    }
    if (!right.held)
    {
        explain("right", &right);
    }
    tally->broken += runs;
    tally->caught += runs && broken.held;
    tally->right++;
    tally->hold += right.held;
    return TOOL_OK;
}

static int run_all(const struct options *options, enum rfn_device_kind kind)
{
    const char *only = options->only;
    struct tally tally = { 0 };
    struct cli_nearest nearest;
    int status = TOOL_OK;
    cli_nearest_init(&nearest, only != NULL ? only : "");
    for (int i = 0; status == TOOL_OK && incident_at(i) != NULL; i++)
    {
        const struct incident_form *form = incident_at(i);
        cli_nearest_try(&nearest, form->name);
        if (only != NULL && strcasecmp(only, form->name) != 0)
        {
            continue;
        }
        status = run_pair(form, kind, options->seed, &tally);
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    if (tally.right == 0)
    {
        tool_error("incidents: no '%s'; the nearest is '%s'", only, nearest.best);
        return TOOL_ARGUMENTS;
    }
    printf("%d of %d broken forms caught, %d of %d right forms hold\n", tally.caught,
           tally.broken, tally.hold, tally.right);
    return tally.caught == tally.broken && tally.hold == tally.right ? TOOL_OK
                                                                     : TOOL_FINDINGS;
}

int incidents_main(int argc, char **argv)
{
    struct options options = { .device = "host", .seed = 1 };
    int status = cli_parse(table, sizeof(table) / sizeof(table[0]), argc, argv, &options);
    if (status == CLI_HELP)
    {
        printf("usage: refrain incidents [options]\n\n");
        cli_usage(table, sizeof(table) / sizeof(table[0]));
        printf(
            "\nEach line is an incident of a serving framework. Its broken form has to "
            "be\n"
            "caught by a finding or an error; its right form runs captured, is replayed "
            "and\n"
            "equals an eager run. What CUDA said was recorded on a GPU, or is what the\n"
            "report of the incident says.\n"
            "exit status 3: a broken form was not caught, or a right one failed\n");
        return TOOL_OK;
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    if (strcmp(options.device, "host") == 0)
    {
        return run_all(&options, RFN_DEVICE_HOST);
    }
    if (strcmp(options.device, "cuda") == 0)
    {
        return run_all(&options, RFN_DEVICE_CUDA);
    }
    tool_error("incidents: --device %s, but host or cuda is due", options.device);
    return TOOL_ARGUMENTS;
}
