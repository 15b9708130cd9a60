/* Named regions of the calling thread: a stack of copied names, always ready as text. */
#include "runtime/call.h"

#include <limits.h>
#include <refrain/check.h>
#include <stdio.h>
#include <string.h>

#define DEPTH 16
#define NAME_BYTES 48 /* longer names are cut, and show it */
#define MORE_BYTES 32 /* " > (+3 deeper)" */
#define DEVICES 16    /* on which captures began, or a plan copied, a region */

struct frame
{
    uint64_t number; /* unique in the thread, never 0 */
    size_t begin;    /* of its name in the text */
    size_t end;      /* of the text that ends with it */
    struct rfn_device *device[DEVICES];
    int unseen; /* captures on devices past these */
};

struct regions
{
    struct frame frame[DEPTH];
    int depth;
    int deeper; /* begun past DEPTH: counted, not named */
    uint64_t numbers;
    char text[DEPTH * (NAME_BYTES + 3) + MORE_BYTES];
};

static _Thread_local struct regions regions;

static void write_deeper(struct regions *r)
{
    size_t end = r->depth ? r->frame[r->depth - 1].end : 0;
    r->text[end] = '\0';
    if (r->deeper)
        snprintf(r->text + end, MORE_BYTES, " > (+%d deeper)", r->deeper);
}

enum rfn_status rfn_region_begin(const char *name)
{
    struct regions *r = &regions;
    if (!name)
        return RFN_FAIL(RFN_INVALID, "region_begin: name is NULL");
    if (r->depth == DEPTH)
    {
        r->deeper++;
        write_deeper(r);
        return RFN_OK;
    }
    struct frame *f = &r->frame[r->depth];
    *f = (struct frame) { .number = ++r->numbers };
    f->begin = r->depth ? r->frame[r->depth - 1].end + 3 : 0;
    if (r->depth)
        memcpy(r->text + f->begin - 3, " > ", 3);
    size_t bytes = strlen(name);
    int cut = bytes >= NAME_BYTES;
    if (cut)
        bytes = NAME_BYTES - 4;
    memcpy(r->text + f->begin, name, bytes);
    if (cut)
        memcpy(r->text + f->begin + bytes, "...", 3);
    f->end = f->begin + bytes + (cut ? 3 : 0);
    r->depth++;
    write_deeper(r);
    return RFN_OK;
}

enum rfn_status rfn_region_end(void)
{
    struct regions *r = &regions;
    if (r->deeper)
    {
        r->deeper--;
        write_deeper(r);
        return RFN_OK;
    }
    if (!r->depth)
        return RFN_FAIL(RFN_INVALID, "region_end: this thread has no region open");
    struct frame *f = &r->frame[r->depth - 1];
    for (int i = 0; i < DEVICES && f->device[i]; i++)
        rfn_call_region_end(f->device[i], f->number, r->text + f->begin);
    enum rfn_status status = RFN_OK;
    if (f->unseen)
        status = RFN_FAIL(RFN_LIMIT,
                          "region_end: '%s' ended; whether %d captures that began in it "
                          "on devices past the first %d are still open was not looked at",
                          r->text + f->begin, f->unseen, DEVICES);
    r->depth--;
    write_deeper(r);
    return status;
}

const char *rfn_region_text(void)
{
    return regions.text;
}

int rfn_region_is_plan(const char *name)
{
    return !strncmp(name, "plan", 4);
}

/* 1: its end is told. */
static int note(struct frame *f, struct rfn_device *device)
{
    int i = 0;
    while (i < DEVICES && f->device[i] && f->device[i] != device)
        i++;
    if (i < DEVICES)
        f->device[i] = device;
    return i < DEVICES;
}

uint64_t rfn_region_plan(struct rfn_device *device)
{
    struct regions *r = &regions;
    for (int i = r->depth - 1; i >= 0; i--)
        if (rfn_region_is_plan(r->text + r->frame[i].begin))
            return note(&r->frame[i], device) ? r->frame[i].number : 0;
    return 0;
}

uint64_t rfn_region_note(struct rfn_device *device)
{
    struct regions *r = &regions;
    if (!r->depth)
        return 0;
    struct frame *f = &r->frame[r->depth - 1];
    if (!note(f, device) && f->unseen < INT_MAX)
        f->unseen++;
    return f->number;
}
