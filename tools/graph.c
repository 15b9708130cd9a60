/* refrain graph: what is in saved captures, what is wrong with them, how two differ. */
#include "tools/cli.h"
#include "tools/findings.h"
#include "tools/snapshot.h"
#include "tools/tool.h"
#include <inttypes.h>
#include <refrain/diff.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void usage(void)
{
    printf(
        "usage: refrain graph dump FILE...        every node with what it touches\n"
        "       refrain graph lint [options] FILE...    what is wrong, without running "
        "it\n"
        "       refrain graph diff FILE FILE      what differs between captures of a "
        "step\n"
        "       refrain graph diff --moved FILE FILE    the same with memory elsewhere\n"
        "\n"
        "       refrain graph snapshot FILE [options of decode]    makes such a file\n"
        "       refrain graph rules [--json] [--counts FILE]    every rule, its class "
        "and evidence\n"
        "\n"
        "Options of lint: --json FILE, --sarif FILE, --html FILE: its findings as "
        "files;\n"
        "--baseline FILE: findings that are accepted; --write-baseline FILE: makes one, "
        "its\nreasons to be filled in.\n"
        "exit status 3: lint found something, diff a difference\n");
}

/* ---- dump --------------------------------------------------------------------------- */

static void indent(int level)
{
    printf("%*s", 2 * level, "");
}

static void dump_pointer(const struct rfn_image_pointer *at)
{
    printf("%#" PRIx64, at->address);
    if (at->base != 0)
    {
        printf(" (%#" PRIx64 " + %" PRId64 ", generation %" PRIu64 "%s)", at->base,
               at->offset, at->generation, at->imported ? ", imported" : "");
    }
    else if (at->address != 0)
    {
        printf(" (%s)", snapshot_memory(at->kind));
    }
}

static void dump_value(const struct rfn_image_param *param)
{
    const char *value = param->value;
    int32_t word = param->bytes % 8 == 0 ? 8 : param->bytes % 4 == 0 ? 4 : 1;
    for (int32_t i = 0; i < param->bytes && i < 8 * word; i += word)
    {
        uint64_t number = 0;
        memcpy(&number, value + i, (size_t)word);
        printf("%s%" PRIu64, i == 0 ? "" : ", ", number);
        if (number > 1000000)
        {
            printf(" (%#" PRIx64 ")", number);
        }
    }
    printf("%s", param->bytes > 8 * word ? ", ..." : "");
}

static void dump_param(const struct rfn_image_param *param, int level)
{
    indent(level);
    printf("%-10s %-24s", snapshot_role(param->role), param->name);
    if (param->pointer.address != 0)
    {
        dump_pointer(&param->pointer);
    }
    else
    {
        dump_value(param);
    }
    printf("\n");
}

static void dump_image(const struct rfn_image *image, int level);

#define DUMP_LABEL 192

static void dump_node(const struct rfn_image *image, int32_t i, int level)
{
    const struct rfn_image_node *n = &image->node[i];
    indent(level);
    char label[DUMP_LABEL];
    printf("node %d: %s %s", i, rfn_image_type_name(n->type),
           rfn_image_label(n->name, label, sizeof(label)));
    if (n->grid[0] != 0)
    {
        printf(" <<<%ux%ux%u, %ux%ux%u, %u>>>", n->grid[0], n->grid[1], n->grid[2],
               n->block[0], n->block[1], n->block[2], n->shared_bytes);
    }
    printf("%s%s", n->foreign ? ", foreign" : "", n->opaque ? ", opaque: " : "");
    printf("%s", n->opaque ? n->why : "");
    if (n->file[0] != '\0')
    {
        printf(", %s:%d", n->file, n->line);
    }
    if (n->stream != 0)
    {
        printf(", stream %" PRIu64, n->stream);
    }
    printf("%s%s%s", n->region[0] != '\0' ? ", in " : "", n->region, ", after");
    int32_t before = 0;
    for (int32_t e = 0; e < image->edges; e++)
    {
        if (image->edge[e].to == i)
        {
            printf(" %d%s", image->edge[e].from, image->edge[e].programmatic ? "p" : "");
            before++;
        }
    }
    printf("%s\n", before == 0 ? " none" : "");
    for (int32_t k = 0; k < n->params; k++)
    {
        dump_param(&n->param[k], level + 1);
    }
    for (int32_t k = 0; k < n->accesses; k++)
    {
        const struct rfn_image_access *a = &n->access[k];
        indent(level + 1);
        printf("%ss %s: %" PRId64 " bytes%s at ", snapshot_access(a->access), a->name,
               a->bytes, a->pool ? " of a pool" : "");
        dump_pointer(&a->pointer);
        printf("\n");
    }
    if (n->child != NULL)
    {
        dump_image(n->child, level + 1);
    }
}

static void dump_image(const struct rfn_image *image, int level)
{
    indent(level);
    printf("graph \"%s\" of the %s device: %d nodes, %d edges\n", image->name,
           image->device, image->nodes, image->edges);
    for (int32_t i = 0; i < image->nodes; i++)
    {
        dump_node(image, i, level + 1);
    }
}

static int dump(const char *path, const struct snapshot *snapshot)
{
    for (int32_t i = 0; i < snapshot->images; i++)
    {
        printf("%s: ", path);
        dump_image(snapshot->image[i], 0);
    }
    return TOOL_OK;
}

/* ---- lint and diff ------------------------------------------------------------------- */

static void print_finding(void *ctx, const struct rfn_finding *finding)
{
    findings_print(ctx, finding, NULL);
}

static int failed(const char *path)
{
    tool_error("%s: %s", path, rfn_last_error());
    return TOOL_ENVIRONMENT;
}

static int diff(const char *path, const char *other, const struct snapshot *a,
                const struct snapshot *b, int moved)
{
    int status = TOOL_OK;
    if (a->images != b->images)
    {
        tool_error("%s holds %d graphs, %s holds %d", path, a->images, other, b->images);
        return TOOL_ARGUMENTS;
    }
    for (int32_t i = 0; i < a->images; i++)
    {
        struct rfn_diff_info info;
        char indented[] = "  ";
        if (rfn_image_diff(a->image[i], b->image[i], moved, NULL, NULL, &info) != RFN_OK)
        {
            return failed(path);
        }
        printf("graph \"%s\": %d nodes, %d values compared, %d differ as declared, %d "
               "addresses moved, %d finding%s\n",
               a->image[i]->name, info.nodes, info.compared, info.dynamic, info.moved,
               info.findings, info.findings == 1 ? "" : "s");
        rfn_image_diff(a->image[i], b->image[i], moved, print_finding, indented, NULL);
        status = info.findings != 0 ? TOOL_FINDINGS : status;
    }
    return status;
}

/* ---- files -------------------------------------------------------------------------- */

static int each(int (*act)(const char *path, const struct snapshot *snapshot), int argc,
                char **argv)
{
    int worst = TOOL_OK;
    if (argc < 1 || cli_front(NULL, 0, argc, argv) > 0)
    {
        tool_error(argc < 1 ? "graph dump: no file given" : "graph dump: no option %s",
                   argc < 1 ? "" : argv[0]);
        return TOOL_ARGUMENTS;
    }
    for (int i = 0; i < argc; i++)
    {
        struct snapshot snapshot;
        int status = snapshot_load(argv[i], &snapshot);
        if (status != TOOL_OK)
        {
            return status;
        }
        status = act(argv[i], &snapshot);
        snapshot_release(&snapshot);
        if (status != TOOL_OK && status != TOOL_FINDINGS)
        {
            return status;
        }
        worst = status != TOOL_OK ? status : worst;
    }
    return worst;
}

static int two(int argc, char **argv)
{
    static const struct cli_option option = { .name = "--moved", .kind = CLI_FLAG };
    struct snapshot a, b;
    int64_t moved = 0;
    int words = cli_front(&option, 1, argc, argv);
    int status = cli_parse(&option, 1, words + 1, argv - 1, &moved);
    if (status == TOOL_OK && argc != words + 2)
    {
        tool_error("graph diff takes two files, not %d", argc - words);
        status = TOOL_ARGUMENTS;
    }
    if (status == TOOL_OK)
    {
        status = snapshot_load(argv[words], &a);
    }
    if (status != TOOL_OK)
    {
        return status;
    }
    status = snapshot_load(argv[words + 1], &b);
    if (status == TOOL_OK)
    {
        status = diff(argv[words], argv[words + 1], &a, &b, moved != 0);
        snapshot_release(&b);
    }
    snapshot_release(&a);
    return status;
}

/* decode, with a file for the graphs. */
static int snapshot(int argc, char **argv)
{
    static char name[] = "decode", option[] = "--snapshot";
    char **args = calloc((size_t)argc + 3, sizeof(*args));
    int is_file = argc > 0 && (argv[0][0] != '-' || cli_is_help(argc, argv));
    if (!is_file || args == NULL)
    {
        tool_error(argc < 1   ? "graph snapshot: no file given"
                   : !is_file ? "graph snapshot: the file comes first, then options"
                              : "no memory");
        free(args);
        return is_file ? TOOL_ENVIRONMENT : TOOL_ARGUMENTS;
    }
    args[0] = name;
    args[1] = option;
    memcpy(&args[2], argv, (size_t)argc * sizeof(*args));
    int status = decode_main(argc + 2, args);
    free(args);
    return status;
}

static int dump_all(int argc, char **argv)
{
    return each(dump, argc, argv);
}

int graph_main(int argc, char **argv)
{
    static const struct
    {
        const char *name;
        int (*act)(int argc, char **argv);
        int own_help;
    } acts[] = { { "dump", dump_all, 0 },
                 { "lint", graph_lint, 0 },
                 { "diff", two, 0 },
                 { "snapshot", snapshot, 1 },
                 { "rules", graph_rules, 1 } };
    struct cli_nearest nearest;
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0)
    {
        usage();
        return TOOL_OK;
    }
    if (argc < 2)
    {
        tool_error("graph: dump, lint, diff, snapshot or rules?");
        return TOOL_ARGUMENTS;
    }
    cli_nearest_init(&nearest, what);
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
    {
        if (strcmp(what, acts[i].name) == 0)
        {
            if (acts[i].own_help == 0 && cli_is_help(argc - 2, argv + 2))
            {
                usage();
                return TOOL_OK;
            }
            return acts[i].act(argc - 2, argv + 2);
        }
        cli_nearest_try(&nearest, acts[i].name);
    }
    tool_error("graph: no '%s'; the nearest is '%s'", what, nearest.best);
    return TOOL_ARGUMENTS;
}
