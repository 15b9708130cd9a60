/* Bad: two streams of a capture pick into the same slots, and only the fork orders them; then
 * one clears what the other reads, and one overwrites a whole cache that the other packs into. */
#include "tests/capture/lint.h"

/* Both calls behind a fork, joined again. */
static struct rfn_graph *beside(struct step *s,
                                void (*one)(struct step *, struct rfn_stream *),
                                void (*other)(struct step *, struct rfn_stream *))
{
    struct rfn_graph *graph = NULL;
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_copy_async(s->stream, s->lens, s->host_lens, STEP_LENS_BYTES));
    WORKS(s, rfn_event_record(s->fork, s->stream, 0));
    WORKS(s, rfn_stream_wait(s->side, s->fork, 0));
    one(s, s->stream);
    other(s, s->side);
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    WORKS(s, rfn_stream_wait(s->stream, s->join, 0));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    return graph;
}

static struct rfn_kv_pack_args cache;
static int pick_line, clear_line, wipe_line;

static void pick(struct step *s, struct rfn_stream *stream)
{
    pick_line = __LINE__ + 1;
    WORKS(s, rfn_index_topk(stream, &s->pick));
}

/* The last bytes of the row of lengths. */
static void clear(struct step *s, struct rfn_stream *stream)
{
    clear_line = __LINE__ + 1;
    WORKS(s, rfn_set_async(stream, s->lens + STEP_ROWS - 1, 0, sizeof(int32_t)));
}

static void pack(struct step *s, struct rfn_stream *stream)
{
    WORKS(s, rfn_kv_pack(stream, &cache));
}

static void wipe(struct step *s, struct rfn_stream *stream)
{
    int64_t bytes =
        STEP_PAGES * rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
    wipe_line = __LINE__ + 1;
    WORKS(s, rfn_set_async(stream, cache.pool.data, 0, bytes));
}

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap022_bad", &argc, argv))
        return step_close(&s);
    cache = step_cache(&s);
    struct rfn_graph *graph = beside(&s, pick, pick);
    struct lint_want want = { &s, RFN_CAP022, pick_line, "index_topk", "'slots'", 0, 0 };
    lint_graph(&want, graph);

    graph = beside(&s, pick, clear);
    want =
        (struct lint_want) { &s, RFN_CAP022, clear_line, "memset", "reads 'lens'", 0, 0 };
    lint_graph(&want, graph);

    graph = beside(&s, pack, wipe);
    want = (struct lint_want) { &s, RFN_CAP022, wipe_line, "memset", "'pool'", 1, 0 };
    lint_graph(&want, graph);
    step_verdict(&s, RFN_RULES, "", 0, "");
    step_cache_free(&s, &cache);
    return step_close(&s);
}
