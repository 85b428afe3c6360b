/* Images of frozen stacks.
 *
 * From the heap, because the sizes are those of the frames that happen to be there (0.3 to
 * 4 KB), and most blocks live for seconds: what malloc is made for.  Restoring allocates
 * nothing, so a continuation that was frozen can always be resumed.
 *
 * Budget: a KB is copied in some 50 ns; what costs is the page that is given back and
 * comes again, 2 to 4 us together (run.c). */

#include "stack/image.h"

#include "base/assert.h"
#include "base/sanitizer.h"
#include "stack/prim.h"

#include <stdatomic.h>
#include <stdlib.h>

struct cont__image {
    size_t size;                        /* of what follows                               */
    char bytes[];
};

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
    char *base = cont__stack_base(s);
    CONT_CHECK(s->residency == CONT__RESIDENT && from >= (char *)cont__stack_limit(s)
               && from < base);
    const size_t size = (size_t)(base - from);
    struct cont__image *image = fails() ? NULL : malloc(sizeof(*image) + size);
    if (image == NULL) {
        return NULL;
    }
    image->size = size;
    cont__san_copy(image->bytes, from, size);
    s->residency = CONT__FROZEN;
    poison(from, size);
    atomic_fetch_add_explicit(&n_images, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&n_bytes, size, memory_order_relaxed);
    return image;
}

static void
forget(struct cont__image *image, struct cont_stack *s)
{
    s->residency = CONT__RESIDENT;
    atomic_fetch_sub_explicit(&n_images, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&n_bytes, image->size, memory_order_relaxed);
    free(image);
}

void
cont__image_restore(struct cont__image *image, struct cont_stack *s)
{
    CONT_CHECK(s->residency == CONT__FROZEN);
    char *from = (char *)cont__stack_base(s) - image->size;
    if (s->guard == CONT__GUARD_NONE) {
        cont__stack_guard(s);
    }
    check_poison(from, image->size);
    s->dirty = 1;
    cont__san_copy(from, image->bytes, image->size);
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
