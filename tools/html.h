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

/* Whether a finding speaks of a node: same capture, same place in the source. */
int html_is_of(const struct rfn_finding *finding, const struct rfn_image *image,
               const struct rfn_image_node *node);

/* What goes wrong with the file is seen where it is closed. */
void html_write(FILE *file, const struct html_page *page);

#endif
