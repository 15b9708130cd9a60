/* What a case of the replica works with; the calls are in replica_calls.c. */
#ifndef TEST_REPLICA_ENV_H
#define TEST_REPLICA_ENV_H

#include "tests/capture/replica.h"

#define REPLICA_BYTES (1 << 20)
#define REPLICA_BYTE 0x5e
#define REPLICA_WORD 0x5e5e5e5e

enum replica_seen
{
    SEEN_NOWHERE,
    SEEN_DEVICE,
    SEEN_PINNED,
    SEEN_PAGEABLE,
};

struct replica_env;

struct replica_call
{
    const char *id;
    enum replica_seen seen;
    int arg;
    int (*setup)(struct replica_env *e);
    int (*prepare)(struct replica_env *e);
    int (*run)(struct replica_env *e);
};

struct replica_env
{
    const struct replica_call *call;
    struct rfn_device *device;
    enum rfn_capture_mode mode;
    enum replica_relation relation;
    struct rfn_stream *stream, *origin, *side, *idle, *extra, *second, *made_stream;
    struct rfn_event *event, *event2, *join, *rejoin, *made_event;
    struct rfn_graph *graph, *ended;
    struct rfn_exec *exec;
    int32_t *dev_src, *dev_dst, *pin_src, *pin_dst, *page_src, *page_dst;
    int32_t *marks; /* what a launch reads: a score, a length, a request, two pages */
    void *ptr;
};

extern const struct replica_call replica_calls[];

/* CUDA's number for a status of ours: the code, or 1 where the front end refused. */
int replica_code(enum rfn_status status);
int replica_fork(struct replica_env *e, struct rfn_stream *to);

#endif
