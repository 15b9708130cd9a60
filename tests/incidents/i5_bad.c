/* Bad: a plan past the bounds of everything, one for more rows than the graph has, and rows made
 * for fewer than another graph of one's own goes by. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    static const struct due due[] = {
        { "refused", "5 requests, but the limit is 4" },
        { "CAP027", "3 requests|2" },
        { "check mode", "index_topk: bounds.rows is 4, but the update's header has 2" },
    };
    return forms_broken("i5_bad", "I5", due, 3, argc, argv);
}
