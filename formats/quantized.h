/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the readers of quantized folders: finding a layer's parts, checking them, presenting them as one tensor. */
#ifndef PARE_FORMATS_QUANTIZED_H
#define PARE_FORMATS_QUANTIZED_H

#include "formats/source_impl.h"

typedef struct pare_quant {
    pare_source_impl *im;
    const json_t *config; /* quantization_config */
    bool *used;           /* per raw tensor: it is a part of an assembled one */
    pare_stored *made;
    uint32_t *made_for; /* per raw tensor: 1 + index in made of the tensor that takes its place */
    size_t n_made;
} pare_quant;

pare_status pare_sparse_read(pare_quant *q, pare_diag *d);
pare_status pare_ct_read(pare_quant *q, pare_diag *d);
pare_status pare_gptq_read(pare_quant *q, pare_diag *d);
pare_status pare_awq_read(pare_quant *q, pare_diag *d);

const char *pare_quant_path(const pare_quant *q, const pare_stored *t);
/* The tensor whose name ends in `tail` where main's ends in main_tail, or NULL. */
pare_stored *pare_quant_part(const pare_quant *q, const pare_stored *main, const char *main_tail, const char *tail);
void pare_quant_use(pare_quant *q, const pare_stored *part); /* NULL is fine */
/* t is there, of that type and shape (one dimension counts as one row). */
bool pare_quant_is(const pare_stored *t, const pare_qtype *type, int64_t rows, int64_t cols);
bool pare_quant_scale_type(const pare_qtype *t); /* f16, bf16 or f32 */
/* The storage format of k columns in `groups` groups; grouped: one group over a row of 32, 64 or 128 counts as a group.
 */
pare_status pare_quant_type(pare_quant *q, const pare_stored *main, pare_stored *out, int bits, int64_t k,
                            int64_t groups, bool asym, bool grouped, const pare_qtype *scale, pare_diag *d);
/* Names t, measures it and puts it in the place of main. */
pare_status pare_quant_emit(pare_quant *q, const pare_stored *main, const char *main_tail, pare_stored *t,
                            pare_diag *d);

#endif
