/* What `refrain bench` says: a table for people, JSON for programs. */
#include "tools/bench.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static double memory_rate(const struct bench_rates *rates)
{
    return fmax(rates->read_bytes_s, rates->copy_bytes_s);
}

/* Of the instruction set that the device uses. */
static double fp32_rate(const struct bench_pass *pass)
{
    for (int32_t i = 0; i < pass->rates.isas; i++)
    {
        if (strcmp(pass->rates.fp32[i].name, pass->isa) == 0)
        {
            return pass->rates.fp32[i].flop_s;
        }
    }
    return 0;
}

static void print_share(double value, double of)
{
    if (value > 0 && of > 0)
    {
        printf(" %4.0f%%", 100 * value / of);
    }
    else
    {
        printf(" %5s", "-");
    }
}

static void print_amount(double value, int width)
{
    if (value > 0)
    {
        printf(" %*.*f", width, value < 100 ? 2 : 0, value);
    }
    else
    {
        printf(" %*s", width, "-");
    }
}

void bench_print_head(const struct bench_pass *pass)
{
    const struct bench_rates *rates = &pass->rates;
    printf("\n%s\n", pass->info.name);
    if (memory_rate(rates) > 0)
    {
        printf("  memory: read %.1f GB/s, copy %.1f GB/s\n", rates->read_bytes_s * 1e-9,
               rates->copy_bytes_s * 1e-9);
    }
    for (int32_t i = 0; i < rates->isas; i++)
    {
        printf("%s%s %.1f%s", i > 0 ? ", " : "  fp32: ", rates->fp32[i].name,
               rates->fp32[i].flop_s * 1e-9, i + 1 < rates->isas ? "" : " GFLOP/s");
    }
    if (rates->sgemm_flop_s > 0)
    {
        printf("; sgemm %.1f (OpenBLAS, %s)", rates->sgemm_flop_s * 1e-9,
               rates->sgemm_core);
    }
    printf("%s  %-16s %-12s %-23s %9s %6s %6s %5s %7s %5s %5s %8s  %s\n",
           rates->isas > 0 ? "\n" : "", "op", "case", "shape", "us", "MB", "GB/s", "mem",
           "GFLOP/s", "fp32", "sgemm", "Mscore/s", "isa");
}

void bench_print_row(const struct bench_pass *pass, const struct bench_case *row,
                     const char *shape, const char *isa, const struct bench_result *r)
{
    printf("  %-16s %-12s %-23s %9.1f", row->op->name, row->name, shape,
           r->time.median * 1e6);
    print_amount((double)(r->cost.bytes_read + r->cost.bytes_written) * 1e-6, 6);
    print_amount(r->bytes_s * 1e-9, 6);
    print_share(r->bytes_s, memory_rate(&pass->rates));
    print_amount(r->flop_s * 1e-9, 7);
    print_share(r->flop_s, fp32_rate(pass));
    print_share(r->flop_s, pass->rates.sgemm_flop_s);
    print_amount(r->scores_s * 1e-6, 8);
    printf("  %s\n", isa);
    fflush(stdout);
}

static json_t *amount(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

static json_t *share(double value, double of)
{
    return value > 0 && of > 0 ? json_real(value / of) : json_null();
}

json_t *bench_json_row(const struct bench_pass *pass, const struct bench_case *row,
                       const char *shape, const char *isa, const struct bench_result *r)
{
    const struct bench_rates *rates = &pass->rates;
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:i, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:o, s:o, "
        "s:o, s:o}",
        "op", row->op->name, "case", row->name, "shape", shape, "threads", pass->threads,
        "isa", isa, "repeats", r->time.repeats, "median_us", r->time.median * 1e6,
        "best_us", r->time.best * 1e6, "bytes_read", (json_int_t)r->cost.bytes_read,
        "bytes_written", (json_int_t)r->cost.bytes_written, "flops",
        (json_int_t)r->cost.flops, "gb_per_s", r->bytes_s * 1e-9, "gflop_per_s",
        r->flop_s * 1e-9, "scores_per_s", amount(r->scores_s), "memory_share",
        share(r->bytes_s, memory_rate(rates)), "fp32_share",
        share(r->flop_s, fp32_rate(pass)), "sgemm_share",
        share(r->flop_s, rates->sgemm_flop_s));
}

json_t *bench_json_pass(const struct bench_pass *pass)
{
    const struct bench_rates *rates = &pass->rates;
    json_t *fp32 = json_object();
    for (int32_t i = 0; i < rates->isas; i++)
    {
        json_object_set_new(fp32, rates->fp32[i].name,
                            json_real(rates->fp32[i].flop_s * 1e-9));
    }
    json_t *core = rates->sgemm_flop_s > 0 ? json_string(rates->sgemm_core) : json_null();
    return json_pack("{s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o}", "device",
                     pass->info.name, "threads", pass->threads, "isa", pass->isa,
                     "read_gb_per_s", amount(rates->read_bytes_s * 1e-9), "copy_gb_per_s",
                     amount(rates->copy_bytes_s * 1e-9), "fp32_gflop_per_s", fp32,
                     "sgemm_gflop_per_s", amount(rates->sgemm_flop_s * 1e-9),
                     "sgemm_core", core);
}
