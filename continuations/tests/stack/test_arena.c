#include "stack/arena.h"
#include "stack/prim.h"

#include "check.h"

static void
test_group(unsigned shift)
{
    struct cont__group *g = cont__arena_carve(shift);
    CHECK(g != NULL);
    CHECK(cont__group_is_valid(g));
    CHECK_EQ(cont__group_bytes(g), (size_t)64 << shift);
    CHECK_EQ(g->idle, ~(uint64_t)0);
    CHECK_EQ(g->dirty, 0);
    for (unsigned i = 0; i < CONT__GROUP_STACKS; i++) {
        struct cont_stack *s = &g->stacks[i];
        CHECK(cont__stack_is_valid(s));
        char *limit = cont__stack_limit(s), *base = cont__stack_base(s);
        CHECK(limit < base);
        CHECK_EQ(base - cont__stack_bottom(s), (ptrdiff_t)1 << shift);
        CHECK_EQ(cont__arena_classify(cont__stack_bottom(s)), CONT__ADDRESS_GUARD);
        CHECK_EQ(cont__arena_classify(limit - 1), CONT__ADDRESS_GUARD);
        CHECK_EQ(cont__arena_classify(limit), CONT__ADDRESS_STACK);
        CHECK_EQ(cont__arena_classify(base - 1), CONT__ADDRESS_STACK);
        CHECK(cont__stack_contains(s, base - 1) && !cont__stack_contains(s, base));
        CHECK(cont__stack_contains(s, cont__stack_bottom(s)));
        CHECK(!cont__stack_contains(s, cont__stack_bottom(s) - 1));
        *(volatile char *)limit = 1;            /* usable, both ends */
        *(volatile char *)(base - 1) = 1;
    }
    g->dirty = 1;
    g->idle = 0;
    CHECK(!cont__group_is_valid(g));
    g->dirty = 0;
    CHECK(cont__group_is_valid(g));
    g->stacks[5].index = 6;
    CHECK(!cont__group_is_valid(g));
    CHECK(!cont__stack_is_valid(&g->stacks[5]));
    g->stacks[5].index = 5;
}

int
main(void)
{
    int local;
    CHECK_EQ(cont__arena_reserved(), 0);
    CHECK_EQ(cont__arena_classify(&local), CONT__ADDRESS_FOREIGN);
    CHECK_EQ(cont__arena_classify(NULL), CONT__ADDRESS_FOREIGN);
    CHECK_EQ(cont__arena_classify((void *)-1), CONT__ADDRESS_FOREIGN);

    cont__prim_fail_after(0);
    CHECK(cont__arena_carve(20) == NULL);
    CHECK_EQ(cont__arena_reserved(), 0);
    /* Each failure of the two reservations and two commits leaves it usable. */
    for (int n = 1; n < 4; n++) {
        cont__prim_fail_after(n);
        (void)cont__arena_carve(20);
        cont__prim_fail_after(-1);
        struct cont__group *g = cont__arena_carve(20);
        CHECK(g != NULL && cont__group_is_valid(g));
    }

    unsigned shift = CONT__STACK_SHIFT_MIN;
    while ((size_t)1 << shift < 4 * cont__prim_page_size()) {
        shift++;
    }
    test_group(shift);
    test_group(17);
    for (int i = 0; i < 3; i++) {
        test_group(20);
    }
    test_group(22);

    /* Arenas are used up one after the other, and grow. */
    size_t groups = 0;
    const size_t before = cont__arena_reserved();
    while (cont__arena_reserved() < before + 6000) {
        struct cont__group *g = cont__arena_carve(20);
        CHECK(g != NULL && cont__group_is_valid(g));
        groups++;
    }
    CHECK(groups > 10);
    return 0;
}
