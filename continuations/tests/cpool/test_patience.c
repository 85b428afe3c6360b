/* Patience: who spins for longer, how long, how many, and what makes one begin. */

#include "pool_test.h"

static struct cpool_carrier idler, another;
static struct cpool_slot *its;

static void
begin_idler(int parallelism)
{
    start(parallelism);
    its = cpool__slot(0);
    memset((void *)&idler, 0, sizeof(idler));
    memset((void *)&another, 0, sizeof(another));
    idler.woken_soon = another.woken_soon = true;
}

static int64_t
a_moment_ago(void)
{
    return cpool_now() - 1;
}

/* The times that it is not patient before it is again. */
static int
impatience(void)
{
    int n = 0;
    while (cpool__patience(&idler) == 0) {
        n++;
    }
    return n;
}

static void
test_who_is_patient(void)
{
    begin_idler(2);
    idler.woken_soon = false;
    CHECK_EQ(cpool__patience(&idler), 0);
    idler.woken_soon = true;
    CHECK_EQ(impatience(), 0);
    cpool__spun(&idler, a_moment_ago(), false);
    CHECK_EQ(impatience(), 2);
    cpool__spun(&idler, a_moment_ago(), false);
    CHECK_EQ(impatience(), 4);
    cpool__spun(&idler, 0, false);                  /* it was not patient               */
    cpool__spun(&idler, CPOOL_FOREVER, false);      /* it was called away               */
    CHECK_EQ(impatience(), 0);
    cpool__spun(&idler, CPOOL_FOREVER, true);
    cpool__spun(&idler, a_moment_ago(), false);
    CHECK_EQ(impatience(), 2);
    stop();
}

static void
test_what_ends_it(void)
{
    begin_idler(2);
    CHECK(cpool__is_patient(&idler, its, CPOOL_FOREVER));
    CHECK(!cpool__is_patient(&idler, its, 0));
    CHECK(!cpool__is_patient(&idler, its, a_moment_ago()));
    CPOOL__STORE(&its->timers.next, a_moment_ago());
    CHECK(!cpool__is_patient(&idler, its, CPOOL_FOREVER));
    CPOOL__STORE(&its->timers.next, CPOOL_FOREVER);
    CPOOL__STORE(&idler.attend, true);
    CHECK(!cpool__is_patient(&idler, its, CPOOL_FOREVER));
    CPOOL__STORE(&idler.attend, false);
    CPOOL__STORE(&cpool__pool.wanting.len, 1);
    CHECK(!cpool__is_patient(&idler, its, CPOOL_FOREVER));
    CPOOL__STORE(&cpool__pool.wanting.len, 0);
    CHECK(cpool__is_patient(&idler, its, CPOOL_FOREVER));
    stop();
}

/* Half of the slots, and one patient carrier more. */
static void
test_how_many_spin(void)
{
    struct cpool_carrier third;
    memset((void *)&third, 0, sizeof(third));
    begin_idler(2);
    CHECK(cpool__try_spin(&idler, false));
    CHECK(cpool__try_spin(&idler, false));          /* it does already                  */
    CHECK(!cpool__try_spin(&another, false));
    CHECK(cpool__try_spin(&another, true));
    CHECK(!cpool__try_spin(&third, true));
    cpool__stop_spinning(&idler);
    cpool__stop_spinning(&another);
    CHECK_EQ(CPOOL__LOAD(&cpool__pool.spinning), 0);
    stop();
}

static atomic_bool woken_soon;

static void
parks_until_woken_soon(struct work *w)
{
    (void)w;
    while (!cpool_current_carrier()->woken_soon) {
        CHECK_EQ(cpool_park(CPOOL_FOREVER, "the other one"), 0);
    }
    atomic_store(&woken_soon, true);
}

/* A carrier is called to its own task while it sleeps, by an OS thread outside of the pool. */
static void
test_woken_soon(void)
{
    cpool__woken_soon(CPOOL_FOREVER);
    atomic_store(&woken_soon, false);
    start(2);
    struct work *sleeper = work_new(parks_until_woken_soon, NULL);
    CHECK_EQ(cpool_spawn(&sleeper->task), 0);
    while (!atomic_load(&woken_soon)) {
        cpool_unpark(&sleeper->task);
        sched_yield();
    }
    wait_finished(1);
    stop();
    free(sleeper);
    cpool__woken_soon(0);
}

int
main(void)
{
    test_who_is_patient();
    test_what_ends_it();
    test_how_many_spin();
    test_woken_soon();
    return 0;
}
