/* Reclaim: beyond the budget cold stacks are frozen, and only those that may be; whoever is
 * woken meanwhile goes on with all that was on its stack; nothing is left behind. */

#include "pool_test.h"
#include "check_child.h"
#include "stack/image.h"
#include "stack/stack.h"

#include <sys/mman.h>

static uint64_t seed;

/* Eager: whatever parks is cold at the second glance. */
static struct cpool_config
eager_config(int parallelism, size_t budget)
{
    struct cpool_config config = test_config(parallelism);
    config.chaos_seed = 0;              /* the monitor freezes, not the parking carrier */
    config.stack_budget = budget;
    config.freeze_age_ns = 1000000;
    config.freeze_max = 16384;          /* debug builds, ucontext                      */
    return config;
}

static void
start_eager(int parallelism, size_t budget)
{
    struct cpool_config config = eager_config(parallelism, budget);
    start_with(&config);
}

/* Numbers in frames, and a park below them; `n` is the depth, in some 300 bytes. */
static __attribute__((noinline)) uint64_t
parks_below(struct work *w, long depth, uint64_t state)
{
    volatile uint64_t numbers[24];
    uint64_t again = state, sum = 0;
    for (int i = 0; i < 24; i++) {
        numbers[i] = check_random(&state);
    }
    if (depth > 0) {
        sum = parks_below(w, depth - 1, state);
    }
    else {
        CHECK_EQ(cpool_park(CPOOL_FOREVER, "test"), 0);
    }
    for (int i = 0; i < 24; i++) {
        CHECK(numbers[i] == check_random(&again));
        sum += numbers[i];
    }
    return sum;
}

static void
parks(struct work *w)
{
    uint64_t sum = parks_below(w, w->n, (uintptr_t)w->arg + seed);
    CHECK(sum != 0);
    w->n = -1;
}

static struct cpool_stats
stats(void)
{
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    return stats;
}

static void
await_frozen(size_t n)
{
    while (stats().stacks_frozen < n) {
        usleep(200);
    }
}

/* Until the reclaimer has been round often enough to have seen everything. */
static void
await_quiet(void)
{
    usleep(CHECK_SANITIZED || getenv("CONT_TEST_SLOW") != NULL ? 300000 : 60000);
}

static struct work **
park_many(uint32_t n, uint32_t flags, long depth)
{
    struct work **w = malloc(n * sizeof(*w));
    CHECK(w != NULL);
    for (uint32_t i = 0; i < n; i++) {
        w[i] = work_new(parks, (void *)(uintptr_t)i);
        w[i]->n = depth;
        w[i]->task.flags = flags;
        CHECK_EQ(cpool_spawn(&w[i]->task), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        await_state(w[i], CPOOL_PARKED);
    }
    return w;
}

static void
wake_many(struct work **w, uint32_t n, uint32_t finished)
{
    for (uint32_t i = 0; i < n; i++) {
        cpool_unpark(&w[i]->task);
    }
    wait_finished(finished);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(w[i]->n, -1);
        CHECK(!cpool_task_is_frozen(&w[i]->task));
        free(w[i]);
    }
    free(w);
}

static void
expect_in_dump(const char *what)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    cpool_dump(f);
    fclose(f);
    if (strstr(text, what) == NULL) {
        fprintf(stderr, "no '%s' in:\n%s", what, text);
        CHECK(!"dump");
    }
    free(text);
}

/* Frozen down to the budget, or an eighth less, and all of them come back. */
static void
test_budget(int parallelism)
{
    const uint32_t n = (uint32_t)check_scale(4000) < 300 ? 300 : (uint32_t)check_scale(4000);
    const size_t budget = n / 4;
    start_eager(parallelism, budget);
    struct work **w = park_many(n, CPOOL_TASK_MOVABLE, 1);
    while (cont__stack_resident() > budget) {
        usleep(200);
    }
    await_quiet();
    struct cpool_stats s = stats();
    CHECK(s.stacks_frozen >= n - budget && s.stacks_frozen < n);
    CHECK(s.stacks_resident + s.stacks_frozen == n);
    CHECK(s.image_bytes >= s.stacks_frozen * 40);
    CHECK_EQ(s.freezes, s.stacks_frozen);
    CHECK_EQ(s.thaws, 0);
    size_t frozen = 0;
    for (uint32_t i = 0; i < n; i++) {
        frozen += (size_t)cpool_task_is_frozen(&w[i]->task);
    }
    CHECK_EQ(frozen, s.stacks_frozen);
    expect_in_dump(" frozen in ");
    wake_many(w, n, n);
    s = stats();
    CHECK_EQ(s.thaws, s.freezes);
    CHECK_EQ(s.stacks_frozen, 0);
    CHECK_EQ(s.image_bytes, 0);
    await_no_stacks();
    stop();
}

/* Those that may not move, are bound, or are large, stay. */
static void
test_not_frozen(void)
{
    start_eager(2, 1);
    struct work **still = park_many(100, 0, 1);
    await_quiet();
    CHECK(!atomic_load(&cpool__pool.reclaims));         /* nobody has asked for it */
    struct work **large = park_many(100, CPOOL_TASK_MOVABLE, 100);
    await_quiet();
    CHECK_EQ(stats().freezes, 0);
    struct work **small = park_many(100, CPOOL_TASK_MOVABLE, 1);
    await_frozen(100);
    await_quiet();
    CHECK_EQ(stats().freezes, 100);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK(cpool_task_is_frozen(&small[i]->task));
    }
    wake_many(still, 100, 100);
    wake_many(large, 100, 200);
    wake_many(small, 100, 300);
    stop();
}

static void
parks_sticky(struct work *w)
{
    struct cpool_carrier *c = cpool_current_carrier();
    w->task.flags |= CPOOL_TASK_STICKY | CPOOL_TASK_MOVABLE;
    parks(w);
    CHECK(cpool_current_carrier() == c);
    w->n = 1;
    w->task.flags &= ~(uint32_t)CPOOL_TASK_STICKY;
    parks(w);
}

static void
test_sticky(void)
{
    start_eager(2, 1);
    struct work *w = go(parks_sticky, NULL);
    struct work **others = park_many(20, CPOOL_TASK_MOVABLE, 1);
    await_frozen(20);
    await_quiet();
    CHECK(!cpool_task_is_frozen(&w->task));
    cpool_unpark(&w->task);
    await_frozen(21);
    cpool_unpark(&w->task);
    wait_finished(1);
    free(w);
    wake_many(others, 20, 21);
    stop();
}

/* The age: a task that parks again and again is not cold, however long it lives. */
static void
parks_often(struct work *w)
{
    while (!atomic_load((atomic_bool *)w->arg)) {
        cpool_park(cpool_now() + 1000000, "often");
    }
}

static void
test_age(void)
{
    atomic_bool over = false;
    struct cpool_config config = eager_config(1, 1);
    config.freeze_age_ns = INT64_C(3600000000000);
    start_with(&config);
    struct work **hot = malloc(50 * sizeof(*hot));
    for (int i = 0; i < 50; i++) {
        hot[i] = work_new(parks_often, &over);
        hot[i]->task.flags = CPOOL_TASK_MOVABLE;
        CHECK_EQ(cpool_spawn(&hot[i]->task), 0);
    }
    struct work **cold = park_many(50, CPOOL_TASK_MOVABLE, 1);
    await_quiet();
    CHECK_EQ(stats().freezes, 0);               /* an hour has not passed */
    atomic_store(&over, true);
    wait_finished(50);
    for (int i = 0; i < 50; i++) {
        free(hot[i]);
    }
    free(hot);
    wake_many(cold, 50, 100);
    stop();
}

/* Pages of a deep excursion, of a task that must not be frozen. */
static __attribute__((noinline)) void
go_deep(int depth)
{
    volatile char frame[4096];
    frame[0] = frame[4095] = (char)depth;
    if (depth > 0) {
        go_deep(depth - 1);
    }
    CHECK(frame[0] == (char)depth);
}

static void
was_deep(struct work *w)
{
    go_deep(60);
    parks(w);
}

/* Pages of the stack, but for the 48 KB at its base, that are there; -1: can't be asked. */
static long
deep_pages(struct work *w)
{
    void *limit, *base;
    unsigned char there[512];
    cont_stack_bounds(&w->task.cont, &limit, &base);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t n = (size_t)((char *)base - (char *)limit) - 49152;
    long pages = 0;
    CHECK(n / page <= sizeof(there));
    if (page != 4096 || mincore(limit, n, there) != 0) {
        return -1;
    }
    for (size_t i = 0; i < n / page; i++) {
        pages += there[i] & 1;
    }
    return pages;
}

static void
test_trim(void)
{
    start_eager(1, 1000);               /* not one too many */
    struct work *w = work_new(was_deep, NULL);
    w->task.flags = 0;
    CHECK_EQ(cpool_spawn(&w->task), 0);
    await_state(w, CPOOL_PARKED);
    long before = deep_pages(w);
    struct work **asks = park_many(1, CPOOL_TASK_MOVABLE, 0);   /* wakes the reclaimer */
    /* It parked before anybody asked, so it is known from its next park on. */
    CHECK_EQ(stats().freezes, 0);
    await_quiet();
    CHECK_EQ(deep_pages(w), before);
    cpool_unpark(&w->task);
    wait_finished(1);
    CHECK_EQ(w->n, -1);
    free(w);
    w = work_new(was_deep, NULL);
    w->task.flags = 0;
    CHECK_EQ(cpool_spawn(&w->task), 0);
    await_state(w, CPOOL_PARKED);
    if (before > 20) {
        while (deep_pages(w) > 1) {
            usleep(200);
        }
    }
    CHECK_EQ(stats().freezes, 0);
    cpool_unpark(&w->task);
    wait_finished(2);
    CHECK_EQ(w->n, -1);
    free(w);
    wake_many(asks, 1, 3);
    stop();
}

/* Stop and fork with frozen tasks: they can be abandoned, and nothing is left. */
static void
test_stop(void)
{
    enum { N = 50 };
    for (int round = 0; round < 3; round++) {
        start_eager(2, 1);
        struct work **w = park_many(N, CPOOL_TASK_MOVABLE, 1);
        if (round > 0) {
            await_frozen(round == 1 ? N : 1);   /* or in the middle of it */
        }
        stop();
        struct work *forgotten = w[0];
        for (int i = 1; i < N; i++) {
            cont_abandon(&w[i]->task.cont);
            free(w[i]);
        }
        CHECK(stats().stacks_frozen <= 1);
        /* The next pool lets those of the last one alone. */
        start_eager(1, 1);
        struct work **others = park_many(5, CPOOL_TASK_MOVABLE, 1);
        await_frozen(5);
        CHECK_EQ(cpool_task_state(&forgotten->task), CPOOL_PARKED);
        wake_many(others, 5, 5);
        stop();
        cont_abandon(&forgotten->task.cont);
        free(forgotten);
        free(w);
        await_no_stacks();
    }
}

static struct work **parents;
enum { PARENTS = 40 };

static void
child_of_main(void)
{
    cpool_after_fork_child();
    alarm(60);
    test_finished = 0;
    struct work **w = park_many(10, CPOOL_TASK_MOVABLE, 1);
    size_t forgotten = 0;
    for (int i = 0; i < PARENTS; i++) {
        forgotten += cont_state(&parents[i]->task.cont) == CONT_FROZEN;
        cont_abandon(&parents[i]->task.cont);
    }
    CHECK(forgotten > 0);
    await_frozen(10);
    wake_many(w, 10, 10);
    CHECK_EQ(cont__image_count(), 0);
    CHECK_EQ(cont__image_bytes(), 0);
    CHECK_EQ(cpool_stop(cpool_now() + INT64_C(10000000000)), 0);
}

/* In a task that goes on in the child, and parks there, and is frozen there. */
static void
forks(struct work *w)
{
    fflush(stdout);
    CHECK_EQ(cpool_park(cpool_now() + 3000000, "known to the reclaimer"), -ETIMEDOUT);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        cpool_after_fork_child();
        for (int i = 0; i < PARENTS; i++) {
            cont_abandon(&parents[i]->task.cont);
        }
        uint64_t before = stats().freezes;
        while (stats().freezes == before) {
            cpool_sleep(cpool_now() + 20000000, "in the child");
        }
        _exit(0);
    }
    cpool_block_begin();
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    cpool_block_end();
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    w->n++;
}

static void
test_fork(int rounds)
{
    char text[4096];
    start_eager(2, 1);
    parents = park_many(PARENTS, CPOOL_TASK_MOVABLE, 1);
    for (int i = 0; i < rounds; i++) {
        await_frozen(PARENTS);
        /* With the reclaimer at work. */
        for (int k = 0; k < PARENTS / 2 && !CHECK_SANITIZED; k++) {
            cpool_unpark(&parents[k]->task);    /* ends: a park is all it does */
        }
        if (!CHECK_SANITIZED) {
            wait_finished((uint32_t)(i * (PARENTS / 2) + PARENTS / 2));
            for (int k = 0; k < PARENTS / 2; k++) {
                free(parents[k]);
                parents[k] = work_new(parks, NULL);
                parents[k]->task.flags = CPOOL_TASK_MOVABLE;
                CHECK_EQ(cpool_spawn(&parents[k]->task), 0);
            }
            for (int k = 0; k < PARENTS / 2; k++) {
                await_state(parents[k], CPOOL_PARKED);
            }
        }
        int r = check_child(child_of_main, text, sizeof(text));
        if (r != 0) {
            fputs(text, stderr);
        }
        CHECK_EQ(r, 0);
    }
    uint32_t ended = CHECK_SANITIZED ? 0 : (uint32_t)(rounds * (PARENTS / 2));
    for (int i = 0; i < rounds; i++) {
        struct work *w = work_new(forks, NULL);
        w->task.flags = CPOOL_TASK_MOVABLE;
        CHECK_EQ(cpool_spawn(&w->task), 0);
        wait_finished(++ended);
        free(w);
    }
    wake_many(parents, PARENTS, ended + PARENTS);
    stop();
}

/* Hard mode: at every park, by whoever parks. */
static void
test_every_park(void)
{
    struct cpool_config config = test_config(2);
    config.chaos_seed = 7;
    start_with(&config);
    struct work **w = park_many(50, CPOOL_TASK_MOVABLE, 1);
    struct work **still = park_many(10, 0, 1);
    CHECK_EQ(stats().freezes, 50);
    CHECK_EQ(stats().stacks_frozen, 50);
    wake_many(w, 50, 50);
    wake_many(still, 10, 60);
    CHECK_EQ(stats().thaws, 50);
    stop();
}

/* --- Stress: everything that ends a wait, against the reclaimer ---------------------------- */

#define CROWD 48
static struct work *_Atomic crowd[CROWD];
static int pipes[4][2];
static atomic_bool feeding;

static __attribute__((noinline)) void
waits_somehow(struct work *w, uint64_t *rng, unsigned depth)
{
    volatile uint64_t mark[8];
    for (int i = 0; i < 8; i++) {
        mark[i] = w->n * 31 + depth + (uint64_t)i;
    }
    if (depth > 0) {
        waits_somehow(w, rng, depth - 1);
    }
    else {
        int64_t until = cpool_now() + (int64_t)(check_random(rng) % 4000000);
        struct pollfd fds[2];
        switch (check_random(rng) % 5) {
        case 0:
            cpool_park(until, "reclaim");
            break;
        case 1:
            cpool_sleep(until, "reclaim");
            break;
        case 2:
            cpool_wait_fd(pipes[check_random(rng) % 4][0], POLLIN, until, "reclaim");
            break;
        case 3:
            for (int i = 0; i < 2; i++) {
                fds[i] = (struct pollfd){.fd = pipes[check_random(rng) % 4][0],
                                         .events = POLLIN};
            }
            cpool_wait_fds(fds, 2, until, "reclaim");
            break;
        case 4:
            cpool_yield();
            break;
        }
    }
    for (int i = 0; i < 8; i++) {
        CHECK(mark[i] == w->n * 31 + depth + (uint64_t)i);
    }
}

static void
anything(struct work *w)
{
    uint64_t rng = seed ^ (uint64_t)(uintptr_t)w->arg * 7919;
    crowd[(uintptr_t)w->arg % CROWD] = w;
    for (; w->n > 0; w->n--) {
        struct work *other = crowd[check_random(&rng) % CROWD];
        w->task.flags &= ~(uint32_t)(CPOOL_TASK_MOVABLE | CPOOL_TASK_STICKY);
        w->task.flags |= check_random(&rng) % 8 ? CPOOL_TASK_MOVABLE : 0;
        w->task.flags |= check_random(&rng) % 16 ? 0 : CPOOL_TASK_STICKY;
        waits_somehow(w, &rng, (unsigned)(check_random(&rng) % 4));
        if (other != NULL) {
            cpool_unpark(&other->task);
        }
        char c[4];
        ssize_t ignored = read(pipes[check_random(&rng) % 4][0], c, sizeof(c));
        (void)ignored;
    }
    w->task.flags &= ~(uint32_t)CPOOL_TASK_STICKY;
}

static void
short_lived(struct work *w)
{
    cpool_park(cpool_now() + (int64_t)(uintptr_t)w->arg % 3000000, "short");
}

static void *
feed(void *arg)
{
    uint64_t rng = seed + 1;
    while (atomic_load(&feeding)) {
        ssize_t ignored = write(pipes[check_random(&rng) % 4][1], "x", 1);
        (void)ignored;
        struct work *other = crowd[check_random(&rng) % CROWD];
        if (other != NULL) {
            cpool_unpark(&other->task);
        }
        if (check_random(&rng) % 16 == 0) {
            cont__image_fail_after((int)(check_random(&rng) % 40) - 20);
        }
        usleep(100);
    }
    cont__image_fail_after(-1);
    return arg;
}

static void
test_stress(int parallelism)
{
    const uint32_t n = CROWD * 4;
    const long steps = (long)check_scale(400) < 40 ? 40 : (long)check_scale(400);
    struct cpool_config config = eager_config(parallelism, 8);
    config.freeze_age_ns = 1;                           /* each round, at once         */
    config.freeze_batch = 1 + (unsigned)(seed % 64);
    start_with(&config);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
    }
    pthread_t feeder;
    feeding = true;
    CHECK_EQ(pthread_create(&feeder, NULL, feed, NULL), 0);
    struct work *w[CROWD * 4];
    for (uint32_t i = 0; i < n; i++) {
        w[i] = work_new(anything, (void *)(uintptr_t)(i + 1));
        w[i]->n = steps;
        CHECK_EQ(cpool_spawn(&w[i]->task), 0);
    }
    uint64_t rng = seed;
    uint32_t more = (uint32_t)check_scale(4000);
    for (uint32_t i = 0; i < more; i++) {
        struct work *s = work_new(short_lived, (void *)(uintptr_t)check_random(&rng));
        s->autofree = true;
        s->task.flags = CPOOL_TASK_MOVABLE;
        CHECK_EQ(cpool_spawn(&s->task), 0);
        if (i % 64 == 0) {
            usleep(500);
        }
    }
    wait_finished(n + more);
    atomic_store(&feeding, false);
    pthread_join(feeder, NULL);
    struct cpool_stats s = stats();
    CHECK_EQ(s.freezes, s.thaws);
    CHECK_EQ(s.stacks_frozen, 0);
    CHECK_EQ(s.image_bytes, 0);
    CHECK_EQ(cpool__pool.fd_waiters, 0);
    printf("parallelism %d: %llu parks, %llu freezes\n", parallelism,
           (unsigned long long)s.parks, (unsigned long long)s.freezes);
    stop();
    memset((void *)crowd, 0, sizeof(crowd));
    for (uint32_t i = 0; i < n; i++) {
        free(w[i]);
    }
    for (int i = 0; i < 4; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

int
main(int argc, char **argv)
{
    seed = check_take_seed(argv);
    (void)argc;
    test_budget(1);
    test_budget(3);
    test_not_frozen();
    test_sticky();
    test_age();
    test_trim();
    test_stop();
    test_every_park();
    for (int parallelism = 1; parallelism <= 3; parallelism++) {
        test_stress(parallelism);
        seed++;
    }
    const char *reason = check_cannot_fork();
    if (reason != NULL) {
        printf("not checked: fork, %s\n", reason);
        return 0;
    }
    test_fork(3);
    return 0;
}
