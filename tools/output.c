#include "tools/output.h"
#include "tools/tool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if RFN_JANSSON
#include <jansson.h>

static int dump(const json_t *json, FILE *file)
{
    return json_dumpf(json, file, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
}
#else
#define json_decref(json) ((void)(json))

static int dump(const json_t *json, FILE *file)
{
    (void)json;
    (void)file;
    return -1;
}
#endif

static int failed(const char *path, int error)
{
    tool_error("cannot write %s: %s", path, strerror(error));
    return TOOL_ENVIRONMENT;
}

int output_distinct(const char *const *path, int paths)
{
    for (int i = 1; i < paths; i++)
    {
        for (int k = 0; k < i; k++)
        {
            if (path[i] != NULL && path[k] != NULL && strcmp(path[i], path[k]) == 0)
            {
                tool_error("%s is to hold two outputs", path[i]);
                return TOOL_ARGUMENTS;
            }
        }
    }
    return TOOL_OK;
}

int output_open(const char *path, int is_json, struct output *ret_output)
{
    struct stat info;
    *ret_output = (struct output) { .path = path };
    if (is_json && !RFN_JANSSON)
    {
        tool_error("cannot write %s: this build has no jansson, which writes JSON", path);
        return TOOL_ENVIRONMENT;
    }
    if (path[0] == '\0')
    {
        return failed("''", ENOENT);
    }
    int exists = stat(path, &info) == 0;
    if (exists && S_ISDIR(info.st_mode))
    {
        return failed(path, EISDIR);
    }
    if (exists && access(path, W_OK) != 0)
    {
        return failed(path, errno);
    }
    if (exists && !S_ISREG(info.st_mode))
    {
        ret_output->file = fopen(path, "w");
        return ret_output->file != NULL ? TOOL_OK : failed(path, errno);
    }
    size_t bytes = strlen(path) + 32;
    ret_output->temporary = malloc(bytes);
    if (ret_output->temporary == NULL)
    {
        return failed(path, ENOMEM);
    }
    snprintf(ret_output->temporary, bytes, "%s.%ld.tmp", path, (long)getpid());
    ret_output->file = fopen(ret_output->temporary, "w");
    if (ret_output->file == NULL)
    {
        int error = errno;
        free(ret_output->temporary);
        ret_output->temporary = NULL;
        return failed(path, error);
    }
    return TOOL_OK;
}

int output_close(struct output *output, int bad)
{
    if (!bad) /* else it says why */
    {
        errno = 0;
    }
    bad = fclose(output->file) != 0 || bad;
    output->file = NULL;
    if (!bad && output->temporary != NULL)
    {
        bad = rename(output->temporary, output->path) != 0;
    }
    int error = errno != 0 ? errno : EIO;
    if (bad)
    {
        output_drop(output);
        return failed(output->path, error);
    }
    free(output->temporary);
    output->temporary = NULL;
    return TOOL_OK;
}

int output_json(struct output *output, json_t *json)
{
    if (json == NULL)
    {
        output_drop(output);
        return failed(output->path, ENOMEM);
    }
    errno = 0;
    int bad = dump(json, output->file) != 0;
    json_decref(json);
    bad = fputc('\n', output->file) == EOF || bad;
    return output_close(output, bad || ferror(output->file));
}

void output_drop(struct output *output)
{
    if (output->file != NULL)
    {
        fclose(output->file);
        output->file = NULL;
    }
    if (output->temporary != NULL)
    {
        unlink(output->temporary);
        free(output->temporary);
        output->temporary = NULL;
    }
}
