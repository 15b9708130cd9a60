/* The files of findings that decode and `graph lint` write, and the baseline that they read:
 * opened before the work, so that what cannot be written is said at once. */
#ifndef TOOLS_FILES_H
#define TOOLS_FILES_H

#include "tools/findings.h"
#include "tools/html.h"
#include "tools/output.h"

enum files_kind
{
    FILES_JSON = 0,
    FILES_SARIF,
    FILES_HTML,
    FILES_BASELINE,
    FILES_KINDS
};

struct files
{
    const char *path[FILES_KINDS]; /* NULL: not written */
    const char *accepted;          /* the baseline to read; NULL: none */
    struct output output[FILES_KINDS];
    struct baseline baseline;
};

/* These return an exit status, after an error line unless it is TOOL_OK. */
int files_open(struct files *files);
int files_write(struct files *files, const struct html_page *page);

/* Removes what was not written; in any case. */
void files_close(struct files *files);

#endif
