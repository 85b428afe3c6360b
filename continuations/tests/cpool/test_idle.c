/* Sleep and wake: work that comes in the very moment in which carriers go to sleep.  A lost
 * wake-up hangs; the watchdog dumps the pool. */

#include "pool_test.h"

#include <sys/resource.h>

static void
nothing(struct work *w)
{
    w->n++;
}

/* Each spawn meets a pool that has just run dry. */
static void
test_one_by_one(int parallelism, uint32_t n)
{
    uint64_t rng = 1;
    start(parallelism);
    for (uint32_t i = 1; i <= n; i++) {
        go_and_forget(nothing, NULL);
        wait_finished(i);
        for (uint64_t k = check_random(&rng) % 200; k > 0; k--) {
            cpool__pause();
        }
    }
    stop();
}

/* A task's home slot, woken by OS threads outside of the pool. */
static void
answers(struct work *w)
{
    while (w->n-- > 0) {
        CHECK_EQ(cpool_park(CPOOL_FOREVER, "question"), 0);
        atomic_fetch_add((_Atomic uint32_t *)w->arg, 1);
        cpool__futex_wake(w->arg, 1);
    }
}

struct asker {
    pthread_t thread;
    struct work *who;
    _Atomic uint32_t answers;
    uint32_t n;
};

static void *
asks(void *arg)
{
    struct asker *a = arg;
    uint64_t rng = (uintptr_t)a;
    for (uint32_t i = 0; i < a->n; i++) {
        cpool_unpark(&a->who->task);
        while (atomic_load(&a->answers) == i) {
            cpool__futex_wait(&a->answers, i, CPOOL_FOREVER);
        }
        for (uint64_t k = check_random(&rng) % 300; k > 0; k--) {
            cpool__pause();
        }
    }
    return NULL;
}

static void
test_askers(int parallelism, int askers, uint32_t n)
{
    start(parallelism);
    struct asker *a = calloc((size_t)askers, sizeof(*a));
    for (int i = 0; i < askers; i++) {
        a[i].n = n;
        a[i].who = work_new(answers, &a[i].answers);
        a[i].who->n = n;
        CHECK_EQ(cpool_spawn(&a[i].who->task), 0);
        CHECK_EQ(pthread_create(&a[i].thread, NULL, asks, &a[i]), 0);
    }
    wait_finished((uint32_t)askers);
    for (int i = 0; i < askers; i++) {
        pthread_join(a[i].thread, NULL);
        free(a[i].who);
    }
    free(a);
    stop();
}

/* Many OS threads spawn into a pool that is now busy, now dry. */
static void *
spawns(void *arg)
{
    uint64_t rng = (uintptr_t)arg;
    for (uint32_t i = 0; i < *(uint32_t *)arg; i++) {
        go_and_forget(nothing, NULL);
        if (check_random(&rng) % 16 == 0) {
            sched_yield();
        }
    }
    return NULL;
}

static void
test_spawners(int parallelism, uint32_t n)
{
    pthread_t threads[4];
    start(parallelism);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, spawns, &n), 0);
    }
    wait_finished(4 * n);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    stop();
}

/* Fresh tasks are taken over by a sleeping carrier while their slot's holder goes on. */
static void
spawns_and_waits(struct work *w)
{
    (void)w;
    uint32_t before = atomic_load(&test_finished);
    for (int i = 0; i < 10; i++) {
        go_and_forget(nothing, NULL);
    }
    while (atomic_load(&test_finished) < before + 10) {
        sched_yield();                  /* keeps its carrier                           */
    }
}

static void
test_taken_over(uint32_t n)
{
    start(2);
    for (uint32_t i = 1; i <= n; i++) {
        go_and_forget(spawns_and_waits, NULL);
        wait_finished(11 * i);
    }
    stop();
}

/* The sleeper in the poller is woken for other work. */
static void
waits_for_ever(struct work *w)
{
    w->n = cpool_wait_fd((int)(intptr_t)w->arg, POLLIN, CPOOL_FOREVER, "idle");
}

static void
test_with_poller(int parallelism, uint32_t n)
{
    int p[2];
    start(parallelism);
    CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
    struct work *w = go(waits_for_ever, (void *)(intptr_t)p[0]);
    await_state(w, CPOOL_PARKED);
    for (uint32_t i = 1; i <= n; i++) {
        go_and_forget(nothing, NULL);
        wait_finished(i);
    }
    CHECK_EQ(write(p[1], "x", 1), 1);
    wait_finished(n + 1);
    CHECK_EQ(w->n, POLLIN);
    free(w);
    stop();
    close(p[0]);
    close(p[1]);
}

/* Something is left for a carrier that goes to sleep, sleeps, or has no slot. */
static struct cpool_carrier *_Atomic idler;
static atomic_long left, seen;
static _Atomic uint32_t looked;

static int
looks(struct cpool_carrier *c)
{
    atomic_store(&idler, c);
    atomic_store(&seen, atomic_load(&left));
    atomic_fetch_add(&looked, 1);
    cpool__futex_wake(&looked, INT32_MAX);
    return 0;
}

static void
test_attend(int parallelism, long n)
{
    struct cpool_host host = test_host;
    struct cpool_config config = test_config(parallelism);
    uint64_t rng = 3;
    host.idle = looks;
    atomic_store(&idler, NULL);
    test_finished = 0;
    CHECK_EQ(cpool_start(&host, &config), 0);
    go_and_forget(nothing, NULL);
    wait_finished(1);
    for (long i = 1; i <= n; i++) {
        uint32_t have;
        while (atomic_load(&idler) == NULL) {
            sched_yield();
        }
        for (uint64_t k = check_random(&rng) % 200; k > 0; k--) {
            cpool__pause();
        }
        atomic_store(&left, i);
        cpool_carrier_attend(atomic_load(&idler));
        while (have = atomic_load(&looked), atomic_load(&seen) != i) {
            cpool__futex_wait(&looked, have, CPOOL_FOREVER);
        }
    }
    stop();
}

/* Something is left for more carriers than there are slots: each has its turn, and then all
 * sleep. */
#define MANY 256                        /* more than the pool's limit in these tests  */

static struct cpool_carrier *_Atomic carriers[MANY];
static _Atomic uint32_t have_blocked, seen_by[MANY];
static struct event go_on;

static int
looks_at_its_own(struct cpool_carrier *c)
{
    CHECK(cpool_carrier_id(c) < MANY);
    atomic_store(&seen_by[cpool_carrier_id(c)], (uint32_t)atomic_load(&left));
    cpool__futex_wake(&seen_by[cpool_carrier_id(c)], INT32_MAX);
    return 0;
}

/* None of them ends before all have begun: each has a carrier of its own. */
static void
holds_a_carrier(struct work *w)
{
    (void)w;
    struct cpool_carrier *c = cpool_current_carrier();
    CHECK(cpool_carrier_id(c) < MANY);
    atomic_store(&carriers[cpool_carrier_id(c)], c);
    cpool_block_begin();
    atomic_fetch_add(&have_blocked, 1);
    cpool__futex_wake(&have_blocked, 1);
    event_wait(&go_on);
    cpool_block_end();
}

static void
attends_to_all(struct work *w)
{
    (void)w;
    for (int i = 0; i < MANY; i++) {
        if (atomic_load(&carriers[i]) != NULL) {
            cpool_carrier_attend(atomic_load(&carriers[i]));
        }
    }
}

static long
switches(void)
{
    struct rusage usage;
    CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_nvcsw;
}

static void
test_attend_all(int parallelism, uint32_t n)
{
    struct cpool_host host = test_host;
    struct cpool_config config = test_config(parallelism);
    config.carrier_idle_ns = INT64_C(3600000000000);
    host.idle = looks_at_its_own;
    test_finished = 0;
    atomic_store(&have_blocked, 0);
    atomic_store(&go_on.word, 0);
    for (int i = 0; i < MANY; i++) {
        atomic_store(&carriers[i], NULL);
    }
    CHECK_EQ(cpool_start(&host, &config), 0);
    uint32_t have, held = (uint32_t)parallelism + 2;
    for (uint32_t i = 0; i < held; i++) {
        go_and_forget(holds_a_carrier, NULL);
    }
    while ((have = atomic_load(&have_blocked)) < held) {
        cpool__futex_wait(&have_blocked, have, CPOOL_FOREVER);
    }
    event_set(&go_on);
    wait_finished(held);
    long before = switches();
    for (uint32_t i = 1; i <= n; i++) {
        atomic_store(&left, i);
        go_and_forget(attends_to_all, NULL);
        for (int k = 0; k < MANY; k++) {
            while (atomic_load(&carriers[k]) != NULL
                   && (have = atomic_load(&seen_by[k])) != i) {
                cpool__futex_wait(&seen_by[k], have, CPOOL_FOREVER);
            }
        }
    }
    /* Two a turn; it was 30,000 when a slot was passed on before its carrier had looked. */
    CHECK(switches() - before < (long)(100 * n * held));
    stop();
}

int
main(void)
{
    for (int parallelism = 1; parallelism <= 4; parallelism++) {
        test_one_by_one(parallelism, (uint32_t)check_scale(3000));
        test_askers(parallelism, 3, (uint32_t)check_scale(1500));
        test_spawners(parallelism, (uint32_t)check_scale(5000));
        test_with_poller(parallelism, (uint32_t)check_scale(1000));
        test_attend(parallelism, (long)check_scale(1000));
        test_attend_all(parallelism, (uint32_t)check_scale(100));
    }
    test_taken_over((uint32_t)check_scale(500));
    return 0;
}
