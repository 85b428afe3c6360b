#include "stack/depot.h"
#include "stack/arena.h"
#include "stack/prim.h"

#include "check.h"

#define SHIFT 18

static void
count(size_t carved, size_t idle)
{
    struct cont__depot_counts c;
    cont__depot_count(&c);
    CHECK_EQ(c.carved, carved);
    CHECK_EQ(c.idle, idle);
    CHECK(c.dirty <= c.idle);
    CHECK(cont__depot_is_valid());
}

static size_t
dirty(void)
{
    struct cont__depot_counts c;
    cont__depot_count(&c);
    return c.dirty;
}

static void
use(struct cont_stack *s)
{
    s->dirty = 1;
    memset(s->base - 4096, 1, 4096);
    *(s->base - 40000) = 1;
}

int
main(int argc, char **argv)
{
    (void)argc;
    struct cont_stack *s[128];

    cont__prim_fail_after(0);
    CHECK_EQ(cont__depot_take(SHIFT, s, 1), 0);
    count(0, 0);
    cont__prim_fail_after(-1);

    /* Neighbours, lowest first; a batch does not carve when it has something. */
    CHECK_EQ(cont__depot_take(SHIFT, s, 16), 16);
    for (int i = 0; i < 16; i++) {
        CHECK_EQ(s[i]->base - s[0]->base, (ptrdiff_t)i << SHIFT);
        CHECK(cont__stack_is_valid(s[i]));
    }
    count(64, 48);
    CHECK_EQ(cont__depot_take(SHIFT, s + 16, 64), 48);
    count(64, 0);

    /* What was used last comes back first; in any order; pages of deep use are gone. */
    use(s[3]);
    use(s[4]);
    s[40]->dirty = 1;
    struct cont_stack *some[] = {s[4], s[40], s[3]};
    cont__depot_put(some, 3);
    count(64, 3);
    struct cont_stack *back[3];
    CHECK_EQ(cont__depot_take(SHIFT, back, 3), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(*(back[i]->base - 40000), 0);
    }
    CHECK(back[0] == s[3] && back[1] == s[4] && back[2] == s[40]);

    /* The whole group: trimmed, renewed, without guards. */
    for (int i = 0; i < 64; i++) {
        use(s[i]);
        s[i]->guard = (uint8_t)cont__prim_guard(cont__stack_bottom(s[i]),
                                                cont__stack_guard_bytes(SHIFT));
    }
    cont__depot_put(s, 64);
    count(64, 64);
    cont__depot_trim();
    count(64, 64);
    CHECK_EQ(dirty(), 0);
    CHECK_EQ(cont__depot_take(SHIFT, s, 64), 64);
    for (int i = 0; i < 64; i++) {
        CHECK_EQ(s[i]->guard, CONT__GUARD_NONE);
        CHECK_EQ(s[i]->base[-1], 0);
    }
    count(64, 0);

    /* Part of a group can be trimmed while the rest is in use. */
    use(s[7]);
    use(s[8]);
    cont__depot_put(s + 8, 56);
    cont__depot_trim();
    CHECK_EQ(dirty(), 0);
    CHECK_EQ(s[7]->base[-1], 1);
    CHECK_EQ(s[8]->base[-1], 0);
    cont__depot_put(s, 8);
    count(64, 64);

    /* However many come back, few stay dirty; beside a model. */
    uint64_t random = check_take_seed(argv);
    enum { N = 4000 };
    static struct cont_stack *held[N];
    int n = 0;
    size_t carved = 64;
    for (int round = 0; round < 3000; round++) {
        const unsigned want = 1 + (unsigned)(check_random(&random) % 64);
        if ((check_random(&random) & 1) && n + (int)want <= N) {
            const unsigned got = cont__depot_take(SHIFT, held + n, want);
            CHECK(got > 0 && got <= want);
            for (unsigned i = 0; i < got; i++) {
                held[n + (int)i]->dirty = 1;
            }
            n += (int)got;
        }
        else if (n > 0) {
            const unsigned give = want < (unsigned)n ? want : (unsigned)n;
            for (unsigned i = 0; i < give; i++) {
                const size_t k = check_random(&random) % (size_t)(n - (int)i);
                struct cont_stack *swap = held[k];
                held[k] = held[n - 1 - (int)i];
                held[n - 1 - (int)i] = swap;
            }
            cont__depot_put(held + n - give, give);
            n -= (int)give;
        }
        struct cont__depot_counts c;
        cont__depot_count(&c);
        CHECK_EQ(c.carved - c.idle, n);
        CHECK(c.dirty <= 1024);
        carved = c.carved;
        if (round % 100 == 0) {
            CHECK(cont__depot_is_valid());
        }
    }
    while (n > 0) {
        const unsigned give = n < 64 ? (unsigned)n : 64;
        cont__depot_put(held + n - give, give);
        n -= (int)give;
    }
    count(carved, carved);
    cont__depot_trim();
    count(carved, carved);

    /* Where somebody decays them more stay, whole, and what is not needed goes by halves;
     * what was needed since the last time stays. */
    enum { MANY = 3000 };
    CHECK_EQ(cont__depot_taken(), 0);
    while (n < MANY) {
        n += (int)cont__depot_take(SHIFT, held + n, 64);
    }
    CHECK_EQ(cont__depot_taken(), n);
    cont__depot_keep(MANY + 64);
    for (int i = 0; i < n; i++) {
        use(held[i]);
    }
    for (int i = 0; i < n; i += 50) {
        cont__depot_put(held + i, n - i < 50 ? (unsigned)(n - i) : 50);
    }
    CHECK_EQ(dirty(), n);
    const size_t begun = dirty();
    CHECK(cont__depot_decay() > 0);             /* all of it was taken a moment ago     */
    while (cont__depot_decay_step()) {
    }
    CHECK(cont__depot_is_valid());
    size_t before = dirty(), above;
    CHECK_EQ(before, begun);
    CHECK_EQ(cont__depot_take(SHIFT, held, 40), 40);
    CHECK_EQ(held[0]->base[-1], 1);             /* deep pages too: nothing was purged   */
    CHECK_EQ(*(held[0]->base - 40000), 1);
    cont__depot_put(held, 40);
    for (int i = 0; (above = cont__depot_decay()) > 0; i++) {
        CHECK(i < 100);
        while (cont__depot_decay_step()) {
        }
        CHECK(dirty() < before);
        CHECK(i > 0 || dirty() >= before / 2 - 64);
        before = dirty();
        CHECK(cont__depot_is_valid());
    }
    CHECK(dirty() <= 1024);
    cont__depot_keep(0);
    struct cont__depot_counts end;
    cont__depot_count(&end);
    CHECK_EQ(end.carved, end.idle);
    return 0;
}
