/* For planners: parameters of a kernel node, one call a formal parameter, in order. */
#ifndef RFN_KERNELS_CUDA_PLAN_CUH
#define RFN_KERNELS_CUDA_PLAN_CUH

#include <refrain/op.h>
#include <string.h>

/* Empty node with a block and a grid of one dimension. More blocks than a grid can have stay
 * too many: the device refuses them. */
static inline struct rfn_launch_node *rfn_plan_node(struct rfn_launch *launch,
                                                    const char *name, const void *kernel,
                                                    int64_t grid, uint32_t block)
{
    struct rfn_launch_node *n = &launch->node[launch->nodes++];
    n->name = name;
    n->kernel = kernel;
    n->grid[0] = grid < UINT32_MAX ? (uint32_t)grid : UINT32_MAX;
    n->block[0] = block;
    n->grid[1] = n->grid[2] = n->block[1] = n->block[2] = 1;
    n->shared_bytes = 0;
    n->programmatic = 0;
    n->params = 0;
    return n;
}

/* A pointer that is no operand's (where faults are noted, a name) is the same in every capture
 * of this process and another one on the next rank. */
template <class T> constexpr bool rfn_plan_is_address = false;
template <class T> constexpr bool rfn_plan_is_address<T *> = true;

/* Each parameter starts a word; the bytes behind a short one are 0, so that nodes can be
 * compared word by word. */
template <class T>
static inline void rfn_plan_param(struct rfn_launch_node *n, const char *name,
                                  enum rfn_param_role role, T value)
{
    const struct rfn_param *last = n->params ? &n->param[n->params - 1] : NULL;
    uint32_t word = last ? (last->offset + last->bytes + 7u) / 8u : 0;
    for (uint32_t i = 0; i < (sizeof(T) + 7) / 8; i++)
        n->words[word + i] = 0;
    memcpy(&n->words[word], &value, sizeof(T));
    struct rfn_param p = {};
    p.name = name;
    p.offset = (uint16_t)(8 * word);
    p.bytes = (uint16_t)sizeof(T);
    p.role =
        (uint8_t)(role == RFN_PARAM_CONST && rfn_plan_is_address<T> ? RFN_PARAM_DYNAMIC
                                                                    : role);
    n->param[n->params++] = p;
}

#endif
