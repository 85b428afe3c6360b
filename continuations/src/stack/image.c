/* Images of frozen stacks.
 *
 * From the heap, because the sizes are those of the frames that happen to be there, and most
 * blocks live for seconds: what malloc is made for.  Restoring allocates nothing, so a
 * continuation that was frozen can always be resumed.
 *
 * Budget: what costs is the page that is given back and comes again, 2 to 4 us together
 * (run.c). */

#include "stack/image.h"

#include "base/assert.h"
#include "base/sanitizer.h"
#include "stack/delta.h"
#include "stack/prim.h"

#include <stdatomic.h>
#include <stdlib.h>

struct cont__image {
    const struct cont__template *of;
    uint32_t n;                         /* words that it stands for                      */
    uint32_t n_literals;
    uint64_t words[];                   /* their kinds, the literals                     */
};

static size_t
heap_bytes(size_t n, size_t n_literals)
{
    return sizeof(struct cont__image) + (CONT__DELTA_KINDS(n) + n_literals) * sizeof(uint64_t);
}

/* By whoever freezes or thaws; relaxed, because they order nothing. */
static _Atomic size_t n_images, n_bytes;
static _Atomic int fail_after = -1;     /* written by tests                              */

#ifdef CONT_HARD
/* What lies on the stack while its bytes are in the image, if its pages stay. */
#define POISON 0xdc

static void
poison(char *from, size_t n)
{
    cont__san_fill(from, POISON, n);
}

static void
check_poison(const char *from, size_t n)
{
    /* Zeros: the pages were given back. */
    CONT_CHECK(cont__san_is_filled(from, POISON, n) || cont__san_is_filled(from, 0, n));
}
#else
static inline void poison(char *from, size_t n) { (void)from, (void)n; }
static inline void check_poison(const char *from, size_t n) { (void)from, (void)n; }
#endif

static int
fails(void)
{
    int n = atomic_load_explicit(&fail_after, memory_order_relaxed);
    if (CONT__LIKELY(n < 0)) {
        return 0;
    }
    if (n > 0) {
        atomic_store_explicit(&fail_after, n - 1, memory_order_relaxed);
    }
    return n == 0;
}

void
cont__image_fail_after(int n)
{
    atomic_store_explicit(&fail_after, n, memory_order_relaxed);
}

struct cont__image *
cont__image_make(struct cont_stack *s, char *from)
{
    CONT_CHECK(s->residency == CONT__RESIDENT && from >= (char *)cont__stack_limit(s)
               && from < (char *)cont__stack_base(s));
    uint64_t *w = (uint64_t *)((uintptr_t)from & ~(sizeof(*w) - 1));
    const size_t n = (size_t)((uint64_t *)cont__stack_base(s) - w);
    cont__san_define(w, n * sizeof(*w));
    const struct cont__template *of = cont__template_for(w, n);
    const size_t n_literals = cont__delta_literals(of, w, n);
    struct cont__image *image = fails() ? NULL : malloc(heap_bytes(n, n_literals));
    if (image == NULL) {
        return NULL;
    }
    image->of = of;
    image->n = (uint32_t)n;
    image->n_literals = (uint32_t)n_literals;
    cont__delta_encode(of, w, n, image->words, image->words + CONT__DELTA_KINDS(n));
    s->residency = CONT__FROZEN;
    poison((char *)w, n * sizeof(*w));
    atomic_fetch_add_explicit(&n_images, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&n_bytes, heap_bytes(n, n_literals), memory_order_relaxed);
    return image;
}

static void
forget(struct cont__image *image, struct cont_stack *s)
{
    s->residency = CONT__RESIDENT;
    atomic_fetch_sub_explicit(&n_images, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&n_bytes, heap_bytes(image->n, image->n_literals),
                              memory_order_relaxed);
    free(image);
}

void
cont__image_restore(struct cont__image *image, struct cont_stack *s)
{
    CONT_CHECK(s->residency == CONT__FROZEN);
    uint64_t *w = (uint64_t *)cont__stack_base(s) - image->n;
    if (s->guard == CONT__GUARD_NONE) {
        cont__stack_guard(s);
    }
    check_poison((char *)w, image->n * sizeof(*w));
    s->dirty = 1;
    cont__delta_decode(image->of, w, image->n, image->words,
                       image->words + CONT__DELTA_KINDS(image->n));
    forget(image, s);
}

void
cont__image_drop(struct cont__image *image, struct cont_stack *s)
{
    CONT_CHECK(s->residency == CONT__FROZEN);
    forget(image, s);
}

size_t
cont__image_count(void)
{
    return atomic_load_explicit(&n_images, memory_order_relaxed);
}

size_t
cont__image_bytes(void)
{
    return atomic_load_explicit(&n_bytes, memory_order_relaxed);
}
