#include "tools/files.h"
#include "tools/tool.h"

int files_open(struct files *files)
{
    int status = TOOL_OK;
    if (files->accepted != NULL)
    {
        status = baseline_read(files->accepted, &files->baseline);
    }
    for (int i = 0; status == TOOL_OK && i < FILES_KINDS; i++)
    {
        if (files->path[i] != NULL)
        {
            status = output_open(files->path[i], i != FILES_HTML, &files->output[i]);
        }
    }
    return status;
}

int files_write(struct files *files, const struct html_page *page)
{
    static json_t *(*const make[FILES_KINDS])(const struct findings *findings) = {
        [FILES_JSON] = findings_json,
        [FILES_SARIF] = findings_sarif,
        [FILES_BASELINE] = findings_baseline,
    };
    int status = TOOL_OK;
    for (int i = 0; status == TOOL_OK && i < FILES_KINDS; i++)
    {
        struct output *output = &files->output[i];
        if (output->file != NULL && make[i] != NULL)
        {
            status = output_json(output, make[i](page->findings), NULL);
        }
        else if (output->file != NULL)
        {
            html_write(output->file, page);
            status = output_close(output, ferror(output->file));
        }
    }
    return status;
}

void files_close(struct files *files)
{
    for (int i = 0; i < FILES_KINDS; i++)
    {
        output_drop(&files->output[i]);
    }
    baseline_free(&files->baseline);
}
