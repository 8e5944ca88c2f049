/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs ONNX's node tests, as tests/py/onnx_nodes.py wrote them, through the CPU backend at every instruction level,
 * then once as a graph of one node (shape rules, planner, executor), and compares with the expected arrays (numpy's
 * allclose with ONNX's own tolerances; integers exactly). With a device: through that backend and as a graph on it;
 * what it does not support is skipped, by name. Prints one line per operator; exit 1 when a case fails or nothing ran.
 * usage: onnx_nodes FOLDER [--device NAME] [TEST] */
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/op.h"
#include "graph/exec.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef union attrs {
    pare_attr_softmax softmax;
    pare_attr_concat concat;
    pare_attr_gather gather;
    pare_attr_gelu gelu;
    pare_attr_swish swish;
    pare_attr_reduce reduce;
    pare_attr_reshape reshape;
    pare_attr_transpose transpose;
    pare_attr_gemm gemm;
    pare_attr_norm norm;
    pare_attr_rotary rotary;
    pare_attr_scatter scatter;
    pare_attr_shape shape;
    pare_attr_scatter_nd scatter_nd;
    pare_attr_attention attention;
} attrs;

/* Where an ONNX attribute lives: i int64, b bool, f float, s bool set when the string equals `word`, l perm, r one of
 * the words of pare_scatter. */
static const struct field {
    pare_op op;
    const char *name;
    char kind;
    size_t at;
    const char *word;
} fields[] = {
    {PARE_OP_Softmax, "axis", 'i', offsetof(pare_attr_softmax, axis), NULL},
    {PARE_OP_LogSoftmax, "axis", 'i', offsetof(pare_attr_softmax, axis), NULL},
    {PARE_OP_Shape, "start", 'i', offsetof(pare_attr_shape, start), NULL},
    {PARE_OP_Shape, "end", 'i', offsetof(pare_attr_shape, end), NULL},
    {PARE_OP_ScatterND, "reduction", 'r', offsetof(pare_attr_scatter_nd, reduction), NULL},
    {PARE_OP_Concat, "axis", 'i', offsetof(pare_attr_concat, axis), NULL},
    {PARE_OP_Gather, "axis", 'i', offsetof(pare_attr_gather, axis), NULL},
    {PARE_OP_Gelu, "approximate", 's', offsetof(pare_attr_gelu, tanh_approx), "tanh"},
    {PARE_OP_Swish, "alpha", 'f', offsetof(pare_attr_swish, alpha), NULL},
    {PARE_OP_ReduceMean, "keepdims", 'b', offsetof(pare_attr_reduce, keepdims), NULL},
    {PARE_OP_ReduceMean, "noop_with_empty_axes", 'b', offsetof(pare_attr_reduce, noop_with_empty_axes), NULL},
    {PARE_OP_ReduceSum, "keepdims", 'b', offsetof(pare_attr_reduce, keepdims), NULL},
    {PARE_OP_ReduceSum, "noop_with_empty_axes", 'b', offsetof(pare_attr_reduce, noop_with_empty_axes), NULL},
    {PARE_OP_Reshape, "allowzero", 'b', offsetof(pare_attr_reshape, allowzero), NULL},
    {PARE_OP_Transpose, "perm", 'l', 0, NULL},
    {PARE_OP_Gemm, "alpha", 'f', offsetof(pare_attr_gemm, alpha), NULL},
    {PARE_OP_Gemm, "beta", 'f', offsetof(pare_attr_gemm, beta), NULL},
    {PARE_OP_Gemm, "transA", 'b', offsetof(pare_attr_gemm, trans_a), NULL},
    {PARE_OP_Gemm, "transB", 'b', offsetof(pare_attr_gemm, trans_b), NULL},
    {PARE_OP_LayerNormalization, "axis", 'i', offsetof(pare_attr_norm, axis), NULL},
    {PARE_OP_LayerNormalization, "epsilon", 'f', offsetof(pare_attr_norm, epsilon), NULL},
    {PARE_OP_RMSNormalization, "axis", 'i', offsetof(pare_attr_norm, axis), NULL},
    {PARE_OP_RMSNormalization, "epsilon", 'f', offsetof(pare_attr_norm, epsilon), NULL},
    {PARE_OP_RotaryEmbedding, "interleaved", 'b', offsetof(pare_attr_rotary, interleaved), NULL},
    {PARE_OP_RotaryEmbedding, "num_heads", 'i', offsetof(pare_attr_rotary, num_heads), NULL},
    {PARE_OP_RotaryEmbedding, "rotary_embedding_dim", 'i', offsetof(pare_attr_rotary, rotary_embedding_dim), NULL},
    {PARE_OP_TensorScatter, "axis", 'i', offsetof(pare_attr_scatter, axis), NULL},
    {PARE_OP_TensorScatter, "mode", 's', offsetof(pare_attr_scatter, circular), "circular"},
    {PARE_OP_Attention, "is_causal", 'b', offsetof(pare_attr_attention, is_causal), NULL},
    {PARE_OP_Attention, "q_num_heads", 'i', offsetof(pare_attr_attention, q_num_heads), NULL},
    {PARE_OP_Attention, "kv_num_heads", 'i', offsetof(pare_attr_attention, kv_num_heads), NULL},
    {PARE_OP_Attention, "scale", 'f', offsetof(pare_attr_attention, scale), NULL},
    {PARE_OP_Attention, "softcap", 'f', offsetof(pare_attr_attention, softcap), NULL},
    {PARE_OP_Attention, "qk_matmul_output_mode", 'i', offsetof(pare_attr_attention, qk_matmul_output_mode), NULL},
};

/* ONNX's defaults that are not zero. */
static attrs defaults(pare_op op) {
    attrs a;
    memset(&a, 0, sizeof a);
    switch (op) {
    case PARE_OP_LogSoftmax:
    case PARE_OP_Softmax: a.softmax.axis = -1; break;
    case PARE_OP_Shape: a.shape.end = INT64_MAX; break;
    case PARE_OP_Swish: a.swish.alpha = 1; break;
    case PARE_OP_ReduceSum:
    case PARE_OP_ReduceMean: a.reduce.keepdims = true; break;
    case PARE_OP_Gemm: a.gemm.alpha = a.gemm.beta = 1; break;
    case PARE_OP_LayerNormalization:
    case PARE_OP_RMSNormalization: a.norm.axis = -1, a.norm.epsilon = 1e-5f; break;
    case PARE_OP_TensorScatter: a.scatter.axis = -2; break;
    default: break;
    }
    return a;
}

static pare_scatter reduction(const char *word) {
    static const char *const words[] = {"none", "add", "mul", "max", "min"};
    int i = 4;
    while (i > 0 && strcmp(words[i], word) != 0) i--;
    return (pare_scatter)i;
}

static bool set_attr(attrs *a, pare_op op, const char *name, char kind, char *value) {
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const struct field *f = &fields[i];
        if (f->op != op || strcmp(f->name, name) != 0) continue;
        void *p = (char *)a + f->at;
        if (f->kind == 'i') *(int64_t *)p = atoll(value);
        else if (f->kind == 'b') *(bool *)p = atoll(value) != 0;
        else if (f->kind == 'f') *(float *)p = strtof(value, NULL);
        else if (f->kind == 'r') *(pare_scatter *)p = reduction(value);
        else if (f->kind == 's') *(bool *)p = strcmp(value, f->word) == 0;
        else {
            a->transpose.n = (int)strtol(value, &value, 10);
            for (int k = 0; k < a->transpose.n && k < PARE_MAX_DIMS; k++)
                a->transpose.perm[k] = strtoll(value, &value, 10);
        }
        return true;
    }
    return false;
}

typedef struct test_case {
    char name[160];
    int op;
    float rtol, atol;
    attrs attr;
    char problem[700];
    int n_in, n_out;
    pare_tensor in[PARE_OP_MAX_IN], want[PARE_OP_MAX_OUT];
    bool has_in[PARE_OP_MAX_IN], has_out[PARE_OP_MAX_OUT];
} test_case;

static void parse_tensor(test_case *t, char *line, bool is_in, char *bin) {
    int index, ndim, used;
    char type[16];
    unsigned long long at, bytes;
    if (sscanf(line, "%*s %d %15s %llu %llu %d%n", &index, type, &at, &bytes, &ndim, &used) != 5 ||
        ndim > PARE_MAX_DIMS || index >= (is_in ? PARE_OP_MAX_IN : PARE_OP_MAX_OUT)) {
        snprintf(t->problem, sizeof t->problem, "unreadable line: %s", line);
        return;
    }
    int64_t shape[PARE_MAX_DIMS];
    char *p = line + used;
    for (int k = 0; k < ndim; k++) shape[k] = strtoll(p, &p, 10);
    pare_tensor x = pare_tensor_make(pare_qtype_by_name(type), ndim, shape, bin + at);
    if (is_in) t->in[index] = x, t->has_in[index] = true, t->n_in = index + 1 > t->n_in ? index + 1 : t->n_in;
    else t->want[index] = x, t->has_out[index] = true, t->n_out = index + 1 > t->n_out ? index + 1 : t->n_out;
}

static bool close_to(float got, float want, float rtol, float atol) {
    if (isnan(want)) return isnan(got);
    if (isinf(want) || isinf(got)) return got == want;
    return fabsf(got - want) <= atol + rtol * fabsf(want);
}

static bool same(test_case *t, int i, const void *got) {
    const pare_tensor *w = &t->want[i];
    size_t n = (size_t)pare_tensor_elems(w);
    if (w->type != &pare_qtype_f32) {
        if (memcmp(got, w->data, pare_tensor_bytes(w)) == 0) return true;
        snprintf(t->problem, sizeof t->problem, "output %d differs", i);
        return false;
    }
    for (size_t e = 0; e < n; e++) {
        float g = ((const float *)got)[e], v = ((const float *)w->data)[e];
        if (close_to(g, v, t->rtol, t->atol)) continue;
        snprintf(t->problem, sizeof t->problem, "output %d, element %zu: %.9g, expected %.9g", i, e, g, v);
        return false;
    }
    return true;
}

static const pare_backend *backend = &pare_backend_cpu;
static void *device;

static bool is_constant(const pare_tensor *x) { return x->ndim == 1 && x->type->kind == PARE_QK_INT; }

/* The tensor in the device's memory, which is its own where the device computes in host memory. */
static bool to_device(test_case *t, const pare_tensor *x, pare_tensor *out) {
    *out = *x;
    if (backend->host_memory) return true;
    out->data = backend->alloc(device, pare_tensor_bytes(x));
    if (out->data && backend->upload(device, out->data, x->data, pare_tensor_bytes(x)) == PARE_OK) return true;
    snprintf(t->problem, sizeof t->problem, "%zu bytes cannot be put on the device", pare_tensor_bytes(x));
    return false;
}

static bool from_device(test_case *t, const pare_tensor *on_device, pare_tensor *out) {
    if (backend->host_memory) return true;
    if (backend->download(device, out->data, on_device->data, pare_tensor_bytes(out)) == PARE_OK) return true;
    snprintf(t->problem, sizeof t->problem, "the result cannot be fetched");
    return false;
}

static bool call(test_case *t, pare_op_call *c) {
    pare_diag d = {0};
    c->workspace_bytes = backend->workspace_bytes(device, c);
    c->workspace = backend->alloc(device, c->workspace_bytes);
    bool ok = c->workspace && backend->run(device, c, &d) == PARE_OK;
    if (!ok) snprintf(t->problem, sizeof t->problem, "%s", c->workspace ? d.text : "no memory for the workspace");
    if (backend->sync(device) != PARE_OK && ok)
        snprintf(t->problem, sizeof t->problem, "the device failed"), ok = false;
    backend->release(device, c->workspace);
    return ok;
}

typedef enum verdict { FAILED, PASSED, REFUSED } verdict;

static verdict run_case(test_case *t) {
    pare_op_call c = {.op = (pare_op)t->op, .attr = &t->attr, .n_in = t->n_in, .n_out = t->n_out};
    pare_tensor in[PARE_OP_MAX_IN] = {0}, out[PARE_OP_MAX_OUT] = {0}, got[PARE_OP_MAX_OUT] = {0};
    bool ok = true;
    for (int i = 0; ok && i < t->n_in; i++) {
        if (!t->has_in[i]) continue;
        ok = to_device(t, &t->in[i], &in[i]);
        c.in[i] = &in[i], c.host[i] = is_constant(&in[i]) ? t->in[i].data : NULL;
    }
    for (int i = 0; ok && i < t->n_out; i++) {
        if (!t->has_out[i]) continue;
        got[i] = t->want[i];
        got[i].data = pare_malloc_aligned(pare_tensor_bytes(&got[i]) + 1);
        memset(got[i].data, 0x7B, pare_tensor_bytes(&got[i]) + 1);
        ok = to_device(t, &got[i], &out[i]);
        c.out[i] = &out[i];
    }
    bool refused = ok && !backend->supports(device, &c);
    if (refused) snprintf(t->problem, sizeof t->problem, "not supported");
    ok = ok && !refused && call(t, &c);
    for (int i = 0; ok && i < t->n_out; i++)
        if (c.out[i]) ok = from_device(t, &out[i], &got[i]) && same(t, i, got[i].data);
    for (int i = 0; !backend->host_memory && i < t->n_in; i++) backend->release(device, in[i].data);
    for (int i = 0; i < t->n_out; i++) {
        if (!backend->host_memory) backend->release(device, out[i].data);
        pare_free(got[i].data);
    }
    return refused ? REFUSED : ok ? PASSED : FAILED;
}

static bool same_result(test_case *t, int i, const pare_tensor *got) {
    const pare_tensor *w = &t->want[i];
    bool fits = got && got->type == w->type && got->ndim == w->ndim;
    for (int k = 0; fits && k < w->ndim; k++) fits = got->shape[k] == w->shape[k];
    if (!fits) snprintf(t->problem, sizeof t->problem, "as a graph: output %d has another shape or type", i);
    return fits && same(t, i, got->data);
}

/* Operands that decide shapes (1-D integers) are constants, all others are inputs. */
static bool run_as_graph(test_case *t) {
    pare_diag d = {0};
    pare_graph *g = pare_graph_new();
    pare_exec *e = NULL;
    pare_value in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT];
    pare_binding bind[PARE_OP_MAX_IN];
    int n_bind = 0;
    for (int i = 0; i < t->n_in; i++) {
        char name[16];
        const pare_tensor *x = &t->in[i];
        snprintf(name, sizeof name, "in%d", i);
        if (!t->has_in[i]) in[i] = PARE_NO_VALUE;
        else if (is_constant(x)) in[i] = pare_graph_weight(g, name, x);
        else {
            in[i] = pare_graph_input(g, name, x->type, x->ndim, x->shape);
            bind[n_bind++] = (pare_binding){in[i], x->data};
        }
    }
    out[0] = pare_graph_node(g, (pare_op)t->op, "node", &t->attr, sizeof t->attr, t->n_in, in, t->n_out);
    for (int i = 0; i < t->n_out; i++) {
        if (i) out[i] = pare_graph_output(g, out[0], i);
        pare_graph_mark_output(g, out[i]);
    }
    const int64_t sym[PARE_SYM_COUNT] = {1, 1, 1};
    const pare_exec_opts opts = {.backend = backend};
    bool ok = pare_graph_status(g, &d) == PARE_OK && pare_exec_open(g, &opts, &e, &d) == PARE_OK &&
              pare_exec_shape(e, sym, &d) == PARE_OK && pare_exec_run(e, -1, bind, n_bind, &d) == PARE_OK;
    if (!ok) snprintf(t->problem, sizeof t->problem, "as a graph: %s", d.text);
    if (ok && pare_exec_fallbacks(e, NULL)) {
        snprintf(t->problem, sizeof t->problem, "as a graph: it was left to the CPU");
        ok = false;
    }
    for (int i = 0; ok && i < t->n_out; i++)
        if (t->has_out[i]) ok = same_result(t, i, pare_exec_value(e, out[i]));
    pare_exec_close(&e);
    pare_graph_free(&g);
    return ok;
}

static struct { int passed, failed, skipped; } tally[PARE_OP_COUNT];
static uint32_t levels[3] = {0, PARE_CPU_AVX2, UINT32_MAX};

static void finish_case(test_case *t) {
    verdict v = t->problem[0] ? FAILED : PASSED;
    for (int k = 0; v == PASSED && k < (backend->host_memory ? 3 : 1); k++) {
        if (backend->host_memory) pare_cpu_limit(levels[k]);
        v = run_case(t);
    }
    if (v == REFUSED && !backend->host_memory) {
        tally[t->op].skipped++;
        printf("skipped %s: not supported\n", t->name);
    } else if (v == PASSED && run_as_graph(t)) tally[t->op].passed++;
    else {
        tally[t->op].failed++;
        printf("FAILED %s (%s): %s\n", t->name, backend->host_memory ? pare_cpu_name(pare_cpu_mask()) : backend->name,
               t->problem);
    }
}

static void parse_line(char *line, test_case *t, char *bin, const char *only) {
    char name[160], op[64], key[64], kind;
    int used = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "skip %159s %63s %n", name, op, &used) == 2) {
        tally[pare_op_find(op)].skipped++;
        printf("skipped %s: %s\n", name, line + used);
    } else if (sscanf(line, "case %159s %63s", name, op) == 2) {
        memset(t, 0, sizeof *t);
        memcpy(t->name, name, sizeof name);
        t->op = pare_op_find(op);
        t->attr = defaults((pare_op)t->op);
        sscanf(line, "case %*s %*s %f %f", &t->rtol, &t->atol);
    } else if (sscanf(line, "attr %63s %c %n", key, &kind, &used) == 2) {
        if (!set_attr(&t->attr, (pare_op)t->op, key, kind, line + used))
            snprintf(t->problem, sizeof t->problem, "unknown attribute %s", key);
    } else if (strcmp(line, "end") == 0) {
        if (!only || strcmp(only, t->name) == 0) finish_case(t);
    } else parse_tensor(t, line, strncmp(line, "in ", 3) == 0, bin);
}

static char *read_all(const char *folder, const char *file) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *p = pare_malloc_aligned(n + 1);
    if (p && fread(p, 1, n, f) != n) pare_free(p), p = NULL;
    if (p) p[n] = 0;
    fclose(f);
    return p;
}

static bool open_device(const char *name) {
    pare_diag d = {0};
    if (pare_backend_find(name, &backend, &d) == PARE_OK && backend->open(&device, &d) == PARE_OK) return true;
    fprintf(stderr, "%s: %s\n", name, d.text);
    return false;
}

int main(int argc, char **argv) {
    const char *folder = NULL, *only = NULL, *name = "cpu";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) name = argv[++i];
        else if (!folder) folder = argv[i];
        else only = argv[i];
    }
    if (!folder) return fprintf(stderr, "usage: onnx_nodes FOLDER [--device NAME] [TEST]\n"), 2;
    if (!open_device(name)) return 2;
    char *txt = read_all(folder, "cases.txt"), *bin = read_all(folder, "cases.bin");
    if (!txt || !bin) return fprintf(stderr, "%s: no cases.txt and cases.bin\n", folder), 2;
    test_case t = {0};
    for (char *line = txt, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        if (*next) *next++ = 0;
        parse_line(line, &t, bin, only);
    }
    int passed = 0, failed = 0, skipped = 0;
    for (int i = 0; i < PARE_OP_COUNT; i++) {
        printf("%-20s %3d passed %3d failed %3d skipped\n", pare_op_get((pare_op)i)->name, tally[i].passed,
               tally[i].failed, tally[i].skipped);
        passed += tally[i].passed, failed += tally[i].failed, skipped += tally[i].skipped;
    }
    printf("ONNX node tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
    backend->close(device);
    pare_free(txt);
    pare_free(bin);
    return failed || !passed;
}
