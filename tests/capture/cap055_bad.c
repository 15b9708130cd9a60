/* Bad: the second rank's buffer is cleared on its device while the first one's captures. */
#include "tests/capture/step.h"

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap055_bad", &argc, argv))
        return step_close(&s);

    struct rfn_device *second = step_device_open(&s);
    struct rfn_check *check = NULL;
    struct rfn_stream *stream = NULL;
    void *memory = NULL;
    WORKS(&s, rfn_check_create(second, &check));
    WORKS(&s, rfn_stream_create(second, RFN_STREAM_NONBLOCKING, &stream));
    WORKS(&s, rfn_memory_alloc(second, RFN_MEMORY_DEVICE, 64, &memory));
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    int planted = __LINE__ + 1;
    WORKS(&s, rfn_set_async(stream, memory, 0, 64));
    WORKS(&s, rfn_capture_end(s.stream, &graph));

    step_verdict(&s, RFN_RULES, "", 0, ""); /* the second device's checker has seen it */
    struct rfn_check *first = s.check;
    s.check = check;
    step_verdict(&s, RFN_CAP055, __FILE__, planted, "set_async");
    s.check = first;
    WORKS(&s, rfn_device_sync(second));
    WORKS(&s, rfn_memory_free(second, memory));
    WORKS(&s, rfn_stream_destroy(&stream));
    WORKS(&s, rfn_check_destroy(&check));
    WORKS(&s, rfn_device_close(&second));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
