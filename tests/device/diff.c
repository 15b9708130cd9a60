/* Differential capture of a decode step: the library's own gives nothing; a bucket that follows
 * the batch, a layer that is left out and a count of the host that becomes a constant are each
 * found, on both devices. Then what it costs for the layers of a whole model. */
#include "tests/device/attention.h"

#include <refrain/diff.h>
#include <time.h>

enum planted
{
    NOTHING = 0,
    BUCKET,
    LAYER,
    CONSTANT,
    PLANTED
};

struct recorded
{
    struct model m;
    enum planted planted;
    struct live live;
    struct live first;
    int32_t pages; /* what the host believes */
    enum rfn_rule rule;
    int32_t seen;
    int32_t others;
    char text[1024];
};

static enum rfn_status record(void *ctx, struct rfn_stream *stream)
{
    struct recorded *r = ctx;
    struct model *m = &r->m;
    struct rfn_bucket bucket = { R_MAX, m->limits.next_n, 0 };
    if (r->planted == BUCKET)
        bucket.requests = r->live.requests;
    enum rfn_status status = rfn_attention_update(m->a, stream, &bucket);
    for (int32_t i = 0; i < m->g.layers && !status; i++)
        if (r->planted != LAYER || i != 1 || r->live.requests != 3)
            status = rfn_attention_forward(m->a, stream, i, &bucket);
    struct rfn_index_topk_args topk = {
        .logits = m->logits,
        .lens = m->context,
        .table = m->table,
        .request = m->request,
        .slots = m->chosen[0],
        .page_tokens = P,
        .pages = r->planted == CONSTANT ? r->pages : PAGES,
    };
    return status ? status : rfn_index_topk(stream, &topk);
}

static void bind_side(struct recorded *r, const struct side *side)
{
    struct model *m = &r->m;
    for (int i = 0; i < m->g.layers; i++)
    {
        struct rfn_layer_io io = m->io[i];
        io.out = side->out[i];
        io.lse = side->lse[i];
        OK(m->t, rfn_attention_bind(m->a, i, &side->caches[i], &io));
    }
}

static enum rfn_status mutate(void *ctx, enum rfn_diff_round round)
{
    struct recorded *r = ctx;
    struct model *m = &r->m;
    struct rfn_bucket bucket;
    if (round == RFN_DIFF_FIRST)
        r->live = r->first;
    else
        r->live = live_random(m->rng, round == RFN_DIFF_INPUTS ? 3 : 2, S - 8,
                              m->limits.next_n);
    r->pages = PAGES - (int32_t)round;
    bind_side(r, round == RFN_DIFF_ARENA ? &m->hand : &m->mine);
    model_inputs(m);
    struct rfn_step step = live_step(&r->live);
    enum rfn_status status = rfn_attention_plan(m->a, m->s, &step, &bucket);
    return status ? status : rfn_stream_sync(m->s);
}

static void report(void *ctx, const struct rfn_finding *f)
{
    struct recorded *r = ctx;
    if (f->rule != r->rule)
        r->others++;
    if (!r->seen++)
        rfn_finding_text(f, r->text, sizeof r->text);
}

static void check_planted(struct recorded *r, enum planted planted, enum rfn_rule rule,
                          const char *words)
{
    static const char *const name[] = { "nothing", "a bucket", "a layer", "a constant" };
    struct rfn_diff_desc desc = { .record = record, .mutate = mutate, .ctx = r };
    struct rfn_diff_info info = { 0 };
    struct harness *h = &r->m.t->h;
    r->planted = planted;
    r->rule = rule;
    r->seen = r->others = 0;
    r->text[0] = '\0';
    OK(r->m.t, rfn_graph_diff(r->m.t->dev, &desc, report, r, &info));
    harness_check(h, name[planted], info.findings == r->seen && !r->others,
                  "%d of %d: %s", r->others, r->seen, r->text);
    if (rule == RFN_RULES)
        harness_check(h, name[planted], !r->seen, "%s", r->text);
    else
        harness_check(h, name[planted], r->seen && strstr(r->text, words), "%s", r->text);
    harness_check(h, name[planted], info.compared > 0 && (planted == LAYER || info.moved),
                  "%d compared, %d moved, %d stayed", info.compared, info.moved,
                  info.stayed);
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* Sixty-one layers, which share what they are bound to. */
static enum rfn_status record_all(void *ctx, struct rfn_stream *stream)
{
    struct recorded *r = ctx;
    struct rfn_bucket bucket = { R_MAX, r->m.limits.next_n, 0 };
    enum rfn_status status = rfn_attention_update(r->m.a, stream, &bucket);
    for (int i = 0; i < 61 && !status; i++)
        status = rfn_attention_forward(r->m.a, stream, i % r->m.g.layers, &bucket);
    return status;
}

static void time_model(struct recorded *r)
{
    struct rfn_diff_desc desc = { .record = record_all, .ctx = r };
    struct rfn_diff_info info = { 0 };
    double best = 1e30;
    r->rule = RFN_RULES;
    r->seen = 0;
    for (int i = 0; i < 3; i++)
    {
        double begun = now_ms();
        OK(r->m.t, rfn_graph_diff(r->m.t->dev, &desc, report, r, &info));
        double took = now_ms() - begun;
        best = took < best ? took : best;
    }
    harness_check(&r->m.t->h, "61 layers", !r->seen && info.nodes > 61, "%s", r->text);
    printf("61 layers: %d nodes recorded three times in %.1f ms, %d values compared\n",
           info.nodes, best, info.compared);
}

int main(int argc, char **argv)
{
    static struct recorded r;
    struct test t;
    test_begin(&t, "diff", &argc, argv);
    struct rng rng = rng_of(t.h.seed);
    model_begin(&r.m, &t, &rng, LAYERS, NULL, 2, 0);
    r.first = r.live = live_random(&rng, R_MAX, S - 8, 2);
    OK(&t, mutate(&r, RFN_DIFF_FIRST));
    check_planted(&r, NOTHING, RFN_RULES, "");
    check_planted(&r, BUCKET, RFN_CAP006, " in the first recording and ");
    check_planted(&r, LAYER, RFN_CAP006, "they part at node");
    check_planted(&r, CONSTANT, RFN_CAP005,
                  "'pages' is 40 in the first recording and 39 in the second");
    check_planted(&r, NOTHING, RFN_RULES, "");
    time_model(&r);
    model_end(&r.m);
    return test_end(&t);
}
