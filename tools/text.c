#include "tools/text.h"
#include <stdint.h>
#include <string.h>

/* Bytes of the character that begins here, 0: none does, or a control character. */
static size_t character(const unsigned char *at)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t bytes = at[0] < 0x80             ? 1
                   : (at[0] & 0xe0) == 0xc0 ? 2
                   : (at[0] & 0xf0) == 0xe0 ? 3
                   : (at[0] & 0xf8) == 0xf0 ? 4
                                            : 0;
    uint32_t code = bytes > 1 ? at[0] & (0x7fU >> bytes) : at[0];
    for (size_t i = 1; i < bytes; i++)
    {
        if ((at[i] & 0xc0) != 0x80) /* the end of the text is none either */
        {
            return 0;
        }
        code = code << 6 | (at[i] & 0x3fU);
    }
    int control = code < ' ' || (code >= 0x7f && code < 0xa0);
    int good = code >= least[bytes] && code <= 0x10ffff &&
               (code < 0xd800 || code > 0xdfff) && !control;
    return good ? bytes : 0;
}

void text_clean(char *text)
{
    while (*text != '\0')
    {
        size_t bytes = character((const unsigned char *)text);
        if (bytes == 0)
        {
            *text = '?';
            bytes = 1;
        }
        text += bytes;
    }
}

size_t text_fit(const char *text, size_t bytes)
{
    size_t all = strnlen(text, bytes + 1);
    if (all <= bytes)
    {
        return all;
    }
    while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80)
    {
        bytes--;
    }
    return bytes;
}
