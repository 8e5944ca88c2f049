/* SPDX-License-Identifier: Apache-2.0
 *
 * pare convert: another file format, the same values. */
#include "tools/job_show.h"

#include <stdio.h>

static const char usage[] = "convert MODEL -o OUT [options]\n\n"
                            "Between Hugging Face folders, .safetensors and .gguf files. Quantized weights are moved "
                            "code by code where the other\n"
                            "format has the same grid; where it has not, this is refused, and --to f16 decodes them.";

static const char examples[] = "  pare convert SmolLM2-135M -o smollm2.gguf\n"
                               "  pare convert smollm2-q8_0.gguf -o smollm2-f16 --to f16\n"
                               "  pare convert model-int4-gptq -o model-int4 --layout ct\n"
                               "  pare convert pruned -o pruned-small --layout compact\n"
                               "  pare convert pruned-small -o pruned-again\n";

int pare_cmd_convert(int argc, char **argv) {
    const char *out = NULL, *model = NULL;
    pare_job_opts o = {0};
    bool dry_run = false;
    const pare_cli_opt opts[] = {
        {"--output", 'o', 's', &out, "OUT", "file or folder to write; .gguf, .safetensors, else a folder"},
        {"--to", 0, 's', &o.to, "TYPE", "decode or convert all weights to f16, bf16 or f32"},
        {"--dry-run", 0, 'f', &dry_run, NULL, "print the plan and stop"},
        {"--format", 0, 's', &o.format, "FORMAT", "gguf, folder or safetensors, whatever OUT ends in"},
        {"--layout", 0, 's', &o.layout, "LAYOUT",
         "folders: ct (compressed-tensors, default), pack, gptq; compact leaves zeros out"},
        {"--max-shard-size", 0, 'b', &o.max_shard_bytes, "BYTES", "split weights into files of at most this (5GB)"},
        {"--force", 0, 'f', &o.force, NULL, "replace OUT if it exists"},
    };
    int n = pare_cli_parse(argc, argv, usage, examples, opts, sizeof opts / sizeof *opts, &model, 1);
    if (n < 0) return n == -2 ? 0 : 2;
    if (n < 1 || (!out && !dry_run)) {
        fprintf(stderr, "pare convert: %s is missing; `pare convert --help` has the options\n",
                n < 1 ? "MODEL" : "-o OUT");
        return 2;
    }
    pare_job *job = NULL;
    pare_diag d = {0};
    pare_status s = pare_convert_open(model, out, &o, &job, &d);
    return s == PARE_OK ? pare_cli_job(&job, model, out, dry_run) : pare_cli_fail(s, &d);
}
