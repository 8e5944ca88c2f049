/* SPDX-License-Identifier: Apache-2.0
 *
 * How wide an encoder's student is: --hidden and --heads say one number in two ways, since the configuration has no
 * head size of its own. */
#include "api/distill.h"

#include "core/log.h"
#include "core/status.h"
#include "core/team.h"

/* Channels that are no whole heads: the sizes around them. */
static pare_status uneven(const pare_distill_run *x, long long hidden, pare_diag *d) {
    long long size = x->teacher_arch.head_dim, heads = x->teacher_arch.heads, most = heads - 1, below = hidden / size;
    if (below < 1) below = 1;
    if (below > most) below = most;
    long long above = below < most ? below + 1 : most, channels = below * size;
    if (below == above)
        return pare_fail(d, PARE_ERR_USAGE, x->teacher_src->path, "--hidden",
                         "an encoder's channels are heads of %lld (hidden_size / num_attention_heads), and fewer than "
                         "%lld stay; nearest to %lld: --hidden %lld",
                         size, heads, hidden, channels);
    return pare_fail(d, PARE_ERR_USAGE, x->teacher_src->path, "--hidden",
                     "an encoder's channels are heads of %lld (hidden_size / num_attention_heads); nearest to %lld: "
                     "--hidden %lld (%lld heads), --hidden %lld (%lld)",
                     size, hidden, channels, below, channels + size, above);
}

pare_status pare_student_width(const pare_distill_run *x, int64_t *heads, pare_diag *d) {
    const pare_arch *t = &x->teacher_arch;
    const char *path = x->teacher_src->path;
    long long hidden = x->o.hidden, asked = x->o.heads, size = t->head_dim, all = t->heads, stay = hidden / size;
    *heads = 0;
    if (!hidden && !asked) return PARE_OK;
    if (all < 2)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, path, hidden ? "--hidden" : "--heads",
                         "an encoder loses channels head by head, and this one has a single head");
    if (asked && (asked < 1 || asked > all || (!hidden && asked == all)))
        return pare_fail(d, PARE_ERR_USAGE, path, "--heads", "from 1 to %lld heads can stay", all - 1);
    long long with = asked * size; /* channels */
    if (!hidden)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, path, "--heads",
                         "a bert configuration has no head size of its own (it is hidden_size / num_attention_heads, "
                         "%lld here), so it cannot say %lld heads beside %lld channels; --hidden %lld --heads %lld "
                         "takes both",
                         size, asked, size * all, with, asked);
    if (hidden % size || stay < 1 || stay >= all) return uneven(x, hidden, d);
    if (asked && asked != stay)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, path, "--heads",
                         "a bert configuration has no head size of its own (it is hidden_size / num_attention_heads, "
                         "%lld here), so %lld channels are %lld heads; --hidden %lld goes with --heads %lld",
                         size, hidden, stay, with, asked);
    *heads = stay;
    return PARE_OK;
}

void pare_student_width_tell(const pare_distill_run *x) {
    const pare_arch *t = &x->teacher_arch;
    if (t->family != PARE_FAMILY_BERT || !x->o.hidden || x->o.heads || pare_team_rank() > 0) return;
    pare_log(PARE_LOG_INFO,
             "--hidden %lld: %lld of %lld heads stay, as an encoder's head size is hidden_size / "
             "num_attention_heads",
             (long long)x->o.hidden, (long long)(x->o.hidden / t->head_dim), (long long)t->heads);
}
