/* Bad: the bound of a launch is taken for the count of its rows, in the cumulative lengths and
 * in a kernel of one's own; and a step has more tokens than the bound. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    static const struct due due[] = {
        { "check mode", "index_gather: table|-7" },
        { "check mode", "index_gather: starts|2048|2051" },
        { "red rows", "was written" },
    };
    return forms_broken("i4_bad", "I4", due, 3, argc, argv);
}
