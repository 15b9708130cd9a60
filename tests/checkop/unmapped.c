/* What must not be read is taken away: pages of masked slots, columns past the length and
 * rows past the live count are unmapped, and the twin runs in a child of its own. */
#define _GNU_SOURCE
#include "tests/checkop/checkop.h"
#include "tests/support/harness.h"

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
