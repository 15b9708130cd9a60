/* The ledger: what a capture of two streams holds, by whom, touching which memory. */
#include "tests/capture/step.h"

static void nothing(void *user)
{
    (void)user;
}

struct expected
{
    const char *what;
    int line;
    int side; /* launched on the side stream */
    int32_t accesses;
};

static void check_access(struct step *s, const struct rfn_ledger_access *a,
                         const char *operand, const void *address, int64_t bytes,
                         enum rfn_access access)
{
    struct rfn_memory_info info;
    WORKS(s, rfn_memory_query(s->device, address, &info));
    harness_check(&s->h, operand, !strcmp(a->operand, operand), "named %s", a->operand);
    harness_check(&s->h, operand, a->address == address && a->bytes == bytes,
                  "%lld bytes at %p, not %lld at %p", (long long)a->bytes, a->address,
                  (long long)bytes, address);
    harness_check(&s->h, operand, a->access == access, "access %d", (int)a->access);
    harness_check(&s->h, operand,
                  a->kind == info.kind && a->generation == info.generation &&
                      a->generation != 0,
                  "kind %d generation %llu, not %d and %llu", (int)a->kind,
                  (unsigned long long)a->generation, (int)info.kind,
                  (unsigned long long)info.generation);
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    struct rfn_capture_info info;
    if (!step_open(&s, "ledger", &argc, argv))
        return step_close(&s);

    struct rfn_kv_pack_args pack = step_cache(&s);
    void *pool = pack.pool.data;
    int64_t page = rfn_format_page_bytes(RFN_LATENT_FP8_656, STEP_PAGE_TOKENS);
    WORKS(&s, rfn_kv_pack(s.stream, &pack)); /* before: in no ledger */
    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    WORKS(&s, rfn_capture_query(s.stream, &info));
    int line = __LINE__;
    WORKS(&s, rfn_copy_async(s.stream, s.lens, s.host_lens, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.fork, s.stream, 0));
    WORKS(&s, rfn_stream_wait(s.side, s.fork, 0));
    WORKS(&s, rfn_kv_pack(s.side, &pack));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    WORKS(&s, rfn_set_async(s.side, s.lens, 0, STEP_LENS_BYTES));
    WORKS(&s, rfn_event_record(s.join, s.side, 0));
    WORKS(&s, rfn_stream_wait(s.stream, s.join, 0));
    WORKS(&s, rfn_host_call(s.stream, nothing, NULL));
    struct rfn_index_topk_args wrong = s.pick;
    wrong.lens.dtype = RFN_F32;
    enum rfn_status refused = rfn_index_topk(s.stream, &wrong); /* in no ledger either */
    harness_check(&s.h, "a wrong dtype", refused == RFN_INVALID, "%s",
                  rfn_status_name(refused));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick)); /* after: neither */

    const struct expected want[] = {
        { "copy_async", line + 1, 0, 2 }, { "kv_pack", line + 4, 1, 4 },
        { "index_topk", line + 5, 0, 5 }, { "set_async", line + 6, 1, 1 },
        { "host_call", line + 9, 0, 0 },
    };
    int32_t n = (int32_t)(sizeof want / sizeof want[0]);
    int32_t count = rfn_check_ledger_count(s.check, info.id);
    harness_check(&s.h, "how many entries", count == n, "%d, not %d", count, n);
    struct rfn_ledger_entry first = { 0 }, e;
    struct rfn_ledger_access a[8];
    for (int32_t i = 0; i < n && i < count; i++)
    {
        WORKS(&s, rfn_check_ledger(s.check, info.id, i, &e, a, 8));
        if (!i)
            first = e;
        harness_check(&s.h, want[i].what, !strcmp(e.what, want[i].what), "is %s", e.what);
        harness_check(&s.h, want[i].what,
                      !strcmp(e.file, __FILE__) && e.line == want[i].line,
                      "%s:%d, not line %d", e.file, e.line, want[i].line);
        harness_check(&s.h, want[i].what, (e.stream != first.stream) == want[i].side,
                      "stream %llu, the first %llu", (unsigned long long)e.stream,
                      (unsigned long long)first.stream);
        harness_check(&s.h, want[i].what, e.thread && e.thread == first.thread,
                      "thread %llu", (unsigned long long)e.thread);
        harness_check(&s.h, want[i].what, e.accesses == want[i].accesses,
                      "%d accesses, not %d", e.accesses, want[i].accesses);
    }

    if (count == n && !s.h.failed)
    {
        WORKS(&s, rfn_check_ledger(s.check, info.id, 0, &e, a, 8));
        check_access(&s, &a[0], "dst", s.lens, STEP_LENS_BYTES, RFN_WRITE);
        check_access(&s, &a[1], "src", s.host_lens, STEP_LENS_BYTES, RFN_READ);
        WORKS(&s, rfn_check_ledger(s.check, info.id, 1, &e, a, 8));
        check_access(&s, &a[0], "kv", pack.kv.data, 2 * STEP_ROWS * STEP_LATENT,
                     RFN_READ);
        check_access(&s, &a[2], "slots", pack.slots.data, 8 * STEP_ROWS, RFN_READ);
        check_access(&s, &a[3], "pool", pool, page * STEP_PAGES, RFN_READ_WRITE);
        WORKS(&s, rfn_check_ledger(s.check, info.id, 2, &e, a, 8));
        check_access(&s, &a[1], "lens", s.lens, STEP_LENS_BYTES, RFN_READ);
        check_access(&s, &a[4], "slots", s.pick.slots.data, STEP_PICKED_BYTES, RFN_WRITE);
        a[1].operand = "kept";
        WORKS(&s, rfn_check_ledger(s.check, info.id, 2, &e, a, 1));
        harness_check(&s.h, "no more accesses than asked for",
                      e.accesses == 5 && !strcmp(a[1].operand, "kept"), "more");
    }
    enum rfn_status past = rfn_check_ledger(s.check, info.id, n, &e, a, 8);
    harness_check(&s.h, "past the last entry", past == RFN_NOT_FOUND, "%s",
                  rfn_status_name(past));
    harness_check(&s.h, "an unknown capture",
                  rfn_check_ledger_count(s.check, info.id + 1000) == -1, "is known");
    step_verdict(&s, RFN_RULES, "", 0, "");

    WORKS(&s, rfn_graph_destroy(&graph));
    step_cache_free(&s, &pack);
    return step_close(&s);
}
