/* UTF-8: what JSON, pages and terminals can hold. Sentences of the library are cut at a byte, and names
 * come from anywhere. */
#ifndef TOOLS_TEXT_H
#define TOOLS_TEXT_H

#include <stddef.h>

/* Writes '?' over each byte that is of no character, or a control character: of a line it would
 * make two, or tell a terminal what to do. */
void text_clean(char *text);

/* How many bytes whole characters of `text` have, at most `bytes`. */
size_t text_fit(const char *text, size_t bytes);

#endif
