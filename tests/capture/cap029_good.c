/* Good: graphs with shared memory in turn behind events; side by side only such as share what
 * both read, or write other rows, or the pages of one pool. */
#include "tests/capture/step.h"

enum
{
    FIRST,     /* writes row 0 of the choice */
    SECOND,    /* and row 1: it reads the same lengths and tables */
    BOTH,      /* rows 0 and 1 */
    PACKS,     /* writes tokens of a pool, */
    PACKS_TOO, /* others of the same one */
    PROGRAMS
};

static struct rfn_index_topk_args rows(const struct step *s, int from, int n)
{
    struct rfn_index_topk_args pick = s->pick;
    pick.logits.data = (float *)pick.logits.data + from * STEP_CONTEXT;
    pick.lens.data = (int32_t *)pick.lens.data + from;
    pick.request.data = (int32_t *)pick.request.data + from;
    pick.slots.data = (int32_t *)pick.slots.data + from * STEP_TOP;
    pick.logits.shape[0] = pick.lens.shape[0] = n;
    pick.request.shape[0] = pick.slots.shape[0] = n;
    return pick;
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph[PROGRAMS] = { NULL };
    struct rfn_exec *exec[PROGRAMS] = { NULL };
    struct rfn_kv_pack_args cache;
    if (!step_open(&s, "cap029_good", &argc, argv))
        return step_close(&s);

    cache = step_cache(&s);
    for (int i = 0; i < PROGRAMS; i++)
    {
        const struct rfn_index_topk_args pick = i == FIRST    ? rows(&s, 0, 1)
                                                : i == SECOND ? rows(&s, 1, 1)
                                                              : s.pick;
        WORKS(&s, rfn_capture_begin(s.stream, NULL));
        if (i >= PACKS)
            WORKS(&s, rfn_kv_pack(s.stream, &cache));
        else
            WORKS(&s, rfn_index_topk(s.stream, &pick));
        WORKS(&s, rfn_capture_end(s.stream, &graph[i]));
        WORKS(&s, rfn_graph_instantiate(graph[i], &exec[i]));
    }
    WORKS(&s, rfn_exec_launch(exec[FIRST], s.stream));
    WORKS(&s, rfn_exec_launch(exec[SECOND], s.side)); /* another row */
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    WORKS(&s, rfn_exec_launch(exec[BOTH], s.stream));
    WORKS(&s, rfn_exec_launch(exec[PACKS], s.side));
    WORKS(&s, rfn_exec_launch(exec[PACKS_TOO], s.stream));
    WORKS(&s, rfn_stream_sync(s.stream));
    WORKS(&s, rfn_exec_launch(exec[FIRST], s.side));
    WORKS(&s, rfn_device_sync(s.device));

    step_verdict(&s, RFN_RULES, "", 0, "");
    for (int i = 0; i < PROGRAMS; i++)
    {
        WORKS(&s, rfn_exec_destroy(&exec[i]));
        WORKS(&s, rfn_graph_destroy(&graph[i]));
    }
    step_cache_free(&s, &cache);
    return step_close(&s);
}
