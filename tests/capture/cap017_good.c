/* Good: the host waits, for the stream, for an event behind the copy, or for one on a stream
 * behind that, before it looks. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap017_good", &argc, argv))
        return step_close(&s);

    for (int way = 0; way < 4; way++)
    {
        WORKS(&s, rfn_index_topk(s.stream, &s.pick));
        step_fetch(&s);
        WORKS(&s, rfn_event_record(s.join, s.stream, 0));
        WORKS(&s, rfn_stream_wait(s.side, s.join, 0));
        if (way == 0)
            WORKS(&s, rfn_stream_sync(s.stream));
        else if (way == 1)
            WORKS(&s, rfn_event_sync(s.join));
        else if (way == 2)
            WORKS(&s, rfn_stream_sync(s.side));
        else
            while (rfn_stream_query(s.side) == RFN_NOT_READY)
                continue;
        harness_check(&s.h, "what it picked", step_picked(&s, s.host_lens), "way %d",
                      way);
        memset(s.host_picked, 0, (size_t)STEP_PICKED_BYTES);
    }

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
