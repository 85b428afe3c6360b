/* The pool as a whole: start, configure, stop, vacate, fork.
 *
 *                    outside OS threads        monitor (no slot)
 *                          | spawn                | preempts, hands off
 *                          v                      v
 *      injector  [t][t][t][t]  . . . . . . . . . . . . . . . . . . . . .
 *                     |                 |                   |
 *      slots     +----+----+       +----+----+         +----+----+
 *                | fresh   |<-steal| fresh   |         | fresh   |
 *                | started |       | started |         | started |
 *                | inbox   |       | inbox   |         | inbox   | <- started tasks
 *                | spent   |       | spent   |         | spent   |    wake up at home
 *                | timers  |       | timers  |         | timers  |
 *                +----+----+       +----+----+         +---------+
 *                     | holds           | holds           (FREE)
 *      carriers    carrier 0         carrier 3         carrier 1    carrier 2
 *                  runs task         sleeps in         blocked in   spare
 *                                    the poller        the kernel, task mounted
 *
 * A slot is the right to run; a carrier is an OS thread.  They meet and part (slot.c,
 * block.c); what is queued at a slot stays there and is served by whoever holds it.
 *
 *      task.c      states of a task, park and unpark
 *      worker.c    what a carrier does
 *      idle.c      how it sleeps and is woken, and why no wake-up is lost
 *      block.c     what happens when it blocks in the kernel
 *      monitor.c   what nobody else would notice
 *      reclaim.c   which stacks of parked tasks are frozen, and when
 *      patience.c  who spins for longer instead
 *      pair.c      which two tasks are better off on one slot
 *
 * Rejected:
 *      - One global queue.  Its lock is the limit at some 5 million switches a second.
 *      - Waking tasks where their waker runs (Go, tokio), but for those of pair.c.  Moving is
 *        cheap there; here what a thread made is counted cheaply only on the carrier that
 *        made it.
 *      - Slots that idle carriers give back to a list (Go's idle Ps).  Started tasks have a
 *        home, so a waker wants that slot and not any; a sleeping carrier stays in its
 *        slot, and the slot is taken from it when somebody else needs one.
 *      - A slot for the monitor, or a poller thread: each event would cross OS threads. */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct cpool__pool cpool__pool = {.nap = CPOOL__NAP_ABSENT};

int64_t
cpool_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
reset_shared(struct cpool__pool *p)
{
    cpool__lock_reset(&p->lock);
    cpool__queue_reset(&p->injector);
    cpool__queue_reset(&p->starved);
    atomic_store(&p->spinning, 0);
    atomic_store(&p->one_more, false);
    for (int i = 0; i < CPOOL__MAP_WORDS; i++) {
        atomic_store(&p->sleeping_map[i], 0);
        atomic_store(&p->free_map[i], 0);
    }
    atomic_store(&p->poll_owner, NULL);
    atomic_store(&p->reclaiming, false);
    CPOOL__STORE(&p->reclaims, false);
    p->era++;                           /* forgotten tasks are not looked at           */
    cpool__fds_reset();
}

/* Marks the slots that parallelism allows, and no others, as usable. */
static void
set_retired(int parallelism)
{
    for (int i = 0; i < cpool__slot_count(); i++) {
        struct cpool_slot *s = cpool__slot(i);
        bool retired = i >= parallelism;
        if (CPOOL__LOAD(&s->retired) == retired) {
            continue;
        }
        CPOOL__STORE(&s->retired, retired);
        if (!retired) {
            cpool__queue_open(&s->inbox);
            if ((atomic_load(&s->status) & CPOOL__S_STATE) == CPOOL__FREE) {
                atomic_fetch_or(&cpool__pool.free_map[i / 64], UINT64_C(1) << (i % 64));
            }
        }
        else if ((atomic_load(&s->status) & CPOOL__S_STATE) == CPOOL__FREE) {
            atomic_fetch_and(&cpool__pool.free_map[i / 64], ~(UINT64_C(1) << (i % 64)));
            cpool__slot_drain(s);
        }
    }
}

int
cpool_start(const struct cpool_host *host, const struct cpool_config *config)
{
    struct cpool__pool *p = &cpool__pool;
    if (CPOOL__LOAD(&p->life) != CPOOL__DOWN) {
        return -EBUSY;
    }
    if (host == NULL || config == NULL || host->run == NULL || host->mount == NULL
        || host->unmount == NULL || host->finished == NULL
        || config->parallelism < 1 || config->parallelism > CPOOL_MAX_SLOTS
        || config->max_carriers < config->parallelism || config->time_slice_ns < 0
        || config->handoff_ns < 0 || config->carrier_idle_ns < 0 || config->stall_ns < 0
        || config->freeze_age_ns < 0) {
        return -EINVAL;
    }
    if (p->poller == NULL) {
        p->poller = &cpool__poller_epoll;
    }
    p->host = *host;
    p->time_slice = config->time_slice_ns != 0 ? config->time_slice_ns : 10000000;
    p->handoff = config->handoff_ns != 0 ? config->handoff_ns : 20000;
    p->carrier_idle = config->carrier_idle_ns != 0 ? config->carrier_idle_ns : 5000000000;
    p->stall = config->stall_ns != 0 ? config->stall_ns : 50000000;
    p->chaos = config->chaos_seed;
    p->always_move = config->always_move;
    p->stack_budget = config->stack_budget != 0 ? config->stack_budget
                                                : CPOOL__STACK_BUDGET;
    p->freeze_max = config->freeze_max != 0 ? config->freeze_max : CPOOL__FREEZE_MAX;
    p->freeze_age = config->freeze_age_ns != 0 ? config->freeze_age_ns : CPOOL__FREEZE_AGE_NS;
    p->freeze_batch = config->freeze_batch != 0 ? config->freeze_batch
                                                : CPOOL__FREEZE_BATCH;
    p->no_create_until = 0;
    cpool__knock_init();
    int r = p->poller->init();
    if (r < 0) {
        return r;
    }
    reset_shared(p);
    cpool__carriers_reset();
    cpool__slots_reset();
    r = cpool__slots_grow(config->parallelism);
    if (r < 0) {
        p->poller->fini();
        return r;
    }
    memset((void *)&p->outside, 0, sizeof(p->outside));
    atomic_store(&p->extra, 0);
    for (int i = 0; i < cpool__slot_count(); i++) {
        memset((void *)&cpool__slot(i)->counters, 0, sizeof(struct cpool__counters));
    }
    atomic_store(&p->parallelism, config->parallelism);
    atomic_store(&p->max_carriers, config->max_carriers);
    set_retired(config->parallelism);
    atomic_store(&p->life, CPOOL__UP);
    return 0;
}

int
cpool_configure(int parallelism, int max_carriers)
{
    struct cpool__pool *p = &cpool__pool;
    if (CPOOL__LOAD(&p->life) != CPOOL__UP) {
        return -EINVAL;
    }
    cpool__lock(&p->lock);
    int slots = parallelism != 0 ? parallelism : CPOOL__LOAD(&p->parallelism);
    int carriers = max_carriers != 0 ? max_carriers : CPOOL__LOAD(&p->max_carriers);
    int r = slots < 1 || slots > CPOOL_MAX_SLOTS || carriers < slots
            ? -EINVAL : cpool__slots_grow(slots);
    if (r == 0) {
        atomic_store(&p->max_carriers, carriers);
        atomic_store(&p->parallelism, slots);
        set_retired(slots);
        cpool__slots_match_lock_held();
    }
    cpool__unlock(&p->lock);
    if (r < 0) {
        return r;
    }
    /* Holders of retired slots that sleep have to see it. */
    for (int i = slots; i < cpool__slot_count(); i++) {
        cpool__slot_wake(cpool__slot(i), CPOOL__BATON_GO);
    }
    if (cpool__work_waits()) {
        cpool__work_made();
    }
    return 0;
}

/* --- Stop --------------------------------------------------------------------------------- */

static void
wake_monitor(void)
{
    cpool__monitor_wake();
    cpool__monitor_poke_slow();
}

/* Everybody who sleeps comes to see that life has changed. */
static void
wake_everybody(struct cpool__pool *p)
{
    cpool__lock(&p->lock);
    struct cpool__carrier_list *lists[] = {&p->spares, &p->wanting};
    for (int i = 0; i < 2; i++) {
        struct cpool_carrier *c;
        while ((c = lists[i]->head) != NULL) {
            cpool__carriers_remove(lists[i], c);
            CPOOL__STORE(&c->mode, CPOOL__MODE_RUN);
            cpool__carrier_pass(c, CPOOL__BATON_STOP);
        }
    }
    cpool__unlock(&p->lock);
    for (int i = 0; i < cpool__slot_count(); i++) {
        cpool__slot_wake(cpool__slot(i), CPOOL__BATON_GO);
    }
    wake_monitor();
}

static bool
wait_until(_Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
    uint32_t now;
    while ((now = atomic_load(word)) != value) {
        if (deadline != CPOOL_FOREVER && cpool_now() >= deadline) {
            return false;
        }
        wake_monitor();
        cpool__futex_wait(word, now, deadline);
    }
    return true;
}

void
cpool_vacate(void)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__lock(&p->lock);              /* no carrier is being made now, or later      */
    /* seq_cst: partner end() in block.c, cpool__sleep */
    if (CPOOL__LOAD(&p->life) == CPOOL__UP) {
        atomic_store(&p->life, CPOOL__STOPPING);
    }
    cpool__unlock(&p->lock);
    cpool__full_fence();
    wake_everybody(p);
}

void
cpool_reopen(void)
{
    struct cpool__pool *p = &cpool__pool;
    (void)wait_until(&p->alive, 0, CPOOL_FOREVER);
    (void)wait_until(&p->nap, CPOOL__NAP_ABSENT, CPOOL_FOREVER);
    atomic_store(&p->life, CPOOL__UP);
}

int
cpool_stop(int64_t deadline)
{
    struct cpool__pool *p = &cpool__pool;
    if (CPOOL__LOAD(&p->life) == CPOOL__DOWN) {
        return 0;
    }
    atomic_store(&p->gave_up, false);
    cpool_vacate();
    if (!wait_until(&p->alive, 0, deadline)
        || !wait_until(&p->nap, CPOOL__NAP_ABSENT, deadline)) {
        /* The host will go on to take itself apart: ask nothing of it any more. */
        atomic_store(&p->gave_up, true);
        cpool__reclaim_await_step();
        return -ETIMEDOUT;
    }
    p->poller->fini();
    cpool__reclaim_after_stop();
    atomic_store(&p->life, CPOOL__DOWN);
    return 0;
}

/* --- Fork --------------------------------------------------------------------------------- */

void
cpool_after_fork_child(void)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_carrier *c = cpool__self();
    cont_after_fork_child();
    if (CPOOL__LOAD(&p->life) == CPOOL__DOWN) {
        return;
    }
    struct cpool_slot *s = c != NULL ? CPOOL__LOAD(&c->slot) : NULL;
    if (c != NULL && CPOOL__LOAD(&c->task) == NULL) {
        c = NULL;                       /* a host's callback: nothing that could go on */
    }
    reset_shared(p);
    cpool__slots_reset();
    set_retired(CPOOL__LOAD(&p->parallelism));
    atomic_store(&p->nap, CPOOL__NAP_ABSENT);
    cpool__carriers_after_fork(c);
    if (c != NULL) {
        if (s == NULL || CPOOL__LOAD(&s->retired)) {
            s = cpool__slot(0);
        }
        uint64_t status = atomic_load(&s->status);
        cpool__slot_take(s, status);
        atomic_fetch_and(&p->free_map[s->id / 64], ~(UINT64_C(1) << (s->id % 64)));
        cpool__set_owner(s, c);
        CPOOL__STORE(&c->slot, s);
        CPOOL__LOAD(&c->task)->home = s;
        cpool__reclaim_forget(CPOOL__LOAD(&c->task));
    }
    /* The old descriptors are shared with the parent: what this process did to them would
     * be seen there.  Closing is not. */
    p->poller->fini();
    if (p->poller->init() < 0) {
        /* No descriptors left: wait_fd will say EBADF. */
    }
    if (CPOOL__LOAD(&p->life) == CPOOL__UP && c != NULL) {
        cpool__monitor_ensure();
    }
}
