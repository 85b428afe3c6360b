/* Taking tasks from other slots: new ones first, half of a ring at a time, from a slot
 * chosen at random on; then tasks that have run, where cpool__may_take_started allows it.
 *
 * A thief holds its own slot, so what it takes beyond the first goes into its own queues, in
 * order.  It only pops: rings and queues are made for that, and the LIFO place is emptied by
 * an exchange. */

#include "cpool/cpool_internal.h"

static void
put(struct cpool_slot *s, struct cpool_task *t)
{
    if (t->flags & CPOOL_TASK_STARTED) {
        cpool__push_started(s, t);
    }
    else {
        cpool__push_fresh(s, t);
    }
}

/* Keeps the first of a list and queues the others at s, which the caller holds. */
struct cpool_task *
cpool__first_of(struct cpool_slot *s, struct cpool_task *list)
{
    if (list == NULL) {
        return NULL;
    }
    for (struct cpool_task *t = list->next, *next; t != NULL; t = next) {
        next = t->next;
        put(s, t);
    }
    return list;
}

struct cpool_task *
cpool__take_lifo(struct cpool_slot *s)
{
    if (CPOOL__LOAD(&s->lifo) == NULL) {
        return NULL;
    }
    /* acq_rel: partner cpool__ready_local */
    return atomic_exchange_explicit(&s->lifo, NULL, memory_order_acq_rel);
}

static struct cpool_task *
steal_fresh_from(struct cpool_slot *s, struct cpool_slot *victim)
{
    struct cpool_task *first, *last;
    if (cpool__ring_take_half(&victim->fresh, &first, &last) == 0) {
        return NULL;
    }
    return cpool__first_of(s, first);
}

static struct cpool_task *
steal_started_from(struct cpool_slot *s, struct cpool_slot *victim)
{
    struct cpool_task *first, *last;
    /* Those first that would wait longest there, and whose move costs least beside what they
     * compute. */
    size_t preempted = cpool__queue_len(&victim->preempted);
    first = cpool__queue_pop_list(&victim->preempted, preempted - preempted / 2);
    if (first != NULL) {
        for (struct cpool_task *t = first->next, *next; t != NULL; t = next) {
            next = t->next;
            cpool__push_preempted(s, t);
        }
        return first;
    }
    if (cpool__ring_take_half(&victim->started, &first, &last) != 0) {
        return cpool__first_of(s, first);
    }
    size_t n = cpool__queue_len(&victim->inbox);
    n = n - n / 2;
    if (n > s->started.size / 2) {
        n = s->started.size / 2;
    }
    first = cpool__queue_pop_list(&victim->inbox, n);
    if (first != NULL) {
        return cpool__first_of(s, first);
    }
    return cpool__take_lifo(victim);
}

struct cpool_task *
cpool__steal(struct cpool_slot *s)
{
    int n = cpool__slot_count();
    int from = (int)(cpool__random(s) % (uint64_t)n);
    bool started = false;
    for (int i = 0; i < n; i++) {
        struct cpool_slot *v = cpool__slot((from + i) % n);
        if (v == s) {
            continue;
        }
        struct cpool_task *t = steal_fresh_from(s, v);
        if (t != NULL) {
            CPOOL__COUNT(s, steals);
            return t;
        }
        started = started || cpool__slot_has_started(v);
    }
    if (!started) {
        return NULL;
    }
    int64_t now = cpool_now();
    for (int i = 0; i < n; i++) {
        struct cpool_slot *v = cpool__slot((from + i) % n);
        if (v != s && cpool__slot_has_started(v) && cpool__may_take_started(v, now)) {
            struct cpool_task *t = steal_started_from(s, v);
            if (t != NULL) {
                CPOOL__COUNT(s, steals);
                return t;
            }
        }
    }
    return NULL;
}
