/* Waits without a stack: park, sleep and yield by a body that returns. */

#include "pool_test.h"

#include "stack/prim.h"

/* Idle stacks that an OS thread keeps, at most: stack/cache.c. */
#define CACHED 64

/* A body that goes on where `step` says. */
struct steps {
    struct work work;
    int step;
    long left;
    int64_t until;
    _Atomic uint32_t seen;              /* how many parks have ended; a futex          */
    _Atomic uint32_t *count;            /* shared by all                               */
};

static struct steps *
steps_of(struct work *w)
{
    return (struct steps *)w;
}

static struct steps *
steps_new(void (*body)(struct work *), long left)
{
    struct steps *s = calloc(1, sizeof(*s));
    CHECK(s != NULL);
    cpool_task_init(&s->work.task);
    s->work.body = body;
    s->work.task.flags = test_flags();
    s->left = left;
    return s;
}

static int
timed_out(struct work *w)
{
    return (w->task.flags & CPOOL_TASK_TIMED_OUT) != 0;
}

static int
interrupted(struct work *w)
{
    return (w->task.flags & CPOOL_TASK_INTERRUPTED) != 0;
}

/* One after the other, what task.c's tests do with a stack. */
static void
semantics(struct work *w)
{
    struct steps *s = steps_of(w);
    switch (s->step++) {
    case 0:
        cpool_unpark(&w->task);
        cpool_unpark(&w->task);         /* one token, however many unparks             */
        cpool_park_at_return(CPOOL_FOREVER, "token");
        return;
    case 1:
        CHECK(!timed_out(w));
        CHECK_EQ(cpool_park(0, "poll"), -ETIMEDOUT);
        cpool_park_at_return(cpool_now() + 1000000, "timeout");
        return;
    case 2:
        CHECK(timed_out(w));
        cpool_park_at_return(0, "past");
        return;
    case 3:
        CHECK(timed_out(w));
        cpool_unpark(&w->task);
        s->until = cpool_now() + 2000000;
        cpool_sleep_at_return(s->until, "sleep");   /* neither woken by the token ...   */
        return;
    case 4:
        CHECK(!timed_out(w));
        CHECK(cpool_now() >= s->until);
        cpool_yield_at_return();
        return;
    case 5:
        CHECK_EQ(cpool_park(0, "token"), 0);        /* ... nor taking it                */
        CHECK_EQ(cpool_park(0, "poll"), -ETIMEDOUT);
        cpool_sleep(cpool_now() + 100000, "with a stack");
        cpool_sleep_at_return(0, "past");
        return;
    case 6:
        CHECK(!interrupted(w));
        cpool_interrupt(&w->task);
        cpool_park_at_return(CPOOL_FOREVER, "interrupt");
        return;
    case 7:
        CHECK(interrupted(w) && !timed_out(w));
        cpool_interrupt(&w->task);
        cpool_sleep_at_return(CPOOL_FOREVER, "interrupt");
        return;
    case 8:
        CHECK(interrupted(w));
        cpool_unpark(&w->task);
        cpool_interrupt(&w->task);
        cpool_sleep_at_return(CPOOL_FOREVER, "the interrupt ...");
        return;
    case 9:
        CHECK(interrupted(w));
        cpool_park_at_return(CPOOL_FOREVER, "... leaves the token");
        return;
    case 10:
        CHECK(!interrupted(w) && !timed_out(w));
        w->n = 1;
        return;                         /* for good                                    */
    }
    CHECK(false);
}

static void
test_semantics(int parallelism)
{
    start(parallelism);
    struct steps *s = steps_new(semantics, 0);
    CHECK_EQ(cpool_spawn(&s->work.task), 0);
    wait_finished(1);
    CHECK_EQ(s->work.n, 1);
    CHECK_EQ(s->step, 11);
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK_EQ(stats.returns, 10);
    stop();
    free(s);
}

static void
parks(struct work *w)
{
    struct steps *s = steps_of(w);
    if (s->step++ > 0) {
        CHECK(!timed_out(w));
        atomic_fetch_add(&s->seen, 1);
        cpool__futex_wake(&s->seen, 1);
        s->left--;
    }
    if (s->left > 0) {
        cpool_park_at_return(CPOOL_FOREVER, "test");
    }
}

/* The wake-up comes at any time: before the return, in it, and after. */
static void
test_unpark_from_outside(int parallelism, long n)
{
    start(parallelism);
    struct steps *s = steps_new(parks, n);
    CHECK_EQ(cpool_spawn(&s->work.task), 0);
    for (uint32_t i = 0; i < (uint32_t)n; i++) {
        cpool_unpark(&s->work.task);
        while (atomic_load(&s->seen) == i) {
            cpool__futex_wait(&s->seen, i, CPOOL_FOREVER);
        }
        CHECK_EQ(s->seen, i + 1);
    }
    wait_finished(1);
    stop();
    free(s);
}

/* Parked tasks have no stack; they go on when they can have one again. */
static void
parks_once(struct work *w)
{
    struct steps *s = steps_of(w);
    if (s->step++ == 0) {
        atomic_fetch_add(s->count, 1);
        cpool_park_at_return(CPOOL_FOREVER, "test");
        return;
    }
    /* The counter is not of this park: a second one, with a stack, tells so. */
    CHECK_EQ(cpool_park(cpool_now() + 1, "timeout"), -ETIMEDOUT);
}

static void
test_no_stacks(int parallelism, uint32_t n)
{
    start(parallelism);
    _Atomic uint32_t count = 0;
    struct steps **s = malloc(n * sizeof(*s));
    for (uint32_t i = 0; i < n; i++) {
        s[i] = steps_new(parks_once, 0);
        s[i]->count = &count;
        CHECK_EQ(cpool_spawn(&s[i]->work.task), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        while (cpool_task_state(&s[i]->work.task) != CPOOL_PARKED) {
            sched_yield();
        }
    }
    CHECK_EQ(count, n);
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK(stats.stacks_resident <= CACHED * (size_t)stats.carriers);
    CHECK_EQ(stats.stacks_frozen, 0);
    CHECK_EQ(stats.returns, n);
    cont__prim_fail_after(0);
    for (uint32_t i = 0; i < n; i++) {
        cpool_unpark(&s[i]->work.task);
    }
    sched_yield();
    cont__prim_fail_after(-1);
    wait_finished(n);
    for (uint32_t i = 0; i < n; i++) {
        free(s[i]);
    }
    free(s);
    stop();
}

/* Parks with and without a stack, sleeps and yields, woken by timers and by others. */
static void
mixes(struct work *w)
{
    struct steps *s = steps_of(w);
    char frame[512];
    memset(frame, 'x', sizeof(frame));
    while (s->left-- > 0) {
        int64_t soon = cpool_now() + (s->left % 7) * 10000;
        switch ((s->left * 7 + (uintptr_t)w / 64) % 6) {
        case 0:
            cpool_park_at_return(soon, "mix");
            return;
        case 1:
            cpool_sleep_at_return(soon, "mix");
            return;
        case 2:
            cpool_yield_at_return();
            return;
        case 3:
            cpool_park(soon, "mix");
            break;
        case 4:
            cpool_sleep(soon, "mix");
            break;
        case 5:
            cpool_yield();
            break;
        }
        CHECK(frame[0] == 'x' && frame[511] == 'x');
    }
    w->n++;
}

static void
test_mix(int parallelism, uint32_t n, long rounds)
{
    start(parallelism);
    struct steps **s = malloc(n * sizeof(*s));
    for (uint32_t i = 0; i < n; i++) {
        s[i] = steps_new(mixes, rounds);
        CHECK_EQ(cpool_spawn(&s[i]->work.task), 0);
    }
    while (atomic_load(&test_finished) < n) {
        for (uint32_t i = 0; i < n; i += 3) {
            cpool_unpark(&s[i]->work.task);
        }
        sched_yield();
    }
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(s[i]->work.n, 1);
        free(s[i]);
    }
    free(s);
    stop();
}

int
main(void)
{
    test_semantics(1);
    test_semantics(3);
    for (int parallelism = 1; parallelism <= 3; parallelism++) {
        test_unpark_from_outside(parallelism, (long)check_scale(2000));
        test_no_stacks(parallelism, (uint32_t)check_scale(4000));
        test_mix(parallelism, (uint32_t)check_scale(200), 200);
    }
    return 0;
}
