/* SPDX-License-Identifier: Apache-2.0
 *
 * One case on the device: every tensor lies between guard bytes that read as NaN, outputs and workspace are filled with
 * one pattern in the first run and another in the second. Afterwards guards and operands must be as before, both
 * runs must agree to the bit, and so must a recording that is replayed over other operands with a plain run. */
#include "tests/tools/parity.h"

#include "core/log.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 512 /* bytes on both sides */
#define FILL  0xFF

typedef struct mem { /* on the device: GUARD, data, GUARD; held is what the host last knew of all of it */
    char *base;
    uint8_t *held, *back;
    size_t bytes, shift; /* shift: data starts at GUARD + shift */
} mem;

typedef struct place {
    mem in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT], work;
    pare_tensor tin[PARE_OP_MAX_IN], tout[PARE_OP_MAX_OUT];
    pare_op_call call;
    char text[700];
} place;

pc_row *pc_row_of(pc_run *r, const pc_case *c) {
    for (size_t i = 0; i < r->n_rows; i++) {
        pc_row *w = &r->rows[i];
        bool same_kernel = w->kernel == c->kernel || (w->kernel && c->kernel && strcmp(w->kernel, c->kernel) == 0);
        if (w->op == c->op && same_kernel && strcmp(w->label, c->label) == 0) return w;
    }
    if (r->n_rows == r->cap_rows) {
        r->cap_rows = r->cap_rows ? 2 * r->cap_rows : 256;
        r->rows = realloc(r->rows, r->cap_rows * sizeof *r->rows);
        if (!r->rows) exit(2);
    }
    pc_row *w = &r->rows[r->n_rows++];
    *w = (pc_row){.op = c->op, .kernel = c->kernel, .equal = c->equal};
    memcpy(w->label, c->label, sizeof w->label);
    return w;
}

void pc_failed(pc_run *r, const pc_case *c, const char *fmt, ...) {
    va_list ap;
    pc_fail f = {.op = c->op, .kernel = c->kernel};
    memcpy(f.label, c->label, sizeof f.label);
    memcpy(f.params, c->params, sizeof f.params);
    va_start(ap, fmt);
    vsnprintf(f.text, sizeof f.text, fmt, ap);
    va_end(ap);
    pc_row_of(r, c)->failed++;
    if (r->n_fails == r->cap_fails) {
        r->cap_fails = r->cap_fails ? 2 * r->cap_fails : 64;
        r->fails = realloc(r->fails, r->cap_fails * sizeof *r->fails);
        if (!r->fails) exit(2);
    }
    r->fails[r->n_fails++] = f;
    if (r->n_fails <= 40)
        fprintf(stderr, "FAILED %s, %s%s%s, %s: %s\n", pare_op_get(c->op)->name, c->label, c->kernel ? ", " : "",
                c->kernel ? c->kernel : "", c->params, f.text);
}

/* ---- device memory ---- */

static bool mem_new(pc_run *r, mem *m, size_t bytes, size_t shift) {
    *m = (mem){.bytes = bytes, .shift = shift};
    size_t all = bytes + shift + 2 * GUARD;
    m->base = r->be->alloc(r->dev, all);
    m->held = malloc(all), m->back = malloc(all);
    if (!m->base || !m->held || !m->back) return false;
    memset(m->held, FILL, all);
    return true;
}
static void mem_free(pc_run *r, mem *m) {
    if (m->base) r->be->release(r->dev, m->base);
    free(m->held), free(m->back);
}
static char *mem_data(const mem *m) { return m->base + GUARD + m->shift; }
static uint8_t *mem_held(const mem *m) { return m->held + GUARD + m->shift; }
static bool mem_send(pc_run *r, mem *m) {
    return r->be->upload(r->dev, m->base, m->held, m->bytes + m->shift + 2 * GUARD) == PARE_OK;
}
static bool mem_fetch(pc_run *r, mem *m) {
    return r->be->download(r->dev, m->back, m->base, m->bytes + m->shift + 2 * GUARD) == PARE_OK;
}
static bool guards_hold(const mem *m) {
    size_t front = GUARD + m->shift;
    return memcmp(m->back, m->held, front) == 0 &&
           memcmp(m->back + front + m->bytes, m->held + front + m->bytes, GUARD) == 0;
}

static bool no(place *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool no(place *p, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->text, sizeof p->text, fmt, ap);
    va_end(ap);
    return false;
}

/* ---- operands ---- */

static bool put_inputs(pc_run *r, const pc_case *c, place *p) {
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i].type) continue;
        p->tin[i] = c->in[i];
        bool weight = c->kind[i] == PC_WEIGHT && r->be->weight_bytes;
        size_t bytes = weight ? r->be->weight_bytes(r->dev, &c->in[i]) : pare_tensor_bytes(&c->in[i]);
        /* weights are allocated one by one, everything else lies at multiples of 64 */
        if (!mem_new(r, &p->in[i], bytes, c->kind[i] == PC_WEIGHT ? 0 : 64)) return no(p, "no memory on the device");
        if (!weight) memcpy(mem_held(&p->in[i]), c->in[i].data, bytes);
        if (!mem_send(r, &p->in[i])) return no(p, "upload failed");
        p->tin[i].data = mem_data(&p->in[i]);
        if (!weight) continue;
        pare_diag d = {0};
        if (r->be->upload_weight(r->dev, p->tin[i].data, &c->in[i], &d) != PARE_OK || !mem_fetch(r, &p->in[i]))
            return no(p, "upload of a weight failed: %s", d.text);
        if (!guards_hold(&p->in[i])) return no(p, "the upload of a weight wrote outside of its %zu bytes", bytes);
        memcpy(p->in[i].held, p->in[i].back, bytes + p->in[i].shift + 2 * GUARD);
    }
    return true;
}

static bool put_outputs(pc_run *r, const pc_case *c, place *p) {
    for (int o = 0; o < c->n_out; o++) {
        if (!c->out[o].type) continue;
        p->tout[o] = c->out[o];
        p->call.out[o] = &p->tout[o];
        if (o == 0 && c->alias >= 0) {
            p->tout[o].data = p->tin[c->alias].data;
            continue;
        }
        if (!mem_new(r, &p->out[o], pare_tensor_bytes(&c->out[o]), 64)) return no(p, "no memory on the device");
        p->tout[o].data = mem_data(&p->out[o]);
    }
    return true;
}

static bool place_call(pc_run *r, const pc_case *c, place *p) {
    p->call = (pare_op_call){.op = c->op,
                             .attr = &c->attr,
                             .n_in = c->n_in,
                             .n_out = c->n_out,
                             .act = c->act,
                             .bf16 = c->bf16};
    if (!put_inputs(r, c, p)) return false;
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i].type) continue;
        p->call.in[i] = &p->tin[i];
        if (c->kind[i] != PC_INPUT) p->call.host[i] = c->in[i].data;
    }
    if (!put_outputs(r, c, p)) return false;
    size_t need = r->be->workspace_bytes(r->dev, &p->call);
    if (!mem_new(r, &p->work, need, 64)) return no(p, "no memory on the device for a workspace of %zu bytes", need);
    p->call.workspace = mem_data(&p->work), p->call.workspace_bytes = need;
    return true;
}

static mem *out_mem(place *p, const pc_case *c, int o) {
    return o == 0 && c->alias >= 0 ? &p->in[c->alias] : &p->out[o];
}

/* ---- runs ---- */

/* Outputs and workspace filled with `fill`, changing operands as held. */
static bool reset(pc_run *r, const pc_case *c, place *p, int fill) {
    for (int o = 0; o < c->n_out; o++) {
        if (!c->out[o].type || out_mem(p, c, o) != &p->out[o]) continue;
        memset(mem_held(&p->out[o]), fill, p->out[o].bytes);
        if (!mem_send(r, &p->out[o])) return no(p, "upload failed");
    }
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i].type && c->kind[i] == PC_INPUT && !mem_send(r, &p->in[i])) return no(p, "upload failed");
    memset(mem_held(&p->work), fill, p->work.bytes);
    return mem_send(r, &p->work) || no(p, "upload failed");
}

/* Waits; outputs to result (as large as they are), guards and operands as before? */
static bool collect(pc_run *r, const pc_case *c, place *p, void *const *result) {
    if (r->be->sync(r->dev) != PARE_OK) return no(p, "the device reports an error (its text is above)");
    for (int i = 0; i < c->n_in; i++) {
        mem *m = &p->in[i];
        if (!c->in[i].type) continue;
        if (!mem_fetch(r, m)) return no(p, "download failed");
        if (!guards_hold(m)) return no(p, "a write outside of operand %d", i);
        if (c->alias != i && memcmp(m->back, m->held, m->bytes + m->shift + 2 * GUARD) != 0)
            return no(p, "operand %d was changed", i);
    }
    for (int o = 0; o < c->n_out; o++) {
        mem *m = out_mem(p, c, o);
        if (!c->out[o].type) continue;
        if (!mem_fetch(r, m)) return no(p, "download failed");
        if (!guards_hold(m)) return no(p, "a write outside of output %d", o);
        memcpy(result[o], m->back + GUARD + m->shift, m->bytes);
    }
    if (!mem_fetch(r, &p->work)) return no(p, "download failed");
    return guards_hold(&p->work) || no(p, "a write outside of the workspace of %zu bytes", p->work.bytes);
}

static bool run_once(pc_run *r, const pc_case *c, place *p, int fill, void *const *result) {
    pare_diag d = {0};
    if (!reset(r, c, p, fill)) return false;
    if (r->be->run(r->dev, &p->call, &d) != PARE_OK) return no(p, "%s", d.text);
    return collect(r, c, p, result);
}

static bool same_outputs(const pc_case *c, void *const *a, void *const *b) {
    for (int o = 0; o < c->n_out; o++)
        if (c->out[o].type && memcmp(a[o], b[o], pare_tensor_bytes(&c->out[o])) != 0) return false;
    return true;
}

/* The first f32 operand backwards: other numbers of the same kind. */
static void other_operand(const pc_case *c, place *p) {
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i].type || c->in[i].type != &pare_qtype_f32 || c->kind[i] != PC_INPUT) continue;
        int64_t n = pare_tensor_elems(&c->in[i]);
        float *to = (float *)(void *)mem_held(&p->in[i]);
        const float *x = c->in[i].data;
        for (int64_t k = 0; k < n; k++) to[k] = x[n - 1 - k];
        return;
    }
}

static bool recorded(pc_run *r, const pc_case *c, place *p, void *const *a, void *const *b) {
    void *rec = NULL;
    pare_diag d = {0};
    bool ok = reset(r, c, p, 0) && r->be->record_begin(r->dev) == PARE_OK;
    if (!ok) return no(p, "a recording cannot begin");
    pare_status run = r->be->run(r->dev, &p->call, &d), end = r->be->record_end(r->dev, &rec);
    if (run != PARE_OK || end != PARE_OK) return no(p, "cannot be recorded: %s", d.text);
    other_operand(c, p);
    ok = run_once(r, c, p, 0x7B, a) && reset(r, c, p, FILL);
    if (ok && r->be->replay(r->dev, rec) != PARE_OK) ok = no(p, "a replay failed");
    ok = ok && collect(r, c, p, b);
    r->be->recording_free(r->dev, rec);
    if (ok && !same_outputs(c, a, b)) return no(p, "a replayed recording and a plain run differ");
    return ok;
}

static bool run_reference(const pc_case *c, void *const *out, char *text, size_t text_bytes) {
    pare_op_call call =
        {.op = c->op, .attr = &c->attr, .n_in = c->n_in, .n_out = c->n_out, .act = c->act, .bf16 = c->bf16};
    pare_tensor t[PARE_OP_MAX_OUT];
    pare_diag d = {0};
    for (int i = 0; i < c->n_in; i++) call.in[i] = c->in[i].type ? &c->in[i] : NULL;
    for (int o = 0; o < c->n_out; o++) {
        if (!c->out[o].type) continue;
        t[o] = c->out[o];
        t[o].data = out[o];
        call.out[o] = &t[o];
    }
    call.workspace_bytes = pare_backend_cpu.workspace_bytes(NULL, &call);
    call.workspace = pare_malloc_aligned(call.workspace_bytes + 1);
    bool ok = pare_backend_cpu.run(NULL, &call, &d) == PARE_OK;
    if (!ok) snprintf(text, text_bytes, "the CPU: %s", d.text);
    pare_free(call.workspace);
    return ok;
}

static void judge_case(pc_run *r, const pc_case *c, pc_row *row) {
    place p;
    memset(&p, 0, sizeof p);
    void *set[4][PARE_OP_MAX_OUT] = {{NULL}};
    for (int k = 0; k < 4; k++)
        for (int o = 0; o < c->n_out; o++)
            if (c->out[o].type) set[k][o] = pc_alloc(r, pare_tensor_bytes(&c->out[o]));
    bool ok = place_call(r, c, &p) && run_once(r, c, &p, FILL, set[0]) && run_once(r, c, &p, 0x7B, set[1]);
    if (ok && !same_outputs(c, set[0], set[1])) ok = no(&p, "two runs differ");
    ok = ok && run_reference(c, set[2], p.text, sizeof p.text);
    double worst = 0;
    ok = ok && pc_judge(c, set[0], set[2], &worst, p.text, sizeof p.text);
    if (worst > row->worst) row->worst = worst;
    if (ok && r->be->record_begin && (r->full || row->cases <= 2)) ok = recorded(r, c, &p, set[1], set[3]);
    if (!ok) pc_failed(r, c, "%s", p.text);
    for (int i = 0; i < c->n_in; i++) mem_free(r, &p.in[i]);
    for (int o = 0; o < c->n_out; o++) mem_free(r, &p.out[o]);
    mem_free(r, &p.work);
}

static void name_kernel(const pc_case *c) {
    char only[64];
    snprintf(only, sizeof only, "%s!", c->kernel ? c->kernel : "");
    if (c->kernel) setenv("PARE_CUDA_MM", only, 1);
    else unsetenv("PARE_CUDA_MM");
}

bool pc_supported(pc_run *r, const pc_case *c) {
    name_kernel(c);
    pare_op_call call =
        {.op = c->op, .attr = &c->attr, .n_in = c->n_in, .n_out = c->n_out, .act = c->act, .bf16 = c->bf16};
    pare_tensor out[PARE_OP_MAX_OUT];
    for (int i = 0; i < c->n_in; i++) {
        call.in[i] = c->in[i].type ? &c->in[i] : NULL;
        if (c->kind[i] != PC_INPUT) call.host[i] = c->in[i].data;
    }
    for (int o = 0; o < c->n_out; o++)
        if (c->out[o].type) out[o] = c->out[o], call.out[o] = &out[o];
    return r->be->supports(r->dev, &call);
}

void pc_drop(pc_run *r) {
    for (size_t i = 0; i < r->n_blocks; i++) pare_free(r->blocks[i]);
    r->n_blocks = 0;
}

void pc_do(pc_run *r, pc_case *c) {
    bool wanted = !r->only_label || strstr(c->label, r->only_label);
    if (r->first && r->n_fails) wanted = false;
    bool late = wanted && r->limit > 0 && pare_now_s() - r->start > r->limit;
    if (late) r->n_late++, wanted = false;
    if (r->only_kernel && (!c->kernel || strcmp(r->only_kernel, c->kernel) != 0)) wanted = false;
    if (wanted) {
        pc_row *row = pc_row_of(r, c);
        double start = pare_now_s();
        row->cases++, r->n_done++;
        if (!r->list && !pc_supported(r, c)) row->unsupported++;
        else if (!r->list) judge_case(r, c, row);
        row->seconds += pare_now_s() - start;
    }
    pc_drop(r);
}
