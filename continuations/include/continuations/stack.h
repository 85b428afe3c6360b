#ifndef CONTINUATIONS_STACK_H
#define CONTINUATIONS_STACK_H

/* The stacks of continuations, as a whole: their size, how many there are, what they hold.
 * All functions may be called from any OS thread. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cont_stack;              /* one of them; opaque, see src/stack */

#define CONT_STACK_SIZE_DEFAULT  ((size_t)1 << 20)   /* virtual; only touched pages count */
#define CONT_STACK_SIZE_MIN      ((size_t)64 << 10)

/* Sets the size of stacks reserved from now on.  -EINVAL outside
 * [CONT_STACK_SIZE_MIN, 1 GiB]; rounded up to a power of two. */
int cont_set_stack_size(size_t bytes);
size_t cont_get_stack_size(void);

struct cont_stack_stats {
    size_t reserved;            /* stacks whose addresses are reserved                */
    size_t resident;            /* of these, owned by a live continuation, not frozen */
    size_t frozen;              /* owned by a frozen one: no pages, see cont_freeze() */
    size_t image_bytes;         /* what these take on the heap instead                */
    size_t idle;                /* in the free lists, pages possibly still present    */
    size_t stack_size;
};
void cont_stack_get_stats(struct cont_stack_stats *out);

/* Gives the pages of idle stacks back to the kernel. */
void cont_stack_trim(void);

/* True if `addr` lies in a guard area; for a SIGSEGV handler (async-signal-safe). */
int cont_stack_is_guard(const void *addr);

/* The child of a fork has one OS thread: makes this layer's locks usable again. */
void cont_after_fork_child(void);

#ifdef __cplusplus
}
#endif
#endif
