/* What the pool costs: one JSON line, for one and two carriers.
 *
 *      spawn_join_ns       tasks that do nothing, spawned by a task, joined by a count
 *      yield_ns            eight tasks on one carrier that only yield
 *      ping_pong_ns        two tasks that wake each other and park: a round trip;
 *                          `local` with the hint that the waker will park
 *      sleep_late_us       how late a sleep of 1 ms comes back, median
 *      pipe_ns             two tasks and two pipes: a round trip through the poller
 *
 * Each with `_cpu`: the process's CPU time for the same, all threads and the kernel, which
 * is what counts on a machine that others use too.
 *
 * Arguments: how many times as much of each (default 1). */

#include "continuations/cpool.h"
#include "cpool/cpool_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
    struct cpool_task task;
    void (*body)(struct job *);
    struct job *other;
    long n;
    int fd_in, fd_out;
    bool local;
};

static _Atomic uint32_t left;
static int64_t t0, t1, cpu0, cpu1;

static int64_t
cpu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}


static void mount(struct cpool_carrier *c, struct cpool_task *t) { (void)c, (void)t; }
static void run(struct cpool_task *t) { ((struct job *)t)->body((struct job *)t); }

static void
finished(struct cpool_carrier *c, struct cpool_task *t)
{
    (void)c, (void)t;
    if (atomic_fetch_sub(&left, 1) == 1) {
        t1 = cpool_now();
        cpu1 = cpu_now();
        cpool__futex_wake(&left, 1);
    }
}

static const struct cpool_host host = {
    .mount = mount, .unmount = mount, .run = run, .finished = finished,
};

static void
begin(uint32_t tasks)
{
    left = tasks;
    cpu0 = cpu_now();
    t0 = cpool_now();
}

/* `"name": value, "name_cpu": value` for n operations that took from begin to the end. */
static void
show(const char *name, double n)
{
    printf(", \"%s\": %.1f, \"%s_cpu\": %.1f", name, (double)(t1 - t0) / n, name,
           (double)(cpu1 - cpu0) / n);
    fflush(stdout);
}

static void
join(void)
{
    uint32_t now;
    while ((now = atomic_load(&left)) != 0) {
        cpool__futex_wait(&left, now, CPOOL_FOREVER);
    }
}

static void
init(struct job *j, void (*body)(struct job *), long n)
{
    cpool_task_init(&j->task);
    j->body = body;
    j->n = n;
}

static void nothing(struct job *j) { (void)j; }

static void
spawner(struct job *j)
{
    struct job *children = j->other;
    for (long i = 0; i < j->n; i++) {
        init(&children[i], nothing, 0);
        cpool_spawn(&children[i].task);
        if (i % 64 == 63) {
            cpool_yield();
        }
    }
}

static void
bench_spawn(long n)
{
    struct job j, *children = malloc((size_t)n * sizeof(*children));
    memset(children, 1, (size_t)n * sizeof(*children));         /* page faults: not here */
    init(&j, spawner, n);
    j.other = children;
    begin((uint32_t)n + 1);
    cpool_spawn(&j.task);
    join();
    free(children);
    show("spawn_join_ns", (double)n);
}

static void
yielder(struct job *j)
{
    for (long i = 0; i < j->n; i++) {
        cpool_yield();
    }
}

static void
bench_yield(long n)
{
    struct job j[8];
    begin(8);
    for (int i = 0; i < 8; i++) {
        init(&j[i], yielder, n);
        cpool_spawn(&j[i].task);
    }
    join();
    show("yield_ns", 8.0 * (double)n);
}

static void
ping(struct job *j)
{
    for (long i = 0; i < j->n; i++) {
        cpool_park(CPOOL_FOREVER, "ping");
        if (j->local) {
            cpool_unpark_local(&j->other->task);
        }
        else {
            cpool_unpark(&j->other->task);
        }
    }
}

static void
bench_ping(long n, bool local)
{
    struct job j[2];
    begin(2);
    for (int i = 0; i < 2; i++) {
        init(&j[i], ping, n);
        j[i].other = &j[1 - i];
        j[i].local = local;
    }
    cpool_spawn(&j[0].task);
    cpool_spawn(&j[1].task);
    cpool_unpark(&j[0].task);
    join();
    show(local ? "ping_pong_local_ns" : "ping_pong_ns", (double)n);
}

static void
piper(struct job *j)
{
    char c = 'x';
    for (long i = 0; i < j->n; i++) {
        while (read(j->fd_in, &c, 1) != 1) {
            cpool_wait_fd(j->fd_in, POLLIN, CPOOL_FOREVER, "pipe");
        }
        if (write(j->fd_out, &c, 1) != 1) {
            abort();
        }
    }
}

static void
bench_pipe(long n)
{
    struct job j[2];
    int a[2], b[2];
    if (pipe2(a, O_NONBLOCK) < 0 || pipe2(b, O_NONBLOCK) < 0) {
        abort();
    }
    begin(2);
    init(&j[0], piper, n);
    init(&j[1], piper, n);
    j[0].fd_in = a[0], j[0].fd_out = b[1];
    j[1].fd_in = b[0], j[1].fd_out = a[1];
    cpool_spawn(&j[0].task);
    cpool_spawn(&j[1].task);
    if (write(a[1], "x", 1) != 1) {
        abort();
    }
    join();
    close(a[0]), close(a[1]), close(b[0]), close(b[1]);
    show("pipe_ns", (double)n);
}

static int64_t late[200];

static void
sleeper(struct job *j)
{
    for (long i = 0; i < j->n; i++) {
        int64_t until = cpool_now() + 1000000;
        cpool_sleep(until, "sleep");
        late[i] = cpool_now() - until;
    }
}

static int
compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void
bench_sleep(void)
{
    struct job j;
    init(&j, sleeper, 200);
    begin(1);
    cpool_spawn(&j.task);
    join();
    qsort(late, 200, sizeof(*late), compare);
    printf(", \"sleep_late_us\": %.1f", (double)late[100] / 1e3);
}

int
main(int argc, char **argv)
{
    long k = argc > 1 ? atol(argv[1]) : 1;
    printf("{\"bench\": \"cpool\"");
    for (int carriers = 1; carriers <= 2; carriers++) {
        struct cpool_config config = {.parallelism = carriers, .max_carriers = 16};
        if (cpool_start(&host, &config) < 0) {
            return 1;
        }
        printf(", \"carriers_%d\": {\"carriers\": %d", carriers, carriers);
        bench_spawn(1000000 * k);
        bench_yield(500000 * k);
        bench_ping(1000000 * k, false);
        bench_ping(1000000 * k, true);
        bench_pipe(100000 * k);
        bench_sleep();
        printf("}");
        cpool_stop(CPOOL_FOREVER);
    }
    printf("}\n");
    return 0;
}
