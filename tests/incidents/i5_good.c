/* Good: plans fit their graphs; idle ranks, batches and lengths that shrink and grow. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    return forms_right("i5_good", "I5", argc, argv);
}
