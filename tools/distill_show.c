/* SPDX-License-Identifier: Apache-2.0
 *
 * What a distillation prints: what was gained on the windows held out, what it took. */
#include "tools/distill_show.h"

#include <stdio.h>

static void show_sentences(const pare_distill_report *r) {
    const char *const head[] = {"held out", "cosine to the teacher", "cosines of pairs off by"};
    pare_cli_table *t = pare_cli_table_new("lrr", head);
    const pare_distill_held *const rows[] = {&r->before, &r->after};
    for (int i = 0; i < 2; i++) {
        char cosine[32] = "-", off[32];
        if (rows[i]->cosine != 0) snprintf(cosine, sizeof cosine, "%.5f", rows[i]->cosine);
        snprintf(off, sizeof off, "%.5f", rows[i]->similarity);
        const char *const cells[] = {i ? "after" : "before", cosine, off};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
}

static void show_text(const pare_distill_report *r) {
    const char *const head[] = {"held out", "KL to the teacher", "same top token", "loss on the text"};
    pare_cli_table *t = pare_cli_table_new("lrrr", head);
    const pare_distill_held *const rows[] = {&r->before, &r->after};
    for (int i = 0; i < 2; i++) {
        char kl[32], top[32], loss[32];
        snprintf(kl, sizeof kl, "%.5f", rows[i]->kl);
        snprintf(top, sizeof top, "%.2f %%", 100 * rows[i]->top1);
        snprintf(loss, sizeof loss, "%.4f", rows[i]->loss);
        const char *const cells[] = {i ? "after" : "before", kl, top, loss};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
}

/* Layer by layer: how far what leaves each was from its target. */
static void show_blocks(const pare_distill_report *r) {
    const char *const head[] = {"layer", "towards the teacher's", "error before", "after"};
    pare_cli_table *t = pare_cli_table_new("rrrr", head);
    for (int64_t i = 0; i < r->n_blocks; i++) {
        char layer[16], target[16], before[32], after[32];
        snprintf(layer, sizeof layer, "%d", r->blocks[i].layer);
        snprintf(target, sizeof target, "%d", r->blocks[i].target);
        snprintf(before, sizeof before, "%.5f", r->blocks[i].before);
        snprintf(after, sizeof after, "%.5f", r->blocks[i].after);
        const char *const cells[] = {layer, target, before, after};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
    printf("\n");
}

void pare_show_distilled(const pare_distill_report *r, const char *out) {
    char memory[32];
    if (r->n_blocks) show_blocks(r);
    if (r->encoder) show_sentences(r);
    else show_text(r);
    printf("\n%s\n%lld steps of %lld tokens, %llu of %llu parameters trained", r->note, (long long)r->steps,
           (long long)r->tokens_per_step, (unsigned long long)r->trained, (unsigned long long)r->parameters);
    if (r->resumed_from) printf(", %lld steps by earlier runs", (long long)r->resumed_from);
    if (r->teacher_windows) printf(", the teacher asked for %lld windows", (long long)r->teacher_windows);
    printf("\n%.1f s, %.0f tokens/s, %s for a pass forward and back", r->seconds, r->tokens_per_second,
           pare_cli_bytes(memory, r->memory_bytes));
    if (r->device_bytes)
        printf(", %s on the device, the optimizer %s", pare_cli_bytes(memory, r->device_bytes),
               r->resident ? "with it" : "in the host's memory");
    if (r->n_blocks) printf(", %s of activations kept", pare_cli_bytes(memory, r->kept_bytes));
    printf("\n");
    printf("wrote %s (%s)\n", out, r->ran);
}
