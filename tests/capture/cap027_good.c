/* Good: every step is planned once and fits; idle ranks, shrinking and growing batches, steps
 * that the device advances, launches of one plan again, layers in a child graph, and tables of
 * any width. */
#include "tests/capture/model.h"

static void eager(struct step *s, struct model *m, const struct rfn_step *step)
{
    struct rfn_bucket bucket;
    WORKS(s, rfn_attention_plan(m->attention, s->stream, step, &bucket));
    model_record(s, m, &bucket);
}

/* The layers are a child of the graph that updates; the eager step before had other rows. */
static void layers_in_a_child(struct step *s, struct model *m)
{
    const struct rfn_bucket rows = { 2, 1, 0 };
    struct rfn_graph *child = NULL, *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_bucket bucket;
    struct rfn_step step = model_step(m, 3);
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_attention_forward(m->attention, s->stream, 0, &rows));
    WORKS(s, rfn_capture_end(s->stream, &child));
    WORKS(s, rfn_capture_begin(s->stream, NULL));
    WORKS(s, rfn_attention_update(m->attention, s->stream, &rows));
    WORKS(s, rfn_capture_add_child(s->stream, child));
    WORKS(s, rfn_capture_end(s->stream, &graph));
    WORKS(s, rfn_graph_instantiate(graph, &exec));
    eager(s, m, &step);
    step = model_step(m, 2);
    step.advance = 1;
    WORKS(s, rfn_attention_plan(m->attention, s->stream, &step, &bucket));
    WORKS(s, rfn_exec_launch(exec, s->stream));
    WORKS(s, rfn_exec_destroy(&exec));
    WORKS(s, rfn_graph_destroy(&graph));
    WORKS(s, rfn_graph_destroy(&child));
}

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap027_good", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct rfn_bucket planned;
    struct rfn_exec *large = model_capture(&s, &m, &(struct rfn_bucket) { 4, 2, 0 });
    struct rfn_exec *small = model_capture(&s, &m, &(struct rfn_bucket) { 2, 1, 1 });
    WORKS(&s, rfn_exec_launch(large, s.stream)); /* before the first plan: idle */
    for (int32_t requests = 4; requests >= 0; requests--)
    {
        struct rfn_step step = model_step(&m, requests);
        WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
        WORKS(&s, rfn_exec_launch(large, s.stream));
        if (requests <= 2)
            WORKS(&s, rfn_exec_launch(small, s.stream)); /* the same step again */
        eager(&s, &m, &step);
    }
    struct rfn_step step = model_step(&m, 2);
    step.advance = 1;
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned)); /* anew */
    WORKS(&s, rfn_exec_launch(large, s.stream));
    const struct rfn_step same = { .requests = 2, .unchanged = 1, .advance = 1 };
    for (int i = 0; i < 4; i++)
    {
        if (i == 2)
            eager(&s, &m, &same);
        WORKS(&s, rfn_attention_plan(m.attention, s.stream, &same, &planned));
        WORKS(&s, rfn_exec_launch(i % 2 ? small : large, s.stream));
    }

    layers_in_a_child(&s, &m);

    /* Narrower, with the same stride; and one row, whose stride says nothing. */
    struct rfn_index_topk_args narrow = s.pick, row = s.pick;
    narrow.logits.shape[1] = 2 * STEP_PAGE_TOKENS;
    row.logits.shape[0] = row.lens.shape[0] = row.request.shape[0] = row.slots.shape[0] =
        row.table.shape[0] = 1;
    row.table.stride[0] = 3 * STEP_TABLE;
    narrow.table.shape[1] = STEP_TABLE - 1;
    narrow.logits.shape[1] = (STEP_TABLE - 1) * STEP_PAGE_TOKENS;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_index_topk(s.stream, &narrow));
    WORKS(&s, rfn_index_topk(s.stream, &row));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_graph_destroy(&graph));
    WORKS(&s, rfn_exec_destroy(&large));
    WORKS(&s, rfn_exec_destroy(&small));
    model_close(&s, &m);
    return step_close(&s);
}
