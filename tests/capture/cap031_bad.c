/* Bad: the captured step picks with a count of columns that was right when it was captured. */
#include "tests/capture/step.h"

struct sweep
{
    struct step *s;
    struct rfn_exec *exec;
    int baked;
};

/* Contexts of 4, 8, ... tokens: the op reads them on the device. */
static enum rfn_status set(void *ctx, struct rfn_stream *stream, int32_t i)
{
    struct step *s = ((struct sweep *)ctx)->s;
    rfn_stream_sync(stream);
    s->host_lens[0] = s->host_lens[1] = 4 * i + 4;
    return rfn_copy_async(stream, s->lens, s->host_lens, STEP_LENS_BYTES);
}

static enum rfn_status eager(void *ctx, struct rfn_stream *stream, int32_t i)
{
    struct step *s = ((struct sweep *)ctx)->s;
    struct rfn_index_topk_args pick = s->pick;
    pick.slots.shape[1] = i < 1 ? STEP_TOP : STEP_TOP / 2;
    return rfn_index_topk(stream, &pick);
}

static enum rfn_status replay(void *ctx, struct rfn_stream *stream, int32_t i)
{
    (void)i;
    return rfn_exec_launch(((struct sweep *)ctx)->exec, stream);
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap031_bad", &argc, argv))
        return step_close(&s);

    struct sweep sweep = { .s = &s };
    const struct rfn_replay_output output = { "slots", s.pick.slots.data,
                                              STEP_PICKED_BYTES,
                                              STEP_TOP * (int64_t)sizeof(int32_t) };
    const struct rfn_replay_desc desc = {
        .stream = s.stream,
        .cases = 3,
        .outputs = 1,
        .output = &output,
        .set = set,
        .eager = eager,
        .replay = replay,
        .ctx = &sweep,
    };
    struct rfn_replay_difference d;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &sweep.exec));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_replay_compare(&desc, &d));
    harness_check(&s.h, "what differs first",
                  d.bytes > 0 && d.i == 1 && d.row == 0 && d.eager != d.replay,
                  "case %d, row %lld, byte %lld, %d and %d", d.i, (long long)d.row,
                  (long long)d.offset, d.eager, d.replay);

    step_verdict(&s, RFN_CAP031, __FILE__, planted, "replay_compare");
    WORKS(&s, rfn_exec_destroy(&sweep.exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
