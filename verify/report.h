/* SPDX-License-Identifier: Apache-2.0
 *
 * Building a pare_verify_report: everything in it belongs to one arena. Failures of memory are sticky and asked once
 * (pare_report_status). */
#ifndef PARE_VERIFY_REPORT_H
#define PARE_VERIFY_REPORT_H

#include "pare/pare.h"

pare_verify_report *pare_report_new(pare_verify_kind kind); /* NULL: out of memory */
void pare_report_free(pare_verify_report **r);
pare_status pare_report_status(const pare_verify_report *r, pare_diag *d);
const char *pare_report_str(pare_verify_report *r, const char *s); /* copy that lives as long as r; "" on failure */

void pare_report_column(pare_verify_report *r, const pare_column *c); /* strings are copied */
/* What a column's device did, known at the end: fallbacks (copied), streamed, memory_bytes, seconds of *c. */
void pare_report_column_use(pare_verify_report *r, int column, const pare_column *c);
void pare_report_note(pare_verify_report *r, const char *key, const char *text); /* protocol line */
void pare_report_number(pare_verify_report *r, const char *key, double number);
/* Adds the value of `column` to the metric `key`, making its row when it is new. key and label are static strings. */
void pare_report_metric(pare_verify_report *r, const char *key, const char *label, int better, int column,
                        pare_estimate e);
void pare_report_gate(pare_verify_report *r, const pare_gate_result *g); /* strings are copied */
void pare_report_layer(pare_verify_report *r, const pare_part *p);       /* strings are copied */
void pare_report_tensor(pare_verify_report *r, const pare_part *p);
/* Parity of model 0 (original) or 1: what the whole pass gave, then nodes in order. Strings are copied. */
void pare_report_parity(pare_verify_report *r, int model, const pare_part *output);
void pare_report_parity_node(pare_verify_report *r, int model, const pare_parity_node *n);
const pare_metric *pare_report_find(const pare_verify_report *r, const char *key); /* NULL when absent */
const char *pare_verify_kind_name(pare_verify_kind k);                             /* "lm", "encoder", "weights" */

/* A growing text; sticky on failure (bytes NULL at the end). */
typedef struct pare_text {
    char *bytes;
    size_t n, cap;
    bool failed;
} pare_text;
PARE_PRINTF(2, 3) void pare_text_add(pare_text *t, const char *fmt, ...);
void pare_text_xml(pare_text *t, const char *s); /* with & < > " escaped, control characters as '?' */

/* Writers; each appends the whole file. */
void pare_report_json(const pare_verify_report *r, pare_text *t);
void pare_report_junit(const pare_verify_report *r, pare_text *t);
void pare_report_html(const pare_verify_report *r, pare_text *t);

/* As pare_verify_render and pare_verify_save. */
pare_status pare_report_render(pare_verify_report *r, pare_verify_format f, const char **text, size_t *n_bytes,
                               pare_diag *d);
pare_status pare_report_save(pare_verify_report *r, pare_verify_format f, const char *path, pare_diag *d);

#define PARE_VERIFY_SCHEMA "pare-verify-1"

/* bytes into path: temporary name beside it, fsync, rename. */
pare_status pare_write_file_atomic(const char *path, const void *bytes, size_t n_bytes, pare_diag *d);

#endif
