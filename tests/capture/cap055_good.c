/* Good: both devices are captured by one thread, and another thread works where it likes. */
#include "tests/capture/step.h"

struct rank
{
    struct step *s;
    struct rfn_stream *stream;
    void *memory;
};

static void *other_thread(void *arg)
{
    struct rank *r = arg;
    struct step *s = r->s;
    WORKS(s, rfn_set_async(r->stream, r->memory, 1, 64));
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL, *theirs = NULL;
    if (!step_open(&s, "cap055_good", &argc, argv))
        return step_close(&s);

    struct rfn_device *second = step_device_open(&s);
    struct rfn_check *check = NULL;
    struct rfn_stream *stream = NULL;
    void *memory = NULL;
    WORKS(&s, rfn_check_create(second, &check));
    WORKS(&s, rfn_stream_create(second, RFN_STREAM_NONBLOCKING, &stream));
    WORKS(&s, rfn_memory_alloc(second, RFN_MEMORY_DEVICE, 64, &memory));
    struct rank rank = { &s, stream, memory };
    struct rfn_capture_desc local = { RFN_CAPTURE_THREAD_LOCAL, "first" };
    WORKS(&s, rfn_capture_begin(s.stream, &local));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_elsewhere(&s, other_thread, &rank);
    WORKS(&s, rfn_capture_begin(stream, &local));
    WORKS(&s, rfn_set_async(stream, memory, 0, 64));
    WORKS(&s, rfn_op_launch(s.stream, &rfn_op_index_topk, &s.pick));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_capture_end(stream, &theirs));
    WORKS(&s, rfn_set_async(stream, memory, 0, 64)); /* nobody captures any more */

    step_verdict(&s, RFN_RULES, "", 0, "");
    struct rfn_check *first = s.check;
    s.check = check;
    struct rfn_finding f;
    int32_t count = rfn_check_count(check);
    harness_check(&s.h, "one finding: a graph without a kernel",
                  count == 1 && rfn_check_finding(check, 0, &f) == RFN_OK &&
                      f.rule == RFN_CAP045,
                  "%d", count);
    s.check = first;
    WORKS(&s, rfn_graph_destroy(&theirs));
    WORKS(&s, rfn_device_sync(second));
    WORKS(&s, rfn_memory_free(second, memory));
    WORKS(&s, rfn_stream_destroy(&stream));
    WORKS(&s, rfn_check_destroy(&check));
    WORKS(&s, rfn_device_close(&second));
    WORKS(&s, rfn_graph_destroy(&graph));
    return step_close(&s);
}
