/* Bad indices met by a kernel, noted in check mode. */
#ifndef RFN_KERNELS_CUDA_FAULT_CUH
#define RFN_KERNELS_CUDA_FAULT_CUH

#include <refrain/op.h>

/* `op` and `operand` are the host's strings: the device stores their addresses and never
 * looks at them. Of values that are met at the same time any one may be kept; the count is
 * exact. */
static __device__ void rfn_fault_note_cuda(struct rfn_fault *fault, const char *op,
                                           const char *operand, int64_t row,
                                           int64_t column, int64_t value)
{
    if (!fault)
        return;
    atomicAdd((unsigned long long *)&fault->count, 1ull);
    unsigned long long before =
        atomicCAS((unsigned long long *)&fault->op, 0ull, (unsigned long long)op);
    if (before)
        return;
    fault->operand = operand;
    fault->row = row;
    fault->column = column;
    fault->value = value;
}

#endif
