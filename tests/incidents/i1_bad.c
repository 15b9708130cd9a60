/* Bad: scalars as host tensors and a contiguous copy of the cache, in a captured forward. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    static const struct due due[] = {
        { "CAP057 CAP002 CAP003", "copy_sync of 4 bytes|256 bytes|is pageable" },
        { "CAP056", "1679360 bytes|holds all of a pool" },
    };
    return forms_broken("i1_bad", "I1", due, 2, argc, argv);
}
