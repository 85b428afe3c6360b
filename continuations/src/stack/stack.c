/* Stacks as the layers above see them: acquire, release, the public functions.
 *
 * Budget: acquire and release together 5 ns on a cache that is neither empty nor full. */

#include "stack/stack.h"

#include "base/assert.h"
#include "base/sanitizer.h"
#include "stack/arena.h"
#include "stack/cache.h"
#include "stack/clock.h"
#include "stack/depot.h"
#include "stack/image.h"
#include "stack/prim.h"

#include <errno.h>
#include <stdatomic.h>

/* 1 MB: nearly all C functions can be nested as deep as an interpreter's recursion limit goes, and
 * a stack has 2 KB of page tables; at 2 MB these are 4 KB, as much as the page that most stacks
 * touch (docs/MEASUREMENTS.md, "Freezing: how its numbers were chosen"). */
#define DEFAULT_SHIFT 20
_Static_assert(CONT_STACK_SIZE_DEFAULT == (size_t)1 << DEFAULT_SHIFT, "default size");
_Static_assert(CONT_STACK_SIZE_MIN == (size_t)1 << CONT__STACK_SHIFT_MIN, "least size");

/* log2 of the size of stacks handed out from now on.  Written by cont_set_stack_size(),
 * relaxed: it orders nothing. */
static _Atomic unsigned current_shift = DEFAULT_SHIFT;

#ifdef CONT_HARD
/* The first bytes that a user of the stack will overwrite.  They are filled when the stack
 * is given back and looked at when it is taken: somebody who wrote there in between used
 * the stack of a continuation that had ended. */
#define POISON_BYTES 512
#define POISON 0xdd

static void
poison(struct cont_stack *s)
{
    cont__san_fill(s->base - POISON_BYTES, POISON, POISON_BYTES);
}

static void
check_poison(struct cont_stack *s)
{
    /* Zeros: the pages were given back meanwhile. */
    CONT_CHECK(cont__san_is_filled(s->base - POISON_BYTES, POISON, POISON_BYTES)
               || cont__san_is_filled(s->base - POISON_BYTES, 0, POISON_BYTES));
}
#else
static inline void poison(struct cont_stack *s) { (void)s; }
static inline void check_poison(struct cont_stack *s) { (void)s; }
#endif

struct cont_stack *
cont__stack_acquire(void)
{
    struct cont_stack *s =
        cont__cache_take(atomic_load_explicit(&current_shift, memory_order_relaxed));
    if (s == NULL) {
        return NULL;
    }
    CONT_CHECK(s->state == CONT__STACK_IDLE);
    if (CONT__UNLIKELY(s->guard == CONT__GUARD_NONE)) {
        cont__stack_guard(s);
    }
    check_poison(s);
    s->state = CONT__STACK_OWNED;
    s->residency = CONT__RESIDENT;
    s->dirty = 1;
    CONT_ASSERT(cont__stack_is_valid(s));
    return s;
}

void
cont__stack_release(struct cont_stack *s)
{
    CONT_ASSERT(cont__stack_is_valid(s));
    CONT_CHECK(s->state == CONT__STACK_OWNED && s->residency == CONT__RESIDENT);
    cont__clock_leave(s);
    s->state = CONT__STACK_IDLE;
    poison(s);
    cont__cache_put(s);
}

void
cont__stack_guard(struct cont_stack *s)
{
    s->guard = (uint8_t)cont__prim_guard(cont__stack_bottom(s),
                                         cont__stack_guard_bytes(s->shift));
}

size_t
cont__stack_resident(void)
{
    const size_t taken = cont__depot_taken(), frozen = cont__image_count();
    return taken > frozen ? taken - frozen : 0;
}

void
cont__stack_purge_below(struct cont_stack *s, size_t keep)
{
    char *from = cont__stack_limit(s);
    const size_t usable = (size_t)(s->base - from);
    const size_t page = cont__prim_page_size();
    if (keep > usable / 2) {
        keep = usable / 2;
    }
    keep = (keep + page - 1) & ~(page - 1);
    cont__prim_purge(from, usable - keep);
}

void
cont__stack_purge_under(struct cont_stack *s, char *end)
{
    char *from = cont__stack_limit(s);
    end = (char *)((uintptr_t)end & ~(uintptr_t)(cont__prim_page_size() - 1));
    if (end > from) {
        cont__prim_purge(from, (size_t)(end - from));
    }
}

int
cont__stack_is_valid(const struct cont_stack *s)
{
    return s->shift >= CONT__STACK_SHIFT_MIN && s->shift <= CONT__STACK_SHIFT_MAX
           && s->index < CONT__GROUP_STACKS && &s->group->stacks[s->index] == s
           && ((uintptr_t)s->base & (((uintptr_t)1 << s->shift) - 1)) == 0
           && (s->state == CONT__STACK_IDLE || s->state == CONT__STACK_OWNED)
           && (s->residency == CONT__RESIDENT
               || (s->residency == CONT__FROZEN && s->state == CONT__STACK_OWNED));
}

int
cont_set_stack_size(size_t bytes)
{
    if (bytes < CONT_STACK_SIZE_MIN || bytes > (size_t)1 << CONT__STACK_SHIFT_MAX) {
        return -EINVAL;
    }
    unsigned shift = CONT__STACK_SHIFT_MIN;
    /* With pages of 64 KB: one for the guard, and something to use. */
    while ((size_t)1 << shift < bytes || (size_t)1 << shift < 4 * cont__prim_page_size()) {
        shift++;
    }
    atomic_store_explicit(&current_shift, shift, memory_order_relaxed);
    return 0;
}

size_t
cont_get_stack_size(void)
{
    return (size_t)1 << atomic_load_explicit(&current_shift, memory_order_relaxed);
}

void
cont_stack_get_stats(struct cont_stack_stats *out)
{
    struct cont__depot_counts depot;
    cont__depot_count(&depot);
    const size_t cached = cont__cache_count();
    const size_t idle = depot.idle + cached;
    out->reserved = cont__arena_reserved();
    /* The two counts are not taken at one moment. */
    const size_t taken = depot.carved > idle ? depot.carved - idle : 0;
    out->frozen = cont__image_count();
    out->image_bytes = cont__image_bytes();
    out->resident = taken > out->frozen ? taken - out->frozen : 0;
    out->idle = idle;
    out->stack_size = cont_get_stack_size();
}

void
cont_stack_trim(void)
{
    cont__cache_flush();
    cont__depot_trim();
}

int
cont_stack_is_guard(const void *addr)
{
    return cont__arena_classify(addr) == CONT__ADDRESS_GUARD;
}

void
cont_after_fork_child(void)
{
    cont__san_after_fork_child();
    cont__clock_after_fork_child();
    cont__depot_reset_lock();
    cont__cache_adopt();
}
