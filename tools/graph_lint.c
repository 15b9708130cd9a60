/* refrain graph lint: saved graphs against the rules, and files of what was found. */
#include "tools/cli.h"
#include "tools/html.h"
#include "tools/snapshot.h"
#include "tools/tool.h"
#include <refrain/lint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum file
{
    AS_JSON = 0,
    AS_SARIF,
    AS_HTML,
    FILES
};

struct lint
{
    const char *path[FILES]; /* NULL: not written */
    const char *accepted;
    struct output output[FILES];
    struct baseline baseline;
    struct findings findings;
    struct rfn_image **image; /* of all files; the snapshots own them */
    int32_t images;
};

static const struct cli_option table[] = {
    { .name = "--json", .value = "FILE", .offset = offsetof(struct lint, path[AS_JSON]) },
    { .name = "--sarif",
      .value = "FILE",
      .offset = offsetof(struct lint, path[AS_SARIF]) },
    { .name = "--html", .value = "FILE", .offset = offsetof(struct lint, path[AS_HTML]) },
    { .name = "--baseline", .value = "FILE", .offset = offsetof(struct lint, accepted) },
};
#define OPTIONS (sizeof(table) / sizeof(table[0]))

static int open_files(struct lint *lint)
{
    int status = output_distinct(lint->path, FILES);
    if (status == TOOL_OK && lint->accepted != NULL)
    {
        status = baseline_read(lint->accepted, &lint->baseline);
    }
    for (int i = 0; i < FILES && status == TOOL_OK; i++)
    {
        if (lint->path[i] != NULL)
        {
            status = output_open(lint->path[i], i != AS_HTML, &lint->output[i]);
        }
    }
    return status;
}

static int write_files(struct lint *lint)
{
    int status = TOOL_OK;
    struct html_page page = { .title = "refrain graph lint",
                              .findings = &lint->findings,
                              .image = (const struct rfn_image *const *)lint->image,
                              .images = lint->images };
    struct output *html = &lint->output[AS_HTML];
    if (lint->output[AS_JSON].file != NULL)
    {
        status = output_json(&lint->output[AS_JSON], findings_json(&lint->findings));
    }
    if (status == TOOL_OK && lint->output[AS_SARIF].file != NULL)
    {
        status = output_json(&lint->output[AS_SARIF], findings_sarif(&lint->findings));
    }
    if (status == TOOL_OK && html->file != NULL)
    {
        html_write(html->file, &page);
        status = output_close(html, ferror(html->file));
    }
    return status;
}

static void report(void *ctx, const struct rfn_finding *finding)
{
    char text[2048];
    rfn_finding_text(finding, text, sizeof(text));
    printf("  %s", text);
    findings_add(ctx, finding);
}

static int judge(struct lint *lint, const char *path, const struct snapshot *snapshot)
{
    for (int32_t i = 0; i < snapshot->images; i++)
    {
        struct rfn_lint_info info;
        const struct rfn_image *image = snapshot->image[i];
        if (rfn_lint(image, NULL, NULL, NULL, &info) != RFN_OK)
        {
            tool_error("%s: %s", path, rfn_last_error());
            return TOOL_ENVIRONMENT;
        }
        printf(
            "%s: graph \"%s\": %d nodes (%d kernels, %d foreign, %d opaque), %d edges, "
            "%d roots, %d sinks, longest way %d, %d finding%s\n",
            path, image->name, info.nodes, info.kernels, info.foreign, info.opaque,
            info.edges, info.roots, info.sinks, info.critical_path, info.findings,
            info.findings == 1 ? "" : "s");
        if (info.unordered)
        {
            printf("  too many nodes to look for those without an order\n");
        }
        rfn_lint(image, NULL, report, &lint->findings, NULL);
    }
    return TOOL_OK;
}

static int lint_all(struct lint *lint, struct snapshot *snapshot, int argc, char **argv)
{
    int status = TOOL_OK;
    int32_t images = 0;
    for (int i = 0; i < argc && status == TOOL_OK; i++)
    {
        status = snapshot_load(argv[i], &snapshot[i]);
        images += status == TOOL_OK ? snapshot[i].images : 0;
    }
    if (status == TOOL_OK)
    {
        lint->image = calloc((size_t)images + 1, sizeof(struct rfn_image *));
        status = lint->image != NULL ? TOOL_OK : TOOL_ENVIRONMENT;
    }
    for (int i = 0; i < argc && status == TOOL_OK; i++)
    {
        for (int32_t k = 0; k < snapshot[i].images; k++)
        {
            lint->image[lint->images++] = snapshot[i].image[k];
        }
        status = judge(lint, argv[i], &snapshot[i]);
    }
    int32_t fresh = findings_accept(&lint->findings, &lint->baseline);
    if (status == TOOL_OK)
    {
        status = write_files(lint);
    }
    if (status == TOOL_OK && fresh < lint->findings.count)
    {
        printf("%d of the findings are accepted by %s\n", lint->findings.count - fresh,
               lint->accepted);
    }
    return status == TOOL_OK && fresh > 0 ? TOOL_FINDINGS : status;
}

int graph_lint(int argc, char **argv)
{
    struct lint lint = { .images = 0 };
    int words = 0;
    while (words < argc && argv[words][0] == '-' && argv[words][1] != '\0')
    {
        words += strchr(argv[words], '=') != NULL ? 1 : 2;
    }
    words = words < argc ? words : argc;
    /* cli_parse passes over the word in front, which is "lint". */
    int status = cli_parse(table, OPTIONS, words + 1, argv - 1, &lint);
    if (status == CLI_HELP)
    {
        char option[] = "--help";
        char *help[] = { NULL, option };
        return graph_main(2, help);
    }
    if (status == TOOL_OK && words == argc)
    {
        tool_error("graph lint: no file given");
        status = TOOL_ARGUMENTS;
    }
    if (status == TOOL_OK)
    {
        status = open_files(&lint);
    }
    struct snapshot *snapshot = calloc((size_t)(argc - words) + 1, sizeof(*snapshot));
    if (status == TOOL_OK)
    {
        status = snapshot != NULL ? lint_all(&lint, snapshot, argc - words, argv + words)
                                  : TOOL_ENVIRONMENT;
    }
    for (int i = 0; snapshot != NULL && i < argc - words; i++)
    {
        snapshot_release(&snapshot[i]);
    }
    free(snapshot);
    free(lint.image);
    for (int i = 0; i < FILES; i++)
    {
        output_drop(&lint.output[i]);
    }
    findings_free(&lint.findings);
    baseline_free(&lint.baseline);
    return status;
}
