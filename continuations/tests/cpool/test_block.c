/* Blocking in the kernel: the slot goes to another carrier, the task comes back to one,
 * errno survives, max_carriers holds, but not so that nobody goes on, pins are shown. */

#include "pool_test.h"

static int p[2];

static void
nothing(struct work *w)
{
    w->n++;
}

static void
reads(struct work *w)
{
    char c;
    cpool_block_begin();
    CHECK_EQ(read((int)(intptr_t)w->arg, &c, 1), 1);
    errno = 1234;
    cpool_block_end();
    CHECK_EQ(errno, 1234);
    w->n++;
}

static void
reads_pinned(struct work *w)
{
    char c;
    cpool_pinned_begin("a pin");
    CHECK_EQ(read((int)(intptr_t)w->arg, &c, 1), 1);
    errno = 1234;
    cpool_pinned_end();
    CHECK_EQ(errno, 1234);
    CHECK_EQ(cpool_task_state(&w->task), CPOOL_RUNNING);
    w->n++;
}

/* One slot, `readers` that block in it, and others that must run meanwhile. */
static void
test_handoff(void (*body)(struct work *), int readers)
{
    start(1);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work **r = malloc((size_t)readers * sizeof(*r));
    for (int i = 0; i < readers; i++) {
        r[i] = go(body, (void *)(intptr_t)p[0]);
        struct work *w = go(nothing, NULL);
        wait_finished((uint32_t)i + 1); /* w ended: r[i] blocks and does not hold w up */
        CHECK_EQ(w->n, 1);
        CHECK_EQ(r[i]->n, 0);
        free(w);
    }
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    CHECK(stats.handoffs >= (uint64_t)readers);
    CHECK(stats.carriers >= readers + 1);
    CHECK_EQ(stats.carriers_blocked, readers);
    if (body == reads_pinned) {
        CHECK_EQ(stats.pins, readers);
        CHECK_EQ(cpool_task_state(&r[0]->task), CPOOL_PINNED);
        CHECK(strcmp(cpool_task_reason(&r[0]->task), "a pin") == 0);
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        cpool_dump(f);
        fclose(f);
        CHECK(strstr(text, "pinned: a pin") != NULL);
        free(text);
    }
    for (int i = 0; i < readers; i++) {
        CHECK_EQ(write(p[1], "x", 1), 1);
        wait_finished((uint32_t)(readers + i + 1));
    }
    for (int i = 0; i < readers; i++) {
        CHECK_EQ(r[i]->n, 1);
        free(r[i]);
    }
    free(r);
    stop();
    close(p[0]);
    close(p[1]);
}

/* Short calls keep their slot. */
static void
blocks_shortly(struct work *w)
{
    for (int i = 0; i < 100000; i++) {
        struct cpool_carrier *c = cpool_current_carrier();
        cpool_block_begin();
        cpool_block_end();
        CHECK(cpool_current_carrier() == c);
        w->n++;
    }
}

static void
test_short(void)
{
    start(1);
    struct work *w = go(blocks_shortly, NULL);
    wait_finished(1);
    CHECK_EQ(w->n, 100000);
    free(w);
    stop();
}

/* With no carrier left the others wait, and go on when one comes back. */
static void
test_limit(void)
{
    struct cpool_config config = test_config(1);
    config.max_carriers = 2;
    config.stall_ns = CPOOL_FOREVER;
    start_with(&config);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work *a = go(reads, (void *)(intptr_t)p[0]);
    struct work *b = go(reads, (void *)(intptr_t)p[0]);
    struct cpool_stats stats;
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (stats.carriers_blocked != 2);
    /* Not before: a carrier that the monitor has asked to look at the injector takes from
     * there first. */
    struct work *w = go(nothing, NULL);
    cpool_get_stats(&stats);            /* its numbers are not of one instant          */
    CHECK_EQ(stats.carriers, 2);
    CHECK_EQ(cpool_task_state(&w->task), CPOOL_RUNNABLE);
    CHECK_EQ(write(p[1], "x", 1), 1);
    wait_finished(2);
    CHECK_EQ(w->n, 1);
    CHECK_EQ(write(p[1], "x", 1), 1);
    wait_finished(3);
    free(a);
    free(b);
    free(w);
    stop();
    close(p[0]);
    close(p[1]);
}

/* Tasks that hold all OS threads there may be, and wait for one that needs another. */
static void
writes(struct work *w)
{
    for (long i = w->n; i > 0; i--) {
        CHECK_EQ(write((int)(intptr_t)w->arg, "x", 1), 1);
    }
}

static void
test_all_wait(void (*body)(struct work *), int parallelism, int max, int readers)
{
    struct cpool_config config = test_config(parallelism);
    config.max_carriers = max;
    config.stall_ns = 2000000;
    config.carrier_idle_ns = 1000000;
    start_with(&config);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work **r = malloc((size_t)readers * sizeof(*r));
    struct cpool_stats stats;
    for (int i = 0; i < readers; i++) {
        r[i] = go(body, (void *)(intptr_t)p[0]);
        do {
            sched_yield();
            cpool_get_stats(&stats);
        } while (stats.carriers_blocked != i + 1);
    }
    struct work *w = work_new(writes, (void *)(intptr_t)p[1]);
    w->n = readers;
    CHECK_EQ(cpool_spawn(&w->task), 0);
    wait_finished((uint32_t)readers + 1);
    cpool_get_stats(&stats);
    CHECK(stats.extra_carriers >= (uint64_t)(readers + 1 - max));
    while (stats.carriers > max) {      /* those beyond the limit end when idle        */
        sched_yield();
        cpool_get_stats(&stats);
    }
    for (int i = 0; i < readers; i++) {
        CHECK_EQ(r[i]->n, 1);
        free(r[i]);
    }
    free(r);
    free(w);
    stop();
    close(p[0]);
    close(p[1]);
}

/* One computes until the task that waits behind the other one has run. */
static void
spawns_and_reads(struct work *w)
{
    struct work *v = work_new(writes, (void *)(intptr_t)p[1]);
    v->autofree = true;
    v->n = 1;
    CHECK_EQ(cpool_spawn(&v->task), 0);
    reads(w);
}

static void
spins(struct work *w)
{
    event_set(w->arg);
    while (atomic_load(&test_finished) == 0) {
        cpool__pause();
    }
}

static void
test_wait_beside_hog(void)
{
    struct cpool_config config = test_config(2);
    struct event spinning = {0};
    config.max_carriers = 2;
    config.stall_ns = 2000000;
    start_with(&config);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work *hog = go(spins, &spinning);
    event_wait(&spinning);
    struct work *r = go(spawns_and_reads, (void *)(intptr_t)p[0]);
    wait_finished(3);
    free(r);
    free(hog);
    stop();
    close(p[0]);
    close(p[1]);
}

/* Whoever comes back while a task hogs the only slot gets it by preemption. */
static void
hogs(struct work *w)
{
    event_set(w->arg);
    while (w->n == 0) {
        if (is_preempted(w)) {
            cpool_yield();
        }
        w->n = atomic_load(&test_finished) > 0;
    }
}

static void
test_return_to_hog(void)
{
    struct event hogging = {0};
    start(1);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work *r = go(reads, (void *)(intptr_t)p[0]);
    struct work *hog = go(hogs, &hogging);
    event_wait(&hogging);
    CHECK_EQ(write(p[1], "x", 1), 1);
    wait_finished(2);
    CHECK_EQ(r->n, 1);
    free(r);
    free(hog);
    stop();
    close(p[0]);
    close(p[1]);
}

/* From between begin and end, a task can wake and spawn. */
static void
parks(struct work *w)
{
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "woken from a block"), 0);
    w->n = 1;
}

static void
wakes_while_blocked(struct work *w)
{
    struct work *parked = w->arg;
    while (cpool_task_state(&parked->task) != CPOOL_PARKED) {
        cpool_yield();
    }
    cpool_block_begin();
    cpool_unpark(&parked->task);
    go_and_forget(nothing, NULL);
    while (atomic_load(&test_finished) != 2) {
        sched_yield();
    }
    cpool_block_end();
}

static void
test_wake_while_blocked(int parallelism)
{
    start(parallelism);
    struct work *parked = go(parks, NULL);
    struct work *w = go(wakes_while_blocked, parked);
    wait_finished(3);
    CHECK_EQ(parked->n, 1);
    free(w);
    free(parked);
    stop();
}

/* A timer of a slot whose carrier blocks comes in time. */
static void
sleeps(struct work *w)
{
    cpool_sleep(cpool_now() + 3000000, "sleep");
    w->n = 1;
    CHECK_EQ(write((int)(intptr_t)w->arg, "x", 1), 1);
}

static void
test_timer_behind_block(void)
{
    start(1);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    struct work *s = go(sleeps, (void *)(intptr_t)p[1]);
    struct work *r = go(reads, (void *)(intptr_t)p[0]);
    wait_finished(2);
    free(s);
    free(r);
    stop();
    close(p[0]);
    close(p[1]);
}

/* The same at the limit: the timer runs, and the task goes to the carrier that is idle. */
static void
parks_then_sleeps(struct work *w)
{
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "until its slot is known"), 0);
    sleeps(w);
}

static void
takes_home_and_reads(struct work *w)
{
    struct work *sleeper = w->arg;
    await_state(sleeper, CPOOL_PARKED);
    cpool_unpark_local(&sleeper->task);
    cpool_yield();                      /* now it sleeps, and its home is this slot    */
    w->arg = (void *)(intptr_t)p[0];
    reads(w);
}

static void
meets(struct work *w)
{
    atomic_int *here = w->arg;
    atomic_fetch_add(here, 1);
    while (atomic_load(here) != 2) {
        cpool__pause();
    }
}

static void
test_timer_at_limit(void)
{
    struct cpool_config config = test_config(2);
    config.max_carriers = 2;
    config.stall_ns = CPOOL_FOREVER;
    for (int i = 0; i < 10; i++) {
        atomic_int here = 0;
        start_with(&config);
        CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
        go_and_forget(meets, &here);    /* both carriers are there now                 */
        go_and_forget(meets, &here);
        wait_finished(2);
        struct work *s = go(parks_then_sleeps, (void *)(intptr_t)p[1]);
        await_state(s, CPOOL_PARKED);
        struct work *r = go(takes_home_and_reads, s);
        wait_finished(4);
        free(s);
        free(r);
        stop();
        close(p[0]);
        close(p[1]);
    }
}

/* Two tasks and one slot; each comes back from the kernel while the other one holds the slot
 * there, and blocks while the other one wants it.  Nobody else would see that: the monitor
 * has to be told, as its own next look is an hour away (and the watchdog is not). */
static struct event turns[2];

static void
takes_turns(struct work *w)
{
    int me = (int)(intptr_t)w->arg;
    for (int i = 0; i < 50; i++) {
        cpool_block_begin();
        event_wait(&turns[me]);
        atomic_store(&turns[me].word, 0);
        event_set(&turns[!me]);         /* it comes back to a slot that is blocked     */
        cpool_block_end();
        w->n++;
    }
    event_set(&turns[!me]);
}

static void
test_return_to_blocked(void)
{
    struct cpool_config config = test_config(1);
    config.time_slice_ns = INT64_C(3600000000000);
    start_with(&config);
    struct work *w[2];
    for (int i = 0; i < 2; i++) {
        w[i] = go(takes_turns, (void *)(intptr_t)i);
    }
    event_set(&turns[0]);
    wait_finished(2);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(w[i]->n, 50);
        free(w[i]);
    }
    stop();
}

/* Both carriers sleep when a task comes back from the kernel whose slot was handed off: it gets
 * that one again, and not the first. */
static bool
sleeps_at(int id)
{
    return (atomic_load(&cpool__slot(id)->status) & CPOOL__S_STATE) == CPOOL__SLEEPING;
}

static void
blocks_at_the_second(struct work *w)
{
    struct cpool_carrier *c = cpool_current_carrier();
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    meets(w);
    for (bool handed_off = false; s->id == 1 && !handed_off; w->n++) {
        go_and_forget(nothing, NULL);   /* the other one may steal it too soon          */
        cpool_pinned_begin("a test");
        handed_off = atomic_load(&s->status) != c->blocked_status;
        while (handed_off && !(sleeps_at(0) && sleeps_at(1))) {
            sched_yield();
        }
        cpool_pinned_end();
        CHECK(CPOOL__LOAD(&c->slot) == s);
    }
}

static void
test_return_to_sleeper(void)
{
    struct cpool_config config = test_config(2);
    config.chaos_seed = 0;
    config.handoff_ns = INT64_C(3600000000000);     /* only the pin hands off           */
    for (int i = 0; i < 20; i++) {
        atomic_int here = 0;
        start_with(&config);
        struct work *w[2] = {go(blocks_at_the_second, &here), go(blocks_at_the_second, &here)};
        await_state(w[0], CPOOL_DONE);
        await_state(w[1], CPOOL_DONE);
        wait_finished(2 + w[0]->n + w[1]->n);
        stop();
        free(w[0]);
        free(w[1]);
    }
}

/* A slot is blocked with nothing behind it, and the monitor naps; then there is work for it. */
static struct event blocked, may_end;

static void
blocks(struct work *w)
{
    (void)w;
    cpool_block_begin();
    event_set(&blocked);
    event_wait(&may_end);
    cpool_block_end();
}

static void
test_wake_for_blocked(void)
{
    struct cpool_config config = test_config(1);
    config.time_slice_ns = INT64_C(3600000000000);
    start_with(&config);
    struct work *parked = go(parks, NULL);
    await_state(parked, CPOOL_PARKED);
    struct work *blocker = go(blocks, NULL);
    event_wait(&blocked);
    while (atomic_load(&cpool__pool.nap) == CPOOL__NAP_NONE) {
        sched_yield();
    }
    cpool_unpark(&parked->task);
    wait_finished(1);
    CHECK_EQ(parked->n, 1);
    event_set(&may_end);
    wait_finished(2);
    free(parked);
    free(blocker);
    stop();
}

int
main(void)
{
    test_short();
    test_handoff(reads, 1);
    test_handoff(reads, 20);
    test_handoff(reads_pinned, 1);
    test_handoff(reads_pinned, 20);
    test_limit();
    void (*bodies[])(struct work *) = {reads, reads_pinned};
    for (int i = 0; i < 2; i++) {
        test_all_wait(bodies[i], 1, 1, 1);
        test_all_wait(bodies[i], 1, 3, 3);
        test_all_wait(bodies[i], 2, 2, 2);
        test_all_wait(bodies[i], 3, 4, 10);
    }
    test_wait_beside_hog();
    test_return_to_hog();
    test_return_to_blocked();
    test_return_to_sleeper();
    test_wake_for_blocked();
    test_wake_while_blocked(1);
    test_wake_while_blocked(2);
    test_timer_behind_block();
    test_timer_at_limit();
    return 0;
}
