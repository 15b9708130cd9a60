/* Bad: rank 1 records another graph than rank 0: a layer more, another constant, extent, copy,
 * memset or order, or none at all. */
#include "tests/capture/ranks.h"

static int line[GROUP_RANKS];

static enum rfn_status layer(struct ranked *r, struct rfn_stream *stream)
{
    int more = r->number;
    line[r->number] = __LINE__ + 1;
    enum rfn_status status = rfn_index_topk(stream, &r->s.pick);
    if (!status && more)
    {
        line[r->number] = __LINE__ + 1;
        status = rfn_index_topk(stream, &r->s.pick);
    }
    return status;
}

static enum rfn_status constant(struct ranked *r, struct rfn_stream *stream)
{
    struct rfn_index_topk_args pick = r->s.pick;
    pick.pages -= r->number;
    WORKS(&r->s, rfn_index_topk(stream, &r->s.pick));
    line[r->number] = __LINE__ + 1;
    return rfn_index_topk(stream, &pick);
}

static enum rfn_status extent(struct ranked *r, struct rfn_stream *stream)
{
    struct rfn_index_topk_args pick = r->s.pick;
    pick.slots.shape[1] >>= r->number;
    line[r->number] = __LINE__ + 1;
    return rfn_index_topk(stream, &pick);
}

static enum rfn_status bytes(struct ranked *r, struct rfn_stream *stream)
{
    struct step *s = &r->s;
    int64_t part = STEP_PICKED_BYTES >> r->number;
    WORKS(s, rfn_index_topk(stream, &s->pick));
    line[r->number] = __LINE__ + 1;
    return rfn_copy_async(stream, s->host_picked, s->pick.slots.data, part);
}

static enum rfn_status value(struct ranked *r, struct rfn_stream *stream)
{
    WORKS(&r->s, rfn_index_topk(stream, &r->s.pick));
    line[r->number] = __LINE__ + 1;
    return rfn_set_async(stream, r->s.host_picked, 3 - 2 * r->number, 4);
}

static enum rfn_status kernel(struct ranked *r, struct rfn_stream *stream)
{
    line[r->number] = __LINE__ + 2;
    if (!r->number)
        return rfn_index_topk(stream, &r->s.pick);
    line[r->number] = __LINE__ + 1;
    WORKS(&r->s, rfn_set_async(stream, r->s.host_picked, 0, 4));
    return rfn_index_topk(stream, &r->s.pick);
}

/* The second set comes behind the pick, or beside it. */
static enum rfn_status order(struct ranked *r, struct rfn_stream *stream)
{
    struct step *s = &r->s;
    struct rfn_stream *on = r->number ? stream : s->side;
    WORKS(s, rfn_set_async(stream, s->host_picked, 0, 4));
    WORKS(s, rfn_event_record(s->fork, stream, 0));
    WORKS(s, rfn_stream_wait(s->side, s->fork, 0));
    WORKS(s, rfn_index_topk(stream, &s->pick));
    line[r->number] = __LINE__ + 1;
    WORKS(s, rfn_set_async(on, s->host_picked + 4, 0, 4));
    WORKS(s, rfn_event_record(s->join, s->side, 0));
    return rfn_stream_wait(stream, s->join, 0);
}

struct planted
{
    enum rfn_status (*record)(struct ranked *r, struct rfn_stream *stream);
    const char *node[GROUP_RANKS];
    const char *words[GROUP_RANKS];
};

static void check_planted(struct ranked *rank)
{
    static const struct planted planted[] = {
        { layer,
          { "index_topk", "index_topk" },
          { "1 nodes here, and 1 to 2 over the ranks, of which the first 1 are alike; "
            "the "
            "next here is none",
            "2 nodes here, and 1 to 2 over the ranks, of which the first 1 are alike; "
            "the "
            "next here is index_topk" } },
        { constant,
          { "index_topk", "index_topk" },
          { "(node 1): the constant 'pages' is 8 here, and 7 to 8 over the ranks",
            "(node 1): the constant 'pages' is 7 here, and 7 to 8 over the ranks" } },
        { extent,
          { "index_topk", "index_topk" },
          { "the extent 'slots.shape[1]' is 8 here, and 4 to 8 over the ranks",
            "the extent 'slots.shape[1]' is 4 here, and 4 to 8 over the ranks" } },
        { bytes,
          { "memcpy", "memcpy" },
          { "the bytes of 'dst' is 64 here, and 32 to 64 over the ranks",
            "the bytes of 'dst' is 32 here, and 32 to 64 over the ranks" } },
        { value,
          { "memset", "memset" },
          { "the memset's 'value' is 3 here, and 1 to 3 over the ranks",
            "the memset's 'value' is 1 here, and 1 to 3 over the ranks" } },
        { kernel,
          { "index_topk", "memset" },
          { "its type is kernel here, and kernel and memset over the ranks",
            "its type is memset here, and kernel and memset over the ranks" } },
        { order,
          { "memset", "memset" },
          { "it comes behind other nodes here", "it comes behind other nodes here" } },
    };
    for (size_t i = 0; i < sizeof planted / sizeof planted[0]; i++)
    {
        for (int k = 0; k < GROUP_RANKS; k++)
        {
            rank[k].want.rule = RFN_CAP038;
            rank[k].want.at = &line[k];
            rank[k].want.name = planted[i].node[k];
            rank[k].want.words = planted[i].words[k];
            if (planted[i].record == extent && step_device() == RFN_DEVICE_CUDA)
                rank[k].want.words = k ? "the constant 'K' is 4 here, and 4 to 8"
                                       : "the constant 'K' is 8 here, and 4 to 8";
            ranks_record(&rank[k], planted[i].record);
        }
        ranks_compare(rank);
    }
}

static void check_none(struct ranked *rank)
{
    static const char *const words[] = {
        "'decode step' has 1 nodes here, and another rank has no graph",
        "this rank has no graph, and another has one",
    };
    static const int nowhere;
    rank[0].s.pick.pages = STEP_PAGES;
    ranks_record(&rank[0], extent);
    for (int k = 0; k < GROUP_RANKS; k++)
    {
        rank[k].want.words = words[k];
        rank[k].want.name = k ? "" : "index_topk";
        rank[k].want.at = k ? &nowhere : &line[0];
    }
    ranks_compare(rank);
}

/* What nobody declared is not sure to be wrong. */
static void check_undeclared(struct ranked *rank)
{
    static const int nowhere;
    static struct drawn d;
    for (int k = 0; k < GROUP_RANKS; k++)
    {
        draw(&d);
        d.undeclared += k;
        WORKS(&rank[k].s, rfn_image_create(&d.image, &rank[k].image));
        rank[k].want.heuristic = 1;
        rank[k].want.name = "index_topk";
        rank[k].want.at = &nowhere;
        rank[k].want.words = k ? "the field at 'bytes 8 to 15' is 10 here"
                               : "the field at 'bytes 8 to 15' is 9 here";
    }
    ranks_compare(rank);
}

/* Each of these numbers changes the signature. */
static void check_numbers(struct step *s)
{
    static struct drawn d;
    static const int32_t fields = 28;
    uint64_t seen[29]; /* the last: nothing is changed */
    for (int32_t i = 0; i <= fields; i++)
    {
        draw(&d);
        struct rfn_image_node *n = d.node;
        int32_t k = 0;
        int64_t *const wide[] = { &d.constant,
                                  &d.shape[0],
                                  &d.shape[1],
                                  &d.undeclared,
                                  &d.access[0].bytes,
                                  &d.access[1].rows,
                                  &d.access[0].row_bytes,
                                  &d.access[1].row_stride_bytes };
        for (size_t w = 0; w < sizeof wide / sizeof wide[0]; w++)
            *wide[w] += k++ == i;
        for (int axis = 0; axis < 3; axis++)
        {
            n[0].grid[axis] += k++ == i;
            n[1].block[axis] += k++ == i;
        }
        n[1].shared_bytes += k++ == i;
        d.inner[0].grid[1] += k++ == i;
        n[2].value += k++ == i;
        n[2].value_bytes += k++ == i;
        n[0].params -= k++ == i;
        n[1].params -= k++ == i;
        n[2].accesses -= k++ == i;
        n[1].name = k++ == i ? "all_gather" : n[1].name;
        n[0].op = k++ == i ? "" : n[0].op;
        n[3].type = k++ == i ? RFN_IMAGE_EMPTY : n[3].type;
        d.edge[2].programmatic += k++ == i;
        d.edge[3].from -= k++ == i;
        d.image.nodes -= k == i;
        d.image.edges -= k++ == i;
        d.param[0].pointer.address *= k++ != i; /* none at all */
        harness_check(&s->h, "the fields", k == fields, "%d", k);
        seen[i] = drawn_signature(s, &d);
        for (int32_t j = 0; j < i; j++)
            harness_check(&s->h, "a signature of its own", seen[j] != seen[i],
                          "%d and %d: %llx", j, i, (unsigned long long)seen[i]);
    }
}

int main(int argc, char **argv)
{
    static struct ranked rank[GROUP_RANKS];
    struct group group;
    if (!ranks_open(rank, &group, "cap038_bad", &argc, argv))
        return 1;
    check_planted(rank);
    check_none(rank);
    check_undeclared(rank);
    check_numbers(&rank[0].s);
    return ranks_close(rank, &group);
}
