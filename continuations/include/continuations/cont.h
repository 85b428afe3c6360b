#ifndef CONTINUATIONS_CONT_H
#define CONTINUATIONS_CONT_H

/* One-shot, stackful continuations: a suspended native call stack as a value.
 *
 * A continuation owns the addresses of its stack from its first resume until its
 * body has returned, because native frames hold absolute addresses.  It is resumed
 * by an OS thread (or by the body of another continuation: they nest), runs on its
 * own stack, and comes back to whoever resumed it, by cont_yield() or by returning.
 * The next resume may come from another OS thread.
 *
 *      resumer's stack                    continuation's stack (grows down)
 *      +------------------+               +------------------+ base
 *      | cont_resume(c) --|-- switch ---->| entry(arg)       |
 *      |                  |               |   ...            |
 *      |   returns      <-|-- switch -----|   cont_yield(c)  |
 *      +------------------+               |   saved registers| <- c->sp while suspended
 *                                         | . . . . . . . .  |
 *                                         | guard            |
 *                                         +------------------+ limit
 *
 * What this layer never does: decide who runs (cpool.h does), lock, or allocate
 * anything but stacks.  A continuation is used by one OS thread at a time; making
 * sure of that, with acquire/release ordering from a yield to the next resume, is
 * the caller's part.
 *
 * In each contract below, "Switches" says whether the caller's stack may be left.
 */

#include <stddef.h>
#include <stdint.h>

#include "continuations/stack.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cont_state {
    CONT_NEW = 0,       /* initialised; has no stack yet                              */
    CONT_RUNNING,       /* between a resume and the yield or return that answers it   */
    CONT_SUSPENDED,     /* yielded; its frames are live on its stack                  */
    CONT_FROZEN,        /* the same, and their bytes are in a heap image              */
    CONT_DONE,          /* the body returned; the stack has been given back           */
};

typedef void (*cont_entry_fn)(void *arg);

/* Embedded in the owner's memory, which must not move.  Fields are private to
 * src/cont; the struct is complete here only so that it can be embedded. */
struct cont {
    void *sp;                   /* saved stack pointer while SUSPENDED or FROZEN      */
    union {
        void *resumer_sp;       /* saved stack pointer of the resumer while RUNNING   */
        struct cont__image *image;      /* the bytes of its stack while FROZEN        */
    };
    struct cont_stack *stack;   /* NULL before the first resume and after the end     */
    cont_entry_fn entry;
    void *arg;
    uint32_t state;             /* enum cont_state                                    */
    uint32_t flags;             /* log2 of the stack size, once there is a stack           */
};

/* Prepares `c`; takes no stack yet.
 * Blocks: no.  Allocates: no.  Switches: no.  Locks held: any. */
void cont_init(struct cont *c, cont_entry_fn entry, void *arg);

/* Runs `c`, which is thawed first if it is FROZEN, until it yields or ends.  Returns 0 when
 * it has (ask cont_state()), -ENOMEM when no stack could be had (c stays NEW), -EINVAL when
 * c is RUNNING or DONE.
 * Blocks: only if the body does.  Allocates: a stack, at the first resume.
 * Switches: yes.  Locks held: none. */
int cont_resume(struct cont *c);

/* Suspends `c`, which must be the continuation that runs here, innermost.
 * Returns when somebody resumes it, possibly on another OS thread.
 * Blocks: no.  Allocates: no.  Switches: yes.  Locks held: none. */
void cont_yield(struct cont *c);

static inline enum cont_state
cont_state(const struct cont *c)
{
    return (enum cont_state)c->state;
}

/* Moves the live part of SUSPENDED continuations, cont_live_bytes() each, into heap blocks of
 * that size, and gives the pages of their stacks back, those of neighbours in one call.  The
 * stacks' addresses stay theirs.  Nothing that anybody else reads or writes may lie on these
 * stacks, and nobody may resume them meanwhile.  Returns how many are FROZEN now: those for
 * which there was no memory stay as they are.  Sorts the array by address.
 * Blocks: no.  Allocates: the images.  Switches: no.  Locks held: any. */
unsigned cont_freeze(struct cont **c, unsigned n);

/* The opposite, for one: the bytes are at their addresses again.  Cannot fail.
 * Blocks: no.  Allocates: no (its pages come back).  Switches: no.  Locks held: any. */
void cont_thaw(struct cont *c);

/* Gives the pages back that a SUSPENDED continuation touched once, deeper than it is now,
 * but for the next 16 KB.
 * Blocks: no.  Allocates: no.  Switches: no.  Locks held: any. */
void cont_trim(struct cont *c);

/* Forgets a continuation that is NEW or DONE, or one that is SUSPENDED or FROZEN and whose
 * frames need no unwinding (its stack is given back as it is: for process teardown,
 * and for a forked child).  RUNNING is accepted only in a forked child that lost the OS
 * thread on which it ran; elsewhere, its stack would be in use.
 * Blocks: no.  Allocates: no.  Switches: no.  Locks held: none. */
void cont_abandon(struct cont *c);

/* The usable addresses [limit, base) of c's stack; both NULL without a stack. */
void cont_stack_bounds(const struct cont *c, void **limit, void **base);

/* Bytes of live stack, [sp, base), of a suspended or frozen continuation. */
size_t cont_live_bytes(const struct cont *c);

#ifdef __cplusplus
}
#endif
#endif
