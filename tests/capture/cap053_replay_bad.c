/* Bad: what runs eagerly counts its steps on the host, and the captured function, written apart
 * from it, does not. */
#include "tests/capture/step.h"

static int32_t steps_done, cases_set;

static enum rfn_status set(void *ctx, struct rfn_stream *stream, int32_t i)
{
    (void)ctx;
    (void)stream;
    (void)i;
    cases_set++; /* of the caller, in front of both */
    return RFN_OK;
}

static enum rfn_status eager(void *ctx, struct rfn_stream *stream, int32_t i)
{
    struct step *s = ctx;
    (void)i;
    steps_done++;
    return rfn_index_topk(stream, &s->pick);
}

static struct rfn_exec *exec;

static enum rfn_status replay(void *ctx, struct rfn_stream *stream, int32_t i)
{
    (void)ctx;
    (void)i;
    return rfn_exec_launch(exec, stream);
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_replay_difference d;
    if (!step_open(&s, "cap053_replay_bad", &argc, argv))
        return step_close(&s);

    const struct rfn_replay_output output = { "slots", s.pick.slots.data,
                                              STEP_PICKED_BYTES, 0 };
    const struct rfn_replay_desc desc = {
        .stream = s.stream,
        .cases = 1,
        .outputs = 1,
        .output = &output,
        .set = set,
        .eager = eager,
        .replay = replay,
        .ctx = &s,
    };
    s.outside = 1;
    WORKS(&s, rfn_check_watch(s.check, "steps_done", &steps_done, sizeof steps_done));
    WORKS(&s, rfn_check_watch(s.check, "cases_set", &cases_set, sizeof cases_set));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_replay_compare(&desc, &d));
    harness_check(&s.h, "no output differs", d.bytes == 0, "%lld bytes",
                  (long long)d.bytes);

    step_verdict(&s, RFN_CAP053, __FILE__, planted, "replay_compare");
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
