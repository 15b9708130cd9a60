/* What the programs of an incident share: its pairs, which `refrain incidents` runs too, with
 * what is due of each. */
#ifndef TEST_INCIDENTS_FORMS_H
#define TEST_INCIDENTS_FORMS_H

#include "tests/support/harness.h"
#include "tools/incident.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of one pair: the findings of the broken form, and words of what it says, '|' between them.
 */
struct due
{
    const char *found;
    const char *words;
};

static inline enum rfn_device_kind forms_device(void)
{
    const char *which = getenv("RFN_TEST_DEVICE");
    return which && !strcmp(which, "cuda") ? RFN_DEVICE_CUDA : RFN_DEVICE_HOST;
}

static inline int forms_run(struct harness *h, const struct incident_form *form,
                            int broken, struct incident_result *ret)
{
    enum rfn_status status = incident_run(form, broken, forms_device(), h->seed, ret);
    if (status == RFN_UNSUPPORTED)
    {
        printf("%s: no device: %s\n", h->name, rfn_last_error());
        exit(77);
    }
    return harness_check(h, form->what, status == RFN_OK, "%s", rfn_last_error());
}

static inline void forms_say(struct harness *h, const struct incident_form *form,
                             const struct incident_result *r, const char *words)
{
    char said[INCIDENT_PLANTS * INCIDENT_LINE] = "";
    size_t used = 0;
    for (int i = 0; i < INCIDENT_PLANTS; i++)
        used += (size_t)snprintf(said + used, sizeof said - used, "%s\n", r->said[i]);
    for (size_t n; *words; words += n + (words[n] == '|'))
    {
        char word[64];
        n = strcspn(words, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        harness_check(h, form->what, strstr(said, word) != NULL, "no '%s' in: %s", word,
                      said);
    }
}

/* Every broken form of an incident is caught as is due. */
static inline int forms_broken(const char *program, const char *name,
                               const struct due *due, int pairs, int argc, char **argv)
{
    struct harness h;
    struct incident_result r;
    int seen = 0;
    harness_begin(&h, program, &argc, argv);
    for (int i = 0; incident_at(i); i++)
    {
        const struct incident_form *form = incident_at(i);
        if (strcmp(form->name, name))
            continue;
        const struct due *d = seen < pairs ? &due[seen] : NULL;
        seen++;
        if (!d)
            continue;
        if (form->host_only && forms_device() != RFN_DEVICE_HOST)
        {
            harness_skip(&h, form->what, "host only");
            continue;
        }
        if (!forms_run(&h, form, 1, &r))
            continue;
        harness_check(&h, form->what, r.held, "%s", r.wrong);
        harness_check(&h, form->what, !strcmp(r.found, d->found), "'%s', not '%s'",
                      r.found, d->found);
        forms_say(&h, form, &r, d->words);
    }
    harness_check(&h, "how many pairs", seen == pairs, "%d, not %d", seen, pairs);
    return harness_end(&h);
}

/* Every right form of an incident holds, and nothing is found in it. */
static inline int forms_right(const char *program, const char *name, int argc,
                              char **argv)
{
    struct harness h;
    struct incident_result r;
    int seen = 0;
    harness_begin(&h, program, &argc, argv);
    for (int i = 0; incident_at(i); i++)
    {
        const struct incident_form *form = incident_at(i);
        if (strcmp(form->name, name))
            continue;
        seen++;
        if (!forms_run(&h, form, 0, &r))
            continue;
        harness_check(&h, form->what, r.held, "%s", r.wrong);
        harness_check(&h, form->what, !strstr(r.found, "CAP"), "%s", r.found);
    }
    harness_check(&h, "how many pairs", seen > 0, "none");
    return harness_end(&h);
}

#endif
