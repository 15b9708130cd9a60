/*
 * Field incidents as pairs: a broken form, which has to be caught, and a right one, which has
 * to run captured and replayed. `refrain incidents` and tests/incidents run the same pairs.
 *
 * A form is a function on a device with a checker and a small attention object. It says what
 * is due before it does what is wrong:
 *
 *     PLANT(in, "CAP056");
 *     WORKS(in, rfn_copy_async(in->stream, to, from, bytes));
 */
#ifndef TOOLS_INCIDENT_H
#define TOOLS_INCIDENT_H

#include <refrain/refrain.h>

#define INCIDENT_LAYERS 2
#define INCIDENT_REQUESTS 4
#define INCIDENT_CONTEXT 512
#define INCIDENT_PAGES 40
#define INCIDENT_WIDTH 8 /* pages of a context, the capacity of a table's row */
#define INCIDENT_PLANTS 4
#define INCIDENT_LINE 512

struct incident_plant
{
    const char *rule;
    const char *file;
    int32_t line;
};

struct incident
{
    struct rfn_device *device;
    struct rfn_check *check;
    struct rfn_stream *stream; /* non-blocking, that decodes */
    struct rfn_attention *attention;
    struct rfn_geometry geometry;
    struct rfn_layer_caches caches[INCIDENT_LAYERS];
    struct rfn_layer_io io[INCIDENT_LAYERS];
    void *memory[48];
    int memories;
    uint64_t seed;
    uint64_t random; /* state of incident_below */
    struct incident_plant plant[INCIDENT_PLANTS];
    int plants;
    int refused;        /* calls that were due to be refused, and were */
    const char *caught; /* by what else something was caught: "check mode" */
    char error[INCIDENT_LINE];
    char wrong[INCIDENT_LINE]; /* the first thing that was not as it has to be */
};

/* What the scheduler says of a step, at the capacity stride. */
struct incident_step
{
    int32_t requests;
    int32_t lens[INCIDENT_REQUESTS];
    int32_t table[INCIDENT_REQUESTS * INCIDENT_WIDTH];
};

struct incident_form
{
    const char *name;     /* "I1" */
    const char *upstream; /* "FastDeploy #7253" */
    const char *what;     /* the mistake */
    const char *cuda;     /* what CUDA said to it */
    int host_only;        /* the broken form: a GPU's memory is not watched */
    void (*broken)(struct incident *in);
    void (*right)(struct incident *in);
};

struct incident_result
{
    int held;
    char found[64];                            /* "CAP057 CAP002"; "refused" */
    char said[INCIDENT_PLANTS][INCIDENT_LINE]; /* findings and error lines; "" behind */
    char wrong[INCIDENT_LINE];                 /* why it did not hold */
};

/* The i-th pair, NULL past the last. */
const struct incident_form *incident_at(int i);

/* Runs one form on a device of its own, with contents and steps of this seed. RFN_OK: *ret_result says how it went. Errors are those
 * of opening the device. */
enum rfn_status incident_run(const struct incident_form *form, int broken,
                             enum rfn_device_kind kind, uint64_t seed,
                             struct incident_result *ret_result);

/* ---- for the forms ------------------------------------------------------------------- */

/* The finding that is due for the next line. */
#define PLANT(in, rule) incident_plant((in), (rule), __FILE__, __LINE__ + 1)

/* The call succeeds; it is refused in a line that has all of these words, '|' between them. */
#define WORKS(in, call) incident_works((in), #call, (call))
#define REFUSED(in, call, want, words)                                                   \
    incident_refused((in), #call, (call), (want), (words))

void incident_plant(struct incident *in, const char *rule, const char *file,
                    int32_t line);
int incident_works(struct incident *in, const char *call, enum rfn_status status);
void incident_refused(struct incident *in, const char *call, enum rfn_status status,
                      enum rfn_status want, const char *words);
/* Check mode has met a bad value of this operand; the line has all of these words. */
void incident_fault(struct incident *in, const char *op, const char *operand,
                    const char *words);

/* What is due to be caught by `what` was; the line says how it shows. */
void incident_caught(struct incident *in, int caught, const char *what,
                     const char *format, ...) RFN_PRINTF(4, 5);
int incident_holds(struct incident *in, int holds, const char *format, ...)
    RFN_PRINTF(3, 4);

/* Memory of the form's device, freed when it is over; NULL after an error. */
void *incident_memory(struct incident *in, enum rfn_memory_kind kind, int64_t bytes);

/* 0 .. n - 1 */
int32_t incident_below(struct incident *in, int32_t n);

/* Requests with lengths up to `most`, each with pages of its own. What lies behind the pages in
 * use is no page. */
struct incident_step incident_random(struct incident *in, int32_t requests, int32_t most);
struct rfn_step incident_step_of(const struct incident_step *step);

/* Update and forward of every layer. */
void incident_record(struct incident *in, const struct rfn_bucket *bucket);

/* The same captured; NULL after an error. */
struct rfn_graph *incident_capture(struct incident *in, const struct rfn_bucket *bucket);
struct rfn_exec *incident_exec(struct incident *in, const struct rfn_bucket *bucket);

/* Plans a step, replays it, runs it eagerly: the outputs have the same bits. The eager run has
 * a plan of its own where `other` says the same step in another way. Returns a number that the
 * outputs give. */
uint64_t incident_equal(struct incident *in, struct rfn_exec *exec,
                        const struct rfn_bucket *bucket, const struct rfn_step *step,
                        const struct rfn_step *other);

extern const struct incident_form incident_scalars;    /* incident_copies.c */
extern const struct incident_form incident_contiguous; /* incident_copies.c */
extern const struct incident_form incident_lists;      /* incident_lists.c */
extern const struct incident_form incident_early;      /* incident_plans.c */
extern const struct incident_form incident_bound;      /* incident_gather.c */
extern const struct incident_form incident_above;      /* incident_gather.c */
extern const struct incident_form incident_unguarded;  /* incident_gather.c */
extern const struct incident_form incident_bounds;     /* incident_plans.c */
extern const struct incident_form incident_stale;      /* incident_plans.c */
extern const struct incident_form incident_narrow;     /* incident_plans.c */
extern const struct incident_form incident_stride;     /* incident_plans.c */
extern const struct incident_form incident_rows;       /* incident_bounds.c */
extern const struct incident_form incident_widths;     /* incident_bounds.c */

#endif
