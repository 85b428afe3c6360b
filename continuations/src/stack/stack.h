#ifndef CONT_STACK_STACK_H
#define CONT_STACK_STACK_H

/* Where the stacks of continuations live.
 *
 *      cache.c     idle stacks of one OS thread; no lock, no atomic operation
 *      depot.c     idle stacks of the process, in groups of neighbours; one lock
 *      arena.c     reserved addresses, carved into groups
 *      run.c       neighbours, whose pages go in one call
 *      image.c     the bytes of a frozen stack
 *      delta.c     as differences from another one's
 *      clock.c     how a reclaimer looks at all that are in use
 *      prim.h      the operating system
 *
 * A stack and what surrounds it (size 1 MB):
 *
 *      base  = k * size      ---- first byte after the stack; the next one's guard begins
 *                            live frames of the continuation
 *                      sp -> ----
 *                            pages that were touched once, or never
 *      limit                 ---- lowest usable byte
 *                            guard, cont__stack_guard_bytes()
 *      base - size           ----
 *
 * The struct is in the arena's own memory and not on the stack, so that a stack without
 * pages still has it. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "continuations/stack.h"
#include "base/sanitizer.h"
#include "stack/prim.h"

/* Where the bytes of a stack's live part are. */
enum cont__residency {
    CONT__RESIDENT = 0,         /* at their addresses                                    */
    CONT__FROZEN,               /* in an image (image.h)                                 */
};

enum cont__stack_state {
    CONT__STACK_IDLE = 0,       /* in a cache or in the depot                            */
    CONT__STACK_OWNED,          /* between acquire and release                           */
};

struct cont__group;

/* Written by the owner while OWNED, by the owner of the cache or under the depot's lock
 * while IDLE. */
struct cont_stack {
    char *base;                 /* constant                                              */
    struct cont__group *group;  /* constant                                              */
    uint8_t index;              /* constant: which of the group's stacks                 */
    uint8_t shift;              /* constant: log2 of the size                            */
    uint8_t state;              /* enum cont__stack_state                                */
    uint8_t guard;              /* enum cont__guard_result; NONE: to be installed        */
    uint8_t residency;          /* enum cont__residency                                  */
    uint8_t dirty;              /* pages were touched since they were given back         */
    /* clock.c; the rest is the owner's at enter, the reclaimer's while it claims.  Not in one
     * word with the bytes above, which others read together. */
    void *_Atomic owner;        /* NULL: nobody who wants to be looked at                */
    uint32_t era;
    uint32_t seen : 30;         /* of the owner's state, at the reclaimer's last visit   */
    uint32_t looked : 2;        /* what it has found out, while `seen` holds             */
#ifdef CONT__SANITIZER
    void *sanitizer[4];         /* sanitizer.h's, while OWNED                            */
#endif
};

#define CONT__STACK_SHIFT_MIN 16                /* CONT_STACK_SIZE_MIN                   */
#define CONT__STACK_SHIFT_MAX 30                /* 1 GiB                                 */

/* One large frame without stack probes must not jump over the guard: 64 KB of the
 * default's 1 MB, as a page table entry each costs nothing; a 16th of smaller ones. */
static inline size_t
cont__stack_guard_bytes(unsigned shift)
{
    const size_t sixteenth = (size_t)1 << (shift - 4);
    const size_t page = cont__prim_page_size();
    return sixteenth < page ? page : sixteenth < 65536 ? sixteenth : 65536;
}

static inline void *
cont__stack_base(const struct cont_stack *s)
{
    return s->base;
}

/* True for addresses of the stack and of its guard. */
static inline int
cont__stack_contains(const struct cont_stack *s, const void *addr)
{
    return (uintptr_t)s->base - 1 - (uintptr_t)addr < (uintptr_t)1 << s->shift;
}

/* The lowest address of the guard. */
static inline char *
cont__stack_bottom(const struct cont_stack *s)
{
    return s->base - ((size_t)1 << s->shift);
}

static inline void *
cont__stack_limit(const struct cont_stack *s)
{
    return cont__stack_bottom(s) + cont__stack_guard_bytes(s->shift);
}

/* Takes a stack of the current size; NULL: no memory.
 * Blocks: briefly, one call in 16.  Allocates: yes.  Switches: no.  Locks held: none. */
struct cont_stack *cont__stack_acquire(void);

/* Gives a stack back, from any OS thread; nothing of it may be in use.
 * Blocks: briefly, one call in 16.  Allocates: no.  Switches: no.  Locks held: none. */
void cont__stack_release(struct cont_stack *s);

/* True if the fields of `s` agree with each other and with its arena. */
int cont__stack_is_valid(const struct cont_stack *s);

/* Gives the pages of [limit, base - keep) back. */
void cont__stack_purge_below(struct cont_stack *s, size_t keep);

/* Gives the pages of [limit, end) back, of which none is in use; not the page of `end`. */
void cont__stack_purge_under(struct cont_stack *s, char *end);

/* Installs the guard of a stack that has none, if one can be had. */
void cont__stack_guard(struct cont_stack *s);

/* Stacks that are in use and not frozen.  Counts as in use what is in the caches; takes no
 * lock. */
size_t cont__stack_resident(void);

#endif
