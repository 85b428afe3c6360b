/* Knocks: a task that blocks in the kernel comes back with EINTR when its host says so, whether
 * it blocks already or will, and no other one does. */

#include "pool_test.h"

#include <unistd.h>

static int p[2];

/* The monitor may look at tasks that have ended, so they are freed after the pool has stopped.
 * A reader's n is 1 while it is overdue, and 0 when it is to read on. */
static int64_t
overdue(struct cpool_carrier *c, struct cpool_task *t)
{
    (void)c;
    struct work *w = (struct work *)t;
    return __atomic_load_n(&w->n, __ATOMIC_RELAXED) != 0 ? 0 : CPOOL_FOREVER;
}

static void
reads(struct work *w)
{
    char c;
    ssize_t n;
    do {
        cpool_block_begin();
        n = read(p[0], &c, 1);
        int err = errno;
        cpool_block_end();
        if (n < 0) {
            CHECK_EQ(err, EINTR);
            CHECK(cpool_take_knock());
            CHECK(!cpool_take_knock());
        }
    } while (n < 0 && __atomic_load_n(&w->n, __ATOMIC_RELAXED) == 0);
    w->arg = (void *)(intptr_t)n;
}

static void
start_knocking(int parallelism, int64_t (*when)(struct cpool_carrier *, struct cpool_task *))
{
    struct cpool_host host = test_host;
    struct cpool_config config = test_config(parallelism);
    host.overdue = when;
    start_host(&host, &config);
    CHECK(cpool_knock_signal() >= SIGRTMIN);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
}

static void
interrupt(struct work *w)
{
    __atomic_store_n(&w->n, 1, __ATOMIC_RELAXED);
    cpool_interrupt(&w->task);
}

static void
await_blocked(int n)
{
    struct cpool_stats stats;
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (stats.carriers_blocked != n);
}

static void
test_blocked(int parallelism)
{
    enum { N = 5 };
    struct work *w[N];
    start_knocking(parallelism, overdue);
    for (int i = 0; i < N; i++) {
        w[i] = go(reads, NULL);
    }
    await_blocked(N);
    interrupt(w[3]);
    wait_finished(1);
    CHECK_EQ((intptr_t)w[3]->arg, -1);
    interrupt(w[0]);
    interrupt(w[4]);
    wait_finished(3);
    await_blocked(N - 3);
    CHECK_EQ(write(p[1], "xy", 2), 2);
    wait_finished(N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ((intptr_t)w[i]->arg, i == 1 || i == 2 ? 1 : -1);
    }
    close(p[0]);
    close(p[1]);
    stop();
    for (int i = 0; i < N; i++) {
        free(w[i]);
    }
}

/* Before it blocks, or at the same time. */
static void
test_early(int parallelism, int rounds)
{
    struct work **all = malloc((size_t)rounds * sizeof(*all));
    start_knocking(parallelism, overdue);
    for (int i = 0; i < rounds; i++) {
        struct work *w = all[i] = go(reads, NULL);
        for (int k = 0; k < i % 50; k++) {
            sched_yield();
        }
        interrupt(w);
        wait_finished((uint32_t)i + 1);
        CHECK_EQ((intptr_t)w->arg, -1);
    }
    close(p[0]);
    close(p[1]);
    stop();
    for (int i = 0; i < rounds; i++) {
        free(all[i]);
    }
    free(all);
}

/* By the clock, with nobody to wake the monitor. */
static _Atomic int64_t at;

static int64_t
overdue_at(struct cpool_carrier *c, struct cpool_task *t)
{
    (void)c;
    (void)t;
    return atomic_load(&at);
}

static void
test_time(void)
{
    start_knocking(1, overdue_at);
    struct work *w = work_new(reads, NULL);
    w->n = 1;
    atomic_store(&at, cpool_now() + 50000000);
    CHECK_EQ(cpool_spawn(&w->task), 0);
    wait_finished(1);
    CHECK_EQ((intptr_t)w->arg, -1);
    CHECK(cpool_now() >= atomic_load(&at));
    close(p[0]);
    close(p[1]);
    stop();
    free(w);
}

int
main(void)
{
    test_blocked(1);
    test_blocked(4);
    test_early(1, check_scale(200));
    test_early(2, check_scale(200));
    test_time();
    return 0;
}
