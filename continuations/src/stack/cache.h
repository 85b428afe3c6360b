#ifndef CONT_STACK_CACHE_H
#define CONT_STACK_CACHE_H

#include "stack/stack.h"

/* Idle stacks of the calling OS thread.
 * Blocks: briefly, when it talks to the depot.  Switches: no.  Locks held: none. */

/* Takes a stack of the given size, from the depot when there is none here; NULL: no
 * memory.  Allocates: the cache, at the thread's first call. */
struct cont_stack *cont__cache_take(unsigned shift);

/* Keeps a stack, or passes it on to the depot. */
void cont__cache_put(struct cont_stack *s);

/* Empties the calling thread's cache now, and each other one at its next put. */
void cont__cache_flush(void);

/* Idle stacks in all caches: exact when no thread takes or puts. */
size_t cont__cache_count(void);

/* In the child of a fork: gives the stacks of vanished threads' caches to the depot. */
void cont__cache_adopt(void);

#endif
