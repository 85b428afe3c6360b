/* Hand-off: a task that blocks its OS thread in the kernel must not hold its slot.
 *
 *      blocking carrier A                    monitor (or A itself, when pinned)
 *      ------------------                    ----------------------------------
 *      block_begin: status BLOCKED
 *      system call ...                       sees BLOCKED with work waiting, the same
 *                                            status for handoff_ns:
 *                                            CAS BLOCKED -> RUNNING, to a carrier B
 *      block_end: CAS BLOCKED -> RUNNING
 *        won:  goes on, some 10 ns in all
 *        lost: waits for a slot, on its own stack, the task still mounted
 *
 * B only borrows the slot: what waits there has its home on A.  When A has come back, B returns it
 * as soon as it has run one task, or a task that enters the kernel all the time would keep the
 * others from running at all.
 *
 * A that lost takes its slot back if B sleeps, else a slot that nobody holds, or another one
 * whose holder sleeps, or queues in pool.wanting; every carrier looks there when it comes from a
 * task, and the monitor counts A as one that waits, so that a task that runs on is preempted.
 * errno survives.
 *
 * The carrier that gets the slot: one that wants a slot, else a spare one, else a new one
 * up to max_carriers.  If there is none, A keeps its slot and the work waits.  All of them
 * may be waiting for just that work (a pinned task for one that has not been started), so
 * the limit is not absolute: when nothing at all has moved for stall_ns, the monitor allows
 * one carrier more, and again after the next stall_ns: long against a wait for the disk,
 * and bearable for who would hang otherwise.  Tasks that come back from the kernel never
 * need that: they have their OS thread, and take a slot from who is idle or blocked.
 * Rejected: to let the deadlock be, as Java does; no limit, since a burst of slow calls
 * (file I/O, DNS) would then make an OS thread of each.
 *
 * Between begin and end A owns nothing of the slot, so what it wakes meanwhile takes the
 * way of a stranger: cpool__held_slot() is NULL for it.
 *
 * cpool_stop: life becomes STOPPING, then every slot is looked at; block_end changes its
 * slot to RUNNING, then looks at life.  One of them sees the other, so a carrier that was
 * counted as blocked never goes on with its host's code: it hangs. */

#include "cpool/cpool_internal.h"

#include <errno.h>

static void
begin(struct cpool_carrier *c, const char *reason)
{
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    CONT_CHECK(!c->blocked);
    uint64_t status = CPOOL__LOAD(&s->status);
    status = ((status & ~CPOOL__S_STATE) + CPOOL__S_SEQ) | CPOOL__BLOCKED;
    c->blocked = true;
    c->blocked_status = status;
    CPOOL__STORE(&c->reason, reason);
    CPOOL__STORE(&c->mode, CPOOL__MODE_BLOCK);
    /* release: partner cpool__slot_take, by which the holder's side changes hands */
    atomic_store_explicit(&s->status, status, memory_order_release);
    if (CPOOL__LOAD(&cpool__pool.nap) == CPOOL__NAP_LIGHT
        && (cpool__slot_has_tasks(s) || cpool__queue_len(&cpool__pool.injector) != 0
            || CPOOL__LOAD(&cpool__pool.wanting.len) != 0)) {
        cpool__monitor_poke_slow();
        /* That may have taken as long as a short call, and counts as none of this one's. */
        uint64_t later = status + CPOOL__S_SEQ;
        if (atomic_compare_exchange_strong(&s->status, &status, later)) {
            c->blocked_status = later;
        }
    }
}

/* c lost s, and who holds it sleeps: no other slot would do as well, as the tasks whose home it is
 * left what they made on c. */
static bool
take_back_lock_held(struct cpool_carrier *c, struct cpool_slot *s)
{
    uint64_t status = atomic_load(&s->status);
    if ((status & CPOOL__S_STATE) != CPOOL__SLEEPING || CPOOL__LOAD(&s->retired)
        || !cpool__slot_take(s, status)) {
        return false;
    }
    struct cpool_carrier *sleeper = cpool__owner(s);
    cpool__set_owner(s, c);
    cpool__carrier_pass(sleeper, CPOOL__BATON_LOST);
    return true;
}

/* The slot is gone; not inline, so that the usual way stays short. */
static __attribute__((noinline)) void
wait_for_slot(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    int saved = errno;
    cpool__lock(&p->lock);
    if (!cpool__is_stopping()) {
        if (take_back_lock_held(c, CPOOL__LOAD(&c->slot))) {
            cpool__unlock(&p->lock);
            errno = saved;
            return;
        }
        CPOOL__STORE(&c->slot, NULL);
        c->lender = NULL;
        atomic_store(&c->mode, CPOOL__MODE_WANT);
        cpool__carriers_append(&p->wanting, c);
        cpool__slots_match_lock_held();
        cpool__unlock(&p->lock);
        if (cpool__carrier_await(c, CPOOL_FOREVER) == CPOOL__BATON_GO) {
            errno = saved;
            return;
        }
    }
    else {
        cpool__unlock(&p->lock);
    }
    cpool__carrier_hang(c);
}

static void
end(struct cpool_carrier *c)
{
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    uint64_t status = c->blocked_status;
    uint64_t to = (status & ~CPOOL__S_STATE) | CPOOL__RUNNING;
    if (CONT__UNLIKELY(!atomic_compare_exchange_strong(&s->status, &status, to))) {
        wait_for_slot(c);
        CPOOL__LOAD(&c->task)->home = CPOOL__LOAD(&c->slot);
        c->ran = false;
        c->wanted_since = 0;
    }
    if (CONT__UNLIKELY(cpool__is_stopping())) {
        cpool__carrier_hang(c);
    }
    c->blocked = false;
    CPOOL__STORE(&c->reason, NULL);
    CPOOL__STORE(&c->mode, CPOOL__MODE_RUN);
    cpool__monitor_notice();
}

/* Gives the slot of a carrier that blocks to another one. */
bool
cpool__handoff(struct cpool_slot *s, uint64_t status)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__lock(&p->lock);
    struct cpool_carrier *spare = p->spares.head, *fresh = NULL;
    if (cpool__is_stopping()) {
        cpool__unlock(&p->lock);
        return false;
    }
    if (p->wanting.head == NULL && spare == NULL) {
        fresh = cpool__carrier_new_lock_held();
        if (fresh == NULL) {
            cpool__unlock(&p->lock);
            return false;
        }
    }
    if (!cpool__slot_take(s, status)) { /* it came back                                */
        if (fresh != NULL) {
            CPOOL__STORE(&fresh->mode, CPOOL__MODE_DEAD);
            cpool__carriers_push(&p->unused, fresh);
            atomic_fetch_sub(&p->alive, 1);
        }
        cpool__unlock(&p->lock);
        return false;
    }
    CPOOL__COUNT(NULL, handoffs);
    /* Only borrowed: what runs there has its home on the one that blocks. */
    struct cpool_carrier *next = fresh != NULL ? fresh
                                 : p->wanting.head != NULL ? p->wanting.head : spare;
    next->lender = cpool__owner(s);
    if (fresh != NULL) {
        cpool__set_owner(s, fresh);
        CPOOL__STORE(&fresh->slot, s);
        cpool__unlock(&p->lock);
        return cpool__carrier_launch(fresh) == 0;
    }
    if (!cpool__slot_give_lock_held(s)) {
        cpool__carriers_remove(&p->spares, spare);
        cpool__slot_give_to_lock_held(s, spare);
    }
    cpool__unlock(&p->lock);
    cpool__monitor_notice();
    return true;
}

void
cpool_block_begin(void)
{
    struct cpool_carrier *c = cpool__self();
    if (c != NULL && CPOOL__LOAD(&c->task) != NULL) {
        begin(c, NULL);
    }
}

void
cpool_block_end(void)
{
    struct cpool_carrier *c = cpool__self();
    if (c != NULL && c->blocked) {
        end(c);
    }
}

void
cpool_pinned_begin(const char *reason)
{
    struct cpool_carrier *c = cpool__self();
    struct cpool_task *t = cpool_current();
    if (t == NULL) {
        return;
    }
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    CPOOL__COUNT(s, pins);
    CPOOL__STORE(&t->reason, reason);   /* whoever sees PINNED sees it, by the release   */
    atomic_fetch_add_explicit(&t->word, (uint64_t)CPOOL_PINNED - CPOOL_RUNNING,
                              memory_order_acq_rel);
    begin(c, reason);
    if (cpool__slot_has_tasks(s) || cpool__queue_len(&cpool__pool.injector) != 0
        || CPOOL__LOAD(&cpool__pool.wanting.len) != 0) {
        cpool__handoff(s, c->blocked_status);
    }
}

void
cpool_pinned_end(void)
{
    struct cpool_carrier *c = cpool__self();
    if (c == NULL || !c->blocked) {
        return;
    }
    end(c);
    atomic_fetch_add_explicit(&CPOOL__LOAD(&c->task)->word,
                              (uint64_t)CPOOL_RUNNING - CPOOL_PINNED, memory_order_acq_rel);
}
