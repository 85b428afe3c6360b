/* What a carrier does: find a task, run it, commit what it wanted when it left its stack.
 *
 * Where a carrier with a slot looks, in this order:
 *
 *      - the pool stops; its slot has retired; a carrier wants a slot, because it came back
 *        from the kernel with a task mounted, or because tasks are bound to it (it gets this
 *        one after a short while, so that neither queues nor OS threads are all that moves)
 *      - each 61st time, or when the monitor has asked for it (61 tasks can take long):
 *        the poller, and the injector before its own queues, so that neither starves under
 *        a slot that never runs dry (61: Go's number, a prime, so that it doesn't fall into
 *        step with the program)
 *      - the LIFO place, at most three times in a row: then two tasks that wake each other
 *        have to queue like everybody
 *      - in turns: tasks bound to this carrier, tasks that have run here, new tasks (the
 *        own ones, then the injector, where the overflow of all rings is)
 *      - due timers (each 16th time also before the queues)
 *      - tasks that have had a time slice, after a look at the poller, so that whatever can be
 *        woken goes first (each 61st time they are the first, so that they go on too)
 *      - new tasks of other slots; started ones, where the policy in slot.c
 *        allows it
 *      - the host's idle(), then sleep
 *
 * Nothing of a task is touched once it is queued or PARKED: the next carrier may have it. */

#include "cpool/cpool_internal.h"

#include <errno.h>

#define POLL_TICKS  61
#define TIMER_TICKS 16
#define LIFO_RUN    3
/* A spinner looks around at least this often, with so many pauses between: 2 to 5 us in all. */
#define SPIN_ROUNDS 4
#define SPIN_PAUSES 30
/* A slot that others want is kept this long: some tens of times what a change of OS threads
 * costs, and little for a task that waits to go on. */
#define PASS_AFTER_NS 200000

/* --- Find ---------------------------------------------------------------------------- */

static struct cpool_task *
take_started(struct cpool_slot *s)
{
    struct cpool_task *t = cpool__ring_pop(&s->started);
    if (t == NULL && cpool__queue_len(&s->inbox) != 0) {
        t = cpool__queue_pop_list(&s->inbox, s->started.size / 2);
        if (t != NULL) {
            for (struct cpool_task *u = t->next, *next; u != NULL; u = next) {
                next = u->next;
                /* The ring was empty and only its holder fills it. */
                bool pushed = cpool__ring_push(&s->started, u);
                CONT_CHECK(pushed);
            }
        }
    }
    if (t != NULL && !cpool__slot_has_started(s)) {
        CPOOL__STORE(&s->dry, CPOOL__LOAD(&s->dry) + 1);
    }
    return t;
}

static struct cpool_task *
take_injected(struct cpool_slot *s, bool only_one)
{
    struct cpool__queue *q = &cpool__pool.injector;
    size_t n = cpool__queue_len(q);
    if (n == 0) {
        return NULL;
    }
    n = n / (size_t)CPOOL__LOAD(&cpool__pool.parallelism) + 1;
    if (n > s->fresh.size / 2) {
        n = s->fresh.size / 2;
    }
    return cpool__first_of(s, cpool__queue_pop_list(q, only_one ? 1 : n));
}

static struct cpool_task *
take_local(struct cpool_carrier *c, struct cpool_slot *s)
{
    struct cpool_task *t = cpool__take_lifo(s);
    if (t != NULL) {
        if (++s->lifo_run <= LIFO_RUN) {
            return t;
        }
        cpool__push_started(s, t);
    }
    s->lifo_run = 0;
    unsigned turn = (unsigned)(CPOOL__LOAD(&s->tick) % 3);
    for (unsigned i = 0; i < 3; i++) {
        switch ((turn + i) % 3) {
        case 0:
            t = cpool__queue_pop(&c->sticky);
            break;
        case 1:
            t = take_started(s);
            break;
        case 2:
            t = cpool__ring_pop(&s->fresh);
            if (t == NULL) {
                t = take_injected(s, false);
            }
            break;
        }
        if (t != NULL) {
            return t;
        }
    }
    return NULL;
}

static bool
run_timers(struct cpool_slot *s)
{
    int64_t next = CPOOL__LOAD(&s->timers.next);
    if (next == CPOOL_FOREVER || next > cpool_now()) {
        return false;
    }
    struct cpool_task *woken = cpool__timers_run(s, cpool_now());
    cpool__ready_list(woken);
    return woken != NULL;
}

static bool
poll_now(void)
{
    if (!cpool__may_poll()) {
        return false;
    }
    struct cpool_task *woken = NULL;
    cpool__poll(0, &woken);
    cpool__ready_list(woken);
    return woken != NULL;
}

static struct cpool_task *
search(struct cpool_carrier *c, struct cpool_slot *s)
{
    struct cpool_task *t = cpool__steal(s);
    if (t != NULL) {
        return t;
    }
    /* The poller may have something at once: better than to look at idle queues. */
    if (!c->cede_poll && cpool__may_poll()) {
        return NULL;
    }
    int64_t until = cpool__patience(c);
    if (!cpool__try_spin(c, until != 0)) {
        return NULL;
    }
    for (int round = 0; round < SPIN_ROUNDS || cpool__is_patient(c, s, until); round++) {
        for (int i = 0; i < SPIN_PAUSES; i++) {
            cpool__pause();
        }
        if ((t = take_local(c, s)) != NULL || (t = cpool__steal(s)) != NULL) {
            break;
        }
    }
    cpool__spun(c, until, t != NULL);
    return t;
}

enum passed { KEPT, GOT_ANOTHER, ENDS };

/* Under pool.lock, which it releases: c has given its slot to another one, or not. */
static enum passed
after_pass(struct cpool_carrier *c, bool passed)
{
    struct cpool__pool *p = &cpool__pool;
    bool waits = passed && cpool__carrier_let_go_lock_held(c);
    cpool__unlock(&p->lock);
    return !passed ? KEPT : waits && cpool__carrier_await_slot(c) ? GOT_ANOTHER : ENDS;
}

/* Gives the slot to a carrier that waits for one, if any does.  One without a mounted task has
 * something to do for itself, and only borrows the slot: were it to go on with the tasks there,
 * they would all have moved, and leave more behind for this one to do. */
static enum passed
pass_slot_on(struct cpool_carrier *c, struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__stop_spinning(c);
    cpool__lock(&p->lock);
    struct cpool_carrier *next = p->wanting.head;
    if (next != NULL && CPOOL__LOAD(&next->task) == NULL && next != c->lender) {
        next->lender = c->lender != NULL ? c->lender : c;
    }
    return after_pass(c, cpool__slot_give_lock_held(s));
}

/* A lender that lost the slot in the kernel waits when it has come back, and a task that waited
 * behind its own has run. */
static bool
lender_wants(struct cpool_carrier *c)
{
    struct cpool_carrier *lender = c->lender;
    return lender != NULL && CPOOL__LOAD(&lender->mode) != CPOOL__MODE_BLOCK
           && (CPOOL__LOAD(&lender->task) == NULL || c->ran);
}

/* The slot is borrowed, and its lender waits: c has done what it wanted it for, or has had its
 * turn.  It keeps the slot if the lender has another one, or has ended. */
static enum passed
return_slot(struct cpool_carrier *c, struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_carrier *lender = c->lender;
    c->lender = NULL;
    cpool__stop_spinning(c);
    cpool__lock(&p->lock);
    enum cpool__mode mode = CPOOL__LOAD(&lender->mode);
    bool waits = mode == CPOOL__MODE_SPARE || mode == CPOOL__MODE_WANT;
    if (waits) {
        cpool__carriers_remove(mode == CPOOL__MODE_SPARE ? &p->spares : &p->wanting, lender);
        cpool__slot_give_to_lock_held(s, lender);
    }
    return after_pass(c, waits);
}

static void
give_slot_up(struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__slot_drain(s);
    cpool__lock(&p->lock);
    cpool__slot_release_lock_held(s);
    cpool__unlock(&p->lock);
    if (cpool__work_waits()) {
        cpool__work_made();
    }
}

/* Others want c's slot: has it had its turn? */
static bool
should_pass(struct cpool_carrier *c)
{
    if (!c->ran) {
        return false;
    }
    int64_t now = cpool_now();
    if (c->wanted_since == 0) {
        c->wanted_since = now;
    }
    return now - c->wanted_since >= PASS_AFTER_NS;
}

/* True if there is a task now. */
static bool
attend(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    /* seq_cst: cleared, then looked; partner cpool_carrier_attend, whose caller has left what
     * there is to do before. */
    atomic_store(&c->attend, false);
    return p->host.idle != NULL && p->host.idle(c);
}

static bool
has_own_work(struct cpool_carrier *c)
{
    return (atomic_load(&c->attend) && attend(c)) || cpool__queue_len(&c->sticky) != 0;
}

/* The next task, or NULL if this OS thread is to end. */
static struct cpool_task *
find(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    for (;;) {
        struct cpool_slot *s = CPOOL__LOAD(&c->slot);
        struct cpool_task *t;
        if (cpool__is_stopping()) {
            return NULL;
        }
        if (CPOOL__LOAD(&s->retired)) {
            cpool__stop_spinning(c);
            give_slot_up(s);
            if (!cpool__carrier_without_slot(c)) {
                return NULL;
            }
            continue;
        }
        enum passed passed = KEPT;
        bool lender_waits = lender_wants(c);
        if (CPOOL__LOAD(&p->wanting.len) == 0 && !lender_waits) {
            c->wanted_since = 0;
        }
        else if (should_pass(c)) {
            passed = pass_slot_on(c, s);
        }
        else if (lender_waits && has_own_work(c)
                 && (t = cpool__queue_pop(&c->sticky)) != NULL) {
            return t;
        }
        if (passed == KEPT && lender_waits) {
            passed = return_slot(c, s);
        }
        if (passed == ENDS) {
            return NULL;
        }
        if (passed == GOT_ANOTHER) {
            continue;
        }
        uint64_t tick = CPOOL__LOAD(&s->tick);
        bool attention = CPOOL__LOAD(&s->attention);
        if (attention) {
            CPOOL__STORE(&s->attention, false);
        }
        if (attention || tick % TIMER_TICKS == 0) {
            run_timers(s);
        }
        if (attention || tick % POLL_TICKS == 0) {
            poll_now();
            t = take_injected(s, true);
            if (t != NULL) {
                return t;
            }
        }
        if (tick % POLL_TICKS == POLL_TICKS / 2
            && (t = cpool__queue_pop(&s->preempted)) != NULL) {
            return t;
        }
        if (cpool__chaos(s, 8) && (t = cpool__steal(s)) != NULL) {
            return t;
        }
        t = take_local(c, s);
        if (t != NULL) {
            return t;
        }
        if (run_timers(s) || (cpool__queue_len(&s->preempted) != 0 && poll_now())) {
            continue;
        }
        t = cpool__queue_pop(&s->preempted);
        if (t != NULL) {
            return t;
        }
        t = search(c, s);
        if (t != NULL) {
            return t;
        }
        /* Before the slot is passed on, as c would want it back for this. */
        if (attend(c)) {
            continue;
        }
        if (CPOOL__LOAD(&p->wanting.len) != 0) {
            c->ran = true;              /* it has nothing to run: pass the slot on     */
            c->wanted_since = 1;
            continue;
        }
        if (!cpool__sleep(c) && !cpool__carrier_without_slot(c)) {
            return NULL;
        }
    }
}

/* --- Run ------------------------------------------------------------------------------ */

/* Puts a task that ran here, and is RUNNABLE, at the end of its queue. */
static void
requeue(struct cpool_carrier *c, struct cpool_slot *s, struct cpool_task *t)
{
    struct cpool_slot *astray;
    if (t->flags & CPOOL_TASK_STICKY) {
        cpool__queue_push(&c->sticky, t);
    }
    else if ((astray = cpool__send_astray(s, t)) != NULL) {
        cpool__push_remote(astray, t);
    }
    else {
        cpool__push_started(s, t);
    }
}

/* The body has returned only for now, and its stack was given back: the next resume is a
 * first one. */
static void
begin_anew(struct cpool_slot *s, struct cpool_task *t)
{
    CPOOL__COUNT(s, returns);
    t->flags &= ~(uint32_t)CPOOL_TASK_WATCHED;  /* the reclaimer knew the stack         */
    cont_init(&t->cont, cpool__entry, t);
}

static void
commit_park(struct cpool_carrier *c, struct cpool_slot *s, struct cpool_task *t)
{
    CPOOL__COUNT(s, parks);
    if (c->woke != 0) {
        cpool__pair_parks(c, t);
    }
    if (t->flags & CPOOL_TASK_STICKY) {
        c->sticky_count++;
    }
    if (c->deadline != CPOOL_FOREVER) {
        t->timer.deadline = c->deadline;
        cpool__timer_insert(s, t);
    }
    if (cont_state(&t->cont) != CONT_NEW) {
        cpool__reclaim_before_commit(s, t);
    }
    if (cpool__task_commit_park(t)) {
        requeue(c, s, t);
    }
}

static void
commit_yield(struct cpool_carrier *c, struct cpool_slot *s, struct cpool_task *t)
{
    CPOOL__COUNT(s, yields);
    if (t->flags & CPOOL_TASK_STICKY) {
        c->sticky_count++;
    }
    atomic_fetch_add_explicit(&t->word, (uint64_t)CPOOL_RUNNABLE - CPOOL_RUNNING,
                              memory_order_acq_rel);
    if (CPOOL__LOAD(&s->spent) && !(t->flags & CPOOL_TASK_STICKY)
        && !cpool__pool.always_move) {
        cpool__push_preempted(s, t);
    }
    else {
        requeue(c, s, t);
    }
}

/* No stack could be had for its first run, or the next one after a park at return.  It waits
 * until a task ends somewhere; if none does, the monitor tries again now and then: others may
 * have freed memory. */
static void
starve(struct cpool_carrier *c, struct cpool_task *t)
{
    if (t->flags & CPOOL_TASK_STICKY) {
        c->sticky_count++;
    }
    t->flags &= ~(uint32_t)CPOOL_TASK_STARTED;
    atomic_fetch_add_explicit(&t->word, (uint64_t)CPOOL_RUNNABLE - CPOOL_RUNNING,
                              memory_order_acq_rel);
    cpool__queue_push(&cpool__pool.starved, t);
    cpool__monitor_notice();
}

/* Lets one of them try again. */
void
cpool__feed_one(void)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_task *t = cpool__queue_pop(&p->starved);
    if (t == NULL) {
        return;
    }
    if (t->flags & CPOOL_TASK_STICKY) {
        struct cpool_carrier *its = CPOOL__LOAD(&t->carrier);
        cpool__queue_push(&its->sticky, t);
        cpool__wake_sticky(its);
    }
    else {
        cpool__queue_push(&p->injector, t);
        cpool__work_made();
    }
}

static void
finish(struct cpool_carrier *c, struct cpool_slot *s, struct cpool_task *t)
{
    struct cpool__pool *p = &cpool__pool;
    /* release: partner cpool_get_stats, which then sees that it had been spawned */
    atomic_store_explicit(&s->counters.finished, CPOOL__LOAD(&s->counters.finished) + 1,
                          memory_order_release);
    atomic_fetch_add_explicit(&t->word, (uint64_t)CPOOL_DONE - CPOOL_RUNNING,
                              memory_order_acq_rel);
    cpool__feed_one();
    p->host.finished(c, t);
}

static void
run(struct cpool_carrier *c, struct cpool_task *t)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    cpool__stop_spinning(c);
    c->cede_poll = false;
    if (t->flags & CPOOL_TASK_STICKY) {
        CONT_CHECK(CPOOL__LOAD(&t->carrier) == c && c->sticky_count > 0);
        c->sticky_count--;
    }
    else if ((t->flags & CPOOL_TASK_STARTED) && CPOOL__LOAD(&t->carrier) != c) {
        CPOOL__COUNT(s, migrations);
    }
    t->flags |= CPOOL_TASK_STARTED;
    CPOOL__STORE(&t->carrier, c);
    t->home = s;
    uint64_t w = atomic_fetch_add_explicit(&t->word,
                                           (uint64_t)CPOOL_RUNNING - CPOOL_RUNNABLE,
                                           memory_order_acq_rel);
    if (CONT__UNLIKELY(w & CPOOL__W_FROZEN)) {
        cpool__thaw(s, t);
    }
    c->ran = true;
    c->woke = 0;
    CPOOL__STORE(&s->tick, CPOOL__LOAD(&s->tick) + 1);
    if (CONT__UNLIKELY(CPOOL__LOAD(&s->spent))) {
        CPOOL__STORE(&s->spent, false);
    }
    CPOOL__STORE(&c->task, t);
    c->action = CPOOL__DO_END;
    p->host.mount(c, t);
    int r = cont_resume(&t->cont);
    p->host.unmount(c, t);
    CPOOL__STORE(&c->task, NULL);
    s = CPOOL__LOAD(&c->slot);          /* another one, if t has blocked too long      */
    if (CONT__UNLIKELY(r != 0)) {
        CONT_CHECK(r == -ENOMEM);
        starve(c, t);
        return;
    }
    if (c->action != CPOOL__DO_END && cont_state(&t->cont) == CONT_DONE) {
        begin_anew(s, t);
    }
    switch (c->action) {
    case CPOOL__DO_PARK:
        commit_park(c, s, t);
        break;
    case CPOOL__DO_YIELD:
        commit_yield(c, s, t);
        break;
    case CPOOL__DO_END:
        finish(c, s, t);
        break;
    }
}

void
cpool__worker(struct cpool_carrier *c)
{
    struct cpool_task *t;
    while ((t = find(c)) != NULL) {
        run(c, t);
    }
}
