/* Descriptors that are closed while tasks wait for them, begin to, or wait for the next file
 * of that number; all of it with both pollers. */

#include "fd_test.h"

#include <sys/syscall.h>

static void
nothing(struct work *w)
{
    (void)w;
}

static void
test_close(void)
{
    enum { N = 10 };
    struct work *w[N];
    start(2);
    int strange[] = {-1, INT32_MAX, 12345};     /* never waited for                    */
    for (int i = 0; i < 3; i++) {
        cpool_fd_close_begin(strange[i]);
        cpool_fd_close_end(strange[i]);
    }
    for (int round = 0; round < 20; round++) {
        open_pipe();
        for (int i = 0; i < N; i++) {
            w[i] = go(waits_in, (void *)(intptr_t)p[0]);
        }
        until_parked(w, N);
        close_pipe();
        wait_finished((uint32_t)(N * (round + 1)));
        for (int i = 0; i < N; i++) {
            CHECK_EQ(w[i]->n, -ECANCELED);
            free(w[i]);
        }
        nothing_left();
    }
    stop();
}

/* --- A wait that begins while the descriptor is being closed ---------------------------- */

/* As a blocking read(2) would be made of tries. */
static void
reads(struct work *w)
{
    int fd = (int)(intptr_t)w->arg;
    char c;
    for (;;) {
        ssize_t n = read(fd, &c, 1);
        if (n >= 0 || errno != EAGAIN) {
            w->n = n >= 0 ? n : -errno;
            return;
        }
        int r = cpool_wait_fd(fd, POLLIN, CPOOL_FOREVER, "read");
        if (r < 0) {
            w->n = r == -ECANCELED ? -EBADF : r;
            return;
        }
        w->task.host_data = (char *)w->task.host_data + 1;      /* hints                */
    }
}

/* The same without a stack. */
static void
reads_at_return(struct work *w)
{
    int fd = (int)(intptr_t)w->arg;
    int r = w->waits ? cpool_waited_fd() : 0;
    w->waits = false;
    while (r >= 0) {
        char c;
        ssize_t n = read(fd, &c, 1);
        if (n >= 0 || errno != EAGAIN) {
            w->n = n >= 0 ? n : -errno;
            return;
        }
        r = cpool_wait_fd_at_return(fd, POLLIN, CPOOL_FOREVER, "read");
        if (r == 0) {
            w->waits = true;
            return;
        }
    }
    w->n = r == -ECANCELED ? -EBADF : r;
}

static void
polls(struct work *w)
{
    struct pollfd fd = {.fd = (int)(intptr_t)w->arg, .events = POLLIN};
    CHECK_EQ(cpool_wait_fds(&fd, 1, CPOOL_FOREVER, "poll"), 1);
    w->n = fd.revents;
}

/* `kept`: the open file lives on elsewhere, so that the kernel keeps a registration. */
static void
test_begun_between(void (*body)(struct work *), bool kept)
{
    start(2);
    for (uint32_t i = 0; i < 20; i += 2) {
        open_pipe();
        int other = kept ? dup(p[0]) : -1;
        struct work *before = go(body, (void *)(intptr_t)p[0]);
        await_state(before, CPOOL_PARKED);
        cpool_fd_close_begin(p[0]);
        wait_finished(i + 1);           /* told before the file is gone                */
        struct work *w = go(body, (void *)(intptr_t)p[0]);
        await_state(w, CPOOL_PARKED);
        CHECK_EQ(close(p[0]), 0);
        cpool_fd_close_end(p[0]);
        wait_finished(i + 2);
        CHECK_EQ(before->n, body == polls ? POLLNVAL : -EBADF);
        CHECK_EQ(w->n, body == polls ? POLLNVAL : -EBADF);
        nothing_left();
        free(before);
        free(w);
        close_fd(p[1]);
        if (kept) {
            close(other);
        }
    }
    stop();
}

/* The number is in use again before close(2) has returned, as with SO_LINGER. */
static void
test_next_file(void (*body)(struct work *), bool kept)
{
    start(2);
    for (uint32_t i = 0; i < 40; i += 2) {
        int old[2];
        open_pipe();
        old[0] = p[0];
        old[1] = p[1];
        int other = kept ? dup(old[0]) : -1;
        bool late = i % 4 != 0;         /* one that means the old file                 */
        cpool_fd_close_begin(old[0]);
        struct work *w = NULL;
        if (late) {
            w = go(body, (void *)(intptr_t)old[0]);
            await_state(w, CPOOL_PARKED);
        }
        open_pipe();
        CHECK_EQ(dup3(p[0], old[0], O_CLOEXEC), old[0]);
        close(p[0]);
        p[0] = old[0];
        struct work *v = go(body, (void *)(intptr_t)p[0]);
        await_state(v, CPOOL_PARKED);
        if (i % 8 < 4) {
            /* Served before the old close is over. */
            put(p[1]);
            put(p[1]);
            wait_finished(i + 1 + late);
            cpool_fd_close_end(old[0]);
        }
        else {
            cpool_fd_close_end(old[0]);
            struct pollfd none;
            poll(&none, 0, 2);
            CHECK(cpool_task_state(&v->task) != CPOOL_DONE);
            put(p[1]);
            put(p[1]);
            wait_finished(i + 1 + late);
        }
        CHECK_EQ(v->n, body == polls ? POLLIN : 1);
        if (late) {
            CHECK_EQ(w->n, body == polls ? POLLIN : 1);
            free(w);
        }
        else {
            go_and_forget(nothing, NULL);
            wait_finished(i + 2);
        }
        free(v);
        nothing_left();
        close_pipe();
        close(old[1]);
        if (kept) {
            close(other);
        }
    }
    stop();
}

/* A close that takes long, as with SO_LINGER, makes nobody spin. */
static void
test_long_close(void)
{
    start(1);
    open_pipe();
    int other = dup(p[0]);
    cpool_fd_close_begin(p[0]);
    struct work *w = go(reads, (void *)(intptr_t)p[0]);
    await_state(w, CPOOL_PARKED);
    struct cpool_stats before, after;
    cpool_get_stats(&before);
    struct pollfd none;
    poll(&none, 0, 50);
    cpool_get_stats(&after);
    CHECK_EQ(after.parks, before.parks);
    close(p[0]);
    cpool_fd_close_end(p[0]);
    wait_finished(1);
    CHECK_EQ(w->n, -EBADF);
    CHECK(w->task.host_data == (void *)1);
    free(w);
    close(other);
    close_fd(p[1]);
    stop();
}

/* Both at any time: whatever the order, all readers come to an end. */
static void
reads_after_a_while(struct work *w)
{
    int yields = w->waits ? 0 : (int)(w->n % 50);
    for (int i = 0; i < yields; i++) {
        cpool_yield();
    }
    switch (w->waits ? 0 : w->n % 3) {
    case 0:
        reads_at_return(w);
        CHECK(w->waits || w->n == -EBADF);
        break;
    case 1:
        reads(w);
        CHECK_EQ(w->n, -EBADF);
        break;
    case 2:
        polls(w);
        CHECK_EQ(w->n, POLLNVAL);
        break;
    }
}

static void
spin(uint64_t *rng)
{
    for (uint64_t i = check_random(rng) % 1000; i > 0; i--) {
        cpool__pause();
    }
}

/* A close that others' calls meet at any time is what is tested; the thread sanitizer's
 * close() reports it as a mistake. */
static int
close_beside_users(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static void
test_race(void)
{
    enum { N = 8 };
    uint64_t rng = 12345;
    start(2);
    uint32_t all = 0;
    for (long round = check_scale(500); round > 0; round--) {
        open_pipe();
        int other = round % 2 ? dup(p[0]) : -1;
        for (int i = 0; i < N; i++) {
            struct work *w = work_new(reads_after_a_while, (void *)(intptr_t)p[0]);
            w->autofree = true;
            w->n = (long)(check_random(&rng) % 1000);
            CHECK_EQ(cpool_spawn(&w->task), 0);
        }
        spin(&rng);
        cpool_fd_close_begin(p[0]);
        spin(&rng);
        CHECK_EQ(close_beside_users(p[0]), 0);
        spin(&rng);
        cpool_fd_close_end(p[0]);
        wait_finished(all += N);
        nothing_left();
        close_fd(p[1]);
        if (other >= 0) {
            close(other);
        }
    }
    stop();
}

static void
all(void)
{
    test_close();
    void (*bodies[])(struct work *) = {reads, polls, reads_at_return};
    for (int i = 0; i < 6; i++) {
        test_begun_between(bodies[i / 2], i % 2);
        test_next_file(bodies[i / 2], i % 2);
    }
    test_long_close();
    test_race();
}

int
main(void)
{
    return with_both_pollers(all);
}
