/* Good: scalars are arguments, and the cache is a view in both of its shapes: the captured
 * forward is kernels only, of which the lint finds nothing, and replays equal eager runs. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    return forms_right("i1_good", "I1", argc, argv);
}
