#define _GNU_SOURCE
#define RFN_NO_SITES
#include "runtime/host/memory.h"

#include "runtime/backend.h"
#include "runtime/error.h"
#include "runtime/host/fault.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEFAULT_RESERVE_BYTES (INT64_C(64) << 30)
#define SMALLEST_RESERVE_BYTES (INT64_C(64) << 20)

struct block
{
    char *address;
    int64_t bytes;
    enum rfn_memory_kind kind;
    int64_t offset; /* check mode: first page in the ranges */
    int64_t pages_bytes;
};

struct rfn_host_memory
{
    pthread_mutex_t mutex;
    struct block *block; /* by address */
    int64_t blocks;
    int64_t room;

    /* Check mode; all but `next` are constant after open. */
    int64_t page_bytes;
    int64_t reserve_bytes; /* 0: not in check mode */
    char *user;
    char *work;
    int64_t next; /* first offset never handed out */
    int fd;
    struct rfn_host_fault *fault; /* NULL without the handler */
    struct rfn_host_memory *next_reserved;
};

/* All of the process in check mode: an address that one device reserves is none that
 * another may touch. */
static pthread_mutex_t reserved_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rfn_host_memory *reserved;

static void note_reserved(struct rfn_host_memory *m)
{
    pthread_mutex_lock(&reserved_lock);
    m->next_reserved = reserved;
    reserved = m;
    pthread_mutex_unlock(&reserved_lock);
}

static void forget_reserved(const struct rfn_host_memory *m)
{
    pthread_mutex_lock(&reserved_lock);
    struct rfn_host_memory **at = &reserved;
    while (*at != m)
        at = &(*at)->next_reserved;
    *at = m->next_reserved;
    pthread_mutex_unlock(&reserved_lock);
}

int rfn_host_memory_reserved(const void *address)
{
    pthread_mutex_lock(&reserved_lock);
    const struct rfn_host_memory *m = reserved;
    while (m &&
           (uintptr_t)address - (uintptr_t)m->user >= 2 * (uintptr_t)m->reserve_bytes)
        m = m->next_reserved;
    pthread_mutex_unlock(&reserved_lock);
    return m != NULL;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- ranges ---------------------------------------------------------------------- */

static void *reserve(void *at, int64_t bytes)
{
    int fixed = at ? MAP_FIXED : 0;
    void *p = mmap(at, (size_t)bytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static int open_ranges(struct rfn_host_memory *m, int64_t wanted)
{
    m->page_bytes = sysconf(_SC_PAGESIZE);
    m->fd = memfd_create("refrain", MFD_CLOEXEC);
    if (m->fd < 0)
        return RFN_CODE_NOMEM;
    int64_t bytes = round_up(wanted > 0 ? wanted : DEFAULT_RESERVE_BYTES, m->page_bytes);
    int64_t least = bytes < SMALLEST_RESERVE_BYTES ? bytes : SMALLEST_RESERVE_BYTES;
    for (; bytes >= least; bytes = round_up(bytes / 2, m->page_bytes))
    {
        char *both = bytes <= INT64_MAX / 2 ? reserve(NULL, 2 * bytes) : NULL;
        if (both)
        {
            m->user = both;
            m->work = both + bytes;
            m->reserve_bytes = bytes;
            m->next = m->page_bytes; /* the first page is a guard */
            return RFN_CODE_OK;
        }
    }
    close(m->fd);
    return RFN_CODE_NOMEM;
}

static int map_pages(struct rfn_host_memory *m, char *range, int64_t offset,
                     int64_t bytes)
{
    void *p = mmap(range + offset, (size_t)bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_FIXED, m->fd, (off_t)offset);
    return p == MAP_FAILED ? RFN_CODE_NOMEM : RFN_CODE_OK;
}

/* Leaves nothing behind: the addresses are unreadable again, the memory is returned. */
static void drop_pages(struct rfn_host_memory *m, int64_t offset, int64_t bytes)
{
    /* Failing (too many mappings) leaves pages readable; they are still never reused. */
    (void)reserve(m->user + offset, bytes);
    (void)reserve(m->work + offset, bytes);
    while (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                     (off_t)bytes) != 0 &&
           errno == EINTR)
        continue;
}

/* Takes real pages now, so that a lack of memory is an error here and no SIGBUS later. */
static int grow_file(struct rfn_host_memory *m, int64_t offset, int64_t bytes)
{
    int rc;
    do
        rc = fallocate(m->fd, 0, (off_t)offset, (off_t)bytes);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno == EOPNOTSUPP)
        rc = ftruncate(m->fd, (off_t)(offset + bytes));
    return rc == 0 ? RFN_CODE_OK : RFN_CODE_NOMEM;
}

static int take_pages(struct rfn_host_memory *m, struct block *b)
{
    if (b->bytes > m->reserve_bytes)
        return RFN_CODE_NOMEM;
    int64_t bytes = round_up(b->bytes, RFN_HOST_ALIGN);
    b->offset = m->next;
    b->pages_bytes = round_up(bytes, m->page_bytes);
    if (b->pages_bytes + m->page_bytes > m->reserve_bytes - m->next)
        return RFN_CODE_NOMEM;
    if (grow_file(m, b->offset, b->pages_bytes) != 0)
        goto drop;
    if (map_pages(m, m->work, b->offset, b->pages_bytes) != 0)
        goto drop;
    if (b->kind == RFN_MEMORY_PINNED &&
        map_pages(m, m->user, b->offset, b->pages_bytes) != 0)
        goto drop;
    memset(m->work + b->offset, RFN_HOST_POISON, (size_t)b->pages_bytes);
    m->next = b->offset + b->pages_bytes + m->page_bytes;
    b->address = m->user + b->offset + b->pages_bytes - bytes;
    if (m->fault && b->kind == RFN_MEMORY_PINNED)
        rfn_host_fault_watch(m->fault, m->user + b->offset, b->pages_bytes);
    return RFN_CODE_OK;

drop:
    drop_pages(m, b->offset, b->pages_bytes);
    return RFN_CODE_NOMEM;
}

/* ---- blocks ---------------------------------------------------------------------- */

/* Index of the first block that ends past the address. */
static int64_t find_block(const struct rfn_host_memory *m, const void *address)
{
    uintptr_t a = (uintptr_t)address;
    int64_t low = 0;
    int64_t high = m->blocks;
    while (low < high)
    {
        int64_t i = low + (high - low) / 2;
        if ((uintptr_t)m->block[i].address + (uintptr_t)m->block[i].bytes <= a)
            low = i + 1;
        else
            high = i;
    }
    return low;
}

static int make_room(struct rfn_host_memory *m)
{
    if (m->blocks < m->room)
        return RFN_CODE_OK;
    int64_t room = m->room ? 2 * m->room : 32;
    struct block *block = realloc(m->block, (size_t)room * sizeof *block);
    if (!block)
        return RFN_CODE_NOMEM;
    m->block = block;
    m->room = room;
    return RFN_CODE_OK;
}

static void release_block(struct rfn_host_memory *m, const struct block *b)
{
    if (!m->reserve_bytes)
    {
        free(b->address);
        return;
    }
    if (m->fault && b->kind == RFN_MEMORY_PINNED)
        rfn_host_fault_forget(m->fault, m->user + b->offset);
    drop_pages(m, b->offset, b->pages_bytes);
}

/* ---- the interface --------------------------------------------------------------- */

int rfn_host_memory_open(const struct rfn_device_desc *desc, struct rfn_host_memory **ret)
{
    struct rfn_host_memory *m = calloc(1, sizeof *m);
    if (!m)
        return RFN_CODE_NOMEM;
    if (desc->check && open_ranges(m, desc->reserve_bytes) != 0)
        goto free_m;
    if (desc->check && desc->fault_handler &&
        rfn_host_fault_open(m->user, m->reserve_bytes, &m->fault) != 0)
        goto close_ranges;
    if (pthread_mutex_init(&m->mutex, NULL) != 0)
        goto close_fault;
    if (m->reserve_bytes)
        note_reserved(m);
    *ret = m;
    return RFN_CODE_OK;

close_fault:
    rfn_host_fault_close(m->fault);
close_ranges:
    if (m->reserve_bytes)
    {
        munmap(m->user, (size_t)(2 * m->reserve_bytes));
        close(m->fd);
    }
free_m:
    free(m);
    return RFN_CODE_NOMEM;
}

void rfn_host_memory_close(struct rfn_host_memory *m)
{
    if (!m)
        return;
    for (int64_t i = 0; i < m->blocks; i++)
        release_block(m, &m->block[i]);
    rfn_host_fault_close(m->fault);
    if (m->reserve_bytes)
    {
        forget_reserved(m);
        munmap(m->user, (size_t)(2 * m->reserve_bytes));
        close(m->fd);
    }
    pthread_mutex_destroy(&m->mutex);
    free(m->block);
    free(m);
}

int rfn_host_memory_alloc(struct rfn_host_memory *m, enum rfn_memory_kind kind,
                          int64_t bytes, void **ret)
{
    assert(kind == RFN_MEMORY_DEVICE || kind == RFN_MEMORY_PINNED);
    if (bytes > INT64_MAX / 2)
        return RFN_CODE_NOMEM;
    struct block b = { .bytes = bytes > 0 ? bytes : 1, .kind = kind };
    pthread_mutex_lock(&m->mutex);
    int code = make_room(m);
    if (code == 0 && m->reserve_bytes)
        code = take_pages(m, &b);
    else if (code == 0)
    {
        b.address =
            aligned_alloc(RFN_HOST_ALIGN, (size_t)round_up(b.bytes, RFN_HOST_ALIGN));
        code = b.address ? RFN_CODE_OK : RFN_CODE_NOMEM;
    }
    if (code == 0)
    {
        int64_t i = find_block(m, b.address);
        memmove(&m->block[i + 1], &m->block[i],
                (size_t)(m->blocks - i) * sizeof *m->block);
        m->block[i] = b;
        m->blocks++;
        *ret = b.address;
    }
    pthread_mutex_unlock(&m->mutex);
    return code;
}

void rfn_host_memory_free(struct rfn_host_memory *m, void *address)
{
    if (!address)
        return;
    pthread_mutex_lock(&m->mutex);
    int64_t i = find_block(m, address);
    if (i < m->blocks && m->block[i].address == (char *)address)
    {
        release_block(m, &m->block[i]);
        m->blocks--;
        memmove(&m->block[i], &m->block[i + 1],
                (size_t)(m->blocks - i) * sizeof *m->block);
    }
    pthread_mutex_unlock(&m->mutex);
}

enum rfn_memory_kind rfn_host_memory_kind(struct rfn_host_memory *m, const void *address)
{
    enum rfn_memory_kind kind = RFN_MEMORY_PAGEABLE;
    pthread_mutex_lock(&m->mutex);
    int64_t i = find_block(m, address);
    if (i < m->blocks && (uintptr_t)m->block[i].address <= (uintptr_t)address)
        kind = m->block[i].kind;
    pthread_mutex_unlock(&m->mutex);
    return kind;
}

void *rfn_host_memory_alias(struct rfn_host_memory *m, const void *address)
{
    uintptr_t offset = (uintptr_t)address - (uintptr_t)m->user;
    if (offset < (uintptr_t)m->reserve_bytes)
        return m->work + offset;
    return (void *)(uintptr_t)address;
}

int rfn_host_memory_guards(const struct rfn_host_memory *m)
{
    return m->fault != NULL;
}

int rfn_host_memory_let(int on)
{
    return rfn_host_fault_let(on);
}

void rfn_host_memory_pend(struct rfn_host_memory *m, const void *address, int64_t bytes,
                          int write, struct rfn_site site)
{
    if (!m->fault || bytes <= 0)
        return;
    pthread_mutex_lock(&m->mutex);
    rfn_host_fault_pend(m->fault, address, bytes, write, site);
    pthread_mutex_unlock(&m->mutex);
}

void rfn_host_memory_settle(struct rfn_host_memory *m, const void *address, int64_t bytes,
                            int write)
{
    if (!m->fault || bytes <= 0)
        return;
    pthread_mutex_lock(&m->mutex);
    rfn_host_fault_settle(m->fault, address, bytes, write);
    pthread_mutex_unlock(&m->mutex);
}

int rfn_host_memory_touches(struct rfn_host_memory *m, struct rfn_touch *ret, int max)
{
    if (!m->fault)
        return 0;
    pthread_mutex_lock(&m->mutex);
    int count = rfn_host_fault_touches(m->fault, ret, max);
    pthread_mutex_unlock(&m->mutex);
    return count;
}
