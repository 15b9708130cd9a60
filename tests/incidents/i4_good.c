/* Good: one graph with one bound; totals, requests and query tokens change between its
 * replays, and rows past the total stay as they are. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    return forms_right("i4_good", "I4", argc, argv);
}
