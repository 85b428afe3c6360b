/* Clock: who is looked at stays; who ends is not looked at any more. */

#include "stack/clock.h"
#include "stack/arena.h"

#include "check.h"

#include <pthread.h>

struct owner {
    _Atomic uint64_t alive;
};
#define ALIVE UINT64_C(0x600df00d600df00d)

static void
test_claims(void)
{
    struct owner o = {ALIVE};
    struct cont_stack *s = cont__stack_acquire();
    CHECK(s != NULL);
    CHECK(cont__clock_claim(s, 1) == NULL);
    cont__clock_enter(s, &o, 1);
    CHECK(cont__clock_claim(s, 2) == NULL);             /* of another era */
    CHECK(cont__clock_claim(s, 1) == &o);
    cont__clock_unclaim(s);
    CHECK(cont__clock_claim(s, 1) == &o);
    cont_after_fork_child();            /* as if the reclaimer were gone: not waited for */
    cont__stack_release(s);
    CHECK(cont__clock_claim(s, 1) == NULL);
}

/* Each stack in use is met once a round, and the round ends. */
static void
test_rounds(void)
{
    enum { N = 200 };
    struct cont_stack *s[N];
    struct owner o[N];
    for (int i = 0; i < N; i++) {
        s[i] = cont__stack_acquire();
        o[i].alive = 0;
        cont__clock_enter(s[i], &o[i], 7);
    }
    struct cont__arena_hand hand = {0, 0};
    for (uint64_t round = 1; round <= 3; round++) {
        struct cont__group *g;
        int met = 0;
        while ((g = cont__arena_next(&hand)) != NULL) {
            for (int i = 0; i < CONT__GROUP_STACKS; i++) {
                struct owner *owner = cont__clock_claim(&g->stacks[i], 7);
                if (owner != NULL) {
                    met++;
                    owner->alive++;
                    cont__clock_unclaim(&g->stacks[i]);
                }
            }
        }
        CHECK_EQ(met, N);
        for (int i = 0; i < N; i++) {
            CHECK_EQ(o[i].alive, round);
        }
    }
    for (int i = 0; i < N; i++) {
        cont__stack_release(s[i]);
    }
}

static _Atomic int over;
static _Atomic long looks;

static void *
looks_round(void *arg)
{
    struct cont__arena_hand hand = {0, 0};
    while (!atomic_load(&over)) {
        struct cont__group *g = cont__arena_next(&hand);
        for (int i = 0; g != NULL && i < CONT__GROUP_STACKS; i++) {
            struct owner *owner = cont__clock_claim(&g->stacks[i], 1);
            if (owner != NULL) {
                CHECK(atomic_load(&owner->alive) == ALIVE);
                g->stacks[i].seen++;
                cont__clock_unclaim(&g->stacks[i]);
                atomic_fetch_add(&looks, 1);
            }
        }
    }
    return arg;
}

static void *
comes_and_goes(void *arg)
{
    for (long i = *(long *)arg; i > 0 || atomic_load(&looks) == 0; i--) {
        struct cont_stack *s = cont__stack_acquire();
        struct owner *o = malloc(sizeof(*o));
        CHECK(s != NULL && o != NULL);
        atomic_store(&o->alive, ALIVE);
        cont__clock_enter(s, o, 1);
        *(s->base - 1) = 1;
        cont__stack_release(s);
        atomic_store(&o->alive, 0);             /* nobody reads it now */
        free(o);
    }
    return NULL;
}

static void
test_race(void)
{
    pthread_t reclaimer, users[2];
    long n = (long)check_scale(200000);
    CHECK_EQ(pthread_create(&reclaimer, NULL, looks_round, NULL), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&users[i], NULL, comes_and_goes, &n), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(users[i], NULL);
    }
    atomic_store(&over, 1);
    pthread_join(reclaimer, NULL);
    printf("%ld looks\n", looks);
}

int
main(void)
{
    test_claims();
    test_rounds();
    test_race();
    return 0;
}
