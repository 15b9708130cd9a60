/*
 * What the injection library of the tests saw. NVTX loads it at the process's first call
 * when NVTX_INJECTION64_PATH names it; a test opens the same file to read the record.
 */
#ifndef TEST_NVTX_INJECT_H
#define TEST_NVTX_INJECT_H

#include <stdint.h>

#define INJECT_EVENTS 4096

struct inject_event
{
    int push;   /* 0: a pop */
    int thread; /* from 1, in the order of their first events */
    char domain[32];
    char text[64];
    int registered; /* the message was a registered string */
    int64_t payload;
};

struct inject
{
    int loads;   /* of the library as a tool */
    int domains; /* created */
    int strings; /* registered */
    int others;  /* other NVTX calls, and strings or payloads of another kind */
    int events;  /* may be more than are kept */
    struct inject_event event[INJECT_EVENTS];
    int drop; /* set by a test: this many more pops are heard, the one after them is not */
};

struct inject *inject_record(void);

#endif
