/* Sleep and wake: no carrier sleeps while there is work for it, none spins for long, and a
 * submitter pays nothing when the pool is busy.
 *
 * Work that any carrier may take (injector, rings of unstarted tasks):
 *
 *      submitter                           carrier that finds nothing
 *      ---------                           --------------------------
 *      1. publish the task                 1. offer the slot: status SLEEPING
 *      2. full fence                       2. stop to spin: spinning - 1
 *      3. spinning != 0: done              3. full fence
 *      4. wake one sleeper, which          4. look at every queue again
 *         counts as spinning from then     5. sleep
 *
 * The two are mirrors: each writes, fences, then reads what the other wrote.  So if the
 * submitter saw a spinner (3), that one had not passed its step 2, and its step 4 comes
 * after the submitter's step 1: it finds the task.  If the submitter saw no sleeper (4),
 * whoever goes to sleep later finds the task in its step 4.  A spinner that finds work
 * stops to spin first, and when it was the last one, looks whether there is more, and
 * wakes another: submitters relied on it.
 *
 * A wake that is counted as a spinner but finds nobody to wake takes its count back and
 * looks once more, for the same reason.
 *
 * Work for one slot (inboxes) or one carrier (sticky queues) is the same protocol with one
 * sleeper and no spinners: cpool__push_remote, cpool__wake_sticky.  A carrier that wants a
 * slot is work of that kind for whoever goes to sleep in one.
 *
 * Who sleeps.  The first to find pool.poll_owner empty sleeps in the poller, the others on
 * their batons; each until its own slot's next timer.  When what the poller brought was for
 * others only, its carrier, if it runs nothing before it sleeps again, leaves the place to one
 * of those that it has just woken: then their next events don't cross OS threads.  A waker
 * takes the slot by a CAS on its status and then passes the baton; who wakes up by itself
 * does the same CAS, and if it loses, waits for the baton that is on its way.
 *
 * Spinners are limited to half of the slots: one is enough to take over the next task, and
 * each costs a core that the tasks could have.  They spin for 2 to 5 us, patient ones for
 * longer (patience.c): of those there may be one more. */

#include "cpool/cpool_internal.h"

#include <errno.h>

/* There is something that any carrier may take. */
bool
cpool__work_waits(void)
{
    if (cpool__queue_len(&cpool__pool.injector) != 0) {
        return true;
    }
    for (int i = 0; i < cpool__slot_count(); i++) {
        if (cpool__ring_len(&cpool__slot(i)->fresh) != 0) {
            return true;
        }
    }
    return false;
}

static bool
can_start_carrier(void)
{
    struct cpool__pool *p = &cpool__pool;
    if (CPOOL__LOAD(&p->spares.len) == 0
        && (int)CPOOL__LOAD(&p->alive) >= CPOOL__LOAD(&p->max_carriers)
        && !CPOOL__LOAD(&p->one_more)) {
        return false;
    }
    for (int i = 0; i < CPOOL__MAP_WORDS && i * 64 < cpool__slot_count(); i++) {
        if (CPOOL__LOAD(&p->free_map[i]) != 0) {
            return true;
        }
    }
    return false;
}

/* Wakes or starts one carrier, which has been counted as spinning. */
static bool
wake_one(void)
{
    for (int id = cpool__sleeping_slot(0); id >= 0; id = cpool__sleeping_slot(id + 1)) {
        if (cpool__slot_wake(cpool__slot(id), CPOOL__BATON_GO_SPINNING)) {
            return true;
        }
    }
    return can_start_carrier() && cpool__carrier_start(NULL, true) == 0;
}

/* The caller has published work that any carrier may take. */
void
cpool__work_made(void)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__full_fence();
    do {
        int none = 0;
        if (cpool__sleeping_slot(0) < 0 && !can_start_carrier()) {
            break;
        }
        if (!atomic_compare_exchange_strong(&p->spinning, &none, 1)) {
            break;
        }
        if (wake_one()) {
            return;
        }
        atomic_fetch_sub(&p->spinning, 1);
        cpool__full_fence();
    } while (cpool__sleeping_slot(0) >= 0 && cpool__work_waits());
    cpool__monitor_notice();
}

int
cpool__first_carrier(void)
{
    atomic_fetch_add(&cpool__pool.spinning, 1);
    int r = cpool__carrier_start(NULL, true);
    if (r < 0) {
        atomic_fetch_sub(&cpool__pool.spinning, 1);
        if (CPOOL__LOAD(&cpool__pool.alive) != 0) {     /* somebody else was faster     */
            r = 0;
        }
    }
    return r;
}

/* True if c counts as spinning now. */
bool
cpool__try_spin(struct cpool_carrier *c, bool patient)
{
    struct cpool__pool *p = &cpool__pool;
    if (!c->spinning) {
        if (2 * (CPOOL__LOAD(&p->spinning) - patient) > CPOOL__LOAD(&p->parallelism) - 1) {
            return false;
        }
        atomic_fetch_add(&p->spinning, 1);
        c->spinning = true;
    }
    return true;
}

/* The caller has found work. */
void
cpool__stop_spinning(struct cpool_carrier *c)
{
    if (c->spinning) {
        c->spinning = false;
        if (atomic_fetch_sub(&cpool__pool.spinning, 1) == 1) {
            cpool__full_fence();
            if (cpool__work_waits()) {
                cpool__work_made();
            }
        }
    }
}

/* Anything that the holder of s should not sleep over. */
bool
cpool__work_visible(struct cpool_carrier *c, struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    if (cpool__slot_has_tasks(s) || cpool__queue_len(&c->sticky) != 0 || cpool__work_waits()
        || atomic_load(&c->attend)
        || atomic_load(&p->wanting.len) != 0 || cpool__is_stopping()
        || CPOOL__LOAD(&s->retired)) {
        return true;
    }
    int64_t now = 0;
    for (int i = 0; i < cpool__slot_count(); i++) {
        struct cpool_slot *v = cpool__slot(i);
        if (v != s && cpool__slot_has_started(v)) {
            now = now == 0 ? cpool_now() : now;
            if (cpool__may_take_started(v, now)) {
                return true;
            }
        }
    }
    return false;
}

/* True if tasks of the list will wake other carriers, and none will run on c.  Who is woken
 * comes to sleep again, and polls then. */
static bool
wakes_others_only(struct cpool_carrier *c, struct cpool_slot *s, struct cpool_task *list)
{
    bool any = false;
    for (; list != NULL; list = list->next) {
        if (list->flags & CPOOL_TASK_STICKY ? CPOOL__LOAD(&list->carrier) == c : list->home == s) {
            return false;
        }
        any = any || (atomic_load(&list->home->status) & CPOOL__S_STATE) == CPOOL__SLEEPING;
    }
    return any;
}

/* Sleeps until there may be something to do.  False if c has lost its slot meanwhile. */
bool
cpool__sleep(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    struct cpool_task *woken = NULL;
    struct cpool_carrier *nobody = NULL;
    enum cpool__baton baton = CPOOL__BATON_NONE;

    bool polls = !c->cede_poll && cpool__may_poll()
                 && atomic_compare_exchange_strong(&p->poll_owner, &nobody, c);
    c->cede_poll = false;
    atomic_store(&c->in_poll, polls);
    cpool__slot_set(s, CPOOL__SLEEPING);
    if (c->spinning) {
        c->spinning = false;
        atomic_fetch_sub(&p->spinning, 1);
    }
    cpool__full_fence();
    if (!cpool__work_visible(c, s)) {
        int64_t since = cpool_now();
        int64_t until = CPOOL__LOAD(&s->timers.next);
        if (polls) {
            cpool__poll(until, &woken);
        }
        else {
            baton = cpool__carrier_await(c, until);
        }
        cpool__slept(c, since, baton == CPOOL__BATON_GO);
    }
    if (polls) {
        c->cede_poll = wakes_others_only(c, s, woken);
        /* seq_cst: partner cpool__carrier_pass */
        atomic_store(&c->in_poll, false);
        atomic_store(&p->poll_owner, NULL);
    }
    if (baton == CPOOL__BATON_NONE) {
        uint64_t status = atomic_load(&s->status);
        if ((status & CPOOL__S_STATE) == CPOOL__SLEEPING && cpool__owner(s) == c
            && cpool__slot_take(s, status)) {
            baton = CPOOL__BATON_GO;
            cpool__monitor_notice();
        }
        else {
            baton = cpool__carrier_await(c, CPOOL_FOREVER);
        }
    }
    if (baton == CPOOL__BATON_LOST) {
        CPOOL__STORE(&c->slot, NULL);
    }
    c->spinning = baton == CPOOL__BATON_GO_SPINNING;
    cpool__ready_list(woken);
    return baton != CPOOL__BATON_LOST;
}
