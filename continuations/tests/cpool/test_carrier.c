/* Carriers: tasks that are bound to one, spares that end, signals. */

#include "pool_test.h"

#include "stack/prim.h"

static void
nothing(struct work *w)
{
    w->n++;
}

/* --- Sticky tasks ------------------------------------------------------------------- */

static void
is_sticky(struct work *w)
{
    uint64_t rng = (uint64_t)(uintptr_t)w->arg;
    struct cpool_carrier *home = cpool_current_carrier();
    w->task.flags |= CPOOL_TASK_STICKY;
    for (int i = 0; i < 60; i++) {
        switch (check_random(&rng) % 3) {
        case 0:
            cpool_yield();
            break;
        case 1:
            cpool_park(cpool_now() + 300000, "sticky");
            break;
        case 2:
            cpool_sleep(cpool_now() + 50000, "sticky");
            break;
        }
        CHECK(cpool_current_carrier() == home);
    }
    w->task.flags &= ~(uint32_t)CPOOL_TASK_STICKY;
    cpool_yield();
    w->n++;
}

static void
blocks(struct work *w)
{
    for (int i = 0; i < 10; i++) {
        cpool_block_begin();
        poll(NULL, 0, 1);
        cpool_block_end();
        cpool_yield();
    }
    w->n++;
}

/* Their carriers lose their slots all the time, and they wait for them. */
static void
test_sticky(int parallelism, uint32_t n)
{
    start(parallelism);
    struct work **w = malloc(2 * n * sizeof(*w));
    for (uint32_t i = 0; i < n; i++) {
        w[2 * i] = go(is_sticky, (void *)(uintptr_t)(i + 1));
        w[2 * i + 1] = go(blocks, NULL);
    }
    while (atomic_load(&test_finished) < 2 * n) {
        for (uint32_t i = 0; i < n; i++) {
            if (cpool_task_state(&w[2 * i]->task) == CPOOL_PARKED) {
                cpool_unpark(&w[2 * i]->task);
            }
        }
        sched_yield();
    }
    for (uint32_t i = 0; i < 2 * n; i++) {
        CHECK_EQ(w[i]->n, 1);
        free(w[i]);
    }
    free(w);
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK_EQ(stats.runnable, 0);
    stop();
}

/* A sticky task whose carrier has become a spare: woken, the carrier gets a slot. */
static int p[2];

static void
parks_sticky(struct work *w)
{
    struct cpool_carrier *home = cpool_current_carrier();
    w->task.flags |= CPOOL_TASK_STICKY;
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "sticky"), 0);
    CHECK(cpool_current_carrier() == home);
    w->n = 1;
}

static void
reads(struct work *w)
{
    char c;
    CHECK(cpool_current_carrier() != NULL);
    cpool_block_begin();
    CHECK_EQ(read(p[0], &c, 1), 1);
    cpool_block_end();
    w->n = 1;
}

static void
hogs_until_two_are_done(struct work *w)
{
    while (atomic_load(&test_finished) < 2) {
        if (is_preempted(w)) {
            cpool_yield();
        }
    }
}

static void
test_sticky_behind_spare(void)
{
    start(1);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work *s = go(parks_sticky, NULL);
    await_state(s, CPOOL_PARKED);
    struct work *r = go(reads, NULL);           /* the carrier of s blocks ...         */
    struct work *h = go(hogs_until_two_are_done, NULL);     /* and loses its slot      */
    await_state(h, CPOOL_RUNNING);
    cpool_unpark(&s->task);
    CHECK_EQ(write(p[1], "x", 1), 1);           /* ... until now                       */
    wait_finished(3);
    CHECK_EQ(s->n + r->n, 2);
    free(s);
    free(r);
    free(h);
    stop();
    close(p[0]);
    close(p[1]);
}

/* --- Spares ----------------------------------------------------------------------------- */

static void
test_spares_end(void)
{
    struct cpool_config config = test_config(1);
    struct cpool_stats stats;
    enum { N = 5 };
    struct work *r[N];
    config.carrier_idle_ns = 1000000;
    start_with(&config);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    for (uint32_t i = 0; i < N; i++) {
        r[i] = go(reads, NULL);
        go_and_forget(nothing, NULL);
        wait_finished(i + 1);
    }
    cpool_get_stats(&stats);
    CHECK_EQ(stats.carriers, N + 1);
    CHECK_EQ(write(p[1], "xxxxx", N), N);
    wait_finished(2 * N);
    for (int i = 0; i < N; i++) {
        free(r[i]);
    }
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (stats.carriers != 1);
    /* And the pool still works, and grows again. */
    r[0] = go(reads, NULL);
    go_and_forget(nothing, NULL);
    wait_finished(2 * N + 1);
    CHECK_EQ(write(p[1], "x", 1), 1);
    wait_finished(2 * N + 2);
    free(r[0]);
    stop();
    close(p[0]);
    close(p[1]);
}

/* --- Signals ------------------------------------------------------------------------------ */

static void
looks_at_mask(struct work *w)
{
    sigset_t now;
    stack_t alt;
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    CHECK(sigismember(&now, SIGINT) && sigismember(&now, SIGTERM)
          && sigismember(&now, SIGCHLD) && sigismember(&now, SIGALRM));
    CHECK(!sigismember(&now, SIGSEGV) && !sigismember(&now, SIGBUS)
          && !sigismember(&now, SIGFPE) && !sigismember(&now, SIGILL));
    CHECK_EQ(sigaltstack(NULL, &alt), 0);
    CHECK(!(alt.ss_flags & SS_DISABLE) && alt.ss_size >= 65536);
    CHECK_EQ(cpool_carrier_tid(cpool_current_carrier()), gettid());
    w->n = 1;
}

static void
test_signals(void)
{
    start(1);
    struct work *w = go(looks_at_mask, NULL);
    wait_finished(1);
    CHECK_EQ(w->n, 1);
    free(w);
    sigset_t now;
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    CHECK(!sigismember(&now, SIGINT));  /* the spawner's mask is its own again         */
    stop();
}

/* --- Bound from the start -------------------------------------------------------------- */

static void
is_bound(struct work *w)
{
    CHECK(cpool_current_carrier() == w->arg);
    cpool_yield();
    CHECK(cpool_current_carrier() == w->arg);
    w->n = 1;
}

static void
spawn_bound(void)
{
    struct work *b = work_new(is_bound, cpool_current_carrier());
    b->autofree = true;
    b->task.flags = CPOOL_TASK_STICKY;
    CHECK_EQ(cpool_spawn(&b->task), 0);
}

static void
spawns_bound(struct work *w)
{
    (void)w;
    for (int i = 0; i < 20; i++) {
        cont__prim_fail_after(i % 5 == 0 ? 0 : -1);     /* also when stacks are short  */
        spawn_bound();
        cpool_yield();
    }
    cont__prim_fail_after(-1);
    cpool_block_begin();
    spawn_bound();
    cpool_block_end();
}

static void
test_bound(int parallelism)
{
    start(parallelism);
    for (int i = 0; i < 10; i++) {
        go_and_forget(spawns_bound, NULL);
    }
    wait_finished(10 + 210);
    stop();
}

/* The host's idle callback spawns one on the carrier that is about to sleep. */
static atomic_int idle_spawns;

static int
idle_spawns_bound(struct cpool_carrier *c)
{
    CHECK(cpool_current_carrier() == c);
    if (atomic_fetch_sub(&idle_spawns, 1) <= 0) {
        atomic_store(&idle_spawns, 0);
        return 0;
    }
    spawn_bound();
    return 1;
}

static void
test_bound_from_idle(void)
{
    struct cpool_host host = test_host;
    struct cpool_config config = test_config(3);
    host.idle = idle_spawns_bound;
    idle_spawns = 50;
    test_finished = 0;
    CHECK_EQ(cpool_start(&host, &config), 0);
    for (int i = 0; i < 20; i++) {
        go_and_forget(nothing, NULL);
    }
    wait_finished(70);
    stop();
}

int
main(void)
{
    test_bound(1);
    test_bound(3);
    test_bound_from_idle();
    test_signals();
    test_spares_end();
    test_sticky_behind_spare();
    test_sticky(1, (uint32_t)check_scale(60));
    test_sticky(2, (uint32_t)check_scale(60));
    test_sticky(4, (uint32_t)check_scale(60));
    return 0;
}
