/* Good: the local array is copied before the capture, where the call stages it; the captured
 * copy reads pinned memory. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap023_good", &argc, argv))
        return step_close(&s);

    int32_t table[STEP_ROWS][STEP_TABLE] = { { 0, 1, 2, 3 }, { 4, 5, 6, 7 } };
    void *pinned = NULL;
    WORKS(&s, rfn_memory_alloc(s.device, RFN_MEMORY_PINNED, STEP_TABLE_BYTES, &pinned));
    memcpy(pinned, table, sizeof table);
    WORKS(&s, rfn_copy_async(s.stream, s.pick.table.data, table, STEP_TABLE_BYTES));
    memset(table, 0, sizeof table);
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_copy_async(s.stream, s.pick.table.data, pinned, STEP_TABLE_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);
    WORKS(&s, rfn_memory_free(s.device, pinned));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
