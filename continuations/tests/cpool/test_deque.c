/* Ring: order, bounds, and one holder against thieves: nothing twice, nothing lost. */

#include "pool_test.h"

static struct cpool__ring ring;

static void
test_order(uint32_t size)
{
    struct cpool_task t[CPOOL__RING_SIZE + 1], *first, *last;
    cpool__ring_init(&ring, size);
    for (int lap = 0; lap < 5; lap++) {
        CHECK(cpool__ring_pop(&ring) == NULL);
        CHECK_EQ(cpool__ring_take_half(&ring, &first, &last), 0);
        for (uint32_t i = 0; i < size; i++) {
            CHECK_EQ(cpool__ring_len(&ring), i);
            CHECK(cpool__ring_push(&ring, &t[i]));
        }
        CHECK(!cpool__ring_push(&ring, &t[size]));
        CHECK(cpool__ring_pop(&ring) == &t[0]);
        CHECK(cpool__ring_pop(&ring) == &t[1]);
        uint32_t rest = size - 2;
        CHECK_EQ(cpool__ring_take_half(&ring, &first, &last), rest - rest / 2);
        uint32_t at = 2;
        for (struct cpool_task *u = first; u != NULL; u = u->next) {
            CHECK(u == &t[at]);
            at++;
            CHECK((u == last) == (u->next == NULL));
        }
        CHECK_EQ(at, 2 + rest - rest / 2);
        while (at < size) {
            CHECK(cpool__ring_pop(&ring) == &t[at]);
            at++;
        }
        CHECK_EQ(cpool__ring_len(&ring), 0);
    }
}

/* task.flags counts how often a task came out. */
static struct cpool_task *pool;
static atomic_bool over;

static void
came_out(struct cpool_task *t)
{
    __atomic_fetch_add(&t->flags, 1, __ATOMIC_RELAXED);
}

static void *
thief(void *arg)
{
    uint64_t rng = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&over) || cpool__ring_len(&ring) != 0) {
        struct cpool_task *t, *last;
        if (check_random(&rng) % 2) {
            t = cpool__ring_pop(&ring);
            if (t != NULL) {
                came_out(t);
            }
        }
        else if (cpool__ring_take_half(&ring, &t, &last) != 0) {
            for (struct cpool_task *next; t != NULL; t = next) {
                next = t->next;
                came_out(t);
            }
        }
    }
    return NULL;
}

static void
test_thieves(uint32_t size, size_t n, uint64_t seed)
{
    pthread_t threads[3];
    uint64_t rng = seed;
    pool = calloc(n, sizeof(*pool));
    over = false;
    cpool__ring_init(&ring, size);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, thief, (void *)(seed + (uint64_t)i)), 0);
    }
    for (size_t i = 0; i < n;) {
        if (cpool__ring_push(&ring, &pool[i])) {
            i++;
        }
        if (check_random(&rng) % 4 == 0) {
            struct cpool_task *t = cpool__ring_pop(&ring);
            if (t != NULL) {
                came_out(t);
            }
        }
    }
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(pool[i].flags, 1);
    }
    free(pool);
}

int
main(int argc, char **argv)
{
    (void)argc;
    uint64_t seed = check_take_seed(argv);
    test_order(CPOOL__RING_SIZE);
    test_order(CPOOL__RING_SIZE_CHAOS);
    test_thieves(CPOOL__RING_SIZE, check_scale(1000000), seed);
    test_thieves(CPOOL__RING_SIZE_CHAOS, check_scale(300000), seed);
    return 0;
}
