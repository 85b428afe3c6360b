/* One continuation: create, resume, yield, end.
 *
 * The whole of it is a change of stacks with a state around it:
 *
 *      NEW ------- resume, a stack was had ------> RUNNING
 *      RUNNING --- cont_yield ------------------> SUSPENDED
 *      SUSPENDED - resume ----------------------> RUNNING
 *      RUNNING --- the body returns ------------> DONE
 *      SUSPENDED - cont_freeze ------------------> FROZEN
 *      FROZEN ---- cont_thaw, resume ------------> SUSPENDED
 *      NEW, SUSPENDED, FROZEN - cont_abandon ----> DONE
 *
 * `state` is written by the side that runs, just before it switches; the other side reads
 * it just after.  The stack is taken and given back by the resumer, on the resumer's
 * stack: the only place from which nothing of it is in use.
 *
 * A thread-local variable is never touched between the two halves of a switch (see
 * arch/switch.h), and this file holds none.
 *
 * Budget: resume and yield together 20 ns; a whole life without a yield 70 ns with a cached
 * stack (bench/bench_switch.c). */

#include "cont/cont_internal.h"

#include "arch/switch.h"
#include "base/assert.h"
#include "base/sanitizer.h"
#include "stack/image.h"
#include "stack/stack.h"

#include <errno.h>
#include <string.h>

/* True if the calling function runs on c's stack.  c->sp, of the last switch, lies there
 * too, and stacks are aligned to their size: c's stack struct, a cache line more, need not
 * be read at every yield. */
#define RUNS_HERE(c) \
    ((((uintptr_t)__builtin_frame_address(0) ^ (uintptr_t)(c)->sp) >> (c)->flags) == 0)

void
cont_init(struct cont *c, cont_entry_fn entry, void *arg)
{
    CONT_CHECK(entry != NULL);
    memset(c, 0, sizeof(*c));
    c->entry = entry;
    c->arg = arg;
    c->state = CONT_NEW;
}

#ifdef CONT_HARD
/* Fills the dead bytes under a stack that is left, to make those visible who still use
 * them, and looks at them before the stack is entered again: whoever wrote there held an
 * address of a frame that had returned. */
#define POISON_BYTES 1024
#define POISON 0xdb

static size_t
poison_room(const struct cont *c, char **top)
{
    char *limit = cont__stack_limit(c->stack);
    char *at = (char *)c->sp - CONT__SWITCH_BELOW;
    if (at <= limit) {
        return 0;
    }
    *top = at;
    return (size_t)(at - limit) < POISON_BYTES ? (size_t)(at - limit) : POISON_BYTES;
}

void
cont__poison(struct cont *c)
{
    char *top = NULL;
    size_t n = poison_room(c, &top);
    if (n != 0) {
        cont__san_fill(top - n, POISON, n);
    }
}

void
cont__check_poison(struct cont *c)
{
    char *top = NULL;
    size_t n = poison_room(c, &top);
    if (n != 0) {
        CONT_CHECK(cont__san_is_filled(top - n, POISON, n));
    }
}
#endif

/* The outermost function of every continuation, on its stack. */
static void
run(void *arg)
{
    struct cont *c = arg;
    cont__san_after_switch(c->stack->sanitizer, CONT__SAN_INTO, NULL);
    c->entry(c->arg);
    c->state = CONT_DONE;
    void *unused;
    cont__san_before_switch(c->stack->sanitizer, CONT__SAN_END, &unused, NULL, NULL);
    cont__switch(&c->sp, c->resumer_sp);
    __builtin_unreachable();
}

static void
give_back(struct cont *c)
{
    struct cont_stack *s = c->stack;
    cont__san_stack_end(s->sanitizer, cont__stack_limit(s), c->sp, cont__stack_base(s));
    c->stack = NULL;
    c->sp = NULL;
    cont__stack_release(s);
}

int
cont_resume(struct cont *c)
{
    CONT_ASSERT(cont__is_valid(c));
    if (c->state == CONT_NEW) {
        struct cont_stack *s = cont__stack_acquire();
        if (s == NULL) {
            return -ENOMEM;
        }
        c->stack = s;
        c->flags = s->shift;
        cont__san_stack_begin(s->sanitizer, cont__stack_limit(s), cont__stack_base(s));
        c->sp = cont__switch_make(cont__stack_base(s), cont__stack_limit(s), run, c);
    }
    else if (c->state == CONT_SUSPENDED) {
        cont__check_poison(c);
    }
    else if (c->state == CONT_FROZEN) {
        cont_thaw(c);
    }
    else {
        return -EINVAL;
    }

    c->state = CONT_RUNNING;
    void *fake = NULL;
    cont__san_before_switch(c->stack->sanitizer, CONT__SAN_INTO, &fake,
                            cont__stack_limit(c->stack), cont__stack_base(c->stack));
    cont__switch(&c->resumer_sp, c->sp);
    cont__san_after_switch(c->stack->sanitizer, CONT__SAN_OUT, fake);
    c->resumer_sp = NULL;
    if (c->state == CONT_DONE) {
        give_back(c);
    }
    else {
        cont__poison(c);
    }
    CONT_ASSERT(cont__is_valid(c));
    return 0;
}

void
cont_yield(struct cont *c)
{
    /* Also finds a yield of an outer continuation from an inner one's body. */
    CONT_CHECK(c->state == CONT_RUNNING && RUNS_HERE(c));
    c->state = CONT_SUSPENDED;
    void *fake = NULL;
    cont__san_before_switch(c->stack->sanitizer, CONT__SAN_OUT, &fake, NULL, NULL);
    cont__switch(&c->sp, c->resumer_sp);
    cont__san_after_switch(c->stack->sanitizer, CONT__SAN_INTO, fake);
}

void
cont_abandon(struct cont *c)
{
    CONT_ASSERT(cont__is_valid(c));
    if (c->stack != NULL) {
        CONT_CHECK(!cont__stack_contains(c->stack, __builtin_frame_address(0)));
        if (c->state == CONT_RUNNING) {
            /* The OS thread that ran it did not survive a fork: where it was is not
             * known, so nothing of the stack is. */
            c->sp = cont__stack_limit(c->stack);
        }
        else if (c->state == CONT_FROZEN) {
            cont__image_drop(c->image, c->stack);
        }
        give_back(c);
    }
    c->resumer_sp = NULL;
    c->state = CONT_DONE;
}

void
cont_stack_bounds(const struct cont *c, void **limit, void **base)
{
    const struct cont_stack *s = c->stack;
    *limit = s != NULL ? cont__stack_limit(s) : NULL;
    *base = s != NULL ? cont__stack_base(s) : NULL;
}

size_t
cont_live_bytes(const struct cont *c)
{
    if (c->state != CONT_SUSPENDED && c->state != CONT_FROZEN) {
        return 0;
    }
    return (size_t)((char *)cont__stack_base(c->stack) - (char *)c->sp);
}

int
cont__is_valid(const struct cont *c)
{
    if (c->entry == NULL) {
        return 0;
    }
    switch (cont_state(c)) {
    case CONT_NEW:
    case CONT_DONE:
        return c->stack == NULL && c->sp == NULL && c->resumer_sp == NULL;
    case CONT_RUNNING:
        return c->stack != NULL && cont__stack_is_valid(c->stack);
    case CONT_FROZEN:
        return c->stack != NULL && cont__stack_is_valid(c->stack) && c->image != NULL
               && c->stack->residency == CONT__FROZEN
               && cont__stack_contains(c->stack, c->sp);
    case CONT_SUSPENDED:
        return c->stack != NULL && cont__stack_is_valid(c->stack)
               && c->stack->residency == CONT__RESIDENT
               && c->resumer_sp == NULL && cont__stack_contains(c->stack, c->sp);
    }
    return 0;
}
