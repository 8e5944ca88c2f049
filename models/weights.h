/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights of a source as graph values. Matrices stay where and as they are stored; those that a file keeps in parts
 * (GPTQ, AWQ, compressed-tensors) or unaligned are assembled once into memory owned here. Vectors (norms, biases) are
 * decoded to f32. Several graphs may share one set. */
#ifndef PARE_MODELS_WEIGHTS_H
#define PARE_MODELS_WEIGHTS_H

#include "graph/graph.h"
#include "models/arch.h"

typedef struct pare_weights pare_weights;

pare_status pare_weights_open(const pare_source *src, const pare_arch *a, pare_weights **out, pare_diag *d);
void pare_weights_close(pare_weights **w); /* after every graph that uses it */
const pare_arch *pare_weights_arch(const pare_weights *w);
pare_source_kind pare_weights_kind(const pare_weights *w);
pare_status pare_weights_status(const pare_weights *w, pare_diag *d); /* first failure; sticky like the graph's */

bool pare_weights_has(const pare_weights *w, pare_role role, int layer, bool bias);
/* A matrix in its storage format: linear (the second operand of MatMul, stored [out, in]) or a table of rows. */
pare_value pare_weights_matrix(pare_weights *w, pare_graph *g, pare_role role, int layer, bool linear);
/* Where graphs see the rows of a stored tensor: in the file, or the copy made of it; NULL when no graph has asked yet
 * for rows that must be copied. */
const void *pare_weights_rows(const pare_weights *w, const pare_stored *t);
/* A vector as f32: a norm's weight, or a bias. */
pare_value pare_weights_vector(pare_weights *w, pare_graph *g, pare_role role, int layer, bool bias);
/* The same vector as plain memory [n]; NULL when absent or on failure. */
const float *pare_weights_floats(pare_weights *w, pare_role role, int layer, bool bias, int64_t *n);

#endif
