/* libFuzzer target of the reader of saved captures: what it takes can be linted and compared
 * with itself, what it refuses it explains. */
#include "tools/snapshot.h"

#include <refrain/diff.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct snapshot snapshot;
    char line[SNAPSHOT_ERROR_BYTES];
    int status = snapshot_parse("fuzz", (const char *)data, bytes, &snapshot, line);
    if ((status == 0) != (line[0] == '\0') || (status == 0) != (snapshot.images > 0) ||
        (status != 0 && strncmp(line, "fuzz:", 5) != 0))
        abort();
    for (int32_t i = 0; i < snapshot.images; i++)
    {
        struct rfn_diff_info info;
        const struct rfn_image *image = snapshot.image[i];
        if (rfn_lint(image, NULL, NULL, NULL, NULL) != RFN_OK ||
            rfn_image_diff(image, image, 0, NULL, NULL, &info) != RFN_OK || info.findings)
            abort();
    }
    snapshot_release(&snapshot);
    return 0;
}
