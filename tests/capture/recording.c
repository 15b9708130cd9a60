/*
 * Compares a device with the recording of the real driver, row by row.
 *
 *     recording CSV [--flip N] [--only ID]
 *
 * --flip N falsifies N rows of the recording after it was read; the program must then name
 * exactly N rows and passes when it does: it shows that a wrong table is seen.
 */
#include "tests/capture/replica.h"
#include "tests/support/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum
{
    CALL,
    MODE,
    RELATION,
    RC,
    STATUS,
    END_RC,
    NODES,
    RAN_NOW,
    COLUMNS
};

#define MAX_ROWS 8192

struct row
{
    char line[256];
    char *column[COLUMNS];
};

static struct row rows[MAX_ROWS];

/* The last column, the driver's words, is left out: it may hold commas and quotes. */
static int split(struct row *r, const char *line)
{
    memcpy(r->line, line, strnlen(line, sizeof r->line - 1));
    char *at = r->line;
    for (int i = 0; i < COLUMNS; i++)
    {
        char *comma = strchr(at, ',');
        if (!comma)
            return 0;
        r->column[i] = at;
        *comma = '\0';
        at = comma + 1;
    }
    return 1;
}

static int index_of(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static int read_rows(const char *path)
{
    char line[8192];
    int n = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    while (fgets(line, sizeof line, f) && n < MAX_ROWS)
        if (line[0] != '#' && strncmp(line, "call,", 5) != 0 && split(&rows[n], line))
            n++;
    fclose(f);
    return n;
}

/* Falsifies every k-th row that this device answers for. */
static void flip(int n, int flips)
{
    int known = 0, done = 0;
    for (int i = 0; i < n; i++)
        known += replica_knows(rows[i].column[CALL]);
    for (int i = 0, seen = 0; i < n && done < flips; i++)
        if (replica_knows(rows[i].column[CALL]) &&
            seen++ == (done + 1) * known / (flips + 1))
        {
            int column = done % 3 == 0 ? RC : done % 3 == 1 ? STATUS : NODES;
            printf("flipped: %s %s %s, %s\n", rows[i].column[CALL], rows[i].column[MODE],
                   rows[i].column[RELATION],
                   column == RC       ? "rc"
                   : column == STATUS ? "status"
                                      : "nodes");
            rows[i].column[column] = "flipped";
            done++;
        }
}

int main(int argc, char **argv)
{
    struct harness h;
    int flips = 0, compared = 0, wrong = 0;
    const char *only = NULL;
    harness_begin(&h, "recording", &argc, argv);
    for (int i = 2; i + 1 < argc; i += 2)
    {
        if (strcmp(argv[i], "--flip") == 0)
            flips = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
    }
    int n = argc > 1 ? read_rows(argv[1]) : -1;
    if (!harness_check(&h, "the recording can be read", n > 0, "%s",
                       argc > 1 ? argv[1] : "no file named"))
        return harness_end(&h);
    if (flips)
        flip(n, flips);

    const char *kind = getenv("RFN_TEST_DEVICE");
    struct rfn_device *device = NULL;
    struct rfn_device_desc desc = {
        .kind = kind && strcmp(kind, "cuda") == 0 ? RFN_DEVICE_CUDA : RFN_DEVICE_HOST,
        .threads = 1,
    };
    if (rfn_device_open(&desc, &device) != RFN_OK)
    {
        harness_skip(&h, "device", rfn_last_error());
        return harness_end(&h);
    }
    for (int i = 0; i < n; i++)
    {
        char **c = rows[i].column;
        struct replica_row is;
        int mode = index_of(replica_mode_name, 3, c[MODE]);
        int relation = index_of(replica_relation_name, REPLICA_RELATIONS, c[RELATION]);
        if (!replica_knows(c[CALL]) || (only && strcmp(only, c[CALL]) != 0) || mode < 0 ||
            relation < 0)
            continue;
        if (h.verbose)
            printf("%s %s %s\n", c[CALL], c[MODE], c[RELATION]);
        fflush(stdout); /* a case that ends the program leaves its name */
        replica_run(device, c[CALL], (enum rfn_capture_mode)mode,
                    (enum replica_relation)relation, &is);
        int equal = strcmp(is.rc, c[RC]) == 0 && strcmp(is.status, c[STATUS]) == 0 &&
                    strcmp(is.end_rc, c[END_RC]) == 0 &&
                    strcmp(is.nodes, c[NODES]) == 0 &&
                    strcmp(is.ran_now, c[RAN_NOW]) == 0;
        compared++;
        wrong += !equal;
        if (!equal)
            printf("%s %s %s: rc status end nodes ran_now\n  driver %s %s %s %s %s\n"
                   "  here   %s %s %s %s %s\n",
                   c[CALL], c[MODE], c[RELATION], c[RC], c[STATUS], c[END_RC], c[NODES],
                   c[RAN_NOW], is.rc, is.status, is.end_rc, is.nodes, is.ran_now);
    }
    printf("%d of %d recorded rows compared, %d differ\n", compared, n, wrong);
    harness_check(&h, "every call of the front end was recorded",
                  only || compared == 2670, "%d rows", compared);
    harness_check(&h,
                  flips ? "exactly the falsified rows differ"
                        : "the device does what the driver does",
                  wrong == flips, "%d rows differ where %d should", wrong, flips);
    harness_check(&h, "nothing is left behind", rfn_device_close(&device) == RFN_OK, "%s",
                  rfn_last_error());
    return harness_end(&h);
}
