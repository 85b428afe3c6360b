/* Counters: each slot has its own, written by its holder alone, and one set is shared by
 * OS threads that hold none.  A sum is exact when nothing runs, and close otherwise; but
 * `finished` is never ahead of `spawned`, so that when they are equal nothing was alive. */

#include "cpool/cpool_internal.h"

#include <string.h>

static void
add(struct cpool_stats *out, const struct cpool__counters *counters)
{
    struct cpool__counters *c = (struct cpool__counters *)counters;
    out->spawned += CPOOL__LOAD(&c->spawned);
    out->parks += CPOOL__LOAD(&c->parks);
    out->unparks += CPOOL__LOAD(&c->unparks);
    out->yields += CPOOL__LOAD(&c->yields);
    out->returns += CPOOL__LOAD(&c->returns);
    out->steals += CPOOL__LOAD(&c->steals);
    out->migrations += CPOOL__LOAD(&c->migrations);
    out->handoffs += CPOOL__LOAD(&c->handoffs);
    out->preemptions += CPOOL__LOAD(&c->preemptions);
    out->pins += CPOOL__LOAD(&c->pins);
    out->freezes += CPOOL__LOAD(&c->freezes);
    out->thaws += CPOOL__LOAD(&c->thaws);
}

static void
add_finished(struct cpool_stats *out, const struct cpool__counters *counters)
{
    struct cpool__counters *c = (struct cpool__counters *)counters;
    /* acquire: partner worker.c, where a task ends; what it has spawned is counted */
    out->finished += atomic_load_explicit(&c->finished, memory_order_acquire);
}

void
cpool_get_stats(struct cpool_stats *out)
{
    struct cpool__pool *p = &cpool__pool;
    memset(out, 0, sizeof(*out));
    out->parallelism = CPOOL__LOAD(&p->parallelism);
    out->max_carriers = CPOOL__LOAD(&p->max_carriers);
    out->carriers = (int)CPOOL__LOAD(&p->alive);
    out->extra_carriers = CPOOL__LOAD(&p->extra);
    out->runnable = cpool__queue_len(&p->injector) + cpool__queue_len(&p->starved);
    out->polls = CPOOL__LOAD(&p->poll_count) / 2;
    struct cont_stack_stats stacks;
    cont_stack_get_stats(&stacks);
    out->stacks_resident = stacks.resident;
    out->stacks_frozen = stacks.frozen;
    out->image_bytes = stacks.image_bytes;
    /* All that ended first, then all that was spawned: see above. */
    add_finished(out, &p->outside);
    for (int i = 0; i < cpool__slot_count(); i++) {
        add_finished(out, &cpool__slot(i)->counters);
    }
    add(out, &p->outside);
    for (int i = 0; i < cpool__slot_count(); i++) {
        struct cpool_slot *s = cpool__slot(i);
        add(out, &s->counters);
        out->runnable += cpool__ring_len(&s->started) + cpool__ring_len(&s->fresh)
                         + cpool__queue_len(&s->inbox)
                         + cpool__queue_len(&s->preempted) + (CPOOL__LOAD(&s->lifo) != NULL);
        out->carriers_idle += (CPOOL__LOAD(&s->status) & CPOOL__S_STATE) == CPOOL__SLEEPING;
    }
    /* acquire: partner cpool__carrier_new_lock_held */
    for (struct cpool_carrier *c = atomic_load_explicit(&p->all, memory_order_acquire);
         c != NULL; c = c->all_next) {
        int mode = CPOOL__LOAD(&c->mode);
        out->runnable += cpool__queue_len(&c->sticky);
        out->carriers_idle += mode == CPOOL__MODE_SPARE;
        out->carriers_blocked += mode == CPOOL__MODE_BLOCK;
    }
}
