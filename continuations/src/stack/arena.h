#ifndef CONT_STACK_ARENA_H
#define CONT_STACK_ARENA_H

#include "base/list.h"
#include "stack/stack.h"

/* 64 neighbouring stacks: as many as a word has bits, and enough that one system call
 * for all of them costs each a tenth of its own. */
#define CONT__GROUP_STACKS 64

/* Under the depot's lock, all of it. */
struct cont__group {
    struct cont__list node;         /* in one of the depot's lists, or in none           */
    uint64_t idle;                  /* bit i: stack i is in the depot                    */
    uint64_t dirty;                 /* subset of idle: has pages                         */
    struct cont_stack stacks[CONT__GROUP_STACKS];
};

/* The next group of stacks of size 1 << shift, readable and writable, all of them idle
 * and clean; NULL: no memory.  The caller serialises (the depot's lock). */
struct cont__group *cont__arena_carve(unsigned shift);

/* The whole range of a group's addresses. */
static inline char *
cont__group_bottom(const struct cont__group *g)
{
    return cont__stack_bottom(&g->stacks[0]);
}

static inline size_t
cont__group_bytes(const struct cont__group *g)
{
    return (size_t)CONT__GROUP_STACKS << g->stacks[0].shift;
}

int cont__group_is_valid(const struct cont__group *g);

/* Goes round all groups that are carved: the next one, or NULL after the last, and then the
 * first again.  Starts from zeros.  No lock; of stacks that the caller does not own it may
 * only read what is constant, and `owner`. */
struct cont__arena_hand {
    size_t arena, group;
};
struct cont__group *cont__arena_next(struct cont__arena_hand *hand);

/* How many there are. */
size_t cont__arena_groups(void);

/* What an address is to us.  Async-signal-safe. */
enum cont__address {
    CONT__ADDRESS_FOREIGN,          /* of no arena                                       */
    CONT__ADDRESS_GUARD,
    CONT__ADDRESS_STACK,
};
enum cont__address cont__arena_classify(const void *addr);

/* Stacks for which addresses are reserved. */
size_t cont__arena_reserved(void);

#endif
