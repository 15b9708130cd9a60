/* One self-contained page: the findings, and each graph as a picture with its findings in
 * place. */
#ifndef TOOLS_HTML_H
#define TOOLS_HTML_H

#include "tools/findings.h"
#include <refrain/image.h>
#include <stdio.h>

struct html_page
{
    const char *title;
    const struct findings *findings;
    const struct rfn_image *const *image;
    int32_t images;
};

/* Whether a finding speaks of node `i` of image `at` of a page: it was found in that image, or
 * in the capture that it is of, and names the node or its place in the source. */
int html_is_of(const struct found *found, const struct html_page *page, int32_t at,
               int32_t i);

/* What goes wrong with the file is seen where it is closed. */
void html_write(FILE *file, const struct html_page *page);

#endif
