/* Bad: an error path gives the stream back without ending the capture. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    if (!step_open(&s, "cap032_bad", &argc, argv))
        return step_close(&s);

    struct rfn_stream *stream = NULL;
    WORKS(&s, rfn_stream_create(s.device, RFN_STREAM_NONBLOCKING, &stream));
    WORKS(&s, rfn_capture_begin(stream, NULL));
    WORKS(&s, rfn_index_topk(stream, &s.pick));
    struct rfn_index_topk_args wrong = s.pick;
    wrong.lens.dtype = RFN_F32;
    int planted = 0;
    if (rfn_index_topk(stream, &wrong) != RFN_OK)
    {
        planted = __LINE__ + 1;
        WORKS(&s, rfn_stream_destroy(&stream));
    }
    WORKS(&s, rfn_stream_sync(s.stream)); /* in no capture any more */

    step_verdict(&s, RFN_CAP032, __FILE__, planted, "stream_destroy");
    return step_close(&s);
}
