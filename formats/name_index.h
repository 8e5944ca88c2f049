/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash index over an array of structs whose first member is a terminated name. Seeded per process, so that a hostile
 * file cannot choose names that collide. */
#ifndef PARE_FORMATS_NAME_INDEX_H
#define PARE_FORMATS_NAME_INDEX_H

#include "pare/pare.h"

typedef struct pare_name_index {
    const void *base;
    size_t stride, n, mask;
    uint32_t *slot; /* index + 1; 0 = empty */
} pare_name_index;

/* Replaces the index. *dup is the index of the first name that occurred before, or SIZE_MAX. Fails with PARE_ERR_NOMEM.
 */
pare_status pare_name_index_build(pare_name_index *ix, const void *base, size_t stride, size_t n, size_t *dup);
size_t pare_name_index_find(const pare_name_index *ix, const char *name); /* SIZE_MAX when absent */
void pare_name_index_free(pare_name_index *ix);

#endif
