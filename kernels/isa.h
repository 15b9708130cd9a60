/* Which instance of an inner kernel this CPU runs. One of RFN_ISAS, chosen once. */
#ifndef RFN_KERNELS_ISA_H
#define RFN_KERNELS_ISA_H

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum rfn_isa
{
    RFN_ISA_BASE = 0,
#if defined(__x86_64__)
    RFN_ISA_AVX2,
    RFN_ISA_AVX512,
#endif
    RFN_ISAS
};

#define RFN_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define RFN_TARGET_AVX512                                                                \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))

static inline const char *rfn_isa_name(int isa)
{
    static const char *const names[] = { "base", "avx2", "avx512" };
    return names[isa];
}

/* The widest that the CPU has; RFN_HOST_ISA=base|avx2|avx512 may force a narrower one. */
static inline int rfn_isa_choose(void)
{
    int best = RFN_ISA_BASE;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        best = RFN_ISA_AVX2;
    if (best && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        best = RFN_ISA_AVX512;
    const char *forced = getenv("RFN_HOST_ISA");
    for (int i = 0; forced && i < best; i++)
        if (strcmp(forced, rfn_isa_name(i)) == 0)
            best = i;
#endif
    return best;
}

static inline int rfn_isa_here(void)
{
    static _Atomic int chosen; /* 0: not yet; every thread would choose the same */
    int i = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!i)
    {
        i = rfn_isa_choose() + 1;
        atomic_store_explicit(&chosen, i, memory_order_relaxed);
    }
    return i - 1;
}

#endif
