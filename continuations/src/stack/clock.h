#ifndef CONT_STACK_CLOCK_H
#define CONT_STACK_CLOCK_H

#include "base/assert.h"
#include "stack/stack.h"

/* How a reclaimer goes round the stacks, and reaches the owner of one while the owner may
 * end at any moment.  There is one reclaimer; everybody else only enters and leaves. */

/* `owner`, for whom s was acquired, lets the reclaimer look at it; a multiple of 2.  Until
 * s is released.  `era` tells owners of now from those that were forgotten (a pool that has
 * stopped, the parent of a fork).
 * Blocks: no.  Allocates: no.  Switches: no.  Locks held: any. */
void cont__clock_enter(struct cont_stack *s, void *owner, uint32_t era);

/* By the release of s: the reclaimer does not look at the owner any more. */
void cont__clock_leave_slow(struct cont_stack *s);
static inline void
cont__clock_leave(struct cont_stack *s)
{
    /* relaxed: only owners enter, and this is the owner's last act */
    if (CONT__UNLIKELY(atomic_load_explicit(&s->owner, memory_order_relaxed) != NULL)) {
        cont__clock_leave_slow(s);
    }
}

/* Reclaimer: the owner, which stays until unclaim; at most one claim at a time.  NULL if s
 * has none of this era.  Keep it short: an owner that ends waits for it. */
void *cont__clock_claim(struct cont_stack *s, uint32_t era);
void cont__clock_unclaim(struct cont_stack *s);

/* In the child of a fork: the reclaimer is gone, with its claim. */
void cont__clock_after_fork_child(void);

#endif
