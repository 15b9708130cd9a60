/*
 * What an op is: one description that devices, validator, tests and benches read.
 *
 * An op takes a struct of arguments. Its operand table says where in that struct the views
 * are, how they are accessed, what dtype and shape they must have; its scalar table says
 * where the plain values are. Nothing in the library switches on an op. Callers register
 * ops of their own in the same way and are then captured, replayed and checked alike.
 */
#ifndef REFRAIN_OP_H
#define REFRAIN_OP_H

#include <refrain/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum rfn_access
{
    RFN_READ = 1,
    RFN_WRITE = 2,
    RFN_READ_WRITE = 3,
};

enum rfn_operand_kind
{
    RFN_OPERAND_TENSOR = 0, /* struct rfn_tensor at `offset` */
    RFN_OPERAND_POOL,       /* struct rfn_pool at `offset` */
};

#define RFN_MAX_OPERANDS 32
#define RFN_DTYPE_BIT(t) (1u << (t))

struct rfn_operand
{
    const char *name;
    uint32_t offset; /* offsetof(args, view) */
    enum rfn_operand_kind kind;
    enum rfn_access access;
    int32_t optional; /* data may be NULL */
    uint32_t dtypes;  /* RFN_DTYPE_BIT mask; for a pool a mask of 1u << format */
    /* Comma-separated extents: a letter stands for one value throughout the op ("T,H,D"),
     * a number for itself, '?' for anything. NULL for a pool. */
    const char *shape;
    uint32_t align; /* bytes, of the base and of every row; 0: the element's */
};

/* A field that stands in no table is still compared between captures (CAP005), unless it lies
 * where a compiler could have put padding: less than 8 bytes in front of a field that is
 * aligned to 8, or at the end. */
struct rfn_scalar
{
    const char *name;
    uint32_t offset;
    uint32_t bytes;
    int32_t dynamic; /* meant to differ between captures of one step */
};

/* First bad index that an op met, written in check mode only. op == NULL: none so far. Where
 * `operand` is a field of struct rfn_bounds, "bounds.rows", column is what the op was launched
 * for and value what the header has; row is 0. */
struct rfn_fault
{
    const char *op;
    const char *operand;
    int64_t row;
    int64_t column;
    int64_t value;
    int64_t count; /* bad values met in all; NaN groups count here too */
};

/* What a host twin gets beside its arguments. */
struct rfn_host_env
{
    struct rfn_fault *fault; /* NULL outside check mode */
    int32_t threads;         /* OpenMP threads to use, >= 1 */
};

#define RFN_LAUNCH_PARAM_BYTES 1024
#define RFN_LAUNCH_PARAMS 48
#define RFN_LAUNCH_NODES 4

enum rfn_param_role
{
    RFN_PARAM_CONST = 0, /* equal in every capture of a step */
    RFN_PARAM_DYNAMIC,   /* meant to differ, or an address that is no operand */
    RFN_PARAM_READ,      /* pointer */
    RFN_PARAM_WRITE,
    RFN_PARAM_READ_WRITE,
};

struct rfn_param
{
    const char *name;
    uint16_t offset; /* bytes into rfn_launch_node.words */
    uint16_t bytes;
    uint8_t role; /* enum rfn_param_role */
};

/* One kernel node: everything a launch needs, as data. */
struct rfn_launch_node
{
    const char *name;
    const void *kernel; /* address of the __global__ function's host stub */
    uint32_t grid[3];
    uint32_t block[3];
    uint32_t shared_bytes;
    uint32_t programmatic; /* may start before its predecessor has ended */
    uint32_t params;
    struct rfn_param param[RFN_LAUNCH_PARAMS];
    uint64_t words[RFN_LAUNCH_PARAM_BYTES / 8];
};

struct rfn_launch
{
    uint32_t nodes;
    struct rfn_launch_node node[RFN_LAUNCH_NODES];
};

/* What a CUDA planner may look at beside the arguments. */
struct rfn_plan_env
{
    int32_t sm_count;
    /* Whose instructions the loaded code may use: 90 where machine code for sm_90a runs, else
     * 80, the portable code. */
    int32_t sm_arch;
    int32_t shared_bytes_max;
    struct rfn_fault *fault; /* device memory; NULL outside check mode */
};

struct rfn_cost
{
    int64_t bytes_read;
    int64_t bytes_written;
    int64_t flops;
};

struct rfn_op
{
    const char *name;
    uint32_t args_bytes;
    const struct rfn_operand *operand;
    uint32_t operands;
    const struct rfn_scalar *scalar;
    uint32_t scalars;
    /* Checks what the tables cannot say. Writes the error line with rfn_error(). */
    enum rfn_status (*check)(const void *args);
    /* Runs on the host. Views hold addresses that the host can read. Never fails: what can
     * fail was checked. It must not call the device. May be NULL: no host twin. */
    void (*host)(const void *args, const struct rfn_host_env *env);
    /* Fills `ret` with the kernel nodes; pure. May be NULL: no CUDA twin. */
    enum rfn_status (*cuda)(const void *args, const struct rfn_plan_env *env,
                            struct rfn_launch *ret);
    /* An upper bound from the shapes. May be NULL. */
    struct rfn_cost (*cost)(const void *args);
    double tolerance; /* relative L2 against a double reference; 0: bit for bit */
};

/**
 * Writes the calling thread's error line, printf-like, and returns `status`: ops of
 * callers report through it as ours do.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any; the line is the calling thread's own.
 */
RFN_API enum rfn_status rfn_error(enum rfn_status status, const char *format, ...)
    RFN_PRINTF(2, 3);

/**
 * Says a fault in one line, which ends in a 0 where bytes > 0:
 *
 *     index_topk: bounds.rows is 24, but the update's header has 12
 *     index_logits: table [3][7] = 41
 *
 * with ", the first of N" behind where there were more. Returns the line's length, of which as
 * much is written as there is room for; 0 where fault->op is NULL.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API size_t rfn_fault_text(const struct rfn_fault *fault, char *text, size_t bytes);

/**
 * Registers an op of the caller's. `op` and what it points to must outlive the process's
 * use of the library. Names are unique; registering the same pointer again is harmless.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_INVALID: a name that another op has, a table that contradicts itself (an
 *           operand past args_bytes, a shape with more dimensions than a tensor has), or
 *           neither a host nor a CUDA twin. RFN_LIMIT: more than 256 ops.
 */
RFN_API enum rfn_status rfn_op_register(const struct rfn_op *op);

/**
 * Finds an op by name, the library's own or a registered one.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_NOT_FOUND, naming the nearest known op.
 */
RFN_API enum rfn_status rfn_op_find(const char *name, const struct rfn_op **ret_op);

/**
 * The i-th known op, NULL past the last.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const struct rfn_op *rfn_op_at(uint32_t i);

/**
 * Checks arguments against the op's tables and its own check; no effect, no device asked.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_INVALID or RFN_UNSUPPORTED with operand and both values that disagree.
 */
RFN_API enum rfn_status rfn_op_check(const struct rfn_op *op, const void *args);

/**
 * Byte range [*ret_begin, *ret_begin + *ret_bytes) that operand i covers in these
 * arguments; 0 bytes where it is not given or has an extent of 0.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API void rfn_op_extent(const struct rfn_op *op, uint32_t i, const void *args,
                           void **ret_begin, int64_t *ret_bytes);

#ifdef __cplusplus
}
#endif
#endif
