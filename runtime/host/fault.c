#define _GNU_SOURCE
#define RFN_NO_SITES
#include "runtime/host/fault.h"

#include "runtime/backend.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define WATCHES 64   /* devices with a handler at once */
#define PINNED 4096  /* pinned allocations of a device */
#define PENDING 4096 /* copies in flight of a device */
#define TOUCHES 256  /* early accesses kept; more are counted */
#define LETS 64      /* threads that run an op of a host device at once */

/* Fields are atomics because the handler reads them beside the writer. A record counts only
 * while `live`, an odd number that was the same before and after reading. */
struct range
{
    atomic_uint live;
    atomic_uintptr_t begin;
    atomic_uintptr_t end;
};

struct pending
{
    struct range bytes;
    atomic_int write;
    atomic_uintptr_t file;
    atomic_int line;
    atomic_int read_seen; /* recorded already */
    atomic_int write_seen;
    atomic_int opened; /* an access outside the bytes has opened one of the pages */
};

struct touch
{
    atomic_int ready;
    atomic_uintptr_t address;
    atomic_llong pending_bytes;
    atomic_int wrote;
    atomic_int into;
    atomic_uintptr_t file;
    atomic_int line;
};

struct rfn_host_fault
{
    uintptr_t begin;
    uintptr_t end;
    uintptr_t page_mask;    /* page bytes - 1 */
    atomic_int pinned_used; /* records at and past it were never live */
    atomic_int pending_used;
    atomic_int touches;
    struct range pinned[PINNED];
    struct pending pending[PENDING];
    struct touch touch[TOUCHES];
};

static pthread_mutex_t install_mutex = PTHREAD_MUTEX_INITIALIZER;
static int installed;    /* watches; guarded by install_mutex */
static int handler_left; /* someone installed over ours: it could not be removed */
static struct sigaction previous;
static _Atomic(struct rfn_host_fault *) watch[WATCHES];
static atomic_int inside; /* handlers that may hold a watch */
/* Threads whose accesses are let through, 0: none. No variable of the thread's own: a first
 * look at one may allocate, which the handler must not, and of the kind that never does a
 * process has little room: this library would not load behind others that have filled it. */
static atomic_uintptr_t let[LETS];

/* ---- records --------------------------------------------------------------------- */

static int find_let(uintptr_t thread)
{
    int i = 0;
    while (i < LETS && atomic_load(&let[i]) != thread)
        i++;
    return i;
}

static int is_let(void)
{
    return find_let((uintptr_t)pthread_self()) < LETS;
}

static void set_range(struct range *r, uintptr_t begin, uintptr_t end)
{
    atomic_store(&r->begin, begin);
    atomic_store(&r->end, end);
    atomic_fetch_add(&r->live, 1);
}

static void clear_range(struct range *r)
{
    atomic_fetch_add(&r->live, 1);
}

static int is_live(struct range *r)
{
    return (int)(atomic_load(&r->live) & 1u);
}

/* 1 and the bounds when the record is live and touches [begin, end). */
static int overlaps(struct range *r, uintptr_t begin, uintptr_t end, uintptr_t *ret_begin,
                    uintptr_t *ret_end)
{
    unsigned live = atomic_load(&r->live);
    if (!(live & 1u))
        return 0;
    *ret_begin = atomic_load(&r->begin);
    *ret_end = atomic_load(&r->end);
    return atomic_load(&r->live) == live && *ret_begin < end && begin < *ret_end;
}

static void protect(uintptr_t begin, uintptr_t end, int access)
{
    (void)mprotect((void *)begin, end - begin, access);
}

/* ---- the handler ----------------------------------------------------------------- */

/* Whether the access wrote; -1 where the processor does not say. */
static int fault_wrote(const void *context)
{
#if defined(__x86_64__)
    const ucontext_t *u = context;
    return (u->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#elif defined(__aarch64__)
    const ucontext_t *u = context;
    const unsigned char *p = (const unsigned char *)u->uc_mcontext.__reserved;
    const unsigned char *end = p + sizeof u->uc_mcontext.__reserved;
    while (p + sizeof(struct _aarch64_ctx) <= end)
    {
        const struct _aarch64_ctx *head = (const struct _aarch64_ctx *)p;
        if (head->magic == ESR_MAGIC)
            return (((const struct esr_context *)p)->esr >> 6) & 1; /* WnR */
        if (head->size == 0)
            break;
        p += head->size;
    }
    return -1;
#else
    (void)context;
    return -1;
#endif
}

static void record(struct rfn_host_fault *f, uintptr_t address, struct pending *p,
                   int wrote)
{
    int i = atomic_fetch_add(&f->touches, 1);
    if (i >= TOUCHES)
        return;
    struct touch *t = &f->touch[i];
    atomic_store(&t->address, address);
    atomic_store(&t->pending_bytes,
                 (long long)(atomic_load(&p->bytes.end) - atomic_load(&p->bytes.begin)));
    atomic_store(&t->wrote, wrote);
    atomic_store(&t->into, atomic_load(&p->write));
    atomic_store(&t->file, atomic_load(&p->file));
    atomic_store(&t->line, atomic_load(&p->line));
    atomic_store(&t->ready, 1);
}

/* 1 when the fault was one of a watched page, which is open afterwards. */
static int handle(struct rfn_host_fault *f, uintptr_t address, int wrote)
{
    uintptr_t begin;
    uintptr_t end;
    int pinned = 0;
    for (int i = 0; i < atomic_load(&f->pinned_used) && !pinned; i++)
        pinned = overlaps(&f->pinned[i], address, address + 1, &begin, &end);
    if (!pinned)
        return 0;

    uintptr_t page = address & ~f->page_mask;
    uintptr_t page_end = page + f->page_mask + 1;
    int used = atomic_load(&f->pending_used);
    for (int i = 0; i < used; i++)
    {
        struct pending *p = &f->pending[i];
        if (!overlaps(&p->bytes, page, page_end, &begin, &end))
            continue;
        int write = atomic_load(&p->write);
        /* A page that a pending read keeps readable faults on writes only. */
        int w = wrote >= 0 ? wrote : !write;
        if (address < begin || address >= end || (!w && !write) || is_let())
            atomic_store(&p->opened, 1);
        else if (!atomic_exchange(w ? &p->write_seen : &p->read_seen, 1))
            record(f, address, p, w);
    }
    /* With nothing pending the page was settled while the fault was on its way. */
    protect(page, page_end, PROT_READ | PROT_WRITE);
    return 1;
}

static void chain(int signal, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO)
    {
        previous.sa_sigaction(signal, info, context);
        return;
    }
    if (previous.sa_handler == SIG_IGN && info->si_code <= 0)
        return;
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
    {
        previous.sa_handler(signal);
        return;
    }
    /* The access is repeated and ends the process as it would have without us; a signal
     * that somebody sent has to be sent again. */
    struct sigaction standard = { .sa_handler = SIG_DFL };
    sigaction(SIGSEGV, &standard, NULL);
    if (info->si_code <= 0)
        raise(SIGSEGV);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    int kept = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    int ours = 0;
    /* Codes of the kernel are positive: si_addr is an address only then. */
    if (info->si_code > 0)
    {
        atomic_fetch_add(&inside, 1);
        for (int i = 0; i < WATCHES && !ours; i++)
        {
            struct rfn_host_fault *f = atomic_load(&watch[i]);
            if (f && address >= f->begin && address < f->end)
                ours = handle(f, address, fault_wrote(context));
        }
        atomic_fetch_sub(&inside, 1);
    }
    errno = kept;
    if (!ours)
        chain(signal, info, context);
}

/* ---- installing ------------------------------------------------------------------ */

static int install(struct rfn_host_fault *f)
{
    int code = RFN_CODE_NOMEM;
    pthread_mutex_lock(&install_mutex);
    for (int i = 0; i < WATCHES && code; i++)
    {
        if (atomic_load(&watch[i]))
            continue;
        if (installed == 0 && !handler_left)
        {
            struct sigaction ours = { .sa_sigaction = on_fault,
                                      .sa_flags = SA_SIGINFO | SA_ONSTACK };
            sigemptyset(&ours.sa_mask);
            sigaction(SIGSEGV, NULL, &previous);
            sigaction(SIGSEGV, &ours, NULL);
        }
        installed++;
        atomic_store(&watch[i], f);
        code = RFN_CODE_OK;
    }
    pthread_mutex_unlock(&install_mutex);
    return code;
}

static void uninstall(struct rfn_host_fault *f)
{
    pthread_mutex_lock(&install_mutex);
    for (int i = 0; i < WATCHES; i++)
        if (atomic_load(&watch[i]) == f)
            atomic_store(&watch[i], NULL);
    while (atomic_load(&inside) != 0)
        sched_yield();
    installed--;
    if (installed == 0)
    {
        struct sigaction now;
        sigaction(SIGSEGV, NULL, &now);
        handler_left = !(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_fault;
        if (!handler_left)
            sigaction(SIGSEGV, &previous, NULL);
    }
    pthread_mutex_unlock(&install_mutex);
}

int rfn_host_fault_open(const void *begin, int64_t bytes, struct rfn_host_fault **ret)
{
    struct rfn_host_fault *f = calloc(1, sizeof *f);
    if (!f)
        return RFN_CODE_NOMEM;
    f->begin = (uintptr_t)begin;
    f->end = (uintptr_t)begin + (uintptr_t)bytes;
    f->page_mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    if (install(f) != 0)
    {
        free(f);
        return RFN_CODE_NOMEM;
    }
    *ret = f;
    return RFN_CODE_OK;
}

void rfn_host_fault_close(struct rfn_host_fault *f)
{
    if (!f)
        return;
    uninstall(f);
    free(f);
}

/* ---- what is pending ------------------------------------------------------------- */

int rfn_host_fault_watch(struct rfn_host_fault *f, const void *begin, int64_t bytes)
{
    for (int i = 0; i < PINNED; i++)
    {
        if (is_live(&f->pinned[i]))
            continue;
        set_range(&f->pinned[i], (uintptr_t)begin, (uintptr_t)begin + (uintptr_t)bytes);
        if (i >= atomic_load(&f->pinned_used))
            atomic_store(&f->pinned_used, i + 1);
        return 1;
    }
    return 0;
}

/* Gives the pages of [begin, end) the protection that what is pending asks for. */
static void apply(struct rfn_host_fault *f, uintptr_t begin, uintptr_t end)
{
    begin &= ~f->page_mask;
    end = (end + f->page_mask) & ~f->page_mask;
    protect(begin, end, PROT_READ | PROT_WRITE);
    int used = atomic_load(&f->pending_used);
    for (int write = 0; write < 2; write++)
    {
        for (int i = 0; i < used; i++)
        {
            struct pending *p = &f->pending[i];
            uintptr_t first = atomic_load(&p->bytes.begin) & ~f->page_mask;
            uintptr_t last = (atomic_load(&p->bytes.end) + f->page_mask) & ~f->page_mask;
            if (!is_live(&p->bytes) || atomic_load(&p->write) != write || first >= end ||
                last <= begin)
                continue;
            protect(first > begin ? first : begin, last < end ? last : end,
                    write ? PROT_NONE : PROT_READ);
        }
    }
}

/* Closes the pages again that an access outside the pending bytes has opened. */
static void close_opened(struct rfn_host_fault *f)
{
    int used = atomic_load(&f->pending_used);
    for (int i = 0; i < used; i++)
    {
        struct pending *p = &f->pending[i];
        if (is_live(&p->bytes) && atomic_exchange(&p->opened, 0))
            apply(f, atomic_load(&p->bytes.begin), atomic_load(&p->bytes.end));
    }
}

void rfn_host_fault_forget(struct rfn_host_fault *f, const void *begin)
{
    uintptr_t from = (uintptr_t)begin;
    for (int i = 0; i < atomic_load(&f->pinned_used); i++)
    {
        if (!is_live(&f->pinned[i]) || atomic_load(&f->pinned[i].begin) != from)
            continue;
        uintptr_t to = atomic_load(&f->pinned[i].end);
        for (int j = 0; j < atomic_load(&f->pending_used); j++)
        {
            uintptr_t a;
            uintptr_t b;
            if (overlaps(&f->pending[j].bytes, from, to, &a, &b))
                clear_range(&f->pending[j].bytes);
        }
        clear_range(&f->pinned[i]);
        return;
    }
}

void rfn_host_fault_pend(struct rfn_host_fault *f, const void *address, int64_t bytes,
                         int write, struct rfn_site site)
{
    uintptr_t from = (uintptr_t)address;
    uintptr_t to = from + (uintptr_t)bytes;
    uintptr_t a = 0;
    uintptr_t b = 0;
    int pinned = 0;
    for (int i = 0; i < atomic_load(&f->pinned_used) && !pinned; i++)
        pinned = overlaps(&f->pinned[i], from, to, &a, &b) && a <= from && to <= b;
    if (!pinned)
        return;
    close_opened(f);
    for (int i = 0; i < PENDING; i++)
    {
        struct pending *p = &f->pending[i];
        if (is_live(&p->bytes))
            continue;
        atomic_store(&p->write, write != 0);
        atomic_store(&p->file, (uintptr_t)site.file);
        atomic_store(&p->line, site.line);
        atomic_store(&p->read_seen, 0);
        atomic_store(&p->write_seen, 0);
        atomic_store(&p->opened, 0);
        set_range(&p->bytes, from, to);
        if (i >= atomic_load(&f->pending_used))
            atomic_store(&f->pending_used, i + 1);
        apply(f, from, to);
        return;
    }
}

void rfn_host_fault_settle(struct rfn_host_fault *f, const void *address, int64_t bytes,
                           int write)
{
    uintptr_t from = (uintptr_t)address;
    uintptr_t to = from + (uintptr_t)bytes;
    int used = atomic_load(&f->pending_used);
    for (int i = 0; i < used; i++)
    {
        struct pending *p = &f->pending[i];
        if (!is_live(&p->bytes) || atomic_load(&p->bytes.begin) != from ||
            atomic_load(&p->bytes.end) != to || atomic_load(&p->write) != (write != 0))
            continue;
        clear_range(&p->bytes);
        apply(f, from, to);
        break;
    }
    close_opened(f);
}

int rfn_host_fault_let(int on)
{
    uintptr_t self = (uintptr_t)pthread_self();
    int at = find_let(self), was = at < LETS;
    if (was && !on)
        atomic_store(&let[at], 0);
    for (int i = 0; i < LETS && on && !was; i++)
    {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&let[i], &none, self))
            break;
    }
    return was;
}

int rfn_host_fault_touches(struct rfn_host_fault *f, struct rfn_touch *ret, int max)
{
    int count = atomic_load(&f->touches);
    int kept = count < TOUCHES ? count : TOUCHES;
    for (int i = 0; i < kept && i < max; i++)
    {
        struct touch *t = &f->touch[i];
        while (!atomic_load(&t->ready))
            sched_yield();
        ret[i] = (struct rfn_touch) {
            .address = (const void *)atomic_load(&t->address),
            .pending_bytes = atomic_load(&t->pending_bytes),
            .wrote = atomic_load(&t->wrote),
            .into = atomic_load(&t->into),
            .file = (const char *)atomic_load(&t->file),
            .line = atomic_load(&t->line),
        };
    }
    return count;
}
