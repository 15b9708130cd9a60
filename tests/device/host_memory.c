/*
 * Memory of the host device: addresses that users cannot read, poison, no re-use, guard
 * pages, and early accesses to pinned bytes under copy.
 */
#define _GNU_SOURCE
#define RFN_NO_SITES
#include "runtime/host/memory.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static int failures;
static const char *test;

#define CHECK(condition)                                                                 \
    do                                                                                   \
    {                                                                                    \
        if (!(condition))                                                                \
        {                                                                                \
            fprintf(stderr, "%s: %s:%d: %s\n", test, __FILE__, __LINE__, #condition);    \
            failures++;                                                                  \
        }                                                                                \
    } while (0)

/* ---- malloc that fails on demand ------------------------------------------------- */

static long fail_at = -1; /* this many more calls succeed; -1: all do */
static long live_allocations;

#if !SANITIZED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

static int fails_now(void)
{
    if (fail_at < 0)
        return 0;
    return fail_at-- == 0;
}

void *malloc(size_t n)
{
    void *p = fails_now() ? NULL : __libc_malloc(n);
    live_allocations += p != NULL;
    return p;
}

void *calloc(size_t n, size_t m)
{
    void *p = fails_now() ? NULL : __libc_calloc(n, m);
    live_allocations += p != NULL;
    return p;
}

void *realloc(void *old, size_t n)
{
    void *p = fails_now() ? NULL : __libc_realloc(old, n);
    live_allocations += p != NULL && old == NULL;
    return p;
}

void *aligned_alloc(size_t align, size_t n)
{
    void *p = fails_now() ? NULL : __libc_memalign(align, n);
    live_allocations += p != NULL;
    return p;
}

void free(void *p)
{
    live_allocations -= p != NULL;
    __libc_free(p);
}
#endif

/* ---- helpers --------------------------------------------------------------------- */

static const struct rfn_device_desc checked = { .check = 1 };
static const struct rfn_device_desc guarded = { .check = 1, .fault_handler = 1 };

static struct rfn_host_memory *open_memory(const struct rfn_device_desc *desc)
{
    struct rfn_host_memory *m = NULL;
    if (rfn_host_memory_open(desc, &m) != 0)
    {
        fprintf(stderr, "%s: cannot open\n", test);
        exit(1);
    }
    return m;
}

static void *take(struct rfn_host_memory *m, enum rfn_memory_kind kind, int64_t bytes)
{
    void *p = NULL;
    CHECK(rfn_host_memory_alloc(m, kind, bytes, &p) == 0);
    CHECK((uintptr_t)p % RFN_HOST_ALIGN == 0);
    return p;
}

static volatile unsigned char sink;

/* Reads a byte in a child without sanitizers' handlers; 1 when that ends it. */
static int read_faults(const volatile void *address)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
    {
        signal(SIGSEGV, SIG_DFL);
        sink = *(const volatile unsigned char *)address;
        _exit(0);
    }
    int state = 0;
    waitpid(child, &state, 0);
    return WIFSIGNALED(state) && WTERMSIG(state) == SIGSEGV;
}

static int all_poison(const unsigned char *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] != RFN_HOST_POISON)
            return 0;
    return 1;
}

/* ---- tests ----------------------------------------------------------------------- */

static void plain_memory_is_readable_and_known(void)
{
    struct rfn_host_memory *m = open_memory(&(struct rfn_device_desc) { 0 });
    char *a = take(m, RFN_MEMORY_DEVICE, 1000);
    char *b = take(m, RFN_MEMORY_PINNED, 1);
    int local = 0;
    memset(a, 1, 1000);
    CHECK(rfn_host_memory_alias(m, a + 5) == a + 5);
    CHECK(rfn_host_memory_kind(m, a + 999) == RFN_MEMORY_DEVICE);
    CHECK(rfn_host_memory_kind(m, b) == RFN_MEMORY_PINNED);
    CHECK(rfn_host_memory_kind(m, &local) == RFN_MEMORY_PAGEABLE);
    rfn_host_memory_pend(m, b, 1, 1, rfn_site_here());
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 0);
    rfn_host_memory_settle(m, b, 1, 1);
    rfn_host_memory_free(m, a);
    CHECK(rfn_host_memory_kind(m, a) == RFN_MEMORY_PAGEABLE);
    rfn_host_memory_free(m, NULL);
    rfn_host_memory_free(m, &local);
    rfn_host_memory_close(m); /* b is freed here */
    rfn_host_memory_close(NULL);
}

static void device_address_is_unreadable_and_its_alias_works(void)
{
    struct rfn_host_memory *m = open_memory(&checked);
    unsigned char *user = take(m, RFN_MEMORY_DEVICE, 5000);
    unsigned char *work = rfn_host_memory_alias(m, user);
    CHECK(work != user);
    CHECK(rfn_host_memory_alias(m, user + 4999) == work + 4999);
    CHECK(rfn_host_memory_alias(m, work) == work);
    CHECK(rfn_host_memory_kind(m, user + 4999) == RFN_MEMORY_DEVICE);
    CHECK(rfn_host_memory_kind(m, user + 5000) == RFN_MEMORY_PAGEABLE);
    CHECK(all_poison(work, 5000));
    memset(work, 7, 5000);
    CHECK(work[4999] == 7);
    CHECK(read_faults(user));
    CHECK(!read_faults(work));
    rfn_host_memory_close(m);
}

static void overrun_of_the_working_side_faults(void)
{
    struct rfn_host_memory *m = open_memory(&checked);
    static const int64_t bytes[] = { 1, 256, 4096, 4097, 65536 };
    for (int i = 0; i < 5; i++)
    {
        enum rfn_memory_kind kind = i % 2 ? RFN_MEMORY_PINNED : RFN_MEMORY_DEVICE;
        unsigned char *user = take(m, kind, bytes[i]);
        unsigned char *work = rfn_host_memory_alias(m, user);
        int64_t room = (bytes[i] + RFN_HOST_ALIGN - 1) / RFN_HOST_ALIGN * RFN_HOST_ALIGN;
        CHECK(!read_faults(work + bytes[i] - 1));
        CHECK(read_faults(work + room));
        CHECK(read_faults(user + room));
    }
    rfn_host_memory_close(m);
}

static void pinned_memory_is_shared_with_its_alias(void)
{
    struct rfn_host_memory *m = open_memory(&checked);
    unsigned char *user = take(m, RFN_MEMORY_PINNED, 300);
    unsigned char *work = rfn_host_memory_alias(m, user);
    CHECK(all_poison(user, 300));
    user[299] = 1;
    CHECK(work[299] == 1);
    work[0] = 2;
    CHECK(user[0] == 2);
    CHECK(rfn_host_memory_kind(m, user) == RFN_MEMORY_PINNED);
    rfn_host_memory_close(m);
}

static void freed_range_is_unmapped_and_never_comes_back(void)
{
    struct rfn_device_desc small = { .check = 1, .reserve_bytes = 1 << 20 };
    struct rfn_host_memory *m = open_memory(&small);
    uintptr_t last = 0;
    int count = 0;
    void *p;
    while (rfn_host_memory_alloc(m, RFN_MEMORY_DEVICE, 4096, &p) == 0)
    {
        unsigned char *work = rfn_host_memory_alias(m, p);
        CHECK((uintptr_t)p > last);
        CHECK(all_poison(work, 4096));
        last = (uintptr_t)p;
        rfn_host_memory_free(m, p);
        if (count++ == 3)
            CHECK(read_faults(work) && read_faults(p));
    }
    /* Each takes its page and a guard; then the range is used up, freed or not. */
    CHECK(count >= 100 && count < 256);
    CHECK(rfn_host_memory_alloc(m, RFN_MEMORY_DEVICE, INT64_MAX, &p) == 2);
    rfn_host_memory_close(m);
}

static void early_read_and_early_write_are_recorded_and_go_on(void)
{
    struct rfn_host_memory *m = open_memory(&guarded);
    unsigned char *user = take(m, RFN_MEMORY_PINNED, 64 << 10);
    unsigned char *work = rfn_host_memory_alias(m, user);
    memset(user, 1, 64 << 10);

    /* The device writes: neither reads nor writes may come early. */
    rfn_site_note("copy.c", 11);
    rfn_host_memory_pend(m, user, 20000, 1, rfn_site_here());
    sink = *(volatile unsigned char *)(user + 100);
    CHECK(sink == 1);
    work[100] = 9; /* the copy itself is not disturbed */
    *(volatile unsigned char *)(user + 9000) = 3;
    sink = *(volatile unsigned char *)(user + 18000); /* a second read counts no more */
    rfn_host_memory_settle(m, user, 20000, 1);
    CHECK(user[100] == 9 && user[9000] == 3);

    /* The device reads: reads are fine, writes are not. */
    rfn_site_note("copy.c", 22);
    rfn_host_memory_pend(m, user + 30000, 10000, 0, rfn_site_here());
    sink = *(volatile unsigned char *)(user + 31000);
    *(volatile unsigned char *)(user + 39999) = 4;
    rfn_host_memory_settle(m, user + 30000, 10000, 0);
    CHECK(user[39999] == 4);
    memset(user, 5, 64 << 10);

    struct rfn_touch touch[8];
    CHECK(rfn_host_memory_touches(m, touch, 8) == 3);
    CHECK(touch[0].address == user + 100 && !touch[0].wrote);
    CHECK(touch[0].pending_bytes == 20000 && touch[0].line == 11);
    CHECK(strcmp(touch[0].file, "copy.c") == 0);
    CHECK(touch[1].address == user + 9000 && touch[1].wrote && touch[1].line == 11);
    CHECK(touch[2].address == user + 39999 && touch[2].wrote && touch[2].line == 22);
    CHECK(touch[2].pending_bytes == 10000);
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 3);
    rfn_host_memory_close(m);
}

static void access_outside_the_pending_bytes_is_let_through(void)
{
    struct rfn_host_memory *m = open_memory(&guarded);
    unsigned char *user = take(m, RFN_MEMORY_PINNED, 4096);
    rfn_host_memory_pend(m, user + 1000, 100, 1, rfn_site_here());
    *(volatile unsigned char *)(user + 999) = 1;
    sink = *(volatile unsigned char *)(user + 1100);
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 0);
    /* The next pend closes the page again, so a real offender is still seen. */
    rfn_host_memory_pend(m, user + 3000, 1, 0, rfn_site_here());
    sink = *(volatile unsigned char *)(user + 3000); /* the device reads it: harmless */
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 0);
    rfn_host_memory_settle(m, user + 3000, 1, 0);
    sink = *(volatile unsigned char *)(user + 1099);
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 1);
    rfn_host_memory_settle(m, user + 1000, 100, 1);
    rfn_host_memory_close(m);
}

static void overlapping_copies_are_counted(void)
{
    struct rfn_host_memory *m = open_memory(&guarded);
    unsigned char *user = take(m, RFN_MEMORY_PINNED, 16384);
    rfn_host_memory_pend(m, user, 8192, 1, rfn_site_here());
    rfn_host_memory_pend(m, user + 4096, 8192, 0, rfn_site_here());
    rfn_host_memory_pend(m, user, 8192, 1, rfn_site_here());
    rfn_host_memory_settle(m, user, 8192, 1);
    sink = *(volatile unsigned char *)(user + 10000); /* only read from */
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 0);
    sink = *(volatile unsigned char *)(user + 5000); /* one write is still due */
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 1);
    rfn_host_memory_settle(m, user, 8192, 1);
    sink = *(volatile unsigned char *)user;
    *(volatile unsigned char *)(user + 6000) = 1;
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 2);
    rfn_host_memory_settle(m, user + 4096, 8192, 0);
    memset(user, 0, 16384);
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 2);
    /* Freed while pending: nothing stays behind, the late settle is harmless. */
    rfn_host_memory_pend(m, user, 16384, 1, rfn_site_here());
    rfn_host_memory_free(m, user);
    rfn_host_memory_settle(m, user, 16384, 1);
    rfn_host_memory_close(m);
}

static sigjmp_buf back;
static volatile sig_atomic_t foreign_faults;

static void on_foreign(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    foreign_faults++;
    siglongjmp(back, 1);
}

static void faults_of_others_go_to_the_handler_before(void)
{
    struct sigaction theirs = { .sa_sigaction = on_foreign, .sa_flags = SA_SIGINFO };
    struct sigaction before;
    struct sigaction now;
    sigemptyset(&theirs.sa_mask);
    sigaction(SIGSEGV, &theirs, &before);
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct rfn_host_memory *m = open_memory(&guarded);
    struct rfn_host_memory *other = open_memory(&guarded);
    unsigned char *pinned = take(m, RFN_MEMORY_PINNED, 100);
    unsigned char *device = take(m, RFN_MEMORY_DEVICE, 100);

    foreign_faults = 0;
    rfn_host_memory_pend(m, pinned, 100, 1, rfn_site_here());
    if (!sigsetjmp(back, 1))
        sink = *(volatile unsigned char *)page;
    if (!sigsetjmp(back, 1)) /* device memory stays unreadable: not ours to let through */
        sink = *(volatile unsigned char *)device;
    if (!sigsetjmp(back, 1))
        sink = *(volatile unsigned char *)pinned;
    CHECK(foreign_faults == 2);
    CHECK(rfn_host_memory_touches(m, NULL, 0) == 1);
    CHECK(rfn_host_memory_touches(other, NULL, 0) == 0);
    rfn_host_memory_settle(m, pinned, 100, 1);

    rfn_host_memory_close(m);
    sigaction(SIGSEGV, NULL, &now);
    CHECK(now.sa_sigaction != on_foreign); /* `other` still needs it */
    rfn_host_memory_close(other);
    sigaction(SIGSEGV, NULL, &now);
    CHECK(now.sa_sigaction == on_foreign); /* gone with the last device */
    sigaction(SIGSEGV, &before, NULL);
    munmap(page, 4096);
}

static void fault_without_a_handler_before_still_ends_the_process(void)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
    {
        signal(SIGSEGV, SIG_DFL);
        struct rfn_host_memory *m = open_memory(&guarded);
        sink = *(volatile unsigned char *)take(m, RFN_MEMORY_DEVICE, 1);
        _exit(0);
    }
    int state = 0;
    waitpid(child, &state, 0);
    CHECK(WIFSIGNALED(state) && WTERMSIG(state) == SIGSEGV);
}

struct worker
{
    struct rfn_host_memory *m;
    int bad;
};

static void *work_with_memory(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 200; i++)
    {
        void *p = NULL;
        w->bad |= rfn_host_memory_alloc(w->m, RFN_MEMORY_PINNED, 100 + i, &p) != 0;
        rfn_host_memory_pend(w->m, p, 100 + i, 1, rfn_site_here());
        *(volatile unsigned char *)p = 1; /* faults, is recorded, goes on */
        w->bad |= *(volatile unsigned char *)rfn_host_memory_alias(w->m, p) != 1;
        rfn_host_memory_settle(w->m, p, 100 + i, 1);
        rfn_host_memory_free(w->m, p);
    }
    return NULL;
}

static void threads_share_one_memory(void)
{
    struct rfn_host_memory *m = open_memory(&guarded);
    struct worker worker[4];
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
    {
        worker[i] = (struct worker) { .m = m };
        pthread_create(&thread[i], NULL, work_with_memory, &worker[i]);
    }
    for (int i = 0; i < 4; i++)
    {
        pthread_join(thread[i], NULL);
        CHECK(!worker[i].bad);
    }
    struct rfn_touch touch[300];
    CHECK(rfn_host_memory_touches(m, touch, 300) == 800); /* the first 256 are kept */
    rfn_host_memory_close(m);
}

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static void each_failing_malloc_is_code_2_and_leaks_nothing(void)
{
    if (SANITIZED)
        return;
    for (int kind = 0; kind < 3; kind++)
    {
        struct rfn_device_desc desc = { .check = kind > 0, .fault_handler = kind > 1 };
        int done = 0;
        for (long n = 0; !done && n < 100; n++)
        {
            int files = open_files();
            long before = live_allocations;
            struct rfn_host_memory *m = NULL;
            void *p = NULL;
            fail_at = n;
            int code = rfn_host_memory_open(&desc, &m);
            for (int i = 0; code == 0 && i < 40; i++)
                code = rfn_host_memory_alloc(m, RFN_MEMORY_PINNED, 1000, &p);
            done = fail_at >= 0; /* nothing failed any more */
            fail_at = -1;
            CHECK(code == (done ? 0 : 2));
            rfn_host_memory_close(m);
            CHECK(live_allocations == before);
            CHECK(open_files() == files);
        }
        CHECK(done);
    }
}

#define RUN(t) (test = #t, t(), fprintf(stderr, "%s\n", #t))

int main(void)
{
    RUN(plain_memory_is_readable_and_known);
    RUN(device_address_is_unreadable_and_its_alias_works);
    RUN(overrun_of_the_working_side_faults);
    RUN(pinned_memory_is_shared_with_its_alias);
    RUN(freed_range_is_unmapped_and_never_comes_back);
    RUN(early_read_and_early_write_are_recorded_and_go_on);
    RUN(access_outside_the_pending_bytes_is_let_through);
    RUN(overlapping_copies_are_counted);
    RUN(faults_of_others_go_to_the_handler_before);
    RUN(fault_without_a_handler_before_still_ends_the_process);
    RUN(threads_share_one_memory);
    RUN(each_failing_malloc_is_code_2_and_leaks_nothing);
    fprintf(stderr, "%d failed\n", failures);
    return failures != 0;
}
