/* SPDX-License-Identifier: Apache-2.0
 *
 * What a person looks at: the progress bar with ETA, log lines, aligned tables. */
#include "tools/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool terminal, bar_shown;
static char last_item[128];

static void clear_bar(void) {
    if (bar_shown) fputs("\r\033[K", stderr);
    bar_shown = false;
}

static void on_log(void *user, pare_log_level level, const char *line) {
    if (level == PARE_LOG_DEBUG || (level == PARE_LOG_INFO && pare_cli_quiet())) return;
    clear_bar();
    fprintf(stderr, "%s%s\n",
            level == PARE_LOG_WARN    ? "pare: warning: "
            : level == PARE_LOG_ERROR ? "pare: "
                                      : "",
            line);
}

static void on_progress(void *user, const pare_progress *p) {
    if (pare_cli_quiet()) return;
    double frac = p->total ? (double)p->done / (double)p->total : 1;
    if (!terminal) { /* one line per tenth */
        static int last_tenth = -1;
        static char last_what[32];
        int tenth = (int)(frac * 10);
        if (strncmp(last_what, p->what, sizeof last_what - 1) != 0) last_tenth = -1;
        if (tenth == last_tenth) return;
        last_tenth = tenth;
        snprintf(last_what, sizeof last_what, "%s", p->what);
        fprintf(stderr, "%s: %3.0f %%, %.1f s\n", p->what, frac * 100, p->elapsed_s);
        return;
    }
    char bar[31];
    int full = (int)(frac * 30);
    for (int i = 0; i < 30; i++) bar[i] = i < full ? '#' : '.';
    bar[30] = 0;
    if (p->item) snprintf(last_item, sizeof last_item, "%s", p->item);
    fprintf(stderr, "\r\033[K%s [%s] %3.0f %%", p->what, bar, frac * 100);
    if (p->eta_s >= 0) fprintf(stderr, "  %d:%02d left", (int)p->eta_s / 60, (int)p->eta_s % 60);
    if (p->item) fprintf(stderr, "  %.40s", last_item);
    bar_shown = true;
    if (p->done >= p->total) clear_bar();
    fflush(stderr);
}

void pare_cli_hooks(void) {
    terminal = isatty(2);
    pare_hooks h = {on_log, on_progress, NULL};
    pare_set_hooks(&h);
}

#define MAX_COLS 16
struct pare_cli_table {
    size_t cols, rows, cap;
    char align[MAX_COLS + 1];
    char **cells;
};

pare_cli_table *pare_cli_table_new(const char *align, const char *const *head) {
    pare_cli_table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->cols = strlen(align) < MAX_COLS ? strlen(align) : MAX_COLS;
    memcpy(t->align, align, t->cols);
    pare_cli_table_row(t, head);
    return t;
}

void pare_cli_table_row(pare_cli_table *t, const char *const *cells) {
    if (!t) return;
    if (t->rows == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        char **p = realloc(t->cells, cap * t->cols * sizeof *p);
        if (!p) return;
        t->cells = p, t->cap = cap;
    }
    for (size_t c = 0; c < t->cols; c++) t->cells[t->rows * t->cols + c] = strdup(cells[c] ? cells[c] : "");
    t->rows++;
}

static size_t width_of(const char *s) { /* code points: good enough for the names and units printed here */
    size_t n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

void pare_cli_table_print(pare_cli_table **tp) {
    pare_cli_table *t = tp ? *tp : NULL;
    if (!t) return;
    for (size_t r = 0; r < t->rows; r++) {
        for (size_t c = 0; c < t->cols; c++) {
            size_t widest = 0;
            for (size_t k = 0; k < t->rows; k++) {
                const char *s = t->cells[k * t->cols + c];
                if (s && width_of(s) > widest) widest = width_of(s);
            }
            const char *s = t->cells[r * t->cols + c] ? t->cells[r * t->cols + c] : "";
            int pad = (int)(widest - width_of(s));
            bool last = c + 1 == t->cols;
            if (t->align[c] == 'r') printf("%*s%s", pad, "", s);
            else printf("%s%*s", s, last ? 0 : pad, "");
            if (!last) printf("  ");
        }
        printf("\n");
    }
    for (size_t i = 0; i < t->rows * t->cols; i++) free(t->cells[i]);
    free(t->cells);
    free(t);
    *tp = NULL;
}

const char *pare_cli_bytes(char buf[32], uint64_t bytes) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 999.95 && u < 4) v /= 1000, u++;
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return buf;
}
