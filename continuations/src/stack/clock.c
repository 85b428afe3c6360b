/* Claims: the reclaimer looks at the owner of a stack, which may end meanwhile.
 *
 * The struct of a stack is never freed, its owner is.  So the way to the owner is a word in
 * the stack's struct, which the owner's end has to empty before anything of it goes:
 *
 *      owner                               reclaimer
 *      -----                               ---------
 *      enter: word = owner                 claim: CAS owner -> owner | CLAIMED
 *      ... runs, parks, ends ...           looks at the owner's own state
 *      release: CAS owner -> NULL,         unclaim: word = owner
 *        waits while CLAIMED
 *
 * What is hot pays nothing: to enter is done once in the life of a stack's owner, running
 * and parking don't come here, and to release costs a load of a line that is written
 * anyway.  An owner that ends in the some 50 ns of a claim waits for it; if the reclaimer has
 * lost its processor just then, the waiter gives its own away.
 *
 * Rejected: a list of parked stacks in the order of age.  Each park and each resume then
 * writes to the two neighbours, whoever resumes it, so under a lock: 25 ns each way on the
 * path that must be hot, where a clock costs its cold visits a glance. */

#include "stack/clock.h"

#include "base/assert.h"

#include <sched.h>

#define CLAIMED ((uintptr_t)1)
#define SPINS 100

/* The claim that is held: for a forked child.  Reclaimer only. */
static struct cont_stack *_Atomic claimed;

void
cont__clock_enter(struct cont_stack *s, void *owner, uint32_t era)
{
    CONT_CHECK(atomic_load_explicit(&s->owner, memory_order_relaxed) == NULL
               && ((uintptr_t)owner & CLAIMED) == 0);
    s->era = era;
    s->seen = 0;
    s->looked = 0;
    /* release: partner cont__clock_claim */
    atomic_store_explicit(&s->owner, owner, memory_order_release);
}

__attribute__((noinline))
void
cont__clock_leave_slow(struct cont_stack *s)
{
    void *owner = atomic_load_explicit(&s->owner, memory_order_relaxed);
    for (unsigned spins = 0; owner != NULL; ) {
        if ((uintptr_t)owner & CLAIMED) {
            if (++spins > SPINS) {
                sched_yield();
            }
            owner = atomic_load_explicit(&s->owner, memory_order_relaxed);
        }
        /* acquire: partner cont__clock_unclaim; what the reclaimer read was still ours */
        else if (atomic_compare_exchange_weak_explicit(&s->owner, &owner, NULL,
                                                       memory_order_acq_rel,
                                                       memory_order_relaxed))
        {
            return;
        }
    }
}

void *
cont__clock_claim(struct cont_stack *s, uint32_t era)
{
    void *owner = atomic_load_explicit(&s->owner, memory_order_relaxed);
    if (owner == NULL) {
        return NULL;
    }
    CONT_ASSERT(((uintptr_t)owner & CLAIMED) == 0);
    atomic_store_explicit(&claimed, s, memory_order_relaxed);
    /* acquire: partner cont__clock_enter */
    if (!atomic_compare_exchange_strong_explicit(&s->owner, &owner,
                                                 (void *)((uintptr_t)owner | CLAIMED),
                                                 memory_order_acquire,
                                                 memory_order_relaxed))
    {
        atomic_store_explicit(&claimed, NULL, memory_order_relaxed);
        return NULL;
    }
    if (s->era != era) {
        cont__clock_unclaim(s);
        return NULL;
    }
    return owner;
}

void
cont__clock_unclaim(struct cont_stack *s)
{
    void *owner = atomic_load_explicit(&s->owner, memory_order_relaxed);
    CONT_ASSERT((uintptr_t)owner & CLAIMED);
    /* release: partner cont__clock_leave_slow */
    atomic_store_explicit(&s->owner, (void *)((uintptr_t)owner & ~CLAIMED),
                          memory_order_release);
    atomic_store_explicit(&claimed, NULL, memory_order_relaxed);
}

void
cont__clock_after_fork_child(void)
{
    struct cont_stack *s = atomic_load_explicit(&claimed, memory_order_relaxed);
    if (s != NULL) {
        void *owner = atomic_load_explicit(&s->owner, memory_order_relaxed);
        atomic_store_explicit(&s->owner, (void *)((uintptr_t)owner & ~CLAIMED),
                              memory_order_relaxed);
        atomic_store_explicit(&claimed, NULL, memory_order_relaxed);
    }
}
