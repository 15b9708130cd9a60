#include "tools/catalogue.h"
#include <stddef.h>
#include <string.h>

const char *rule_devices(enum rfn_rule rule)
{
    switch (rule)
    {
    case RFN_CAP018:
        return "host";
    case RFN_CAP021:
    case RFN_CAP025:
    case RFN_CAP037:
    case RFN_CAP040:
        return "cuda";
    default:
        return "both";
    }
}

const char *rule_devices_why(enum rfn_rule rule)
{
    const char *devices = rule_devices(rule);
    if (rule == RFN_CAP017)
    {
        return "on the host device its fault handler sees the read, which proves it. On "
               "a "
               "GPU nobody sees the host touch memory: proved are lengths that "
               "rfn_attention_plan reads from the target; else a copy made in a region "
               "whose name begins with \"plan\" and not waited for at its end is a "
               "warning, "
               "heuristic. A copy of any other region may be for later, and gives "
               "nothing";
    }
    return strcmp(devices, "host") == 0 ? "the host device with its fault handler; a GPU "
                                          "does not tell when the host "
                                          "touches memory"
           : strcmp(devices, "cuda") == 0
               ? "graphs of the CUDA device; the host device has no such nodes, and the "
                 "programs draw theirs by hand"
               : NULL;
}

const struct uncovered uncovered[UNCOVERED] = {
    { "CAP019", "module-load",
      "a kernel is loaded or compiled by its first launch, inside a capture",
      "the driver does it within a launch that succeeds, where only a profiler's "
      "callbacks "
      "see it; the kernels of this library are loaded when a device is opened" },
    { "CAP020", "library-handle",
      "a handle of a library (cuBLAS, cuDNN) is created inside a capture, which its "
      "allocations destroy",
      "that call does not pass here; a capture that it destroyed is CAP034, without the "
      "culprit's name" },
    { "CAP030", "baked-random-state",
      "the seed and the offset of a random number generator are baked into a kernel",
      "nothing says which parameter of a kernel of others is one; where it differs "
      "between "
      "two recordings it is CAP005. No op of this library draws random numbers" },
    { "CAP036", "dropped-attribute",
      "an update of a whole executable keeps launch attributes of the old graph",
      "this library replaces the arguments of single nodes, and does not see the updates "
      "of "
      "others" },
    { "CAP039", "cold-collective",
      "a collective that was never run connects and allocates inside the capture",
      "it is a matter of the collectives' library, whose calls do not pass here" },
    { "CAP041", "conditional-default",
      "the handle of a conditional node has no default, so that a replay begins with the "
      "value of the last one",
      "no entry point of the driver gives the flags of a handle" },
    { "CAP042", "device-updatable-node",
      "a node that kernels update is not uploaded, copied or updated as it has to be",
      "no op of this library makes one, and what a kernel does to a node is not seen by "
      "the "
      "host" },
    { "CAP043", "programmatic-wait",
      "a kernel that may start early reads before it has waited for the one before it",
      "whether a kernel waits stands in its machine code; those of this library that "
      "start "
      "early begin with the wait" },
    { "CAP044", "timing-event",
      "an event for timing is recorded inside a capture, where it measures nothing",
      "recording it does no harm, and whether an event times cannot be asked of the "
      "driver; "
      "asking a captured one for its time is CAP011" },
    { "CAP049", "managed-memory",
      "a graph touches managed memory, whose pages may move while it runs",
      "this library allocates none, and tells managed memory of others from device "
      "memory "
      "nowhere yet" },
    { "CAP050", "no-graph-form",
      "a call that no graph can hold, as a batch of copies, is made on a capturing "
      "stream",
      "there is no such call here; one of others that destroys the capture is CAP034, "
      "without its name" },
    { "CAP052", "host-spin", "the host spins on mapped memory until a kernel writes it",
      "a loop in the caller's code makes no call that could be seen" },
};
