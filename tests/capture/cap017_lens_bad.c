/* Bad: the lengths of the next step are on their way to the host, and the plan already reads
 * them. Where nobody sees the host touch memory, the plan says itself what it has read. */
#define STEP_FAULT_HANDLER 0
#include "tests/capture/model.h"

int main(int argc, char **argv)
{
    struct step s;
    struct model m;
    struct rfn_bucket planned;
    if (!step_open(&s, "cap017_lens_bad", &argc, argv))
        return step_close(&s);

    model_open(&s, &m);
    struct rfn_step step = model_step(&m, 2);
    s.host_lens[0] = s.host_lens[1] = 7; /* of the last step */
    step.lens = s.host_lens;
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_copy_async(s.stream, s.host_lens, s.lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_attention_plan(m.attention, s.stream, &step, &planned));
    WORKS(&s, rfn_stream_sync(s.stream));

    step_verdict(&s, RFN_CAP017, __FILE__, planted, "copy_async");
    model_close(&s, &m);
    return step_close(&s);
}
