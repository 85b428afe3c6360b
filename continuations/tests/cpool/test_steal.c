/* Stealing: halves, order, what comes first, and what the policy forbids. */

#include "pool_test.h"

enum { N = 12 };
static struct cpool_task tasks[N];
static struct cpool_slot *mine, *theirs;

static void
begin(uint32_t flags)
{
    struct cpool_config config = test_config(2);
    config.chaos_seed = 0;
    start_with(&config);
    memset((void *)tasks, 0, sizeof(tasks));
    for (int i = 0; i < N; i++) {
        tasks[i].flags = flags;
    }
    mine = cpool__slot(0);
    theirs = cpool__slot(1);
    cpool__slot_set(mine, CPOOL__RUNNING);
    cpool__slot_set(theirs, CPOOL__RUNNING);
}

static void
end(void)
{
    cpool__slot_drain(mine);
    cpool__slot_drain(theirs);
    cpool__queue_reset(&cpool__pool.injector);
    cpool__slot_set(mine, CPOOL__FREE);
    cpool__slot_set(theirs, CPOOL__FREE);
    stop();
}

static void
test_fresh(void)
{
    begin(0);
    CHECK(cpool__steal(mine) == NULL);
    for (int i = 0; i < N; i++) {
        cpool__push_fresh(theirs, &tasks[i]);
    }
    CHECK(cpool__steal(mine) == &tasks[0]);
    CHECK_EQ(cpool__ring_len(&theirs->fresh), N / 2);
    for (int i = 1; i < N / 2; i++) {
        CHECK(cpool__ring_pop(&mine->fresh) == &tasks[i]);
    }
    CHECK(cpool__ring_pop(&mine->fresh) == NULL);
    CHECK(cpool__ring_pop(&theirs->fresh) == &tasks[N / 2]);
    end();
}

static void
test_started(void)
{
    begin(CPOOL_TASK_STARTED);
    for (int i = 0; i < 4; i++) {
        cpool__push_started(theirs, &tasks[i]);
    }
    for (int i = 4; i < 8; i++) {
        CHECK(cpool__queue_push(&theirs->inbox, &tasks[i]));
    }
    theirs->lifo = &tasks[8];
    CHECK(cpool__steal(mine) == NULL);  /* not while their slot is served well         */
    theirs->backlog_since = 1;
    CHECK(cpool__steal(mine) == &tasks[0]);
    CHECK(cpool__ring_pop(&mine->started) == &tasks[1]);
    tasks[9].flags = 0;                 /* a new one goes before those that have run   */
    cpool__push_fresh(theirs, &tasks[9]);
    CHECK(cpool__steal(mine) == &tasks[9]);
    CHECK(cpool__steal(mine) == &tasks[2]);
    CHECK(cpool__steal(mine) == &tasks[3]);
    CHECK(cpool__steal(mine) == &tasks[4]);
    CHECK(cpool__ring_pop(&mine->started) == &tasks[5]);
    CHECK(cpool__steal(mine) == &tasks[6]);
    CHECK(cpool__steal(mine) == &tasks[7]);
    CHECK(cpool__steal(mine) == &tasks[8]);
    CHECK(cpool__steal(mine) == NULL);
    CHECK(!cpool__slot_has_tasks(mine) && !cpool__slot_has_tasks(theirs));
    end();
}

/* Half of the preempted ones, before others that have run, and preempted they stay. */
static void
test_steals_preempted(void)
{
    begin(CPOOL_TASK_STARTED);
    for (int i = 0; i < 5; i++) {
        cpool__push_preempted(theirs, &tasks[i]);
    }
    cpool__push_started(theirs, &tasks[5]);
    CHECK(cpool__steal(mine) == NULL);
    theirs->backlog_since = 1;
    CHECK(cpool__steal(mine) == &tasks[0]);
    CHECK(cpool__queue_pop(&mine->preempted) == &tasks[1]);
    CHECK(cpool__queue_pop(&mine->preempted) == &tasks[2]);
    CHECK(!cpool__slot_has_tasks(mine));
    CHECK(cpool__steal(mine) == &tasks[3]);
    CHECK(cpool__steal(mine) == &tasks[4]);
    CHECK(cpool__steal(mine) == &tasks[5]);
    CHECK(cpool__steal(mine) == NULL);
    CHECK(!cpool__slot_has_tasks(mine) && !cpool__slot_has_tasks(theirs));
    end();
}

int
main(void)
{
    test_fresh();
    test_started();
    test_steals_preempted();
    return 0;
}
