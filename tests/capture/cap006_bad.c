/* Bad: what is launched follows the live batch: extents, the bytes of a copy, whether a kernel
 * is there at all, which stream has it. */
#include "tests/capture/diff.h"

static int line;

static enum rfn_status extent(struct diff *d, struct rfn_stream *stream)
{
    if (d->round == RFN_DIFF_INPUTS)
        d->pick.slots.shape[1] = STEP_TOP / 2;
    line = __LINE__ + 1;
    return rfn_index_topk(stream, &d->pick);
}

static enum rfn_status bytes(struct diff *d, struct rfn_stream *stream)
{
    int64_t live = STEP_PICKED_BYTES / (1 + (int64_t)d->round);
    WORKS(d->s, rfn_index_topk(stream, &d->pick));
    line = __LINE__ + 1;
    return rfn_copy_async(stream, d->s->host_picked, d->pick.slots.data, live & ~7);
}

static enum rfn_status kernel(struct diff *d, struct rfn_stream *stream)
{
    WORKS(d->s, rfn_index_topk(stream, &d->pick));
    line = __LINE__ + 1;
    return d->round != RFN_DIFF_ARENA ? RFN_OK : rfn_index_topk(stream, &d->pick);
}

/* The second set comes behind the pick, or beside it. */
static enum rfn_status order(struct diff *d, struct rfn_stream *stream)
{
    struct step *s = d->s;
    struct rfn_stream *on = d->round == RFN_DIFF_INPUTS ? stream : s->side;
    WORKS(s, rfn_set_async(stream, s->host_picked, 0, 4));
    WORKS(s, rfn_event_record(s->fork, stream, 0));
    WORKS(s, rfn_stream_wait(s->side, s->fork, 0));
    WORKS(s, rfn_index_topk(stream, &d->pick));
    line = __LINE__ + 1;
    WORKS(s, rfn_set_async(on, s->host_picked + 4, 0, 4));
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    return rfn_stream_wait(stream, s->join, 0);
}

int main(int argc, char **argv)
{
    static const struct
    {
        enum rfn_status (*record)(struct diff *d, struct rfn_stream *stream);
        const char *node;
        const char *words;
        int64_t count;
    } planted[] = {
        { extent, "index_topk",
          "'slots.shape' is [2, 8] in the first recording and [2, 4] in the second", 1 },
        { bytes, "memcpy", "is 64 in the first recording and 32 in the second", 2 },
        { kernel, "index_topk", "1 nodes, the third 2, and they part at node 1", 1 },
        { order, "memset", "they part at edge", 1 },
    };
    struct step s;
    if (!step_open(&s, "cap006_bad", &argc, argv))
        return step_close(&s);
    for (size_t i = 0; i < sizeof planted / sizeof planted[0]; i++)
    {
        struct lint_want want = { .s = &s, .rule = RFN_CAP006 };
        want.at = &line;
        want.name = planted[i].node;
        want.words = planted[i].words;
        want.count = planted[i].count;
        if (planted[i].record == extent && step_device() == RFN_DEVICE_CUDA)
        {
            /* Its kernel has the extent for a constant, and the operand its bytes. */
            want.words =
                "the constant 'K' is 8 in the first recording and 4 in the second";
            want.findings = 2;
        }
        diff_step(&want, planted[i].record);
    }
    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
