/*
 * The probe's cases through the public API: the same call x mode x relation, on any device
 * of ours. See probe.h for what the words mean.
 */
#ifndef TEST_REPLICA_H
#define TEST_REPLICA_H

#include <refrain/refrain.h>

enum replica_relation
{
    REPLICA_SAME,
    REPLICA_SAME_BLOCKING,
    REPLICA_JOINED,
    REPLICA_OTHER,
    REPLICA_PER_THREAD,
    REPLICA_LEGACY,
    REPLICA_LEGACY_BLOCKING,
    REPLICA_THREAD,
    REPLICA_THREAD_RELAXED,
    REPLICA_SELF_RELAXED,
    REPLICA_RELATIONS
};

/* The columns of the recording that a device answers for. */
struct replica_row
{
    char rc[32], status[48], end_rc[16], nodes[64], ran_now[4];
};

extern const char *const replica_relation_name[REPLICA_RELATIONS];
extern const char *const replica_mode_name[3];

/* Whether the front end has this call; NULL-terminated list of all of them. */
int replica_knows(const char *id);
const char *replica_id(int i);

/* Runs one case on a device. */
void replica_run(struct rfn_device *device, const char *id, enum rfn_capture_mode mode,
                 enum replica_relation relation, struct replica_row *ret_row);

#endif
