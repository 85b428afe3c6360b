/* States of a task, and everything that changes them.
 *
 * The word of a task is one atomic:
 *
 *      63              9    8      7       6        5     4      3      2   0
 *      +----------------+------+-------+--------+-----+------+-------+-----+
 *      | sequence: parks| INTR | FROZEN| MOVABLE| DEAF| WOKEN| TOKEN |state|
 *      +----------------+------+-------+--------+-----+------+-------+-----+
 *
 * TOKEN is what cpool_unpark gives and cpool_park takes.  WOKEN says that a timer or the
 * poller has ended the wait at hand; it is a channel of its own, so that a sleep or a wait
 * for a descriptor (DEAF: tokens are no reason to end it) neither loses nor takes a token
 * that somebody gave for a later park.  INTR is a token too, that any wait takes: given by
 * cpool_interrupt, it ends the wait at hand or else the next one.
 *
 *      from       to         cause, and by whom
 *      NEW        RUNNABLE   cpool_spawn                                  spawner
 *      RUNNABLE   RUNNING    mount                                        carrier
 *      RUNNING    RUNNABLE   yield, committed; no stack could be had      carrier
 *      RUNNING    PARKING    park or wait begun, or begun by its return   the task
 *      PARKING    RUNNING    wait given up before the switch              the task
 *      PARKING    PARKED     stack left, no reason to run                 carrier
 *      PARKING    RUNNABLE   stack left, but TOKEN, WOKEN or INTR is set  carrier
 *      PARKED     RUNNABLE   unpark (not if DEAF), timer, poller,         waker
 *                            interrupt
 *      PARKED     PARKING    claimed, to be frozen or trimmed             reclaimer
 *      PARKING    PARKED     done with it, no reason to run               reclaimer
 *      PARKING    RUNNABLE   done with it, but TOKEN, WOKEN, INTR is set  reclaimer
 *      RUNNING    PINNED     pinned_begin                                 the task
 *      PINNED     RUNNING    pinned_end                                   the task
 *      RUNNING    DONE       body returned, stack given back              carrier
 *
 * The reclaimer's claim is the end of a park once more: a wake-up that comes meanwhile
 * leaves its bit, which the reclaimer finds when it commits; so nobody waits for it, nobody
 * runs on a stack at which it works, and no wake-up is lost.  MOVABLE is the host's word for
 * the wait at hand; FROZEN is set under a claim (or by the parking carrier, before PARKED is
 * published) and cleared by the carrier that mounts.
 *
 * A park at return is the same park of a task whose stack is empty: its continuation is made
 * anew after the stack was given back, before PARKED is published, and the bits of the wait
 * are taken on the next stack.
 *
 * Unpark in any other state than PARKED only sets TOKEN, interrupt only INTR.  Whoever makes a
 * task RUNNABLE owns it until it is in a queue: nobody else can run it, end it or free it.
 *
 * PARKED is published by the carrier, on its own stack, after the task's stack was left
 * and after the host's unmount: the next carrier may resume the task in the same moment.
 * From then on the old carrier doesn't touch the task.
 *
 * Ordering: the CAS that publishes PARKED releases what the task wrote, stack included;
 * the CAS of the waker acquires it, and the queue carries it to the carrier that resumes.
 * Every change is a read-modify-write, so TOKEN's release reaches the park that takes it
 * however many others stood between. */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <string.h>

static inline enum cpool_task_state
state_of(uint64_t word)
{
    return (enum cpool_task_state)(word & CPOOL__W_STATE);
}

static inline bool
change(struct cpool_task *t, uint64_t *from, uint64_t to)
{
    return atomic_compare_exchange_weak_explicit(&t->word, from, to, memory_order_acq_rel,
                                                 memory_order_acquire);
}

static void end_returned_wait(struct cpool_task *t);

void
cpool__entry(void *arg)
{
    struct cpool_task *t = arg;
    if (t->flags & CPOOL_TASK_RETURNED) {
        end_returned_wait(t);
    }
    cpool__pool.host.run(t);
}

void
cpool_task_init(struct cpool_task *t)
{
    memset(t, 0, sizeof(*t));
    atomic_init(&t->word, CPOOL_NEW);
    atomic_init(&t->timer.slot, NULL);
    t->wait.task = t;
    cont_init(&t->cont, cpool__entry, t);
}

enum cpool_task_state
cpool_task_state(const struct cpool_task *t)
{
    return state_of(atomic_load_explicit(&((struct cpool_task *)t)->word,
                                         memory_order_acquire));
}

struct cpool_carrier *
cpool_task_carrier(const struct cpool_task *t)
{
    return CPOOL__LOAD(&((struct cpool_task *)t)->carrier);
}

const char *
cpool_task_reason(const struct cpool_task *t)
{
    return CPOOL__LOAD(&((struct cpool_task *)t)->reason);
}

int
cpool_task_is_frozen(const struct cpool_task *t)
{
    return (CPOOL__LOAD(&((struct cpool_task *)t)->word) & CPOOL__W_FROZEN) != 0;
}

struct cpool_task *
cpool_current(void)
{
    struct cpool_carrier *c = cpool__self();
    return c != NULL ? CPOOL__LOAD(&c->task) : NULL;
}

struct cpool_carrier *
cpool_current_carrier(void)
{
    return cpool__self();
}

/* --- Into the queues ------------------------------------------------------------- */

/* Queues a task that the caller has made RUNNABLE and that has run before. */
void
cpool__ready(struct cpool_task *t)
{
    struct cpool_carrier *c = cpool__self();
    struct cpool_slot *mine = cpool__held_slot(c);
    CPOOL__COUNT(mine, unparks);
    if (t->flags & CPOOL_TASK_STICKY) {
        struct cpool_carrier *its = CPOOL__LOAD(&t->carrier);
        cpool__queue_push(&its->sticky, t);
        if (its != c || mine == NULL) {
            cpool__wake_sticky(its);
        }
        return;
    }
    struct cpool_slot *astray = cpool__send_astray(mine, t);
    if (astray != NULL) {
        cpool__push_remote(astray, t);
    }
    else if (t->home == mine || (mine != NULL && cpool__pair_meets(c, t))) {
        cpool__push_started(mine, t);
    }
    else {
        cpool__push_remote(t->home, t);
    }
}

/* The same, but t should run next here, and moves here for it. */
void
cpool__ready_local(struct cpool_task *t)
{
    struct cpool_slot *mine = cpool__held_slot(cpool__self());
    if (mine == NULL || (t->flags & CPOOL_TASK_STICKY)
        || (cpool__pool.always_move && t->home == mine)) {
        cpool__ready(t);
        return;
    }
    CPOOL__COUNT(mine, unparks);
    /* acq_rel: partner whoever takes it out, worker.c */
    struct cpool_task *old = atomic_exchange_explicit(&mine->lifo, t, memory_order_acq_rel);
    if (old != NULL) {
        cpool__push_started(mine, old);
    }
}

void
cpool__ready_list(struct cpool_task *list)
{
    while (list != NULL) {
        struct cpool_task *t = list;
        list = t->next;
        cpool__ready(t);
    }
}

/* --- Unpark ------------------------------------------------------------------------ */

/* Gives the token; true if the caller has to queue t. */
static bool
give_token(struct cpool_task *t)
{
    uint64_t w = CPOOL__LOAD(&t->word), to;
    do {
        to = w | CPOOL__W_TOKEN;
        if (state_of(w) == CPOOL_PARKED && !(w & CPOOL__W_DEAF)) {
            to = (to & ~CPOOL__W_STATE) | CPOOL_RUNNABLE;
        }
        /* Also when nothing changes: the release must reach the park that takes it. */
    } while (!change(t, &w, to));
    return state_of(w) != state_of(to);
}

void
cpool_unpark(struct cpool_task *t)
{
    if (give_token(t)) {
        cpool__ready(t);
    }
}

void
cpool_unpark_local(struct cpool_task *t)
{
    if (give_token(t)) {
        cpool__ready_local(t);
    }
}

void
cpool_interrupt(struct cpool_task *t)
{
    uint64_t w = CPOOL__LOAD(&t->word), to;
    do {
        to = w | CPOOL__W_INTR;
        if (state_of(w) == CPOOL_PARKED) {
            to = (to & ~CPOOL__W_STATE) | CPOOL_RUNNABLE;
        }
        /* Also when nothing changes: the release must reach the wait that takes it. */
    } while (!change(t, &w, to));
    if (state_of(w) == CPOOL_PARKED) {
        cpool__ready(t);
    }
    else {
        cpool__knock_soon(t);
    }
}

/* Timers and poller, under the lock of what t is linked into: true if the caller has to
 * queue t. */
bool
cpool__task_end_wait(struct cpool_task *t)
{
    uint64_t w = CPOOL__LOAD(&t->word), to;
    do {
        to = w | CPOOL__W_WOKEN;
        switch (state_of(w)) {
        case CPOOL_PARKING:
            break;
        case CPOOL_PARKED:
            to = (to & ~CPOOL__W_STATE) | CPOOL_RUNNABLE;
            break;
        default:                        /* something else has ended this wait          */
            return false;
        }
    } while (!change(t, &w, to));
    return state_of(w) == CPOOL_PARKED;
}

/* --- Park ---------------------------------------------------------------------------- */

static struct cpool_carrier *
mounted_carrier(struct cpool_task *t)
{
    struct cpool_carrier *c = cpool__self();
    CONT_CHECK(c != NULL && !c->blocked && CPOOL__LOAD(&c->task) == t);
    return c;
}

static void
begin(struct cpool_task *t, uint64_t mode)
{
    uint64_t w = CPOOL__LOAD(&t->word), to;
    if ((t->flags & (CPOOL_TASK_MOVABLE | CPOOL_TASK_STICKY)) == CPOOL_TASK_MOVABLE) {
        mode |= CPOOL__W_MOVABLE;
    }
    do {
        CONT_ASSERT(state_of(w) == CPOOL_RUNNING);
        to = (w & ~(CPOOL__W_STATE | CPOOL__W_WOKEN | CPOOL__W_DEAF | CPOOL__W_MOVABLE))
             + CPOOL__W_SEQ;
        to |= CPOOL_PARKING | mode;
    } while (!change(t, &w, to));
}

/* Leaves the stack; comes back RUNNING, perhaps on another carrier. */
static void
leave(struct cpool_task *t, int64_t deadline, const char *reason)
{
    struct cpool_carrier *c = mounted_carrier(t);
    CPOOL__STORE(&t->reason, reason);
    c->action = CPOOL__DO_PARK;
    c->deadline = deadline;
    cont_yield(&t->cont);
    cpool__timer_cancel(t);
}

/* The reclaimer, of a task that cannot end before this returns: true if it was parked as
 * `word` says, and is the caller's until cpool__task_commit_park. */
bool
cpool__task_claim(struct cpool_task *t, uint64_t word)
{
    CONT_ASSERT(state_of(word) == CPOOL_PARKED);
    uint64_t to = (word & ~CPOOL__W_STATE) | CPOOL_PARKING;
    /* acquire: partner cpool__task_commit_park, which has released the stack */
    return atomic_compare_exchange_strong_explicit(&t->word, &word, to,
                                                   memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* On the carrier's stack, t's stack left and unmounted; or under a claim.  True if t is
 * RUNNABLE already and has to be queued; else t must not be touched any more. */
bool
cpool__task_commit_park(struct cpool_task *t)
{
    uint64_t w = CPOOL__LOAD(&t->word), to;
    do {
        CONT_ASSERT(state_of(w) == CPOOL_PARKING);
        uint64_t wakes = CPOOL__W_WOKEN | CPOOL__W_INTR
                         | (w & CPOOL__W_DEAF ? 0 : CPOOL__W_TOKEN);
        to = (w & ~CPOOL__W_STATE) | (w & wakes ? CPOOL_RUNNABLE : CPOOL_PARKED);
    } while (!change(t, &w, to));
    return state_of(to) == CPOOL_RUNNABLE;
}

int
cpool_park(int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    uint64_t w;
    /* acquire: partner give_token */
    if (atomic_load_explicit(&t->word, memory_order_relaxed) & CPOOL__W_TOKEN) {
        atomic_fetch_and_explicit(&t->word, ~CPOOL__W_TOKEN, memory_order_acquire);
        return 0;
    }
    if (deadline <= 0) {
        return -ETIMEDOUT;
    }
    begin(t, 0);
    leave(t, deadline, reason);
    w = atomic_fetch_and_explicit(&t->word,
                                  ~(CPOOL__W_TOKEN | CPOOL__W_WOKEN | CPOOL__W_INTR),
                                  memory_order_acquire);
    return w & CPOOL__W_TOKEN ? 0 : w & CPOOL__W_INTR ? -EINTR : -ETIMEDOUT;
}

/* A wait that ends by timer or poller, not by tokens.  Between begin and switch (or abort)
 * the task enters itself where the poller will find it. */
void
cpool__wait_begin(struct cpool_task *t)
{
    begin(t, CPOOL__W_DEAF);
}

void
cpool__wait_abort(struct cpool_task *t)
{
    uint64_t w = CPOOL__LOAD(&t->word), to;
    do {
        to = w & ~(CPOOL__W_STATE | CPOOL__W_WOKEN | CPOOL__W_DEAF);
        to |= CPOOL_RUNNING;
    } while (!change(t, &w, to));
}

/* How the wait ended if nothing that it waited for has: -EINTR or -ETIMEDOUT. */
int
cpool__wait_switch(struct cpool_task *t, int64_t deadline, const char *reason)
{
    leave(t, deadline, reason);
    uint64_t w = atomic_fetch_and_explicit(
        &t->word, ~(CPOOL__W_WOKEN | CPOOL__W_DEAF | CPOOL__W_INTR), memory_order_acquire);
    return w & CPOOL__W_INTR ? -EINTR : -ETIMEDOUT;
}

int
cpool_sleep(int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    if (deadline <= 0) {
        return 0;
    }
    cpool__wait_begin(t);
    return cpool__wait_switch(t, deadline, reason) == -EINTR ? -EINTR : 0;
}

/* --- Waits without a stack ------------------------------------------------------------ */

/* What the carrier is to do when the body has returned: worker.c. */
static struct cpool_carrier *
return_for(struct cpool_task *t, enum cpool__action action)
{
    struct cpool_carrier *c = mounted_carrier(t);
    c->action = action;
    return c;
}

/* As cpool__wait_switch, for the return. */
void
cpool__wait_return(struct cpool_task *t, int64_t deadline, const char *reason)
{
    t->flags |= CPOOL_TASK_RETURNED;
    CPOOL__STORE(&t->reason, reason);
    return_for(t, CPOOL__DO_PARK)->deadline = deadline;
}

void
cpool_park_at_return(int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    begin(t, 0);
    cpool__wait_return(t, deadline, reason);
}

void
cpool_sleep_at_return(int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    cpool__wait_begin(t);
    cpool__wait_return(t, deadline, reason);
}

void
cpool_yield_at_return(void)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    return_for(t, CPOOL__DO_YIELD);
}

/* On the next stack: as the ends of cpool_park and cpool__wait_switch. */
static void
end_returned_wait(struct cpool_task *t)
{
    cpool__timer_cancel(t);
    t->flags &= ~(uint32_t)(CPOOL_TASK_RETURNED | CPOOL_TASK_TIMED_OUT
                            | CPOOL_TASK_INTERRUPTED);
    bool deaf = (CPOOL__LOAD(&t->word) & CPOOL__W_DEAF) != 0;
    uint64_t takes = CPOOL__W_WOKEN | CPOOL__W_INTR
                     | (deaf ? CPOOL__W_DEAF : CPOOL__W_TOKEN);
    /* acquire: partners give_token, cpool_interrupt */
    uint64_t w = atomic_fetch_and_explicit(&t->word, ~takes, memory_order_acquire);
    if (!deaf && (w & CPOOL__W_TOKEN)) {
        return;
    }
    if (w & CPOOL__W_INTR) {
        t->flags |= CPOOL_TASK_INTERRUPTED;
    }
    else if (!deaf) {
        t->flags |= CPOOL_TASK_TIMED_OUT;
    }
}

/* --- Spawn and yield ---------------------------------------------------------------- */

int
cpool_spawn(struct cpool_task *t)
{
    struct cpool__pool *p = &cpool__pool;
    if (cpool__is_stopping()) {
        return -EAGAIN;
    }
    struct cpool_carrier *c = cpool__self();
    struct cpool_slot *mine = cpool__held_slot(c);
    bool sticky = (t->flags & CPOOL_TASK_STICKY) != 0;
    CONT_CHECK(!sticky || c != NULL);
    if (mine == NULL && CPOOL__LOAD(&p->alive) == 0 && cpool__first_carrier() < 0) {
        return -EAGAIN;
    }
    uint64_t w = CPOOL__LOAD(&t->word);
    do {
        CONT_CHECK(state_of(w) == CPOOL_NEW);
    } while (!change(t, &w, (w & ~CPOOL__W_STATE) | CPOOL_RUNNABLE));
    CPOOL__COUNT(mine, spawned);
    if (sticky) {
        CPOOL__STORE(&t->carrier, c);
        c->sticky_count++;
        cpool__queue_push(&c->sticky, t);
        if (mine == NULL) {
            cpool__wake_sticky(c);
        }
        return 0;
    }
    if (mine != NULL) {
        cpool__push_fresh(mine, t);
    }
    else {
        cpool__queue_push(&p->injector, t);
    }
    cpool__work_made();
    return 0;
}

/* True if a yield would let anybody run. */
static bool
somebody_waits(struct cpool_carrier *c, struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    return cpool__slot_has_tasks(s) || cpool__queue_len(&c->sticky) != 0
           || cpool__queue_len(&p->injector) != 0 || CPOOL__LOAD(&p->wanting.len) != 0
           || CPOOL__LOAD(&s->attention) || CPOOL__LOAD(&s->retired)
           || cpool__is_stopping();
}

int
cpool_yield_wanted(void)
{
    struct cpool_carrier *c = cpool__self();
    CONT_CHECK(c != NULL && !c->blocked);
    /* Now and then even so: a task that polls with yields must let timers and
     * descriptors be looked at. */
    return somebody_waits(c, CPOOL__LOAD(&c->slot)) || ++c->skipped % 64 == 0;
}

void
cpool_yield(void)
{
    if (!cpool_yield_wanted()) {
        return;
    }
    struct cpool_carrier *c = cpool__self();
    struct cpool_task *t = CPOOL__LOAD(&c->task);
    CONT_CHECK(t != NULL);
    c->action = CPOOL__DO_YIELD;
    cont_yield(&t->cont);
}
