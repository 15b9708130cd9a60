/*
 * The bounds that step_update writes and the ops behind it check: what a launch was made for,
 * field by field, against the header. Read by C and by CUDA.
 */
#ifndef RFN_KERNELS_BOUNDS_H
#define RFN_KERNELS_BOUNDS_H

#include <refrain/ops.h>

#define RFN_BOUND_ANY (-1) /* a field that one side cannot say */
#define RFN_BOUND_NAME_BYTES 24

#ifdef __cplusplus
extern "C" {
#endif

/* "bounds.rows": operands of faults. The device finds a name by its address. */
extern const char rfn_bound_name[RFN_BOUNDS][RFN_BOUND_NAME_BYTES];

/* Of a consumer's own arguments: rows and next_n contradict neither T nor each other. */
enum rfn_status rfn_bounds_check(const struct rfn_bounds *bounds, int64_t T);

struct rfn_bound_set
{
    int64_t field[RFN_BOUNDS];
};

/* Host twins, in check mode only: 1 where the header is not given or agrees. 0: the fault
 * names the first field that does not, and the op must not touch anything. */
int rfn_bounds_hold(const struct rfn_bounds *bounds, const struct rfn_bound_set *own,
                    const char *op, struct rfn_fault *fault);

#ifdef __cplusplus
}
#endif

static inline struct rfn_bound_set rfn_bounds_none(void)
{
    struct rfn_bound_set set;
    for (int i = 0; i < RFN_BOUNDS; i++)
        set.field[i] = RFN_BOUND_ANY;
    set.field[RFN_BOUND_MARK] = RFN_BOUNDS_MARK;
    return set;
}

/* A stride says nothing where there is one row. */
static inline void rfn_bounds_set_table(struct rfn_bound_set *set,
                                        const struct rfn_tensor *table)
{
    set->field[RFN_BOUND_TABLE_WIDTH] = table->shape[1];
    set->field[RFN_BOUND_TABLE_STRIDE] =
        table->shape[0] > 1 ? table->stride[0] : RFN_BOUND_ANY;
}

static inline void rfn_bounds_set_pages(struct rfn_bound_set *set, int64_t page_tokens,
                                        int64_t pages)
{
    set->field[RFN_BOUND_PAGE_TOKENS] = page_tokens;
    set->field[RFN_BOUND_PAGES] = pages;
}

/* What step_update writes. */
static inline struct rfn_bound_set rfn_bounds_of_step(
    const struct rfn_step_update_args *a)
{
    struct rfn_bound_set set = rfn_bounds_none();
    set.field[RFN_BOUND_REQUESTS] = a->lens.shape[0];
    set.field[RFN_BOUND_NEXT_N] = a->next_n;
    set.field[RFN_BOUND_ROWS] = a->request.shape[0];
    rfn_bounds_set_table(&set, &a->table);
    rfn_bounds_set_pages(&set, a->page_tokens, a->pages);
    return set;
}

/* What a launch of T rows was made for; table and pages are the op's to add. */
static inline struct rfn_bound_set rfn_bounds_of_rows(const struct rfn_bounds *bounds,
                                                      int64_t T)
{
    struct rfn_bound_set set = rfn_bounds_none();
    set.field[RFN_BOUND_ROWS] = bounds->rows ? bounds->rows : T;
    if (bounds->next_n)
    {
        set.field[RFN_BOUND_NEXT_N] = bounds->next_n;
        set.field[RFN_BOUND_REQUESTS] = set.field[RFN_BOUND_ROWS] / bounds->next_n;
    }
    return set;
}

/* The same of each op: for its host twin and its planner. */
static inline struct rfn_bound_set rfn_bounds_of_pool(const struct rfn_bounds *bounds,
                                                      int64_t T,
                                                      const struct rfn_pool *pool)
{
    struct rfn_bound_set set = rfn_bounds_of_rows(bounds, T);
    rfn_bounds_set_pages(&set, pool->page_tokens, pool->pages);
    return set;
}

static inline struct rfn_bound_set rfn_bounds_of_logits(
    const struct rfn_index_logits_args *a)
{
    struct rfn_bound_set set = rfn_bounds_of_pool(&a->bounds, a->q8.shape[0], &a->pool);
    rfn_bounds_set_table(&set, &a->table);
    return set;
}

static inline struct rfn_bound_set rfn_bounds_of_topk(const struct rfn_index_topk_args *a)
{
    struct rfn_bound_set set = rfn_bounds_of_rows(&a->bounds, a->logits.shape[0]);
    if (a->slots.data)
    {
        rfn_bounds_set_table(&set, &a->table);
        rfn_bounds_set_pages(&set, a->page_tokens, a->pages);
    }
    return set;
}

#endif
