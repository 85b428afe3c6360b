/* Runs of neighbouring stacks.
 *
 * Giving pages back costs a system call, and a flush of other cores' address translations,
 * whether for one stack or for 64: 2.1 us one by one, 1.0 us in runs of 64 (in a virtual
 * machine, where page tables cost most).  Renewal, which maps the addresses anew, also frees
 * the page tables, 2 KB a stack, that a light guard keeps alive:
 *
 *      run of      1       2       4       16      64
 *      purge       2.1     1.6     1.5     1.1     1.0    us a stack
 *      renew       7.8     5.9     2.6     1.3     1.0    us a stack
 *
 * and whoever comes back has to install the guard again, 1.9 us, most of it for the new page
 * table.  (Dropping the guards first, then a purge, frees the tables on kernels that can,
 * at 4 to 8 us a stack.) */

#include "stack/run.h"

#include "stack/arena.h"
#include "stack/prim.h"

/* From here on renewal costs about what a purge does. */
#define RENEW_MIN 8

void
cont__run_sort(struct cont_stack **stacks, unsigned n)
{
    for (unsigned i = 1; i < n; i++) {
        struct cont_stack *s = stacks[i];
        unsigned k = i;
        for (; k > 0 && (uintptr_t)stacks[k - 1]->base > (uintptr_t)s->base; k--) {
            stacks[k] = stacks[k - 1];
        }
        stacks[k] = s;
    }
}

unsigned
cont__run_length(struct cont_stack *const *stacks, unsigned n)
{
    unsigned k = 1;
    while (k < n && stacks[k]->group == stacks[0]->group
           && stacks[k]->index == stacks[0]->index + k)
    {
        k++;
    }
    return k;
}

static void
purge(struct cont_stack *const *run, unsigned n)
{
    char *from = cont__stack_limit(run[0]);
    char *to = cont__stack_base(run[n - 1]);
    cont__prim_purge(from, (size_t)(to - from));
    for (unsigned i = 0; i < n; i++) {
        run[i]->dirty = 0;
    }
}

static void
renew(struct cont_stack *const *run, unsigned n)
{
    unsigned mappings = 0;
    uint8_t guards[CONT__GROUP_STACKS];
    char *from = cont__stack_bottom(run[0]);
    char *to = cont__stack_base(run[n - 1]);
    /* First of all: a child that is forked in the middle must not believe in guards that
     * have gone. */
    for (unsigned i = 0; i < n; i++) {
        guards[i] = run[i]->guard;
        mappings += guards[i] == CONT__GUARD_MAPPING;
        run[i]->guard = CONT__GUARD_NONE;
        run[i]->dirty = 0;
    }
    atomic_signal_fence(memory_order_seq_cst);
    if (cont__prim_renew(from, (size_t)(to - from)) != 0) {
        for (unsigned i = 0; i < n; i++) {
            run[i]->guard = guards[i];
        }
    }
    else if (mappings > 0) {
        cont__prim_unguarded(mappings);
    }
}

void
cont__run_purge(struct cont_stack *const *stacks, unsigned n)
{
    for (unsigned i = 0, k; i < n; i += k) {
        k = cont__run_length(stacks + i, n - i);
        purge(stacks + i, k);
    }
}

void
cont__run_renew(struct cont_stack *const *stacks, unsigned n)
{
    for (unsigned i = 0, k; i < n; i += k) {
        k = cont__run_length(stacks + i, n - i);
        renew(stacks + i, k);
    }
}

void
cont__run_give_back(struct cont_stack *const *stacks, unsigned n)
{
    for (unsigned i = 0, k; i < n; i += k) {
        k = cont__run_length(stacks + i, n - i);
        (k >= RENEW_MIN ? renew : purge)(stacks + i, k);
    }
}
