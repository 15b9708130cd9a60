/*
 * The host device: streams, events, capture and graphs on the threads that call.
 *
 * What is enqueued is an item: work, and the items it waits for. There are no worker
 * threads; a call runs items while it holds the device's mutex, as the schedule says. An
 * item that has run gives its serial up, and a reference to it is then done.
 *
 *   host.c    the table, open and close          ask.c      what the rules say to a call
 *   sched.c   items, the three schedules         capture.c  begin, end, members, nodes
 *   stream.c  streams                            graph.c    graphs and executables
 *   event.c   events                             launch.c   copies, sets, calls, ops
 *   rules.c   capture_rules.def, looked up       memory.c fault.c  memory
 *   unseen.c  copies that nobody waited for      foreign.c  streams and captures of others
 *   image.c   graphs as data
 *
 * Not modelled: kernels that spin on memory, timing, occupancy. A host function that waits
 * for another thread's device call never returns, since it runs under the mutex.
 */
#ifndef RFN_RUNTIME_HOST_HOST_H
#define RFN_RUNTIME_HOST_HOST_H

#include "runtime/backend.h"
#include "runtime/capture_rules.h"
#include "runtime/host/discard.h"
#include "runtime/host/memory.h"

#include <pthread.h>
#include <stdatomic.h>

#define RFN_HOST_ITEMS 4096 /* pooled at open */
/* Argument bytes with a pooled item; more is allocated. step_update has most, 1,216. */
#define RFN_HOST_ARGS_BYTES 1536
#define RFN_HOST_OWN_DEPS 3
/* A graph with its children, and theirs: a few adds of a child to the next one's graph would
 * make more nodes than any memory holds, and all walks of the levels recurse. */
#define RFN_HOST_NODES (UINT64_C(1) << 24)
#define RFN_HOST_DEPTH 64

/* ---- work and items --------------------------------------------------------------- */

struct rfn_host_item;
struct rfn_host_event;
struct rfn_host_graph;
struct rfn_host_device;

struct rfn_host_ref
{
    struct rfn_host_item *item;
    uint64_t serial;
};

struct rfn_host_work
{
    enum rfn_node_type type;
    union
    {
        struct rfn_copy copy;
        struct rfn_set set;
        struct
        {
            void (*fn)(void *user);
            void *user;
        } call;
        struct
        {
            const struct rfn_op *op;
            void *args;
        } launch;
        struct rfn_host_event *event; /* a record or wait holds it */
        struct rfn_host_graph *child;
    };
};

struct rfn_host_item
{
    uint64_t serial; /* 0: has run */
    struct rfn_host_work work;
    struct rfn_host_ref *dep;
    uint32_t deps;
    uint32_t scan; /* dependencies before it are done */
    struct rfn_host_ref own[RFN_HOST_OWN_DEPS];
    struct rfn_host_item *prev, *next; /* pending, in order of submission; or free */
    struct rfn_host_item *below;       /* who pulls it */
    void *extra;                       /* freed when it has run */
    int pooled;
    struct rfn_site site; /* of the call that made the work */
    const void *by[2];    /* stream and executable that brought it */
};

/* ---- objects ---------------------------------------------------------------------- */

struct rfn_host_node
{
    struct rfn_host_work work;
    struct rfn_site site;
    uint32_t index; /* in the graph; dependencies have smaller ones */
    uint32_t mark;
    uint32_t deps;
    struct rfn_host_node *dep[];
};

struct rfn_host_set
{
    struct rfn_host_node **node;
    uint32_t count;
    uint32_t room;
};

/* Immutable once captured; executables and parents share it. */
struct rfn_host_graph
{
    uint32_t refs;
    uint64_t capture_id;
    struct rfn_host_set nodes;  /* in order of capture */
    uint64_t below;             /* nodes of all children, and of theirs */
    uint32_t depth;             /* levels of children; 0: it has none */
    struct rfn_host_hold *hold; /* told when it goes */
};

struct rfn_host_hold
{
    struct rfn_host_hold *next;
    void (*release)(void *user);
    void *user;
};

struct rfn_host_stream
{
    struct rfn_host_device *device;
    enum rfn_stream_kind kind; /* PER_THREAD: thread 0 stands for the caller's */
    uint64_t thread;
    uint64_t number;
    struct rfn_host_ref tail;
    int asked; /* a query said NOT_READY */
    struct rfn_host_member *member;
    struct rfn_host_stream *prev, *next;
    /* PER_THREAD, under the lock of such streams; `thread` is written under it too. */
    struct rfn_host_stream *thread_prev, *thread_next;
    _Atomic int left; /* the thread has ended */
};

struct rfn_host_event
{
    uint32_t refs; /* its user, pending records, graph nodes */
    int captured;
    uint64_t capture_id;
    struct rfn_host_set set; /* what the capture had done */
    int recorded;
    struct rfn_host_ref record;
    int64_t time_ns;
    int asked;
};

/* A stream in a capture. It stays when the stream is destroyed: the fork is not joined. */
struct rfn_host_member
{
    struct rfn_host_capture *capture;
    struct rfn_host_stream *stream;
    struct rfn_host_set set; /* what its next node depends on */
    struct rfn_host_member *next;
};

struct rfn_host_capture
{
    struct rfn_host_device *device;
    uint64_t id;
    enum rfn_capture_mode mode;
    uint64_t thread;
    enum rfn_stream_kind kind; /* of the origin */
    _Atomic int status;        /* written under the lock of the open captures */
    char by[128];              /* who invalidated it */
    struct rfn_host_member *origin;
    struct rfn_host_member *members; /* the origin first */
    struct rfn_host_graph *graph;
    struct rfn_host_capture *next; /* open captures of the process */
};

struct rfn_host_exec
{
    struct rfn_host_graph *graph; /* held: node addresses stay unique */
    uint32_t items;
    struct rfn_host_item *item;
    uint32_t *edges; /* a count for each item */
    uint32_t *edge;  /* indices of items, RFN_HOST_START for the launch's start */
    struct rfn_host_ref *dep;    /* storage behind the items */
    struct rfn_host_ref *all;    /* the last launch's end waits for these */
    struct rfn_host_node **from; /* the captured node; NULL inside children */
    void **next_args;            /* exec_update's, copied in at launch; NULL: none */
    int *dirty;
    void *args; /* two for each op launch: what runs, what comes next */
    struct rfn_host_ref last;
    struct rfn_host_exec *retired;
};

#define RFN_HOST_START UINT32_MAX

struct rfn_host_chunk;

struct rfn_host_device
{
    pthread_mutex_t mutex;
    struct rfn_host_memory *memory;
    int check;
    enum rfn_host_sched sched;
    uint64_t random;
    struct rfn_fault fault;
    struct rfn_host_env env;

    uint64_t serial;
    uint32_t pending_count;
    struct rfn_host_item *pending, *pending_end;
    struct rfn_host_item *free;
    uint32_t free_count;
    struct rfn_host_chunk *chunks;
    void *scratch; /* arguments with translated addresses */
    size_t scratch_bytes;
    struct rfn_host_exec *retired;
    struct rfn_host_unseen *unseen; /* NULL without the fault handler */

    uint64_t numbers;
    struct rfn_host_stream legacy;
    struct rfn_host_stream per_thread; /* stands for the caller's own */
    struct rfn_host_stream orphans;    /* work of blocking streams that were destroyed */
    struct rfn_host_stream *streams;   /* created and per-thread ones */
};

/* ---- host.c: every call goes through these ---------------------------------------- */

uint64_t rfn_host_thread(void); /* small number, unique in the process */

/* Locks; 800 inside a host function. leave() runs what fifo or the random schedule runs,
 * unlocks and returns the code. */
int rfn_host_enter(struct rfn_host_device *d);
int rfn_host_leave(struct rfn_host_device *d, int code);
/* 1 while the thread runs a host function; returns what it was. */
int rfn_host_inside(int inside);
/* Writes why() and returns the code. */
int rfn_host_fail(int code, const char *format, ...) RFN_PRINTF(2, 3);
enum rfn_capture_mode rfn_host_mode(void);
/* Early accesses to pinned memory, of rfn_host_memory_touches. */
int rfn_host_touches(void *impl, struct rfn_touch *ret, int max);

/* ---- sched.c ---------------------------------------------------------------------- */

int rfn_host_done(struct rfn_host_ref ref);
int rfn_host_pool_grow(struct rfn_host_device *d, uint32_t items);
void rfn_host_pool_close(struct rfn_host_device *d);
/* Room for n pooled items, so that taking them cannot fail. */
int rfn_host_reserve(struct rfn_host_device *d, uint32_t n);
struct rfn_host_item *rfn_host_take(struct rfn_host_device *d);
void rfn_host_depend(struct rfn_host_item *item, struct rfn_host_ref ref);
/* Makes it pending; dependencies are set. */
struct rfn_host_ref rfn_host_post(struct rfn_host_device *d, struct rfn_host_item *item);
/* Where the arguments of a pooled item's op go. */
void *rfn_host_item_args(struct rfn_host_item *item);
void rfn_host_pull(struct rfn_host_device *d, struct rfn_host_ref ref);
void rfn_host_pull_one(struct rfn_host_device *d, struct rfn_host_ref ref);
void rfn_host_drain(struct rfn_host_device *d);
void rfn_host_random_step(struct rfn_host_device *d);

/* ---- stream.c --------------------------------------------------------------------- */

struct rfn_host_stream *rfn_host_resolve(struct rfn_host_device *d, void *stream);
int rfn_host_blocking(const struct rfn_host_stream *s);
/* Room for what the stream's next n items need, so that submitting cannot fail. */
int rfn_host_stream_reserve(struct rfn_host_device *d, struct rfn_host_stream *s,
                            uint32_t n);
/* Enqueues the work on a stream, behind `after` as well. `extra` is freed when it has run,
 * also on failure. Small arguments of an op are copied, others must lie in `extra`. */
int rfn_host_submit(struct rfn_host_device *d, struct rfn_host_stream *s,
                    const struct rfn_host_work *work, struct rfn_host_ref after,
                    void *extra, struct rfn_host_ref *ret);
/* Frees them all. */
void rfn_host_streams_close(struct rfn_host_device *d);
/* Waits for what a sync of the stream waits for. */
void rfn_host_stream_pull(struct rfn_host_device *d, struct rfn_host_stream *s);
int rfn_host_stream_create(void *impl, enum rfn_stream_kind kind, void **ret);
void *rfn_host_stream_builtin(void *impl, enum rfn_stream_kind kind);
int rfn_host_stream_destroy(void *impl, void *stream);
int rfn_host_stream_sync(void *impl, void *stream);
int rfn_host_stream_query(void *impl, void *stream);
int rfn_host_stream_wait(void *impl, void *stream, void *event, uint32_t flags);

/* ---- foreign.c -------------------------------------------------------------------- */

int rfn_host_stream_import(void *impl, void *native, enum rfn_stream_kind *ret_kind,
                           void **ret);
int rfn_host_capture_hold(void *impl, void *stream, void (*release)(void *user),
                          void *user);
void rfn_host_holds_release(struct rfn_host_graph *g);
void *rfn_host_native(void *object);
int rfn_host_supports(void *impl, const struct rfn_op *op, const void *args);

/* ---- event.c ---------------------------------------------------------------------- */

void rfn_host_event_drop(struct rfn_host_event *e);
/* A record is posted, and has happened. */
void rfn_host_event_mark(struct rfn_host_event *e, struct rfn_host_ref ref);
void rfn_host_event_happen(struct rfn_host_event *e, uint64_t serial);

int rfn_host_event_create(void *impl, void **ret);
int rfn_host_event_destroy(void *impl, void *event);
int rfn_host_event_record(void *impl, void *event, void *stream, uint32_t flags);
int rfn_host_event_sync(void *impl, void *event);
int rfn_host_event_query(void *impl, void *event);
int rfn_host_event_elapsed(void *impl, void *start, void *end, float *ret_ms);

/* ---- ask.c ------------------------------------------------------------------------ */

/* The open captures of the process. find: of this device; id 0 is any. */
void rfn_host_capture_list(struct rfn_host_capture *c);
void rfn_host_capture_unlist(struct rfn_host_capture *c);
struct rfn_host_capture *rfn_host_capture_find(struct rfn_host_device *d, uint64_t id);

enum rfn_relation rfn_host_relation(struct rfn_host_device *d, struct rfn_host_stream *s);
/* Asks the rules. 0: go on, and where *ret_member is not NULL the call becomes a node of
 * that capture; else the call's code, and captures were invalidated as the row says. */
int rfn_host_ask(struct rfn_host_device *d, enum rfn_call call, struct rfn_host_stream *s,
                 struct rfn_host_event *e, uint32_t flags,
                 struct rfn_host_member **ret_member);
/* The same where the caller knows more of the relation. */
int rfn_host_ask_as(struct rfn_host_device *d, enum rfn_call call,
                    enum rfn_relation relation, struct rfn_host_stream *s,
                    struct rfn_host_event *e, uint32_t flags,
                    struct rfn_host_member **ret_member);

/* ---- capture.c -------------------------------------------------------------------- */

/* Appends a node after what the member's last node was; owns what `work` points to only
 * on success. */
int rfn_host_append(struct rfn_host_member *m, const struct rfn_host_work *work,
                    struct rfn_host_node **ret);
/* Draws a stream into the capture of a captured event, or orders it behind the event. */
int rfn_host_join(struct rfn_host_stream *s, struct rfn_host_event *e);
int rfn_host_snapshot(struct rfn_host_member *m, struct rfn_host_event *e);
/* The stream goes away. */
void rfn_host_capture_leave(struct rfn_host_stream *s);
void rfn_host_captures_close(struct rfn_host_device *d);

int rfn_host_capture_begin(void *impl, void *stream, enum rfn_capture_mode mode);
int rfn_host_capture_end(void *impl, void *stream, void **ret_graph);
int rfn_host_capture_query(void *impl, void *stream, struct rfn_capture_info *ret);
int rfn_host_capture_add_child(void *impl, void *stream, void *graph);

/* ---- graph.c ---------------------------------------------------------------------- */

/* Room for n more nodes. */
int rfn_host_set_reserve(struct rfn_host_set *set, uint32_t n);
void rfn_host_graph_drop(struct rfn_host_graph *g);
void rfn_host_exec_free(struct rfn_host_exec *x);

int rfn_host_graph_count(void *impl, void *graph, int32_t node[RFN_NODE_TYPES]);
int rfn_host_graph_nodes(void *impl, void *graph, struct rfn_native_node *ret,
                         int32_t *nodes);
int rfn_host_graph_destroy(void *impl, void *graph);
int rfn_host_graph_instantiate(void *impl, void *graph, void **ret_exec);
int rfn_host_exec_launch(void *impl, void *exec, void *stream);
int rfn_host_exec_upload(void *impl, void *exec, void *stream);
int rfn_host_exec_update(void *impl, void *exec, void *node, const struct rfn_op *op,
                         const void *args);
int rfn_host_exec_destroy(void *impl, void *exec);

/* ---- image.c ---------------------------------------------------------------------- */

int rfn_host_graph_image(void *impl, void *graph, struct rfn_image_store *store,
                         struct rfn_image_raw *ret);

/* ---- unseen.c: copies from and to pinned memory ------------------------------------ */

/* With the fault handler such memory stays protected from the call until the host has waited
 * for the copy: it may be done before, as under fifo, yet a program must not count on it. Who
 * may be waited for instead - streams behind it, events, executables - is handed on here as
 * calls order them; where that is not known exactly, a copy rather counts as waited for. All
 * are without effect without the handler. */
int rfn_host_unseen_open(struct rfn_host_device *d);
void rfn_host_unseen_close(struct rfn_host_device *d);
/* The item is pending; has run. */
void rfn_host_pend(struct rfn_host_device *d, const struct rfn_host_item *item);
void rfn_host_settle(struct rfn_host_device *d, const struct rfn_host_item *item);
/* `to` comes behind all that `from` does. */
void rfn_host_follow(struct rfn_host_device *d, const void *from, const void *to);
/* Forgets what it stood for. */
void rfn_host_leave_unseen(struct rfn_host_device *d, const void *who);
/* The host has waited for it; NULL: for all. */
void rfn_host_saw(struct rfn_host_device *d, const void *who);
void rfn_host_saw_stream(struct rfn_host_device *d, const struct rfn_host_stream *s);

/* ---- launch.c --------------------------------------------------------------------- */

void rfn_host_run(struct rfn_host_device *d, struct rfn_host_item *item);
int rfn_host_scratch(struct rfn_host_device *d, size_t bytes);

int rfn_host_copy_sync(void *impl, const struct rfn_copy *copy);
int rfn_host_copy_async(void *impl, void *stream, const struct rfn_copy *copy);
int rfn_host_set_sync(void *impl, const struct rfn_set *set);
int rfn_host_set_async(void *impl, void *stream, const struct rfn_set *set);
int rfn_host_host_call(void *impl, void *stream, void (*fn)(void *), void *user);
int rfn_host_launch(void *impl, void *stream, const struct rfn_op *op, const void *args,
                    void **ret_node);

#endif
