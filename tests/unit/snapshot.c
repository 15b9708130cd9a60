/* Saved captures: what is written is read back the same, and what is said of each file that is
 * none. */
#include "tools/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the first three above first */
#include <cmocka.h>
#include <jansson.h>
#include <refrain/diff.h>

static const uint8_t bytes[] = { 0, 1, 0x7f, 0x80, 0xff, 9, 8, 7 };
static const struct rfn_image_pointer pointer = {
    0x7f0012345678, 0x7f0012345600, 4096, 0x78, 3, RFN_MEMORY_DEVICE, 1, 0
};

/* Something of everything. */
static char *written(size_t *ret_bytes)
{
    struct rfn_image_param param[] = {
        { "slots", RFN_IMAGE_WRITE, 8, 8, bytes, pointer },
        { "scale", RFN_IMAGE_CONST, 16, 4, bytes, { 0 } },
        { "nothing", RFN_IMAGE_FOREIGN, 20, 0, bytes, { 0 } },
    };
    struct rfn_image_access access = {
        "slots", RFN_READ_WRITE, 0, 100, 2, 40, 60, pointer
    };
    struct rfn_image_node inside = { .type = RFN_IMAGE_MEMSET,
                                     .value = -3,
                                     .value_bytes = 4,
                                     .launch = -1,
                                     .name = "memset",
                                     .op = "",
                                     .why = "",
                                     .file = "",
                                     .region = "" };
    struct rfn_image child = { "child", "cuda", 0, 1, 0, &inside, NULL };
    struct rfn_image_node node[] = {
        { .type = RFN_IMAGE_KERNEL,
          .name = "topk",
          .op = "index_topk",
          .launch = 4,
          .why = "",
          .file = "step.c",
          .line = 12,
          .region = "decode > \"forward\"",
          .stream = 5,
          .thread = 2,
          .grid = { 7, 1, 2 },
          .block = { 128, 1, 1 },
          .shared_bytes = 1024,
          .params = 3,
          .accesses = 1,
          .param = param,
          .access = &access },
        { .type = RFN_IMAGE_CHILD,
          .name = "child",
          .op = "",
          .why = "no reason",
          .file = "",
          .region = "",
          .launch = -1,
          .foreign = 1,
          .opaque = 1,
          .function = UINT64_MAX,
          .user = 0x1234,
          .event = 0xabc,
          .child = &child },
    };
    struct rfn_image_edge edge = { 0, 1, 1 };
    struct rfn_image image = { "first", "cuda", 77, 2, 1, node, &edge };
    const struct rfn_image *all[] = { &image, &child };
    json_t *json = snapshot_json(all, 2);
    assert_non_null(json);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_non_null(text);
    *ret_bytes = strlen(text);
    json_decref(json);
    return text;
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct snapshot s;
    char line[SNAPSHOT_ERROR_BYTES];
    size_t length;
    char *text = written(&length);
    assert_int_equal(snapshot_parse("s", text, length, &s, line), 0);
    assert_string_equal(line, "");
    assert_int_equal(s.images, 2);
    const struct rfn_image *i = s.image[0];
    assert_string_equal(i->name, "first");
    assert_string_equal(i->device, "cuda");
    assert_int_equal(i->capture_id, 77);
    assert_int_equal(i->nodes, 2);
    assert_int_equal(i->edges, 1);
    assert_int_equal(i->edge[0].programmatic, 1);
    const struct rfn_image_node *n = &i->node[0];
    assert_int_equal(n->type, RFN_IMAGE_KERNEL);
    assert_string_equal(n->name, "topk");
    assert_string_equal(n->op, "index_topk");
    assert_string_equal(n->region, "decode > \"forward\"");
    assert_string_equal(n->file, "step.c");
    assert_int_equal(n->line, 12);
    assert_int_equal(n->launch, 4);
    assert_int_equal(n->stream, 5);
    assert_int_equal(n->thread, 2);
    assert_int_equal(n->grid[2], 2);
    assert_int_equal(n->block[0], 128);
    assert_int_equal(n->shared_bytes, 1024);
    assert_int_equal(n->params, 3);
    assert_int_equal(n->param[0].role, RFN_IMAGE_WRITE);
    assert_int_equal(n->param[0].offset, 8);
    assert_int_equal(n->param[0].bytes, 8);
    assert_memory_equal(n->param[0].value, bytes, 8);
    assert_memory_equal(&n->param[0].pointer, &pointer, sizeof pointer);
    assert_int_equal(n->param[1].bytes, 4);
    assert_memory_equal(n->param[1].value, bytes, 4);
    assert_int_equal(n->param[2].bytes, 0);
    assert_int_equal(n->access[0].access, RFN_READ_WRITE);
    assert_int_equal(n->access[0].rows, 2);
    assert_int_equal(n->access[0].row_stride_bytes, 60);
    assert_memory_equal(&n->access[0].pointer, &pointer, sizeof pointer);
    n = &i->node[1];
    assert_int_equal(n->launch, -1);
    assert_int_equal(n->foreign, 1);
    assert_int_equal(n->opaque, 1);
    assert_string_equal(n->why, "no reason");
    assert_true(n->function == UINT64_MAX);
    assert_int_equal(n->user, 0x1234);
    assert_int_equal(n->event, 0xabc);
    assert_non_null(n->child);
    assert_int_equal(n->child->node[0].value, -3);
    assert_int_equal(n->child->node[0].value_bytes, 4);
    assert_int_equal(s.image[1]->nodes, 1);
    snapshot_release(&s);
    free(text);
}

static void a_file_that_ends_early_is_refused(void **state)
{
    (void)state;
    size_t length;
    char *text = written(&length);
    for (size_t n = 0; n < length; n++)
    {
        struct snapshot s;
        char line[SNAPSHOT_ERROR_BYTES];
        char *copy = malloc(n + 1); /* so that reading on is seen */
        assert_non_null(copy);
        memcpy(copy, text, n);
        assert_int_equal(snapshot_parse("s", copy, n, &s, line), 2);
        assert_int_equal(strncmp(line, "s:", 2), 0);
        assert_int_equal(s.images, 0);
        free(copy);
    }
    free(text);
}

#define HEAD "{\"format\":\"refrain graphs\",\"version\":1,\"graphs\":"
#define NODE(fields) HEAD "[{\"nodes\":[{\"type\":\"kernel\"," fields "}]}]}"

static void what_makes_no_sense_is_named(void **state)
{
    (void)state;
    static const struct
    {
        const char *text;
        const char *words;
    } bad[] = {
        { "[]", "format is ''" },
        { "{\"traceEvents\":[]}", "format is ''" },
        { "{\"format\":\"refrain graphs\",\"version\":2,\"graphs\":[{}]}", "version 2" },
        { HEAD "{}}", "graphs is no list" },
        { HEAD "[]}", "no graphs" },
        { HEAD "[7]}", "graph 0: has no nodes" },
        { HEAD "[{\"nodes\":[3]}]}", "graph 0, node 0: is no node" },
        { HEAD "[{\"nodes\":[{\"type\":\"kernle\"}]}]}", "type 'kernle' is not known" },
        { NODE("\"line\":\"x\""), "node 0: line is no number" },
        { NODE("\"line\":1e3"), "line is no number" },
        { NODE("\"line\":5000000000"),
          "line is no number from -2147483648 to 2147483647" },
        { NODE("\"grid\":[1,2]"), "grid is no list of three" },
        { NODE("\"grid\":[1,2,-1]"), "grid is no list of three" },
        { NODE("\"function\":\"12\""), "function is '12', no address" },
        { NODE("\"function\":\"0xfffffffffffffffff\""), "no address" },
        { NODE("\"params\":[{\"role\":\"konst\"}]"), "parameter 0: role 'konst'" },
        { NODE("\"params\":[{\"role\":\"const\",\"value\":\"0g\"}]"),
          "no list of bytes" },
        { NODE("\"params\":[{\"role\":\"const\",\"value\":\"012\"}]"),
          "no list of bytes" },
        { NODE("\"accesses\":[{\"access\":\"read\",\"bytes\":-1}]"), "access 0: bytes" },
        { NODE("\"accesses\":[{\"access\":\"\"}]"), "graph 0: image: node 0, access 0" },
        { NODE("\"accesses\":[{\"access\":\"read\",\"bytes\":8,\"rows\":3,"
               "\"row_bytes\":8,\"row_stride_bytes\":8}]"),
          "3 rows of 8 bytes, 8 apart, in 8 bytes" },
        { HEAD "[{\"nodes\":[{\"type\":\"empty\"}],\"edges\":[[0,0,0]]}]}",
          "edge 0 leads from node 0 to node 0 of 1" },
        { HEAD "[{\"nodes\":[{\"type\":\"empty\"}],\"edges\":[[0,1]]}]}",
          "edge 0 is no list" },
        { HEAD "[{\"nodes\":[{\"type\":\"empty\"},{\"type\":\"empty\"}],\"edges\":"
               "[[4294967296,4294967297,0]]}]}",
          "edge 0 is no list of three counts" },
        { HEAD "[{\"nodes\":[{\"type\":\"empty\"},{\"type\":\"empty\"}],\"edges\":"
               "[[0,1,0,0]]}]}",
          "edge 0 is no list of three counts" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    {
        struct snapshot s;
        char line[SNAPSHOT_ERROR_BYTES];
        int status = snapshot_parse("s", bad[i].text, strlen(bad[i].text), &s, line);
        if (status != 2 || !strstr(line, bad[i].words))
            print_message("%s: '%s' lacks '%s'\n", bad[i].text, line, bad[i].words);
        assert_int_equal(status, 2);
        assert_non_null(strstr(line, bad[i].words));
        assert_int_equal(s.images, 0);
        assert_null(s.image);
    }
}

static void children_may_not_nest_without_end(void **state)
{
    (void)state;
    enum
    {
        LEVELS = 200
    };
    char *text = malloc(LEVELS * 64 + 256);
    struct snapshot s;
    char line[SNAPSHOT_ERROR_BYTES];
    assert_non_null(text);
    strcpy(text, HEAD "[");
    for (int i = 0; i < LEVELS; i++)
        strcat(text, "{\"nodes\":[{\"type\":\"child\",\"child\":");
    strcat(text, "{\"nodes\":[]}");
    for (int i = 0; i < LEVELS; i++)
        strcat(text, "}]}");
    strcat(text, "]}");
    assert_int_equal(snapshot_parse("s", text, strlen(text), &s, line), 2);
    assert_non_null(strstr(line, "nest too deeply"));
    free(text);
}

/* A name that a terminal would act on, or take for two lines. */
static void names_have_no_control_characters(void **state)
{
    (void)state;
    static const char text[] =
        NODE("\"name\":\"a\\n\\u001b[31m\\u007f\\u0085\u00e9\\u20ac\"");
    struct snapshot s;
    char line[SNAPSHOT_ERROR_BYTES];
    assert_int_equal(snapshot_parse("s", text, strlen(text), &s, line), 0);
    assert_string_equal(s.image[0]->node[0].name, "a??[31m???\u00e9\u20ac");
    snapshot_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(a_file_that_ends_early_is_refused),
        cmocka_unit_test(what_makes_no_sense_is_named),
        cmocka_unit_test(children_may_not_nest_without_end),
        cmocka_unit_test(names_have_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
