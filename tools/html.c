#include "tools/html.h"
#include "tools/text.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The picture: streams side by side, time downwards, in pixels. */
#define LANE 250
#define BOX 220
#define ROW 26
#define HEIGHT 18
#define TOP 30
#define LEFT 60
#define LANES_MAX 64
#define NOTE_BYTES 76
#define NAME_BYTES 29 /* of a node's box, where a rule has room too */
#define NOTES 520     /* regions and places, to the right of all streams */

static const char style[] =
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1200px;"
    "padding:0 1em;color:#1c2733;background:#fff}"
    "h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.35em .8em .35em 0;"
    "border-bottom:1px solid #d8dee6}"
    "code{font-family:ui-monospace,monospace;font-size:.93em}"
    ".error{color:#b3261e;font-weight:600}.warning{color:#8a5a00;font-weight:600}"
    ".info{color:#35618e}.accepted{opacity:.6}.fix{color:#3b4b5c}"
    ".picture{overflow-x:auto;border:1px solid #d8dee6;border-radius:6px}"
    "svg text{font:11px ui-monospace,monospace;fill:#1c2733}"
    "svg .lane{fill:#5b6b7c}svg .edge{stroke:#8fa0b2;fill:none}"
    "svg .early{stroke-dasharray:4 3}"
    "svg rect{stroke:#8fa0b2;fill:#eef3f8;rx:3}"
    "svg .kernel{fill:#e3eefb}svg .memcpy,svg .memset{fill:#fdf1d8}"
    "svg .host,svg .mem.alloc,svg .mem.free{fill:#f6e0ee}svg .child{fill:#e4f4e6}"
    "svg .bad rect{stroke:#b3261e;stroke-width:2;fill:#fde3e1}"
    "svg .bad .rule{fill:#b3261e;font-weight:700}";

static void put_text(FILE *file, const char *text)
{
    for (; *text != '\0'; text++)
    {
        switch (*text)
        {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            if ((unsigned char)*text >= ' ')
            {
                fputc(*text, file);
            }
        }
    }
}

int html_is_of(const struct found *found, const struct html_page *page, int32_t at,
               int32_t i)
{
    const struct rfn_finding *f = &found->finding;
    const struct rfn_image *image = page->image[at];
    const struct rfn_image_node *node = &image->node[i];
    int here = found->image > 0 ? found->image == at + 1
                                : f->capture_id > 0 && f->capture_id == image->capture_id;
    return here && (f->node == i + 1 || (f->line > 0 && f->line == node->line &&
                                         strcmp(f->file, node->file) == 0));
}

/* ---- findings ---------------------------------------------------------------------- */

/* The first node that it speaks of. */
static void put_way(FILE *file, const struct html_page *page, const struct found *f)
{
    for (int32_t at = 0; at < page->images; at++)
    {
        for (int32_t i = 0; i < page->image[at]->nodes; i++)
        {
            if (html_is_of(f, page, at, i))
            {
                fprintf(file, "<br><a href=\"#n%d-%d\">node %d</a> of ", at, i, i);
                put_text(file, page->image[at]->name);
                return;
            }
        }
    }
    fputs(page->images > 0 ? "<br>no node of a graph" : "", file);
}

static void put_finding(FILE *file, const struct html_page *page, int32_t i)
{
    static const char *const severity[] = { "info", "warning", "error" };
    const struct found *f = &page->findings->item[i];
    const struct rfn_finding *x = &f->finding;
    const struct rfn_rule_info *rule = rfn_rule_query(x->rule);
    fprintf(file, "<tr id=\"f%d\"%s><td class=\"%s\">%s<br>%s</td><td><code>", i,
            f->accepted != NULL ? " class=\"accepted\"" : "", severity[x->severity],
            rule->id, rule->name);
    put_text(file, x->file[0] != '\0' ? x->file : x->api);
    if (x->line > 0)
    {
        fprintf(file, ":%d", x->line);
    }
    fprintf(file, "</code>%s", x->region[0] != '\0' ? "<br>" : "");
    put_text(file, x->region);
    put_way(file, page, f);
    fprintf(file, "</td><td>");
    put_text(file, x->why);
    fprintf(file, ".<div class=\"fix\">");
    put_text(file, x->fix);
    fprintf(file, ".</div>");
    if (x->driver[0] != '\0')
    {
        fprintf(file, "<div>The device said: ");
        put_text(file, x->driver);
        fprintf(file, "</div>");
    }
    if (f->accepted != NULL)
    {
        fprintf(file, "<div>Accepted: ");
        put_text(file, f->accepted);
        fprintf(file, "</div>");
    }
    fprintf(file, "</td><td>%s</td><td>%" PRId64 "</td></tr>\n",
            x->confidence == RFN_PROVED ? "proved" : "heuristic", x->count);
}

static void put_findings(FILE *file, const struct html_page *page)
{
    if (page->findings->count == 0)
    {
        fprintf(file, "<p>No findings.</p>\n");
        return;
    }
    fprintf(file,
            "<table><tr><th>Rule</th><th>Where</th><th>What, and how to mend it</th>"
            "<th>Class</th><th>Times</th></tr>\n");
    for (int32_t i = 0; i < page->findings->count; i++)
    {
        put_finding(file, page, i);
    }
    fprintf(file, "</table>\n");
}

/* ---- pictures ---------------------------------------------------------------------- */

/* Serial numbers of the streams of a graph, in the order of their first nodes; what is past
 * the last lane shares it. */
struct lanes
{
    uint64_t stream[LANES_MAX];
    int count;
};

static int lane_of(struct lanes *lanes, uint64_t stream)
{
    int i = 0;
    while (i < lanes->count && lanes->stream[i] != stream)
    {
        i++;
    }
    if (i == lanes->count && i < LANES_MAX)
    {
        lanes->stream[lanes->count++] = stream;
    }
    return i < LANES_MAX ? i : LANES_MAX - 1;
}

static int y_of(int32_t node)
{
    return TOP + ROW * node;
}

static void put_edge(FILE *file, const struct rfn_image_edge *e, int from, int to)
{
    int x0 = LEFT + LANE * from + BOX / 2;
    int x1 = LEFT + LANE * to + BOX / 2;
    int y0 = y_of(e->from) + HEIGHT;
    int y1 = y_of(e->to);
    /* A long edge in one lane goes around what lies between. */
    int bow = from == to && e->to - e->from > 1 ? -BOX / 2 - 24 : 0;
    fprintf(file, "<path class=\"edge%s\" d=\"M%d %dC%d %d %d %d %d %d\"/>\n",
            e->programmatic ? " early" : "", x0, y0, x0 + bow, y0 + 12, x1 + bow, y1 - 12,
            x1, y1);
}

/* The first finding at a node of one of the page's images, `at` -1: of none, a child. */
static int32_t finding_at(const struct html_page *page, int32_t at, int32_t i)
{
    for (int32_t f = 0; at >= 0 && f < page->findings->count; f++)
    {
        if (html_is_of(&page->findings->item[f], page, at, i))
        {
            return f;
        }
    }
    return -1;
}

static void put_node(FILE *file, const struct html_page *page, int32_t at,
                     const struct rfn_image *image, int32_t i, int lane, int lanes)
{
    const struct rfn_image_node *n = &image->node[i];
    int32_t bad = finding_at(page, at, i);
    int x = LEFT + LANE * lane;
    int y = y_of(i);
    char label[192], note[NOTE_BYTES + 1];
    rfn_image_label(n->name, label, sizeof(label));
    text_clean(label);
    if (bad >= 0)
    {
        fprintf(file, "<g class=\"bad\" id=\"n%d-%d\">", at, i);
    }
    else
    {
        fprintf(file, "<g>");
    }
    fprintf(file, "<title>node %d, %s ", i, rfn_image_type_name(n->type));
    put_text(file, label);
    fprintf(file, "\n");
    if (n->line > 0)
    {
        put_text(file, n->file);
        fprintf(file, ":%d ", n->line);
    }
    put_text(file, n->region);
    fprintf(file, "\n");
    for (int32_t a = 0; a < n->accesses; a++)
    {
        static const char *const words[] = { "", "reads", "writes", "updates" };
        fprintf(file, "%s ", words[n->access[a].access & 3]);
        put_text(file, n->access[a].name);
        fprintf(file, ", %" PRId64 " bytes\n", n->access[a].bytes);
    }
    fprintf(file,
            "</title><rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" "
            "height=\"%d\"/><text x=\"%d\" y=\"%d\">",
            rfn_image_type_name(n->type), x, y, BOX, HEIGHT, x + 6, y + 13);
    const char *name = n->op[0] != '\0' ? n->op : label;
    char cut[NAME_BYTES + 1];
    size_t bytes = text_fit(name, NAME_BYTES);
    snprintf(cut, sizeof(cut), "%.*s", (int)bytes, name);
    put_text(file, cut);
    fprintf(file, "%s</text>", name[bytes] != '\0' ? "&#8230;" : "");
    if (bad >= 0)
    {
        fprintf(file,
                "<a href=\"#f%d\"><text class=\"rule\" x=\"%d\" y=\"%d\">%s</text></a>",
                bad, x + BOX - 48, y + 13,
                rfn_rule_query(page->findings->item[bad].finding.rule)->id);
    }
    fprintf(file,
            "</g>\n<text class=\"lane\" x=\"8\" y=\"%d\">%d</text>\n"
            "<text class=\"lane\" x=\"%d\" y=\"%d\">",
            y + 13, i, LEFT + LANE * lanes, y + 13);
    put_text(file, n->region);
    if (n->line > 0)
    {
        fprintf(file, "%s", n->region[0] != '\0' ? ", " : "");
        put_text(file, n->file);
        fprintf(file, ":%d", n->line);
    }
    else if (n->region[0] == '\0' && name[bytes] != '\0') /* all of a name that was cut */
    {
        snprintf(note, sizeof(note), "%.*s", (int)text_fit(name, NOTE_BYTES), name);
        put_text(file, note);
    }
    fprintf(file, "</text>\n");
}

static void put_picture(FILE *file, const struct html_page *page, int32_t at,
                        const struct rfn_image *image)
{
    struct lanes lanes = { .count = 0 };
    int *lane = malloc(((size_t)image->nodes + 1) * sizeof(*lane));
    if (lane == NULL)
    {
        fprintf(file, "<p>No memory for the picture.</p>\n");
        return;
    }
    for (int32_t i = 0; i < image->nodes; i++)
    {
        lane[i] = lane_of(&lanes, image->node[i].stream);
    }
    fprintf(file, "<div class=\"picture\"><svg width=\"%d\" height=\"%d\">\n",
            LEFT + LANE * lanes.count + NOTES, y_of(image->nodes));
    for (int i = 0; i < lanes.count; i++)
    {
        fprintf(file, "<text class=\"lane\" x=\"%d\" y=\"16\">", LEFT + LANE * i);
        if (lanes.stream[i] != 0)
        {
            fprintf(file, "stream %" PRIu64, lanes.stream[i]);
        }
        fprintf(file, "</text>\n");
    }
    for (int32_t i = 0; i < image->edges; i++)
    {
        const struct rfn_image_edge *e = &image->edge[i];
        put_edge(file, e, lane[e->from], lane[e->to]);
    }
    for (int32_t i = 0; i < image->nodes; i++)
    {
        put_node(file, page, at, image, i, lane[i], lanes.count);
    }
    fprintf(file, "</svg></div>\n");
    free(lane);
    for (int32_t i = 0; i < image->nodes; i++)
    {
        if (image->node[i].child != NULL)
        {
            fprintf(file, "<p>The graph in node %d:</p>\n", i);
            put_picture(file, page, -1, image->node[i].child);
        }
    }
}

static int has_finding(const struct html_page *page, int32_t at)
{
    int found = 0;
    for (int32_t i = 0; i < page->findings->count && !found; i++)
    {
        const struct found *f = &page->findings->item[i];
        found = f->image > 0 ? f->image == at + 1
                             : f->finding.capture_id == page->image[at]->capture_id;
    }
    return found;
}

void html_write(FILE *file, const struct html_page *page)
{
    fprintf(file, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                  "<meta name=\"viewport\" content=\"width=device-width\"><title>");
    put_text(file, page->title);
    fprintf(file, "</title><style>%s</style></head><body>\n<h1>", style);
    put_text(file, page->title);
    fprintf(file, "</h1>\n");
    put_findings(file, page);
    for (int32_t i = 0; i < page->images; i++)
    {
        const struct rfn_image *image = page->image[i];
        fprintf(file, "<h2>");
        put_text(file, image->name);
        fprintf(file, "</h2><details%s><summary>%d nodes, %d edges, captured on ",
                page->images == 1 || has_finding(page, i) ? " open" : "", image->nodes,
                image->edges);
        put_text(file, image->device);
        fprintf(file, "; a dashed edge lets the next node start early</summary>\n");
        put_picture(file, page, i, image);
        fprintf(file, "</details>\n");
    }
    fprintf(file, "</body></html>\n");
}
