/* Freezing: whatever a frozen continuation had on its stack is there when it goes on, on
 * this OS thread or another. */

#include "continuations/cont.h"
#include "cont/cont_internal.h"
#include "stack/image.h"

#include "check.h"
#include "check_child.h"

#include <pthread.h>

enum { N = 200 };

struct coro {
    struct cont cont;
    uint64_t seed;
    long laps;
    size_t depth;               /* bytes of frames below the body's, at each yield     */
};

static void
expect(size_t resident, size_t frozen)
{
    struct cont_stack_stats stats;
    cont_stack_get_stats(&stats);
    CHECK_EQ(stats.resident, resident);
    CHECK_EQ(stats.frozen, frozen);
    CHECK_EQ(stats.image_bytes == 0, frozen == 0);
}

/* Fills frames with numbers, yields at the deepest one, finds the numbers again. */
static __attribute__((noinline)) uint64_t
frames(struct coro *k, uint64_t seed, const char *stop)
{
    volatile uint64_t numbers[32];
    uint64_t state = seed, sum = 0;
    for (int i = 0; i < 32; i++) {
        numbers[i] = check_random(&state);
    }
    if ((const char *)__builtin_frame_address(0) > stop) {
        sum = frames(k, seed + 1, stop);
    }
    else {
        cont_yield(&k->cont);
    }
    state = seed;
    for (int i = 0; i < 32; i++) {
        CHECK(numbers[i] == check_random(&state));
        sum += numbers[i];
    }
    return sum;
}

static void
body(void *arg)
{
    struct coro *k = arg;
    double third = 1.0 / (double)(k->seed % 7 + 3);
    for (; k->laps > 0; k->laps--) {
        uint64_t sum = frames(k, k->seed,
                              (const char *)__builtin_frame_address(0) - k->depth);
        CHECK(sum != 0);
        CHECK(third == 1.0 / (double)(k->seed % 7 + 3));
    }
}

static void
begin(struct coro *k, uint64_t seed, long laps, size_t depth)
{
    *k = (struct coro){.seed = seed, .laps = laps, .depth = depth};
    cont_init(&k->cont, body, k);
    CHECK_EQ(cont_resume(&k->cont), 0);
}

static unsigned
freeze(struct coro *k)
{
    struct cont *c = &k->cont;
    return cont_freeze(&c, 1);
}

static void
test_states(void)
{
    struct coro k;
    void *limit, *base;
    begin(&k, 1, 4, 0);
    expect(1, 0);
    const size_t live = cont_live_bytes(&k.cont);
    CHECK_EQ(freeze(&k), 1);
    CHECK_EQ(cont_state(&k.cont), CONT_FROZEN);
    CHECK(cont__is_valid(&k.cont));
    CHECK_EQ(cont_live_bytes(&k.cont), live);
    cont_stack_bounds(&k.cont, &limit, &base);
    CHECK_EQ(((char *)base)[-1], 0);                    /* no page, or a new one */
    expect(0, 1);
    CHECK(cont__image_bytes() != 0 && cont__image_bytes() <= live + 4096);
    cont_thaw(&k.cont);
    CHECK_EQ(cont_state(&k.cont), CONT_SUSPENDED);
    CHECK(cont__is_valid(&k.cont));
    expect(1, 0);
    CHECK_EQ(cont_resume(&k.cont), 0);
    CHECK_EQ(freeze(&k), 1);
    CHECK_EQ(cont_resume(&k.cont), 0);                  /* thaws */
    CHECK_EQ(cont__freeze_in_place(&k.cont), 0);
    expect(0, 1);
    CHECK_EQ(cont_resume(&k.cont), 0);
    expect(1, 0);
    cont_trim(&k.cont);
    CHECK_EQ(freeze(&k), 1);
    CHECK_EQ(cont_resume(&k.cont), 0);
    CHECK_EQ(cont_state(&k.cont), CONT_DONE);
    expect(0, 0);

    begin(&k, 1, 1, 5000);
    CHECK_EQ(freeze(&k), 1);
    cont_abandon(&k.cont);
    CHECK_EQ(cont_state(&k.cont), CONT_DONE);
    expect(0, 0);
}

static void
test_no_memory(void)
{
    static struct coro k[10];
    struct cont *c[10];
    for (int i = 0; i < 10; i++) {
        begin(&k[i], (uint64_t)i, 1, 1000);
        c[i] = &k[i].cont;
    }
    cont__image_fail_after(4);
    CHECK_EQ(cont_freeze(c, 10), 4);
    expect(6, 4);
    cont__image_fail_after(0);                  /* to thaw needs none */
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(cont_resume(&k[i].cont), 0);
        CHECK_EQ(cont_state(&k[i].cont), CONT_DONE);
    }
    cont__image_fail_after(-1);
    expect(0, 0);
}

static char *
touch_deep(struct coro *k)
{
    void *limit, *base;
    cont_stack_bounds(&k->cont, &limit, &base);
    char *deep = (char *)limit + 10000;
    *deep = 1;
    return deep;
}

static void
test_trim(void)
{
    struct coro k;
    /* Deep now: nothing that is live may go. */
    begin(&k, 3, 1, 600000);
    char *deep = touch_deep(&k);
    cont_trim(&k.cont);
    CHECK_EQ(*deep, 0);
    CHECK_EQ(cont_resume(&k.cont), 0);
    CHECK_EQ(cont_state(&k.cont), CONT_DONE);
    /* Half of it live. */
    begin(&k, 3, 1, 0);
    void *limit, *base;
    cont_stack_bounds(&k.cont, &limit, &base);
    cont_abandon(&k.cont);
    begin(&k, 3, 1, (size_t)((char *)base - (char *)limit) / 2);
    cont_trim(&k.cont);
    CHECK_EQ(cont_resume(&k.cont), 0);
    CHECK_EQ(cont_state(&k.cont), CONT_DONE);
    expect(0, 0);
}

/* Frozen at random, in batches of any size, resumed on any of some OS threads. */
static struct coro many[N];
static uint64_t seed;

static void *
resume_some(void *arg)
{
    uint64_t rng = seed + (uintptr_t)arg;
    for (int i = 0; i < N; i++) {
        struct coro *k = &many[(i + (int)(uintptr_t)arg) % N];
        if (check_random(&rng) % 2 && cont_state(&k->cont) != CONT_DONE) {
            CHECK_EQ(cont_resume(&k->cont), 0);
        }
    }
    return NULL;
}

static void
test_random(void)
{
    uint64_t rng = seed;
    struct cont *batch[N];
    for (int i = 0; i < N; i++) {
        begin(&many[i], check_random(&rng), 1 + (long)(check_random(&rng) % 20),
              check_random(&rng) % (check_random(&rng) % 8 ? 4000 : 100000));
    }
    for (unsigned turn = 0, left = N; left > 0; turn++) {
        unsigned n = 0;
        for (int i = 0; i < N; i++) {
            const size_t at = check_random(&rng) % (n + 1);
            if (cont_state(&many[i].cont) == CONT_SUSPENDED && check_random(&rng) % 4) {
                batch[n++] = batch[at];
                batch[at] = &many[i].cont;
            }
        }
        cont__image_fail_after(check_random(&rng) % 8 ? -1 : (int)(check_random(&rng) % 100));
        CHECK(cont_freeze(batch, n) <= n);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, resume_some, (void *)(uintptr_t)turn), 0);
        pthread_join(thread, NULL);
        left = 0;
        for (int i = 0; i < N; i++) {
            CHECK(cont__is_valid(&many[i].cont));
            left += cont_state(&many[i].cont) != CONT_DONE;
        }
        if (turn == 30) {                       /* the rest need not end */
            for (int i = 0; i < N; i += 2) {
                cont_abandon(&many[i].cont);
            }
        }
    }
    cont__image_fail_after(-1);
    expect(0, 0);
}

/* A child of a fork goes on with frozen ones, or drops them. */
static struct coro forked[2];

static void
child(void)
{
    cont_after_fork_child();
    expect(0, 2);
    CHECK_EQ(cont_resume(&forked[0].cont), 0);
    CHECK_EQ(cont_state(&forked[0].cont), CONT_DONE);
    cont_abandon(&forked[1].cont);
    expect(0, 0);
}

static void
test_fork(void)
{
    char text[512];
    for (int i = 0; i < 2; i++) {
        begin(&forked[i], 5, 1, 2000);
        CHECK_EQ(freeze(&forked[i]), 1);
    }
    int r = check_child(child, text, sizeof(text));
    if (r != 0) {
        fputs(text, stderr);
    }
    CHECK_EQ(r, 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(cont_resume(&forked[i].cont), 0);
        CHECK_EQ(cont_state(&forked[i].cont), CONT_DONE);
    }
    expect(0, 0);
}

int
main(int argc, char **argv)
{
    (void)argc;
    seed = check_take_seed(argv);
    test_states();
    test_no_memory();
    test_trim();
    for (int i = 0; i < (int)check_scale(8); i++) {
        test_random();
        seed++;
    }
    test_fork();
    return 0;
}
