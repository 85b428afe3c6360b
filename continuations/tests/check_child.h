#ifndef CONT_TESTS_CHECK_CHILD_H
#define CONT_TESTS_CHECK_CHILD_H

/* Forked children: runs something in one, for what ends a process. */

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

/* Returns the exit status, or minus the signal; stderr's beginning goes to `text`. */
__attribute__((unused))
static int
check_child(void (*run)(void), char *text, size_t size)
{
    int fd[2];
    CHECK_EQ(pipe(fd), 0);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        /* The sanitizers' own reaction is not what is tested. */
        signal(SIGABRT, SIG_DFL);
        dup2(fd[1], STDERR_FILENO);
        close(fd[0]);
        close(fd[1]);
        run();
        _exit(0);
    }
    close(fd[1]);
    size_t used = 0;
    char rest[256];
    for (;;) {
        const int full = used + 1 >= size;
        ssize_t n = read(fd[0], full ? rest : text + used,
                         full ? sizeof(rest) : size - 1 - used);
        if (n <= 0) {
            break;
        }
        used += full ? 0 : (size_t)n;
    }
    text[used] = '\0';
    close(fd[0]);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Where a program with threads can't be forked: the reason, or NULL.
 *
 * TSan's runtime switches itself off in such a child, so nothing is checked there, and it can
 * wait for one of its own locks for ever, which another thread held at the fork (seen: an atomic
 * load; github.com/llvm/llvm-project/pull/96600 says both).  qemu's own threads don't
 * survive the fork. */
__attribute__((unused))
static const char *
check_cannot_fork(void)
{
#ifdef __SANITIZE_THREAD__
    return "under TSan";
#else
    char name[32] = "";
    FILE *f = fopen("/proc/self/comm", "r");
    if (f != NULL) {
        if (fgets(name, sizeof(name), f) == NULL) {
            name[0] = '\0';
        }
        fclose(f);
    }
    return strncmp(name, "qemu-", 5) == 0 ? "under qemu-user" : NULL;
#endif
}

#endif
