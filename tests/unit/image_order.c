/* Nodes of an image in an order that obeys the edges, however a driver gives them. */
#include "graph/image.h"
#include "tests/support/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the first three above first */
#include <cmocka.h>

#define NODES 60
#define EDGES 150

/* A random graph whose node `name[i]` is given as the i-th; edges are between names, the smaller
 * one first. */
static void make(struct rng *rng, struct rfn_image_store *store,
                 struct rfn_image_raw *raw, int shuffled)
{
    int32_t name[NODES], place[NODES];
    assert_true(rfn_image_raw_nodes(store, raw, NODES));
    for (int32_t i = 0; i < NODES; i++)
        name[i] = i;
    for (int32_t i = NODES - 1; shuffled && i > 0; i--)
    {
        int32_t j = (int32_t)rng_between(rng, 0, i), n = name[i];
        name[i] = name[j];
        name[j] = n;
    }
    for (int32_t i = 0; i < NODES; i++)
    {
        place[name[i]] = i;
        raw->node[i].line = name[i];
        raw->key[i] = (const void *)(uintptr_t)(8 * (name[i] + 1));
        raw->child[i].nodes = name[i];
    }
    raw->edge = rfn_image_take(store, EDGES * sizeof *raw->edge);
    for (int32_t e = 0; e < EDGES; e++)
    {
        int32_t to = (int32_t)rng_between(rng, 1, NODES - 1);
        int32_t from = (int32_t)rng_between(rng, 0, to - 1);
        raw->edge[raw->edges++] =
            (struct rfn_image_edge) { place[from], place[to], e % 2 };
    }
}

static int ends(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct rfn_image_edge));
}

/* The edges by name, in an order of their own. */
static void names(const struct rfn_image_raw *raw, struct rfn_image_edge ret[EDGES])
{
    for (int32_t e = 0; e < EDGES; e++)
        ret[e] = (struct rfn_image_edge) { raw->node[raw->edge[e].from].line,
                                           raw->node[raw->edge[e].to].line,
                                           raw->edge[e].programmatic };
    qsort(ret, EDGES, sizeof *ret, ends);
}

static void any_order_is_put_right(void **state)
{
    (void)state;
    struct rng rng = rng_of(7);
    for (int round = 0; round < 200; round++)
    {
        struct rfn_image_store store = { 0 };
        struct rfn_image_raw raw = { 0 };
        struct rfn_image_edge before[EDGES], after[EDGES];
        int seen[NODES] = { 0 };
        make(&rng, &store, &raw, 1);
        names(&raw, before);
        assert_true(rfn_image_order(&store, &raw));
        assert_int_equal(raw.nodes, NODES);
        assert_int_equal(raw.edges, EDGES);
        names(&raw, after);
        assert_memory_equal(before, after, sizeof before);
        for (int32_t e = 0; e < EDGES; e++)
        {
            assert_true(raw.edge[e].from < raw.edge[e].to);
            assert_true(e == 0 || raw.edge[e - 1].to <= raw.edge[e].to);
        }
        for (int32_t i = 0; i < NODES; i++)
        {
            int32_t name = raw.node[i].line;
            seen[name]++;
            assert_int_equal(raw.child[i].nodes, name);
            assert_ptr_equal(raw.key[i], (const void *)(uintptr_t)(8 * (name + 1)));
        }
        for (int32_t i = 0; i < NODES; i++)
            assert_int_equal(seen[i], 1);
        rfn_image_drop(&store);
    }
}

static void a_good_order_stays(void **state)
{
    (void)state;
    struct rng rng = rng_of(8);
    struct rfn_image_store store = { 0 };
    struct rfn_image_raw raw = { 0 };
    make(&rng, &store, &raw, 0);
    assert_true(rfn_image_order(&store, &raw));
    for (int32_t i = 0; i < NODES; i++)
        assert_int_equal(raw.node[i].line, i);
    rfn_image_drop(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_is_put_right),
        cmocka_unit_test(a_good_order_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
