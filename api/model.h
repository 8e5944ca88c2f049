/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of pare_model. */
#ifndef PARE_API_MODEL_H
#define PARE_API_MODEL_H

#include "core/alloc.h"
#include "formats/bytes.h"
#include "formats/source.h"

typedef struct pare_model_entry {
    const char *key, *type, *text;
} pare_model_entry;
typedef struct pare_model_entries {
    pare_model_entry *v;
    size_t n, cap;
} pare_model_entries;

struct pare_model {
    pare_source *src;
    pare_arena *arena;
    const char *architecture, *cannot_run;
    pare_model_entries facts, meta; /* facts: key is the label */
    uint64_t params, weight_bytes, file_bytes;
    pare_bytes json;
};

/* Copies text (and key) into the model. */
pare_status pare_model_add(pare_model *m, pare_model_entries *to, const char *key, const char *type, const char *text);
pare_status pare_model_list_facts(pare_model *m); /* fills facts and architecture */
pare_status pare_model_list_meta(pare_model *m);

#endif
