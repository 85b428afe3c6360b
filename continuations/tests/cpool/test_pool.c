/* Start, stop and configure; failing OS threads. */

#include "pool_test.h"

static void
nothing(struct work *w)
{
    w->n++;
}

static void
parks_for_ever(struct work *w)
{
    w->n = 1;
    cpool_park(CPOOL_FOREVER, "for ever");
    w->n = 2;
}

static void
sleeps_for_ever(struct work *w)
{
    w->n = 1;
    cpool_sleep(cpool_now() + INT64_C(3600000000000), "for ever");
    w->n = 2;
}

static void
waits_for_ever(struct work *w)
{
    w->n = 1;
    cpool_wait_fd((int)(intptr_t)w->arg, POLLIN, CPOOL_FOREVER, "for ever");
    w->n = 2;
}

/* Stays in its carrier's own queue. */
static void
yields_sticky_for_ever(struct work *w)
{
    w->task.flags |= CPOOL_TASK_STICKY;
    __atomic_store_n(&w->n, 1, __ATOMIC_RELAXED);
    for (;;) {
        cpool_yield();
    }
}

static void
await_started(struct work *w)
{
    while (__atomic_load_n(&w->n, __ATOMIC_RELAXED) == 0) {
        sched_yield();
    }
}

static void
abandon(struct work *w)
{
    CHECK_EQ(w->n, 1);
    cont_abandon(&w->task.cont);
    free(w);
}

/* What is parked at the stop never runs again; a second pool knows nothing of it. */
static void
test_stop(int parallelism)
{
    int p[2];
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    for (int round = 0; round < 10; round++) {
        start(parallelism);
        struct work *a = go(parks_for_ever, NULL);
        struct work *b = go(sleeps_for_ever, NULL);
        struct work *c = go(waits_for_ever, (void *)(intptr_t)p[0]);
        await_state(a, CPOOL_PARKED);
        await_state(b, CPOOL_PARKED);
        struct work *d = go(yields_sticky_for_ever, NULL);
        await_state(c, CPOOL_PARKED);
        await_started(d);
        stop();
        CHECK_EQ(cpool_stop(0), 0);
        struct work *late = work_new(nothing, NULL);
        CHECK_EQ(cpool_spawn(&late->task), -EAGAIN);
        CHECK_EQ(cpool_task_state(&late->task), CPOOL_NEW);
        free(late);
        cpool_unpark(&a->task);         /* allowed, without effect                     */
        start(parallelism);
        go_and_forget(nothing, NULL);
        wait_finished(1);
        stop();
        abandon(a);
        abandon(b);
        abandon(c);
        abandon(d);
    }
    close(p[0]);
    close(p[1]);
}

/* One that does not listen keeps the stop from ending; one that yields does not. */
static atomic_bool enough;

static void
is_deaf(struct work *w)
{
    w->n = 1;
    while (!atomic_load(&enough)) {
        sched_yield();
    }
}

static struct event yielding, hogging;

static void
yields_for_ever(struct work *w)
{
    w->n = 1;
    event_set(&yielding);
    for (;;) {
        cpool_yield();
    }
}

static void
yields_when_asked(struct work *w)
{
    w->n = 1;
    event_set(&hogging);
    for (;;) {
        if (is_preempted(w)) {
            cpool_yield();
        }
        cpool__pause();
    }
}

static void
test_stop_running(void)
{
    start(3);
    struct work *deaf = go(is_deaf, NULL);
    struct work *y = go(yields_for_ever, NULL);
    struct work *asked = go(yields_when_asked, NULL);
    await_state(deaf, CPOOL_RUNNING);
    event_wait(&yielding);
    event_wait(&hogging);
    CHECK_EQ(cpool_stop(cpool_now() + 20000000), -ETIMEDOUT);
    atomic_store(&enough, true);
    stop();
    free(deaf);
    abandon(y);
    abandon(asked);
}

/* A carrier that blocks in the kernel is waited for; when it comes back it sleeps for
 * ever, and the pool has stopped. */
static void
reads(struct work *w)
{
    char c;
    cpool_block_begin();
    CHECK_EQ(read((int)(intptr_t)w->arg, &c, 1), 1);
    cpool_block_end();
    w->n = 1;
}

static void
test_stop_blocked(void)
{
    int p[2];
    struct cpool_stats stats;
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    start(1);
    struct work *w = go(reads, (void *)(intptr_t)p[0]);
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (stats.carriers_blocked != 1);
    CHECK_EQ(cpool_stop(cpool_now() + 10000000), -ETIMEDOUT);
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(cpool_stop(CPOOL_FOREVER), 0);
    CHECK_EQ(w->n, 0);                  /* its task never went on                      */
    close(p[0]);
    close(p[1]);
    test_begun = test_ended = 0;        /* that carrier never ends                     */
    test_mounted = 0;
    /* w's stack is in use by that carrier for ever. */
    static struct work *kept;
    kept = w;
    CHECK(kept != NULL);
}

static void
yields(struct work *w)
{
    for (int i = 0; i < 200; i++) {
        cpool_yield();
        if (i % 50 == 0) {
            cpool_sleep(cpool_now() + 200000, "sleep");
        }
        w->n++;
    }
}

/* The last task that ends has all OS threads end, its carrier's included. */
static void
vacates_at_its_end(struct cpool_carrier *c, struct cpool_task *t)
{
    struct work *w = (struct work *)t;
    atomic_uint *left = w->arg;
    bool last = atomic_fetch_sub(left, 1) == 1;
    if (last) {
        cpool_vacate();
    }
    test_done(c, t);
}

static void
test_vacate(void)
{
    enum { N = 20 };
    struct cpool_host host = test_host;
    struct cpool_config config = test_config(3);
    host.finished = vacates_at_its_end;
    start_host(&host, &config);
    for (uint32_t round = 1; round <= 100; round++) {
        atomic_uint left = N;
        struct cpool_stats stats;
        for (int i = 0; i < N; i++) {
            go_and_forget(i % 4 == 0 ? yields : nothing, &left);
        }
        wait_finished(round * N);
        struct work *late = work_new(nothing, &left);
        CHECK_EQ(cpool_spawn(&late->task), -EAGAIN);
        free(late);
        if (round % 10 == 0) {          /* it need not be opened to be stopped         */
            stop();
            start_host(&host, &config);
            test_finished = round * N;
            continue;
        }
        cpool_reopen();
        CHECK_EQ(test_begun, test_ended);
        cpool_get_stats(&stats);
        CHECK_EQ(stats.carriers, 0);
        CHECK_EQ(atomic_load(&cpool__pool.spinning), 0);
        CHECK_EQ(cpool_configure(round % 3 + 1, 0), 0);
    }
    stop();
}

static void
test_configure(void)
{
    enum { N = 300 };
    static const int sizes[] = {4, 1, 3, 2, 8, 1, 5};
    struct work *w[N];
    CHECK_EQ(cpool_configure(2, 0), -EINVAL);
    start(2);
    CHECK_EQ(cpool_configure(-1, 0), -EINVAL);
    CHECK_EQ(cpool_configure(CPOOL_MAX_SLOTS + 1, 0), -EINVAL);
    CHECK_EQ(cpool_configure(4, 3), -EINVAL);
    for (int i = 0; i < N; i++) {
        w[i] = go(yields, NULL);
        if (i % 10 == 0) {
            CHECK_EQ(cpool_configure(sizes[i / 10 % 7], 0), 0);
        }
    }
    int k = 0;
    while (atomic_load(&test_finished) < N) {
        CHECK_EQ(cpool_configure(sizes[k++ % 7], 0), 0);
        sched_yield();
    }
    for (int i = 0; i < N; i++) {
        CHECK_EQ(w[i]->n, 200);
        free(w[i]);
    }
    struct cpool_stats stats;
    CHECK_EQ(cpool_configure(1, 100), 0);
    cpool_get_stats(&stats);
    CHECK_EQ(stats.parallelism, 1);
    CHECK_EQ(stats.max_carriers, 100);
    stop();
}

static void
test_failing_threads(void)
{
    start(4);
    struct work *w = work_new(nothing, NULL);
    cpool__fail_creates(1000);
    CHECK_EQ(cpool_spawn(&w->task), -EAGAIN);
    CHECK_EQ(cpool_task_state(&w->task), CPOOL_NEW);
    cpool__fail_creates(0);
    cpool__pool.no_create_until = 0;
    CHECK_EQ(cpool_spawn(&w->task), 0);
    cpool__fail_creates(1000);  /* from now on, that carrier has to do          */
    uint32_t n = (uint32_t)check_scale(1000);
    for (uint32_t i = 0; i < n; i++) {
        go_and_forget(nothing, NULL);
    }
    wait_finished(n + 1);
    cpool__fail_creates(0);
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK(stats.carriers >= 1);
    stop();
    free(w);

    /* The host refuses some carriers: perhaps the first ones, then spawn says so, or all
     * of them after it has queued some tasks, then the monitor tries again. */
    atomic_store(&test_begin_fails, 3);
    start(4);
    for (uint32_t i = 0; i < n; i++) {
        struct work *u = work_new(nothing, NULL);
        int r;
        u->autofree = true;
        while ((r = cpool_spawn(&u->task)) != 0) {
            CHECK_EQ(r, -EAGAIN);
            CHECK_EQ(cpool_task_state(&u->task), CPOOL_NEW);
            sched_yield();
        }
    }
    wait_finished(n);
    stop();
    atomic_store(&test_begin_fails, 0);
}

int
main(void)
{
    test_stop(1);
    test_stop(3);
    test_stop_running();
    test_vacate();
    test_configure();
    test_failing_threads();
    test_stop_blocked();
    return 0;
}
