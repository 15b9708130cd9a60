/* What `refrain bench` prints. Columns of words are two spaces apart, so that a program can
 * read the tables too. */
#include "tools/bench.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

double bench_memory_rate(const struct bench_rates *rates)
{
    return fmax(rates->read_bytes_s, rates->copy_bytes_s);
}

/* Of the instruction set that the device uses. */
double bench_fp32_rate(const struct bench_pass *pass)
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

void bench_print_head(const struct bench_results *results)
{
    const struct bench_pass *pass = &results->pass[results->passes - 1];
    const struct bench_rates *rates = &pass->rates;
    if (results->passes == 1)
    {
        printf("%s, %d rows, context %d, on %s; %g s a number\n",
               results->size.geometry->name, results->size.rows, results->size.context,
               results->cpu, results->seconds);
    }
    printf("\n%s\n", pass->info.name);
    if (rates->read_bytes_s > 0)
    {
        printf("  memory: read %.1f GB/s, copy %.1f GB/s\n", rates->read_bytes_s * 1e-9,
               rates->copy_bytes_s * 1e-9);
    }
    else if (rates->copy_bytes_s > 0)
    {
        printf("  memory: copy %.1f GB/s\n", rates->copy_bytes_s * 1e-9);
    }
    for (int32_t i = 0; i < rates->isas; i++)
    {
        printf("%s%s %.1f%s", i > 0 ? ", " : "  fp32: ", rates->fp32[i].name,
               rates->fp32[i].flop_s * 1e-9, i + 1 < rates->isas ? "" : " GFLOP/s\n");
    }
    if (rates->matrix_flop_s > 0)
    {
        printf("  matrix product: %.1f GFLOP/s (%s)\n", rates->matrix_flop_s * 1e-9,
               rates->matrix_by);
    }
}

void bench_print_ops(const struct bench_pass *pass)
{
    int host = pass->info.kind == RFN_DEVICE_HOST;
    printf("  %-16s  %-12s  %-23s  %9s %6s %6s %5s %7s %5s %5s %8s  %s\n", "op", "case",
           "shape", "us", "MB", "GB/s", "mem", "GFLOP/s", "fp32", host ? "sgemm" : "bf16",
           "Mscore/s", "isa");
}

void bench_print_row(const struct bench_pass *pass, const struct bench_row *row)
{
    const struct bench_result *r = &row->result;
    printf("  %-16s  %-12s  %-23s  %9.1f", row->of->op->name, row->of->name, row->shape,
           r->time.median * 1e6);
    print_amount((double)(r->cost.bytes_read + r->cost.bytes_written) * 1e-6, 6);
    print_amount(r->bytes_s * 1e-9, 6);
    print_share(r->bytes_s, bench_memory_rate(&pass->rates));
    print_amount(r->flop_s * 1e-9, 7);
    print_share(r->flop_s, bench_fp32_rate(pass));
    print_share(r->flop_s, pass->rates.matrix_flop_s);
    print_amount(r->scores_s * 1e-6, 8);
    printf("  %s\n", row->isa);
    fflush(stdout);
}

void bench_print_layer_head(const struct bench_pass *pass)
{
    int host = pass->info.kind == RFN_DEVICE_HOST;
    printf(
        "\n  a layer in a graph, nothing of it in the cache; peers: the best kernels of "
        "others\n");
    printf(
        "  %8s  %6s  %7s  %9s  %9s  %8s  %6s  %5s  %8s  %5s  %5s  %6s  %4s  %8s  %8s\n",
        "requests", "next_n", "context", "us", "best", "MB", "GB/s", "mem", "GFLOP/s",
        host ? "sgemm" : "bf16", "nodes", "layers", "sets", "peers_us", "of_peers");
}

void bench_print_layer(const struct bench_pass *pass, const struct bench_layer_row *row)
{
    const struct bench_result *r = &row->result;
    printf("  %8d  %6d  %7d  %9.1f  %9.1f  %8.2f  %6.0f ", row->requests, row->next_n,
           row->context, r->time.median * 1e6, r->time.best * 1e6,
           (double)(r->cost.bytes_read + r->cost.bytes_written) * 1e-6,
           r->bytes_s * 1e-9);
    print_share(r->bytes_s, bench_memory_rate(&pass->rates));
    printf("  %8.0f ", r->flop_s * 1e-9);
    print_share(r->flop_s, pass->rates.matrix_flop_s);
    printf("  %5g  %6d  %4d ", row->nodes, row->layers, row->sets);
    print_amount(row->peer * 1e6, 8);
    printf(" ");
    print_amount(row->peer > 0 ? r->time.median / row->peer : 0, 8);
    printf("\n");
    fflush(stdout);
}

void bench_print_value(const struct bench_value *value)
{
    printf("  %-32s  %10.3f  %10.3f  %-5s  %s\n", value->what, value->median, value->best,
           value->unit, value->of);
    fflush(stdout);
}

void bench_leave_out(struct bench_results *results, const char *what, const char *why)
{
    printf("  %s: left out: %s\n", what, why);
    if (results->left_outs < BENCH_LEFT_OUT_MAX)
    {
        snprintf(results->left_out[results->left_outs++], sizeof(results->left_out[0]),
                 "%s: %s", what, why);
    }
}
