/* A million parked tasks, then all of them woken: nothing in the pool is O(tasks) but their
 * own memory.  A part waits with a deadline, so that the heap holds them too.  Then the same
 * once more with all but some thousand of them frozen. */

#include "pool_test.h"

#include "stack/stack.h"

static void
parks(struct work *w)
{
    int64_t deadline = w->n % 4 == 0 ? cpool_now() + INT64_C(3600000000000) + w->n * 1000
                                     : CPOOL_FOREVER;
    CHECK_EQ(cpool_park(deadline, "million"), 0);
    w->n = -1;
}

/* RSS and page tables. */
static long
kilobytes(void)
{
    long sum = 0, value;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "VmRSS: %ld", &value) == 1 || sscanf(line, "VmPTE: %ld", &value) == 1) {
            sum += value;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return sum;
}

static void
million(struct work *w, uint32_t n, bool freeze)
{
    struct cpool_stats stats;
    struct cpool_config config = test_config(2);
    if (freeze) {
        config.chaos_seed = 0;          /* by the reclaimer                            */
        config.stack_budget = n / 16;
        config.freeze_max = 16384;      /* debug builds, ucontext                      */
        config.freeze_age_ns = 100000000;
    }
    start_with(&config);
    long memory = kilobytes();
    int64_t t0 = cpool_now();
    for (uint32_t i = 0; i < n; i++) {
        cpool_task_init(&w[i].task);
        w[i].body = parks;
        w[i].n = i;
        w[i].task.flags = freeze ? CPOOL_TASK_MOVABLE : test_flags();
        CHECK_EQ(cpool_spawn(&w[i].task), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        while (cpool_task_state(&w[i].task) != CPOOL_PARKED) {
            sched_yield();
        }
    }
    int64_t t1 = cpool_now();
    cpool_get_stats(&stats);
    CHECK_EQ(stats.parks, n);
    CHECK_EQ(stats.runnable, 0);
    while (freeze && cont__stack_resident() > n / 16) {
        usleep(1000);
    }
    int64_t t2 = cpool_now();
    memory = kilobytes() - memory;
    for (uint32_t i = 0; i < n; i++) {
        cpool_unpark(&w[i].task);
    }
    wait_finished(n);
    int64_t t3 = cpool_now();
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(w[i].n, -1);
    }
    cpool_get_stats(&stats);
    CHECK_EQ(stats.stacks_frozen, 0);
    CHECK_EQ(stats.image_bytes, 0);
    CHECK_EQ(stats.freezes, stats.thaws);
    CHECK(!freeze || stats.freezes >= n - n / 16);
    stop();
    printf("%u tasks%s: start + park %lld ns, until frozen %lld ms more, wake + end %lld ns "
           "each; %ld bytes each\n", n, freeze ? ", frozen" : "", (long long)((t1 - t0) / n),
           (long long)((t2 - t1) / 1000000), (long long)((t3 - t2) / n), memory * 1024 / n);
}

int
main(void)
{
    /* A stack that has been used is a page or two, and its page table. */
    uint32_t n = (uint32_t)check_scale(1000000);
#ifdef CONT_HARD
    n /= 10;
#endif
#ifdef __SANITIZE_THREAD__
    n = 1500;       /* it has room for 8,128 fibres, and walks all of them for a new one */
#endif
    const char *given = getenv("CPOOL_TEST_MILLION");
    if (given != NULL) {
        n = (uint32_t)strtoul(given, NULL, 0);
    }
    struct work *w = calloc(n, sizeof(*w));
    CHECK(w != NULL);
    million(w, n, false);
    million(w, n, true);
    free(w);
    return 0;
}
