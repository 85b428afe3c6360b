/* Timers: the heap against a sorted model, ends of waits at their time and in order, and
 * deadlines that race with unparks. */

#include "pool_test.h"

static struct cpool_slot slot;

static void
park_by_hand(struct cpool_task *t, int64_t deadline)
{
    atomic_store(&t->word, CPOOL_PARKED);
    t->timer.deadline = deadline;
    cpool__timer_insert(&slot, t);
}

static void
test_model(uint64_t seed, size_t n)
{
    uint64_t rng = seed;
    struct cpool_task *t = calloc(n, sizeof(*t));
    cpool__timers_reset(&slot.timers);
    size_t in = 0;
    int64_t now = 1;
    for (size_t step = 0; step < 20 * n; step++) {
        size_t i = check_random(&rng) % n;
        bool linked = atomic_load(&t[i].timer.slot) != NULL;
        switch (check_random(&rng) % 4) {
        case 0:
        case 1:
            if (!linked) {
                park_by_hand(&t[i], now + (int64_t)(check_random(&rng) % 1000));
                in++;
            }
            break;
        case 2:
            cpool__timer_cancel(&t[i]);
            in -= linked;
            break;
        case 3: {
            now += (int64_t)(check_random(&rng) % 20);
            struct cpool_task *due = cpool__timers_run(&slot, now);
            int64_t last = 0;
            for (; due != NULL; due = due->next) {
                CHECK(due->timer.deadline <= now && due->timer.deadline >= last);
                CHECK_EQ(cpool_task_state(due), CPOOL_RUNNABLE);
                CHECK(atomic_load(&due->timer.slot) == NULL);
                last = due->timer.deadline;
                in--;
            }
            break;
        }
        }
        if (step % 64 == 0) {
            CHECK(cpool__timers_is_valid(&slot.timers));
            CHECK_EQ(slot.timers.count, in);
            int64_t next = CPOOL_FOREVER;
            for (size_t k = 0; k < n; k++) {
                if (atomic_load(&t[k].timer.slot) != NULL && t[k].timer.deadline < next) {
                    next = t[k].timer.deadline;
                }
            }
            CHECK_EQ(slot.timers.next, next);
        }
    }
    free(t);
}

/* A task that something else has woken is not woken again, and leaves the heap. */
static void
test_late(void)
{
    struct cpool_task t;
    cpool_task_init(&t);
    cpool__timers_reset(&slot.timers);
    park_by_hand(&t, 10);
    atomic_store(&t.word, CPOOL_RUNNABLE | CPOOL__W_TOKEN);
    CHECK(cpool__timers_run(&slot, 9) == NULL);
    CHECK_EQ(slot.timers.count, 1);
    CHECK(cpool__timers_run(&slot, 10) == NULL);
    CHECK_EQ(slot.timers.count, 0);
    CHECK_EQ(t.word, CPOOL_RUNNABLE | CPOOL__W_TOKEN);
    /* One that is about to park is told. */
    park_by_hand(&t, 10);
    atomic_store(&t.word, CPOOL_PARKING);
    CHECK(cpool__timers_run(&slot, 10) == NULL);
    CHECK_EQ(t.word, CPOOL_PARKING | CPOOL__W_WOKEN);
}

static void
sleeps(struct work *w)
{
    uint64_t rng = (uint64_t)(uintptr_t)w->arg;
    for (int i = 0; i < 10; i++) {
        int64_t until = cpool_now() + (int64_t)(check_random(&rng) % 3000000);
        if (check_random(&rng) % 2) {
            cpool_sleep(until, "sleep");
        }
        else {
            CHECK_EQ(cpool_park(until, "park"), -ETIMEDOUT);
        }
        CHECK(cpool_now() >= until);
        w->n++;
    }
}

static void
test_sleepers(int parallelism, uint32_t n)
{
    start(parallelism);
    struct work **w = malloc(n * sizeof(*w));
    for (uint32_t i = 0; i < n; i++) {
        w[i] = go(sleeps, (void *)(uintptr_t)(i + 1));
    }
    wait_finished(n);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(w[i]->n, 10);
        free(w[i]);
    }
    free(w);
    stop();
}

/* Deadline and unpark at about the same time: an unpark is never lost.  Each unpark is
 * answered by exactly one park that returns 0. */
struct race {
    struct work *sleeper;
    atomic_long given, taken;
};

static void
race_sleeper(struct work *w)
{
    struct race *r = w->arg;
    uint64_t rng = 7;
    while (w->n > 0) {
        int64_t until = cpool_now() + (int64_t)(check_random(&rng) % 20000);
        if (cpool_park(until, "race") == 0) {
            w->n--;
            atomic_fetch_add(&r->taken, 1);
        }
    }
}

static void
race_waker(struct work *w)
{
    struct race *r = w->arg;
    uint64_t rng = 8;
    for (long i = 0; i < w->n; i++) {
        cpool_sleep(cpool_now() + (int64_t)(check_random(&rng) % 20000), "waker");
        cpool_unpark(&r->sleeper->task);
        while (atomic_load(&r->taken) <= i) {
            cpool_yield();
        }
    }
}

static void
test_race(int parallelism, long n)
{
    start(parallelism);
    struct race r = {.given = 0};
    r.sleeper = work_new(race_sleeper, &r);
    r.sleeper->n = n;
    struct work *waker = work_new(race_waker, &r);
    waker->n = n;
    CHECK_EQ(cpool_spawn(&r.sleeper->task), 0);
    CHECK_EQ(cpool_spawn(&waker->task), 0);
    wait_finished(2);
    CHECK_EQ(r.taken, n);
    stop();
    free(waker);
    free(r.sleeper);
}

int
main(int argc, char **argv)
{
    (void)argc;
    uint64_t seed = check_take_seed(argv);
    test_model(seed, 7);
    test_model(seed, check_scale(2000));
    test_late();
    for (int parallelism = 1; parallelism <= 3; parallelism++) {
        test_sleepers(parallelism, (uint32_t)check_scale(3000));
        test_race(parallelism, (long)check_scale(2000));
    }
    return 0;
}
