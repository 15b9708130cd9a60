/*
 * A producer and a consumer on two streams, held together by events: right under every
 * schedule. --planted leaves the consumer's wait out; the lazy schedule and some random
 * seed must see it.
 */
#include "tests/device/open.h"

#define ROUNDS 24
#define ELEMS 64

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "order", &argc, argv);
    int planted = argc > 1 && strcmp(argv[1], "--planted") == 0;
    struct rfn_stream *producer = test_stream(&t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *consumer = test_stream(&t, RFN_STREAM_NONBLOCKING);
    struct rfn_event *full = test_event(&t), *empty = test_event(&t);
    const int64_t bytes = ELEMS * (int64_t)sizeof(float);
    int32_t *out = test_alloc(&t, RFN_MEMORY_PINNED, ELEMS * 4);
    float *scores = test_alloc(&t, RFN_MEMORY_PINNED, bytes);
    float *buffer = test_device_memory(&t, bytes);
    int32_t *chosen = test_device_memory(&t, ELEMS * 4),
            *lens = test_device_memory(&t, 4);
    int32_t count = ELEMS;
    OK(&t, rfn_copy_sync(t.dev, lens, &count, 4));
    OK(&t, rfn_set_sync(t.dev, buffer, 0, bytes));
    OK(&t, rfn_set_sync(t.dev, chosen, 0, ELEMS * 4));
    OK(&t, rfn_device_sync(t.dev));
    struct rfn_index_topk_args args = {
        .logits = rfn_tensor_of(buffer, RFN_F32, 1, ELEMS, 0, 0),
        .lens = rfn_tensor_of(lens, RFN_I32, 1, 0, 0, 0),
        .positions = rfn_tensor_of(chosen, RFN_I32, 1, 1, 0, 0),
    };
    for (int round = 0; round < ROUNDS; round++)
    {
        int largest = (round * 37 + 11) % ELEMS;
        for (int i = 0; i < ELEMS; i++)
            scores[i] = i == largest ? 9.0f : 0.5f;
        /* The producer overwrites what the consumer may still read: it waits too. */
        OK(&t, rfn_stream_wait(producer, empty, 0));
        OK(&t, rfn_copy_async(producer, buffer, scores, bytes));
        OK(&t, rfn_event_record(full, producer, 0));
        if (!planted)
            OK(&t, rfn_stream_wait(consumer, full, 0));
        OK(&t, rfn_index_topk(consumer, &args));
        OK(&t, rfn_event_record(empty, consumer, 0));
        OK(&t, rfn_copy_async(consumer, out, chosen, 4));
        OK(&t, rfn_stream_sync(consumer));
        harness_check(&t.h, "the consumer sees what the producer wrote",
                      out[0] == largest, "round %d: position %d where %d is due", round,
                      out[0], largest);
        OK(&t, rfn_event_sync(full)); /* scores are ours again */
    }
    OK(&t, rfn_device_sync(t.dev));
    FREE(&t, out);
    FREE(&t, scores);
    FREE(&t, buffer);
    FREE(&t, chosen);
    FREE(&t, lens);
    OK(&t, rfn_event_destroy(&full));
    OK(&t, rfn_event_destroy(&empty));
    OK(&t, rfn_stream_destroy(&producer));
    OK(&t, rfn_stream_destroy(&consumer));
    return test_end(&t);
}
