/* What the library does not say of the catalogue of rules: on which device a rule can speak,
 * and which rules there are not, and why. Their ids stay free for them. */
#ifndef TOOLS_CATALOGUE_H
#define TOOLS_CATALOGUE_H

#include <refrain/check.h>

/* "both", "host", "cuda" */
const char *rule_devices(enum rfn_rule rule);

/* A sentence for people where it is not both, or not the same on both, else NULL. */
const char *rule_devices_why(enum rfn_rule rule);

struct uncovered
{
    const char *id;
    const char *name;
    const char *what;   /* goes wrong */
    const char *reason; /* it is not covered for */
};

#define UNCOVERED 12

extern const struct uncovered uncovered[UNCOVERED];

#endif
