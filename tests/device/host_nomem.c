/* Every allocation of the host device may fail: code 2, and nothing stays behind. */
#include "tests/device/backend.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INTERPOSED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||               \
    __has_feature(memory_sanitizer)
#define INTERPOSED 0
#endif
#endif
#if !defined(INTERPOSED) && defined(__GLIBC__)
#define INTERPOSED 1
#elif !defined(INTERPOSED)
#define INTERPOSED 0
#endif

static long fail_at = -1; /* this many more allocations succeed; -1: all do */
static long live;

#if INTERPOSED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static int fails_now(void)
{
    return fail_at >= 0 && fail_at-- == 0;
}

void *malloc(size_t n)
{
    void *p = fails_now() ? NULL : __libc_malloc(n);
    live += p != NULL;
    return p;
}

void *calloc(size_t n, size_t m)
{
    void *p = fails_now() ? NULL : __libc_calloc(n, m);
    live += p != NULL;
    return p;
}

void *realloc(void *old, size_t n)
{
    void *p = fails_now() ? NULL : __libc_realloc(old, n);
    live += p != NULL && !old;
    return p;
}

void free(void *p)
{
    live -= p != NULL;
    __libc_free(p);
}
#endif

/* ---- one of everything ------------------------------------------------------------ */

struct all
{
    void *dev, *s, *t, *e, *f, *a, *b, *graph, *parent, *exec, *pinned;
    int32_t pageable[N];
    int calls;
};

static void count(void *user)
{
    ++((struct all *)user)->calls;
}

#define TRY(call)                                                                        \
    do                                                                                   \
    {                                                                                    \
        int try_code = (call);                                                           \
        if (try_code)                                                                    \
            return try_code;                                                             \
    } while (0)

static int work(struct all *x, void *s, void *t)
{
    struct add_args args = add_of(x->b, x->a, 1);
    struct rfn_set set = { x->a, BYTES, 0, RFN_MEMORY_DEVICE };
    struct rfn_copy up = { x->a, x->pageable, BYTES, RFN_MEMORY_DEVICE,
                           RFN_MEMORY_PAGEABLE };
    struct rfn_copy down = { x->pinned, x->b, BYTES, RFN_MEMORY_PINNED,
                             RFN_MEMORY_DEVICE };
    void *node;
    TRY(B->set_async(x->dev, s, &set));
    TRY(B->copy_async(x->dev, s, &up));
    TRY(B->event_record(x->dev, x->e, s, 0));
    TRY(B->stream_wait(x->dev, t, x->e, 0));
    TRY(B->launch(x->dev, t, &add_op, &args, &node));
    TRY(B->host_call(x->dev, t, count, x));
    TRY(B->event_record(x->dev, x->f, t, 0));
    TRY(B->stream_wait(x->dev, s, x->f, 0));
    return B->copy_async(x->dev, s, &down);
}

static int everything(struct all *x)
{
    struct rfn_device_desc desc = { .kind = RFN_DEVICE_HOST,
                                    .check = 1,
                                    .sched = RFN_SCHED_LAZY,
                                    .threads = 1,
                                    .reserve_bytes = 16 << 20 };
    char why[256];
    TRY(B->open(&desc, &x->dev, why, sizeof why));
    TRY(B->stream_create(x->dev, RFN_STREAM_BLOCKING, &x->s));
    TRY(B->stream_create(x->dev, RFN_STREAM_NONBLOCKING, &x->t));
    TRY(B->event_create(x->dev, &x->e));
    TRY(B->event_create(x->dev, &x->f));
    TRY(B->memory_alloc(x->dev, RFN_MEMORY_DEVICE, BYTES, &x->a));
    TRY(B->memory_alloc(x->dev, RFN_MEMORY_DEVICE, BYTES, &x->b));
    TRY(B->memory_alloc(x->dev, RFN_MEMORY_PINNED, BYTES, &x->pinned));
    TRY(work(x, x->s, x->t));
    TRY(work(x, B->stream_builtin(x->dev, RFN_STREAM_LEGACY),
             B->stream_builtin(x->dev, RFN_STREAM_PER_THREAD)));
    TRY(B->capture_begin(x->dev, x->s, RFN_CAPTURE_GLOBAL));
    int code = work(x, x->s, x->t);
    void *graph = NULL;
    int end = B->capture_end(x->dev, x->s, &graph);
    x->graph = graph;
    TRY(code);
    TRY(end);
    /* Its capture is over: only a fresh record makes it an event to wait for. */
    TRY(B->event_record(x->dev, x->f, x->s, 0));
    TRY(B->capture_begin(x->dev, x->t, RFN_CAPTURE_GLOBAL));
    code = B->capture_add_child(x->dev, x->t, x->graph);
    if (!code)
        code = B->event_record(x->dev, x->e, x->t, RFN_EVENT_EXTERNAL);
    if (!code)
        code = B->stream_wait(x->dev, x->t, x->f, RFN_EVENT_EXTERNAL);
    end = B->capture_end(x->dev, x->t, &graph);
    x->parent = graph;
    TRY(code);
    TRY(end);
    TRY(B->graph_instantiate(x->dev, x->parent, &x->exec));
    for (int i = 0; i < 3; i++)
    {
        TRY(B->exec_launch(x->dev, x->exec, x->s));
        TRY(B->exec_launch(x->dev, x->exec,
                           B->stream_builtin(x->dev, RFN_STREAM_LEGACY)));
    }
    /* More than the pool holds, and a stream that goes away with work in it. */
    struct rfn_set set = { x->a, BYTES, 0, RFN_MEMORY_DEVICE };
    for (int i = 0; i < 5000; i++)
        TRY(B->set_async(x->dev, x->s, &set));
    TRY(B->stream_destroy(x->dev, x->s));
    TRY(B->set_sync(x->dev, &set));
    return B->device_sync(x->dev);
}

static void undo(struct all *x)
{
    if (!x->dev)
        return;
    if (x->exec)
        B->exec_destroy(x->dev, x->exec);
    if (x->graph)
        B->graph_destroy(x->dev, x->graph);
    if (x->parent)
        B->graph_destroy(x->dev, x->parent);
    if (x->e)
        B->event_destroy(x->dev, x->e);
    if (x->f)
        B->event_destroy(x->dev, x->f);
    B->close(x->dev);
}

int main(int argc, char **argv)
{
    struct harness h;
    harness_begin(&h, "host_nomem", &argc, argv);
    struct all x = { 0 };
    int code = everything(&x);
    harness_check(&h, "with memory all succeeds", code == 0, "%d", code);
    harness_check(&h, "host functions ran", x.calls == 2 + 6, "%d calls", x.calls);
    fail_at = 0; /* no effect under a sanitizer */
    code = B->exec_launch(x.dev, x.exec, x.t);
    if (code == 0)
        code = B->device_sync(x.dev);
    harness_check(&h, "a replay allocates nothing", code == 0 && fail_at == 0, "%d",
                  code);
    fail_at = -1;
    undo(&x);
    if (!INTERPOSED)
    {
        harness_skip(&h, "every allocation fails once", "a sanitizer owns malloc");
        return harness_end(&h);
    }
    long n = 0, before = live;
    for (code = 2; code != 0 && n < 10000; n++)
    {
        memset(&x, 0, sizeof x);
        fail_at = n;
        code = everything(&x);
        long left = fail_at;
        fail_at = -1;
        undo(&x);
        if (code != 0 || left < 0)
            harness_check(&h, "a failing allocation gives code 2", code == 2,
                          "allocation %ld: %d", n, code);
        harness_check(&h, "nothing stays behind", live == before,
                      "allocation %ld: %ld more", n, live - before);
    }
    printf("%ld allocations failed, one after the other\n", n - 1);
    harness_check(&h, "the walk ends", code == 0 && n > 40, "%ld allocations", n);
    return harness_end(&h);
}
