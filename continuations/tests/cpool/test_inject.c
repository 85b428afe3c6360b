/* Queue: order, lists, closing; many producers and consumers. */

#include "pool_test.h"

static struct cpool__queue queue;

static void
test_order(void)
{
    struct cpool_task t[6];
    cpool__queue_reset(&queue);
    CHECK(cpool__queue_pop(&queue) == NULL);
    for (int i = 0; i < 3; i++) {
        CHECK(cpool__queue_push(&queue, &t[i]));
    }
    t[3].next = &t[4];
    t[4].next = &t[5];
    cpool__queue_push_list(&queue, &t[3], &t[5], 3);
    CHECK_EQ(cpool__queue_len(&queue), 6);
    CHECK(cpool__queue_is_valid(&queue));
    CHECK(cpool__queue_pop(&queue) == &t[0]);
    struct cpool_task *list = cpool__queue_pop_list(&queue, 3);
    CHECK(list == &t[1] && list->next == &t[2] && t[2].next == &t[3] && t[3].next == NULL);
    CHECK_EQ(cpool__queue_len(&queue), 2);
    CHECK(cpool__queue_close(&queue) == &t[4]);
    CHECK(t[4].next == &t[5] && t[5].next == NULL);
    CHECK(!cpool__queue_push(&queue, &t[0]));
    CHECK(cpool__queue_is_valid(&queue));
    CHECK(cpool__queue_pop_list(&queue, 5) == NULL);
    cpool__queue_open(&queue);
    CHECK(cpool__queue_push(&queue, &t[0]));
    CHECK(cpool__queue_pop_list(&queue, 100) == &t[0]);
    CHECK_EQ(cpool__queue_len(&queue), 0);
}

#define THREADS 4
static size_t per_thread;
static struct cpool_task *tasks;
static atomic_size_t out;

static void *
produce(void *arg)
{
    size_t from = (size_t)(uintptr_t)arg * per_thread;
    for (size_t i = 0; i < per_thread; i++) {
        CHECK(cpool__queue_push(&queue, &tasks[from + i]));
    }
    return NULL;
}

static void *
consume(void *arg)
{
    uint64_t rng = (uint64_t)(uintptr_t)arg;
    while (atomic_load(&out) < THREADS * per_thread) {
        struct cpool_task *t = cpool__queue_pop_list(&queue, check_random(&rng) % 9);
        if (t == NULL) {
            sched_yield();
        }
        for (struct cpool_task *next; t != NULL; t = next) {
            next = t->next;
            CHECK_EQ(t->flags, 0);
            t->flags = 1;
            atomic_fetch_add(&out, 1);
        }
    }
    return NULL;
}

int
main(void)
{
    test_order();
    per_thread = check_scale(100000);
    tasks = calloc(THREADS * per_thread, sizeof(*tasks));
    pthread_t threads[2 * THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, produce, (void *)(uintptr_t)i), 0);
        CHECK_EQ(pthread_create(&threads[THREADS + i], NULL, consume, (void *)(uintptr_t)i),
                 0);
    }
    for (int i = 0; i < 2 * THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(cpool__queue_len(&queue), 0);
    CHECK(cpool__queue_is_valid(&queue));
    free(tasks);
    return 0;
}
