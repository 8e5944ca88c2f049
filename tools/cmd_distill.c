/* SPDX-License-Identifier: Apache-2.0
 *
 * pare distill: a student learns from a teacher. */
#include "tools/distill_show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "distill --teacher T [--student S] -o OUT [options]\n\n"
    "Trains the student so that it says what the teacher says, on a text of yours. The student is a model that was\n"
    "pruned or quantized (it is healed: zeros stay zeros, integers are decoded), or some of the teacher's layers,\n"
    "or new: of the shape that a config.json gives.\n"
    "The text's last windows are not trained on; they measure what was gained. Ctrl-C keeps a checkpoint beside OUT,\n"
    "and the same command goes on from it. Under mpirun, processes share the windows of each step.\n\n"
    "terms of --loss, with weights (kl=1,ce=0.5):\n"
    "  kl      divergence from the teacher's distribution (--divergence, --temperature)\n"
    "  ce      -log p of the text's next token; alone, no teacher is asked\n"
    "  hidden  squared difference of each layer's output from the teacher's layer\n"
    "  cosine  one less the cosine of the two\n"
    "  relation    divergence of how the last layer's queries, keys and values lie to one another (MiniLM)\n"
    "  embed       encoders: one less the cosine of a sentence's two embeddings (alone, the default)\n"
    "  embed-mse   their squared difference\n"
    "  similarity  squared difference of the cosines of all pairs of sentences of a pass\n"
    "  contrastive --data has pairs (sentence TAB sentence); each is to find its partner among a pass's sentences, by\n"
    "              cosine over --temperature (0.05); no teacher is asked";

static const char examples[] =
    "  pare prune SmolLM2-135M -o half --method wanda --pattern 2:4\n"
    "  pare distill --teacher SmolLM2-135M --student half -o healed --data text.txt --steps 400\n"
    "  pare distill --teacher SmolLM2-135M --student half -o first --data text.txt --blockwise --steps 60 --lr 3e-4\n"
    "  pare distill --teacher SmolLM2-135M --layers 15 -o student.gguf --to f16 --data text.txt --loss kl=1,hidden=1\n"
    "  pare distill --teacher SmolLM2-135M --student half -o healed --data text.txt --batch 32 --device cuda\n"
    "  mpirun -n 4 pare distill --teacher SmolLM2-135M --student half -o healed --data text.txt --batch 16 --micro 2\n"
    "  pare distill --teacher MiniLM --layers 3 --ffn 768 -o student --data sentences.txt --loss embed=1,similarity=1\n"
    "  pare distill --teacher SmolLM2-135M --student half -o healed --train adapters --rank 8 --lr 1e-3\n"
    "  pare distill --teacher SmolLM2-135M --student tiny/config.json -o tiny-model --data text.txt --loss "
    "kl=1,hidden=1\n"
    "  pare distill --teacher big --student small-q4_0.gguf --train scales -o small.gguf --lr 1e-3\n"
    "  pare distill --teacher big --to q4_0 --train qat -o small.gguf --lr 2e-3 --steps 400 --data text.txt\n";

static pare_status save(pare_distill_report *r, const char *json, const char *svg, pare_diag *d) {
    pare_status s = PARE_OK;
    if (json && strcmp(json, "-") == 0) {
        const char *text;
        size_t n;
        s = pare_distill_render(r, PARE_DISTILL_JSON, &text, &n, d);
        if (s == PARE_OK) fwrite(text, 1, n, stdout);
    } else if (json) s = pare_distill_save(r, PARE_DISTILL_JSON, json, d);
    return s == PARE_OK && svg ? pare_distill_save(r, PARE_DISTILL_SVG, svg, d) : s;
}

int pare_cmd_distill(int argc, char **argv) {
    pare_distill_opts o = {.min_rate = -1, .decay = -1, .clip = -1, .momentum = -1, .ema = -1, .warmup = -1};
    const char *svg = NULL;
    int64_t seed = 1;
    o.beta1 = o.beta2 = -1;
    const pare_cli_opt opts[] = {
        {"--teacher", 0, 's', &o.teacher, "MODEL", "the original"},
        {"--student", 0, 's', &o.student, "MODEL",
         "what learns: a pruned or quantized model of the same vocabulary; or a config.json, or a folder with one and "
         "no weights: a new model of that shape, with the teacher's tokenizer"},
        {"--init", 0, 's', &o.init, "HOW",
         "a config.json's weights: teacher, those parts of it that matter most, or random, from --seed (teacher, where "
         "the shape is a narrowing of it)"},
        {"--keep-layers", 0, 's', &o.keep_layers, "LIST", "without --student: these layers of the teacher (0-3,8)"},
        {"--layers", 0, 'i', &o.layers, "N",
         "without --student: N layers of the teacher, those of the largest influence"},
        {"--ffn", 0, 'i', &o.ffn, "N",
         "without --student: N neurons of every feed-forward part, as `pare prune` chooses them"},
        {"--heads", 0, 'i', &o.heads, "N",
         "likewise: N attention heads, with their keys and values; encoders: said or implied by --hidden"},
        {"--hidden", 0, 'i', &o.hidden, "N",
         "likewise: N channels of the residual stream; encoders: whole heads of them, with the heads"},
        {"--output", 'o', 's', &o.out, "OUT", "file or folder to write; .gguf, .safetensors, else a folder"},
        {"--data", 0, 's', &o.data, "FILE",
         "text to learn from; encoders: sentences, one a line, or STS-B pairs (default: a small one built in)"},
        {"--steps", 0, 'i', &o.steps, "N", "steps of the optimizer (100)"},
        {"--batch", 0, 'i', &o.batch, "N", "windows of the text per step (8); encoders: sentences (32)"},
        {"--micro", 0, 'i', &o.micro, "N",
         "windows at once, gradients being added up (up to 2048 tokens, fewer of a large vocabulary)"},
        {"--ctx", 0, 'i', &o.ctx, "N", "tokens per window (256); encoders: most of a sentence (128)"},
        {"--loss", 0, 's', &o.loss, "TERMS", "what is made small (kl, encoders: embed)"},
        {"--blockwise", 0, 'f', &o.blockwise, NULL,
         "each layer by itself, in order, --steps steps each, towards what the teacher has behind its layers: memory "
         "for one layer at a time (--loss: hidden, the default, cosine)"},
        {"--block-inputs", 0, 's', &o.block_inputs, "WHOSE",
         "blockwise: a layer reads what the student's layers before give, or the teacher's activations (student)"},
        {"--block-memory", 0, 'b', &o.block_bytes, "BYTES",
         "blockwise: for the activations of all windows; a file beside OUT has the rest (1G)"},
        {"--relation-heads", 0, 'i', &o.relation_heads, "N",
         "relation: heads that queries, keys and values are cut into, whatever the models have (the student's)"},
        {"--divergence", 0, 's', &o.divergence, "WAY", "kl's direction: forward, reverse, or js (forward)"},
        {"--temperature", 0, 'd', &o.temperature, "T",
         "of both distributions in kl (1), of cosines in contrastive (0.05)"},
        {"--teacher-top", 0, 'i', &o.teacher_top, "K",
         "kl: of the teacher's probabilities the K largest and the sum of the rest, kept when first met (all, not "
         "kept)"},
        {"--teacher-memory", 0, 'b', &o.teacher_bytes, "BYTES", "for these; a file beside OUT has the rest (512M)"},
        {"--train", 0, 's', &o.train, "WHAT",
         "all; norms: norms and biases alone; scales: these, and what multiplies a quantized student's codes; qat: "
         "these, and the codes; adapters: a product of low rank added to each matrix of a layer (all)"},
        {"--rank", 0, 'i', &o.rank, "R", "of adapters (8)"},
        {"--alpha", 0, 'd', &o.alpha, "A", "adapters count A / R times (R)"},
        {"--lr", 0, 'd', &o.rate, "RATE", "top of the schedule (1e-4)"},
        {"--warmup", 0, 'i', &o.warmup, "N", "steps over which the rate rises (a twentieth of all)"},
        {"--schedule", 0, 's', &o.schedule, "SHAPE", "cosine, linear or constant (cosine)"},
        {"--min-lr", 0, 'd', &o.min_rate, "SHARE", "the rate's end as a share of --lr (0.1)"},
        {"--optimizer", 0, 's', &o.optimizer, "NAME", "adamw or sgd (adamw)"},
        {"--weight-decay", 0, 'd', &o.decay, "D", "of matrices (0.01)"},
        {"--beta1", 0, 'd', &o.beta1, "B", "adamw (0.9)"},
        {"--beta2", 0, 'd', &o.beta2, "B", "adamw (0.95)"},
        {"--momentum", 0, 'd', &o.momentum, "M", "sgd (0.9)"},
        {"--clip", 0, 'd', &o.clip, "NORM", "longest gradient; 0 = any (1)"},
        {"--ema", 0, 'd', &o.ema, "E", "write a moving average of the weights (none)"},
        {"--eval-windows", 0, 'i', &o.eval, "N",
         "windows at the text's end to measure on (8); encoders: sentences (64)"},
        {"--seed", 0, 'i', &seed, "N", "order of the windows (1)"},
        {"--recompute", 0, 'f', &o.recompute, NULL, "keep less of the forward pass: less memory, a third more time"},
        {"--precision", 0, 's', &o.precision, "P",
         "of both models' products of matrices, forward and backward: f32, or bf16 with sums in f32; weights and all "
         "else stay f32 (f32)"},
        {"--device", 0, 's', &o.device, "D", "where models run and gradients are computed: cpu, cuda (cpu)"},
        {"--save-every", 0, 'i', &o.save_every, "N", "steps between checkpoints (every five minutes)"},
        {"--to", 0, 's', &o.to, "TARGET", "what trained weights are stored as: a float type, a mix or a grid"},
        {"--format", 0, 's', &o.format, "FORMAT", "gguf, folder or safetensors, whatever OUT ends in"},
        {"--max-shard-size", 0, 'b', &o.max_shard_bytes, "BYTES", "split weights into files of at most this (5GB)"},
        {"--curve", 0, 's', &svg, "FILE", "the curve of the loss as SVG"},
        {"--force", 0, 'f', &o.force, NULL, "replace OUT if it exists, and a checkpoint of another run"},
    };
    int n = pare_cli_parse(argc, argv, usage, examples, opts, sizeof opts / sizeof *opts, NULL, 0);
    if (n < 0) return n == -2 ? 0 : 2;
    const char *missing = !o.teacher ? "--teacher" : !o.out ? "-o OUT" : NULL;
    if (missing) {
        if (pare_team_speaks())
            fprintf(stderr, "pare distill: %s is missing; `pare distill --help` has the options\n", missing);
        return 2;
    }
    o.seed = (uint64_t)seed;
    pare_distill_report *r = NULL;
    pare_diag d = {0};
    const char *json = pare_cli_json();
    pare_status s = pare_distill(&o, &r, &d);
    if (s == PARE_OK && !pare_cli_quiet() && !(json && strcmp(json, "-") == 0)) pare_show_distilled(r, o.out);
    if (s == PARE_OK && pare_team_rank() == 0) s = save(r, json, svg, &d);
    pare_distill_close(&r);
    return s == PARE_OK ? 0 : pare_cli_fail(s, &d);
}
