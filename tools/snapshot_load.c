/* Snapshots: from a file to its text. */
#include "tools/snapshot.h"
#include "tools/tool.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int snapshot_load(const char *path, struct snapshot *ret_snapshot)
{
    size_t bytes = 0, room = 0, got = 1;
    char *text = NULL, line[SNAPSHOT_ERROR_BYTES];
    *ret_snapshot = (struct snapshot) { 0 };
    FILE *file = fopen(path, "r");
    while (file != NULL && got > 0)
    {
        if (bytes == room)
        {
            room = room != 0 ? 2 * room : 1 << 16;
            char *grown = realloc(text, room);
            if (grown == NULL)
            {
                errno = ENOMEM;
                break;
            }
            text = grown;
        }
        errno = 0;
        got = fread(text + bytes, 1, room - bytes, file);
        bytes += got;
    }
    int bad = file == NULL || got > 0 || ferror(file);
    int status = TOOL_ENVIRONMENT;
    if (bad)
    {
        tool_error("cannot read %s: %s", path, strerror(errno != 0 ? errno : EIO));
    }
    else
    {
        status = snapshot_parse(path, text, bytes, ret_snapshot, line);
        if (status != TOOL_OK)
        {
            tool_error("%s", line);
        }
    }
    if (file != NULL)
    {
        fclose(file);
    }
    free(text);
    return status;
}
