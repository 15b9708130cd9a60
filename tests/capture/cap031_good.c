/* Good: a model's step, eagerly and by replay, over lengths on both sides of top-k, idle ranks
 * and every number of requests. */
#include "tests/capture/model.h"

#define CASES 40

struct sweep
{
    struct model *m;
    struct rfn_exec *exec;
    struct rfn_bucket planned;
};

static enum rfn_status set(void *ctx, struct rfn_stream *stream, int32_t i)
{
    struct sweep *w = ctx;
    for (int b = 0; b < MODEL_REQUESTS; b++)
        w->m->lens[b] = 1 + (i * 37 + b * 61) % MODEL_CONTEXT;
    const struct rfn_step step = model_step(w->m, i % (MODEL_REQUESTS + 1));
    return rfn_attention_plan(w->m->attention, stream, &step, &w->planned);
}

static enum rfn_status eager(void *ctx, struct rfn_stream *stream, int32_t i)
{
    struct sweep *w = ctx;
    (void)i;
    enum rfn_status status = rfn_attention_update(w->m->attention, stream, &w->planned);
    return status ? status
                  : rfn_attention_forward(w->m->attention, stream, 0, &w->planned);
}

static enum rfn_status replay(void *ctx, struct rfn_stream *stream, int32_t i)
{
    (void)i;
    return rfn_exec_launch(((struct sweep *)ctx)->exec, stream);
}

static enum rfn_status fails(void *ctx, struct rfn_stream *stream, int32_t i)
{
    (void)ctx;
    (void)stream;
    return i == 1 ? RFN_IO : RFN_OK;
}

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap031_good", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct sweep sweep = { .m = &m };
    const struct rfn_geometry *g = &m.geometry;
    const int64_t row = 2 * (int64_t)g->heads * g->v_elems;
    const struct rfn_replay_output output = { "out", m.memory[m.views - 1],
                                              2 * MODEL_REQUESTS * row, row };
    struct rfn_replay_desc desc = {
        .stream = s.stream,
        .cases = CASES,
        .outputs = 1,
        .output = &output,
        .set = set,
        .eager = eager,
        .replay = replay,
        .ctx = &sweep,
    };
    struct rfn_replay_difference d = { .bytes = -1 };
    sweep.exec = model_capture(&s, &m, &(struct rfn_bucket) { MODEL_REQUESTS, 2, 0 });
    WORKS(&s, rfn_replay_compare(&desc, &d));
    harness_check(&s.h, "nothing differs", d.bytes == 0, "%lld bytes",
                  (long long)d.bytes);
    d.bytes = -1;
    desc.replay = fails;
    enum rfn_status status = rfn_replay_compare(&desc, &d);
    harness_check(&s.h, "a callback's status comes back",
                  status == RFN_IO && d.bytes == -1, "%s", rfn_status_name(status));
    desc.cases = 0;
    status = rfn_replay_compare(&desc, &d);
    harness_check(&s.h, "no cases are refused", status == RFN_INVALID, "%s",
                  rfn_status_name(status));

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_exec_destroy(&sweep.exec));
    model_close(&s, &m);
    return step_close(&s);
}
