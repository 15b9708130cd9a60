/* libFuzzer target of the reader of rules' counts: what it takes is within its limits, what it
 * refuses it explains. */
#include "tools/counts.h"
#include "tools/tool.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Command lines are not read here. */
void tool_error(const char *format, ...)
{
    (void)format;
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct counts_row rows[RFN_RULES];
    char error[COUNTS_ERROR_BYTES];
    memset(rows, 0, sizeof rows);
    int status = counts_parse("fuzz", (const char *)data, bytes, rows, error);
    if ((status == TOOL_OK) != (error[0] == '\0') ||
        (status != TOOL_OK && strncmp(error, "fuzz:", 5) != 0))
        abort();
    for (int i = 0; i < RFN_RULES; i++)
        for (int k = 0; k < COUNTS; k++)
            if (rows[i].there && (rows[i].count[k] < 0 || rows[i].count[k] > COUNTS_MAX ||
                                  rows[i].count[k] > rows[i].count[k & ~1]))
                abort();
    return 0;
}
