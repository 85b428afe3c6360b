/* Worker: what it does when no stack can be had, and with a crowd of tasks that is larger
 * than every queue. */

#include "pool_test.h"

#include "stack/prim.h"

static void
nothing(struct work *w)
{
    w->n++;
}

/* Tasks that have a stack and give it back when told. */
static void
holds(struct work *w)
{
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "holds a stack"), 0);
    w->n++;
}

static void
yields(struct work *w)
{
    for (int i = 0; i < 50; i++) {
        cpool_yield();
        w->n++;
    }
}

/* No stack for anybody new; those that have one go on, and nothing is lost. */
static void
test_no_stack(int parallelism, uint32_t n)
{
    start(parallelism);
    struct work *holder = go(holds, NULL);
    await_state(holder, CPOOL_PARKED);
    cont__prim_fail_after(0);
    struct work **w = malloc(n * sizeof(*w));
    for (uint32_t i = 0; i < n; i++) {
        w[i] = go(i % 2 ? nothing : yields, NULL);
    }
    /* Stacks in caches serve some of them; perhaps all. */
    struct cpool_stats stats;
    int64_t until = cpool_now() + 50000000;
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (cpool_now() < until && cpool__queue_len(&cpool__pool.starved) < n / 4
             && stats.finished < n);
    cpool_unpark(&holder->task);        /* still runs, and ends                        */
    while (cpool_task_state(&holder->task) != CPOOL_DONE) {
        sched_yield();
    }
    cont__prim_fail_after(-1);
    wait_finished(n + 1);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(w[i]->n, i % 2 ? 1 : 50);
        free(w[i]);
    }
    CHECK_EQ(cpool__queue_len(&cpool__pool.starved), 0);
    free(w);
    free(holder);
    stop();
}

static void
test_crowd(int parallelism, uint32_t n)
{
    start(parallelism);
    struct work **w = malloc(n * sizeof(*w));
    for (uint32_t i = 0; i < n; i++) {
        w[i] = go(yields, NULL);
    }
    wait_finished(n);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(w[i]->n, 50);
        free(w[i]);
    }
    free(w);
    stop();
}

/* Each of a crowd gets its turn: nobody is many turns behind the others. */
static struct work **crowd;
static uint32_t crowd_n;
static atomic_long lowest_rounds;

static void
counts(struct work *w)
{
    while (w->n < 100) {
        w->n++;
        cpool_yield();
    }
    for (uint32_t i = 0; i < crowd_n; i++) {
        if (crowd[i]->n < 50) {
            atomic_fetch_add(&lowest_rounds, 1);
        }
    }
}

static void
spawns_crowd(struct work *w)
{
    (void)w;
    for (uint32_t i = 0; i < crowd_n; i++) {
        crowd[i] = work_new(counts, NULL);
    }
    for (uint32_t i = 0; i < crowd_n; i++) {
        CHECK_EQ(cpool_spawn(&crowd[i]->task), 0);
    }
    cpool_yield();
}

static void
test_fair(uint32_t n)
{
    struct cpool_config config = test_config(1);
    config.chaos_seed = 0;              /* which is unfair on purpose                  */
    crowd_n = n;
    crowd = malloc(n * sizeof(*crowd));
    start_with(&config);
    struct work *parent = go(spawns_crowd, NULL);
    wait_finished(n + 1);
    CHECK_EQ(lowest_rounds, 0);
    stop();
    for (uint32_t i = 0; i < n; i++) {
        free(crowd[i]);
    }
    free(crowd);
    free(parent);
}

int
main(void)
{
    test_no_stack(1, 100);
    test_no_stack(3, 100);
    test_crowd(1, (uint32_t)check_scale(3000));
    test_crowd(3, (uint32_t)check_scale(3000));
    test_fair(100);
    test_fair((uint32_t)check_scale(CHECK_SANITIZED ? 2400 : 1000));
    return 0;
}
