/* What a switch costs, and a whole continuation, beside swapcontext() in the same run.
 *
 * Prints one line of JSON, all times in nanoseconds of CPU, each the median of RUNS:
 *
 *      switch              cont__switch alone, one way
 *      resume_yield        cont_resume() and the cont_yield() that answers it
 *      resume_yield_many   the same, going round MANY continuations (caches miss)
 *      create_run_end      init, first resume, end; stack from the cache
 *      create_park_end     the same for MANY that are all suspended at once
 *      swapcontext         one way
 *      parked_rss, _pte    bytes of memory and of page tables for each of MANY, suspended in
 *                          their first frame
 *      *_spread            (highest - lowest) / median of the first three, in percent
 */

#include "continuations/cont.h"
#include "arch/switch.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

enum { RUNS = 9, MANY = 10000 };

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct figure {
    double median, spread;
};

static int
compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct figure
measure(double (*run)(void))
{
    double t[RUNS];
    run();
    for (int i = 0; i < RUNS; i++) {
        t[i] = run();
    }
    qsort(t, RUNS, sizeof(t[0]), compare);
    return (struct figure){t[RUNS / 2], 100 * (t[RUNS - 1] - t[0]) / t[RUNS / 2]};
}

static void *raw_main, *raw_other;
static _Alignas(64) char raw_stack[65536];

static void
raw_body(void *arg)
{
    (void)arg;
    for (;;) {
        cont__switch(&raw_other, raw_main);
    }
}

static double
run_raw(void)
{
    const int n = 1000000;
    raw_other = cont__switch_make(raw_stack + sizeof(raw_stack), raw_stack, raw_body, NULL);
    double t = now();
    for (int i = 0; i < n; i++) {
        cont__switch(&raw_main, raw_other);
    }
    return (now() - t) / n / 2;
}

static volatile int stop;

static void
yields(void *arg)
{
    while (!stop) {
        cont_yield(arg);
    }
}

static double
run_resume_yield(void)
{
    const int n = 1000000;
    struct cont c;
    stop = 0;
    cont_init(&c, yields, &c);
    double t = now();
    for (int i = 0; i < n; i++) {
        cont_resume(&c);
    }
    t = (now() - t) / n;
    stop = 1;
    cont_resume(&c);
    return t;
}

static struct cont many[MANY];

static double
run_many(void)
{
    const int rounds = 20;
    stop = 0;
    for (int i = 0; i < MANY; i++) {
        cont_init(&many[i], yields, &many[i]);
        if (cont_resume(&many[i]) != 0) {
            abort();
        }
    }
    double t = now();
    for (int k = 0; k < rounds; k++) {
        for (int i = 0; i < MANY; i++) {
            cont_resume(&many[i]);
        }
    }
    t = (now() - t) / rounds / MANY;
    stop = 1;
    for (int i = 0; i < MANY; i++) {
        cont_resume(&many[i]);
    }
    return t;
}

static void
returns(void *arg)
{
    (void)arg;
}

static double
run_create(void)
{
    const int n = 300000;
    struct cont c;
    double t = now();
    for (int i = 0; i < n; i++) {
        cont_init(&c, returns, NULL);
        cont_resume(&c);
    }
    return (now() - t) / n;
}

static double parked_rss, parked_pte;

/* A figure of /proc/self/status, in bytes. */
static double
status(const char *name)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            kb = atof(line + strlen(name) + 1);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return kb * 1024;
}

static void
measure_memory(void)
{
    cont_stack_trim();
    const double rss = status("VmRSS"), pte = status("VmPTE");
    stop = 0;
    for (int i = 0; i < MANY; i++) {
        cont_init(&many[i], yields, &many[i]);
        cont_resume(&many[i]);
    }
    parked_rss = (status("VmRSS") - rss) / MANY;
    parked_pte = (status("VmPTE") - pte) / MANY;
    stop = 1;
    for (int i = 0; i < MANY; i++) {
        cont_resume(&many[i]);
    }
}

static double
run_create_park(void)
{
    stop = 0;
    double t = now();
    for (int i = 0; i < MANY; i++) {
        cont_init(&many[i], yields, &many[i]);
        cont_resume(&many[i]);
    }
    stop = 1;
    for (int i = 0; i < MANY; i++) {
        cont_resume(&many[i]);
    }
    return (now() - t) / MANY;
}

static ucontext_t u_main, u_other;

static void
u_body(void)
{
    for (;;) {
        swapcontext(&u_other, &u_main);
    }
}

static double
run_swapcontext(void)
{
    const int n = 100000;
    getcontext(&u_other);
    u_other.uc_link = NULL;
    u_other.uc_stack.ss_sp = raw_stack;
    u_other.uc_stack.ss_size = sizeof(raw_stack);
    makecontext(&u_other, u_body, 0);
    double t = now();
    for (int i = 0; i < n; i++) {
        swapcontext(&u_main, &u_other);
    }
    return (now() - t) / n / 2;
}

int
main(void)
{
    struct figure raw = measure(run_raw);
    struct figure pair = measure(run_resume_yield);
    struct figure wide = measure(run_many);
    struct figure create = measure(run_create);
    struct figure park = measure(run_create_park);
    struct figure swap = measure(run_swapcontext);
    measure_memory();
    printf("{\"switch\": %.2f, \"resume_yield\": %.2f, \"resume_yield_many\": %.1f, "
           "\"create_run_end\": %.1f, \"create_park_end\": %.1f, \"swapcontext\": %.1f, "
           "\"swapcontext_ratio\": %.1f, \"parked_rss\": %.0f, \"parked_pte\": %.0f, "
           "\"switch_spread\": %.0f, "
           "\"resume_yield_spread\": %.0f, \"resume_yield_many_spread\": %.0f}\n",
           raw.median, pair.median, wide.median, create.median, park.median, swap.median,
           swap.median / raw.median, parked_rss, parked_pte, raw.spread, pair.spread, wide.spread);
    return 0;
}
