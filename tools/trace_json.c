/* A line of a trace as a JSON object. */
#include "tools/trace_line.h"

#if RFN_JANSSON
#include <jansson.h>
#include <stdlib.h>

static const char *type_name(const json_t *value)
{
    static const char *const names[] = { "an object",  "an array",      "a string",
                                         "an integer", "a real number", "true",
                                         "false",      "null" };
    return value == NULL ? "nothing" : names[json_typeof(value)];
}

static enum trace_status read_int(const struct trace_place *place, const json_t *object,
                                  int column, struct trace_request *request)
{
    const json_t *value = json_object_get(object, trace_column[column]);
    if (!json_is_integer(value))
    {
        return trace_fail(place, TRACE_MALFORMED,
                          "expected \"%s\" as an integer, found %s", trace_column[column],
                          type_name(value));
    }
    return trace_store(place, column, json_integer_value(value), request);
}

static enum trace_status read_blocks(const struct trace_place *place,
                                     const json_t *object, struct trace_request *request)
{
    const json_t *ids = json_object_get(object, "hash_ids");
    if (!json_is_array(ids))
    {
        return trace_fail(place, TRACE_MALFORMED,
                          "expected \"hash_ids\" as an array, found %s", type_name(ids));
    }
    enum trace_status status =
        trace_blocks(place, (int64_t)json_array_size(ids), request);
    for (int64_t i = 0; status == TRACE_OK && i < request->blocks; i++)
    {
        const json_t *id = json_array_get(ids, (size_t)i);
        if (!json_is_integer(id) || json_integer_value(id) < 0)
        {
            free(request->hash_ids);
            request->hash_ids = NULL;
            return trace_fail(
                place, TRACE_MALFORMED,
                "expected \"hash_ids\"[%lld] as an integer from 0, found %s",
                (long long)i, json_is_integer(id) ? "a negative one" : type_name(id));
        }
        request->hash_ids[i] = json_integer_value(id);
    }
    return status;
}

static enum trace_status read_object(const struct trace_place *place,
                                     const json_t *object, struct trace_request *request)
{
    enum trace_status status = TRACE_OK;
    if (!json_is_object(object))
    {
        return trace_fail(place, TRACE_MALFORMED, "expected a JSON object, found %s",
                          type_name(object));
    }
    for (int column = 0; status == TRACE_OK && column < TRACE_COLUMNS - 1; column++)
    {
        status = read_int(place, object, column, request);
    }
    return status == TRACE_OK ? read_blocks(place, object, request) : status;
}

enum trace_status trace_json_line(const struct trace_place *place, const char *text,
                                  size_t bytes, struct trace_request *ret_request)
{
    json_error_t why;
    json_t *object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL)
    {
        return trace_fail(place, TRACE_MALFORMED,
                          "expected one JSON object: %.150s (column %d)", why.text,
                          why.column);
    }
    enum trace_status status = read_object(place, object, ret_request);
    json_decref(object);
    return status;
}

#else

enum trace_status trace_json_line(const struct trace_place *place, const char *text,
                                  size_t bytes, struct trace_request *ret_request)
{
    (void)text;
    (void)bytes;
    (void)ret_request;
    return trace_fail(
        place, TRACE_IO,
        "this build has no jansson, which reads JSON lines; it reads tables "
        "(`refrain decode --help`)");
}

#endif
