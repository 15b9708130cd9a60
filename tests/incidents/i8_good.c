/* Good: callers' tables of any width and batches of any size, none among them, on a device
 * table that keeps its stride. */
#include "tests/incidents/forms.h"

int main(int argc, char **argv)
{
    return forms_right("i8_good", "I8", argc, argv);
}
