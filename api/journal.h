/* SPDX-License-Identifier: Apache-2.0
 *
 * A file beside the output in which a long job keeps finished rows until the output is written: memory holds none of
 * them, and a run that was interrupted (also by kill -9) goes on from the last whole record. One record a tensor, in
 * the order of the work; each has a checksum, and the first one that is damaged ends the part that counts.
 *
 * layout: little endian, records at multiples of 4096 bytes
 *         head    "pare-journal 1\n" 0, three sums (model, options, data), sum of these 40 bytes
 *         record  "PARE-REC", bytes of name, note and rows, sum over name, note and rows, sum of these 40 bytes; name;
 *                 note; at the next multiple of 4096 the rows
 * owns:   every pointer given out stays valid until close */
#ifndef PARE_API_JOURNAL_H
#define PARE_API_JOURNAL_H

#include "pare/pare.h"

typedef struct pare_journal pare_journal;

/* Sums over all that the records depend on (formats/checksum.h). */
typedef struct pare_journal_key {
    uint64_t model, options, data;
} pare_journal_key;

/* OUT.pare-journal for the output at out_path, made or found again.
 * fails: PARE_ERR_EXISTS, saying what differs, when the one found belongs to another job (with force it is replaced),
 * or when another run holds it; PARE_ERR_IO, PARE_ERR_NOSPACE */
pare_status pare_journal_open(const char *out_path, const pare_journal_key *key, bool force, pare_journal **out,
                              pare_diag *d);
/* Collective (core/team.h): process 0's records are in the journals of all; those of the others, NULL before, are files
 * without a name in $TMPDIR. */
pare_status pare_journal_share(pare_journal **j, pare_diag *d);
/* Keeps the file when it holds records and was not removed; logs where it is. */
void pare_journal_close(pare_journal **j);
void pare_journal_remove(pare_journal *j); /* the output is in place: the file goes at close */

/* Records of an earlier run are taken in their order. True when the one `ahead` places after the next is of this name
 * and of these sizes. */
bool pare_journal_has(const pare_journal *j, size_t ahead, const char *name, size_t note_bytes, size_t rows_bytes);
void *pare_journal_take(pare_journal *j, void *note, size_t note_bytes); /* pre: pare_journal_has(j, 0, ...) */
/* A new record after the last one taken; those not taken are forgotten. The rows may be filled by any thread, then the
 * record is sealed: only then it counts. One record at a time. */
pare_status pare_journal_room(pare_journal *j, const char *name, size_t note_bytes, size_t rows_bytes, void **rows,
                              pare_diag *d);
void pare_journal_seal(pare_journal *j, const void *note);
/* These rows are not needed again soon: their pages leave the process (the file keeps them). */
void pare_journal_release(const pare_journal *j, const void *rows, size_t bytes);

size_t pare_journal_waiting(const pare_journal *j); /* records not taken yet */
const char *pare_journal_path(const pare_journal *j);

#endif
