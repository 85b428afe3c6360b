#include "stack/cache.h"
#include "stack/depot.h"
#include "stack/prim.h"

#include "check.h"

#include <pthread.h>

enum { SHIFT = 20, N = 200 };

static size_t
in_depot(void)
{
    struct cont__depot_counts c;
    cont__depot_count(&c);
    return c.idle;
}

static size_t
carved(void)
{
    struct cont__depot_counts c;
    cont__depot_count(&c);
    return c.carved;
}

static void *
take_and_put(void *arg)
{
    (void)arg;
    struct cont_stack *s[N];
    for (int i = 0; i < N; i++) {
        s[i] = cont__cache_take(SHIFT);
        CHECK(s[i] != NULL);
    }
    for (int i = 0; i < N; i++) {
        cont__cache_put(s[i]);
    }
    CHECK(cont__cache_count() > 0);
    return NULL;
}

struct shared {
    pthread_mutex_t lock;
    struct cont_stack *held[N];
    uint64_t seed;
};

/* Takes here, puts there. */
static void *
exchange(void *arg)
{
    struct shared *x = arg;
    pthread_mutex_lock(&x->lock);
    uint64_t random = x->seed++;
    pthread_mutex_unlock(&x->lock);
    const size_t rounds = check_scale(100000);
    for (size_t i = 0; i < rounds; i++) {
        struct cont_stack *mine =
            check_random(&random) & 1 ? cont__cache_take(SHIFT) : NULL;
        const size_t k = check_random(&random) % N;
        pthread_mutex_lock(&x->lock);
        struct cont_stack *other = x->held[k];
        x->held[k] = mine;
        pthread_mutex_unlock(&x->lock);
        if (other != NULL) {
            cont__cache_put(other);
        }
        if (check_random(&random) % 4096 == 0) {
            cont__cache_flush();
        }
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    (void)argc;
    /* No memory, then memory. */
    cont__prim_fail_after(0);
    CHECK(cont__cache_take(SHIFT) == NULL);
    cont__prim_fail_after(-1);

    /* Last in, first out; neighbours in order. */
    struct cont_stack *a = cont__cache_take(SHIFT);
    struct cont_stack *b = cont__cache_take(SHIFT);
    CHECK(a != NULL && b != NULL && a != b);
    CHECK_EQ(b->base - a->base, 1 << SHIFT);
    cont__cache_put(a);
    CHECK(cont__cache_take(SHIFT) == a);
    cont__cache_put(a);
    cont__cache_put(b);

    /* Another size empties the cache; a stack of the old size goes past it. */
    struct cont_stack *c = cont__cache_take(SHIFT);
    struct cont_stack *d = cont__cache_take(17);
    CHECK(d != NULL);
    CHECK_EQ(d->shift, 17);
    const size_t before = in_depot();
    cont__cache_put(c);
    CHECK_EQ(in_depot(), before + 1);
    cont__cache_put(d);
    cont__cache_flush();
    CHECK_EQ(cont__cache_count(), 0);
    CHECK_EQ(in_depot(), carved());

    /* A thread that ends leaves nothing behind. */
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&thread[i], NULL, take_and_put, NULL), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    CHECK_EQ(cont__cache_count(), 0);
    CHECK_EQ(in_depot(), carved());
    CHECK(cont__depot_is_valid());

    static struct shared x = {.lock = PTHREAD_MUTEX_INITIALIZER};
    x.seed = check_take_seed(argv);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&thread[i], NULL, exchange, &x), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    for (int i = 0; i < N; i++) {
        if (x.held[i] != NULL) {
            cont__cache_put(x.held[i]);
        }
    }
    cont__cache_flush();
    CHECK_EQ(in_depot(), carved());
    CHECK(cont__depot_is_valid());
    return 0;
}
