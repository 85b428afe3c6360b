/* Descriptors: readiness, deadlines, several waiters, reuse of a number that was closed
 * behind the pool's back, many at once; all of it with both pollers.  Announced closes:
 * test_fdclose.c. */

#include "fd_test.h"

#include <sys/socket.h>

static void
alone(struct work *w)
{
    (void)w;
    open_pipe();
    CHECK_EQ(cpool_wait_fd(p[1], POLLOUT, CPOOL_FOREVER, "out"), POLLOUT);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, cpool_now() + 1000000, "in"), -ETIMEDOUT);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, 1, "past"), -ETIMEDOUT);
    put(p[1]);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, CPOOL_FOREVER, "in"), POLLIN);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, CPOOL_FOREVER, "still in"), POLLIN);
    get(p[0]);
    CHECK_EQ(cpool_wait_fd(-1, POLLIN, CPOOL_FOREVER, "bad"), -EBADF);
    CHECK_EQ(cpool_wait_fd(999999, POLLIN, CPOOL_FOREVER, "bad"), -EBADF);
    CHECK_EQ(cpool_wait_fd(INT32_MAX, POLLIN, CPOOL_FOREVER, "beyond the table"), -ENOMEM);
    int file = open("/", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(cpool_wait_fd(file, POLLIN, CPOOL_FOREVER, "directory"), -EPERM);
    close(file);

    /* A token is neither taken by a wait nor ends it. */
    cpool_unpark(cpool_current());
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, cpool_now() + 1000000, "deaf"), -ETIMEDOUT);
    CHECK_EQ(cpool_park(0, "token"), 0);

    /* An interrupt does end one, and nothing stays armed. */
    cpool_interrupt(cpool_current());
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, CPOOL_FOREVER, "interrupted"), -EINTR);
    nothing_left();
    struct pollfd both[2] = {{.fd = p[0], .events = POLLIN}, {.fd = p[0], .events = POLLIN}};
    cpool_interrupt(cpool_current());
    CHECK_EQ(cpool_wait_fds(both, 2, CPOOL_FOREVER, "interrupted"), -EINTR);
    nothing_left();
    CHECK_EQ(cpool_wait_fds(both, 2, cpool_now() + 1000000, "timeout"), 0);

    /* The other end hangs up. */
    close_fd(p[1]);
    CHECK(cpool_wait_fd(p[0], POLLIN, CPOOL_FOREVER, "hang-up") & POLLHUP);
    close_fd(p[0]);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, CPOOL_FOREVER, "closed"), -EBADF);
}

static void
waits_for(struct work *w, int fd, int64_t deadline)
{
    CHECK_EQ(cpool_wait_fd_at_return(fd, POLLIN, deadline, "no stack"), 0);
    w->n++;
}

/* What `alone` does, without a stack. */
static void
alone_at_return(struct work *w)
{
    switch (w->n) {
    case 0:
        open_pipe();
        CHECK_EQ(cpool_wait_fd_at_return(-1, POLLIN, CPOOL_FOREVER, "bad"), -EBADF);
        CHECK_EQ(cpool_wait_fd_at_return(999999, POLLIN, CPOOL_FOREVER, "bad"), -EBADF);
        CHECK_EQ(cpool_wait_fd_at_return(INT32_MAX, POLLIN, CPOOL_FOREVER, "bad"), -ENOMEM);
        int file = open("/", O_RDONLY | O_CLOEXEC);
        CHECK_EQ(cpool_wait_fd_at_return(file, POLLIN, CPOOL_FOREVER, "directory"), -EPERM);
        close(file);
        nothing_left();
        waits_for(w, p[0], cpool_now() + 1000000);
        return;
    case 1:
        CHECK_EQ(cpool_waited_fd(), -ETIMEDOUT);
        waits_for(w, p[0], 1);
        return;
    case 2:
        CHECK_EQ(cpool_waited_fd(), -ETIMEDOUT);
        nothing_left();
        put(p[1]);
        waits_for(w, p[0], CPOOL_FOREVER);
        return;
    case 3:
        CHECK_EQ(cpool_waited_fd(), POLLIN);
        get(p[0]);
        cpool_unpark(cpool_current());
        waits_for(w, p[0], cpool_now() + 1000000);
        return;
    case 4:
        CHECK_EQ(cpool_waited_fd(), -ETIMEDOUT);
        CHECK_EQ(cpool_park(0, "token"), 0);
        cpool_interrupt(cpool_current());
        waits_for(w, p[0], CPOOL_FOREVER);
        return;
    case 5:
        CHECK_EQ(cpool_waited_fd(), -EINTR);
        nothing_left();
        close_fd(p[1]);
        waits_for(w, p[0], CPOOL_FOREVER);
        return;
    case 6:
        CHECK(cpool_waited_fd() & POLLHUP);
        close_fd(p[0]);
        CHECK_EQ(cpool_wait_fd_at_return(p[0], POLLIN, CPOOL_FOREVER, "closed"), -EBADF);
        w->n = 100;
        return;
    }
    CHECK(false);
}

/* The number comes back as another file, after a close that nobody announced. */
static void
reuse(struct work *w)
{
    (void)w;
    open_pipe();
    int kept = dup(p[0]);               /* the old open file lives on                  */
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(cpool_wait_fd(p[0], POLLIN, cpool_now() + 100000, "old"), -ETIMEDOUT);
        int old = p[0], s[2];
        CHECK_EQ(close(old), 0);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
        if (s[0] != old) {
            CHECK_EQ(dup3(s[0], old, O_CLOEXEC), old);
            close(s[0]);
            s[0] = old;
        }
        put(p[1]);                      /* ready in the old file only                  */
        CHECK_EQ(cpool_wait_fd(old, POLLIN, cpool_now() + 1000000, "new"), -ETIMEDOUT);
        put(s[1]);
        CHECK_EQ(cpool_wait_fd(old, POLLIN, CPOOL_FOREVER, "new"), POLLIN);
        close(s[0]);
        close(s[1]);
        p[0] = dup(kept);
        get(p[0]);
    }
    close(kept);
    close_pipe();
}

static void
waits_out(struct work *w)
{
    w->n = wait_until_ready(w, POLLOUT, CPOOL_FOREVER);
}

static void
waits_briefly(struct work *w)
{
    w->n = wait_until_ready(w, POLLIN, cpool_now() + 2000000);
}

/* Readers and writers of one socket; those of one direction don't see the other's event. */
static void
test_crowd(void)
{
    enum { N = 20 };
    struct work *w[N];
    int s[2];
    char block[65536] = {0};
    start(2);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
    while (write(s[0], block, sizeof(block)) > 0) {
    }
    for (int i = 0; i < N; i++) {
        w[i] = go(i % 2 ? waits_out : waits_in, (void *)(intptr_t)s[0]);
    }
    until_parked(w, N);
    struct work *brief = go(waits_briefly, (void *)(intptr_t)s[0]);
    wait_finished(1);
    CHECK_EQ(brief->n, -ETIMEDOUT);
    free(brief);
    put(s[1]);
    wait_finished(1 + N / 2);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(cpool_task_state(&w[i]->task), i % 2 ? CPOOL_PARKED : CPOOL_DONE);
    }
    while (read(s[1], block, sizeof(block)) > 0) {
    }
    wait_finished(1 + N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(w[i]->n, i % 2 ? POLLOUT : POLLIN);
        free(w[i]);
    }
    nothing_left();
    stop();
    close(s[0]);
    close(s[1]);
}

static void
many(struct work *w)
{
    enum { N = 50 };
    int pipes[N][2];
    struct pollfd fds[N];
    (void)w;
    for (int i = 0; i < N; i++) {
        CHECK_EQ(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
        fds[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
    }
    CHECK_EQ(cpool_wait_fds(fds, N, cpool_now() + 1000000, "many"), 0);
    CHECK_EQ(cpool_wait_fds(fds, 0, cpool_now() + 1000000, "none"), 0);
    CHECK_EQ(cpool_wait_fds(fds, N, 0, "look"), 0);
    put(pipes[7][1]);
    put(pipes[9][1]);
    CHECK_EQ(cpool_wait_fds(fds, N, CPOOL_FOREVER, "many"), 2);
    CHECK(fds[7].revents == POLLIN && fds[9].revents == POLLIN && fds[8].revents == 0);
    get(pipes[7][0]);
    get(pipes[9][0]);
    fds[3].fd = -1;
    fds[4].fd = pipes[5][0];            /* one descriptor twice                        */
    CHECK_EQ(cpool_wait_fds(fds, N, cpool_now() + 1000000, "many"), 0);
    put(pipes[5][1]);
    CHECK_EQ(cpool_wait_fds(fds, N, CPOOL_FOREVER, "many"), 2);
    get(pipes[5][0]);
    fds[3].fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_EQ(cpool_wait_fds(fds, N, CPOOL_FOREVER, "a file"), 1);
    CHECK_EQ(fds[3].revents, POLLIN);
    fds[3].events = 0;
    CHECK_EQ(cpool_wait_fds(fds, N, cpool_now() + 1000000, "a file, nothing asked"), 0);
    close(fds[3].fd);
    CHECK_EQ(cpool_wait_fds(fds, N, CPOOL_FOREVER, "closed"), 1);
    CHECK_EQ(fds[3].revents, POLLNVAL);
    for (int i = 0; i < N; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

static void
waits_many(struct work *w)
{
    struct pollfd fds[2] = {{.fd = p[0], .events = POLLIN},
                            {.fd = (int)(intptr_t)w->arg, .events = POLLIN}};
    w->n = cpool_wait_fds(fds, 2, CPOOL_FOREVER, "two");
    CHECK(fds[0].revents == 0 || w->n == 1);
    CHECK(fds[1].revents == 0 || w->n == 1);
}

static void
test_many_from_outside(void)
{
    int other[2];
    start(2);
    open_pipe();
    CHECK_EQ(pipe2(other, O_CLOEXEC), 0);
    for (uint32_t i = 1; i <= 20; i++) {
        struct work *w = go(waits_many, (void *)(intptr_t)other[0]);
        await_state(w, CPOOL_PARKED);
        if (i % 4 == 0) {
            cpool_fd_close_begin(other[0]);     /* announced: ends the wait            */
            cpool_fd_close_end(other[0]);
        }
        else {
            put(i % 2 ? p[1] : other[1]);
        }
        wait_finished(i);
        CHECK_EQ(w->n, 1);
        if (i % 4 != 0) {
            get(i % 2 ? p[0] : other[0]);
        }
        free(w);
        nothing_left();
    }
    close_pipe();
    close(other[0]);
    close(other[1]);
    stop();
}

/* Messages through chains of pipes. */
struct link {
    int in, out;
};

static void
forwards(struct work *w)
{
    struct link *l = w->arg;
    char c;
    for (;;) {
        ssize_t n = read(l->in, &c, 1);
        if (n == 0) {
            break;
        }
        if (n < 0) {
            CHECK(cpool_wait_fd(l->in, POLLIN, CPOOL_FOREVER, "chain") > 0);
            continue;
        }
        w->n++;
        while (write(l->out, &c, 1) < 0) {
            CHECK(cpool_wait_fd(l->out, POLLOUT, CPOOL_FOREVER, "chain") > 0);
        }
    }
    close_fd(l->out);
}

static void
forwards_at_return(struct work *w)
{
    struct link *l = w->arg;
    char c;
    if (w->waits) {
        w->waits = false;
        CHECK(cpool_waited_fd() > 0);
    }
    ssize_t n;
    while ((n = read(l->in, &c, 1)) != 0) {
        if (n < 0) {
            CHECK_EQ(cpool_wait_fd_at_return(l->in, POLLIN, CPOOL_FOREVER, "chain"), 0);
            w->waits = true;
            return;
        }
        w->n++;
        while (write(l->out, &c, 1) < 0) {
            CHECK(cpool_wait_fd(l->out, POLLOUT, CPOOL_FOREVER, "chain") > 0);
        }
    }
    close_fd(l->out);
}

static void
test_chain(int parallelism, int links, int messages, void (*body)(struct work *))
{
    start(parallelism);
    struct link *l = calloc((size_t)links, sizeof(*l));
    struct work **w = calloc((size_t)links, sizeof(*w));
    int first[2], next[2];
    CHECK_EQ(pipe2(first, O_CLOEXEC | O_NONBLOCK), 0);
    int in = first[0];
    for (int i = 0; i < links; i++) {
        CHECK_EQ(pipe2(next, O_CLOEXEC | O_NONBLOCK), 0);
        l[i] = (struct link){in, next[1]};
        in = next[0];
        w[i] = go(body, &l[i]);
    }
    fcntl(first[1], F_SETFL, 0);
    fcntl(in, F_SETFL, 0);
    for (int i = 0; i < messages; i++) {
        put(first[1]);
        if (i % 8 == 7) {
            for (int k = 0; k < 8; k++) {
                get(in);
            }
        }
    }
    close(first[1]);
    wait_finished((uint32_t)links);
    for (int i = 0; i < links; i++) {
        CHECK_EQ(w[i]->n, messages);
        close(l[i].in);
        free(w[i]);
    }
    close(in);
    free(l);
    free(w);
    nothing_left();
    stop();
}

static void
all(void)
{
    start(1);
    struct work *w = go(alone, NULL);
    wait_finished(1);
    struct work *v = go(reuse, NULL);
    wait_finished(2);
    struct work *u = go(many, NULL);
    wait_finished(3);
    struct work *x = go(alone_at_return, NULL);
    wait_finished(4);
    CHECK_EQ(x->n, 100);
    nothing_left();
    stop();
    free(x);
    free(u);
    free(v);
    free(w);
    test_crowd();
    test_many_from_outside();
    for (int parallelism = 1; parallelism <= 3; parallelism += 2) {
        test_chain(parallelism, 50, (int)check_scale(400) / 8 * 8, forwards);
        test_chain(parallelism, 50, (int)check_scale(400) / 8 * 8, forwards_at_return);
    }
}

int
main(void)
{
    return with_both_pollers(all);
}
