/*
 * Uploads of an executable, and its end: what a stream that uploads comes behind, what a
 * destruction waits for, wherever the last launch went and whatever became of that stream.
 */
#include "tests/device/open.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define BYTES 256
#define NAP_MS 30

struct slow
{
    struct test *t;
    struct rfn_exec *exec; /* naps on the host, then sets the memory to 7 */
    void *memory;
    atomic_int naps;
};

static void nap(void *user)
{
    struct slow *s = user;
    nanosleep(&(struct timespec) { .tv_nsec = NAP_MS * 1000000 }, NULL);
    atomic_fetch_add(&s->naps, 1);
}

static void slow_open(struct slow *s, struct test *t)
{
    struct rfn_graph *graph = NULL;
    struct rfn_stream *stream = test_stream(t, RFN_STREAM_NONBLOCKING);
    *s = (struct slow) { .t = t, .memory = test_device_memory(t, BYTES) };
    OK(t, rfn_set_sync(t->dev, s->memory, 1, BYTES));
    OK(t, rfn_capture_begin(stream, NULL));
    OK(t, rfn_host_call(stream, nap, s));
    OK(t, rfn_set_async(stream, s->memory, 7, BYTES));
    OK(t, rfn_capture_end(stream, &graph));
    OK(t, rfn_graph_instantiate(graph, &s->exec));
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_device_sync(t->dev));
    OK(t, rfn_stream_destroy(&stream));
}

/* Waits for the executable's end by destroying it. */
static void slow_close(struct slow *s, int naps)
{
    OK(s->t, rfn_exec_destroy(&s->exec));
    harness_check(&s->t->h, "destroying waits for the launch",
                  atomic_load(&s->naps) == naps, "%d naps, %d are due", s->naps, naps);
    HOLDS(s->t, test_all(s->t, s->memory, BYTES, naps ? 7 : 1));
    FREE(s->t, s->memory);
}

static void an_upload_comes_behind_launches_on_other_streams(struct test *t)
{
    struct slow s;
    struct rfn_stream *a = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *b = test_stream(t, RFN_STREAM_NONBLOCKING);
    unsigned char *seen = test_alloc(t, RFN_MEMORY_PINNED, BYTES);
    slow_open(&s, t);
    for (int i = 0; i < 3; i++)
    {
        OK(t, rfn_set_async(a, s.memory, 1, BYTES));
        OK(t, rfn_exec_launch(s.exec, a));
        OK(t, rfn_exec_upload(s.exec, b));
        OK(t, rfn_copy_async(b, seen, s.memory, BYTES));
        OK(t, rfn_stream_sync(b));
        HOLDS(t, seen[0] == 7 && seen[BYTES - 1] == 7 && atomic_load(&s.naps) == i + 1);
    }
    slow_close(&s, 3);
    FREE(t, seen);
    OK(t, rfn_stream_destroy(&a));
    OK(t, rfn_stream_destroy(&b));
}

static void an_uploaded_executable_runs_as_ever(struct test *t)
{
    struct slow s;
    struct rfn_stream *a = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *b = test_stream(t, RFN_STREAM_BLOCKING);
    slow_open(&s, t);
    OK(t, rfn_exec_upload(s.exec, a));
    OK(t, rfn_exec_upload(s.exec, rfn_stream_legacy(t->dev)));
    OK(t, rfn_device_sync(t->dev));
    HOLDS(t, atomic_load(&s.naps) == 0 && test_all(t, s.memory, BYTES, 1));
    OK(t, rfn_exec_launch(s.exec, b));
    OK(t, rfn_stream_sync(b));
    HOLDS(t, atomic_load(&s.naps) == 1);
    slow_close(&s, 1);

    slow_open(&s, t);
    OK(t, rfn_exec_upload(s.exec, a));
    slow_close(&s, 0); /* never launched */
    OK(t, rfn_stream_destroy(&a));
    OK(t, rfn_stream_destroy(&b));
}

static void destroying_waits_though_the_stream_is_gone(struct test *t)
{
    struct slow s;
    struct rfn_stream *a = test_stream(t, RFN_STREAM_NONBLOCKING);
    slow_open(&s, t);
    OK(t, rfn_exec_launch(s.exec, a));
    OK(t, rfn_stream_destroy(&a));
    slow_close(&s, 1);
}

static void destroying_waits_for_launches_on_two_streams(struct test *t)
{
    struct slow s;
    struct rfn_stream *a = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *b = test_stream(t, RFN_STREAM_NONBLOCKING);
    slow_open(&s, t);
    OK(t, rfn_exec_launch(s.exec, a));
    OK(t, rfn_exec_launch(s.exec, b));
    slow_close(&s, 2);
    OK(t, rfn_stream_destroy(&a));
    OK(t, rfn_stream_destroy(&b));
}

/* The capture comes to no harm either. */
static void destroying_waits_though_the_stream_captures(struct test *t)
{
    struct slow s;
    struct rfn_stream *a = test_stream(t, RFN_STREAM_NONBLOCKING);
    enum rfn_capture_mode mode = RFN_CAPTURE_RELAXED;
    struct rfn_graph *graph = NULL;
    slow_open(&s, t);
    OK(t, rfn_exec_launch(s.exec, a));
    OK(t, rfn_capture_begin(a, NULL));
    CAPTURE_CODE(t, rfn_exec_destroy(&s.exec), 900); /* the thread captures, globally */
    HOLDS(t, s.exec != NULL && atomic_load(&s.naps) <= 1);
    CAPTURE_CODE(t, rfn_capture_end(a, &graph), 901);
    OK(t, rfn_exec_launch(s.exec, a));
    OK(t, rfn_capture_begin(a, NULL));
    OK(t, rfn_thread_mode_exchange(t->dev, &mode));
    OK(t, rfn_exec_destroy(&s.exec));
    HOLDS(t, atomic_load(&s.naps) == 2);
    OK(t, rfn_thread_mode_exchange(t->dev, &mode));
    OK(t, rfn_set_async(a, s.memory, 9, BYTES));
    OK(t, rfn_capture_end(a, &graph));
    OK(t, rfn_graph_destroy(&graph));
    FREE(t, s.memory);
    OK(t, rfn_stream_destroy(&a));
}

static void *launch_on_own(void *user)
{
    struct slow *s = user;
    OK(s->t, rfn_exec_launch(s->exec, rfn_stream_per_thread(s->t->dev)));
    return NULL;
}

static void destroying_waits_for_another_threads_own_stream(struct test *t)
{
    struct slow s;
    pthread_t thread;
    slow_open(&s, t);
    if (pthread_create(&thread, NULL, launch_on_own, &s) != 0 ||
        pthread_join(thread, NULL) != 0)
        exit(1);
    slow_close(&s, 1);
}

static void captures_meet_uploads_as_they_meet_launches(struct test *t)
{
    struct slow s;
    struct rfn_stream *a = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_stream *b = test_stream(t, RFN_STREAM_NONBLOCKING);
    struct rfn_graph *graph = NULL;
    struct rfn_graph_info info;
    slow_open(&s, t);
    OK(t, rfn_capture_begin(a, NULL));
    OK(t, rfn_set_async(a, s.memory, 9, BYTES));
    OK(t, rfn_exec_upload(s.exec, b)); /* beside */
    OK(t, rfn_capture_end(a, &graph));
    OK(t, rfn_graph_query(graph, &info));
    HOLDS(t, info.nodes == 1);
    OK(t, rfn_graph_destroy(&graph));
    OK(t, rfn_capture_begin(a, NULL));
    CAPTURE_CODE(t, rfn_exec_upload(s.exec, a), 900);
    CAPTURE_CODE(t, rfn_capture_end(a, &graph), 901);
    slow_close(&s, 0);
    OK(t, rfn_stream_destroy(&a));
    OK(t, rfn_stream_destroy(&b));
}

int main(int argc, char **argv)
{
    struct test t;
    test_begin(&t, "upload", &argc, argv);
    an_upload_comes_behind_launches_on_other_streams(&t);
    an_uploaded_executable_runs_as_ever(&t);
    destroying_waits_though_the_stream_is_gone(&t);
    destroying_waits_for_launches_on_two_streams(&t);
    destroying_waits_though_the_stream_captures(&t);
    destroying_waits_for_another_threads_own_stream(&t);
    captures_meet_uploads_as_they_meet_launches(&t);
    return test_end(&t);
}
