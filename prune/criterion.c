/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of criteria. */
#include "prune/criterion.h"

#include <string.h>

static const pare_criterion *const all[] = {
#define PARE_CRITERION(sym) &sym,
#include "prune/criteria.def"
#undef PARE_CRITERION
};

const pare_criterion *pare_criterion_at(size_t i) { return i < sizeof all / sizeof *all ? all[i] : NULL; }

const pare_criterion *pare_criterion_by_name(const char *name) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}
