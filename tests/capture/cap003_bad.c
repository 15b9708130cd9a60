/* Bad: the block table of the step is copied from the scheduler's heap. The node keeps the
 * address, and every replay reads what lies there by then. */
#include "tests/capture/step.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap003_bad", &argc, argv))
        return step_close(&s);

    int32_t *table = malloc((size_t)STEP_TABLE_BYTES);
    for (int i = 0; table && i < STEP_ROWS * STEP_TABLE; i++)
        table[i] = i;
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.pick.table.data, table, STEP_TABLE_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP003, __FILE__, planted, "copy_async");
    struct rfn_finding f = { .why = "" };
    WORKS(&s, rfn_check_finding(s.check, 0, &f));
    char words[64];
    snprintf(words, sizeof words, "its source %p is pageable", (void *)table);
    harness_check(&s.h, "the sentence names the side", strstr(f.why, words) != NULL, "%s",
                  f.why);
    WORKS(&s, rfn_graph_destroy(&graph));
    free(table);
    return step_close(&s);
}
