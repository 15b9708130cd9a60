/* What an observer is told of a call: statuses, captures that it took, region, nodes. */
#include "runtime/observe.h"

#include <refrain/check.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants setjmp.h, stdarg.h and stddef.h first */
#include <cmocka.h>

static struct rfn_device *device;
static struct rfn_stream *stream[3];
static struct rfn_call_event seen; /* the last one */
static char region[64];

static void on_call(void *ctx, const struct rfn_call_event *event)
{
    (void)ctx;
    seen = *event;
    snprintf(region, sizeof region, "%s", event->region);
}

static const struct rfn_observer observer = { NULL, on_call };

static int set_up(void **state)
{
    (void)state;
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST };
    int bad = rfn_device_open(&desc, &device) != RFN_OK ||
              rfn_device_observe(device, &observer) != RFN_OK;
    for (int i = 0; i < 3 && !bad; i++)
        bad = rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &stream[i]) != RFN_OK;
    return bad;
}

static int tear_down(void **state)
{
    (void)state;
    int bad = 0;
    for (int i = 0; i < 3; i++)
        bad += rfn_stream_destroy(&stream[i]) != RFN_OK;
    bad += rfn_device_observe(device, NULL) != RFN_OK;
    return bad + (rfn_device_close(&device) != RFN_OK);
}

static void a_call_tells_of_the_callers_last_capture(void **state)
{
    (void)state;
    struct rfn_graph *graph = NULL;
    uint64_t first, second;
    assert_int_equal(rfn_stream_query(stream[2]), RFN_OK);
    assert_int_equal(seen.caller.id, 0);
    assert_int_equal(rfn_capture_begin(stream[0], NULL), RFN_OK);
    first = seen.after.id;
    assert_int_equal(seen.caller.id, first);
    assert_int_equal(seen.caller.status, RFN_CAPTURE_ACTIVE);
    assert_int_equal(rfn_capture_begin(stream[1], NULL), RFN_OK);
    second = seen.after.id;
    assert_int_equal(rfn_stream_sync(stream[0]), RFN_CAPTURE); /* the first is lost */
    assert_int_equal(seen.after.status, RFN_CAPTURE_INVALIDATED);
    assert_int_equal(seen.caller.id, second);
    assert_int_equal(seen.caller.status, RFN_CAPTURE_ACTIVE);
    assert_int_equal(seen.hits, 1);
    assert_int_equal(seen.hit[0], first);
    assert_int_equal(rfn_memory_free(device, NULL), RFN_CAPTURE); /* now both are */
    assert_int_equal(seen.caller.status, RFN_CAPTURE_INVALIDATED);
    assert_int_equal(seen.hits, 1);
    assert_int_equal(seen.hit[0], second);
    assert_int_equal(rfn_memory_free(device, NULL), RFN_CAPTURE);
    assert_int_equal(seen.hits, 0);
    assert_int_equal(rfn_capture_end(stream[1], &graph), RFN_CAPTURE);
    assert_int_equal(seen.caller.id, first);
    assert_int_equal(rfn_capture_end(stream[0], &graph), RFN_CAPTURE);
    assert_int_equal(seen.caller.id, 0);
    assert_int_equal(seen.caller.status, RFN_CAPTURE_NONE);
}

static void nodes_stack_and_flags_are_told(void **state)
{
    (void)state;
    struct rfn_graph *graph = NULL;
    struct rfn_event *event = NULL;
    void *memory = NULL;
    char local[64] = "";
    static char elsewhere[64];
    assert_int_equal(rfn_event_create(device, &event), RFN_OK);
    assert_int_equal(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, 64, &memory), RFN_OK);
    assert_int_equal(rfn_capture_begin(stream[0], NULL), RFN_OK);
    assert_int_equal(rfn_copy_async(stream[0], memory, local, 64), RFN_OK);
    assert_true(seen.src_on_stack);
    assert_int_equal(rfn_copy_async(stream[0], memory, elsewhere, 64), RFN_OK);
    assert_false(seen.src_on_stack);
    assert_int_equal(rfn_event_record(event, stream[0], RFN_EVENT_EXTERNAL), RFN_OK);
    assert_int_equal(seen.flags, RFN_EVENT_EXTERNAL);
    assert_int_equal(rfn_capture_end(stream[0], &graph), RFN_OK);
    assert_int_equal(seen.nodes, 3);
    assert_int_equal(seen.kernels, 0);
    assert_int_equal(rfn_graph_destroy(&graph), RFN_OK);
    assert_int_equal(rfn_event_destroy(&event), RFN_OK);
    assert_non_null(seen.event);
    assert_int_equal(rfn_memory_free(device, memory), RFN_OK);
}

static void a_region_is_told_and_its_end_where_a_capture_is_left(void **state)
{
    (void)state;
    struct rfn_graph *graph = NULL;
    assert_int_equal(rfn_region_begin("outer"), RFN_OK);
    assert_int_equal(rfn_region_begin("inner"), RFN_OK);
    assert_int_equal(rfn_capture_begin(stream[0], NULL), RFN_OK);
    uint64_t id = seen.after.id;
    assert_string_equal(region, "outer > inner");
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(seen.call, RFN_CALL_region_end);
    assert_int_equal(seen.before.id, id);
    assert_string_equal(region, "outer > inner");
    assert_int_equal(rfn_capture_end(stream[0], &graph), RFN_OK);
    assert_string_equal(region, "outer");
    assert_int_equal(rfn_graph_destroy(&graph), RFN_OK);
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(seen.call, RFN_CALL_graph_destroy); /* nothing was left in it */
}

static void a_plan_that_copied_to_the_host_is_told_of_its_end(void **state)
{
    (void)state;
    void *pinned = NULL, *memory = NULL;
    assert_int_equal(rfn_memory_alloc(device, RFN_MEMORY_PINNED, 64, &pinned), RFN_OK);
    assert_int_equal(rfn_memory_alloc(device, RFN_MEMORY_DEVICE, 64, &memory), RFN_OK);
    assert_int_equal(rfn_region_begin("step"), RFN_OK);
    assert_int_equal(rfn_copy_async(stream[0], pinned, memory, 64), RFN_OK);
    assert_int_equal(seen.plan, 0);
    assert_int_equal(rfn_region_begin("planning"), RFN_OK);
    assert_int_equal(rfn_region_begin("counts"), RFN_OK);
    assert_int_equal(rfn_copy_async(stream[0], memory, pinned, 64), RFN_OK);
    assert_int_equal(seen.plan, 0); /* to the device */
    assert_int_equal(rfn_copy_async(stream[0], pinned, memory, 64), RFN_OK);
    uint64_t plan = seen.plan;
    assert_int_not_equal(plan, 0);
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(seen.call, RFN_CALL_copy_async);
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(seen.call, RFN_CALL_region_end);
    assert_int_equal(seen.plan, plan);
    assert_string_equal(region, "step > planning");
    assert_int_equal(rfn_region_begin("plan"), RFN_OK);
    seen.call = RFN_CALL_device_sync;
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(seen.call, RFN_CALL_device_sync); /* it copied nothing */
    assert_int_equal(rfn_region_end(), RFN_OK);
    assert_int_equal(rfn_memory_free(device, memory), RFN_OK);
    assert_int_equal(rfn_memory_free(device, pinned), RFN_OK);
}

static void a_destroyed_origin_leaves_nothing_to_ask(void **state)
{
    (void)state;
    struct rfn_stream *origin = NULL;
    assert_int_equal(rfn_stream_create(device, RFN_STREAM_NONBLOCKING, &origin), RFN_OK);
    assert_int_equal(rfn_capture_begin(origin, NULL), RFN_OK);
    uint64_t id = seen.after.id;
    assert_int_equal(rfn_stream_destroy(&origin), RFN_OK);
    assert_int_equal(seen.before.id, id);
    assert_int_equal(seen.caller.id, 0);
    assert_int_equal(rfn_memory_free(device, NULL), RFN_OK); /* in no capture */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_call_tells_of_the_callers_last_capture, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(nodes_stack_and_flags_are_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            a_region_is_told_and_its_end_where_a_capture_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_plan_that_copied_to_the_host_is_told_of_its_end,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_destroyed_origin_leaves_nothing_to_ask, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
