/*
 * Command line, processes and CSV of the recording probe.
 *
 *   probe [--only ID] [--jobs N] [--seconds N] [--image CUBIN] OUT.csv
 *   probe --list | --describe | --ptx
 *
 * This process never touches CUDA. Each call id runs in a child of its own, which
 * announces every case before it starts it, so that a crash or a hang costs one row.
 */
#define _POSIX_C_SOURCE 200809L
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROBE_VERSION "1"

enum
{
    MAX_CALLS = 400,
    MAX_JOBS = 16,
    MAX_DEATHS = 2
};

static const double start_seconds = 60.0;    /* CUDA start-up of a child */
static const double case_seconds = 20.0;     /* one case */
static const double next_hang_seconds = 5.0; /* a case of a call that hung before */

struct result
{
    const struct probe_call *call;
    char *row[PROBE_CASES];
    int next;        /* first case without a row */
    int hangs;       /* cases that had to be killed */
    int idle_deaths; /* children that ended before they announced a case */
    bool running, done, skipped;
};

struct job
{
    pid_t pid;
    int fd;
    struct result *result;
    int announced; /* case it is in, or -1 */
    bool began;    /* it came as far as a case */
    bool killed;
    double deadline;
    char line[PROBE_ROW_BYTES + 64];
    size_t line_bytes;
};

static struct result results[MAX_CALLS];
static int result_count;
static struct job jobs[MAX_JOBS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void collect_calls(const char *only)
{
    static const struct probe_call *const tables[] = {
        probe_memory_calls, probe_copy_calls,   probe_stream_calls,  probe_event_calls,
        probe_graph_calls,  probe_module_calls, probe_capture_calls,
    };
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
    {
        for (const struct probe_call *c = tables[t]; c->id; c++)
        {
            if ((!only || strcmp(only, c->id) == 0) && result_count < MAX_CALLS)
                results[result_count++].call = c;
        }
    }
}

static void set_row(struct result *r, int index, const char *text)
{
    free(r->row[index]);
    r->row[index] = strdup(text);
    if (!r->row[index])
    {
        fputs("probe: out of memory\n", stderr);
        exit(1);
    }
    r->next = index + 1;
    if (r->next == PROBE_CASES)
        r->done = true;
}

static void fill_rows(struct result *r, const char *text)
{
    for (int i = r->next; i < PROBE_CASES; i++)
        set_row(r, i, text);
    r->done = true;
}

/* Rows appear in the tables' order, however the children finish. */
static void write_rows(FILE *csv)
{
    static int written;
    for (; written < result_count && results[written].done; written++)
    {
        const struct result *r = &results[written];
        for (int i = 0; i < PROBE_CASES && !r->skipped; i++)
            fprintf(csv, "%s,%s,%s,%s\n", r->call->id,
                    probe_mode_names[i / PROBE_RELATIONS],
                    probe_relation_names[i % PROBE_RELATIONS], r->row[i]);
    }
    fflush(csv);
}

static int start_job(struct job *j, struct result *r)
{
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
    {
        close(ends[0]);
        close(ends[1]);
        return -1;
    }
    if (pid == 0)
    {
        close(ends[0]);
        for (int i = 0; i < MAX_JOBS; i++)
        {
            if (jobs[i].pid)
                close(jobs[i].fd);
        }
        _exit(probe_child_run(ends[1], r->call, r->next));
    }
    close(ends[1]);
    *j = (struct job) { .pid = pid,
                        .fd = ends[0],
                        .result = r,
                        .announced = -1,
                        .deadline = now() + start_seconds };
    r->running = true;
    return 0;
}

/* Lines of a child: B <case> begins, R <case> <columns>, K <why> skip, E <why> broken. */
static void take_line(struct job *j, char *line)
{
    struct result *r = j->result;
    char *rest = line + 1;
    int index = -1;

    if (line[0] == 'B' || line[0] == 'R')
    {
        index = (int)strtol(line + 1, &rest, 10);
        if (index < 0 || index >= PROBE_CASES)
            return;
        j->began = true;
        j->deadline = now() + (r->hangs ? next_hang_seconds : case_seconds);
    }
    rest += *rest == ' ';
    switch (line[0])
    {
    case 'B':
        j->announced = index;
        break;
    case 'R':
        set_row(r, index, rest);
        j->announced = -1;
        break;
    case 'K':
        fprintf(stderr, "probe: %s skipped: %s\n", r->call->id, rest);
        r->skipped = r->done = true;
        break;
    case 'E':
        fprintf(stderr, "probe: %s: %s\n", r->call->id, rest);
        break;
    }
}

static void end_job(struct job *j)
{
    struct result *r = j->result;
    int status = 0;
    char row[64];

    close(j->fd);
    while (waitpid(j->pid, &status, 0) < 0 && errno == EINTR)
    {
    }
    if (j->announced >= 0)
    {
        int code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
        if (j->killed)
            snprintf(row, sizeof row, "hang,-,-,-,-,");
        else
            snprintf(row, sizeof row, "crash,-,-,-,-,\"%s %d\"",
                     WIFSIGNALED(status) ? "signal" : "exit", code);
        r->hangs += j->killed;
        fprintf(stderr, "probe: %s case %d: %s\n", r->call->id, j->announced, row);
        set_row(r, j->announced, row);
    }
    else if (!r->done && !j->began && ++r->idle_deaths >= MAX_DEATHS)
    {
        fill_rows(r, "start,-,-,-,-,");
    }
    r->running = false;
    *j = (struct job) { 0 };
}

static void read_job(struct job *j)
{
    char chunk[4096];
    ssize_t got = read(j->fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR)
        return;
    if (got <= 0)
    {
        end_job(j);
        return;
    }
    for (ssize_t i = 0; i < got; i++)
    {
        if (chunk[i] == '\n')
        {
            j->line[j->line_bytes] = '\0';
            take_line(j, j->line);
            j->line_bytes = 0;
        }
        else if (j->line_bytes + 1 < sizeof j->line)
        {
            j->line[j->line_bytes++] = chunk[i];
        }
    }
}

static void poll_jobs(int job_count)
{
    struct pollfd fds[MAX_JOBS];
    struct job *owner[MAX_JOBS];
    nfds_t n = 0;

    for (int i = 0; i < job_count; i++)
    {
        if (!jobs[i].pid)
            continue;
        if (!jobs[i].killed && now() > jobs[i].deadline)
        {
            kill(jobs[i].pid, SIGKILL);
            jobs[i].killed = true;
        }
        fds[n] = (struct pollfd) { .fd = jobs[i].fd, .events = POLLIN };
        owner[n++] = &jobs[i];
    }
    if (poll(fds, n, 100) <= 0)
        return;
    for (nfds_t i = 0; i < n; i++)
    {
        if (fds[i].revents)
            read_job(owner[i]);
    }
}

static void run_all(FILE *csv, int job_count, double seconds)
{
    double end = now() + seconds;

    for (;;)
    {
        bool busy = false;
        for (int i = 0; i < job_count; i++)
        {
            for (int k = 0; k < result_count && !jobs[i].pid && now() < end; k++)
            {
                struct result *r = &results[k];
                if (!r->done && !r->running && start_job(&jobs[i], r) != 0)
                    perror("probe: fork");
            }
            busy = busy || jobs[i].pid;
        }
        if (!busy)
            break;
        poll_jobs(job_count);
        write_rows(csv);
        if (now() >= end + 5.0)
            break; /* a killed child that will not die must not keep the rows */
        for (int i = 0; i < job_count && now() >= end; i++)
        {
            if (jobs[i].pid && !jobs[i].killed)
            {
                kill(jobs[i].pid, SIGKILL);
                jobs[i].killed = true;
                jobs[i].announced = -1;
            }
        }
    }
    for (int k = 0; k < result_count; k++)
    {
        if (!results[k].done)
        {
            fprintf(stderr, "probe: %s: out of time\n", results[k].call->id);
            fill_rows(&results[k], "late,-,-,-,-,");
        }
    }
    write_rows(csv);
}

/* Device and versions come from a child too; returns its exit status. */
static int describe(FILE *csv)
{
    int ends[2], status = 0;
    char text[2048];
    size_t bytes = 0;
    ssize_t got = 0;

    if (pipe(ends) != 0)
        return 1;
    pid_t pid = fork();
    if (pid < 0)
        return 1;
    if (pid == 0)
    {
        close(ends[0]);
        alarm(60);
        _exit(probe_child_describe(ends[1]));
    }
    close(ends[1]);
    while (bytes < sizeof text - 1 &&
           (got = read(ends[0], text + bytes, sizeof text - 1 - bytes)) > 0)
        bytes += (size_t)got;
    text[bytes] = '\0';
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
    {
    }
    status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (status == PROBE_DONE)
    {
        char date[32];
        time_t t = time(NULL);
        strftime(date, sizeof date, "%Y-%m-%d", gmtime(&t));
        fprintf(csv, "# probe %s\n%s# date %s\n", PROBE_VERSION, text, date);
    }
    else
    {
        fprintf(stderr, "probe: %s\n", bytes ? text : "CUDA did not start");
    }
    return status;
}

static int load_image(const char *path)
{
    enum
    {
        MAX_IMAGE = 1 << 20
    };
    char *image = calloc(1, MAX_IMAGE + 1);
    FILE *f = fopen(path, "rb");
    size_t bytes = image && f ? fread(image, 1, MAX_IMAGE, f) : 0;
    if (f)
        fclose(f);
    if (bytes == 0)
    {
        fprintf(stderr, "probe: cannot read %s\n", path);
        free(image);
        return -1;
    }
    probe.image = image; /* kept for the children */
    return 0;
}

static void print_calls(bool describe_them)
{
    for (int i = 0; i < result_count; i++)
    {
        const struct probe_call *c = results[i].call;
        if (describe_them)
            printf("%-40s %s\n", c->id, c->what);
        else
            puts(c->id);
    }
}

static int usage(void)
{
    fputs("usage: probe [--only ID] [--jobs N] [--seconds N] [--image CUBIN] OUT.csv\n"
          "       probe --list | --describe | --ptx\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    const char *only = NULL, *path = NULL;
    int job_count = 4;
    double seconds = 225.0;

    for (int i = 1; i < argc; i++)
    {
        bool value = i + 1 < argc;
        if (strcmp(argv[i], "--list") == 0 || strcmp(argv[i], "--describe") == 0)
        {
            collect_calls(NULL);
            print_calls(argv[i][2] == 'd');
            return 0;
        }
        else if (strcmp(argv[i], "--ptx") == 0)
        {
            fputs(probe_ptx, stdout);
            return 0;
        }
        else if (strcmp(argv[i], "--only") == 0 && value)
        {
            only = argv[++i];
        }
        else if (strcmp(argv[i], "--jobs") == 0 && value)
        {
            job_count = atoi(argv[++i]);
        }
        else if (strcmp(argv[i], "--seconds") == 0 && value)
        {
            seconds = atof(argv[++i]);
        }
        else if (strcmp(argv[i], "--image") == 0 && value)
        {
            if (load_image(argv[++i]) != 0)
                return 2;
        }
        else if (argv[i][0] == '-' || path)
        {
            return usage();
        }
        else
        {
            path = argv[i];
        }
    }
    if (!path || job_count < 1 || job_count > MAX_JOBS)
        return usage();
    collect_calls(only);
    if (result_count == 0)
    {
        fprintf(stderr, "probe: no call %s\n", only);
        return 2;
    }

    FILE *csv = fopen(path, "w");
    if (!csv)
    {
        perror(path);
        return 1;
    }
    int rc = describe(csv);
    if (rc == PROBE_DONE)
    {
        fputs("call,mode,relation,rc,status_after,end_rc,nodes,ran_now,log\n", csv);
        run_all(csv, job_count, seconds);
    }
    if (fclose(csv) != 0)
    {
        perror(path);
        return 1;
    }
    if (rc == PROBE_NO_DEVICE)
        remove(path);
    return rc;
}
