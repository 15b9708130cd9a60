/* Bad: a table too narrow for a context, and one with the row stride of the live batch. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    static const struct due due[] = {
        { "refused", "needs 4 pages|its table has 3" },
        { "CAP027", "stride of 5|8" },
    };
    return forms_broken("i8_bad", "I8", due, 2, argc, argv);
}
