/* 1-D bulk copies into shared memory and the mbarriers that they end at: sm_90. */
#ifndef RFN_KERNELS_CUDA_BULK_CUH
#define RFN_KERNELS_CUDA_BULK_CUH

#include <stdint.h>

static __device__ __forceinline__ uint32_t rfn_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void rfn_bulk_copy(void *to, const void *from,
                                                     uint32_t bytes, uint64_t *barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(rfn_shared_address(to)),
                 "l"(from), "r"(bytes), "r"(rfn_shared_address(barrier))
                 : "memory");
}

static __device__ __forceinline__ void rfn_barrier_init(uint64_t *barrier,
                                                        uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(rfn_shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}

/* Arrives; the phase ends when `bytes` have come too. */
static __device__ __forceinline__ void rfn_barrier_arrive(uint64_t *barrier,
                                                          uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(
                     rfn_shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

/* Arrives where no bytes are waited for: what was read before may be written over. */
static __device__ __forceinline__ void rfn_barrier_release(uint64_t *barrier)
{
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(rfn_shared_address(barrier))
                 : "memory");
}

static __device__ __forceinline__ void rfn_barrier_wait(uint64_t *barrier,
                                                        uint32_t parity)
{
    uint32_t done = 0;
    while (!done)
        asm volatile("{\n"
                     ".reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n"
                     "}\n"
                     : "=r"(done)
                     : "r"(rfn_shared_address(barrier)), "r"(parity)
                     : "memory");
    __syncwarp();
}

#endif
