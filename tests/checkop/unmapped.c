/* What must not be read is taken away: pages of masked slots, columns past the length and
 * rows past the live count are unmapped, and the twin runs in a child of its own. */
#define _GNU_SOURCE
#include "tests/checkop/checkop.h"
#include "tests/support/harness.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Memory whose bytes from `keep` on are unreadable; `keep` ends at a page of the machine,
 * so that what is kept ends where the unreadable starts. Lives until the child ends. */
static unsigned char *cliff(size_t keep, size_t gone)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t front = (keep + page - 1) / page * page,
           behind = (gone + page - 1) / page * page;
    unsigned char *p = mmap(NULL, front + behind, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + front, behind, PROT_NONE))
        _exit(3);
    return p + front - keep;
}

static void run(const struct rfn_op *op, const void *args)
{
    struct rfn_host_env env = { NULL, 1 };
    if (rfn_op_check(op, args) != RFN_OK)
    {
        printf("%s\n", rfn_last_error());
        fflush(stdout);
        _exit(2);
    }
    op->host(args, &env);
}

/* Rows 0 and 1 live; rows 2 and 3 of every input are unreadable. */
static void run_kv_pack(void)
{
    struct rfn_kv_pack_args a = { .scale = RFN_SCALE_F32 };
    static int32_t live = 2;
    static _Alignas(16) unsigned char pool[4 * 656];
    a.kv = rfn_tensor_of(cliff(2 * 1024, 2 * 1024), RFN_BF16, 4, 512, 0, 0);
    a.k_rope = rfn_tensor_of(cliff(2 * 128, 2 * 128), RFN_BF16, 4, 64, 0, 0);
    a.slots = rfn_tensor_of(cliff(16, 16), RFN_I64, 4, 0, 0, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    a.pool = (struct rfn_pool) { pool, RFN_LATENT_FP8_656, 4, 1, 0 };
    run(&rfn_op_kv_pack, &a);
}

/* One row of 4096 columns, of which 1000 may be read. */
static void run_index_topk(void)
{
    struct rfn_index_topk_args a = { 0 };
    static int32_t lens[1] = { 1000 }, positions[64];
    a.logits = rfn_tensor_of(cliff(4000, 4 * 3096), RFN_F32, 1, 4096, 0, 0);
    a.lens = rfn_tensor_of(lens, RFN_I32, 1, 0, 0, 0);
    a.positions = rfn_tensor_of(positions, RFN_I32, 1, 64, 0, 0);
    run(&rfn_op_index_topk, &a);
}

/* Two pages, the second unreadable; its slots stand in columns that are masked. */
static void run_sparse_mla(void)
{
    struct rfn_sparse_mla_args a = { .scale = 0.1f };
    static int32_t index[4] = { 3, -1, 70, 64 }, lens[1] = { 2 };
    static _Alignas(16) uint16_t q[8 * 576], out[8 * 512];
    a.q = rfn_tensor_of(q, RFN_BF16, 1, 8, 576, 0);
    a.source[0].pool =
        (struct rfn_pool) { cliff(64 * 656, 64 * 656), RFN_LATENT_FP8_656, 64, 2, 0 };
    a.source[0].indices = rfn_tensor_of(index, RFN_I32, 1, 4, 0, 0);
    a.source[0].lens = rfn_tensor_of(lens, RFN_I32, 1, 0, 0, 0);
    a.out = rfn_tensor_of(out, RFN_BF16, 1, 8, 512, 0);
    run(&rfn_op_sparse_mla, &a);
}

/* Row 0 lives; its second partial is empty and, as all of row 1, unreadable. */
static void run_mla_combine(void)
{
    struct rfn_mla_combine_args a = { .empty_lse_positive = 0 };
    static int32_t live = 1;
    static _Alignas(16) uint16_t out[2 * 8 * 512];
    static float lse_part[2 * 2 * 8];
    for (int i = 16; i < 32; i++)
        lse_part[i] = -INFINITY;
    a.out_part = rfn_tensor_of(cliff(8 * 1024, 3 * 8 * 1024), RFN_BF16, 2, 2, 8, 512);
    a.lse_part = rfn_tensor_of(lse_part, RFN_F32, 2, 2, 8, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    a.out = rfn_tensor_of(out, RFN_BF16, 2, 8, 512, 0);
    run(&rfn_op_mla_combine, &a);
}

/* Of four requests two live; the others, and the table behind the length, are unreadable. */
static void run_step_update(void)
{
    struct rfn_step_update_args a = { .next_n = 2, .page_tokens = 64, .pages = 10 };
    static int32_t requests = 2, advance = 1, live, request[8], context[8];
    static int64_t slots[8];
    int32_t *lens = (int32_t *)cliff(8, 8), *q_lens = (int32_t *)cliff(8, 8);
    int32_t *rejected = (int32_t *)cliff(8, 8);
    lens[0] = lens[1] = 64;
    q_lens[0] = q_lens[1] = 2;
    rejected[0] = rejected[1] = 0;
    a.lens = rfn_tensor_of(lens, RFN_I32, 4, 0, 0, 0);
    a.q_lens = rfn_tensor_of(q_lens, RFN_I32, 4, 0, 0, 0);
    a.rejected = rfn_tensor_of(rejected, RFN_I32, 4, 0, 0, 0);
    a.table = rfn_tensor_of(cliff(4 * 17, 4 * 47), RFN_I32, 4, 16, 0, 0);
    a.requests = rfn_tensor_of(&requests, RFN_I32, 1, 0, 0, 0);
    a.advance = rfn_tensor_of(&advance, RFN_I32, 1, 0, 0, 0);
    a.request = rfn_tensor_of(request, RFN_I32, 8, 0, 0, 0);
    a.context = rfn_tensor_of(context, RFN_I32, 8, 0, 0, 0);
    a.slots = rfn_tensor_of(slots, RFN_I64, 8, 0, 0, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    run(&rfn_op_step_update, &a);
}

/* Of four requests two live; the lengths of the others are unreadable. */
static void run_split_lists(void)
{
    static int32_t requests = 2, maxima[RFN_SPLIT_MAXIMA], counts[RFN_SPLIT_COUNTS];
    static _Alignas(8) int32_t pairs[16];
    int32_t *q_lens = (int32_t *)cliff(8, 8), *cached = (int32_t *)cliff(8, 8);
    q_lens[0] = q_lens[1] = 2;
    cached[0] = cached[1] = 64;
    struct rfn_split_lists_args a = {
        .q_lens = rfn_tensor_of(q_lens, RFN_I32, 4, 0, 0, 0),
        .prefill = rfn_tensor_of(cliff(8, 8), RFN_I32, 4, 0, 0, 0),
        .cached = rfn_tensor_of(cached, RFN_I32, 4, 0, 0, 0),
        .requests = rfn_tensor_of(&requests, RFN_I32, 1, 0, 0, 0),
        .maxima = rfn_tensor_of(maxima, RFN_I32, RFN_SPLIT_MAXIMA, 0, 0, 0),
        .decoder = rfn_tensor_of(pairs, RFN_I32, 8, 2, 0, 0),
        .counts = rfn_tensor_of(counts, RFN_I32, RFN_SPLIT_COUNTS, 0, 0, 0),
        .kv_keys = 64,
        .sm_count = 132,
    };
    run(&rfn_op_split_lists, &a);
}

/* The same; and 2 + 1 starts. */
static void run_prefix_lists(void)
{
    static int32_t requests = 2, starts[5], counts[RFN_PREFIX_COUNTS];
    static _Alignas(8) int32_t pairs[16];
    int32_t *q_starts = (int32_t *)cliff(12, 8), *cached = (int32_t *)cliff(8, 8);
    q_starts[1] = 2;
    q_starts[2] = 3;
    cached[0] = cached[1] = 65;
    struct rfn_prefix_lists_args a = {
        .q_starts = rfn_tensor_of(q_starts, RFN_I32, 5, 0, 0, 0),
        .cached = rfn_tensor_of(cached, RFN_I32, 4, 0, 0, 0),
        .requests = rfn_tensor_of(&requests, RFN_I32, 1, 0, 0, 0),
        .tiles = rfn_tensor_of(pairs, RFN_I32, 8, 2, 0, 0),
        .key_starts = rfn_tensor_of(starts, RFN_I32, 5, 0, 0, 0),
        .counts = rfn_tensor_of(counts, RFN_I32, RFN_PREFIX_COUNTS, 0, 0, 0),
        .prefix_keys = 64,
    };
    run(&rfn_op_prefix_lists, &a);
}

/* Rows 0 and 1 live; keys and output of rows 2 and 3 may not be touched. */
static void run_synth_fill(void)
{
    struct rfn_synth_fill_args a = { .amplitude = 1.0f };
    static int32_t live = 2;
    a.out = rfn_tensor_of(cliff(2 * 1152, 2 * 1152), RFN_BF16, 4, 576, 0, 0);
    a.keys = rfn_tensor_of(cliff(16, 16), RFN_I64, 4, 0, 0, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    run(&rfn_op_synth_fill, &a);
}

/* Rows 0 and 1 live; rows 2 and 3 of every input are unreadable. */
static void run_index_pack(void)
{
    struct rfn_index_pack_args a = { .scale = RFN_SCALE_F32 };
    static int32_t live = 2;
    static _Alignas(16) unsigned char pool[4 * 132];
    a.k = rfn_tensor_of(cliff(2 * 256, 2 * 256), RFN_BF16, 4, 128, 0, 0);
    a.slots = rfn_tensor_of(cliff(16, 16), RFN_I64, 4, 0, 0, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    a.pool = (struct rfn_pool) { pool, RFN_INDEX_FP8_132, 4, 1, 0 };
    run(&rfn_op_index_pack, &a);
}

static void run_index_query_pack(void)
{
    struct rfn_index_query_pack_args a = { .scale = RFN_SCALE_F32 };
    static int32_t live = 2;
    static float w8[4 * 4];
    static _Alignas(16) uint8_t q8[4 * 4 * 128];
    a.q = rfn_tensor_of(cliff(2 * 1024, 2 * 1024), RFN_BF16, 4, 4, 128, 0);
    a.w = rfn_tensor_of(cliff(2 * 16, 2 * 16), RFN_F32, 4, 4, 0, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    a.q8 = rfn_tensor_of(q8, RFN_E4M3, 4, 4, 128, 0);
    a.w8 = rfn_tensor_of(w8, RFN_F32, 4, 4, 0, 0);
    run(&rfn_op_index_query_pack, &a);
}

/* A row of one page, with two in its table of which the second is unreadable; row 1 is past
 * the live count and unreadable too. */
static void run_index_logits(void)
{
    struct rfn_index_logits_args a = { 0 };
    static int32_t live = 1;
    static float logits[2 * 128];
    a.q8 = rfn_tensor_of(cliff(512, 512), RFN_E4M3, 2, 4, 128, 0);
    a.w8 = rfn_tensor_of(cliff(16, 16), RFN_F32, 2, 4, 0, 0);
    a.pool = (struct rfn_pool) { cliff(8448, 8448), RFN_INDEX_FP8_132, 64, 2, 0 };
    a.table = rfn_tensor_of(cliff(4, 4), RFN_I32, 1, 2, 0, 0);
    a.request = rfn_tensor_of(cliff(4, 4), RFN_I32, 2, 0, 0, 0);
    a.lens = rfn_tensor_of(cliff(4, 4), RFN_I32, 2, 0, 0, 0);
    a.live = rfn_tensor_of(&live, RFN_I32, 1, 0, 0, 0);
    a.logits = rfn_tensor_of(logits, RFN_F32, 2, 128, 0, 0);
    ((int32_t *)a.lens.data)[0] = 64;
    run(&rfn_op_index_logits, &a);
}

/* Two requests live, the first of length 0; the second's last row, page, column and start are
 * followed by what may not be touched. */
static void run_index_gather(void)
{
    struct rfn_index_gather_args a = { 0 };
    static int32_t requests = 2;
    a.pool = (struct rfn_pool) { cliff(8448, 8448), RFN_INDEX_FP8_132, 64, 2, 0 };
    a.table = rfn_tensor_of(cliff(4 * 17, 4 * 47), RFN_I32, 4, 16, 0, 0);
    a.starts = rfn_tensor_of(cliff(4 * 3, 4 * 2), RFN_I32, 5, 0, 0, 0);
    a.requests = rfn_tensor_of(&requests, RFN_I32, 1, 0, 0, 0);
    a.keys = rfn_tensor_of(cliff(64 * 128, 64 * 128), RFN_E4M3, 128, 128, 0, 0);
    a.scales = rfn_tensor_of(cliff(64 * 4, 64 * 4), RFN_F32, 128, 0, 0, 0);
    ((int32_t *)a.starts.data)[2] = 64;
    run(&rfn_op_index_gather, &a);
}

void ck_unmapped(struct harness *h, const char *op)
{
    static const struct
    {
        const struct rfn_op *op;
        const char *name;
        void (*run)(void);
    } list[] = {
        { &rfn_op_kv_pack, "kv_pack: rows past the live count are never read",
          run_kv_pack },
        { &rfn_op_index_topk, "index_topk: columns past the length are never read",
          run_index_topk },
        { &rfn_op_sparse_mla, "sparse_mla: masked slots are never loaded",
          run_sparse_mla },
        { &rfn_op_index_pack, "index_pack: rows past the live count are never read",
          run_index_pack },
        { &rfn_op_index_query_pack,
          "index_query_pack: rows past the live count are never read",
          run_index_query_pack },
        { &rfn_op_index_logits,
          "index_logits: keys and pages past the length are never loaded",
          run_index_logits },
        { &rfn_op_mla_combine, "mla_combine: empty partials are never read",
          run_mla_combine },
        { &rfn_op_step_update, "step_update: dead requests are never read",
          run_step_update },
        { &rfn_op_synth_fill, "synth_fill: rows past the live count are never touched",
          run_synth_fill },
        { &rfn_op_index_gather, "index_gather: rows past the total are never touched",
          run_index_gather },
        { &rfn_op_split_lists, "split_lists: dead requests are never read",
          run_split_lists },
        { &rfn_op_prefix_lists, "prefix_lists: dead requests are never read",
          run_prefix_lists },
    };
    for (size_t i = 0; i < CK_COUNT(list); i++)
    {
        if (op && strcmp(op, list[i].op->name) != 0)
            continue;
        fflush(stdout);
        int status = -1;
        pid_t child = fork();
        if (child == 0)
        {
            list[i].run();
            _exit(0);
        }
        int ok = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
                 WEXITSTATUS(status) == 0;
        harness_check(h, list[i].name, ok, "the child ended with status 0x%x", status);
    }
}
