#ifndef CONT_BASE_SANITIZER_H
#define CONT_BASE_SANITIZER_H

/* What ASan, TSan, LSan and valgrind must be told about stacks: all of it, and only here.
 *
 * Each of them keeps a notion of "the stack of this thread" that a switch makes wrong.
 * A stack lends four words, `slots`, while a continuation owns it; nobody else looks into them:
 *
 *      slots[0], [1]   ASan: limit and size of the stack to go back to
 *      slots[0]        TSan: not NULL in a forked child where nothing is reported
 *      slots[2]        TSan: the continuation's fibre
 *      slots[3]        TSan: the resumer's fibre; else valgrind's id of the stack
 *
 * A switch is enclosed by two calls, made on the two stacks in turn:
 *
 *      cont__san_before_switch(slots, WAY, &fake, ...)     on the stack that is left
 *      ... switch ...
 *      cont__san_after_switch(slots, WAY, fake)            on the stack that is entered
 *
 * `fake` is a local variable of the side that is left; it is read when that side is
 * entered again.  Without a sanitizer all of this is empty and inline. */

#include <stddef.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#  define CONT__ASAN 1
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer)
#    define CONT__ASAN 1
#  endif
#endif
#if defined(__SANITIZE_THREAD__)
#  define CONT__TSAN 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define CONT__TSAN 1
#  endif
#endif
#if !defined(CONT__ASAN) && !defined(CONT__TSAN) && defined(CONT_VALGRIND)
#  define CONT__VALGRIND 1
#endif

enum cont__san_way {
    CONT__SAN_INTO,     /* from the resumer into the continuation          */
    CONT__SAN_OUT,      /* from the continuation back to its resumer       */
    CONT__SAN_END,      /* the same, and the continuation never runs again */
};

#if defined(CONT__ASAN) || defined(CONT__TSAN) || defined(CONT__VALGRIND)
#  define CONT__SANITIZER 1

/* The stack [limit, base) begins / ends to belong to a continuation.  `low` is the
 * lowest address that may still be marked as somebody's frame. */
void cont__san_stack_begin(void **slots, void *limit, void *base);
void cont__san_stack_end(void **slots, void *limit, void *low, void *base);
#else
#  define cont__san_stack_begin(slots, limit, base) ((void)0)
#  define cont__san_stack_end(slots, limit, low, base) ((void)0)
#endif

#ifdef CONT_HARD
/* memset, and its check, over bytes that no frame owns. */
void cont__san_fill(void *at, int byte, size_t n);
int cont__san_is_filled(const void *at, int byte, size_t n);
#endif

/* A function that reads or writes a stack that nobody runs on: red zones included, and no race,
 * since the caller owns it.  ASan's marks belong to the addresses and stay there while the words
 * are elsewhere; LSan finds what only these refer to through the heap blocks that they are in. */
#define CONT__UNCHECKED __attribute__((noinline, no_sanitize("address", "thread")))

/* memcpy from such a stack. */
#if defined(CONT__ASAN) || defined(CONT__TSAN)
void cont__san_copy(void *to, const void *from, size_t n);
#else
#  define cont__san_copy(to, from, n) ((void)memcpy(to, from, n))
#endif

/* Tells valgrind that what lies there may be compared. */
#ifdef CONT__VALGRIND
void cont__san_define(void *at, size_t n);
#else
#  define cont__san_define(at, n) ((void)0)
#endif

/* In the child of a fork. */
#ifdef CONT__TSAN
void cont__san_after_fork_child(void);
#else
static inline void cont__san_after_fork_child(void) {}
#endif

#if defined(CONT__ASAN) || defined(CONT__TSAN)
void cont__san_before_switch(void **slots, enum cont__san_way way, void **fake,
                             void *limit, void *base);
void cont__san_after_switch(void **slots, enum cont__san_way way, void *fake);
#else
/* Macros: what would be passed is not even computed. */
#  define cont__san_before_switch(slots, way, fake, limit, base) ((void)(fake))
#  define cont__san_after_switch(slots, way, fake) ((void)(fake))
#endif

#endif
