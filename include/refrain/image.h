/*
 * A captured graph as data: an image holds every node of a graph, what it launches with and
 * what it touches, and nothing that points into a live object. It can be kept when the graph
 * is gone, compared, linted, written to a file and made again of what was read.
 *
 * Numbers of the host (addresses, functions, events) are plain integers here.
 */
#ifndef REFRAIN_IMAGE_H
#define REFRAIN_IMAGE_H

#include <refrain/device.h>
#include <refrain/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The first are those of enum rfn_node_type. */
enum rfn_image_type
{
    RFN_IMAGE_KERNEL = RFN_NODE_KERNEL,
    RFN_IMAGE_MEMCPY = RFN_NODE_MEMCPY,
    RFN_IMAGE_MEMSET = RFN_NODE_MEMSET,
    RFN_IMAGE_HOST = RFN_NODE_HOST,
    RFN_IMAGE_CHILD = RFN_NODE_CHILD,
    RFN_IMAGE_EVENT_RECORD = RFN_NODE_EVENT_RECORD,
    RFN_IMAGE_EVENT_WAIT = RFN_NODE_EVENT_WAIT,
    RFN_IMAGE_EMPTY = RFN_NODE_EMPTY,
    RFN_IMAGE_MEM_ALLOC = RFN_NODE_TYPES,
    RFN_IMAGE_MEM_FREE,
    RFN_IMAGE_CONDITIONAL,
    RFN_IMAGE_OTHER, /* semaphores, batched memory operations */
    RFN_IMAGE_TYPES
};

/* What a parameter is. The first are those of enum rfn_param_role. */
enum rfn_image_role
{
    RFN_IMAGE_CONST = RFN_PARAM_CONST,     /* equal in every capture of a step */
    RFN_IMAGE_DYNAMIC = RFN_PARAM_DYNAMIC, /* meant to differ */
    RFN_IMAGE_READ = RFN_PARAM_READ,       /* pointer */
    RFN_IMAGE_WRITE = RFN_PARAM_WRITE,
    RFN_IMAGE_READ_WRITE = RFN_PARAM_READ_WRITE,
    RFN_IMAGE_SHAPE,      /* extents, strides and format of a view */
    RFN_IMAGE_UNDECLARED, /* bytes of an argument struct that no table of its op names */
    RFN_IMAGE_FOREIGN,    /* of a kernel that is not ours: its place is known, no more */
    RFN_IMAGE_ROLES
};

/* An address, and what the device knew of it when the graph was captured. */
struct rfn_image_pointer
{
    uint64_t address;
    uint64_t base; /* of its allocation; 0: in none that the device keeps */
    int64_t bytes; /* of that allocation */
    int64_t offset;
    uint64_t generation; /* 0: unknown memory */
    enum rfn_memory_kind kind;
    int32_t imported;
    int32_t stack; /* pageable, on the stack of the thread that made the image */
};

struct rfn_image_param
{
    /* "slots", "slots.shape"; of a foreign kernel "#2", and of its structs of 16 to 64 bytes
     * each 8 of them: "#2+8" */
    const char *name;
    enum rfn_image_role role;
    int32_t offset; /* bytes into the kernel's parameters or the argument struct */
    int32_t bytes;
    const void *value;
    /* Of a pointer, and of a foreign parameter of 8 bytes that holds an address of pinned or
     * device memory; address 0: neither. */
    struct rfn_image_pointer pointer;
};

/* Bytes that a node touches: `rows` runs of row_bytes, row_stride_bytes apart; rows is 0
 * where only the hull is known. */
struct rfn_image_access
{
    const char *name; /* operand; "dst", "src" */
    enum rfn_access access;
    int32_t pool;  /* a paged pool, of which some slots are touched */
    int64_t bytes; /* hull, from pointer.address on */
    int64_t rows;
    int64_t row_bytes;
    int64_t row_stride_bytes;
    struct rfn_image_pointer pointer;
};

struct rfn_check;
struct rfn_image;

struct rfn_image_node
{
    enum rfn_image_type type;
    const char *name; /* kernel, or what the node is: "memcpy" */
    const char *op;   /* kernel of an op of ours or of a caller's; "" otherwise */
    int32_t launch;   /* which op launch of the capture it is of; -1: of none */
    int32_t foreign;  /* a kernel whose accesses nobody declared */
    int32_t opaque;   /* a node that cannot be looked into, and why */
    const char *why;
    /* Of the call that made it, as far as known: "", 0. */
    const char *file;
    int32_t line;
    const char *region;
    uint64_t stream; /* serial number */
    uint64_t thread;

    uint32_t grid[3]; /* 0 on the host device */
    uint32_t block[3];
    uint32_t shared_bytes;
    int32_t params;
    int32_t accesses;
    const struct rfn_image_param *param;
    const struct rfn_image_access *access;
    int32_t value;       /* memset: of an element */
    int32_t value_bytes; /* memset: bytes of an element */
    uint64_t function;   /* host node */
    uint64_t user;       /* its argument */
    uint64_t event;      /* tells events apart */
    const struct rfn_image *child;
};

struct rfn_image_edge
{
    int32_t from; /* smaller than `to` */
    int32_t to;
    int32_t programmatic; /* `to` may start before `from` has ended */
};

/* Nodes stand in an order that obeys the edges: that of the capture where it is known. */
struct rfn_image
{
    const char *name;
    const char *device;  /* "host", "cuda" */
    uint64_t capture_id; /* 0: unknown */
    int32_t nodes;
    int32_t edges;
    const struct rfn_image_node *node;
    const struct rfn_image_edge *edge;
};

/**
 * Makes the image of a graph. With a checker that saw the capture nodes have the stream and
 * the region of their calls; without one they have at most the call site.
 *
 * Capture   Safe.
 * Threads   Any; not beside the graph's destruction.
 * Errors    RFN_INVALID: no graph. RFN_NOMEM. RFN_DEVICE: the device does not answer.
 */
RFN_API enum rfn_status rfn_image_of(struct rfn_graph *graph, struct rfn_check *check,
                                     struct rfn_image **ret_image);

/**
 * The same of an executable, whose graph may be gone: what it was made of, without the
 * updates since.
 *
 * Capture   Safe.
 * Threads   Any; not beside the executable's destruction.
 * Errors    As rfn_image_of.
 */
RFN_API enum rfn_status rfn_image_of_exec(struct rfn_exec *exec, struct rfn_check *check,
                                          struct rfn_image **ret_image);

/**
 * Makes the image of a graph that somebody else captured: `native` is a cudaGraph_t. What ops
 * launched into that capture is known with its operands, unless the node's parameters were
 * changed since; every other kernel is foreign, and so is all of a copy of the graph: parameters
 * by number, accesses unknown.
 *
 * Capture   Safe.
 * Threads   Any; not beside changes of the graph.
 * Errors    RFN_INVALID: NULL. RFN_UNSUPPORTED: the host device has no such graphs.
 *           RFN_NOMEM. RFN_DEVICE: the driver's code and words.
 */
RFN_API enum rfn_status rfn_image_of_native(struct rfn_device *device, void *native,
                                            struct rfn_image **ret_image);

/**
 * Makes an image of a description, which is copied with all that it points to; NULL strings
 * become "".
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 * Errors    RFN_INVALID: a type or role that is none, a count below 0 or without its array, an
 *           edge that does not lead to a later node, children that nest deeper than 64; the
 *           node or edge is named. RFN_NOMEM.
 */
RFN_API enum rfn_status rfn_image_create(const struct rfn_image *from,
                                         struct rfn_image **ret_image);

/**
 * Frees an image and sets *image to NULL.
 *
 * Capture   Safe. Touches no device.
 * Threads   No other call on it.
 * Errors    RFN_INVALID: `image` itself is NULL.
 */
RFN_API enum rfn_status rfn_image_destroy(struct rfn_image **image);

/**
 * The name of a node type: "kernel", "memcpy"; "?" for a value that is none.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const char *rfn_image_type_name(enum rfn_image_type type);

/**
 * Writes a node's name as readers want it and returns `text`: of a mangled C++ name what it is
 * called and the first three names among its template arguments, every other as it is, cut to
 * `bytes` with its end. Two kernels may share a label.
 *
 * Capture   Safe. Touches no device.
 * Threads   Any.
 */
RFN_API const char *rfn_image_label(const char *name, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
