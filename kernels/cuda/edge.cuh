/* Programmatic edges: a kernel may be started while the one before it still runs. */
#ifndef RFN_KERNELS_CUDA_EDGE_CUH
#define RFN_KERNELS_CUDA_EDGE_CUH

#include <refrain/op.h>

/* First of all in every thread of a programmatic kernel: waits until what the kernel before
 * has written is there (and, because that one waited too, what all before it have). Lets the
 * next kernel start: it takes room only where no block of this one is left to be placed. Data
 * of kernels before is then read by plain loads, not through the read-only path. */
static __device__ __forceinline__ void rfn_edge_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* For planners: whether a kernel may be programmatic. Portable code has no wait in it. */
static inline uint32_t rfn_plan_programmatic(const struct rfn_plan_env *env)
{
    return env->sm_arch >= 90;
}

#endif
