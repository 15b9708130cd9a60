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

/* For planners: whether a kernel of this file may be programmatic. Code that was compiled for
 * less than sm_90 has no wait in it, wherever it runs. */
static inline uint32_t rfn_plan_programmatic(const struct rfn_plan_env *env)
{
    constexpr int compiled[] = { __CUDA_ARCH_LIST__ };
    return env->sm_arch >= 90 && compiled[0] >= 900;
}

#endif
