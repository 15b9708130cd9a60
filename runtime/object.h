/*
 * The objects behind the public handles, and how a handle is told from a destroyed or
 * foreign pointer: all objects live in one static table, so looking at any address is safe
 * and takes no lock. Slots are re-used oldest first.
 */
#ifndef RFN_RUNTIME_OBJECT_H
#define RFN_RUNTIME_OBJECT_H

#include "runtime/backend.h"
#include "runtime/memory.h"
#include "runtime/observe.h"
#include "runtime/range.h"

#include <pthread.h>
#include <stdatomic.h>

enum rfn_object_type
{
    RFN_OBJECT_NONE = 0,
    RFN_OBJECT_DEVICE,
    RFN_OBJECT_STREAM,
    RFN_OBJECT_EVENT,
    RFN_OBJECT_GRAPH,
    RFN_OBJECT_EXEC,
    RFN_OBJECT_TYPES
};

struct rfn_object
{
    _Atomic uint32_t type; /* RFN_OBJECT_NONE: the slot is free */
    uint32_t next_free;
    uint64_t serial; /* counts up a device; "stream 3" in messages */
    struct rfn_device *device;
};

struct rfn_stream
{
    struct rfn_object object;
    enum rfn_stream_kind kind;
    void *native;
    int foreign;                    /* imported: never destroyed by us */
    uint64_t thread;                /* that imported it */
    struct rfn_stream *next_import; /* in the device's list */
};

struct rfn_event
{
    struct rfn_object object;
    void *native;
};

/* An op launch of a captured graph. */
struct rfn_recorded
{
    const struct rfn_op *op;
    void *node;
    int32_t ranges; /* that were open around it */
    struct rfn_range range[RFN_RANGE_DEPTH];
    const void *table; /* its block table; NULL: it has none */
    int64_t table_stride;
    struct rfn_pins pins;
};

struct rfn_body_plan; /* runtime/guard.h */

/* What a capture gathers and a graph owns; executables share it, so that a graph can be
 * destroyed while they live. */
struct rfn_body
{
    struct rfn_body *next; /* in the device's list */
    /* While the capture is open; of somebody else's the stream that it was seen on last. */
    struct rfn_stream *origin;
    int foreign; /* begun by somebody else: no graph of it comes here */
    int told;    /* the observer knows that it is open */
    _Atomic int
        over;        /* of a foreign one nothing is left, its graph and executables too */
    uint64_t thread; /* that began it */
    uint64_t region; /* in which it began, 0: none */
    int invalidated; /* and the observer was told */
    void *native;    /* the backend's graph, once it is there */
    uint64_t capture_id;
    int32_t refs;
    char name[64];
    struct rfn_site begun;
    struct rfn_recorded *launch;
    int32_t launches;
    int32_t capacity;
    struct rfn_pins pins;       /* of copies, sets and child graphs */
    struct rfn_body_plan *plan; /* what its updates run, mostly one or none */
};

struct rfn_graph
{
    struct rfn_object object;
    struct rfn_body *body;
};

struct rfn_exec
{
    struct rfn_object object;
    struct rfn_exec *next; /* in the device's list */
    void *native;
    struct rfn_body *body;
    struct rfn_pins *launch; /* what each launch touches now */
    _Atomic int updated;     /* arguments were replaced */
    struct rfn_pins pins;
    uint64_t epoch; /* device epoch at which all pins were last seen live */
    int of_ladder;  /* which alone destroys it */
};

struct rfn_device
{
    struct rfn_object object;
    const struct rfn_backend *backend;
    void *impl;
    const struct rfn_observer *_Atomic observer;
    struct rfn_memory memory;
    struct rfn_stream *legacy;
    struct rfn_stream *per_thread;
    _Atomic uint64_t serials;
    _Atomic int32_t alive[RFN_OBJECT_TYPES];
    int32_t ordinal;
    int check;
    pthread_mutex_t lock; /* bodies, execs, imported, first_cause */
    struct rfn_body *bodies;
    struct rfn_stream *imported;
    _Atomic int32_t imports;      /* how many those are */
    _Atomic int32_t foreign_open; /* foreign bodies with an origin */
    struct rfn_exec *execs;
    _Atomic int lost; /* code of the first cause */
    char first_cause[384];
    const struct rfn_op *_Atomic last_op; /* launched outside captures; NULL: it was */
    _Atomic uint64_t last_capture;        /* the graph of this one, 0: nothing yet */
};

/* A fresh object, NULL when the table is full (the error line is written). The device's
 * count of living objects goes up. */
void *rfn_object_create(enum rfn_object_type type, struct rfn_device *device);
void rfn_object_destroy(void *object);

/* The serial of a live stream of the device with this handle, 0 when there is none. */
uint64_t rfn_object_stream_serial(const struct rfn_device *device, const void *native);

/* RFN_OK when `object` is a live object of `type`; else the line says what it is. */
enum rfn_status rfn_object_check(const void *object, enum rfn_object_type type,
                                 const char *what);

#endif
