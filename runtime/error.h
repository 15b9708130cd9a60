/* Writing the thread's error line from inside the library. */
#ifndef RFN_RUNTIME_ERROR_H
#define RFN_RUNTIME_ERROR_H

#include <refrain/status.h>

struct rfn_site
{
    const char *file;
    int line;
};

/* The site that the calling thread noted last; file is "" when it never did. */
struct rfn_site rfn_site_here(void);

/* Writes the line with the file and line that decided it; `code` is a CUDA error number or
 * 0. Returns `status`. */
enum rfn_status rfn_error_at(const char *file, int line, enum rfn_status status, int code,
                             const char *format, ...) RFN_PRINTF(5, 6);

#define RFN_FAIL(status, ...) rfn_error_at(__FILE__, __LINE__, (status), 0, __VA_ARGS__)

#endif
