#ifndef CONT_STACK_DEPOT_H
#define CONT_STACK_DEPOT_H

#include "stack/stack.h"

/* Idle stacks of the process.  All functions may be called from any OS thread.
 * Blocks: briefly.  Switches: no.  Locks held: none. */

/* Takes up to `n` stacks, neighbours where possible.  Returns how many; 0: no memory. */
unsigned cont__depot_take(unsigned shift, struct cont_stack **out, unsigned n);

/* Puts stacks back; sorts the array. */
void cont__depot_put(struct cont_stack **stacks, unsigned n);

/* Gives all pages of the depot's stacks back. */
void cont__depot_trim(void);

/* For who calls decay each second: up to `max` stacks keep their pages meanwhile.  0: nobody
 * does so any more; pages beyond the usual limit go before it returns. */
void cont__depot_keep(size_t max);

/* Begins a decay: half of the pages that were not needed since the last call go, by as many
 * calls of decay_step as return nonzero, a group each (60 us).  Returns how many stacks
 * have pages beyond the usual limit: 0: there is no need to come again, for now. */
size_t cont__depot_decay(void);
int cont__depot_decay_step(void);

/* Stacks that are not here: in use, or in a cache.  No lock. */
size_t cont__depot_taken(void);

struct cont__depot_counts {
    size_t carved;              /* stacks that exist                                     */
    size_t idle;                /* of these, in the depot                                */
    size_t dirty;               /* of these, with pages                                  */
};
void cont__depot_count(struct cont__depot_counts *out);

/* The lock, for the cache's registry and for fork: a child finds the depot whole. */
void cont__depot_lock(void);
void cont__depot_unlock(void);
void cont__depot_reset_lock(void);

/* True if all lists, masks and counts agree.  O(stacks). */
int cont__depot_is_valid(void);

#endif
