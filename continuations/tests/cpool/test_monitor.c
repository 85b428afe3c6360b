/* The monitor: preemption, also for timers, fairness between slots, sleep of an idle pool,
 * descriptors while everybody is busy. */

#include "pool_test.h"

static atomic_bool enough;

/* Uses its carrier until told to end; yields only when asked.  With an argument it makes short
 * blocking calls all the time. */
static void
hogs(struct work *w)
{
    while (!atomic_load(&enough)) {
        w->n++;
        if (w->arg != NULL) {
            cpool_block_begin();
            cpool_block_end();
        }
        if (is_preempted(w)) {
            cpool_yield();
        }
        cpool__pause();
    }
}

static void
nothing(struct work *w)
{
    w->n++;
}

static void
finish_hogs(struct work **h, int n, uint32_t others)
{
    atomic_store(&enough, true);
    wait_finished((uint32_t)n + others);
    for (int i = 0; i < n; i++) {
        free(h[i]);
    }
    stop();
    atomic_store(&enough, false);
}

/* More hogs than slots, and others get their turn. */
static void
test_preemption(int parallelism, int hogs_n, bool block)
{
    struct work *h[16];
    struct cpool_config config = test_config(parallelism);
    if (block) {
        config.handoff_ns = INT64_C(3600000000000);     /* none of the calls is slow   */
    }
    start_with(&config);
    for (int i = 0; i < hogs_n; i++) {
        h[i] = go(hogs, block ? h : NULL);
    }
    for (uint32_t i = 1; i <= 5; i++) {
        go_and_forget(nothing, NULL);
        wait_finished(i);
    }
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK(stats.preemptions >= 1);
    finish_hogs(h, hogs_n, 5);
}

static void
sleeps(struct work *w)
{
    for (int i = 0; i < 5; i++) {
        cpool_sleep(cpool_now() + 1000000, "sleep");
        w->n++;
    }
}

static void
reads(struct work *w)
{
    char c;
    for (int i = 0; i < 3; i++) {
        while (read((int)(intptr_t)w->arg, &c, 1) != 1) {
            CHECK_EQ(cpool_wait_fd((int)(intptr_t)w->arg, POLLIN, CPOOL_FOREVER, "in"),
                     POLLIN);
        }
        w->n++;
    }
}

/* Beside a hog on every carrier, timers and descriptors are served. */
static void
test_timers_and_fds(int parallelism)
{
    struct work *h[16];
    int p[2];
    start(parallelism);
    CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
    struct work *r = go(reads, (void *)(intptr_t)p[0]);
    await_state(r, CPOOL_PARKED);
    for (int i = 0; i < parallelism; i++) {
        h[i] = go(hogs, NULL);
        await_state(h[i], CPOOL_RUNNING);
    }
    struct work *s = go(sleeps, NULL);
    wait_finished(1);
    CHECK_EQ(s->n, 5);
    free(s);
    CHECK_EQ(write(p[1], "xxx", 3), 3);
    wait_finished(2);
    CHECK_EQ(r->n, 3);
    free(r);
    finish_hogs(h, parallelism, 2);
    close(p[0]);
    close(p[1]);
}

/* Whom a timer wakes goes before those that were preempted, however many there are, but for
 * their turn now and then. */
#define STEPS 10

static atomic_long woken, owed, late;
static _Atomic int64_t deadline;

static void
sleeps_in_steps(struct work *w)
{
    for (int i = 0; i < STEPS; i++) {
        int64_t until = cpool_now() + 1000000;
        atomic_store(&deadline, until);
        cpool_sleep(until, "sleep");
        atomic_fetch_add(&woken, 1);
    }
    w->n = 1;
}

static void
hogs_politely(struct work *w)
{
    while (atomic_load(&woken) < STEPS) {
        if (is_preempted(w)) {
            if (atomic_load(&deadline) <= cpool_now()) {
                atomic_store(&owed, atomic_load(&woken) + 1);
            }
            cpool_yield();
            if (atomic_load(&woken) < atomic_load(&owed)) {
                atomic_fetch_add(&late, 1);
            }
        }
        cpool__pause();
    }
}

static void
test_timer_goes_first(uint32_t hogs_n)
{
    struct cpool_config config = test_config(1);
    config.chaos_seed = 0;
    start_with(&config);
    atomic_store(&woken, 0);
    atomic_store(&owed, 0);
    atomic_store(&late, 0);
    struct work *s = go(sleeps_in_steps, NULL);
    await_state(s, CPOOL_PARKED);
    for (uint32_t i = 0; i < hogs_n; i++) {
        go_and_forget(hogs_politely, NULL);
    }
    wait_finished(hogs_n + 1);
    CHECK_EQ(s->n, 1);
    CHECK(atomic_load(&late) <= 2);     /* of some STEPS * hogs_n, if they took turns  */
    free(s);
    stop();
}

/* They have their turn beside tasks that are never done. */
static void
yields_always(struct work *w)
{
    while (!atomic_load(&enough)) {
        w->n++;
        cpool_yield();
    }
}

static void
counts_turns(struct work *w)
{
    while (w->n < 3) {
        if (is_preempted(w)) {
            cpool_yield();
            w->n++;
        }
        cpool__pause();
    }
    atomic_store(&enough, true);
}

static void
test_preempted_go_on(void)
{
    start(1);
    go_and_forget(yields_always, NULL);
    go_and_forget(yields_always, NULL);
    go_and_forget(counts_turns, NULL);
    wait_finished(3);
    atomic_store(&enough, false);
    stop();
}

/* Started tasks that wait behind a hog move to a carrier that has nothing to do. */
static struct event hogging;

static void
hogs_alone(struct work *w)
{
    event_set(&hogging);
    while (!atomic_load(&enough)) {     /* deaf: is never preempted                    */
        w->n++;
        cpool__pause();
    }
}

static void
yields_twice(struct work *w)
{
    cpool_yield();
    w->n++;
    cpool_yield();
    w->n++;
}

static void
spawns_behind_itself(struct work *w)
{
    /* All of them have run at this slot before the hog comes. */
    struct work **others = w->arg;
    for (int i = 0; i < 10; i++) {
        others[i] = go(yields_twice, NULL);
    }
    for (int i = 0; i < 3; i++) {
        cpool_yield();
    }
    hogs_alone(w);
}

static void
test_rebalance(void)
{
    struct work *others[10];
    start(2);
    struct work *w = go(spawns_behind_itself, others);
    wait_finished(10);
    atomic_store(&enough, true);
    wait_finished(11);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(others[i]->n, 2);
        free(others[i]);
    }
    free(w);
    stop();
    atomic_store(&enough, false);
}

/* With nothing to do, the monitor sleeps without a deadline, and wakes for work. */
static void
test_deep_sleep(void)
{
    struct work *h[1];
    start(2);
    for (uint32_t i = 1; i <= 3; i++) {
        go_and_forget(nothing, NULL);
        wait_finished(i);
        while (atomic_load(&cpool__pool.nap) != CPOOL__NAP_DEEP) {
            sched_yield();
        }
    }
    /* A hog that comes now is preempted as ever. */
    h[0] = go(hogs, NULL);
    await_state(h[0], CPOOL_RUNNING);
    cpool_configure(1, 0);
    go_and_forget(nothing, NULL);
    wait_finished(4);
    finish_hogs(h, 1, 4);
}

int
main(void)
{
    test_preemption(1, 1, false);
    test_preemption(1, 3, false);
    test_preemption(2, 5, false);
    test_preemption(1, 1, true);
    test_preemption(2, 5, true);
    test_timers_and_fds(1);
    test_timers_and_fds(2);
    test_timer_goes_first(1);
    test_timer_goes_first(20);
    test_preempted_go_on();
    test_rebalance();
    test_deep_sleep();
    return 0;
}
