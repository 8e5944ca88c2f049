/* SPDX-License-Identifier: Apache-2.0
 *
 * The layer view: three runs over one short input, through the executor's hook; with two devices one more of each
 * model, on both in step (verify/parity.h). Where one of the two models keeps the
 * rotary pairs of q and k side by side (GGUF's llama) and the other in halves, these outputs are brought into the
 * original's order first. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/status.h"
#include "models/arch.h"
#include "verify/layer_metrics.h"
#include "verify/parity.h"

#include <string.h>

#define SAMPLE_BYTES (256u << 20)

static bool is_rotary(const char *name) { return strstr(name, ".attn_q") || strstr(name, ".attn_k"); }

/* Where feature i of a head of the original lies in the reduced model; *order NULL when nothing moves. */
static pare_status rotary_order(const pare_verify_run *v, uint32_t **order, size_t *head_dim, pare_diag *d) {
    pare_arch a, b;
    *order = NULL;
    if (pare_arch_read(v->side[0].src, &a, NULL) != PARE_OK || pare_arch_read(v->side[1].src, &b, NULL) != PARE_OK)
        return PARE_OK;
    if (a.family != PARE_FAMILY_LLAMA || a.rope_interleaved == b.rope_interleaved || a.head_dim != b.head_dim)
        return PARE_OK;
    size_t n = (size_t)a.head_dim;
    if (!(*order = pare_malloc(n * sizeof **order)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the layer view");
    for (size_t i = 0; i < n; i++)
        (*order)[i] = (uint32_t)(b.rope_interleaved ? 2 * (i % (n / 2)) + i / (n / 2) : i % 2 * (n / 2) + i / 2);
    *head_dim = n;
    return PARE_OK;
}

static pare_status pass(pare_lm *lm, pare_layers *l, pare_layers_phase phase, const int64_t *ids,
                        const int64_t *lengths, int64_t batch, int64_t seq, pare_diag *d) {
    const pare_tensor *out;
    PARE_TRY(pare_layers_start(l, phase, d));
    pare_lm_set_hook(lm, pare_layers_hook, l);
    pare_status s = pare_lm_forward(lm, ids, lengths, batch, seq, &out, d);
    pare_lm_set_hook(lm, NULL, NULL);
    return s;
}

/* One model on both devices. */
typedef struct in_step {
    pare_parity_view *view;
    int model;
    const int64_t *ids, *lengths;
    int64_t batch, seq;
} in_step;

static pare_status step_column(pare_verify_run *v, int column, void *ctx, pare_diag *d) {
    const in_step *x = ctx;
    const pare_tensor *out;
    if (column % 2 != x->model) return PARE_OK;
    pare_lm_set_hook(v->lm[column], column < 2 ? pare_parity_first : pare_parity_second, x->view);
    pare_status s = pare_lm_forward(v->lm[column], x->ids, x->lengths, x->batch, x->seq, &out, d);
    pare_lm_set_hook(v->lm[column], NULL, NULL);
    pare_parity_end(x->view, column / 2);
    return s;
}

static pare_status parity(pare_verify_run *v, int model, const int64_t *ids, const int64_t *lengths, int64_t batch,
                          int64_t seq, pare_diag *d) {
    in_step x = {pare_parity_new(), model, ids, lengths, batch, seq};
    if (!x.view) return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the layer view");
    pare_status s = pare_verify_together(v, step_column, &x, d);
    if (s == PARE_OK) s = pare_parity_finish(x.view, model, v->r, d);
    pare_parity_free(&x.view);
    return s;
}

pare_status pare_verify_layers(pare_verify_run *v, const int64_t *ids, const int64_t *lengths, int64_t batch,
                               int64_t seq, pare_diag *d) {
    pare_layers *l = pare_layers_new(SAMPLE_BYTES);
    if (!l) return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the layer view");
    uint32_t *order = NULL;
    size_t head_dim = 0;
    pare_status s = rotary_order(v, &order, &head_dim, d);
    if (order) pare_layers_reorder(l, is_rotary, order, head_dim);
    for (int phase = PARE_LAYERS_COUNT; s == PARE_OK && phase <= PARE_LAYERS_COMPARE; phase++)
        s = pass(v->lm[phase == PARE_LAYERS_COMPARE], l, (pare_layers_phase)phase, ids, lengths, batch, seq, d);
    if (s == PARE_OK) {
        pare_report_number(v->r, "layer_view_tokens", (double)(batch * seq));
        s = pare_layers_finish(l, v->r, d);
    }
    pare_layers_free(&l);
    pare_free(order);
    for (int model = 0; model < 2 && s == PARE_OK && v->n_devices == 2; model++)
        s = parity(v, model, ids, lengths, batch, seq, d);
    return s;
}
