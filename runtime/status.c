#include "runtime/error.h"

#include <refrain/op.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 768

static _Thread_local char last_line[LINE_BYTES];
static _Thread_local int last_code;
static _Thread_local struct rfn_site site = { "", 0 };

const char *rfn_status_name(enum rfn_status status)
{
    switch (status)
    {
#define RFN_STATUS_NAME(name, value, advice)                                             \
    case RFN_##name:                                                                     \
        return #name;
        RFN_STATUS_LIST(RFN_STATUS_NAME)
#undef RFN_STATUS_NAME
    }
    return "UNKNOWN";
}

const char *rfn_status_advice(enum rfn_status status)
{
    switch (status)
    {
#define RFN_STATUS_ADVICE(name, value, advice)                                           \
    case RFN_##name:                                                                     \
        return advice;
        RFN_STATUS_LIST(RFN_STATUS_ADVICE)
#undef RFN_STATUS_ADVICE
    }
    return "not a status of this library";
}

const char *rfn_last_error(void)
{
    return last_line;
}

int rfn_last_code(void)
{
    return last_code;
}

void rfn_site_note(const char *file, int line)
{
    site = (struct rfn_site) { file ? file : "", line };
}

struct rfn_site rfn_site_here(void)
{
    return site;
}

static enum rfn_status write_line(const char *file, int line, enum rfn_status status,
                                  int code, const char *format, va_list list)
{
    char text[LINE_BYTES];
    vsnprintf(text, sizeof text, format, list);
    if (file)
        snprintf(last_line, sizeof last_line, "%.640s [%s:%d]", text, file, line);
    else
        snprintf(last_line, sizeof last_line, "%s", text);
    last_code = code;
    return status;
}

enum rfn_status rfn_error_at(const char *file, int line, enum rfn_status status, int code,
                             const char *format, ...)
{
    va_list list;
    va_start(list, format);
    write_line(file, line, status, code, format, list);
    va_end(list);
    return status;
}

enum rfn_status rfn_error(enum rfn_status status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    write_line(NULL, 0, status, 0, format, list);
    va_end(list);
    return status;
}
