/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan: which format every tensor of the output gets, and why. Pure decisions over names and shapes; nothing is
 * read. Precedence per tensor: --keep, not quantizable, --tensor (first match), then the target. */
#ifndef PARE_QUANT_PLAN_H
#define PARE_QUANT_PLAN_H

#include "quant/target.h"

typedef struct pare_plan_rule {
    const char *regex, *to;
} pare_plan_rule; /* --tensor REGEX=TO; --keep has no `to` */

typedef struct pare_plan_tensor {
    /* in */
    const char *name;       /* in the output */
    const char *alias;      /* in the source, for patterns; may be NULL */
    int64_t cols;           /* row length */
    const pare_qtype *from; /* stored format of the source */
    const pare_qtype *rest; /* what it is written as when it is not quantized */
    const pare_qtype *keep; /* what it is written as when the user keeps it */
    const char *fixed;      /* why it is never quantized (static text), or NULL */
    /* out */
    const pare_qtype *to;
    bool fallback; /* not what was asked for */
    bool user;     /* chosen by --tensor or --keep */
    char note[96]; /* reason, "" when there is nothing to say */
} pare_plan_tensor;

typedef struct pare_plan_opts {
    pare_hold hold;
    const char *to; /* the target's name */
    size_t n_rules, n_keep;
    const pare_plan_rule *rules, *keep;
    bool pure;                 /* mixes: the base type everywhere */
    pare_mix_model model;      /* GGUF: what mixes look at */
    const pare_qtype *scale;   /* integer grids: type of the scales */
    const pare_qtype *float16; /* folders: where a matrix stays at 16 bits */
} pare_plan_opts;

/* t: n tensors in output order. Fails with PARE_ERR_USAGE on an invalid pattern, one that matches nothing, or a target
 * that the writer cannot hold. */
pare_status pare_plan_make(const pare_plan_opts *o, size_t n, pare_plan_tensor *t, pare_diag *d);

#endif
