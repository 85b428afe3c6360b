#ifndef CONT_TESTS_FD_TEST_H
#define CONT_TESTS_FD_TEST_H

/* What the tests of descriptors share: a pipe, tasks that wait for it, and both pollers. */

#include "pool_test.h"

#include <unistd.h>

static int p[2];

__attribute__((unused))
static void
open_pipe(void)
{
    CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
}

__attribute__((unused))
static void
close_fd(int fd)
{
    cpool_fd_close_begin(fd);
    errno = 1234;
    CHECK_EQ(close(fd), 0);
    cpool_fd_close_end(fd);
    CHECK_EQ(errno, 1234);
}

__attribute__((unused))
static void
close_pipe(void)
{
    close_fd(p[0]);
    close_fd(p[1]);
}

__attribute__((unused))
static void
put(int fd)
{
    CHECK_EQ(write(fd, "x", 1), 1);
}

__attribute__((unused))
static void
get(int fd)
{
    char c;
    CHECK_EQ(read(fd, &c, 1), 1);
}

__attribute__((unused))
static void
nothing_left(void)
{
    CHECK_EQ(cpool__pool.fd_waiters, 0);
    for (int i = 0; i < cpool__slot_count(); i++) {
        CHECK_EQ(cpool__slot(i)->timers.count, 0);
    }
}

/* Readiness is a hint: it can be that of a file which had this number before, and of which
 * the poller was just told.  So whoever waits looks, and waits again. */
__attribute__((unused))
static int
wait_until_ready(struct work *w, short events, int64_t deadline)
{
    struct pollfd look = {.fd = (int)(intptr_t)w->arg, .events = events};
    int r;
    do {
        r = cpool_wait_fd(look.fd, events, deadline, "crowd");
    } while (r > 0 && poll(&look, 1, 0) == 0);
    return r;
}

__attribute__((unused))
static void
waits_in(struct work *w)
{
    w->n = wait_until_ready(w, POLLIN, CPOOL_FOREVER);
}

__attribute__((unused))
static void
until_parked(struct work **w, int n)
{
    for (int i = 0; i < n; i++) {
        await_state(w[i], CPOOL_PARKED);
    }
}

/* Runs them with either poller. */
static int
with_both_pollers(void (*tests)(void))
{
    setenv("CPOOL_TEST_POLLER", "epoll", 1);
    tests();
    setenv("CPOOL_TEST_POLLER", "poll", 1);
    tests();
    return 0;
}

#endif
