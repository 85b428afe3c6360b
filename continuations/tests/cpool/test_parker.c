/* Parker: the lock excludes, its sleepers are woken; futex deadlines. */

#include "pool_test.h"

static struct cpool__lock lock;
static long count;

static void *
counts(void *arg)
{
    long n = (long)(intptr_t)arg;
    for (long i = 0; i < n; i++) {
        cpool__lock(&lock);
        count++;
        if (i % 64 == 0) {
            sched_yield();              /* others find it held, and sleep              */
        }
        cpool__unlock(&lock);
    }
    return NULL;
}

static struct event event;

static void *
waits(void *arg)
{
    event_wait(&event);
    return arg;
}

int
main(void)
{
    pthread_t threads[4];
    long n = (long)check_scale(10000);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, counts, (void *)(intptr_t)n), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(count, 4 * n);
    CHECK_EQ(lock.word, 0);
    cpool__lock(&lock);
    cpool__lock_reset(&lock);
    cpool__lock(&lock);
    cpool__unlock(&lock);

    _Atomic uint32_t word = 1;
    errno = 4711;
    int64_t until = cpool_now() + 2000000;
    cpool__futex_wait(&word, 0, CPOOL_FOREVER);         /* not what it is: returns     */
    cpool__futex_wait(&word, 1, 0);                     /* long past                   */
    cpool__futex_wait(&word, 1, -5);
    while (cpool_now() < until) {
        cpool__futex_wait(&word, 1, until);
    }
    CHECK_EQ(errno, 4711);

    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, waits, NULL), 0);
    }
    event_set(&event);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}
