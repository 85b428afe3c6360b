/* The monitor: one OS thread without a slot that sees to what carriers can't see, because
 * they are busy or in the kernel.
 *
 *      it sees                                         it does
 *      a task mounted for a time slice, others wait    host.preempt
 *      a slot BLOCKED for handoff_ns, work waits       another carrier takes it
 *      started tasks wait at a busy slot, one sleeps   lets them be stolen, wakes it
 *      due timers, or injected tasks, at a busy slot   its holder looks there next, and no
 *                                                      yield is skipped
 *      due timers of a slot that nobody holds          runs them
 *      nobody has polled for a while                   wakes a sleeper to poll, or polls
 *      tasks for whom there was no stack               tries one again, each 10 ms
 *      work and FREE slots (no OS thread could be had) tries again
 *      all carriers there may be, work, and nothing
 *      moves for a while: those may wait for the work  allows one carrier more
 *      a task blocks that is overdue to its host       knock.c: its call ends by EINTR
 *      cold stacks, or idle ones that nobody needed    a step of reclaim.c
 *
 * How often it looks.  Each look computes when something will next be due, half a time
 * slice ahead at most while anything runs.  So a task runs 1 to 1.5 slices before it is
 * asked to yield, and a pool under load costs some 200 looks a second.
 *
 * Naps.  LIGHT, half a time slice at most.  Who finds that a hand-off may be due pokes the
 * monitor, since handoff_ns is microseconds: block_begin, if work waits behind it; a carrier
 * that wants a slot and finds none; who makes work for a slot that is BLOCKED.  Most blocking
 * calls are short, so a poke that led to nothing makes the following sleep unpokable (NONE)
 * and twice as long as the last such sleep, up to a millisecond: programs that enter and
 * leave the kernel all the time pay for at most 1,000 looks a second, and those that really
 * block get their hand-off after some tens of microseconds.
 *
 * DEEP: nothing runs, no look is due, the process uses no CPU.  Whoever makes work without
 * waking a carrier, and whoever makes a slot RUNNING, wakes the monitor:
 *
 *      they                                the monitor
 *      ----                                -----------
 *      1. publish work or RUNNING          1. nap = DEEP
 *      2. full fence, or a seq_cst CAS     2. full fence
 *      3. nap == DEEP: wake                3. look again: nothing? sleep
 *
 * A slot can become BLOCKED by a plain release store without this, because it was RUNNING
 * before: either the monitor saw that and is not DEEP, or it sees BLOCKED, and who makes
 * work for that slot later sees DEEP.  It enters DEEP only after two looks, a while apart,
 * found nothing running and nothing changed, so that a pool that works in short bursts does
 * not pay a wake-up for each. */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define MS                  INT64_C(1000000)
#define BACKOFF_MAX_NS      MS
#define STARVED_RETRY_NS    (10 * MS)
#define FREE_RETRY_NS       (10 * MS)
/* Somebody sleeps who could poll, and nobody has polled for this long. */
#define POLL_GAP_NS         (MS / 2)

struct look {
    int64_t now;
    int64_t next;               /* when to look again                                  */
    bool running;               /* some slot is RUNNING                                */
    bool blocked_work;          /* a hand-off may be due soon                          */
    bool acted;
    bool sleeper;               /* some slot sleeps                                    */
    bool work;                  /* any carrier could take some                         */
    bool stuck;                 /* there is work, and no carrier was to be had for it  */
    bool moved;                 /* some slot is not as it was at the last look         */
    int wanting;                /* carriers that wanted a slot when it began           */
};

/* Monitor only. */
static struct {
    uint64_t poll_count;
    int64_t poll_since, starved_since, stuck_since;
    int64_t unpokable_until, unpokable_for;
    int quiet;                  /* looks in a row that found nothing running           */
} mon;

static void
due(struct look *l, int64_t at)
{
    if (at < l->next) {
        l->next = at;
    }
}

static bool
timers_due(struct cpool_slot *s, int64_t now)
{
    return CPOOL__LOAD(&s->timers.next) <= now;
}

static bool
sticky_waits(struct cpool_slot *s)
{
    struct cpool_carrier *c = cpool__owner(s);
    return c != NULL && cpool__queue_len(&c->sticky) != 0;
}

static void
run_timers(struct look *l, struct cpool_slot *s)
{
    if (timers_due(s, l->now)) {
        cpool__ready_list(cpool__timers_run(s, l->now));
        l->acted = true;
    }
}

/* --- One slot --------------------------------------------------------------------------- */

static void
preempt(struct cpool_slot *s)
{
    struct cpool_carrier *c = cpool__owner(s);
    struct cpool_task *t = c != NULL ? CPOOL__LOAD(&c->task) : NULL;
    if (t != NULL && cpool__pool.host.preempt != NULL
        && !atomic_load(&cpool__pool.gave_up)) {
        CPOOL__COUNT(NULL, preemptions);
        CPOOL__STORE(&s->spent, true);
        cpool__pool.host.preempt(c, t);
    }
}

static void
look_at_backlog(struct look *l, struct cpool_slot *s)
{
    uint64_t dry = CPOOL__LOAD(&s->dry);
    if (!cpool__slot_has_started(s) || dry != s->seen.dry) {
        s->seen.dry = dry;
        s->seen.backlog = 0;
        CPOOL__STORE(&s->backlog_since, 0);
        return;
    }
    if (s->seen.backlog == 0) {
        s->seen.backlog = l->now;
        CPOOL__STORE(&s->backlog_since, l->now);
    }
    if (l->sleeper) {
        if (cpool__may_take_started(s, l->now)) {
            l->work = true;
        }
        else {
            due(l, l->now + MS);
        }
    }
}

static void
look_at_running(struct look *l, struct cpool_slot *s, uint64_t status)
{
    struct cpool__pool *p = &cpool__pool;
    uint64_t tick = CPOOL__LOAD(&s->tick);
    bool timers = timers_due(s, l->now);
    bool injected = cpool__queue_len(&p->injector) != 0;
    l->running = true;
    if (timers || injected) {
        CPOOL__STORE(&s->attention, true);
    }
    bool same = status == s->seen.status && tick == s->seen.tick;
    if (tick != s->seen.tick) {
        s->seen.tick = tick;
        s->seen.mounted = l->now;
    }
    if (!same) {
        s->seen.status = status;
        s->seen.since = l->now;
        l->moved = true;
    }
    if (same && cpool__is_stopping()) {
        preempt(s);
    }
    /* Also a task that enters the kernel and leaves it all the time. */
    else if (l->now - s->seen.mounted >= p->time_slice
             && (timers || cpool__slot_has_tasks(s) || sticky_waits(s)
                 || injected || CPOOL__LOAD(&p->wanting.len) != 0)) {
        s->seen.mounted = l->now;
        l->acted = true;
        preempt(s);
    }
    look_at_backlog(l, s);
    due(l, s->seen.mounted + p->time_slice);
    due(l, l->now + p->time_slice / 2);
}

static void
look_at_blocked(struct look *l, struct cpool_slot *s, uint64_t status)
{
    struct cpool__pool *p = &cpool__pool;
    if (status != s->seen.status) {
        s->seen.status = status;
        s->seen.since = l->now;
        l->moved = true;
    }
    bool own_work = cpool__slot_has_tasks(s) || timers_due(s, l->now);
    bool any_work = cpool__queue_len(&p->injector) != 0 || CPOOL__LOAD(&p->wanting.len) != 0;
    if (!own_work && !(any_work && !l->sleeper)) {
        due(l, CPOOL__LOAD(&s->timers.next));
        return;
    }
    if (l->now - s->seen.since < p->handoff) {
        l->blocked_work = true;
        due(l, s->seen.since + p->handoff);
        return;
    }
    if (cpool__handoff(s, status)) {
        l->acted = true;
        l->running = true;
        due(l, l->now + p->time_slice / 2);
    }
    else {                              /* no carrier to be had, or it came back       */
        l->blocked_work = true;
        l->stuck = true;
        due(l, l->now + p->time_slice / 2);
        run_timers(l, s);               /* its tasks can be stolen, its timers can't   */
        look_at_backlog(l, s);
    }
}

static void
look_at_free(struct look *l, struct cpool_slot *s)
{
    run_timers(l, s);
    due(l, CPOOL__LOAD(&s->timers.next));
    if (!CPOOL__LOAD(&s->retired) && cpool__slot_has_tasks(s)) {
        l->work = true;
        if (cpool__carrier_start(s, false) < 0) {
            l->stuck = true;
            due(l, l->now + FREE_RETRY_NS);
        }
    }
}

/* --- The pool ---------------------------------------------------------------------------- */

static void
look_at_poller(struct look *l)
{
    struct cpool__pool *p = &cpool__pool;
    if (CPOOL__LOAD(&p->fd_waiters) <= 0) {
        return;
    }
    uint64_t count = CPOOL__LOAD(&p->poll_count);
    if (CPOOL__LOAD(&p->poll_owner) != NULL || count != mon.poll_count) {
        mon.poll_count = count;
        mon.poll_since = l->now;
    }
    else if (l->sleeper && l->now - mon.poll_since >= POLL_GAP_NS) {
        l->work = true;                 /* who is woken for it finds none, and polls   */
        mon.poll_since = l->now;
    }
    else if (l->now - mon.poll_since >= p->time_slice) {
        struct cpool_task *woken = NULL;
        cpool__poll(0, &woken);
        cpool__ready_list(woken);
        mon.poll_since = l->now;
    }
    if (CPOOL__LOAD(&p->poll_owner) == NULL) {
        due(l, l->now + (l->sleeper ? POLL_GAP_NS : p->time_slice / 2));
    }
}

static void
look_at_starved(struct look *l)
{
    struct cpool__pool *p = &cpool__pool;
    if (cpool__queue_len(&p->starved) == 0) {
        mon.starved_since = l->now;
        return;
    }
    if (l->now - mon.starved_since >= STARVED_RETRY_NS) {
        cpool__feed_one();
        mon.starved_since = l->now;
    }
    due(l, mon.starved_since + STARVED_RETRY_NS);
}

/* At the limit, with work that waits.  A slot that sleeps has a carrier that takes the work;
 * otherwise something must change: a task mounted, a call that comes back.  When nothing
 * does, those who block may be waiting for the tasks that wait.  A task that computes and
 * leaves its slot to nobody does not count as movement: it may be polling for the same. */
static void
look_at_limit(struct look *l)
{
    struct cpool__pool *p = &cpool__pool;
    if (!l->stuck || l->moved || l->sleeper || mon.stuck_since == 0) {
        mon.stuck_since = l->now;
        CPOOL__STORE(&p->one_more, false);
    }
    if (l->stuck && p->stall != CPOOL_FOREVER) {
        if (l->now - mon.stuck_since >= p->stall) {
            mon.stuck_since = l->now;
            CPOOL__STORE(&p->one_more, true);
            l->next = l->now;           /* the next look finds a carrier for it        */
        }
        due(l, mon.stuck_since + p->stall);
    }
}

static struct look
look(void)
{
    struct cpool__pool *p = &cpool__pool;
    struct look l = {.now = cpool_now(), .next = CPOOL_FOREVER,
                     .wanting = atomic_load(&p->wanting.len)};
    l.sleeper = cpool__sleeping_slot(0) >= 0;
    for (int i = 0; i < cpool__slot_count(); i++) {
        struct cpool_slot *s = cpool__slot(i);
        uint64_t status = atomic_load(&s->status);
        switch (status & CPOOL__S_STATE) {
        case CPOOL__RUNNING:
            look_at_running(&l, s, status);
            break;
        case CPOOL__BLOCKED:
            look_at_blocked(&l, s, status);
            break;
        case CPOOL__SLEEPING:
            if (CPOOL__LOAD(&s->backlog_since) != 0) {
                s->seen.backlog = 0;
                CPOOL__STORE(&s->backlog_since, 0);
            }
            break;
        default:
            look_at_free(&l, s);
            break;
        }
    }
    look_at_poller(&l);
    look_at_starved(&l);
    if (cpool__queue_len(&p->injector) != 0) {
        l.work = true;
        l.stuck = l.stuck || !l.running;
        due(&l, l.now + FREE_RETRY_NS);
    }
    due(&l, cpool__knock_look(l.now));
    due(&l, cpool__reclaim(l.now));
    if (l.work) {
        cpool__work_made();
    }
    look_at_limit(&l);
    if (cpool__is_stopping()) {
        due(&l, l.now + MS);
    }
    return l;
}

/* --- Its OS thread ------------------------------------------------------------------------ */

/* True if somebody has woken it. */
static bool
nap(enum cpool__nap depth, int64_t until)
{
    struct cpool__pool *p = &cpool__pool;
    uint32_t expected = depth;
    cpool__futex_wait(&p->nap, depth, until);
    return !atomic_compare_exchange_strong(&p->nap, &expected, CPOOL__NAP_NONE);
}

static void *
monitor_main(void *arg)
{
    (void)arg;
    struct cpool__pool *p = &cpool__pool;
    pthread_setname_np(pthread_self(), "monitor");
    cpool__exact_timers();
    for (;;) {
        struct look l = look();
        mon.quiet = l.running ? 0 : mon.quiet + 1;
        if (l.acted) {
            mon.unpokable_for = 0;
        }
        if (CPOOL__LOAD(&p->life) != CPOOL__UP && atomic_load(&p->alive) == 0) {
            break;
        }
        if (mon.quiet >= 2 && !l.blocked_work) {
            /* seq_cst: partner cpool__monitor_notice */
            atomic_store(&p->nap, CPOOL__NAP_DEEP);
            cpool__full_fence();
            l = look();
            if (l.running || l.blocked_work) {
                atomic_store(&p->nap, CPOOL__NAP_NONE);
                continue;
            }
            nap(CPOOL__NAP_DEEP, l.next);
            if (CPOOL__LOAD(&p->life) == CPOOL__UP) {
                mon.quiet = 0;
            }
            continue;
        }
        /* Also when nothing runs, so that the next nap is DEEP: who makes work wakes it
         * from that one only. */
        due(&l, l.now + p->time_slice / 2);
        if (l.now < mon.unpokable_until) {
            int64_t until = mon.unpokable_until < l.next ? mon.unpokable_until : l.next;
            cpool__futex_wait(&p->nap, CPOOL__NAP_NONE, until);
            continue;
        }
        /* seq_cst: partners cpool_stop, cpool__slots_match_lock_held */
        atomic_store(&p->nap, CPOOL__NAP_LIGHT);
        cpool__full_fence();
        if (atomic_load(&p->wanting.len) > l.wanting) {
            atomic_store(&p->nap, CPOOL__NAP_NONE);
            continue;
        }
        if (cpool__is_stopping() && l.next > l.now + MS) {
            l.next = l.now + MS;
        }
        if (nap(CPOOL__NAP_LIGHT, l.next)) {
            mon.unpokable_for = 2 * mon.unpokable_for;
            if (mon.unpokable_for < p->handoff) {
                mon.unpokable_for = p->handoff;
            }
            if (mon.unpokable_for > BACKOFF_MAX_NS) {
                mon.unpokable_for = BACKOFF_MAX_NS;
            }
            mon.unpokable_until = cpool_now() + mon.unpokable_for;
        }
    }
    atomic_store(&p->nap, CPOOL__NAP_ABSENT);
    cpool__futex_wake(&p->nap, INT32_MAX);
    return NULL;
}

void
cpool__monitor_wake(void)
{
    struct cpool__pool *p = &cpool__pool;
    uint32_t deep = CPOOL__NAP_DEEP;
    if (atomic_compare_exchange_strong(&p->nap, &deep, CPOOL__NAP_NONE)) {
        cpool__futex_wake(&p->nap, 1);
    }
}

void
cpool__monitor_poke_slow(void)
{
    struct cpool__pool *p = &cpool__pool;
    uint32_t light = CPOOL__NAP_LIGHT;
    if (atomic_compare_exchange_strong(&p->nap, &light, CPOOL__NAP_NONE)) {
        cpool__futex_wake(&p->nap, 1);
    }
}

/* Starts it if it does not run.  Without it (no OS thread to be had) tasks still run; the
 * next carrier that starts tries again. */
void
cpool__monitor_ensure(void)
{
    struct cpool__pool *p = &cpool__pool;
    uint32_t absent = CPOOL__NAP_ABSENT;
    if (!atomic_compare_exchange_strong(&p->nap, &absent, CPOOL__NAP_NONE)) {
        return;
    }
    memset(&mon, 0, sizeof(mon));
    cpool__reclaim_reset();
    if (cpool__create_thread(monitor_main, NULL) != 0) {
        atomic_store(&p->nap, CPOOL__NAP_ABSENT);
    }
}
