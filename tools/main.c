/* SPDX-License-Identifier: Apache-2.0
 *
 * pare: the command line. One subcommand per file, listed in tools/commands.def. */
#include "tools/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *summary;
    int (*run)(int, char **);
} commands[] = {
#define PARE_COMMAND(name, summary) {#name, summary, pare_cmd_##name},
#include "tools/commands.def"
#undef PARE_COMMAND
    {NULL, NULL, NULL}};

static void usage(FILE *f) {
    fprintf(f, "pare %s: makes trained models smaller and proves that they still work\n\nusage: pare COMMAND ...\n\n",
            PARE_VERSION);
    for (int i = 0; commands[i].name; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(f, "\n`pare COMMAND --help` has options and examples.\n"
               "Exit status: 0 done, 1 a quality gate failed, 2 usage, 3 bad input, 4 the machine failed us, 130 "
               "interrupted.\n");
}

static void on_signal(int sig) { pare_interrupt(); }

/* GNU's OpenMP lets idle threads spin for milliseconds between parallel loops, unless told otherwise before the process
 * starts. On a busy machine the spinners take the cores that the work needs: verifying MiniLM took 42 s instead of 7 s
 * at load 8. So the program starts itself once more, with a spin of a few microseconds, when the user has not chosen.
 */
static void tame_spinning(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0) execv("/proc/self/exe", argv); /* on failure: run as we are */
}

/* Under mpirun: some commands share their work among the processes, from the start or when they know that they will
 * calibrate; any other is done by the first alone. */
static int run_command(int (*run)(int, char **), int argc, char **argv) {
    bool whole = strcmp(argv[0], "distill") == 0,
         later = strcmp(argv[0], "quantize") == 0 || strcmp(argv[0], "prune") == 0;
    pare_diag d = {0};
    if (pare_team_started() < 2) return run(argc, argv);
    if (!whole && !later) return pare_team_rank() == 0 ? run(argc, argv) : 0;
    pare_status s = whole ? pare_team_join(&d) : PARE_OK;
    if (s == PARE_OK && pare_team_rank() > 0 && !freopen("/dev/null", "w", stdout)) s = PARE_ERR_IO;
    int code = s == PARE_OK ? run(argc, argv) : pare_cli_fail(s, &d);
    pare_team_leave();
    return code;
}

int main(int argc, char **argv) {
    tame_spinning(argv);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) return usage(stderr), 2;
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
        return usage(stdout), 0;
    if (strcmp(argv[1], "--version") == 0) return printf("pare %s\n", PARE_VERSION), 0;
    for (int i = 0; commands[i].name; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return pare_cli_done(run_command(commands[i].run, argc - 1, argv + 1));
    fprintf(stderr, "pare: no command `%s`; `pare --help` lists them\n", argv[1]);
    return 2;
}
