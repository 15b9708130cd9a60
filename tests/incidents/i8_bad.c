/* Bad: a table too narrow for a context, one with the row stride of the live batch, and the same
 * where no table is seen twice: in two graphs of one's own. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    static const struct due due[] = {
        { "refused", "needs 4 pages|its table has 3" },
        { "CAP027", "stride of 5|8" },
        { "check mode", "bounds.table_stride is 8, but the update's header has 5" },
    };
    return forms_broken("i8_bad", "I8", due, 3, argc, argv);
}
