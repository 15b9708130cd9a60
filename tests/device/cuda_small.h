/* The cases of cuda_small: what is built into an arena, for comparing and for timing. */
#ifndef TEST_CUDA_SMALL_H
#define TEST_CUDA_SMALL_H

#include "tests/support/rng.h"

#include <refrain/ops.h>

#define SMALL_ARENA_BYTES ((int64_t)192 << 20)
#define SMALL_ROUNDS 6 /* contents: shapes, addresses and scalars stay */

struct small_arena
{
    unsigned char *base;
    int64_t bytes;
    int64_t used;
    int64_t bytes_touched;
    struct rng rng;
};

union small_args
{
    struct rfn_kv_pack_args kv_pack;
    struct rfn_index_pack_args index_pack;
    struct rfn_index_query_pack_args index_query_pack;
    struct rfn_step_update_args step_update;
    struct rfn_mla_combine_args mla_combine;
    struct rfn_synth_fill_args synth_fill;
};

struct small_case
{
    const struct rfn_op *op;
    const char *name;
    void (*build)(const struct small_case *c, int round, struct small_arena *arena,
                  union small_args *ret);
    int64_t rows; /* T; of step_update R */
    enum rfn_format format;
    enum rfn_scale scale;
    enum rfn_floor floor_on;
    float floor;
    int32_t page_tokens;
    int64_t gap; /* elements between rows; 16 bytes of them between pages */
    int64_t heads;
    int64_t width; /* V, D; of step_update W */
    int64_t parts; /* N; of step_update next_n */
    enum rfn_dtype dtype;
    int live;  /* a live count is given; of step_update: advance */
    int plain; /* for timing: ordinary values, every row with a slot of its own */
    int other; /* sink and +inf for empty; no lse */
};

/* Launches that follow each other: a step's rows, two fills, and the pack that reads all. */
#define SMALL_LINKS 4

struct small_link
{
    const struct rfn_op *op;
    union small_args args;
};

void small_chain(int round, struct small_arena *arena,
                 struct small_link ret[SMALL_LINKS]);

extern const struct small_case small_case[];
extern const int small_cases;
extern const struct small_case small_timed_case[];
extern const int small_timed;

#endif
