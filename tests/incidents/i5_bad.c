/* Bad: a plan past the bounds of everything, and one for more rows than the graph has. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    static const struct due due[] = {
        { "refused", "5 requests, but the limit is 4" },
        { "CAP027", "3 requests|2" },
    };
    return forms_broken("i5_bad", "I5", due, 2, argc, argv);
}
