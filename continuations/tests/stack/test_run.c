/* Runs: what goes in one call, and what of it stays. */

#include "stack/run.h"
#include "stack/arena.h"

#include "stack/prim.h"

#include "check.h"

#define SHIFT 18

static void
use(struct cont_stack *s)
{
    s->dirty = 1;
    memset(s->base - 4096, 1, 4096);
    *((char *)cont__stack_limit(s)) = 1;
}

static int
is_clean(struct cont_stack *s)
{
    return !s->dirty && s->base[-1] == 0 && *(char *)cont__stack_limit(s) == 0;
}

static void
guard_and_use(struct cont__group *g)
{
    for (int i = 0; i < CONT__GROUP_STACKS; i++) {
        if (g->stacks[i].guard == CONT__GUARD_NONE) {
            cont__stack_guard(&g->stacks[i]);
        }
        use(&g->stacks[i]);
    }
}

int
main(void)
{
    struct cont__group *g = cont__arena_carve(SHIFT), *h = cont__arena_carve(SHIFT);
    CHECK(g != NULL && h != NULL);

    /* Any order, gaps, and the border of two groups. */
    struct cont_stack *s[] = {&h->stacks[0], &g->stacks[5], &g->stacks[3], &g->stacks[4],
                              &g->stacks[63], &g->stacks[9]};
    cont__run_sort(s, 6);
    for (int i = 0; i + 1 < 6; i++) {
        CHECK(s[i]->base < s[i + 1]->base);
    }
    CHECK_EQ(cont__run_length(s, 6), 3);
    CHECK_EQ(cont__run_length(s, 2), 2);
    CHECK_EQ(cont__run_length(s + 3, 3), 1);
    CHECK_EQ(cont__run_length(s + 4, 2), 1);    /* another group is another mapping, perhaps */

    guard_and_use(g);
    guard_and_use(h);
    const int guarded = g->stacks[4].guard != CONT__GUARD_NONE;
    cont__run_purge(s, 6);
    for (int i = 0; i < 6; i++) {
        CHECK(is_clean(s[i]));
        CHECK_EQ(s[i]->guard != CONT__GUARD_NONE, guarded);
    }
    CHECK_EQ(g->stacks[2].base[-1], 1);
    CHECK_EQ(g->stacks[6].base[-1], 1);

    /* Long runs are renewed, short ones purged. */
    guard_and_use(g);
    struct cont_stack *t[CONT__GROUP_STACKS];
    unsigned n = 0;
    for (unsigned i = 0; i < 32; i++) {
        t[n++] = &g->stacks[i];
    }
    t[n++] = &g->stacks[40];
    cont__run_give_back(t, n);
    for (unsigned i = 0; i < n; i++) {
        CHECK(is_clean(t[i]));
    }
    CHECK_EQ(g->stacks[0].guard, CONT__GUARD_NONE);
    CHECK_EQ(g->stacks[31].guard, CONT__GUARD_NONE);
    CHECK_EQ(g->stacks[40].guard != CONT__GUARD_NONE, guarded);
    CHECK_EQ(g->stacks[32].base[-1], 1);
    CHECK_EQ(g->stacks[32].guard != CONT__GUARD_NONE, guarded);
    CHECK_EQ(cont_stack_is_guard(cont__stack_bottom(&g->stacks[32])), 1);
    guard_and_use(g);                           /* usable again, guards included        */
    CHECK_EQ(g->stacks[0].guard != CONT__GUARD_NONE, guarded);

    /* Where it can't be had, the pages go and the guards stay. */
    cont__prim_fail_after(0);
    cont__run_renew(t, 32);
    cont__prim_fail_after(-1);
    for (unsigned i = 0; i < 32; i++) {
        CHECK(is_clean(t[i]));
        CHECK_EQ(t[i]->guard != CONT__GUARD_NONE, guarded);
    }
    CHECK(cont__group_is_valid(g));
    return 0;
}
