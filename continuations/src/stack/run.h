#ifndef CONT_STACK_RUN_H
#define CONT_STACK_RUN_H

#include "stack/stack.h"

/* Runs: neighbouring stacks whose pages are given back by one system call.  Nothing of any
 * of them may be in use.
 * Blocks: no.  Allocates: no.  Switches: no.  Locks held: any. */

/* Sorts by address; quick for what is nearly sorted, and meant for some dozens. */
void cont__run_sort(struct cont_stack **stacks, unsigned n);

/* How many of n > 0 sorted stacks, from the first on, are neighbours. */
unsigned cont__run_length(struct cont_stack *const *stacks, unsigned n);

/* Gives the pages of sorted stacks back.  Guards stay, and with them page tables. */
void cont__run_purge(struct cont_stack *const *stacks, unsigned n);

/* The same, and guards and page tables go as well. */
void cont__run_renew(struct cont_stack *const *stacks, unsigned n);

/* Either, by what is cheaper in the end: for stacks that will be used again soon, or not at
 * all.  Guards that are gone are CONT__GUARD_NONE. */
void cont__run_give_back(struct cont_stack *const *stacks, unsigned n);

#endif
