/* The trace reader: what it takes, and what it says about every line that it does not. */
#include "tools/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the first three above first */
#include <cmocka.h>

#define GOOD                                                                             \
    "{\"timestamp\": 3, \"input_length\": 513, \"output_length\": 7, "                   \
    "\"hash_ids\": [0, 9]}\n"

static enum trace_status read_text(const char *text, int64_t max, struct trace *ret,
                                   char *error)
{
    return trace_read_memory("t.jsonl", text, strlen(text), max, ret, error);
}

static void fields_are_read(void **state)
{
    (void)state;
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    assert_int_equal(read_text(GOOD, 5, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 1);
    assert_int_equal(trace.request[0].timestamp_ms, 3);
    assert_int_equal(trace.request[0].input_tokens, 513);
    assert_int_equal(trace.request[0].output_tokens, 7);
    assert_int_equal(trace.request[0].blocks, 2);
    assert_int_equal(trace.request[0].hash_ids[1], 9);
    trace_free(&trace);
    assert_int_equal(trace.requests, 0);
}

static void lines_past_the_last_one_asked_for_are_not_read(void **state)
{
    (void)state;
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    assert_int_equal(read_text(GOOD GOOD "nonsense\n", 2, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 2);
    trace_free(&trace);
    assert_int_equal(read_text(GOOD GOOD "nonsense\n", 3, &trace, error),
                     TRACE_MALFORMED);
    assert_int_equal(trace.requests, 0);
    assert_null(trace.request);
}

static void blank_lines_carriage_returns_and_other_keys_are_fine(void **state)
{
    (void)state;
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    const char *text = "\n  \t\r\n"
                       "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,"
                       "\"hash_ids\":[4],\"user\":{\"a\":[1.5,null]}}\r\n"
                       "\n"
                       "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,"
                       "\"hash_ids\":[4]}";
    assert_int_equal(read_text(text, 9, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 2);
    trace_free(&trace);
    assert_int_equal(trace_read_memory("t", NULL, 0, 9, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 0);
}

#define LINE(ms, in, out, ids)                                                           \
    "{\"timestamp\": " ms ", \"input_length\": " in ", \"output_length\": " out          \
    ", \"hash_ids\": " ids "}\n"

static void a_malformed_line_is_named_with_what_was_expected(void **state)
{
    (void)state;
    static const struct
    {
        const char *line;
        const char *says;
    } row[] = {
        { "{\n", "expected one JSON object" },
        { "}\n", "expected one JSON object" },
        { GOOD "{\"timestamp\": 0", "t.jsonl:3: expected one JSON object" },
        { "[1, 2]\n", "expected a JSON object, found an array" },
        { "17\n", "expected one JSON object" },
        { "{} {}\n", "expected one JSON object" },
        { "{\"a\": 1, \"a\": 2}\n", "duplicate" },
        { "{}\n", "expected \"timestamp\" as an integer, found nothing" },
        { LINE("-1", "1", "1", "[1]"), "expected \"timestamp\" in 0 .. " },
        { LINE("0", "\"9\"", "1", "[1]"),
          "\"input_length\" as an integer, found a string" },
        { LINE("0", "1.0", "1", "[1]"), "\"input_length\" as an integer, found a real" },
        { LINE("0", "0", "1", "[]"),
          "expected \"input_length\" in 1 .. 16777216, found 0" },
        { LINE("0", "16777217", "1", "[]"), "in 1 .. 16777216, found 16777217" },
        { LINE("0", "1", "-4", "[1]"), "expected \"output_length\" in 1 .. 16777216" },
        { LINE("0", "1", "null", "[1]"), "\"output_length\" as an integer, found null" },
        { LINE("0", "99999999999999999999", "1", "[1]"), "expected one JSON object" },
        { LINE("0", "1", "1", "7"),
          "expected \"hash_ids\" as an array, found an integer" },
        { LINE("0", "513", "1", "[1]"), "expected 2 \"hash_ids\" for an input of 513" },
        { LINE("0", "1", "1", "[1, 2]"), "expected 1 \"hash_ids\" for an input of 1" },
        { LINE("0", "513", "1", "[1, true]"), "expected \"hash_ids\"[1] as an integer" },
        { LINE("0", "1", "1", "[-3]"), "expected \"hash_ids\"[0]" },
        { "{\"timestamp\": \"\xff\xfe\"}\n", "expected one JSON object" },
    };
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
    {
        struct trace trace;
        char error[TRACE_ERROR_BYTES];
        char text[1024];
        snprintf(text, sizeof(text), "%s%s%s", GOOD, row[i].line, GOOD);
        assert_int_equal(read_text(text, 99, &trace, error), TRACE_MALFORMED);
        assert_int_equal(trace.requests, 0);
        assert_null(trace.request);
        if (strstr(error, row[i].says) == NULL || strncmp(error, "t.jsonl:", 8) != 0 ||
            (strncmp(row[i].line, GOOD, 10) != 0 && strncmp(error + 8, "2: ", 3) != 0))
        {
            fail_msg("'%s' says '%s', but '%s' is due", row[i].line, error, row[i].says);
        }
    }
}

#define HEADER "timestamp\tinput_length\toutput_length\thash_ids\n"
#define ROW "3\t513\t7\t0 9\n"

static void a_table_reads_as_json_lines_do(void **state)
{
    (void)state;
    static const char *const text[] = {
        HEADER ROW ROW, "\n" HEADER "\n" ROW "\r\n" ROW,
        "timestamp,input_length,output_length,hash_ids\r\n3,513,7,0 9\r\n3,513,7,0 9"
    };
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
    {
        struct trace trace;
        char error[TRACE_ERROR_BYTES];
        assert_int_equal(read_text(text[i], 5, &trace, error), TRACE_OK);
        assert_int_equal(trace.requests, 2);
        for (int64_t r = 0; r < 2; r++)
        {
            assert_int_equal(trace.request[r].timestamp_ms, 3);
            assert_int_equal(trace.request[r].input_tokens, 513);
            assert_int_equal(trace.request[r].output_tokens, 7);
            assert_int_equal(trace.request[r].blocks, 2);
            assert_int_equal(trace.request[r].hash_ids[0], 0);
            assert_int_equal(trace.request[r].hash_ids[1], 9);
        }
        trace_free(&trace);
        assert_int_equal(read_text(text[i], 1, &trace, error), TRACE_OK);
        assert_int_equal(trace.requests, 1);
        trace_free(&trace);
    }
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    assert_int_equal(read_text(HEADER, 5, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 0);
    assert_int_equal(read_text(HEADER "9223372036854775807\t1\t1\t9223372036854775807", 5,
                               &trace, error),
                     TRACE_OK);
    assert_true(trace.request[0].timestamp_ms == INT64_MAX &&
                trace.request[0].hash_ids[0] == INT64_MAX);
    trace_free(&trace);
}

static void a_malformed_row_is_named_with_both_values(void **state)
{
    (void)state;
    static const struct
    {
        const char *text;
        const char *says;
    } row[] = {
        { "timestamp;input_length\n",
          "t.jsonl:1: expected a tab or a comma behind \"timestamp\", found ';'" },
        { "timestamp\tinput\toutput_length\thash_ids\n",
          "t.jsonl:1: expected column 2 as \"input_length\", found \"input\"" },
        { "timestamp,input_length,output_length\n",
          "t.jsonl:1: expected 4 columns, found 3" },
        { "timestamp,input_length,output_length,hash_ids,\n",
          "t.jsonl:1: expected 4 columns, found 5" },
        { HEADER ROW "3,513,7,0 9\n", "t.jsonl:3: expected 4 columns, found 1" },
        { HEADER "3\t513\t7\n", "t.jsonl:2: expected 4 columns, found 3" },
        { HEADER "3\t513\t7\t0 9\t\n", "t.jsonl:2: expected 4 columns, found 5" },
        { HEADER "x\t513\t7\t0 9\n",
          "expected \"timestamp\" as an integer from 0, found \"x\"" },
        { HEADER "-1\t513\t7\t0 9\n", "from 0, found \"-1\"" },
        { HEADER "3\t 513\t7\t0 9\n", "\"input_length\" as an integer from 0, found" },
        { HEADER "3\t0\t7\t\n", "expected \"input_length\" in 1 .. 16777216, found 0" },
        { HEADER "3\t16777217\t7\t0\n", "in 1 .. 16777216, found 16777217" },
        { HEADER "3\t513\t9223372036854775808\t0 9\n", "found \"9223372036854775808\"" },
        { HEADER "3\t513\t1e3\t0 9\n", "found \"1e3\"" },
        { HEADER "3\t513\t7\t\n",
          "expected 2 \"hash_ids\" for an input of 513 tokens, found 0" },
        { HEADER "3\t513\t7\t0 9 1\n",
          "expected 2 \"hash_ids\" for an input of 513 tokens, found 3" },
        { HEADER "3\t513\t7\t0  9\n", "of 513 tokens, found 3" },
        { HEADER "3\t513\t7\t0 \n",
          "expected \"hash_ids\"[1] as an integer from 0, found \"\"" },
        { HEADER "3\t513\t7\t0 a\n",
          "\"hash_ids\"[1] as an integer from 0, found \"a\"" },
        { HEADER ROW GOOD, "t.jsonl:3: expected 4 columns, found 1" },
        { GOOD HEADER ROW, "t.jsonl:2: expected one JSON object" },
    };
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
    {
        struct trace trace;
        char error[TRACE_ERROR_BYTES];
        assert_int_equal(read_text(row[i].text, 99, &trace, error), TRACE_MALFORMED);
        assert_int_equal(trace.requests, 0);
        assert_null(trace.request);
        if (strstr(error, row[i].says) == NULL)
        {
            fail_msg("'%s' says '%s', but '%s' is due", row[i].text, error, row[i].says);
        }
    }
}

static void a_nul_byte_is_no_end(void **state)
{
    (void)state;
    static const char text[] = GOOD "\0" GOOD;
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    assert_int_equal(
        trace_read_memory("t.jsonl", text, sizeof(text) - 1, 9, &trace, error),
        TRACE_MALFORMED);
    assert_non_null(strstr(error, "t.jsonl:2: "));
}

static void nesting_and_length_have_limits(void **state)
{
    (void)state;
    size_t bytes = TRACE_LINE_BYTES_MAX + 100;
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, '[', bytes);
    assert_int_equal(trace_read_memory("t.jsonl", text, 100000, 9, &trace, error),
                     TRACE_MALFORMED);
    assert_non_null(strstr(error, "t.jsonl:1: expected one JSON object"));
    assert_int_equal(trace_read_memory("t.jsonl", text, bytes, 9, &trace, error),
                     TRACE_MALFORMED);
    assert_non_null(strstr(error, "expected a line of at most 1048576 bytes"));
    free(text);
}

static void a_file_reads_as_memory_does(void **state)
{
    (void)state;
    char path[] = "/tmp/refrain-trace-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    const char *text = GOOD "\n" GOOD "{\"timestamp\": 1}";
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    assert_int_equal(trace_read_file(path, 2, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 2);
    trace_free(&trace);
    assert_int_equal(trace_read_file(path, 3, &trace, error), TRACE_MALFORMED);
    assert_non_null(strstr(error, ":4: expected \"input_length\""));
    unlink(path);
    assert_int_equal(trace_read_file(path, 3, &trace, error), TRACE_IO);
    assert_non_null(strstr(error, path));
    assert_int_equal(trace_read_file("/", 3, &trace, error), TRACE_IO);
}

static void clipped_requests_fit_the_context(void **state)
{
    (void)state;
    struct trace trace;
    char error[TRACE_ERROR_BYTES];
    char text[4096] = GOOD;
    for (int i = 0; i < 9; i++)
    {
        strcat(text, GOOD);
    }
    assert_int_equal(read_text(text, 99, &trace, error), TRACE_OK);
    assert_int_equal(trace.requests, 10);
    trace.request[0].output_tokens = 100000;
    trace_clip(&trace, 512);
    assert_int_equal(trace.request[0].input_tokens, 1);
    for (int64_t i = 0; i < trace.requests; i++)
    {
        const struct trace_request *request = &trace.request[i];
        assert_true(request->input_tokens >= 1 && request->output_tokens >= 1);
        assert_true(request->input_tokens + request->output_tokens <= 512);
    }
    trace_free(&trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_read),
        cmocka_unit_test(lines_past_the_last_one_asked_for_are_not_read),
        cmocka_unit_test(blank_lines_carriage_returns_and_other_keys_are_fine),
        cmocka_unit_test(a_malformed_line_is_named_with_what_was_expected),
        cmocka_unit_test(a_table_reads_as_json_lines_do),
        cmocka_unit_test(a_malformed_row_is_named_with_both_values),
        cmocka_unit_test(a_nul_byte_is_no_end),
        cmocka_unit_test(nesting_and_length_have_limits),
        cmocka_unit_test(a_file_reads_as_memory_does),
        cmocka_unit_test(clipped_requests_fit_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
