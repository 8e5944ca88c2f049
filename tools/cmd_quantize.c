/* SPDX-License-Identifier: Apache-2.0
 *
 * pare quantize: the plan, then the work. */
#include "tools/gate_opts.h"
#include "tools/job_show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "quantize MODEL -o OUT --to TARGET [options]\n\n"
                            "MODEL is a Hugging Face folder, a .safetensors or a .gguf file. TARGET is one of\n"
                            "  a mix, for .gguf           q2_k q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m q6_k "
                            "iq4_nl iq4_xs q4_0 q4_1 q5_0 q5_1 q8_0\n"
                            "  a grid of integers         int8, int4, with :g32 :g64 :g128 and :asym (int4:g32:asym); "
                            "in .gguf: int8 and int4:g32\n"
                            "  a float type               f16 bf16 f32";

static const char examples[] = "  pare quantize SmolLM2-135M -o smollm2-q4_k_m.gguf --to q4_k_m\n"
                               "  pare quantize MiniLM -o MiniLM-int8 --to int8 --keep 'layer\\.0\\.'\n"
                               "  pare quantize model.gguf -o small.gguf --to q4_k_m --method gptq --max-kl 0.05\n"
                               "  pare quantize model.gguf --to q5_k_m --tensor 'ffn_down=q6_k' --dry-run\n";

int pare_cmd_quantize(int argc, char **argv) {
    const char *out = NULL, *model = NULL;
    pare_job_opts o = {0};
    bool dry_run = false;
    bool verify = false;
    pare_verify_opts v = {0};
    pare_cli_list tensor = {0}, keep = {0};
    pare_cli_opt opts[40] = {
        {"--output", 'o', 's', &out, "OUT", "file or folder to write; .gguf, .safetensors, else a folder"},
        {"--to", 0, 's', &o.to, "TARGET", "what weights become (see above)"},
        {"--tensor", 0, 'S', &tensor, "REGEX=GRID", "another grid for tensors whose name matches; repeatable"},
        {"--keep", 0, 'S', &keep, "REGEX", "do not quantize tensors whose name matches; repeatable"},
        {"--method", 0, 's', &o.method, "METHOD",
         "how codes are chosen: rtn (round to nearest), search (weighted by the inputs), awq (columns scaled), gptq, "
         "autoround (gptq, then codes and scales learn; longer) (rtn)"},
        {"--calib", 0, 's', &o.calib, "FILE",
         "calibrated methods: text to calibrate on (default: a small one built in)"},
        {"--calib-windows", 0, 'i', &o.calib_windows, "N",
         "calibrated methods: windows of the text to use (128; encoders 512)"},
        {"--calib-ctx", 0, 'i', &o.calib_ctx, "N", "calibrated methods: tokens per window (512; encoders 64)"},
        {"--no-refine", 0, 'f', &o.no_refine, NULL, "gptq: one sweep over each matrix, no passes after it"},
        {"--imatrix", 0, 's', &o.imatrix, "FILE",
         "method search: importance from llama.cpp's file (both formats) instead of a text"},
        {"--save-imatrix", 0, 's', &o.save_imatrix, "FILE",
         "calibrated methods: save the original's importance as such a file (.dat: the older format)"},
        {"--keep-zeros", 0, 'f', &o.keep_zeros, NULL, "a pruned MODEL: zeros stay zeros, with every method"},
        {"--pure", 0, 'f', &o.pure, NULL, "mixes: the base type for every matrix"},
        {"--dry-run", 0, 'f', &dry_run, NULL, "print the plan and stop"},
        {"--format", 0, 's', &o.format, "FORMAT", "gguf, folder or safetensors, whatever OUT ends in"},
        {"--layout", 0, 's', &o.layout, "LAYOUT",
         "folders: ct (compressed-tensors, default), pack, gptq; compact leaves zeros out"},
        {"--max-shard-size", 0, 'b', &o.max_shard_bytes, "BYTES", "split weights into files of at most this (5GB)"},
        {"--allow-requantize", 0, 'f', &o.allow_requantize, NULL, "accept a source that is already quantized"},
        {"--force", 0, 'f', &o.force, NULL, "replace OUT if it exists"},
        {"--verify", 0, 'f', &verify, NULL, "then compare OUT with MODEL; a gate below that fails gives exit status 1"},
        {"--verify-data", 0, 's', &v.data, "FILE", "on this text (default: a small one built in, not --calib's)"},
        {"--verify-windows", 0, 'i', &v.windows, "N", "on its first N windows only"},
    };
    size_t n_opts = 0;
    while (opts[n_opts].name) n_opts++;
    pare_gate_opts_add(opts + n_opts);
    int n = pare_cli_parse(argc, argv, usage, examples, opts, n_opts + PARE_GATE_OPTS, &model, 1);
    if (n < 0) return n == -2 ? 0 : 2;
    if (n < 1 || !o.to || (!out && !dry_run)) {
        if (pare_team_speaks())
            fprintf(stderr, "pare quantize: %s is missing; `pare quantize --help` has the options\n",
                    n < 1   ? "MODEL"
                    : !o.to ? "--to"
                            : "-o OUT");
        return 2;
    }
    o.tensor = tensor.v, o.n_tensor = tensor.n;
    o.keep = keep.v, o.n_keep = keep.n;
    int wrong = pare_gate_opts_make("quantize", &v);
    if (wrong) return wrong;
    verify |= v.n_gates > 0 || v.data || v.windows;
    pare_job *job = NULL;
    pare_diag d = {0};
    pare_status s = pare_quantize_open(model, out, &o, &job, &d);
    free(tensor.v);
    free(keep.v);
    int code =
        s == PARE_OK ? pare_cli_job_verified(&job, model, out, dry_run, verify ? &v : NULL) : pare_cli_fail(s, &d);
    pare_gate_opts_free();
    return code;
}
