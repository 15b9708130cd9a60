/* What `refrain bench` measured, as JSON. */
#include "tools/bench.h"
#include "tools/text.h"

#if RFN_JANSSON
#include <jansson.h>
#include <refrain/refrain.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Words of the command line may hold any bytes. */
static json_t *word_json(const char *word)
{
    char *text = strdup(word);
    if (text == NULL)
    {
        return NULL;
    }
    text_clean(text);
    json_t *ret = json_string(text);
    free(text);
    return ret;
}

static json_t *amount(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

static json_t *share(double value, double of)
{
    return value > 0 && of > 0 ? json_real(value / of) : json_null();
}

static json_t *row_json(const struct bench_pass *pass, const struct bench_row *row)
{
    const struct bench_result *r = &row->result;
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:i, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:o, s:o, "
        "s:o, s:o}",
        "op", row->of->op->name, "case", row->of->name, "shape", row->shape, "threads",
        pass->threads, "isa", row->isa, "repeats", r->time.repeats, "median_us",
        r->time.median * 1e6, "best_us", r->time.best * 1e6, "bytes_read",
        (json_int_t)r->cost.bytes_read, "bytes_written",
        (json_int_t)r->cost.bytes_written, "flops", (json_int_t)r->cost.flops, "gb_per_s",
        r->bytes_s * 1e-9, "gflop_per_s", r->flop_s * 1e-9, "scores_per_s",
        amount(r->scores_s), "memory_share",
        share(r->bytes_s, bench_memory_rate(&pass->rates)), "fp32_share",
        share(r->flop_s, bench_fp32_rate(pass)), "matrix_share",
        share(r->flop_s, pass->rates.matrix_flop_s));
}

static json_t *layer_json(const struct bench_pass *pass,
                          const struct bench_layer_row *row)
{
    const struct bench_result *r = &row->result;
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:i, s:f, s:f, s:I, s:I, s:I, s:f, s:f, "
        "s:o, s:o, s:o, s:o}",
        "threads", pass->threads, "requests", row->requests, "next_n", row->next_n,
        "context", row->context, "layers", row->layers, "sets", row->sets,
        "nodes_per_layer", row->nodes, "repeats", r->time.repeats, "median_us",
        r->time.median * 1e6, "best_us", r->time.best * 1e6, "bytes_read",
        (json_int_t)r->cost.bytes_read, "bytes_written",
        (json_int_t)r->cost.bytes_written, "flops", (json_int_t)r->cost.flops, "gb_per_s",
        r->bytes_s * 1e-9, "gflop_per_s", r->flop_s * 1e-9, "memory_share",
        share(r->bytes_s, bench_memory_rate(&pass->rates)), "matrix_share",
        share(r->flop_s, pass->rates.matrix_flop_s), "peers_us", amount(row->peer * 1e6),
        "of_peers", share(r->time.median, row->peer));
}

static json_t *value_json(const struct bench_pass *pass, const struct bench_value *value)
{
    return json_pack("{s:i, s:s, s:s, s:f, s:f, s:i, s:s}", "threads", pass->threads,
                     "what", value->what, "unit", value->unit, "median", value->median,
                     "best", value->best, "repeats", value->repeats, "of", value->of);
}

static json_t *pass_json(const struct bench_pass *pass)
{
    const struct bench_rates *rates = &pass->rates;
    json_t *fp32 = json_object();
    for (int32_t i = 0; i < rates->isas; i++)
    {
        json_object_set_new(fp32, rates->fp32[i].name,
                            json_real(rates->fp32[i].flop_s * 1e-9));
    }
    json_t *by = rates->matrix_flop_s > 0 ? json_string(rates->matrix_by) : json_null();
    return json_pack("{s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o}", "device",
                     pass->info.name, "threads", pass->threads, "isa", pass->isa,
                     "read_gb_per_s", amount(rates->read_bytes_s * 1e-9), "copy_gb_per_s",
                     amount(rates->copy_bytes_s * 1e-9), "fp32_gflop_per_s", fp32,
                     "matrix_gflop_per_s", amount(rates->matrix_flop_s * 1e-9),
                     "matrix_by", by);
}

static json_t *command_json(const struct bench_results *results)
{
    json_t *command = json_array();
    json_array_append_new(command, json_string("refrain"));
    for (int i = 0; i < results->argc; i++)
    {
        json_array_append_new(command, word_json(results->argv[i]));
    }
    return command;
}

json_t *bench_json(const struct bench_results *results)
{
    const struct bench_pass *pass = results->pass;
    json_t *passes = json_array(), *rows = json_array(), *layers = json_array();
    json_t *values = json_array(), *left_out = json_array();
    for (int32_t i = 0; i < results->passes; i++)
    {
        json_array_append_new(passes, pass_json(&pass[i]));
    }
    for (int32_t i = 0; i < results->rows; i++)
    {
        const struct bench_row *row = &results->row[i];
        json_array_append_new(rows, row_json(&pass[row->pass], row));
    }
    for (int32_t i = 0; i < results->layer_rows; i++)
    {
        const struct bench_layer_row *row = &results->layer[i];
        json_array_append_new(layers, layer_json(&pass[row->pass], row));
    }
    for (int32_t i = 0; i < results->values; i++)
    {
        const struct bench_value *value = &results->value[i];
        json_array_append_new(values, value_json(&pass[value->pass], value));
    }
    for (int32_t i = 0; i < results->left_outs; i++)
    {
        json_array_append_new(left_out, json_string(results->left_out[i]));
    }
    const char *commit = results->commit;
    const struct bench_size *size = &results->size;
    return json_pack("{s:s, s:o, s:o, s:s, s:s, s:i, s:s, s:i, s:i, s:f, s:[f, f], s:o, "
                     "s:o, s:o, s:o, s:o}",
                     "version", rfn_version(), "commit",
                     commit != NULL ? word_json(commit) : json_null(), "command",
                     command_json(results), "device", results->device, "cpu",
                     results->cpu, "cores", (int)sysconf(_SC_NPROCESSORS_ONLN),
                     "geometry", size->geometry->name, "rows", size->rows, "context",
                     size->context, "seconds", results->seconds, "load", results->load[0],
                     results->load[1], "rates", passes, "cases", rows, "layers", layers,
                     "step", values, "left_out", left_out);
}

#else

json_t *bench_json(const struct bench_results *results)
{
    (void)results;
    return NULL;
}

#endif
