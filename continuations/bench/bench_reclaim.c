/* What freezing costs, against staying resident, in one run: one JSON line.
 *
 *      resident, frozen    the same n tasks (default 20,000), parked below a few frames:
 *        bytes             of RSS a task, page tables included, its own struct not
 *        page_table_bytes  of these
 *        park_ns           the last of them spawned, until all are parked: a first run, a
 *                          stack and a park each
 *        wake_ns           all of them woken, run and ended; frozen: thawed before
 *        park_wake_ns      parked and woken again at once, a million times: what the hot path
 *                          pays for being movable
 *      freeze_ns           CPU of the reclaimer a task
 *      image_bytes         of a task, in the heap
 *      burst_*             n tasks that park, are woken and end, again and again: a whole life
 *
 * Medians of `rounds` (default 5), resident and frozen by turns.
 * Arguments: n, rounds. */

#include "continuations/cpool.h"
#include "cpool/cpool_internal.h"

#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
    struct cpool_task task;
    struct job *other;
    long n;
};

static _Atomic uint32_t left;
static int64_t ended;

static void mount(struct cpool_carrier *c, struct cpool_task *t) { (void)c, (void)t; }

static __attribute__((noinline)) long
below(long depth)
{
    volatile long frame[16];
    frame[0] = depth;
    if (depth > 0) {
        return below(depth - 1) + frame[0];
    }
    cpool_park(CPOOL_FOREVER, "bench");
    return frame[0];
}

static void
run(struct cpool_task *t)
{
    struct job *j = (struct job *)t;
    if (j->other == NULL) {
        below(3);
        return;
    }
    for (long i = 0; i < j->n; i++) {
        cpool_park(CPOOL_FOREVER, "ping");
        cpool_unpark_local(&j->other->task);
    }
}

static void
finished(struct cpool_carrier *c, struct cpool_task *t)
{
    (void)c, (void)t;
    if (atomic_fetch_sub(&left, 1) == 1) {
        ended = cpool_now();
        cpool__futex_wake(&left, 1);
    }
}

static const struct cpool_host host = {
    .mount = mount, .unmount = mount, .run = run, .finished = finished,
};

static void
join(void)
{
    uint32_t now;
    while ((now = atomic_load(&left)) != 0) {
        cpool__futex_wait(&left, now, CPOOL_FOREVER);
    }
}

static int64_t
cpu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* RSS and page tables, in bytes. */
static void
memory(double *all, double *tables)
{
    long rss = 0, pte = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        sscanf(line, "VmRSS: %ld", &rss);
        sscanf(line, "VmPTE: %ld", &pte);
    }
    if (f != NULL) {
        fclose(f);
    }
    *tables = (double)pte * 1024;
    *all = (double)rss * 1024 + *tables;
}

enum { BYTES, TABLES, PARK, WAKE, PARK_WAKE, FREEZE, IMAGE, BURST, FIGURES };
enum { MAX_ROUNDS = 101 };
static double figures[2][FIGURES][MAX_ROUNDS];

static void
begin(size_t budget, uint32_t n)
{
    struct cpool_config config = {.parallelism = 1, .max_carriers = 8,
                                  .stack_budget = budget, .freeze_age_ns = 50000000};
    if (cpool_start(&host, &config) < 0) {
        abort();
    }
    left = n;
}

static void
end(void)
{
    cpool_stop(CPOOL_FOREVER);
    cont_stack_trim();
    malloc_trim(0);
}

static void
spawn(struct job *j, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cpool_task_init(&j[i].task);
        j[i].task.flags = CPOOL_TASK_MOVABLE;
        j[i].other = NULL;
        cpool_spawn(&j[i].task);
    }
    for (uint32_t i = 0; i < n; i++) {
        while (cpool_task_state(&j[i].task) < CPOOL_PARKING) {
            sched_yield();
        }
    }
}

static void
wake(struct job *j, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cpool_unpark(&j[i].task);
    }
    join();
}

static void
measure(struct job *j, uint32_t n, int frozen, int round)
{
    double (*out)[MAX_ROUNDS] = figures[frozen];
    double bytes0, tables0, bytes, tables;
    begin(frozen ? 1 : 2 * (size_t)n, n);
    memory(&bytes0, &tables0);
    int64_t t0 = cpool_now();
    spawn(j, n);
    int64_t t1 = cpool_now(), cpu0 = cpu_now();
    struct cpool_stats stats;
    cpool_get_stats(&stats);
    size_t before = stats.stacks_frozen;
    while (frozen && stats.stacks_frozen < n) {
        usleep(20000);
        cpool_get_stats(&stats);
    }
    int64_t cpu1 = cpu_now();
    memory(&bytes, &tables);
    int64_t t2 = cpool_now();
    wake(j, n);
    out[BYTES][round] = (bytes - bytes0) / n;
    out[TABLES][round] = (tables - tables0) / n;
    out[PARK][round] = (double)(t1 - t0) / n;
    out[WAKE][round] = (double)(ended - t2) / n;
    out[FREEZE][round] = frozen ? (double)(cpu1 - cpu0) / (double)(n - before) : 0;
    out[IMAGE][round] = (double)stats.image_bytes / n;

    /* The hot path: movable, or not. */
    struct job pair[2];
    left = 2;
    for (int i = 0; i < 2; i++) {
        cpool_task_init(&pair[i].task);
        pair[i].task.flags = frozen ? CPOOL_TASK_MOVABLE : 0;
        pair[i].other = &pair[1 - i];
        pair[i].n = 500000;
    }
    t0 = cpool_now();
    cpool_spawn(&pair[0].task);
    cpool_spawn(&pair[1].task);
    cpool_unpark(&pair[0].task);
    join();
    out[PARK_WAKE][round] = (double)(ended - t0) / 1e6;

    /* Bursts within a second keep their pages. */
    if (!frozen) {
        t0 = cpool_now();
        for (int i = 0; i < 4; i++) {
            left = n;
            spawn(j, n);
            wake(j, n);
        }
        out[BURST][round] = (double)(ended - t0) / (4.0 * n);
    }
    end();
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double
median(int frozen, int figure, int rounds)
{
    double *of = figures[frozen][figure];
    qsort(of, (size_t)rounds, sizeof(*of), compare);
    return of[rounds / 2];
}

int
main(int argc, char **argv)
{
    uint32_t n = argc > 1 ? (uint32_t)atol(argv[1]) : 20000;
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    if (n == 0 || rounds < 1 || rounds > MAX_ROUNDS) {
        return 2;
    }
    struct job *j = malloc(n * sizeof(*j));
    memset(j, 1, n * sizeof(*j));                       /* page faults: not here        */
    for (int round = 0; round < rounds; round++) {
        measure(j, n, 0, round);
        measure(j, n, 1, round);
    }
    printf("{\"bench\": \"reclaim\", \"n\": %u, \"rounds\": %d", n, rounds);
    for (int frozen = 0; frozen < 2; frozen++) {
        printf(", \"%s\": {\"bytes\": %.0f, \"page_table_bytes\": %.0f, \"park_ns\": %.0f, "
               "\"wake_ns\": %.0f, \"park_wake_ns\": %.1f",
               frozen ? "frozen" : "resident", median(frozen, BYTES, rounds),
               median(frozen, TABLES, rounds), median(frozen, PARK, rounds),
               median(frozen, WAKE, rounds), median(frozen, PARK_WAKE, rounds));
        if (frozen) {
            printf(", \"freeze_ns\": %.0f, \"image_bytes\": %.0f}",
                   median(1, FREEZE, rounds), median(1, IMAGE, rounds));
        }
        else {
            printf(", \"burst_ns\": %.0f}", median(0, BURST, rounds));
        }
    }
    printf("}\n");
    free(j);
    return 0;
}
