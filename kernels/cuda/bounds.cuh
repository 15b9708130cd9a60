/* The header that step_update writes, as kernels check it in check mode. */
#ifndef RFN_KERNELS_CUDA_BOUNDS_CUH
#define RFN_KERNELS_CUDA_BOUNDS_CUH

#include "kernels/bounds.h"
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/plan.cuh"
#include "kernels/cuda/scan.cuh"

/* By all threads of a block, which agree: whether the header is `own`. A lane a field; `own` is
 * the kernel's parameter itself, which is read where it stands. */
static __device__ __forceinline__ bool rfn_bounds_agree(const int64_t *header,
                                                        const struct rfn_bound_set &own,
                                                        struct rfn_fault *fault,
                                                        const char *op, const char *names)
{
    uint32_t lane = threadIdx.x % 32;
    int64_t due = lane < RFN_BOUNDS ? own.field[lane] : RFN_BOUND_ANY;
    int64_t is = due != RFN_BOUND_ANY ? header[lane] : RFN_BOUND_ANY;
    uint32_t differ = __ballot_sync(RFN_ALL_LANES, is != RFN_BOUND_ANY && is != due);
    if (differ && blockIdx.x == 0 && threadIdx.x + 1 == (uint32_t)__ffs((int)differ))
        rfn_fault_note_cuda(fault, op, names + lane * RFN_BOUND_NAME_BYTES, 0, due, is);
    return !differ;
}

/* The same as a call: in line it costs some kernels registers that they need all the time. */
static __device__ __noinline__ bool rfn_bounds_agree_call(const int64_t *header,
                                                          const struct rfn_bound_set &own,
                                                          struct rfn_fault *fault,
                                                          const char *op,
                                                          const char *names)
{
    return rfn_bounds_agree(header, own, fault, op, names);
}

/* Behind rfn_edge_wait(), by all threads, which agree: whether the kernel may go on. `names` is
 * rfn_bound_name on the host, whose addresses alone matter. Outside check mode `header` is NULL:
 * one branch, on a parameter that stands among those that are needed next. */
static __device__ __forceinline__ bool rfn_bounds_hold_cuda(
    const int64_t *header, const struct rfn_bound_set &own, struct rfn_fault *fault,
    const char *op, const char *names)
{
    return __builtin_expect(header == NULL, 1) ||
           rfn_bounds_agree_call(header, own, fault, op, names);
}

/* For planners, of a kernel that checks: the header, behind `live`; and the last two
 * parameters. */
static inline void rfn_plan_bounds(struct rfn_launch_node *n,
                                   const struct rfn_plan_env *env,
                                   const struct rfn_bounds *bounds)
{
    rfn_plan_param(n, "bounds", RFN_PARAM_READ, env->fault ? bounds->header.data : NULL);
}

static inline void rfn_plan_bounds_own(struct rfn_launch_node *n,
                                       const struct rfn_plan_env *env,
                                       const struct rfn_bound_set &own)
{
    /* Made of the op's other constants, which are compared: no finding of its own. */
    rfn_plan_param(n, "bounds.own", RFN_PARAM_DYNAMIC, own);
    rfn_plan_param(n, "fault.bounds", RFN_PARAM_CONST,
                   env->fault ? &rfn_bound_name[0][0] : NULL);
}

#endif
