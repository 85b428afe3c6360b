/* Stats and dump: the counts of what has certainly happened, and text at any time. */

#include "pool_test.h"

static void
parks_twice(struct work *w)
{
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "first"), 0);
    CHECK_EQ(cpool_park(CPOOL_FOREVER, "second"), 0);
    cpool_pinned_begin("pin");
    cpool_pinned_end();
    w->n = 1;
}

static void
sleeps_for_ever(struct work *w)
{
    w->n = 1;
    cpool_sleep(cpool_now() + INT64_C(3600000000000), "for ever");
}

static char *
dump(void)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    cpool_dump(f);
    fclose(f);
    return text;
}

static void
expect(const char *what)
{
    char *text = dump();
    if (strstr(text, what) == NULL) {
        fprintf(stderr, "no '%s' in:\n%s", what, text);
        CHECK(!"dump");
    }
    free(text);
}

static atomic_bool over;

static void *
dumps(void *arg)
{
    while (!atomic_load(&over)) {
        struct cpool_stats stats;
        cpool_get_stats(&stats);
        free(dump());
    }
    return arg;
}

static void
yields(struct work *w)
{
    for (int i = 0; i < 100; i++) {
        cpool_yield();
        cpool_block_begin();
        cpool_block_end();
        cpool_sleep(cpool_now() + 1000, "sleep");
        w->n++;
    }
}

/* While everything moves: TSan and the other sanitizers look on. */
static void
test_while_running(void)
{
    pthread_t thread;
    start(3);
    CHECK_EQ(pthread_create(&thread, NULL, dumps, NULL), 0);
    for (uint32_t i = 0; i < 50; i++) {
        go_and_forget(yields, NULL);
    }
    wait_finished(50);
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    stop();
}

int
main(void)
{
    struct cpool_stats stats;
    expect("pool: down");
    start(2);
    struct work *a = go(parks_twice, NULL);
    struct work *b = go(sleeps_for_ever, NULL);
    await_state(a, CPOOL_PARKED);
    await_state(b, CPOOL_PARKED);
    cpool_get_stats(&stats);
    CHECK_EQ(stats.parallelism, 2);
    CHECK_EQ(stats.max_carriers, 66);
    CHECK(stats.carriers >= 1 && stats.carriers <= 2);
    CHECK_EQ(stats.spawned, 2);
    CHECK_EQ(stats.parks, 2);
    CHECK_EQ(stats.unparks, 0);
    CHECK_EQ(stats.runnable, 0);
    expect("pool: up, parallelism 2");
    expect("timer in ");
    expect(": 0 waiters");
    expect("stacks: ");
    CHECK_EQ(stats.stacks_resident + stats.stacks_frozen, 2);
    CHECK_EQ(stats.freezes, stats.stacks_frozen);       /* both, in the hard build     */
    CHECK_EQ(stats.image_bytes != 0, stats.stacks_frozen != 0);
    cpool_unpark(&a->task);
    while (stats.parks != 3) {
        sched_yield();
        cpool_get_stats(&stats);
    }
    cpool_unpark(&a->task);
    wait_finished(1);
    stop();
    cpool_get_stats(&stats);
    CHECK_EQ(stats.finished, 1);
    CHECK_EQ(stats.parks, 3);
    CHECK_EQ(stats.pins, 1);
    CHECK_EQ(stats.carriers, 0);
    free(a);
    cont_abandon(&b->task.cont);
    free(b);
    await_no_stacks();
    test_while_running();
    return 0;
}
