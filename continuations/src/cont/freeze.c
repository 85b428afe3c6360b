/* Freezing: what a suspended continuation needs moves to the heap, its pages go.
 *
 *      cont_freeze     [lowest, base) -> image; state FROZEN; then the pages, in runs
 *      cont_thaw       image -> [lowest, base), the same addresses; state SUSPENDED
 *
 * The state and the image are there before the first page goes, so that a child which is
 * forked in the middle finds a continuation that can be abandoned either way.
 *
 * Never done here: to decide whose frames may be moved out of sight, and when; what is on
 * somebody's stack may be known to others, and only the host knows (cpool.h).
 *
 * Budget: 3.7 us of CPU to freeze, of which the image of 1 KB takes 0.1 and most is the pages
 * (stack/run.c); 6 to thaw, which are the page, a new page table and the guard
 * (bench/bench_reclaim.c; a virtual machine, where these cost most). */

#include "cont/cont_internal.h"

#include "arch/switch.h"
#include "base/assert.h"
#include "stack/image.h"
#include "stack/run.h"
#include "stack/stack.h"

#include <errno.h>
#include <stdlib.h>

/* cont_trim: what the next calls will touch, like as not. */
#define TRIM_KEEP ((size_t)16 << 10)

/* The lowest byte that a suspended continuation may need. */
static char *
lowest(const struct cont *c)
{
    char *limit = cont__stack_limit(c->stack);
    char *at = (char *)c->sp - CONT__SWITCH_BELOW;
    return at > limit ? at : limit;
}

int
cont__freeze_in_place(struct cont *c)
{
    CONT_CHECK(c->state == CONT_SUSPENDED
               && !cont__stack_contains(c->stack, __builtin_frame_address(0)));
    cont__check_poison(c);
    struct cont__image *image = cont__image_make(c->stack, lowest(c));
    if (image == NULL) {
        return -ENOMEM;
    }
    c->image = image;
    c->state = CONT_FROZEN;
    return 0;
}

static int
compare_stacks(const void *a, const void *b)
{
    const char *x = (*(struct cont *const *)a)->stack->base;
    const char *y = (*(struct cont *const *)b)->stack->base;
    return (x > y) - (x < y);
}

unsigned
cont_freeze(struct cont **c, unsigned n)
{
    enum { BATCH = 64 };                /* as many as a group of neighbours has        */
    struct cont_stack *frozen[BATCH];
    unsigned k = 0, all = 0;
    if (n > 1) {
        qsort(c, n, sizeof(*c), compare_stacks);
    }
    for (unsigned i = 0; i < n; i++) {
        if (cont__freeze_in_place(c[i]) == 0) {
            frozen[k++] = c[i]->stack;
            all++;
        }
        if (k == BATCH || i + 1 == n) {
            cont__run_give_back(frozen, k);
            k = 0;
        }
    }
    return all;
}

void
cont_thaw(struct cont *c)
{
    CONT_CHECK(c->state == CONT_FROZEN);
    cont__image_restore(c->image, c->stack);
    c->image = NULL;
    c->state = CONT_SUSPENDED;
    cont__poison(c);
}

void
cont_trim(struct cont *c)
{
    CONT_CHECK(c->state == CONT_SUSPENDED);
    cont__stack_purge_under(c->stack, lowest(c) - TRIM_KEEP);
}
