/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of methods, and the one that needs no data. */
#include "quant/method.h"

#include <string.h>

const pare_method pare_method_rtn = {.name = "rtn", .text = "round to nearest, with scale search"};

static const pare_method *const all[] = {
#define PARE_METHOD(sym) &sym,
#include "quant/methods.def"
#undef PARE_METHOD
};

const pare_method *pare_method_at(size_t i) { return i < sizeof all / sizeof *all ? all[i] : NULL; }

const pare_method *pare_method_by_name(const char *name) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}
