/* Good: the counter moves between captures and replays, by the caller; a watch that comes late
 * sees what is left of the capture. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap053_good", &argc, argv))
        return step_close(&s);

    static int32_t steps_done, seen;
    static char tables[4096];
    WORKS(&s, rfn_check_watch(s.check, "steps_done", &steps_done, sizeof steps_done));
    WORKS(&s, rfn_check_watch(s.check, "tables", tables, sizeof tables));
    for (int i = 0; i < 3; i++)
    {
        WORKS(&s, rfn_capture_begin(s.stream, NULL));
        if (i == 0)
        {
            seen++;
            WORKS(&s, rfn_check_watch(s.check, "seen", &seen, sizeof seen));
        }
        WORKS(&s, rfn_index_topk(s.stream, &s.pick));
        step_fetch(&s);
        WORKS(&s, rfn_capture_end(s.stream, &graph));
        step_replay(&s, graph);
        steps_done++;
        tables[4095]++;
    }
    enum rfn_status status = rfn_check_watch(s.check, "none", &seen, 0);
    harness_check(&s.h, "no bytes are refused", status == RFN_INVALID, "%s",
                  rfn_status_name(status));
    for (int i = 3; i < 16; i++)
        WORKS(&s, rfn_check_watch(s.check, "seen", &seen, sizeof seen));
    status = rfn_check_watch(s.check, "seen", &seen, sizeof seen);
    harness_check(&s.h, "the seventeenth is refused", status == RFN_LIMIT, "%s",
                  rfn_status_name(status));

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
