/* SPDX-License-Identifier: Apache-2.0
 *
 * The original model on calibration data, and tensors with new values (api/narrow.h). */
#include "api/narrow.h"

#include "core/log.h"
#include "core/status.h"

#include <string.h>

bool pare_narrow_needs_data(const pare_narrow *n) {
    if (n->job->sizes_only) return false;
    if (n->kind == PARE_NARROW_LAYERS) return !n->o->drop || !n->o->no_heal;
    return !n->o->no_heal || pare_importance_by_name(n->o->method)->needs;
}

pare_status pare_narrow_open_model(pare_narrow *n, pare_diag *d) {
    bool data = pare_narrow_needs_data(n);
    if (data) {
        PARE_TRY(pare_calib_data_open(n->job->src, &n->arch, n->o->calib, n->o->calib_ctx, n->o->calib_windows,
                                      &n->data, d));
        pare_log(PARE_LOG_INFO, "calibrating on %s", n->data.note);
    }
    PARE_TRY(pare_weights_open(n->job->src, &n->arch, &n->w, d));
    PARE_TRY(pare_lm_run_open(n->w, 0, &(pare_exec_opts){0}, &n->run, d));
    return data ? pare_lm_run_shape(&n->run, n->w, n->data.batch, n->data.ctx, NULL, 0, d) : PARE_OK;
}

pare_status pare_narrow_pass(pare_narrow *n, pare_node_hook *hook, void *ctx, const char *what, pare_diag *d) {
    /* The output matrix of a decoder is the dearest stage, and only the residual stream's channels reach it. */
    bool head = pare_narrow_channels(n) || n->arch.family == PARE_FAMILY_BERT;
    pare_meter meter;
    pare_status s = PARE_OK;
    pare_meter_start(&meter, what, "batches", n->data.batches);
    pare_exec_set_hook(n->run.e, hook, ctx);
    for (size_t b = 0; s == PARE_OK && b < n->data.batches; b++) {
        s = pare_is_interrupted()
                ? pare_interrupted(d)
                : pare_lm_run_go(&n->run, n->data.ids + (int64_t)b * n->data.batch * n->data.ctx, head, d);
        pare_meter_step(&meter, NULL, b + 1);
    }
    pare_exec_set_hook(n->run.e, NULL, NULL);
    return s;
}

pare_status pare_narrow_refit(pare_narrow *n, pare_tensor_name name, const float *v, int64_t rows, int64_t cols,
                              const void **copy, pare_diag *d) {
    const pare_stored *t = pare_arch_tensor(n->job->src, &n->arch, name.role, name.layer, name.bias);
    size_t elems = (size_t)(rows * cols);
    void *p = t ? pare_job_keep(n->job, elems * sizeof *v) : NULL;
    if (!p || pare_grow((void **)&n->refits, &n->cap_refits, n->n_refits + 1, sizeof *n->refits) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "healing", "no memory for the weights of a layer");
    const pare_qtype *type = t->type;
    if (type == &pare_qtype_f16) pare_f32_to_f16_n(v, p, elems);
    else if (type == &pare_qtype_bf16) pare_f32_to_bf16_n(v, p, elems);
    else memcpy(p, v, elems * sizeof *v), type = &pare_qtype_f32;
    n->refits[n->n_refits++] = (pare_refit){name, type, rows, cols, p};
    if (copy) *copy = p;
    return PARE_OK;
}
