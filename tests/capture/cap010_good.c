/* Good: the capture is thread-local, and the loader thread goes on as it likes. */
#include "tests/capture/step.h"

static void *load(void *arg)
{
    struct step *s = arg;
    void *batch = NULL;
    WORKS(s, rfn_memory_alloc(s->device, RFN_MEMORY_PINNED, 4096, &batch));
    WORKS(s, rfn_memory_free(s->device, batch));
    return NULL;
}

int main(int argc, char **argv)
{
    struct step s;
    struct rfn_graph *graph = NULL;
    if (!step_open(&s, "cap010_good", &argc, argv))
        return step_close(&s);

    struct rfn_capture_desc desc = { RFN_CAPTURE_THREAD_LOCAL, "decode" };
    WORKS(&s, rfn_capture_begin(s.stream, &desc));
    WORKS(&s, rfn_index_topk(s.stream, &s.pick));
    step_elsewhere(&s, load, &s);
    step_fetch(&s);
    WORKS(&s, rfn_capture_end(s.stream, &graph));
    step_replay(&s, graph);

    step_verdict(&s, RFN_RULES, "", 0, "");
    return step_close(&s);
}
