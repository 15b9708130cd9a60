/* Layers of one shape for `refrain bench`: caches, inputs and outputs with content, and the
 * attention object that they are bound to. */
#ifndef TOOLS_BENCH_CHAIN_H
#define TOOLS_BENCH_CHAIN_H

#include "tools/bench.h"

#define BENCH_SETS_MAX 64

/* What one layer reads and writes, in one allocation. */
struct bench_set
{
    void *memory;
    struct rfn_layer_caches caches;
    struct rfn_layer_io io;
};

struct bench_chain_desc
{
    const struct bench_pass *pass;
    const struct rfn_geometry *geometry;
    int32_t layers;
    int32_t sets; /* layer i uses set i % sets */
    int32_t requests;
    int32_t next_n;
    int32_t context;  /* of each request now */
    int32_t capacity; /* tokens that it can grow to */
};

struct bench_chain
{
    struct bench_chain_desc desc;
    struct rfn_geometry geometry; /* with that many layers */
    int64_t table_pages;
    struct bench_set set[BENCH_SETS_MAX];
    struct rfn_attention *attention;
    int32_t *lens;
    int32_t *table;
    struct rfn_step step;     /* all requests */
    struct rfn_bucket bucket; /* of that step */
};

/* Device memory of one set. */
int64_t bench_set_bytes(const struct bench_chain_desc *desc);

/* Allocates and fills everything, plans the step and updates: the layers can run. Close it
 * in any case. */
enum rfn_status bench_chain_open(const struct bench_chain_desc *desc,
                                 struct bench_chain *chain);
enum rfn_status bench_chain_close(struct bench_chain *chain);

/* Captures the layers, behind `updates` step updates. */
enum rfn_status bench_chain_capture(struct bench_chain *chain, int32_t updates,
                                    int32_t layers, struct rfn_graph **ret_graph);

/* Milliseconds between events around a launch; waits for it. */
enum rfn_status bench_time_launch(const struct bench_pass *pass, struct rfn_exec *exec,
                                  float *ret_ms);

#define BENCH_TRY(call)                                                                  \
    do                                                                                   \
    {                                                                                    \
        enum rfn_status tried_ = (call);                                                 \
        if (tried_ != RFN_OK)                                                            \
        {                                                                                \
            return tried_;                                                               \
        }                                                                                \
    } while (0)

#endif
