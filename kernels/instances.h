/*
 * Compiles INNER_KERNELS, a file of inner kernels, once for each instruction set of isa.h. The
 * file finds LANES (floats of a vector), ROWS (of which each has its vectors in registers),
 * TARGET (function attribute), FMA(a, b, c) and INNER(name), which is name_base, name_avx2 or
 * name_avx512. Included once in a file, behind what the inner kernels need.
 */
#include "kernels/isa.h"

#define PASTE(a, b) a##_##b
#define ISA_INNER(name, isa) PASTE(name, isa)

#define LANES 4
#define ROWS 4
#define TARGET
#define FMA(a, b, c) ((a) * (b) + (c))
#define INNER(name) ISA_INNER(name, base)
#include INNER_KERNELS
#undef LANES
#undef ROWS
#undef TARGET
#undef FMA
#undef INNER

#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define ROWS 6
#define TARGET RFN_TARGET_AVX2
#define FMA(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define INNER(name) ISA_INNER(name, avx2)
#include INNER_KERNELS
#undef LANES
#undef ROWS
#undef TARGET
#undef FMA
#undef INNER

#define LANES 16
#define ROWS 8
#define TARGET RFN_TARGET_AVX512
#define FMA(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define INNER(name) ISA_INNER(name, avx512)
#include INNER_KERNELS
#undef LANES
#undef ROWS
#undef TARGET
#undef FMA
#undef INNER
#endif
