/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes operands, results and gradients of tests/unit/grad_cases.h for tests/py/grad.py, which computes the same with
 * torch in double. usage: grad_dump SEEDS FILE.txt FILE.bin
 * FILE.txt, line by line: case NAME SEED NOTE..., then array KIND WANTED TRANSPOSED NDIM DIM... with KIND x (operand),
 * y (result), r (the loss is sum y r) and g (gradient of the wanted operands, in order); FILE.bin: their f32 in order.
 */
#include "../unit/grad_cases.h"

#include "core/threads.h"
#include "graph/exec.h"
#include "graph/grad.h"

static FILE *txt, *bin;

static void array(const char *kind, bool wanted, const pare_tensor *t) {
    fprintf(txt, "array %s %d %d %d", kind, wanted, t->transposed, t->ndim);
    for (int k = 0; k < t->ndim; k++) fprintf(txt, " %lld", (long long)t->shape[k]);
    fprintf(txt, "\n");
    fwrite(t->data, sizeof(float), (size_t)pare_tensor_elems(t), bin);
}

static bool ready(pare_graph *g, pare_exec **e, pare_diag *d) {
    const int64_t sym[PARE_SYM_COUNT] = {1, 1, 1};
    return pare_graph_status(g, d) == PARE_OK && pare_exec_open(g, NULL, e, d) == PARE_OK &&
           pare_exec_shape(*e, sym, d) == PARE_OK && pare_exec_run(*e, -1, NULL, 0, d) == PARE_OK;
}

/* sum(y r) and its gradients, c holding a fresh graph. */
static bool backward(gc *c, pare_value y, pare_tensor *r, pare_diag *d) {
    pare_exec *e = NULL;
    pare_value wanted[16], grad[16];
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (c->wanted[i]) wanted[n++] = c->var[i];
    pare_value weights = pare_graph_const_f32(c->g, "r", r->ndim, r->shape, r->data);
    pare_value loss = gc_1(c, PARE_OP_ReduceSum, gc_2(c, PARE_OP_Mul, y, weights));
    bool ok = pare_grad_build(c->g, loss, n, wanted, NULL, grad, d) == PARE_OK;
    for (int i = 0; ok && i < n; i++) pare_graph_mark_output(c->g, grad[i]);
    ok = ok && ready(c->g, &e, d);
    for (int i = 0; ok && i < n; i++) array("g", true, pare_exec_value(e, grad[i]));
    pare_exec_close(&e);
    return ok;
}

static bool one_case(size_t which, uint64_t seed, pare_diag *d) {
    gc c;
    pare_exec *e = NULL;
    pare_value y = gc_make(&c, which, seed);
    pare_graph_mark_output(c.g, y);
    bool ok = ready(c.g, &e, d);
    fprintf(txt, "case %s %llu %s\n", gc_cases[which].name, (unsigned long long)seed, c.note);
    for (int i = 0; ok && i < c.n; i++) array("x", c.wanted[i], &c.t[i]);
    if (ok) {
        pare_tensor r = *pare_exec_value(e, y);
        float *p = r.data; /* the result, then the weights of the loss in its place */
        array("y", false, &r);
        for (int64_t i = 0; i < pare_tensor_elems(&r); i++) p[i] = -1 + 2 * (float)pare_rng_unit(&c.rng);
        array("r", false, &r);
        gc again;
        y = gc_make(&again, which, seed);
        ok = backward(&again, y, &r, d);
        pare_graph_free(&again.g);
    }
    pare_exec_close(&e);
    pare_graph_free(&c.g);
    return ok;
}

int main(int argc, char **argv) {
    if (argc != 4 || !(txt = fopen(argv[2], "w")) || !(bin = fopen(argv[3], "wb")))
        return fprintf(stderr, "usage: grad_dump SEEDS FILE.txt FILE.bin\n"), 2;
    for (size_t which = 0; which < GC_COUNT; which++)
        for (uint64_t seed = 100; seed < 100 + (uint64_t)atoi(argv[1]); seed++) {
            pare_diag d = {0};
            if (!one_case(which, seed, &d)) return fprintf(stderr, "%s: %s\n", gc_cases[which].name, d.text), 1;
        }
    return fclose(txt) || fclose(bin);
}
