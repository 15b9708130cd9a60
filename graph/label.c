/* Names for readers. The driver gives kernels their mangled C++ names, hundreds of characters
 * in which a reader looks for two words: what the kernel is called, and what it was made for. */
#define RFN_NO_SITES
#include <refrain/image.h>
#include <stdio.h>
#include <string.h>

#define NAMES 3 /* of template arguments */

/* Itanium C++ ABI, as much of it as finds the names. */
struct scan
{
    const char *at;
    char *text;
    size_t bytes;
    size_t used;
};

static void put(struct scan *s, const char *word, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (s->used + 1 < s->bytes)
            s->text[s->used++] = word[i];
    if (s->bytes)
        s->text[s->used] = '\0';
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void pass_digits(struct scan *s)
{
    while (is_digit(*s->at))
        s->at++;
}

/* <length><name>; 0 and s->at behind the digits when there is no such name. */
static size_t read_name(struct scan *s, const char **ret)
{
    size_t length = 0;
    for (; is_digit(*s->at); s->at++)
        length = length < 1000 ? 10 * length + (size_t)(*s->at - '0') : length;
    if (!length || strnlen(s->at, length) < length)
        return 0;
    *ret = s->at;
    s->at += length;
    return length;
}

static int is_nameless(const char *name, size_t length)
{
    return length >= 10 && !memcmp(name, "_GLOBAL__N", 10);
}

/* S_, S0_: seen before; St, Sa: of std. */
static void pass_substitution(struct scan *s)
{
    s->at++;
    if (*s->at >= 'a' && *s->at <= 'z')
    {
        s->at++;
        return;
    }
    while (is_digit(*s->at) || (*s->at >= 'A' && *s->at <= 'Z'))
        s->at++;
    s->at += *s->at == '_';
}

/* What it is called: a::b::c. 0: nothing was found. */
static int put_qualified(struct scan *s)
{
    const char *name;
    int names = 0;
    s->at += *s->at == 'N';
    for (;;)
    {
        if (*s->at == 'S')
            pass_substitution(s);
        else if (*s->at == 'L' && is_digit(s->at[1]))
            s->at++;
        else if (is_digit(*s->at))
        {
            size_t length = read_name(s, &name);
            if (!length)
                return 0;
            if (is_nameless(name, length))
                continue;
            put(s, "::", names++ ? 2 : 0);
            put(s, name, length);
        }
        else
            return names;
    }
}

/* A number or an enumerator: nothing of it is a name. */
static void pass_literal(struct scan *s)
{
    const char *name;
    int ends = s->at[1] == 'N' ? 2 : 1;
    s->at++;
    while (*s->at && ends)
        if (is_digit(*s->at) && ends == 2)
            read_name(s, &name);
        else
            ends -= *s->at++ == 'E';
}

/* E, and the number of a lambda or a local name: E_, E1_. */
static void pass_end(struct scan *s)
{
    const char *end = ++s->at;
    while (is_digit(*end))
        end++;
    if (*end == '_' && strncmp(end, "_GLOBAL__N", 10) != 0)
        s->at = end + 1;
}

/* The names in template arguments, of each a::b::c the last; the first few of them. */
static void put_arguments(struct scan *s)
{
    const char *name, *last = NULL;
    size_t length = 0, lasted = 0;
    int depth = 0, names = 0;
    do
    {
        const char *c = s->at;
        if (!is_digit(*c) && last)
        {
            put(s, names ? ", " : "<", names ? 2 : 1);
            put(s, last, lasted);
            last = NULL;
            if (++names == NAMES)
                break;
        }
        if (is_digit(*c))
        {
            length = read_name(s, &name);
            if (length && !is_nameless(name, length))
            {
                last = name;
                lasted = length;
            }
        }
        else if (*c == 'E')
        {
            depth--;
            pass_end(s);
        }
        else if (*c == 'L')
            pass_literal(s);
        else if (*c == 'S' || *c == 'T')
            pass_substitution(s);
        else if (*c == 'D' && c[1])
            s->at += 2;
        else
        {
            depth += strchr("INZXJF", *c) || (*c == 'U' && c[1] == 'l');
            s->at++;
            if (*c == 'A')
                pass_digits(s);
        }
    } while (*s->at && depth > 0);
    put(s, ">", names ? 1 : 0);
}

const char *rfn_image_label(const char *name, char *text, size_t bytes)
{
    struct scan s = { name, text, bytes, 0 };
    if (!bytes)
        return "";
    text[0] = '\0';
    if (!strncmp(name, "_Z", 2))
    {
        s.at += 2;
        if (put_qualified(&s))
        {
            if (*s.at == 'I')
                put_arguments(&s);
            return text;
        }
    }
    snprintf(text, bytes, "%s", name);
    return text;
}
