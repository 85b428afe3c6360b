/* Stress: tasks that do everything at random, with a seed; what must hold at the end is
 * that all of them got there, that no message of a ring was lost (rings park without a
 * deadline: a lost wake-up hangs, and the watchdog dumps the pool), and that nothing is
 * left in any queue, heap or table. */

#include "pool_test.h"

#define PIPES 8
#define CROWD 64

static uint64_t seed;
static int pipes[PIPES][2];
static struct work *_Atomic crowd[CROWD];       /* whom to unpark for no reason        */
static atomic_long children;
static atomic_bool feeding;

static void
busy(struct work *w, uint64_t *rng)
{
    for (int i = (int)(check_random(rng) % 2000); i > 0; i--) {
        cpool__pause();
        if (is_preempted(w)) {
            cpool_yield();
        }
    }
}

static void
child(struct work *w)
{
    cpool_yield();
    atomic_fetch_sub(&children, 1);
    w->n = 1;
}

static void
check_errno(int value, int r)
{
    CHECK_EQ(r, value);
}

static void
wait_pipe(uint64_t *rng)
{
    int i = (int)(check_random(rng) % PIPES);
    int64_t until = cpool_now() + (int64_t)(check_random(rng) % 1000000);
    short events = check_random(rng) % 4 == 0 ? POLLOUT : POLLIN;
    int fd = pipes[i][events == POLLOUT];
    int r = cpool_wait_fd(fd, events, until, "stress");
    CHECK(r == -ETIMEDOUT || r > 0 || r == -ECANCELED);
    if (r == POLLIN) {
        char c;
        ssize_t ignored = read(fd, &c, 1);
        (void)ignored;
    }
}

static void
wait_pipes(uint64_t *rng)
{
    struct pollfd fds[PIPES];
    nfds_t n = check_random(rng) % (PIPES + 1);
    for (nfds_t i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
    }
    int r = cpool_wait_fds(fds, n, cpool_now() + (int64_t)(check_random(rng) % 500000),
                           "stress");
    CHECK(r >= 0 && r <= (int)n);
}

static void
block(uint64_t *rng, struct work *self)
{
    errno = 4711;
    bool pinned = check_random(rng) % 2;
    if (pinned) {
        cpool_pinned_begin("stress");
        CHECK_EQ(cpool_task_state(&self->task), CPOOL_PINNED);
    }
    else {
        cpool_block_begin();
    }
    if (check_random(rng) % 4 == 0) {
        /* A blocking call: somebody has to feed this pipe. */
        struct pollfd fd = {.fd = pipes[check_random(rng) % PIPES][0], .events = POLLIN};
        poll(&fd, 1, 1);
    }
    struct work *other = crowd[check_random(rng) % CROWD];
    if (other != NULL) {
        cpool_unpark(&other->task);     /* from an OS thread that has lost its slot    */
    }
    errno = 4711;
    if (pinned) {
        cpool_pinned_end();
    }
    else {
        cpool_block_end();
    }
}

static void
anything(struct work *w)
{
    uint64_t rng = seed ^ (uint64_t)w->arg;
    long steps = w->n;
    crowd[(uintptr_t)w->arg % CROWD] = w;
    for (long i = 0; i < steps; i++) {
        struct work *other = crowd[check_random(&rng) % CROWD];
        switch (check_random(&rng) % 12) {
        case 0:
            cpool_yield();
            break;
        case 1:
        case 2: {
            int64_t until = cpool_now() + (int64_t)(check_random(&rng) % 300000);
            int r = cpool_park(until, "stress");
            CHECK(r == 0 || (r == -ETIMEDOUT && cpool_now() >= until));
            break;
        }
        case 3:
        case 4:
            if (other != NULL) {
                cpool_unpark(&other->task);
            }
            break;
        case 5:
            if (other != NULL) {
                cpool_unpark_local(&other->task);
            }
            break;
        case 6: {
            int64_t until = cpool_now() + (int64_t)(check_random(&rng) % 200000);
            cpool_sleep(until, "stress");
            CHECK(cpool_now() >= until);
            break;
        }
        case 7:
            wait_pipe(&rng);
            break;
        case 8:
            wait_pipes(&rng);
            break;
        case 9: {
            block(&rng, w);
            check_errno(4711, errno);
            break;
        }
        case 10:
            atomic_fetch_add(&children, 1);
            go_and_forget(child, NULL);
            break;
        case 11:
            w->task.flags ^= check_random(&rng) % 2 ? CPOOL_TASK_STICKY : 0;
            busy(w, &rng);
            break;
        }
        if (w->task.flags & CPOOL_TASK_STICKY) {
            struct cpool_carrier *c = cpool_current_carrier();
            cpool_yield();
            CHECK(cpool_current_carrier() == c);
            cpool_park(cpool_now() + 1000, "sticky");
            CHECK(cpool_current_carrier() == c);
        }
    }
    w->task.flags &= ~(uint32_t)CPOOL_TASK_STICKY;
}

static void *
feed(void *arg)
{
    uint64_t rng = seed + 1;
    (void)arg;
    while (atomic_load(&feeding)) {
        int i = (int)(check_random(&rng) % PIPES);
        ssize_t ignored = write(pipes[i][1], "x", 1);
        (void)ignored;
        struct work *other = crowd[check_random(&rng) % CROWD];
        if (other != NULL) {
            cpool_unpark(&other->task);
        }
        if (check_random(&rng) % 64 == 0) {
            cpool_fd_close_begin(pipes[i][0]);  /* a false alarm                       */
            cpool_fd_close_end(pipes[i][0]);
        }
        struct pollfd none;
        poll(&none, 0, 1);
    }
    return NULL;
}

/* A ring: each waits for its flag, clears it, sets its neighbour's. */
struct seat {
    struct work *work;
    struct seat *next;
    _Atomic int flag;
    int local;
};

static void
ring(struct work *w)
{
    struct seat *s = w->arg;
    for (long i = 0; i < w->n; i++) {
        while (!atomic_exchange(&s->flag, 0)) {
            CHECK_EQ(cpool_park(CPOOL_FOREVER, "ring"), 0);
        }
        atomic_store(&s->next->flag, 1);
        if (s->local) {
            cpool_unpark_local(&s->next->work->task);
        }
        else {
            cpool_unpark(&s->next->work->task);
        }
        if (i % 16 == 0) {
            cpool_yield();
        }
    }
}

static void
round_of(int parallelism, long tasks, long steps, int rings, long laps)
{
    enum { SEATS = 5 };
    start(parallelism);
    for (int i = 0; i < PIPES; i++) {
        CHECK_EQ(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
    }
    memset((void *)crowd, 0, sizeof(crowd));
    feeding = true;
    pthread_t feeder;
    CHECK_EQ(pthread_create(&feeder, NULL, feed, NULL), 0);
    struct seat *seats = calloc((size_t)rings * SEATS, sizeof(*seats));
    for (int i = 0; i < rings * SEATS; i++) {
        seats[i].next = i % SEATS == SEATS - 1 ? &seats[i - SEATS + 1] : &seats[i + 1];
        seats[i].flag = i % SEATS == 0;
        seats[i].local = (i / SEATS) % 2;
        seats[i].work = work_new(ring, &seats[i]);
        seats[i].work->n = laps;
    }
    for (int i = 0; i < rings * SEATS; i++) {
        CHECK_EQ(cpool_spawn(&seats[i].work->task), 0);
    }
    struct work **w = malloc((size_t)tasks * sizeof(*w));
    for (long i = 0; i < tasks; i++) {
        w[i] = work_new(anything, (void *)(uintptr_t)(i * 977 + 1));
        w[i]->n = steps;
        CHECK_EQ(cpool_spawn(&w[i]->task), 0);
    }
    struct cpool_stats stats;
    do {
        wait_finished((uint32_t)(tasks + rings * SEATS));
        cpool_get_stats(&stats);
    } while (stats.finished != stats.spawned);
    CHECK_EQ(children, 0);
    atomic_store(&feeding, false);
    pthread_join(feeder, NULL);
    CHECK_EQ(stats.runnable, 0);
    CHECK(cpool__queue_is_valid(&cpool__pool.injector));
    CHECK_EQ(cpool__pool.fd_waiters, 0);
    for (int i = 0; i < cpool__slot_count(); i++) {
        CHECK(cpool__timers_is_valid(&cpool__slot(i)->timers));
        CHECK_EQ(cpool__slot(i)->timers.count, 0);
        CHECK(cpool__queue_is_valid(&cpool__slot(i)->inbox));
    }
    printf("parallelism %d: parks %llu unparks %llu steals %llu migrations %llu handoffs "
           "%llu preemptions %llu carriers %d\n", parallelism,
           (unsigned long long)stats.parks, (unsigned long long)stats.unparks,
           (unsigned long long)stats.steals, (unsigned long long)stats.migrations,
           (unsigned long long)stats.handoffs, (unsigned long long)stats.preemptions,
           stats.carriers);
    stop();
    for (int i = 0; i < PIPES; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    for (int i = 0; i < rings * SEATS; i++) {
        free(seats[i].work);
    }
    for (long i = 0; i < tasks; i++) {
        free(w[i]);
    }
    free(seats);
    free(w);
}

int
main(int argc, char **argv)
{
    seed = check_take_seed(argv);
    (void)argc;
    signal(SIGPIPE, SIG_IGN);
    long tasks = (long)check_scale(400), steps = (long)check_scale(200);
    steps = steps < 50 ? 50 : steps;
    tasks = tasks < 80 ? 80 : tasks;
    for (int parallelism = 1; parallelism <= 4; parallelism++) {
        round_of(parallelism, tasks, steps, 8, (long)check_scale(2000));
    }
    return 0;
}
