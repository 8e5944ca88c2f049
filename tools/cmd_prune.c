/* SPDX-License-Identifier: Apache-2.0
 *
 * pare prune: the plan, then the work, then what the output really has. */
#include "tools/prune_show.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char head[] =
    "prune MODEL -o OUT --method METHOD [--sparsity SHARE] [--pattern PATTERN] [options]\n\n"
    "Makes weights zero; shapes stay, so the output loads wherever the original does. MODEL is a "
    "Hugging Face folder,\na .safetensors or a .gguf file. Embeddings, norms and the output "
    "matrix are left alone.\n"
    "--layout compact writes a folder (or .safetensors) without the zeros: smaller, read and run by pare; `pare "
    "convert`\n"
    "makes an ordinary one of it again, bit for bit.\n"
    "With --pattern heads, query-heads, ffn, hidden, width or layers the output is a smaller model, as fast and as "
    "small "
    "as it\nlooks; what reads the parts that go is refitted on the calibration text. METHOD is then optional.\n";

static const char examples[] =
    "  pare prune SmolLM2-135M -o smol-50 --method sparsegpt --sparsity 0.5 --calib wiki.txt\n"
    "  pare prune SmolLM2-135M -o smol-2of4.gguf --method wanda --pattern 2:4 --keep 'layers\\.0\\.'\n"
    "  pare prune model.gguf --method magnitude --scope global --sparsity 0.3 --tensor 'ffn_down=0.1' --dry-run\n"
    "  pare prune SmolLM2-135M -o smol-narrow --pattern ffn --sparsity 0.2 --calib wiki.txt\n"
    "  pare prune MiniLM -o minilm-half --pattern width --sparsity 0.5 --calib sentences.txt\n"
    "  pare prune SmolLM2-135M -o smol-28.gguf --pattern layers --stay 28 --to q8_0\n"
    "  pare prune SmolLM2-135M -o smol-2of4 --method wanda --pattern 2:4 --layout compact\n"
    "  pare prune SmolLM2-135M -o smol-2of4-q8.gguf --method sparsegpt --pattern 2:4 --to q8_0\n"
    "  pare prune SmolLM2-135M --sensitivity --method wanda --pattern unstructured,2:4,ffn --svg layers.svg\n"
    "  pare prune SmolLM2-135M -o smol-half --method wanda --max-kl 0.3 --verify-data other.txt\n"
    "  pare prune SmolLM2-135M -o small.gguf --pattern ffn --to q8_0 --fit 100MB\n";

/* METHOD and PATTERN with what there is. */
static const char *usage(void) {
    static char text[4096];
    const char *name, *what;
    size_t n = (size_t)snprintf(text, sizeof text, "%s\n", head);
    for (size_t i = 0; pare_prune_method(i, &name, &what); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "  %-8s %-14s %s\n", i ? "" : "METHOD", name, what);
    for (size_t i = 0; pare_prune_pattern(i, &name, &what); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s  %-8s %-14s %s", i ? "\n" : "", i ? "" : "PATTERN", name,
                              what);
    return text;
}

int pare_cmd_prune(int argc, char **argv) {
    const char *out = NULL, *model = NULL;
    pare_prune_opts o = {0};
    bool dry_run = false;
    double sparsity = NAN; /* not given */
    bool sensitivity = false;
    const char *fit = NULL, *amounts = NULL, *svg = NULL;
    pare_prune_goal goal = {0};
    pare_cli_list tensor = {0}, keep = {0};
    const pare_cli_opt opts[] = {
        {"--output", 'o', 's', &out, "OUT", "file or folder to write; .gguf, .safetensors, else a folder"},
        {"--method", 0, 's', &o.method, "METHOD", "what a weight is worth (see above)"},
        {"--sparsity", 0, 'd', &sparsity, "SHARE",
         "share of zeros in every pruned matrix (0.5); N:M fixes its own; smaller models: of parts that go"},
        {"--pattern", 0, 's', &o.pattern, "PATTERN", "where zeros may lie (unstructured)"},
        {"--stay", 0, 'i', &o.stay, "N", "smaller models: how many parts stay, instead of --sparsity"},
        {"--drop", 0, 's', &o.drop, "LAYERS", "--pattern layers: these, by number (3,20-22)"},
        {"--multiple", 0, 'i', &o.multiple, "N", "ffn, hidden: what stays is a multiple of N (32)"},
        {"--no-heal", 0, 'f', &o.no_heal, NULL, "smaller models: do not refit what reads the parts that go"},
        {"--scope", 0, 's', &o.scope, "SCOPE",
         "which weights compete: row (wanda, sparsegpt), layer (magnitude, taylor), global (these only)"},
        {"--tensor", 0, 'S', &tensor, "REGEX=SHARE", "another share for tensors whose name matches; repeatable"},
        {"--keep", 0, 'S', &keep, "REGEX", "do not touch tensors whose name matches; repeatable"},
        {"--calib", 0, 's', &o.calib, "FILE", "text to calibrate on (default: a small one built in)"},
        {"--calib-windows", 0, 'i', &o.calib_windows, "N", "windows of the text to use (128; encoders 512)"},
        {"--calib-ctx", 0, 'i', &o.calib_ctx, "N", "tokens per window (512; encoders 64)"},
        {"--to", 0, 's', &o.to, "TARGET", "sparsegpt, smaller models: round to a mix or grid too; zeros stay zeros"},
        {"--fit", 0, 's', &fit, "SIZE",
         "prune no more than it takes for OUT to have this size (80MB; 60%: of MODEL's)"},
        {"--max-kl", 0, 'd', &goal.max_kl, "X",
         "prune as much as mean KL divergence allows, layers by their sensitivity; OUT is verified at the end"},
        {"--verify-data", 0, 's', &goal.data, "FILE",
         "measured on this text (default: a small one built in, not --calib's)"},
        {"--verify-windows", 0, 'i', &goal.windows, "N", "on its first N windows only"},
        {"--sensitivity", 0, 'f', &sensitivity, NULL,
         "write nothing: what it costs to prune each layer alone; PATTERN may be a list: 2:4,ffn"},
        {"--amounts", 0, 's', &amounts, "LIST", "--sensitivity: shares to try (0.25,0.5,0.75)"},
        {"--svg", 0, 's', &svg, "FILE", "--sensitivity: draw the curves"},
        {"--dry-run", 0, 'f', &dry_run, NULL, "print the plan and stop"},
        {"--format", 0, 's', &o.format, "FORMAT", "gguf, folder or safetensors, whatever OUT ends in"},
        {"--layout", 0, 's', &o.layout, "LAYOUT",
         "folders: ct (compressed-tensors, default), pack, gptq; compact leaves zeros out"},
        {"--max-shard-size", 0, 'b', &o.max_shard_bytes, "BYTES", "split weights into files of at most this (5GB)"},
        {"--force", 0, 'f', &o.force, NULL, "replace OUT if it exists"},
    };
    int n = pare_cli_parse(argc, argv, usage(), examples, opts, sizeof opts / sizeof *opts, &model, 1);
    if (n < 0) return n == -2 ? 0 : 2;
    bool zeros = !(o.pattern && pare_prune_smaller(o.pattern));
    const char *missing = n < 1                                ? "MODEL"
                          : !o.method && !sensitivity && zeros ? "--method"
                          : !out && !dry_run && !sensitivity   ? "-o OUT"
                                                               : NULL;
    if (n >= 1 && access(model, F_OK) != 0) {
        fprintf(stderr, "pare prune: %s: %s\n", model, strerror(errno));
        return 3;
    }
    if (missing) {
        if (pare_team_speaks())
            fprintf(stderr, "pare prune: %s is missing; `pare prune --help` has the options\n", missing);
        return 2;
    }
    if (sparsity == 0) {
        fprintf(stderr, "pare prune: --sparsity: 0 is no share of zeros; 0 < share < 1\n");
        return 2;
    }
    o.sparsity = isnan(sparsity) ? 0 : sparsity;
    o.tensor = tensor.v, o.n_tensor = tensor.n;
    o.keep = keep.v, o.n_keep = keep.n;
    int code;
    if (pare_team_rank() > 0 && (sensitivity || fit || goal.max_kl != 0)) code = 0; /* not shared: process 0 alone */
    else if (sensitivity) code = pare_cli_sensitivity(model, &o, amounts, svg);
    else if (fit || goal.max_kl != 0) code = pare_cli_prune_goal(model, out, &o, &goal, fit, dry_run);
    else {
        pare_job *job = NULL;
        pare_diag d = {0};
        pare_status s = pare_prune_open(model, out, &o, &job, &d);
        code = s == PARE_OK ? pare_cli_job(&job, model, out, dry_run) : pare_cli_fail(s, &d);
    }
    free(tensor.v);
    free(keep.v);
    return code;
}
