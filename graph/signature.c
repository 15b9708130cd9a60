/* The signature of a graph: every number of its image that all ranks must share. */
#define RFN_NO_SITES
#include "graph/ranks.h"
#include "runtime/error.h"

#include <stdlib.h>
#include <string.h>

/* ---- hash -------------------------------------------------------------------------- */

#define SEED 0x243f6a8885a308d3 /* pi */
#define ODD 0x9e3779b97f4a7c15  /* 2^64 over the golden ratio */

/* For a given hash each value leads to another one and back: multiplying by an odd number and
 * folding the upper half in lose nothing. So two chains that differ in one value end apart. */
uint64_t rfn_ranks_mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * ODD;
    return hash ^ hash >> 32;
}

static uint64_t hash_text(const char *text)
{
    size_t n = strlen(text);
    uint64_t hash = rfn_ranks_mix(SEED, n);
    for (size_t at = 0; at < n; at += 8)
    {
        uint64_t word = 0;
        memcpy(&word, text + at, n - at < 8 ? n - at : 8);
        hash = rfn_ranks_mix(hash, word);
    }
    return hash;
}

/* ---- words of a node ---------------------------------------------------------------- */

/* Words are hashed as they come, and kept where there is room. */
struct sink
{
    uint64_t hash;
    struct rfn_word *word;
    int32_t room;
    int32_t words;
};

static void put(struct sink *s, struct rfn_word word)
{
    s->hash = rfn_ranks_mix(s->hash, (uint64_t)word.value);
    if (s->words < s->room)
        s->word[s->words] = word;
    s->words++;
}

static void put_number(struct sink *s, const char *what, const char *name, int64_t value)
{
    put(s, (struct rfn_word) { RFN_WORD_NUMBER, .what = what, name, -1, .bytes = 8,
                               .value = value });
}

static void put_name(struct sink *s, const char *what, const char *name)
{
    put(s, (struct rfn_word) { RFN_WORD_NAME, .what = what, name, -1,
                               .value = (int64_t)hash_text(name) });
}

static void put_shape(struct sink *s, const char *name, const uint32_t shape[3])
{
    for (int32_t i = 0; i < 3; i++)
        put(s, (struct rfn_word) { RFN_WORD_NUMBER, "the launch's", name, i, 8,
                                   .value = shape[i] });
}

static void put_value(struct sink *s, const struct rfn_image_param *p, const char *what)
{
    int32_t word = p->bytes % 8 == 0 ? 8 : p->bytes % 4 == 0 ? 4 : 1;
    for (int32_t at = 0; at < p->bytes; at += word)
    {
        const unsigned char *from = (const unsigned char *)p->value + at;
        int64_t value = *from;
        int32_t low;
        memcpy(&low, from, word == 4 ? 4 : 0);
        if (word == 8)
            memcpy(&value, from, 8);
        else if (word == 4)
            value = low;
        put(s, (struct rfn_word) { .kind = RFN_WORD_NUMBER,
                                   .what = what,
                                   .name = p->name,
                                   .index = p->bytes == word ? -1 : at / word,
                                   .bytes = word == 4 ? 4 : 8,
                                   .unsure = p->role == RFN_IMAGE_UNDECLARED,
                                   .value = value });
    }
}

static void put_param(struct sink *s, const struct rfn_image_param *p)
{
    put_name(s, "a parameter", p->name);
    put_number(s, "the role of", p->name, p->role);
    put_number(s, "the size of", p->name, p->bytes);
    switch (p->role)
    {
    case RFN_IMAGE_READ:
    case RFN_IMAGE_WRITE:
    case RFN_IMAGE_READ_WRITE:
        put_number(s, "whether there is an address", p->name, p->pointer.address != 0);
        break;
    case RFN_IMAGE_CONST:
        put_value(s, p, "the constant");
        break;
    case RFN_IMAGE_SHAPE:
        put_value(s, p, "the extent");
        break;
    case RFN_IMAGE_UNDECLARED:
        put_value(s, p, "the field at");
        break;
    default: /* dynamic, or nobody knows */
        break;
    }
}

static void put_access(struct sink *s, const struct rfn_image_access *a)
{
    put_name(s, "an operand", a->name);
    put_number(s, "the access of", a->name, a->access);
    put_number(s, "the bytes of", a->name, a->bytes);
    put_number(s, "the rows of", a->name, a->rows);
    put_number(s, "the bytes of a row of", a->name, a->row_bytes);
    put_number(s, "the row stride of", a->name, a->row_stride_bytes);
}

static void put_node(struct sink *s, const struct rfn_flat_node *flat)
{
    const struct rfn_image_node *n = flat->node;
    put(s, (struct rfn_word) { RFN_WORD_TYPE, "the", "type", -1, .value = n->type });
    put_name(s, "the node", n->name);
    put_name(s, "the op", n->op);
    put_number(s, "the number of", "nodes before it", flat->before);
    put(s, (struct rfn_word) { RFN_WORD_ORDER, "the", "order", -1,
                               .value = (int64_t)flat->order });
    put_number(s, "the nodes of", "its child", n->child ? n->child->nodes : -1);
    put_shape(s, "grid", n->grid);
    put_shape(s, "block", n->block);
    put_number(s, "the launch's", "shared memory", n->shared_bytes);
    put_number(s, "the memset's", "value", n->value);
    put_number(s, "the memset's", "bytes of an element", n->value_bytes);
    for (int32_t i = 0; i < n->params; i++)
        put_param(s, &n->param[i]);
    put_number(s, "the number of", "parameters", n->params);
    /* What is freed is known by its address alone. */
    if (n->type == RFN_IMAGE_MEM_FREE)
        return;
    for (int32_t i = 0; i < n->accesses; i++)
        put_access(s, &n->access[i]);
    put_number(s, "the number of", "operands", n->accesses);
}

int32_t rfn_flat_words(const struct rfn_flat_node *node, struct rfn_word *word,
                       int32_t room)
{
    struct sink s = { SEED, word, room, 0 };
    put_node(&s, node);
    return s.words;
}

/* ---- levels ------------------------------------------------------------------------- */

static int32_t count(const struct rfn_image *image)
{
    int32_t nodes = image->nodes;
    for (int32_t i = 0; i < image->nodes; i++)
        if (image->node[i].child)
            nodes += count(image->node[i].child);
    return nodes;
}

static void fill(struct rfn_flat *flat, const struct rfn_image *image)
{
    struct rfn_flat_node *own = flat->node + flat->nodes;
    for (int32_t i = 0; i < image->nodes; i++)
        own[i] = (struct rfn_flat_node) { .image = image, .node = &image->node[i] };
    flat->nodes += image->nodes;
    /* In whatever order a driver named them, an image has its edges sorted. */
    for (int32_t e = 0; e < image->edges; e++)
    {
        const struct rfn_image_edge *edge = &image->edge[e];
        uint64_t from = 2 * (uint64_t)edge->from + (edge->programmatic != 0);
        own[edge->to].order = rfn_ranks_mix(own[edge->to].order, from + 1);
        own[edge->to].before++;
    }
    for (int32_t i = 0; i < image->nodes; i++)
        if (image->node[i].child)
            fill(flat, image->node[i].child);
}

int rfn_flat_of(const struct rfn_image *image, struct rfn_flat *ret_flat)
{
    struct rfn_flat flat = { .signature = SEED };
    flat.node = calloc((size_t)count(image) + 1, sizeof *flat.node);
    if (!flat.node)
        return 0;
    fill(&flat, image);
    flat.signature = rfn_ranks_mix(flat.signature, (uint64_t)flat.nodes);
    for (int32_t i = 0; i < flat.nodes; i++)
    {
        struct sink s = { .hash = SEED };
        put_node(&s, &flat.node[i]);
        flat.node[i].hash = s.hash;
        flat.signature = rfn_ranks_mix(flat.signature, s.hash);
    }
    *ret_flat = flat;
    return 1;
}

void rfn_flat_free(struct rfn_flat *flat)
{
    free(flat->node);
    *flat = (struct rfn_flat) { 0 };
}

enum rfn_status rfn_image_signature(const struct rfn_image *image,
                                    uint64_t *ret_signature)
{
    struct rfn_flat flat;
    if (!image || !ret_signature)
        return RFN_FAIL(RFN_INVALID, "image_signature: %s is NULL",
                        image ? "ret_signature" : "image");
    if (!rfn_flat_of(image, &flat))
        return RFN_FAIL(RFN_NOMEM, "image_signature: no memory for %d nodes",
                        image->nodes);
    *ret_signature = flat.signature;
    rfn_flat_free(&flat);
    return RFN_OK;
}
