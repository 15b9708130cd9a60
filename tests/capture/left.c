/* Captures left open, by a region and by the checker; what a checker does about it. */
#include "tests/capture/step.h"

/* The last finding, which must be this one. */
static void check_last(struct step *s, int32_t count, int line, const char *api,
                       const char *region)
{
    struct rfn_finding f = { .why = "" };
    int32_t n = rfn_check_count(s->check);
    if (!harness_check(&s->h, "how many findings", n == count, "%d, not %d", n, count))
        return;
    WORKS(s, rfn_check_finding(s->check, n - 1, &f));
    harness_check(&s->h, "the rule", f.rule == RFN_CAP032, "%d", (int)f.rule);
    harness_check(&s->h, "the place", f.line == line && !strcmp(f.file, __FILE__),
                  "%s:%d, not %d", f.file, f.line, line);
    harness_check(&s->h, "the call", !strcmp(f.api, api), "%s", f.api);
    harness_check(&s->h, "the region", !strcmp(f.region, region), "%s", f.region);
    harness_check(&s->h, "the capture goes on", f.status_after == RFN_CAPTURE_ACTIVE,
                  "%d", (int)f.status_after);
}

static void finish(struct step *s)
{
    struct rfn_graph *graph = NULL;
    WORKS(s, rfn_index_topk(s->stream, &s->pick));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_graph_destroy(&graph));
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "left", &argc, argv))
        return step_close(&s);

    /* Regions that begin and end in a capture are none of its business. */
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_region_begin("layer 0"));
    WORKS(&s, rfn_region_end());
    finish(&s);
    step_verdict(&s, RFN_RULES, "", 0, "");

    WORKS(&s, rfn_region_begin("forward"));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int line = __LINE__ + 1;
    WORKS(&s, rfn_region_end());
    check_last(&s, 1, line, "region_end", "decode > step 3 > forward");
    finish(&s);

    /* Once a capture, however often it is left. */
    WORKS(&s, rfn_region_begin("forward"));
    WORKS(&s, rfn_region_begin("layer 1"));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    line = __LINE__ + 1;
    WORKS(&s, rfn_region_end());
    WORKS(&s, rfn_region_end());
    check_last(&s, 2, line, "region_end", "decode > step 3 > forward > layer 1");
    enum rfn_status status = rfn_check_destroy(&s.check);
    harness_check(&s.h, "a checker of an open capture stays",
                  status == RFN_BUSY && s.check, "%s", rfn_status_name(status));
    check_last(&s, 2, line, "region_end", "decode > step 3 > forward > layer 1");
    finish(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    line = __LINE__ + 1;
    status = rfn_check_destroy(&s.check);
    harness_check(&s.h, "the line names it",
                  status == RFN_BUSY && strstr(rfn_last_error(), __FILE__), "%s",
                  rfn_last_error());
    check_last(&s, 3, line, "check_destroy", "decode > step 3");
    finish(&s);
    return step_close(&s);
}
