/*
 * What the op descriptions of this folder share: CUDA planners, pool addressing, live rows,
 * and the noting of bad indices in check mode.
 *
 * Written exception to the arrows: status codes and their error line come from runtime/.
 */
#ifndef RFN_KERNELS_OP_H
#define RFN_KERNELS_OP_H

#include "runtime/error.h"

#include <refrain/ops.h>
#include <refrain/plan.h>
#include <stddef.h>

#define RFN_COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum rfn_status rfn_index_gather_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret);
enum rfn_status rfn_index_logits_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret);
enum rfn_status rfn_index_topk_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret);
enum rfn_status rfn_index_pack_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret);
enum rfn_status rfn_index_query_pack_cuda(const void *args,
                                          const struct rfn_plan_env *env,
                                          struct rfn_launch *ret);
enum rfn_status rfn_kv_pack_cuda(const void *args, const struct rfn_plan_env *env,
                                 struct rfn_launch *ret);
enum rfn_status rfn_mla_combine_cuda(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret);
enum rfn_status rfn_prefix_lists_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret);
enum rfn_status rfn_sparse_mla_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret);
enum rfn_status rfn_split_lists_cuda(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret);
enum rfn_status rfn_step_update_cuda(const void *args, const struct rfn_plan_env *env,
                                     struct rfn_launch *ret);
enum rfn_status rfn_synth_fill_cuda(const void *args, const struct rfn_plan_env *env,
                                    struct rfn_launch *ret);

/* Bytes between pages: the view's, or dense. */
static inline int64_t rfn_pool_stride(const struct rfn_pool *pool)
{
    return pool->page_stride_bytes
               ? pool->page_stride_bytes
               : rfn_format_page_bytes(pool->format, pool->page_tokens);
}

/* Slots of the whole pool; a slot at or past it is out of bounds. */
static inline int64_t rfn_pool_slots(const struct rfn_pool *pool)
{
    return pool->pages * pool->page_tokens;
}

/* Where one token lives: its data row, and its scales (inside the row unless planar). */
struct rfn_token
{
    unsigned char *data;
    unsigned char *scales;
};

static inline struct rfn_token rfn_page_token(const struct rfn_pool *pool,
                                              const struct rfn_format_info *info,
                                              int64_t stride, int64_t page,
                                              int64_t offset)
{
    unsigned char *base = (unsigned char *)pool->data + page * stride;
    unsigned char *data = base + offset * info->data_bytes;
    unsigned char *scales = data + info->scale_offset;
    if (info->planar)
        scales = base + (int64_t)pool->page_tokens * info->data_bytes +
                 offset * info->scale_bytes + info->scale_offset;
    return (struct rfn_token) { data, scales };
}

static inline struct rfn_token rfn_pool_token(const struct rfn_pool *pool,
                                              const struct rfn_format_info *info,
                                              int64_t stride, int64_t slot)
{
    return rfn_page_token(pool, info, stride, slot / pool->page_tokens,
                          slot % pool->page_tokens);
}

/* Rows that are alive: all of them when no count is given. Read when the op runs. */
static inline int64_t rfn_live_rows(const struct rfn_tensor *live, int64_t rows)
{
    if (!live->data)
        return rows;
    int64_t n = *(const int32_t *)live->data;
    return n < 0 ? 0 : n < rows ? n : rows;
}

/* Notes a bad value. `seen` belongs to one run of an op: the first of the smallest row
 * stays, whatever the threads do, as long as one thread goes through a row in order. May be
 * NULL. */
void rfn_fault_note(struct rfn_fault *seen, const char *op, const char *operand,
                    int64_t row, int64_t column, int64_t value);

/* After the region: adds what one run has seen to what was there before it. */
void rfn_fault_merge(struct rfn_fault *fault, const struct rfn_fault *seen);

/* Edits (insert, delete, replace) from a name of anybody's to a known one of up to 64
 * bytes: the least names the nearest. */
int rfn_name_distance(const char *a, const char *b);

#endif
