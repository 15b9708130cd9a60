/* Bad: the lengths of the step are copied from a local array. The node keeps the address of
 * the array, and every replay reads what lies there by then. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    int32_t lens[STEP_ROWS] = { 7, 9 };
    if (!step_open(&s, "cap003_bad", &argc, argv))
        return step_close(&s);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.lens, lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s,
          rfn_copy_async(s.stream, s.host_picked, s.pick.slots.data, STEP_PICKED_BYTES));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_CAP003, __FILE__, planted, "copy_async");
    struct rfn_finding f = { .why = "" };
    WORKS(&s, rfn_check_finding(s.check, 0, &f));
    char words[64];
    snprintf(words, sizeof words, "its source %p is pageable", (void *)lens);
    harness_check(&s.h, "the sentence names the side", strstr(f.why, words) != NULL, "%s",
                  f.why);
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
