/* Good: the ranks record the same step, each with streams, events, memory and inputs of its
 * own. And a rank that cannot reduce, or has nothing to compare, is told. */
#include "tests/capture/ranks.h"

static void nothing(void *ctx)
{
    (void)ctx;
}

static enum rfn_status record(struct ranked *r, struct rfn_stream *stream)
{
    struct step *s = &r->s;
    struct rfn_event *fork = NULL;
    WORKS(s, rfn_event_create(s->device, &fork));
    WORKS(s, rfn_index_topk(stream, &s->pick));
    WORKS(s, rfn_event_record(fork, stream, 0));
    WORKS(s, rfn_stream_wait(s->side, fork, 0));
    WORKS(s, rfn_set_async(s->side, s->lens, 1, STEP_LENS_BYTES));
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    WORKS(s, rfn_stream_wait(stream, s->join, 0));
    WORKS(s, rfn_host_call(stream, nothing, r));
    WORKS(s, rfn_event_destroy(&fork));
    return rfn_index_topk(stream, &s->pick);
}

/* Rank 1 has allocated more, so that nothing lies where rank 0 has it, and holds other lengths
 * and scores. */
static void move(struct ranked *r, void **more)
{
    int32_t lens[STEP_ROWS] = { 9, 12 };
    float score = 3;
    WORKS(&r->s, rfn_memory_alloc(r->s.device, RFN_MEMORY_DEVICE, 3 << 20, more));
    WORKS(&r->s, rfn_memory_free(r->s.device, r->s.pick.slots.data));
    WORKS(&r->s, rfn_memory_alloc(r->s.device, RFN_MEMORY_DEVICE, STEP_PICKED_BYTES,
                                  &r->s.pick.slots.data));
    WORKS(&r->s, rfn_copy_sync(r->s.device, r->s.lens, lens, sizeof lens));
    WORKS(&r->s, rfn_copy_sync(r->s.device, r->s.pick.logits.data, &score, sizeof score));
}

/* What is a rank's own. */
static void check_own(struct step *s)
{
    static struct drawn d;
    draw(&d);
    uint64_t was = drawn_signature(s, &d);
    d.dynamic = 4;
    d.number = 78;
    d.param[0].pointer.address = 0x7e0000002000;
    d.param[0].pointer.base = 0x7e0000000000;
    d.param[0].pointer.generation = 99;
    d.access[0].pointer.address += 512;
    d.access[1].pointer.bytes *= 2;
    d.node[0].file = "elsewhere.c";
    d.node[0].line = 5;
    d.node[0].region = "rank 1";
    d.node[0].stream = 6;
    d.node[2].thread = 7;
    d.node[1].event = 9;
    d.node[3].function = 101;
    d.node[3].user = 201;
    d.image.capture_id = 12;
    d.image.name = "rank 1";
    harness_check(&s->h, "a rank's own", drawn_signature(s, &d) == was, "other");
    struct rfn_image_edge first = d.edge[1];
    d.edge[1] = d.edge[2];
    d.edge[2] = first;
    harness_check(&s->h, "edges in another order", drawn_signature(s, &d) == was,
                  "other");
}

static enum rfn_status refuse(void *ctx, int64_t *values, int32_t count)
{
    (void)ctx;
    (void)values;
    return count > 0 ? RFN_IO : RFN_OK;
}

/* Sums instead of maxima, of two ranks whose graphs differ: in round *ctx lengths that nobody
 * has. */
static enum rfn_status sums(void *ctx, int64_t *values, int32_t count)
{
    int *wrong = ctx;
    if (count == 5) /* the signatures */
        values[3]++;
    else if (count == 3) /* nodes */
        values[*wrong == 3 ? 2 : 1] *= 1000;
    else if (count == 2) /* words of a node */
        values[1] *= 1000;
    else
        values[0] = 0; /* the first node's hash */
    return RFN_OK;
}

static void check_sums(struct ranked *r, int wrong, const char *words)
{
    int32_t findings = -1;
    ranks_record(r, record);
    enum rfn_status status =
        rfn_ranks_compare(r->image, sums, &wrong, lint_report, &r->want, &findings);
    harness_check(&r->s.h, "sums",
                  status == RFN_INVALID && findings == -1 && !r->want.seen &&
                      strstr(rfn_last_error(), words),
                  "%s", rfn_last_error());
    WORKS(&r->s, rfn_image_destroy(&r->image));
}

static void check_errors(struct ranked *r)
{
    int32_t findings = -1;
    uint64_t signature = 5;
    enum rfn_status status =
        rfn_ranks_compare(NULL, NULL, NULL, lint_report, &r->want, &findings);
    harness_check(&r->s.h, "no reduction", status == RFN_INVALID && findings == -1, "%s",
                  rfn_status_name(status));
    status = rfn_ranks_compare(NULL, refuse, NULL, lint_report, &r->want, &findings);
    harness_check(
        &r->s.h, "its own error",
        status == RFN_IO && findings == -1 && !r->want.seen &&
            strstr(rfn_last_error(), "reduction over the ranks returned -9 (IO)"),
        "%s", rfn_last_error());
    status = rfn_image_signature(NULL, &signature);
    harness_check(&r->s.h, "no image", status == RFN_INVALID && signature == 5, "%s",
                  rfn_status_name(status));
}

int main(int argc, char **argv)
{
    static struct ranked rank[GROUP_RANKS];
    struct group group;
    void *more = NULL;
    if (!ranks_open(rank, &group, "cap038_good", &argc, argv))
        return 1;
    for (int turn = 0; turn < 2; turn++)
    {
        for (int i = 0; i < GROUP_RANKS; i++)
            ranks_record(&rank[i], record);
        ranks_compare(rank);
        if (!turn)
            move(&rank[1], &more);
    }
    WORKS(&rank[1].s, rfn_memory_free(rank[1].s.device, more));
    ranks_compare(rank); /* no rank has a graph */
    check_own(&rank[0].s);
    check_errors(&rank[0]);
    check_sums(&rank[0], 3, " nodes; this rank has ");
    check_sums(&rank[0], 2, " parameters of a node; this rank has ");
    return ranks_close(rank, &group);
}
