/*
 * A group of ranks for tests: threads of one process, which reduce through a barrier. A rank
 * that is left alone gives up, so that a test ends where the library would hang.
 */
#ifndef TEST_GROUP_H
#define TEST_GROUP_H

#include <pthread.h>
#include <refrain/ranks.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GROUP_RANKS 2
#define GROUP_VALUES 4096
#define GROUP_SECONDS 60

struct group
{
    pthread_mutex_t lock;
    pthread_cond_t all;
    int arrived;
    unsigned long rounds;
    int32_t count;
    int32_t counts_differ; /* ranks reduced vectors of other lengths */
    enum rfn_status fails; /* of every rank, until it is taken back */
    int64_t value[GROUP_VALUES];
    int64_t result[GROUP_VALUES];
};

static inline void group_open(struct group *g)
{
    memset(g, 0, sizeof *g);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->all, NULL);
}

static inline void group_close(struct group *g)
{
    pthread_cond_destroy(&g->all);
    pthread_mutex_destroy(&g->lock);
}

static inline void group_join(struct group *g, const int64_t *values, int32_t count)
{
    if (count > GROUP_VALUES)
        abort();
    if (!g->arrived)
    {
        g->count = count;
        memcpy(g->value, values, (size_t)count * sizeof *values);
    }
    else if (count != g->count)
        g->counts_differ++;
    else
        for (int32_t i = 0; i < count; i++)
            g->value[i] = values[i] > g->value[i] ? values[i] : g->value[i];
}

/* An rfn_reduce_fn; ctx is the group. */
static inline enum rfn_status group_max(void *ctx, int64_t *values, int32_t count)
{
    struct group *g = ctx;
    struct timespec end;
    int late = 0;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += GROUP_SECONDS;
    pthread_mutex_lock(&g->lock);
    unsigned long round = g->rounds;
    group_join(g, values, count);
    if (++g->arrived == GROUP_RANKS)
    {
        memcpy(g->result, g->value, sizeof g->result);
        g->arrived = 0;
        g->rounds++;
        pthread_cond_broadcast(&g->all);
    }
    /* The result stands until all of them have come again. */
    while (g->rounds == round && !late)
        late = pthread_cond_timedwait(&g->all, &g->lock, &end) != 0;
    memcpy(values, g->result, (size_t)count * sizeof *values);
    enum rfn_status status = late || g->counts_differ ? RFN_TIMEOUT : g->fails;
    pthread_mutex_unlock(&g->lock);
    return status;
}

/* Runs fn(&rank[i]) of all ranks, each in a thread. */
static inline void group_run(void *(*fn)(void *), void *ranks, size_t bytes)
{
    pthread_t thread[GROUP_RANKS];
    for (int i = 0; i < GROUP_RANKS; i++)
        if (pthread_create(&thread[i], NULL, fn, (char *)ranks + (size_t)i * bytes))
            abort();
    for (int i = 0; i < GROUP_RANKS; i++)
        pthread_join(thread[i], NULL);
}

#endif
