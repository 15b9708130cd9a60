/*
 * Warp-wide matrix products, asynchronous copies and clusters: thin names for PTX. What is
 * here runs on sm_80 and later; clusters need sm_90.
 *
 * Fragments of mma m16n8k16, lane = 4 * g + t:
 *   A  x: (row g,     k 2t, 2t+1)   y: (row g + 8, k 2t, 2t+1)
 *      z: (row g, k 2t+8, 2t+9)     w: (row g + 8, k 2t+8, 2t+9)
 *   B  low: (k 2t, 2t+1; column g)  high: (k 2t+8, 2t+9; column g)
 *   D  0, 1: (row g, columns 2t, 2t+1)  2, 3: (row g + 8, the same)
 */
#ifndef RFN_KERNELS_CUDA_MMA_CUH
#define RFN_KERNELS_CUDA_MMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

static __device__ __forceinline__ void rfn_mma_f16(float (&d)[4], const uint4 &a,
                                                   uint32_t low, uint32_t high)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(low), "r"(high));
}

static __device__ __forceinline__ void rfn_mma_bf16(float (&d)[4], const uint4 &a,
                                                    uint32_t low, uint32_t high)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(low), "r"(high));
}

/* Address in the shared window, for instructions that want one. */
static __device__ __forceinline__ uint32_t rfn_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* The A fragment of a 16 x 16 tile; each lane gives the address of 16 bytes: row lane % 16,
 * columns 8 * (lane / 16) and up. */
static __device__ __forceinline__ uint4 rfn_load_a(const void *p)
{
    uint4 a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.x), "=r"(a.y), "=r"(a.z), "=r"(a.w)
                 : "r"(rfn_shared_address(p))
                 : "memory");
    return a;
}

/* The four e4m3 of a word, two by two, exactly. */
static __device__ __forceinline__ void rfn_f16x4_of_e4m3x4(uint32_t four, uint32_t &low,
                                                           uint32_t &high)
{
#if __CUDA_ARCH__ >= 890
    asm("{\n.reg .b16 a, b;\nmov.b32 {a, b}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, a;\ncvt.rn.f16x2.e4m3x2 %1, b;\n}"
        : "=r"(low), "=r"(high)
        : "r"(four));
#else
    /* The seven bits in f16's place have an exponent that is 8 too small. */
    uint32_t a = __byte_perm(four, 0, 0x4140), b = __byte_perm(four, 0, 0x4342);
    a = (a & 0x00800080u) << 8 | (a & 0x007f007fu) << 7;
    b = (b & 0x00800080u) << 8 | (b & 0x007f007fu) << 7;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(low) : "r"(a), "r"(0x5c005c00u));
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(high) : "r"(b), "r"(0x5c005c00u));
    low |= __vcmpeq2(a & 0x3f803f80u, 0x3f803f80u); /* NaN */
    high |= __vcmpeq2(b & 0x3f803f80u, 0x3f803f80u);
#endif
}

/* `low` becomes the lower half. */
static __device__ __forceinline__ uint32_t rfn_f16x2(float low, float high)
{
    uint32_t ret;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(ret) : "f"(high), "f"(low));
    return ret;
}

static __device__ __forceinline__ uint32_t rfn_bf16x2(float low, float high)
{
    uint32_t ret;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(ret) : "f"(high), "f"(low));
    return ret;
}

static __device__ __forceinline__ uint32_t rfn_mul_f16x2(uint32_t a, uint32_t b)
{
    uint32_t ret;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(ret) : "r"(a), "r"(b));
    return ret;
}

/* A product with a power of two, as an fma with -0: sm_80 has no bf16 mul. */
static __device__ __forceinline__ uint32_t rfn_mul_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t ret;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(ret) : "r"(a), "r"(b), "r"(0x80008000u));
    return ret;
}

static __device__ __forceinline__ float rfn_exp2(float x)
{
    float ret;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(ret) : "f"(x));
    return ret;
}

/* ---- asynchronous copies ---------------------------------------------------------- */

/* 16 bytes, or zeros and nothing read where `wanted` is not set. */
static __device__ __forceinline__ void rfn_copy_16(uint32_t shared, const void *global,
                                                   bool wanted)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared),
                 "l"(global), "r"(wanted ? 16 : 0)
                 : "memory");
}

static __device__ __forceinline__ void rfn_copy_8(uint32_t shared, const void *global,
                                                  bool wanted)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared),
                 "l"(global), "r"(wanted ? 8 : 0)
                 : "memory");
}

static __device__ __forceinline__ void rfn_copy_4(uint32_t shared, const void *global,
                                                  bool wanted)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared),
                 "l"(global), "r"(wanted ? 4 : 0)
                 : "memory");
}

static __device__ __forceinline__ void rfn_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most `Groups` of the thread's newest groups are under way. */
template <int Groups> static __device__ __forceinline__ void rfn_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
}

/* ---- clusters --------------------------------------------------------------------- */

/* All threads of all blocks of the cluster; shared memory written before is seen after. */
static __device__ __forceinline__ void rfn_cluster_sync()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
#endif
}

/* Where `shared`, an address of this block, is in block `rank` of the cluster. */
static __device__ __forceinline__ uint32_t rfn_cluster_map(uint32_t shared, uint32_t rank)
{
    uint32_t ret = shared;
#if __CUDA_ARCH__ >= 900
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(ret) : "r"(shared), "r"(rank));
#endif
    return ret;
}

static __device__ __forceinline__ float rfn_cluster_load(uint32_t address)
{
    float ret = 0;
#if __CUDA_ARCH__ >= 900
    asm volatile("ld.shared::cluster.f32 %0, [%1];"
                 : "=f"(ret)
                 : "r"(address)
                 : "memory");
#endif
    return ret;
}

static __device__ __forceinline__ float4 rfn_cluster_load4(uint32_t address)
{
    float4 ret = {};
#if __CUDA_ARCH__ >= 900
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(ret.x), "=f"(ret.y), "=f"(ret.z), "=f"(ret.w)
                 : "r"(address)
                 : "memory");
#endif
    return ret;
}

#endif
