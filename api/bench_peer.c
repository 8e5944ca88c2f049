/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs another program beside ours, for figures taken in the same minutes on the same files. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/bench.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"

extern char **environ;

static char *read_all(int fd) {
    char *text = NULL;
    size_t n = 0, cap = 0;
    for (;;) {
        if (pare_grow((void **)&text, &cap, n + 4096, 1) != PARE_OK) break;
        ssize_t got = read(fd, text + n, cap - n - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        n += (size_t)got;
    }
    if (text) text[n] = 0;
    return text;
}

static pare_status start(const char *path, char *const *argv, int to, pid_t *pid, pare_diag *d) {
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, to, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int e = posix_spawn(pid, path, &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    if (!e) return PARE_OK;
    errno = e;
    return pare_fail_errno(d, path, "the peer's program cannot be started; see --peer-bin");
}

pare_status pare_bench_peer(const char *bin, const char *const *argv, pare_peer_run *out, pare_diag *d) {
    *out = (pare_peer_run){0};
    int fd[2];
    char *path = pare_sprintf("%s/%s", bin, argv[0]);
    if (!path || pipe(fd) != 0) {
        pare_free(path);
        return pare_fail_errno(d, bin, "no pipe to the peer's program");
    }
    fcntl(fd[0], F_SETFD, FD_CLOEXEC);
    fcntl(fd[1], F_SETFD, FD_CLOEXEC);
    pid_t pid;
    double t = pare_now_s();
    pare_status s = start(path, (char *const *)argv, fd[1], &pid, d);
    close(fd[1]);
    if (s == PARE_OK) {
        struct rusage use = {0};
        int status = 0;
        out->output = read_all(fd[0]);
        while (wait4(pid, &status, 0, &use) < 0 && errno == EINTR) {}
        out->seconds = pare_now_s() - t;
        out->peak_bytes = (uint64_t)use.ru_maxrss * 1024;
        out->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    close(fd[0]);
    pare_free(path);
    return s;
}

double pare_bench_json_number(const char *text, const char *key) {
    const char *at = text ? strstr(text, key) : NULL;
    if (!at || !(at = strchr(at, ':'))) return 0;
    return strtod(at + 1, NULL);
}
