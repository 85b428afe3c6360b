/* Pairs: who becomes whose partner, when they meet, and that they do in a running pool. */

#include "pool_test.h"

static struct cpool_carrier carrier;
static struct cpool_task a, b, other;
static struct cpool_slot *mine;

static void
begin(void)
{
    struct cpool_config config = test_config(2);
    config.chaos_seed = 0;
    start_with(&config);
    mine = cpool__slot(0);
    cpool__slot_set(mine, CPOOL__RUNNING);
    memset((void *)&carrier, 0, sizeof(carrier));
    carrier.slot = mine;
    memset((void *)&a, 0, sizeof(a));
    memset((void *)&b, 0, sizeof(b));
}

static void
end(void)
{
    cpool__slot_drain(mine);
    cpool__queue_reset(&cpool__pool.injector);
    cpool__slot_set(mine, CPOOL__FREE);
    stop();
}

static bool
wakes(struct cpool_task *waker, struct cpool_task *t)
{
    carrier.woke = 0;
    carrier.task = waker;
    return cpool__pair_meets(&carrier, t);
}

/* The waker parks `ns` after it has woken somebody. */
static void
parks_after(struct cpool_task *waker, int64_t ns)
{
    carrier.woke_at = cpool_now() - ns;
    cpool__pair_parks(&carrier, waker);
}

/* Parks before the clock has moved: no descheduled test makes this late. */
#define AT_ONCE INT64_C(-1000000000)
#define LATE    INT64_C(1000000000)

static void
test_both_at_once(void)
{
    begin();
    CHECK(!wakes(&a, &b));
    parks_after(&a, AT_ONCE);
    CHECK(!wakes(&b, &a));              /* b has not shown yet that it parks           */
    parks_after(&b, AT_ONCE);
    CHECK(wakes(&a, &b));
    CHECK_EQ(carrier.woke, 0);
    CHECK(!wakes(&b, &a));              /* they have parted, and have to show it anew  */
    parks_after(&b, LATE);
    CHECK(!wakes(&a, &b));
    end();
}

static void
test_one_goes_on(void)
{
    begin();
    for (int i = 0; i < 3; i++) {
        CHECK(!wakes(&a, &b));
        parks_after(&a, LATE);
        CHECK(!wakes(&b, &a));
        parks_after(&b, AT_ONCE);
    }
    end();
}

static void
test_another_one(void)
{
    begin();
    CHECK(!wakes(&a, &b));
    parks_after(&a, AT_ONCE);
    CHECK(!wakes(&b, &a));
    CHECK(!wakes(&b, &other));          /* the last one counts                         */
    parks_after(&b, AT_ONCE);
    CHECK(!wakes(&a, &b));
    end();
}

static void
test_who_may_not(void)
{
    begin();
    CHECK(!wakes(&a, &b));
    parks_after(&a, AT_ONCE);
    CHECK(!wakes(&b, &a));
    parks_after(&b, AT_ONCE);
    CHECK(!wakes(NULL, &b));            /* a timer, or the poller                      */
    a.flags = CPOOL_TASK_STICKY;
    CHECK(!wakes(&a, &b));
    a.flags = 0;
    other.flags = CPOOL_TASK_STARTED;
    cpool__push_started(mine, &other);  /* b would have to queue here                  */
    CHECK(!wakes(&a, &b));
    CHECK(cpool__ring_pop(&mine->started) == &other);
    CHECK(wakes(&a, &b));
    end();
}

/* --- In a running pool ------------------------------------------------------------------ */

static struct work *ping, *pong;
static atomic_int arrived;
static struct cpool_carrier *_Atomic pings;
static atomic_bool met;

/* Both at once, so each on a carrier of its own. */
static void
rendezvous(void)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) != 2) {
        sched_yield();
    }
}

static void
ping_body(struct work *w)
{
    (void)w;
    rendezvous();
    while (!atomic_load(&met)) {
        atomic_store(&pings, cpool_current_carrier());
        cpool_unpark(&pong->task);
        CHECK_EQ(cpool_park(CPOOL_FOREVER, "pong"), 0);
    }
}

static void
pong_body(struct work *w)
{
    (void)w;
    rendezvous();
    while (!atomic_load(&met)) {
        CHECK_EQ(cpool_park(CPOOL_FOREVER, "ping"), 0);
        atomic_store(&met, atomic_load(&pings) == cpool_current_carrier());
        cpool_unpark(&ping->task);
    }
}

static void
test_they_meet(void)
{
    cpool__pair_at_once(CPOOL_FOREVER);
    start(2);
    ping = work_new(ping_body, NULL);
    pong = work_new(pong_body, NULL);
    CHECK_EQ(cpool_spawn(&ping->task), 0);
    CHECK_EQ(cpool_spawn(&pong->task), 0);
    wait_finished(2);
    stop();
    free(ping);
    free(pong);
    cpool__pair_at_once(0);
}

int
main(void)
{
    test_both_at_once();
    test_one_goes_on();
    test_another_one();
    test_who_may_not();
    test_they_meet();
    return 0;
}
