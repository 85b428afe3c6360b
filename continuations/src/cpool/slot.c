/* Slots: who holds one, and the queues that belong to it.
 *
 * The status word says what the holder does; the low two bits are the state, the rest
 * counts changes:
 *
 *      from       to         cause, and by whom
 *      FREE       RUNNING    given to a waiting, spare or new carrier     pool.lock held
 *      RUNNING    FREE       its carrier gave it up, nobody wanted it     pool.lock held
 *      RUNNING    RUNNING    passed on to another carrier                 pool.lock held
 *      RUNNING    BLOCKED    block_begin                                  holder, store
 *      BLOCKED    RUNNING    block_end: still mine                        holder, CAS
 *      BLOCKED    RUNNING    hand-off: not any more                       monitor, CAS
 *      RUNNING    SLEEPING   nothing to do                                holder, store
 *      SLEEPING   RUNNING    holder found work, or its sleep ended        holder, CAS
 *      SLEEPING   RUNNING    there is work, on the holder's behalf        waker, CAS
 *      SLEEPING   RUNNING    taken for a carrier with a mounted task      pool.lock, CAS
 *
 * So FREE and RUNNING change under pool.lock or by the holder alone; BLOCKED and SLEEPING
 * are offers, and who wins the CAS has the slot.  The winner then owns the holder's side
 * of the rings: the CAS acquires what the holder's store or CAS released.
 *
 * A task that has run has a home, the slot where it ran last, and wakes up there, because
 * what it made is cheap there.  May it move?  One function answers: cpool__may_take_started.
 */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <stdlib.h>

/* A started task moves when its slot has had others waiting, without a moment in which
 * none did, for this long: a few times what a move costs a program with many objects (0.25 ms,
 * docs/MEASUREMENTS.md), much less than a time slice. */
#define MOVE_AFTER_NS 1000000

static void
map_set(_Atomic uint64_t *map, int id)
{
    atomic_fetch_or(&map[id / 64], UINT64_C(1) << (id % 64));
}

static void
map_clear(_Atomic uint64_t *map, int id)
{
    atomic_fetch_and(&map[id / 64], ~(UINT64_C(1) << (id % 64)));
}

static void
reset(struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    uint32_t size = p->chaos != 0 ? CPOOL__RING_SIZE_CHAOS : CPOOL__RING_SIZE;
    cpool__ring_init(&s->started, size);
    cpool__ring_init(&s->fresh, size);
    s->lifo_run = 0;
    s->rng = ((uint64_t)p->chaos << 32 | (unsigned)s->id) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    CPOOL__STORE(&s->lifo, NULL);
    CPOOL__STORE(&s->status, CPOOL__FREE);
    cpool__set_owner(s, NULL);
    CPOOL__STORE(&s->retired, false);
    CPOOL__STORE(&s->attention, false);
    CPOOL__STORE(&s->spent, false);
    CPOOL__STORE(&s->backlog_since, 0);
    cpool__queue_reset(&s->inbox);
    cpool__queue_reset(&s->preempted);
    cpool__timers_reset(&s->timers);
    map_clear(p->sleeping_map, s->id);
    map_set(p->free_map, s->id);
}

/* As after cpool_start; for start and fork. */
void
cpool__slots_reset(void)
{
    for (int i = 0; i < cpool__slot_count(); i++) {
        reset(cpool__slot(i));
    }
}

/* Makes slots 0 .. n-1 exist.  Slots are never freed: tasks point to their homes. */
int
cpool__slots_grow(int n)
{
    struct cpool__pool *p = &cpool__pool;
    for (int i = cpool__slot_count(); i < n; i++) {
        struct cpool_slot *s;
        if (posix_memalign((void **)&s, CPOOL__CACHE_LINE, sizeof(*s)) != 0) {
            return -ENOMEM;
        }
        *s = (struct cpool_slot){.id = i};
        reset(s);
        /* release: partner cpool__slot, cpool__slot_count */
        atomic_store_explicit(&p->slots[i], s, memory_order_release);
        atomic_store_explicit(&p->slot_count, i + 1, memory_order_release);
    }
    return 0;
}

/* --- Holding ------------------------------------------------------------------------ */

/* Owner of status, or pool.lock held and s RUNNING: a new state. */
void
cpool__slot_set(struct cpool_slot *s, enum cpool__slot_state state)
{
    uint64_t status = CPOOL__LOAD(&s->status);
    status = ((status & ~CPOOL__S_STATE) + CPOOL__S_SEQ) | state;
    if (state == CPOOL__SLEEPING) {
        map_set(cpool__pool.sleeping_map, s->id);
    }
    /* seq_cst: release of the holder's side, and first half of "publish, then look" */
    atomic_store(&s->status, status);
}

/* Takes an offer; `status` is what was seen. */
bool
cpool__slot_take(struct cpool_slot *s, uint64_t status)
{
    enum cpool__slot_state state = status & CPOOL__S_STATE;
    uint64_t to = ((status & ~CPOOL__S_STATE) + CPOOL__S_SEQ) | CPOOL__RUNNING;
    if (!atomic_compare_exchange_strong(&s->status, &status, to)) {
        return false;
    }
    if (state == CPOOL__SLEEPING) {
        map_clear(cpool__pool.sleeping_map, s->id);
    }
    return true;
}

/* s is RUNNING and nobody's: to c, which waits, and is in no list. */
void
cpool__slot_give_to_lock_held(struct cpool_slot *s, struct cpool_carrier *c)
{
    CPOOL__STORE(&c->mode, CPOOL__MODE_RUN);
    cpool__set_owner(s, c);
    CPOOL__STORE(&c->slot, s);
    cpool__carrier_pass(c, CPOOL__BATON_GO);
}

/* s is RUNNING and nobody's: to whoever wants it.  Carriers that came back from the
 * kernel with a task mounted go first. */
bool
cpool__slot_give_lock_held(struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_carrier *c = p->wanting.head;
    if (c == NULL) {
        return false;
    }
    cpool__carriers_remove(&p->wanting, c);
    cpool__slot_give_to_lock_held(s, c);
    return true;
}

/* The caller holds s and does not want it. */
void
cpool__slot_release_lock_held(struct cpool_slot *s)
{
    struct cpool__pool *p = &cpool__pool;
    bool retired = CPOOL__LOAD(&s->retired);
    if (!retired && cpool__slot_give_lock_held(s)) {
        return;
    }
    cpool__set_owner(s, NULL);
    cpool__slot_set(s, CPOOL__FREE);
    if (!retired) {
        map_set(p->free_map, s->id);
    }
}

/* First slot of a map from `from` on, or -1. */
static int
map_find(_Atomic uint64_t *map, int from)
{
    for (int i = from / 64; i < CPOOL__MAP_WORDS && i * 64 < cpool__slot_count(); i++) {
        uint64_t bits = atomic_load(&map[i]);
        if (i == from / 64) {
            bits &= ~UINT64_C(0) << (from % 64);
        }
        if (bits != 0) {
            return i * 64 + __builtin_ctzll(bits);
        }
    }
    return -1;
}

int
cpool__sleeping_slot(int from)
{
    return map_find(cpool__pool.sleeping_map, from);
}

/* A FREE slot that may be used, now RUNNING and the caller's; NULL if there is none. */
struct cpool_slot *
cpool__slot_take_free_lock_held(struct cpool_slot *wish)
{
    struct cpool__pool *p = &cpool__pool;
    int id = wish != NULL ? wish->id : map_find(p->free_map, 0);
    for (; id >= 0; id = wish != NULL ? -1 : map_find(p->free_map, id + 1)) {
        struct cpool_slot *s = cpool__slot(id);
        uint64_t status = atomic_load(&s->status);
        if ((status & CPOOL__S_STATE) == CPOOL__FREE && !CPOOL__LOAD(&s->retired)
            && cpool__slot_take(s, status)) {
            map_clear(p->free_map, id);
            cpool__queue_open(&s->inbox);       /* it may have retired and come back   */
            return s;
        }
    }
    return NULL;
}

/* Carriers that want a slot get those that nobody holds, then those whose holder sleeps. */
void
cpool__slots_match_lock_held(void)
{
    struct cpool__pool *p = &cpool__pool;
    /* The caller has put somebody into `wanting`; partner: cpool__sleep, which offers its
     * slot and then looks there. */
    cpool__full_fence();
    while (p->wanting.head != NULL) {
        struct cpool_slot *s = cpool__slot_take_free_lock_held(NULL);
        if (s == NULL) {
            break;
        }
        cpool__slot_give_lock_held(s);
    }
    for (int id = cpool__sleeping_slot(0); id >= 0 && p->wanting.head != NULL;
         id = cpool__sleeping_slot(id + 1)) {
        struct cpool_slot *s = cpool__slot(id);
        uint64_t status = atomic_load(&s->status);
        if ((status & CPOOL__S_STATE) == CPOOL__SLEEPING && !CPOOL__LOAD(&s->retired)
            && cpool__slot_take(s, status)) {
            struct cpool_carrier *sleeper = cpool__owner(s);
            cpool__slot_give_lock_held(s);
            cpool__carrier_pass(sleeper, CPOOL__BATON_LOST);
        }
    }
    cpool__monitor_notice();
    if (p->wanting.head != NULL) {
        cpool__monitor_poke_slow();     /* some holder may be in the kernel            */
    }
}

/* Wakes the holder of s if it sleeps. */
bool
cpool__slot_wake(struct cpool_slot *s, enum cpool__baton baton)
{
    uint64_t status = atomic_load(&s->status);
    if ((status & CPOOL__S_STATE) != CPOOL__SLEEPING || !cpool__slot_take(s, status)) {
        return false;
    }
    cpool__carrier_pass(cpool__owner(s), baton);
    cpool__monitor_notice();
    return true;
}

/* --- Queues --------------------------------------------------------------------------- */

bool
cpool__slot_has_started(const struct cpool_slot *s)
{
    return cpool__ring_len(&s->started) != 0 || cpool__queue_len(&s->inbox) != 0
           || cpool__queue_len(&s->preempted) != 0
           || CPOOL__LOAD(&((struct cpool_slot *)s)->lifo) != NULL;
}

bool
cpool__slot_has_tasks(const struct cpool_slot *s)
{
    return cpool__slot_has_started(s) || cpool__ring_len(&s->fresh) != 0;
}

/* Holder.  What overflows the ring goes to the inbox, and what comes after it too, so that
 * the order stays that of arrival: the ring is refilled from the inbox when it is empty. */
void
cpool__push_started(struct cpool_slot *s, struct cpool_task *t)
{
    if (cpool__queue_len(&s->inbox) != 0 || !cpool__ring_push(&s->started, t)) {
        if (!cpool__queue_push(&s->inbox, t)) {
            cpool__queue_push(&cpool__pool.injector, t);        /* s has retired       */
        }
    }
}

/* Holder.  A task that has computed for a time slice waits behind those that have waited for
 * something: most of them are soon gone again. */
void
cpool__push_preempted(struct cpool_slot *s, struct cpool_task *t)
{
    cpool__queue_push(&s->preempted, t);
}

/* Holder.  The caller calls cpool__work_made afterwards. */
void
cpool__push_fresh(struct cpool_slot *s, struct cpool_task *t)
{
    if (cpool__ring_push(&s->fresh, t)) {
        return;
    }
    struct cpool_task *first, *last;
    size_t n = cpool__ring_take_half(&s->fresh, &first, &last);
    if (n == 0) {
        first = last = t;
    }
    else {
        last->next = t;
    }
    cpool__queue_push_list(&cpool__pool.injector, first, t, n + 1);
}

/* Anybody: a started task goes to a slot that the caller does not hold. */
void
cpool__push_remote(struct cpool_slot *s, struct cpool_task *t)
{
    if (!cpool__queue_push(&s->inbox, t)) {
        cpool__queue_push(&cpool__pool.injector, t);            /* s has retired       */
        cpool__work_made();
        return;
    }
    /* Published; now look who is there.  Partners: cpool__sleep, monitor_main. */
    cpool__full_fence();
    uint64_t status = atomic_load(&s->status);
    switch (status & CPOOL__S_STATE) {
    case CPOOL__SLEEPING:
        cpool__slot_wake(s, CPOOL__BATON_GO);
        break;
    case CPOOL__FREE:
        cpool__carrier_start(s, false);
        break;
    case CPOOL__BLOCKED:
        cpool__monitor_poke_slow();
        break;
    default:
        break;
    }
    cpool__monitor_notice();
}

/* Holder of a retired slot: its tasks go to everybody, and later ones find the inbox
 * closed.  Its timers stay: the monitor runs those of slots that nobody holds. */
void
cpool__slot_drain(struct cpool_slot *s)
{
    struct cpool__queue *to = &cpool__pool.injector;
    struct cpool_task *t = cpool__queue_close(&s->inbox);
    while (t != NULL) {
        struct cpool_task *next = t->next;
        cpool__queue_push(to, t);
        t = next;
    }
    while ((t = cpool__ring_pop(&s->started)) != NULL
           || (t = cpool__queue_pop(&s->preempted)) != NULL
           || (t = cpool__ring_pop(&s->fresh)) != NULL
           || (t = atomic_exchange_explicit(&s->lifo, NULL, memory_order_acq_rel)) != NULL) {
        cpool__queue_push(to, t);
    }
}

/* Hard mode and always_move: the slot that t, which has run and may move, is sent to against the
 * policy; NULL: the policy decides.  `mine` is the caller's slot, or NULL. */
struct cpool_slot *
cpool__send_astray(struct cpool_slot *mine, const struct cpool_task *t)
{
    struct cpool__pool *p = &cpool__pool;
    unsigned n = (unsigned)CPOOL__LOAD(&p->parallelism);
    if (p->always_move && n > 1) {
        unsigned step = mine != NULL ? (unsigned)(cpool__random(mine) % (n - 1)) : 0;
        return cpool__slot((int)(((unsigned)t->home->id + 1 + step) % n));
    }
    if (mine != NULL && cpool__chaos(mine, 4)) {
        return cpool__slot((int)(cpool__random(mine) % n));
    }
    return NULL;
}

/* The policy: may tasks that have run at `victim` be run elsewhere now?  `victim` is not
 * the asker's own slot; the asker has found nothing else to do. */
bool
cpool__may_take_started(const struct cpool_slot *victim, int64_t now)
{
    struct cpool_slot *s = (struct cpool_slot *)victim;
    if ((CPOOL__LOAD(&s->status) & CPOOL__S_STATE) == CPOOL__FREE) {
        return true;                    /* nobody will run them there                  */
    }
    if (cpool__pool.always_move) {
        return false;                   /* a thief may be where it came from           */
    }
    if (cpool__pool.chaos != 0) {
        return true;
    }
    int64_t since = CPOOL__LOAD(&s->backlog_since);
    return since != 0 && now - since >= MOVE_AFTER_NS;
}
