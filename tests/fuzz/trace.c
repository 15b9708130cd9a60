/* libFuzzer target of the trace reader: whatever it takes is within its limits, whatever it
 * refuses it explains. */
#include "tools/trace.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    enum trace_status status =
        trace_read_memory("fuzz", data, bytes, 1000, &trace, error);
    if ((status == TRACE_OK) != (error[0] == '\0') ||
        (status != TRACE_OK && trace.requests != 0) ||
        (status != TRACE_OK && strncmp(error, "fuzz:", 5) != 0))
    {
        abort();
    }
    for (int64_t i = 0; i < trace.requests; i++)
    {
        const struct trace_request *request = &trace.request[i];
        int64_t last = (request->input_tokens - 1) / TRACE_BLOCK_TOKENS;
        if (request->input_tokens < 1 || request->input_tokens > TRACE_TOKENS_MAX ||
            request->output_tokens < 1 || request->output_tokens > TRACE_TOKENS_MAX ||
            request->blocks != last + 1 || request->hash_ids[last] < 0)
        {
            abort();
        }
    }
    trace_clip(&trace, 8192);
    trace_free(&trace);
    return 0;
}
