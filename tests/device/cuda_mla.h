/* Inputs of sparse_mla on both sides, planners and times, for cuda_mla.c. */
#ifndef TEST_CUDA_MLA_H
#define TEST_CUDA_MLA_H

#define RFN_NO_SITES
#include "tests/support/rng.h"

#include <refrain/device.h>
#include <refrain/ops.h>
#include <stdio.h>

#define POISON 0x5e
#define KEYS 192  /* different ones; a pool repeats them */
#define NAN_KEY 0 /* this one has a NaN */
#define HOLE 5    /* every fifth slot of a pool is all NaN: nobody may load it */
#define MUST(call) must((call), #call, __LINE__)

extern struct rfn_device *device;
extern struct rfn_stream *stream;
extern uint64_t base_seed;

/* Ends the program with the library's error line unless all is well. */
void must(enum rfn_status status, const char *call, int line);

/* A GPU that launches are planned for. */
struct gpu
{
    const char *name;
    int sm_arch; /* 0: what this GPU can */
    int shared_bytes;
    int sm_count; /* 0: as many as this GPU */
};

#define GPUS 4
extern const struct gpu gpus[GPUS];
extern const struct gpu *gpu;
extern struct rfn_device_info info;
extern struct rfn_op op; /* sparse_mla, planned for `gpu` */

void plan_ready(void);
struct rfn_launch plan_here(const struct rfn_sparse_mla_args *a);
struct rfn_graph *capture(const struct rfn_sparse_mla_args *a, int times);

struct buffer
{
    void *host;
    void *device;
    int64_t bytes;
};

struct want
{
    enum rfn_format format[2];
    int T, H, K[2]; /* K[1] == 0: one source */
    int lens, sink, split, live, empty_positive, no_lse;
    int gap;      /* elements between rows, a multiple of 8 */
    int page_gap; /* bytes between pages */
    int page_tokens, pages;
};

struct shape
{
    struct want want;
    int qk, latent;
    int64_t q_row, out_row, index_row[2];
    struct buffer q, rope, live, pool[2], indices[2], lens[2], sink, out, lse;
};

/* Zeroed on the host, unwritten on the device; ends the program without memory. */
struct buffer buffer_of(int64_t bytes);
void buffer_free(struct buffer *b);
void upload(const struct buffer *b);
void download(const struct buffer *b, void *ret);

/* Views of either side. */
struct rfn_sparse_mla_args args_of(const struct shape *s, int on_device);

/* Allocates, and fills and uploads the pools. */
struct shape shape_of(const struct want *want);
void shape_free(struct shape *s);

/* Queries and indices of one row; what they are like follows from row and round. */
void fill_row(struct shape *s, int t, int round, struct rng *r);

/* All that an op reads but the pools, on the host. */
void fill(struct shape *s, int round);

/* All but the pools, the outputs poisoned. */
void upload_all(const struct shape *s);

/* Times of a format, printed and, where `json` is, written; `profile`: a few launches only. */
extern int timed_invariant;
void measure_format(enum rfn_format format, FILE *json, int *first, int profile);

#endif
