/* Bad: a budget that no graph fits. */
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    if (!step_open(&s, "cap046_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    const int32_t buckets[2] = { 2, 4 };
    struct rfn_ladder_desc desc = { .bucket = buckets, .buckets = 2, .next_n = 1 };
    struct rfn_ladder *ladder = NULL;
    struct rfn_ladder_info info = { 0 };
    desc.memory_bytes = RFN_LADDER_NODE_BYTES;
    WORKS(&s, rfn_ladder_create(m.attention, &desc, &ladder));
    int planted = __LINE__ + 1;
    enum rfn_status status = rfn_ladder_prepare(ladder, 2, 0);
    harness_check(&s.h, "it is refused", status == RFN_LIMIT, "%s", rfn_last_error());
    WORKS(&s, rfn_ladder_query(ladder, &info));
    harness_check(&s.h, "nothing stays", info.graphs == 0, "%d graphs", info.graphs);

    step_verdict(&s, RFN_CAP046, __FILE__, planted, "ladder_prepare");
    WORKS(&s, rfn_ladder_destroy(&ladder));
    model_close(&s, &m);
    return step_close(&s);
}
