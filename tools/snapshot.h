/* Captured graphs in a file: JSON, so that other tools can read it too. Without jansson there is
 * none: writing gives NULL, reading is refused. */
#ifndef TOOLS_SNAPSHOT_H
#define TOOLS_SNAPSHOT_H

#include "tools/output.h"
#include <refrain/image.h>

#define SNAPSHOT_FORMAT "refrain graphs"
#define SNAPSHOT_VERSION 1

struct snapshot
{
    struct rfn_image **image;
    int32_t images;
};

/* The graphs as one value for output_json; NULL without memory. */
json_t *snapshot_json(const struct rfn_image *const *image, int32_t images);

#define SNAPSHOT_ERROR_BYTES 512

/* Reads what snapshot_json made. TOOL_OK, TOOL_ENVIRONMENT (no memory) or TOOL_ARGUMENTS (it is
 * none, is newer, or makes no sense) with one line that begins with `path`. */
int snapshot_parse(const char *path, const char *text, size_t bytes,
                   struct snapshot *ret_snapshot, char error_line[SNAPSHOT_ERROR_BYTES]);

/* Reads a file; an exit status, after an error line unless it is TOOL_OK. */
int snapshot_load(const char *path, struct snapshot *ret_snapshot);

void snapshot_release(struct snapshot *snapshot);

/* Names as they stand in the file; an access of 0 has none. */
extern const char *const snapshot_roles[RFN_IMAGE_ROLES];
extern const char *const snapshot_accesses[4];
extern const char *const snapshot_memories[3];
const char *snapshot_role(enum rfn_image_role role);
const char *snapshot_access(enum rfn_access access);
const char *snapshot_memory(enum rfn_memory_kind kind);

#endif
