/* Good: the lengths are fetched by a copy that waits, which a capture refuses; or the
 * scheduler tells them and nothing is copied; or the lists are made on the device, in a
 * graph. All three are the same. */
#include "tests/incidents/i2.h"

int main(int argc, char **argv)
{
    struct step s;
    struct i2 w;
    struct rfn_graph *graph = NULL;
    struct rfn_exec *exec = NULL;
    struct rfn_capture_info info;
    static struct i2_outputs fetched, told, made;
    if (!step_open(&s, "i2_good", &argc, argv))
        return step_close(&s);
    i2_open(&s, &w);

    struct rfn_split_lists_args args = i2_args(w.lens, &fetched);
    WORKS(&s, rfn_split_lists_sync(s.stream, &args));
    i2_right(&s, "fetched", &fetched);
    args = i2_args(i2_lens[0], &told);
    WORKS(&s, rfn_split_lists_host(&args));
    i2_right(&s, "told", &told);

    WORKS(&s, rfn_capture_begin(s.stream, NULL));
    args = i2_args(w.lens, &fetched);
    step_refused(&s, rfn_split_lists_sync(s.stream, &args));
    harness_check(&s.h, "the region is named", strstr(rfn_last_error(), s.region) != NULL,
                  "%s", rfn_last_error());
    WORKS(&s, rfn_capture_query(s.stream, &info));
    harness_check(&s.h, "the capture goes on", info.status == RFN_CAPTURE_ACTIVE, "%d",
                  (int)info.status);
    args = i2_args(w.lens, w.out);
    WORKS(&s, rfn_split_lists(s.stream, &args));
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    WORKS(&s, rfn_graph_instantiate(graph, &exec));
    WORKS(&s, rfn_exec_launch(exec, s.stream));
    WORKS(&s, rfn_stream_sync(s.stream));
    WORKS(&s, rfn_copy_sync(s.device, &made, w.out, sizeof made));
    i2_right(&s, "made on the device", &made);
    WORKS(&s, rfn_exec_destroy(&exec));
    WORKS(&s, rfn_graph_destroy(&graph));

    step_verdict(&s, RFN_RULES, "", 0, "");
    i2_close(&s, &w);
    return step_close(&s);
}
