/* Bad: what was picked is fetched in a region that plans, and the plan is over before it has
 * come. Nobody sees here whether the host looked; a warning. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap017_plan_bad", &argc, argv))
        return step_close(&s);

    s.region = "decode > step 3 > planning > counts";
    s.heuristic = 1;
    WORKS(&s, rfn_region_begin("planning"));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_region_begin("counts"));
    void *slots = s.pick.slots.data;
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.host_picked, slots, STEP_PICKED_BYTES));
    WORKS(&s, rfn_region_end()); /* is no plan, and ends in one */
    step_verdict(&s, RFN_RULES, "", 0, "");
    WORKS(&s, rfn_event_record(s.join, s.stream, 0));
    WORKS(&s,
          rfn_stream_wait(s.side, s.join, 0)); /* the side stream waits, not the host */
    WORKS(&s, rfn_region_end());
    WORKS(&s, rfn_stream_sync(s.stream));
    harness_check(&s.h, "what it picked", step_picked(&s, s.host_lens), "wrong");

    step_verdict(&s, RFN_CAP017, __FILE__, planted, "copy_async");
    return step_close(&s);
}
