/* Feeding the live rules with events by hand. */
#ifndef TEST_UNIT_RULES_H
#define TEST_UNIT_RULES_H

#include "graph/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define ORIGIN 2u
#define OTHER 5u

static struct rfn_rules rules;
static char handle; /* a stream that is never looked into */

static inline int set_up(void **state)
{
    (void)state;
    return rfn_rules_init(&rules) != RFN_OK;
}

static inline int tear_down(void **state)
{
    (void)state;
    rfn_rules_release(&rules);
    return 0;
}

static inline struct rfn_call_event event_of(enum rfn_call call, uint64_t thread)
{
    return (struct rfn_call_event) {
        .call = call,
        .why = "",
        .region = "",
        .site = { "step.c", 10 },
        .thread = thread,
    };
}

static inline struct rfn_call_event on_stream(enum rfn_call call, uint64_t thread,
                                              uint64_t serial, uint64_t capture)
{
    struct rfn_call_event e = event_of(call, thread);
    e.stream = (struct rfn_stream *)&handle;
    e.stream_serial = serial;
    if (capture)
        e.before = e.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, capture };
    return e;
}

static inline void feed_begin(uint64_t thread, uint64_t serial, uint64_t capture,
                              enum rfn_capture_mode mode, enum rfn_stream_kind kind)
{
    struct rfn_call_event e = on_stream(RFN_CALL_capture_begin, thread, serial, 0);
    e.after = (struct rfn_capture_info) { RFN_CAPTURE_ACTIVE, capture };
    e.mode = mode;
    e.stream_kind = kind;
    e.name = "decode b8";
    rfn_rules_feed(&rules, &e);
}

static inline void feed_end(uint64_t thread, uint64_t serial, uint64_t capture, int code,
                            enum rfn_capture_status after)
{
    struct rfn_call_event e = on_stream(RFN_CALL_capture_end, thread, serial, capture);
    e.code = code;
    e.nodes = e.kernels = 1;
    e.after = (struct rfn_capture_info) { after, after ? capture : 0 };
    rfn_rules_feed(&rules, &e);
}

static inline const struct rfn_finding *last(void)
{
    return rfn_rules_at(&rules, rfn_rules_count(&rules) - 1);
}

/* Feeds a wait and says whether it was taken for one inside a capture. */
static inline int is_in_capture(uint64_t thread)
{
    static int line = 1000;
    int32_t before = rfn_rules_count(&rules);
    struct rfn_call_event e = event_of(RFN_CALL_device_sync, thread);
    e.site.line = ++line;
    rfn_rules_feed(&rules, &e);
    return rfn_rules_count(&rules) > before;
}

#define RULES_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
