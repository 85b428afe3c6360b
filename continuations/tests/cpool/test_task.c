/* Task: states, tokens, park and unpark, sleep, yield, from inside and outside. */

#include "pool_test.h"

static void
nothing(struct work *w)
{
    w->n++;
}

static void
test_spawn(int parallelism, uint32_t n)
{
    start(parallelism);
    struct work **w = malloc(n * sizeof(*w));
    for (uint32_t i = 0; i < n; i++) {
        w[i] = work_new(nothing, NULL);
        CHECK_EQ(cpool_task_state(&w[i]->task), CPOOL_NEW);
    }
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(cpool_spawn(&w[i]->task), 0);
    }
    wait_finished(n);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(w[i]->n, 1);
        free(w[i]);
    }
    free(w);
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK_EQ(stats.spawned, n);
    stop();
    cpool_get_stats(&stats);
    CHECK_EQ(stats.finished, n);
    CHECK_EQ(stats.carriers, 0);
}

static void
token_before_park(struct work *w)
{
    CHECK_EQ(cpool_park(0, "poll"), -ETIMEDOUT);
    cpool_unpark(&w->task);
    cpool_unpark(&w->task);             /* one token, however many unparks             */
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "token"), 0);
    CHECK_EQ(cpool_park(0, "poll"), -ETIMEDOUT);
    CHECK_EQ(cpool_park(cpool_now() + 1000000, "timeout"), -ETIMEDOUT);
    cpool_unpark(&w->task);
    int64_t before = cpool_now();
    cpool_sleep(before + 2000000, "sleep");     /* neither woken by the token ...      */
    CHECK(cpool_now() >= before + 2000000);
    CHECK_EQ(cpool_park(0, "token"), 0);        /* ... nor taking it                   */
    cpool_sleep(before, "past");
    cpool_yield();
    w->n = 1;
}

static void
parks(struct work *w)
{
    for (long i = 0; i < w->n; i++) {
        CHECK_EQ(cpool_park(CPOOL_FOREVER, "test"), 0);
        atomic_fetch_add((_Atomic uint32_t *)w->arg, 1);
        cpool__futex_wake(w->arg, 1);
    }
}

static void
test_unpark_from_outside(int parallelism, long n)
{
    start(parallelism);
    _Atomic uint32_t seen = 0;
    struct work *w = work_new(parks, &seen);
    w->n = n;
    CHECK_EQ(cpool_spawn(&w->task), 0);
    for (uint32_t i = 0; i < (uint32_t)n; i++) {
        cpool_unpark(&w->task);
        while (atomic_load(&seen) == i) {
            cpool__futex_wait(&seen, i, CPOOL_FOREVER);
        }
        CHECK_EQ(seen, i + 1);
    }
    wait_finished(1);
    free(w);
    stop();
}

static void
sleeps_with_tokens(struct work *w)
{
    for (int i = 0; i < 20; i++) {
        int64_t until = cpool_now() + 200000;
        cpool_sleep(until, "sleep");
        CHECK(cpool_now() >= until);
    }
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "the token"), 0);
    w->n = 1;
}

static void
test_sleep_is_deaf(void)
{
    start(2);
    struct work *w = go(sleeps_with_tokens, NULL);
    while (atomic_load(&test_finished) == 0) {
        cpool_unpark(&w->task);
        sched_yield();
    }
    CHECK_EQ(w->n, 1);
    stop();
    free(w);
}

static void
interrupt_before_wait(struct work *w)
{
    cpool_interrupt(&w->task);
    cpool_interrupt(&w->task);          /* one, however many                           */
    CHECK_EQ(cpool_park(0, "poll"), -ETIMEDOUT);        /* no wait, takes none         */
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "park"), -EINTR);
    CHECK_EQ(cpool_park(cpool_now() + 1000000, "timeout"), -ETIMEDOUT);
    cpool_interrupt(&w->task);
    CHECK_EQ(cpool_sleep(CPOOL_FOREVER, "sleep"), -EINTR);
    CHECK_EQ(cpool_sleep(cpool_now() + 1000000, "sleep"), 0);
    cpool_unpark(&w->task);
    cpool_interrupt(&w->task);
    CHECK_EQ(cpool_sleep(CPOOL_FOREVER, "the interrupt"), -EINTR);
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "the token"), 0);
    w->n = 1;
}

static void
waits_in_turns(struct work *w)
{
    for (long i = 0; i < w->n; i++) {
        CHECK_EQ(i % 2 ? cpool_park(CPOOL_FOREVER, "park")
                       : cpool_sleep(CPOOL_FOREVER, "sleep"), -EINTR);
        atomic_fetch_add((_Atomic uint32_t *)w->arg, 1);
        cpool__futex_wake(w->arg, 1);
    }
}

static void
test_interrupt_from_outside(int parallelism, long n)
{
    start(parallelism);
    _Atomic uint32_t seen = 0;
    struct work *w = work_new(waits_in_turns, &seen);
    w->n = n;
    CHECK_EQ(cpool_spawn(&w->task), 0);
    for (uint32_t i = 0; i < (uint32_t)n; i++) {
        cpool_interrupt(&w->task);
        while (atomic_load(&seen) == i) {
            cpool__futex_wait(&seen, i, CPOOL_FOREVER);
        }
        CHECK_EQ(seen, i + 1);
    }
    wait_finished(1);
    free(w);
    stop();
}

static void
yields(struct work *w)
{
    for (int i = 0; i < 1000; i++) {
        w->n++;
        cpool_yield();
    }
}

/* On one carrier, two that yield take turns. */
static struct work *pair[2];

static void
takes_turns(struct work *w)
{
    struct work *other = w == pair[0] ? pair[1] : pair[0];
    for (int i = 0; i < 1000; i++) {
        w->n++;
        cpool_yield();
        long d = w->n - other->n;
        if (cpool__pool.chaos == 0 && other->n != 0) {
            CHECK(d >= -4 && d <= 4);   /* the first may begin some turns earlier      */
        }
    }
}

static void
spawns_pair(struct work *w)
{
    (void)w;
    pair[0] = work_new(takes_turns, NULL);
    pair[1] = work_new(takes_turns, NULL);
    CHECK_EQ(cpool_spawn(&pair[0]->task), 0);
    CHECK_EQ(cpool_spawn(&pair[1]->task), 0);
}

static void
test_yield(void)
{
    start(1);
    struct work *alone = go(yields, NULL);
    wait_finished(1);
    CHECK_EQ(alone->n, 1000);
    struct work *parent = go(spawns_pair, NULL);
    wait_finished(4);
    CHECK_EQ(pair[0]->n, 1000);
    stop();
    free(alone);
    free(parent);
    free(pair[0]);
    free(pair[1]);
}

static void
test_arguments(void)
{
    struct cpool_config good = test_config(1), bad;
    struct cpool_host half = test_host;
    CHECK_EQ(cpool_start(NULL, &good), -EINVAL);
    CHECK_EQ(cpool_start(&test_host, NULL), -EINVAL);
    half.run = NULL;
    CHECK_EQ(cpool_start(&half, &good), -EINVAL);
    bad = good, bad.parallelism = 0;
    CHECK_EQ(cpool_start(&test_host, &bad), -EINVAL);
    bad = good, bad.parallelism = CPOOL_MAX_SLOTS + 1;
    CHECK_EQ(cpool_start(&test_host, &bad), -EINVAL);
    bad = good, bad.max_carriers = 0;
    CHECK_EQ(cpool_start(&test_host, &bad), -EINVAL);
    bad = good, bad.time_slice_ns = -1;
    CHECK_EQ(cpool_start(&test_host, &bad), -EINVAL);
    CHECK_EQ(cpool_stop(0), 0);
    start(1);
    CHECK_EQ(cpool_start(&test_host, &good), -EBUSY);
    stop();
    CHECK(cpool_current() == NULL);
    CHECK(cpool_current_carrier() == NULL);
    cpool_block_begin();
    cpool_block_end();
    cpool_pinned_begin("outside");
    cpool_pinned_end();
}

int
main(void)
{
    test_arguments();
    for (int parallelism = 1; parallelism <= 4; parallelism++) {
        test_spawn(parallelism, (uint32_t)check_scale(CHECK_SANITIZED ? 4000 : 20000));
        test_unpark_from_outside(parallelism, (long)check_scale(5000));
        test_interrupt_from_outside(parallelism, (long)check_scale(5000));
    }
    start(2);
    struct work *w = go(token_before_park, NULL);
    wait_finished(1);
    CHECK_EQ(w->n, 1);
    free(w);
    stop();
    start(2);
    w = go(interrupt_before_wait, NULL);
    wait_finished(1);
    CHECK_EQ(w->n, 1);
    free(w);
    stop();
    test_sleep_is_deaf();
    test_yield();
    return 0;
}
