/* Bad: the block table of the step is built in a local array and copied from there. The node
 * keeps the address in the stack, and every replay reads what lies there by then. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap023_bad", &argc, argv))
        return step_close(&s);

    int32_t table[STEP_ROWS][STEP_TABLE] = { { 0, 1, 2, 3 }, { 4, 5, 6, 7 } };
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.pick.table.data, table, STEP_TABLE_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP023, __FILE__, planted, "copy_async");
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
