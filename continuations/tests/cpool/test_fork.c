/* Fork: in a task, the child has that task alone and a pool that works; outside of the
 * pool, the child's pool is as before its first spawn.  The parent notices nothing. */

#include "pool_test.h"
#include "check_child.h"

#include <sys/prctl.h>

static void
nothing(struct work *w)
{
    w->n++;
}

static void
sleeps(struct work *w)
{
    cpool_sleep(cpool_now() + 2000000, "sleep");
    w->n++;
}

static void
waits(struct work *w)
{
    int p[2];
    CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, cpool_now() + 1000000, "in"), -ETIMEDOUT);
    CHECK_EQ(write(p[1], "x", 1), 1);
    CHECK_EQ(cpool_wait_fd(p[0], POLLIN, CPOOL_FOREVER, "in"), POLLIN);
    close(p[0]);
    close(p[1]);
    w->n++;
}

static void
parks(struct work *w)
{
    cpool_park(CPOOL_FOREVER, "for ever");
    w->n++;
}

static void
blocks(struct work *w)
{
    char c;
    cpool_block_begin();
    CHECK_EQ(read((int)(intptr_t)w->arg, &c, 1), 1);
    cpool_block_end();
    w->n++;
}

/* In the child, on a task: everything still works, with several carriers. */
static void
use_pool_in_child(void)
{
    enum { N = 30 };
    struct work *w[N];
    struct cpool_stats stats;
    int p[2];
    cpool_get_stats(&stats);
    CHECK_EQ(stats.carriers, 1);
    CHECK_EQ(stats.runnable, 0);
    uint32_t before = atomic_load(&test_finished);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    for (int i = 0; i < N; i++) {
        w[i] = go(i % 3 == 0 ? nothing : i % 3 == 1 ? sleeps : waits, NULL);
    }
    struct work *b = go(blocks, (void *)(intptr_t)p[0]);
    while (atomic_load(&test_finished) < before + N) {
        cpool_sleep(cpool_now() + 500000, "join");
    }
    CHECK_EQ(write(p[1], "x", 1), 1);
    while (atomic_load(&test_finished) < before + N + 1) {
        cpool_yield();
    }
    CHECK_EQ(b->n, 1);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(w[i]->n, 1);
    }
}

/* The child dumps its pool if it hangs, and does not outlive a parent that is killed. */
static void
watch_child(void)
{
    sigset_t alarms;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    alarm(60);
}

static void
forks(struct work *w)
{
    struct cpool_task *t = cpool_current();
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        watch_child();
        cpool_after_fork_child();
        CHECK(cpool_current() == t);
        use_pool_in_child();
        _exit(0);
    }
    cpool_block_begin();
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    cpool_block_end();
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    w->n++;
}

static atomic_int met;

static void
meets(struct work *w)
{
    atomic_fetch_add(&met, 1);
    while (atomic_load(&met) < (int)(intptr_t)w->arg) {
        cpool__pause();                 /* holds its slot: each is on another carrier  */
    }
}

/* Until every slot has its carrier and none of these is being started.  With sanitizers: a
 * child that is forked meanwhile inherits the lock of ASan's allocator from an OS thread
 * that it hasn't got, and hangs when it starts one itself. */
static void
settle(int parallelism)
{
    struct cpool_stats stats;
    atomic_store(&met, 0);
    for (int i = 0; i < parallelism; i++) {
        go_and_forget(meets, (void *)(intptr_t)parallelism);
    }
    do {
        sched_yield();
        cpool_get_stats(&stats);
    } while (stats.carriers_idle != stats.carriers);
}

static void
test_in_task(int parallelism, int rounds)
{
    uint32_t extra = 0;
    start(parallelism);
    struct work *parked = go(parks, NULL);
    /* Traffic, so that locks are held at the fork.  Not so with sanitizers: gcc 12's don't
     * survive a fork while another thread is in malloc or pthread_create. */
    int traffic = CHECK_SANITIZED ? 0 : 50;
    for (int i = 0; i < traffic; i++) {
        go_and_forget(waits, NULL);
        go_and_forget(sleeps, NULL);
    }
    for (int i = 0; i < rounds; i++) {
        if (CHECK_SANITIZED) {
            settle(parallelism);
            extra += (uint32_t)parallelism;
        }
        go_and_forget(forks, NULL);
        if (CHECK_SANITIZED) {
            wait_finished((uint32_t)i + 1 + extra);
        }
    }
    wait_finished((uint32_t)(2 * traffic + rounds) + extra);
    cpool_unpark(&parked->task);
    wait_finished((uint32_t)(2 * traffic + rounds + 1) + extra);
    free(parked);
    stop();
}

static void
child_of_main(void)
{
    struct cpool_stats stats;
    watch_child();
    cpool_after_fork_child();
    cpool_get_stats(&stats);
    CHECK_EQ(stats.carriers, 0);
    CHECK(cpool_current_carrier() == NULL);
    test_finished = 0;
    for (uint32_t i = 1; i <= 20; i++) {
        struct work *w = go(i % 2 ? sleeps : waits, NULL);
        wait_finished(i);
        CHECK_EQ(w->n, 1);
    }
    CHECK_EQ(cpool_stop(cpool_now() + INT64_C(10000000000)), 0);
    struct cpool_config config = test_config(2);
    CHECK_EQ(cpool_start(&test_host, &config), 0);
    test_finished = 0;
    go(nothing, NULL);
    wait_finished(1);
}

static void
test_outside(int parallelism)
{
    char text[4096];
    /* Before the pool was started there is nothing to do. */
    start(parallelism);
    struct work *parked = go(parks, NULL);
    go_and_forget(sleeps, NULL);
    wait_finished(1);
    for (int i = 0; i < 5; i++) {
        int r = check_child(child_of_main, text, sizeof(text));
        if (r != 0) {
            fputs(text, stderr);
        }
        CHECK_EQ(r, 0);
    }
    cpool_unpark(&parked->task);
    wait_finished(2);
    free(parked);
    stop();
}

int
main(void)
{
    const char *reason = check_cannot_fork();
    if (reason != NULL) {
        printf("not checked: fork, %s\n", reason);
        return 0;
    }
    if (CHECK_SANITIZED) {
        setenv("CPOOL_TEST_MOVABLE", "0", 1);   /* images are allocated: see traffic   */
    }
    cpool_after_fork_child();           /* without a pool: nothing                     */
    test_in_task(1, 5);
    test_in_task(3, 10);
    test_outside(1);
    test_outside(3);
    return 0;
}
