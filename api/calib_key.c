/* SPDX-License-Identifier: Apache-2.0
 *
 * What must be the same for rows of an interrupted run to be used again: sums over the model's identity, the plan and
 * the calibration data. The number of threads is not among it: the bytes are the same. */
#include "api/calibrate.h"

#include "core/status.h"
#include "formats/checksum.h"

#include <string.h>
#include <sys/stat.h>

static uint64_t text(uint64_t sum, const char *s) { return pare_checksum(sum, s ? s : "", s ? strlen(s) + 1 : 1); }

/* Size and time of every file, name, format, shape and place of every tensor: weights of gigabytes are not read again.
 */
pare_status pare_source_sum(const pare_source *src, uint64_t *sum, pare_diag *d) {
    for (size_t i = 0; i < src->n_shards; i++) {
        struct stat st;
        if (stat(src->shards[i], &st) != 0) return pare_fail_errno(d, src->shards[i], "cannot stat");
        int64_t v[3] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
        *sum = pare_checksum(*sum, v, sizeof v);
    }
    for (size_t i = 0; i < src->n_tensors; i++) {
        const pare_stored *t = &src->tensors[i];
        *sum = text(text(*sum, t->name), t->type->name);
        *sum = pare_checksum(*sum, t->shape, sizeof t->shape);
        uint64_t at[2] = {(uint64_t)t->shard, t->file_offset};
        *sum = pare_checksum(*sum, at, sizeof at);
    }
    return PARE_OK;
}

pare_status pare_calib_key(const pare_job *job, const pare_calib_data *data, pare_journal_key *key, pare_diag *d) {
    *key = (pare_journal_key){0};
    PARE_TRY(pare_source_sum(job->src, &key->model, d));
    const pare_job_prune *p = job->prune;
    key->options = text(text(0, PARE_VERSION), job->method ? job->method->name : "");
    key->options = pare_checksum(key->options, &job->no_refine, sizeof job->no_refine);
    if (p) {
        key->options = text(text(key->options, p->criterion->name), p->spec.text);
        key->options = pare_checksum(key->options, &p->scope, sizeof p->scope);
    }
    if (job->keep_zeros) key->options = text(key->options, "keep zeros");
    for (size_t i = 0; i < job->n; i++) {
        const pare_job_tensor *t = &job->t[i];
        double share = t->pruned ? t->sparsity : -1;
        key->options = text(text(text(key->options, t->map->name), t->from->name), t->to->name);
        key->options = pare_checksum(key->options, &share, sizeof share);
    }
    int64_t shape[3] = {data->ctx, data->batch, (int64_t)data->batches};
    key->data = pare_checksum(0, shape, sizeof shape);
    key->data = pare_checksum(key->data, data->ids, (size_t)(shape[0] * shape[1] * shape[2]) * sizeof *data->ids);
    return PARE_OK;
}
