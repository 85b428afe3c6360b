/* The ring of a slot: one producer, the slot's holder, and any number of consumers.
 *
 *          head (CAS by whoever takes)        tail (store by the holder)
 *            v                                  v
 *      ... . [t][t][t][t][t][t][t][t][t][t][t][t] . . .     indices grow for ever,
 *            oldest                       newest            places are index % size
 *
 * Go's run queue.  FIFO also for its holder, so that tasks that yield take turns; the task
 * that should run at once has a place of its own (slot.lifo).  A taker reads the places
 * before it wins the CAS on head; if it loses, what it read may be anything and is thrown
 * away, never followed.  A place can't be written again before head has passed it, and
 * the holder reads head (acquire) before it writes.
 *
 * Budget: push 2 ns, pop 6 ns (the CAS). */

#include "cpool/cpool_internal.h"

void
cpool__ring_init(struct cpool__ring *r, uint32_t size)
{
    CONT_ASSERT(size <= CPOOL__RING_SIZE && (size & (size - 1)) == 0);
    CPOOL__STORE(&r->head, 0);
    CPOOL__STORE(&r->tail, 0);
    r->size = size;
}

uint32_t
cpool__ring_len(const struct cpool__ring *ring)
{
    struct cpool__ring *r = (struct cpool__ring *)ring;
    uint32_t h = CPOOL__LOAD(&r->head);
    uint32_t t = CPOOL__LOAD(&r->tail);
    /* Read apart: a difference out of range means that both moved. */
    return t - h <= r->size ? t - h : 0;
}

/* Holder only. */
bool
cpool__ring_push(struct cpool__ring *r, struct cpool_task *t)
{
    /* acquire: partner the takers' CAS; their reads of the place are done */
    uint32_t h = atomic_load_explicit(&r->head, memory_order_acquire);
    uint32_t tail = CPOOL__LOAD(&r->tail);
    if (tail - h >= r->size) {
        return false;
    }
    CPOOL__STORE(&r->tasks[tail & (r->size - 1)], t);
    /* release: partner the takers' load of tail; publishes the task too */
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}

struct cpool_task *
cpool__ring_pop(struct cpool__ring *r)
{
    uint32_t h = atomic_load_explicit(&r->head, memory_order_acquire);
    for (;;) {
        uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
        if (tail == h || tail - h > r->size) {
            if (tail == h) {
                return NULL;
            }
            h = atomic_load_explicit(&r->head, memory_order_acquire);
            continue;
        }
        struct cpool_task *t = CPOOL__LOAD(&r->tasks[h & (r->size - 1)]);
        /* release: partner the acquire of head in push */
        if (atomic_compare_exchange_weak_explicit(&r->head, &h, h + 1,
                                                  memory_order_acq_rel,
                                                  memory_order_acquire)) {
            return t;
        }
    }
}

/* Takes the older half, rounded up, as a list in order; returns how many. */
size_t
cpool__ring_take_half(struct cpool__ring *r, struct cpool_task **first,
                      struct cpool_task **last)
{
    struct cpool_task *batch[CPOOL__RING_SIZE / 2];
    for (;;) {
        uint32_t h = atomic_load_explicit(&r->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
        uint32_t n = tail - h;
        n -= n / 2;
        if (n == 0) {
            return 0;
        }
        if (n > r->size / 2) {          /* head and tail were read apart               */
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            batch[i] = CPOOL__LOAD(&r->tasks[(h + i) & (r->size - 1)]);
        }
        if (atomic_compare_exchange_strong_explicit(&r->head, &h, h + n,
                                                    memory_order_acq_rel,
                                                    memory_order_relaxed)) {
            for (uint32_t i = 0; i + 1 < n; i++) {
                batch[i]->next = batch[i + 1];
            }
            batch[n - 1]->next = NULL;
            *first = batch[0];
            *last = batch[n - 1];
            return n;
        }
    }
}
