/* Bad: the host fetches what was picked with a synchronous copy. Beside a non-blocking
 * capture the driver lets it pass; it reads what the last step left, and no replay will
 * ever fetch anything. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    if (!step_open(&s, "cap002_bad", &argc, argv))
        return step_close(&s);

    void *slots = s.pick.slots.data;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_sync(s.device, s.host_picked, slots, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    harness_check(&s.h, "it read what was there before", s.host_picked[0] == -7, "%d",
                  s.host_picked[0]);
    WORKS(&s, rfn_graph_query(graph, &info));
    harness_check(&s.h, "the graph has the op only", info.nodes == 1, "%d nodes",
                  info.nodes);
    step_verdict(&s, RFN_CAP002, __FILE__, planted, "copy_sync");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
