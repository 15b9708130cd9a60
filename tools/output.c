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

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static int folder_of(const char *path, struct stat *ret_info)
{
    size_t bytes = (size_t)(last_name(path) - path);
    char *folder = bytes > 0 ? strndup(path, bytes) : strdup(".");
    int found = folder != NULL && stat(folder, ret_info) == 0;
    free(folder);
    return found;
}

/* One name, or two of one regular file, be it not made yet: a device or a pipe may take any
 * number. */
static int is_one(const char *path, const char *other)
{
    struct stat a, b;
    if (path == NULL || other == NULL)
    {
        return 0;
    }
    int there = stat(path, &a) == 0;
    int also = stat(other, &b) == 0;
    int regular = there && S_ISREG(a.st_mode);
    if (!there && !also)
    {
        regular = strcmp(last_name(path), last_name(other)) == 0 && folder_of(path, &a) &&
                  folder_of(other, &b);
    }
    return strcmp(path, other) == 0 ||
           (regular && there == also && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

int output_spares(const char *const *path, int paths, const char *input)
{
    for (int i = 0; i < paths; i++)
    {
        if (is_one(path[i], input))
        {
            tool_error("%s is read, and would be overwritten", path[i]);
            return TOOL_ARGUMENTS;
        }
    }
    return TOOL_OK;
}

int output_distinct(const char *const *path, int paths)
{
    for (int i = 1; i < paths; i++)
    {
        for (int k = 0; k < i; k++)
        {
            if (is_one(path[i], path[k]))
            {
                tool_error("%s is to hold two outputs", path[i]);
                return TOOL_ARGUMENTS;
            }
        }
    }
    return TOOL_OK;
}

static void forget(struct output *output)
{
    free(output->target);
    free(output->temporary);
    free(output->text);
    output->target = NULL;
    output->temporary = NULL;
    output->text = NULL;
}

static int unopened(struct output *output, int error)
{
    forget(output);
    return failed(output->path, error);
}

/* The file under its temporary name, with the mode of the one that it is to replace. */
static FILE *begin(const struct output *output)
{
    struct stat info;
    FILE *file = fopen(output->temporary, "w");
    if (file != NULL && stat(output->target, &info) == 0 &&
        fchmod(fileno(file), info.st_mode & 07777) != 0)
    {
        int error = errno;
        fclose(file);
        unlink(output->temporary);
        errno = error;
        file = NULL;
    }
    return file;
}

/* Writes what is in memory, and gives it its name. */
static int make(const struct output *output)
{
    FILE *file = begin(output);
    if (file == NULL)
    {
        return -1;
    }
    int bad = fwrite(output->text, 1, output->bytes, file) != output->bytes;
    bad = fclose(file) != 0 || bad;
    bad = bad || rename(output->temporary, output->target) != 0;
    if (bad)
    {
        int error = errno;
        unlink(output->temporary);
        errno = error;
    }
    return bad;
}

int output_open(const char *path, int is_json, struct output *ret_output)
{
    struct stat info, link;
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
    /* A link that leads nowhere stays as it is. */
    int linked = lstat(path, &link) == 0 && S_ISLNK(link.st_mode);
    ret_output->target = linked ? realpath(path, NULL) : strdup(path);
    if (ret_output->target == NULL)
    {
        return failed(path, errno);
    }
    size_t bytes = strlen(ret_output->target) + 32;
    ret_output->temporary = malloc(bytes);
    if (ret_output->temporary == NULL)
    {
        return unopened(ret_output, ENOMEM);
    }
    snprintf(ret_output->temporary, bytes, "%s.%ld.tmp", ret_output->target,
             (long)getpid());
    FILE *trial = begin(ret_output);
    if (trial == NULL)
    {
        return unopened(ret_output, errno);
    }
    fclose(trial);
    unlink(ret_output->temporary);
    ret_output->file = open_memstream(&ret_output->text, &ret_output->bytes);
    return ret_output->file != NULL ? TOOL_OK : unopened(ret_output, errno);
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
        bad = make(output);
    }
    int error = errno != 0 ? errno : EIO;
    forget(output);
    return bad ? failed(output->path, error) : TOOL_OK;
}

int output_json(struct output *output, json_t *json, const char *why)
{
    if (json == NULL)
    {
        output_drop(output);
        tool_error("cannot write %s: %s", output->path,
                   why != NULL ? why : strerror(ENOMEM));
        return TOOL_ENVIRONMENT;
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
    forget(output);
}
