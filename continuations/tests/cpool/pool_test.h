#ifndef CONT_TESTS_POOL_TEST_H
#define CONT_TESTS_POOL_TEST_H

/* A host for tests of the pool: a task that calls a function, a count of those that have
 * ended, and a watchdog that dumps the pool before the test runner's timeout kills. */

#include "continuations/cpool.h"
#include "cpool/cpool_internal.h"

#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct work {
    struct cpool_task task;
    void (*body)(struct work *w);
    void *arg;
    long n;
    bool autofree;              /* nobody looks at it after its end                    */
    bool waits;                 /* its body has returned to wait                       */
};

static _Atomic uint32_t test_finished;
static atomic_long test_mounted, test_begun, test_ended, test_preempts;
static atomic_int test_begin_fails;

static int
test_begin(struct cpool_carrier *c)
{
    (void)c;
    if (atomic_load(&test_begin_fails) > 0) {
        atomic_fetch_sub(&test_begin_fails, 1);
        return -ENOMEM;
    }
    atomic_fetch_add(&test_begun, 1);
    return 0;
}

static void
test_end(struct cpool_carrier *c)
{
    CHECK(cpool_carrier_task(c) == NULL);
    atomic_fetch_add(&test_ended, 1);
}

static void
test_mount(struct cpool_carrier *c, struct cpool_task *t)
{
    CHECK(cpool_current_carrier() == c);
    CHECK(cpool_carrier_get_data(c) == NULL);
    cpool_carrier_set_data(c, t);
    atomic_fetch_add_explicit(&test_mounted, 1, memory_order_relaxed);
}

static void
test_unmount(struct cpool_carrier *c, struct cpool_task *t)
{
    CHECK(cpool_current_carrier() == c);
    CHECK(cpool_carrier_get_data(c) == t);
    cpool_carrier_set_data(c, NULL);
    atomic_fetch_sub_explicit(&test_mounted, 1, memory_order_relaxed);
}

static void
test_run(struct cpool_task *t)
{
    struct work *w = (struct work *)t;
    CHECK(cpool_current() == t);
    CHECK_EQ(cpool_task_state(t), CPOOL_RUNNING);
    w->body(w);
    CHECK(cpool_current() == t);
}

static void
test_done(struct cpool_carrier *c, struct cpool_task *t)
{
    (void)c;
    CHECK_EQ(cpool_task_state(t), CPOOL_DONE);
    CHECK_EQ(cont_state(&t->cont), CONT_DONE);
    if (((struct work *)t)->autofree) {
        memset((void *)t, 0xdd, sizeof(struct work));
        free(t);
    }
    /* The last use of t: who waits for this may free it. */
    atomic_fetch_add(&test_finished, 1);
    cpool__futex_wake(&test_finished, INT32_MAX);
}

/* t is compared, not read: it may have ended.  Tasks ask for the flag of their carrier. */
static struct { struct cpool_task *_Atomic task; char pad[56]; } test_preempted[1024];

static void
test_preempt(struct cpool_carrier *c, struct cpool_task *t)
{
    CHECK(cpool_carrier_id(c) >= 0 && cpool_carrier_id(c) < 1024);
    atomic_fetch_add(&test_preempts, 1);
    atomic_store(&test_preempted[cpool_carrier_id(c)].task, t);
}

/* From a task: has it been asked to yield? */
__attribute__((unused))
static bool
is_preempted(struct work *w)
{
    struct cpool_task *t = &w->task;
    return atomic_compare_exchange_strong(
        &test_preempted[cpool_carrier_id(cpool_current_carrier())].task, &t, NULL);
}

static const struct cpool_host test_host = {
    .carrier_begin = test_begin, .carrier_end = test_end, .mount = test_mount,
    .unmount = test_unmount, .run = test_run, .finished = test_done,
    .preempt = test_preempt,
};

/* $CPOOL_TEST_POLLER=poll runs a test with the reference poller; the hard build, or
 * $CPOOL_TEST_CHAOS, gives the scheduler a seed to be nasty with. */
__attribute__((unused))
static struct cpool_config
test_config(int parallelism)
{
    const char *poller = getenv("CPOOL_TEST_POLLER");
    const char *chaos = getenv("CPOOL_TEST_CHAOS");
    cpool__pool.poller = poller != NULL && strcmp(poller, "poll") == 0
                         ? &cpool__poller_poll : &cpool__poller_epoll;
    unsigned seed = chaos != NULL ? (unsigned)strtoul(chaos, NULL, 0) : 0;
    size_t budget = 0;
#ifdef CONT_HARD
    budget = 4;
    if (chaos == NULL) {
        seed = check_seeded ? (unsigned)check_seed | 1 : 12345;
    }
#endif
    return (struct cpool_config){.parallelism = parallelism,
                                 .max_carriers = parallelism + 64, .chaos_seed = seed,
                                 .stack_budget = budget};
}

static void
test_dump(int sig)
{
    (void)sig;
    cpool_dump(stderr);                 /* not async-signal-safe: better than nothing  */
    abort();
}

__attribute__((unused))
static void
start_host(const struct cpool_host *host, const struct cpool_config *config)
{
    signal(SIGALRM, test_dump);
    signal(SIGTERM, test_dump);
    alarm(110);
    test_finished = 0;
    CHECK_EQ(cpool_start(host, config), 0);
}

__attribute__((unused))
static void
start_with(const struct cpool_config *config)
{
    start_host(&test_host, config);
}

__attribute__((unused))
static void
start(int parallelism)
{
    struct cpool_config config = test_config(parallelism);
    start_with(&config);
}

__attribute__((unused))
static void
stop(void)
{
    CHECK_EQ(cpool_stop(cpool_now() + INT64_C(60000000000)), 0);
    CHECK_EQ(test_mounted, 0);
    CHECK_EQ(test_begun, test_ended);
}

/* The stacks of tests' tasks may be frozen at any park: what is shared is not on them.  The
 * hard build does so, or $CPOOL_TEST_MOVABLE=1. */
__attribute__((unused))
static uint32_t
test_flags(void)
{
    const char *movable = getenv("CPOOL_TEST_MOVABLE");
#ifdef CONT_HARD
    const bool usual = true;
#else
    const bool usual = false;
#endif
    return (movable != NULL ? *movable == '1' : usual) ? CPOOL_TASK_MOVABLE : 0;
}

__attribute__((unused))
static struct work *
work_new(void (*body)(struct work *), void *arg)
{
    struct work *w = calloc(1, sizeof(*w));
    CHECK(w != NULL);
    cpool_task_init(&w->task);
    w->body = body;
    w->arg = arg;
    w->task.flags = test_flags();
    return w;
}

__attribute__((unused))
static struct work *
go(void (*body)(struct work *), void *arg)
{
    struct work *w = work_new(body, arg);
    CHECK_EQ(cpool_spawn(&w->task), 0);
    return w;
}

/* The same, for a task that nobody looks at afterwards. */
__attribute__((unused))
static void
go_and_forget(void (*body)(struct work *), void *arg)
{
    struct work *w = work_new(body, arg);
    w->autofree = true;
    CHECK_EQ(cpool_spawn(&w->task), 0);
}

/* Until no task has a stack.  After stop(), too: the OS threads of carriers give what they
 * have cached back at their very end. */
__attribute__((unused))
static void
await_no_stacks(void)
{
    struct cpool_stats stats;
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (stats.stacks_resident + stats.stacks_frozen != 0);
    CHECK_EQ(stats.image_bytes, 0);
}

/* From outside of the pool: until n tasks have ended since start(). */
__attribute__((unused))
static void
wait_finished(uint32_t n)
{
    uint32_t have;
    while ((have = atomic_load(&test_finished)) < n) {
        cpool__futex_wait(&test_finished, have, CPOOL_FOREVER);
    }
}

/* An event that OS threads outside of the pool wait for. */
struct event {
    _Atomic uint32_t word;
};

__attribute__((unused))
static void
event_set(struct event *e)
{
    atomic_store(&e->word, 1);
    cpool__futex_wake(&e->word, INT32_MAX);
}

__attribute__((unused))
static void
event_wait(struct event *e)
{
    while (atomic_load(&e->word) == 0) {
        cpool__futex_wait(&e->word, 0, CPOOL_FOREVER);
    }
}

/* Until a task is in a state; for a state that it will reach and stay in. */
__attribute__((unused))
static void
await_state(struct work *w, enum cpool_task_state state)
{
    while (cpool_task_state(&w->task) != state) {
        sched_yield();
    }
}

#endif
