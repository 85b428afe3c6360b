/* Slot: order of its queues, retirement, status changes, and the policy that says when
 * started tasks may be taken. */

#include "pool_test.h"

static void
nothing(struct work *w)
{
    w->n++;
}

static struct cpool_slot *
fresh_slot(int i)
{
    start(2);
    struct cpool_slot *s = cpool__slot(i);
    CHECK_EQ(s->status & CPOOL__S_STATE, CPOOL__FREE);
    return s;
}

static void
empty(struct cpool_slot *s)
{
    cpool__queue_reset(&s->inbox);
    cpool__queue_reset(&cpool__pool.injector);
    while (cpool__ring_pop(&s->started) != NULL || cpool__ring_pop(&s->fresh) != NULL) {
    }
}

/* Nothing overtakes, whether it fits into the ring or not. */
static void
test_order(void)
{
    struct cpool_task t[2 * CPOOL__RING_SIZE] = {{.next = NULL}};
    struct cpool_slot *s = fresh_slot(0);
    uint32_t n = 2 * s->started.size;
    for (uint32_t i = 0; i < n; i++) {
        cpool__push_started(s, &t[i]);
    }
    CHECK_EQ(cpool__ring_len(&s->started), n / 2);
    CHECK_EQ(cpool__queue_len(&s->inbox), n / 2);
    CHECK(cpool__ring_pop(&s->started) == &t[0]);
    cpool__push_started(s, &t[0]);      /* behind the inbox, though the ring has room   */
    for (uint32_t i = 1; i < n / 2; i++) {
        CHECK(cpool__ring_pop(&s->started) == &t[i]);
    }
    for (uint32_t i = n / 2; i < n; i++) {
        CHECK(cpool__queue_pop(&s->inbox) == &t[i]);
    }
    CHECK(cpool__queue_pop(&s->inbox) == &t[0]);
    CHECK(!cpool__slot_has_tasks(s));

    /* New tasks that don't fit go to everybody, the older half first. */
    for (uint32_t i = 0; i < s->fresh.size + 1; i++) {
        cpool__push_fresh(s, &t[i]);
    }
    CHECK_EQ(cpool__ring_len(&s->fresh), s->fresh.size / 2);
    CHECK_EQ(cpool__queue_len(&cpool__pool.injector), s->fresh.size / 2 + 1);
    for (uint32_t i = 0; i < s->fresh.size / 2; i++) {
        CHECK(cpool__queue_pop(&cpool__pool.injector) == &t[i]);
    }
    CHECK(cpool__queue_pop(&cpool__pool.injector) == &t[s->fresh.size]);
    empty(s);
    stop();
}

static void
test_status(void)
{
    struct cpool_slot *s = fresh_slot(1);
    uint64_t free = s->status;
    cpool__lock(&cpool__pool.lock);
    CHECK(cpool__slot_take_free_lock_held(s) == s);
    CHECK(cpool__slot_take_free_lock_held(s) == NULL);
    CHECK(!cpool__slot_take(s, free));  /* each change is seen                         */
    CHECK(!cpool__slot_wake(s, CPOOL__BATON_GO));
    CHECK_EQ(cpool__sleeping_slot(0), -1);
    cpool__slot_set(s, CPOOL__SLEEPING);
    CHECK_EQ(cpool__sleeping_slot(0), 1);
    CHECK_EQ(cpool__sleeping_slot(2), -1);
    uint64_t sleeping = s->status;
    CHECK(cpool__slot_take(s, sleeping));
    CHECK_EQ(cpool__sleeping_slot(0), -1);
    CHECK(!cpool__slot_take(s, sleeping));
    cpool__slot_release_lock_held(s);
    CHECK_EQ(s->status & CPOOL__S_STATE, CPOOL__FREE);
    CHECK(cpool__slot_take_free_lock_held(NULL) != NULL);
    CHECK(cpool__slot_take_free_lock_held(NULL) != NULL);
    CHECK(cpool__slot_take_free_lock_held(NULL) == NULL);
    cpool__slot_release_lock_held(cpool__slot(0));
    cpool__slot_release_lock_held(s);
    cpool__unlock(&cpool__pool.lock);
    stop();
}

/* A slot that has retired sends everything on, also what comes later. */
static void
test_retired(void)
{
    struct cpool_task t[5] = {{.next = NULL}};
    struct cpool_slot *s = fresh_slot(1);
    CHECK_EQ(cpool_configure(1, 0), 0);
    CHECK(s->retired);
    CHECK(cpool__slot_take_free_lock_held(s) == NULL);
    CHECK(!cpool__queue_push(&s->inbox, &t[0]));
    CHECK_EQ(cpool_configure(2, 0), 0);
    CHECK(cpool__queue_push(&s->inbox, &t[0]));
    CHECK(cpool__ring_push(&s->started, &t[1]));
    CHECK(cpool__ring_push(&s->fresh, &t[2]));
    s->lifo = &t[3];
    cpool__push_preempted(s, &t[4]);
    cpool__slot_drain(s);
    CHECK(!cpool__slot_has_tasks(s));
    CHECK_EQ(cpool__queue_len(&cpool__pool.injector), 5);
    empty(s);
    stop();
}

static void
test_policy(void)
{
    struct cpool_config config = test_config(2);
    config.chaos_seed = 0;
    start_with(&config);
    struct cpool_slot *s = cpool__slot(1);
    int64_t now = cpool_now();
    CHECK(cpool__may_take_started(s, now));     /* FREE: nobody else will              */
    cpool__slot_set(s, CPOOL__RUNNING);
    CHECK(!cpool__may_take_started(s, now));
    s->backlog_since = now;
    CHECK(!cpool__may_take_started(s, now + 1000));
    CHECK(cpool__may_take_started(s, now + 10000000));
    cpool__slot_set(s, CPOOL__FREE);
    stop();
}

/* The whole of it, with tasks: homes that come and go. */
static void
sleeps(struct work *w)
{
    for (int i = 0; i < 20; i++) {
        cpool_sleep(cpool_now() + 100000, "sleep");
        w->n++;
    }
}

static void
test_homes(void)
{
    enum { N = 100 };
    struct work *w[N];
    start(4);
    for (int i = 0; i < N; i++) {
        w[i] = go(sleeps, NULL);
    }
    for (int k = 0; atomic_load(&test_finished) < N; k++) {
        CHECK_EQ(cpool_configure(k % 4 + 1, 0), 0);
        sched_yield();
    }
    for (int i = 0; i < N; i++) {
        CHECK_EQ(w[i]->n, 20);
        free(w[i]);
    }
    go_and_forget(nothing, NULL);
    wait_finished(N + 1);
    stop();
}

/* always_move: whoever has run goes elsewhere, but where there is one slot alone. */
static void
naps_and_yields(struct work *w)
{
    for (int i = 0; i < 50; i++) {
        cpool_sleep(cpool_now() + 1000, "nap");
        cpool_yield();
        w->n++;
    }
}

static void
test_always_move(int parallelism)
{
    enum { N = 8 };
    struct work *w[N];
    struct cpool_config config = test_config(parallelism);
    config.chaos_seed = 0;
    config.always_move = true;
    start_with(&config);
    for (int i = 0; i < N; i++) {
        w[i] = go(naps_and_yields, NULL);
    }
    wait_finished(N);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(w[i]->n, 50);
        free(w[i]);
    }
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    if (parallelism > 1) {
        /* A thief may take one back while the other slot has no carrier yet. */
        CHECK(stats.migrations > (stats.unparks + stats.yields) / 2);
    }
    stop();
}

int
main(void)
{
    test_order();
    test_status();
    test_retired();
    test_policy();
    test_homes();
    test_always_move(1);
    test_always_move(2);
    test_always_move(4);
    return 0;
}
