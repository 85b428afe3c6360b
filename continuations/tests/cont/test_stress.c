/* Random continuations on random OS threads: resumed, nested, abandoned, starved of memory,
 * while sizes change and pages are given back under them.  What lives on each stack is
 * checked after every switch.
 *
 *      test_stress             the corpus, then a few seconds' worth; seed from the system
 *      SEED=n test_stress      the same again (the schedule of the OS is not in the seed)
 *      ROUNDS=n test_stress    longer
 *
 * On one OS thread a seed gives the same trace each time; the corpus is such seeds. */

#include "continuations/cont.h"
#include "cont/cont_internal.h"
#include "stack/depot.h"
#include "stack/prim.h"

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 3, CONTS = 300 };

/* Seeds of traces that failed once join these, which have found nothing yet. */
static const uint64_t corpus[] = {1, 7, 42, 20251122};

struct item {
    atomic_flag busy;           /* held by the thread that resumes it; acquire, release  */
    struct cont c;
    uint64_t random;            /* the body's                                            */
    int live;                   /* initialised and not DONE                              */
};

static struct item items[CONTS];
static _Atomic int finishing;
static _Atomic size_t resumes, ended, abandoned, refused;

/* Recurses, fills its frame, yields somewhere, checks the frame. */
static __attribute__((noinline)) void
dive(struct item *it, int depth)
{
    volatile uint64_t frame[32];
    uint64_t r = check_random(&it->random);
    for (int i = 0; i < 32; i++) {
        frame[i] = r + (uint64_t)i;
    }
    if (depth > 0) {
        dive(it, depth - 1);
    }
    if (depth == 0 || r % 8 == 0) {
        cont_yield(&it->c);
    }
    for (int i = 0; i < 32; i++) {
        CHECK(frame[i] == r + (uint64_t)i);
    }
}

static void
inner_body(void *arg)
{
    struct item *it = arg;
    dive(it, (int)(check_random(&it->random) % 4));
}

/* Most are shallow, a few use hundreds of KB: 300 bytes a level. */
static int
random_depth(struct item *it)
{
    uint64_t r = check_random(&it->random);
    void *limit, *base;
    cont_stack_bounds(&it->c, &limit, &base);
    const size_t frames = (size_t)((char *)base - (char *)limit) / 2 / 1024;
    return (int)(r % 64 == 0 ? (r >> 8) % frames : (r >> 8) % 6);
}

static void
body(void *arg)
{
    struct item *it = arg;
    const int rounds = (int)(check_random(&it->random) % 6);
    for (int i = 0; i < rounds; i++) {
        if (check_random(&it->random) % 8 == 0) {
            struct item inner = {.random = check_random(&it->random)};
            cont_init(&inner.c, inner_body, &inner);
            while (cont_state(&inner.c) != CONT_DONE) {
                if (cont_resume(&inner.c) != 0) {
                    CHECK_EQ(cont_state(&inner.c), CONT_NEW);
                    break;                      /* no memory: a continuation less */
                }
                cont_yield(&it->c);
            }
        }
        else {
            dive(it, random_depth(it));
        }
    }
}

static void
step(struct item *it, uint64_t *random)
{
    if (!it->live) {
        if (atomic_load_explicit(&finishing, memory_order_relaxed)) {
            return;
        }
        it->random = check_random(random);
        cont_init(&it->c, body, it);
        it->live = 1;
    }
    if (cont_state(&it->c) == CONT_NEW && check_random(random) % 64 == 0) {
        cont_abandon(&it->c);
        atomic_fetch_add_explicit(&abandoned, 1, memory_order_relaxed);
    }
    else {
        int rc = cont_resume(&it->c);
        CHECK(rc == 0 || rc == -ENOMEM);
        atomic_fetch_add_explicit(rc == 0 ? &resumes : &refused, 1, memory_order_relaxed);
        if (rc != 0) {
            CHECK_EQ(cont_state(&it->c), CONT_NEW);
        }
    }
    CHECK(cont__is_valid(&it->c));
    if (cont_state(&it->c) == CONT_DONE) {
        it->live = 0;
        atomic_fetch_add_explicit(&ended, 1, memory_order_relaxed);
    }
}

static void
disturb(uint64_t *random)
{
    static const size_t sizes[] = {CONT_STACK_SIZE_MIN, (size_t)256 << 10, (size_t)1 << 20};
    switch (check_random(random) % 2000) {
    case 0:
        cont_stack_trim();
        break;
    case 1:
        CHECK_EQ(cont_set_stack_size(sizes[check_random(random) % 3]), 0);
        break;
    case 2:
        cont__prim_fail_after((int)(check_random(random) % 4));
        break;
    case 3:
    case 4:
        cont__prim_fail_after(-1);
        break;
    case 5: {
        struct cont_stack_stats stats;
        cont_stack_get_stats(&stats);
        CHECK(stats.reserved >= stats.resident);
        break;
    }
    case 6:
        CHECK(cont__depot_is_valid());
        break;
    }
}

struct job {
    uint64_t random;
    size_t rounds;
};

static void *
work(void *arg)
{
    struct job *job = arg;
    for (size_t i = 0; i < job->rounds; i++) {
        struct item *it = &items[check_random(&job->random) % CONTS];
        if (!atomic_flag_test_and_set_explicit(&it->busy, memory_order_acquire)) {
            step(it, &job->random);
            atomic_flag_clear_explicit(&it->busy, memory_order_release);
        }
        disturb(&job->random);
    }
    return NULL;
}

static void
stress(uint64_t random, int threads, size_t rounds)
{
    struct job jobs[THREADS];
    pthread_t thread[THREADS];
    atomic_store(&finishing, 0);
    /* Hardly any stacks until disturb() relents: later there are always some to reuse. */
    cont__prim_fail_after((int)(check_random(&random) % 8));
    for (int i = 0; i < threads; i++) {
        jobs[i] = (struct job){.random = check_random(&random), .rounds = rounds};
        if (threads > 1) {
            CHECK_EQ(pthread_create(&thread[i], NULL, work, &jobs[i]), 0);
        }
        else {
            work(&jobs[i]);
        }
    }
    for (int i = 0; i < threads && threads > 1; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    cont__prim_fail_after(-1);
    atomic_store(&finishing, 1);
    for (int i = 0; i < CONTS; i++) {
        while (items[i].live) {
            step(&items[i], &random);
        }
    }
    struct cont_stack_stats stats;
    cont_stack_get_stats(&stats);
    CHECK_EQ(stats.resident, 0);
    CHECK(cont__depot_is_valid());
    CHECK_EQ(cont_set_stack_size(CONT_STACK_SIZE_DEFAULT), 0);
}

int
main(int argc, char **argv)
{
    (void)argc;
    const char *given = getenv("ROUNDS");
    const size_t rounds = given != NULL ? strtoul(given, NULL, 0) : check_scale(400000);
    for (size_t i = 0; i < sizeof(corpus) / sizeof(corpus[0]); i++) {
        stress(corpus[i], 1, check_scale(50000));
    }
    stress(check_take_seed(argv), THREADS, rounds);
    struct cont_stack_stats stats;
    cont_stack_get_stats(&stats);
    printf("resumes %zu, ended %zu, abandoned %zu, refused %zu, stacks reserved %zu\n",
           resumes, ended, abandoned, refused, stats.reserved);
    CHECK(ended > 0 && abandoned > 0 && refused > 0);
    return 0;
}
