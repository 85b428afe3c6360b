/* What freezing costs, and what its numbers do: variants of one pool, by turns, each in a
 * process of its own.
 *
 *      cont_bench_reclaim                      resident, and frozen
 *      cont_bench_reclaim --freeze-max 1K,4K --live 512+3K
 *
 * n tasks park below some frames, are left alone until the reclaimer finds no more to do,
 * and are woken.  Options take lists; each combination is a variant, and one JSON line:
 *
 *      bytes             of RSS a task, page tables and the stacks' structs included, its own
 *                        struct not
 *      page_table_bytes  of these
 *      image_bytes       of these, in the heap
 *      freezes           a task
 *      park_ns           the last of them spawned, until all are parked: a first run, a stack and
 *                        a park each
 *      freeze_cpu_ns     CPU of the reclaimer for each that it froze, its looking included
 *      wake_ns, wake_cpu_ns    all of them woken, thawed, run and ended: a task, and CPU of the
 *                        process
 *      park_wake_ns      parked and woken again at once, a million times: what the hot path pays
 *                        for being movable
 *      burst_ns          n tasks that park, are woken and end, again and again: a whole life
 *
 * With --period each task wakes up again so often, and the lines have instead of the last two,
 * of `seconds` that begin a period and some rounds of the reclaimer later:
 *
 *      turn_cpu_ns       CPU of the process for each time that a task woke up and parked
 *      turns, turn_freezes     wake-ups, and freezes, a task and second
 *
 * Each figure is [median, least, largest] of the rounds. */

#include "continuations/cpool.h"
#include "cpool/cpool_internal.h"

#include <alloca.h>
#include <getopt.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: cont_bench_reclaim [OPTION]...\n"
    "  -n, --tasks N          how many (20000)\n"
    "  -r, --rounds N         of each variant (5)\n"
    "  -t, --seconds N        how long it is looked at, with --period (5)\n"
    "with lists (1,2,3); sizes in bytes, or with K or M:\n"
    "  -b, --budget N         stacks that stay resident; 0: all do (0,1)\n"
    "  -m, --freeze-max SIZE  largest live part that is frozen (the pool's default)\n"
    "  -g, --batch N          stacks frozen in one go (the pool's default)\n"
    "  -a, --age MS           parked for so long: cold (50)\n"
    "  -s, --stack-size SIZE  (the library's default)\n"
    "  -l, --live SIZE        of frames below a park; tasks take A+B+C in turn (0)\n"
    "  -p, --period MS        wake up by a timer so often; 0: never (0)\n";

/* --- Variants -------------------------------------------------------------------------------- */

enum { BUDGET, FREEZE_MAX, BATCH, AGE, STACK_SIZE, LIVE, PERIOD, OPTIONS };
enum { MAX_VALUES = 16, MAX_LIVE = 8, MAX_VARIANTS = 64, MAX_ROUNDS = 101 };

struct values {
    const char *name;
    int n;
    const char *text[MAX_VALUES];
};

static struct values options[OPTIONS] = {
    [BUDGET] = {"budget", 2, {"0", "1"}},
    [FREEZE_MAX] = {"freeze_max", 1, {"0"}},
    [BATCH] = {"batch", 1, {"0"}},
    [AGE] = {"age_ms", 1, {"50"}},
    [STACK_SIZE] = {"stack_size", 1, {"1M"}},
    [LIVE] = {"live", 1, {"0"}},
    [PERIOD] = {"period_ms", 1, {"0"}},
};

struct variant {
    const char *text[OPTIONS];
    size_t value[OPTIONS];              /* LIVE: not used                               */
    size_t live[MAX_LIVE];
    int n_live;
};

static struct variant variants[MAX_VARIANTS];

enum { BYTES, TABLES, IMAGE, FREEZES, PARK, FREEZE_CPU, WAKE, WAKE_CPU, PARK_WAKE, BURST,
       TURN_CPU, TURNS, TURN_FREEZES, FIGURES };

static const struct {
    const char *name;
    int digits;
} names[FIGURES] = {
    [BYTES] = {"bytes", 0}, [TABLES] = {"page_table_bytes", 0}, [IMAGE] = {"image_bytes", 0},
    [FREEZES] = {"freezes", 3}, [PARK] = {"park_ns", 0},
    [FREEZE_CPU] = {"freeze_cpu_ns", 0}, [WAKE] = {"wake_ns", 0},
    [WAKE_CPU] = {"wake_cpu_ns", 0}, [PARK_WAKE] = {"park_wake_ns", 1},
    [BURST] = {"burst_ns", 0}, [TURN_CPU] = {"turn_cpu_ns", 0}, [TURNS] = {"turns", 3},
    [TURN_FREEZES] = {"turn_freezes", 3},
};

/* Shared with the children, which write what they have measured. */
static double (*figures)[FIGURES][MAX_ROUNDS];

static int
parse_size(const char *text, const char **end, size_t *out)
{
    char *after;
    *out = strtoul(text, &after, 10);
    if (after == text || text[0] == '-') {
        return -1;
    }
    if (*after == 'K' || *after == 'M') {
        *out <<= *after == 'K' ? 10 : 20;
        after++;
    }
    *end = after;
    return 0;
}

/* Splits a list; its text stays in use. */
static int
parse_list(struct values *v, char *text)
{
    v->n = 0;
    for (char *one = strtok(text, ","); one != NULL; one = strtok(NULL, ",")) {
        if (v->n == MAX_VALUES) {
            return -1;
        }
        v->text[v->n++] = one;
    }
    return v->n > 0 ? 0 : -1;
}

static int
make_variant(struct variant *v, int number)
{
    for (int i = OPTIONS; i-- > 0; number /= options[i].n) {
        const char *text = options[i].text[number % options[i].n];
        const char *end = text;
        v->text[i] = text;
        if (i != LIVE) {
            if (parse_size(text, &end, &v->value[i]) < 0 || *end != '\0') {
                return -1;
            }
            continue;
        }
        for (v->n_live = 0;; text = end + 1) {
            if (v->n_live == MAX_LIVE || parse_size(text, &end, &v->live[v->n_live++]) < 0) {
                return -1;
            }
            if (*end != '+') {
                break;
            }
        }
        if (*end != '\0') {
            return -1;
        }
    }
    return 0;
}

/* --- Tasks ------------------------------------------------------------------------------------ */

struct job {
    struct cpool_task task;
    struct job *other;
    size_t live;
    int64_t phase_ns;
    long n;
};

static _Atomic uint32_t left;
static _Atomic bool over;
static int64_t ended, period_ns;

static void mount(struct cpool_carrier *c, struct cpool_task *t) { (void)c, (void)t; }

static void
wait_below(const struct job *j)
{
    if (period_ns == 0) {
        cpool_park(CPOOL_FOREVER, "bench");
        return;
    }
    /* The first time earlier, each at another one, or all would wake up at once for ever. */
    int64_t next = cpool_now() + j->phase_ns;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        cpool_park(next, "bench");
        next = cpool_now() + period_ns;
    }
}

static __attribute__((noinline)) long
below(const struct job *j, long depth)
{
    volatile long frame[16];
    frame[0] = depth;
    if (depth > 0) {
        return below(j, depth - 1) + frame[0];
    }
    wait_below(j);
    return frame[0];
}

static void
run(struct cpool_task *t)
{
    struct job *j = (struct job *)t;
    if (j->other == NULL) {
        volatile char *frame = alloca(j->live + 1);
        for (size_t i = 0; i <= j->live; i += 512) {
            frame[i] = 1;
        }
        below(j, 3);
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

static void
spawn(struct job *j, uint32_t n)
{
    left = n;
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

/* --- One run ---------------------------------------------------------------------------------- */

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

/* Until the reclaimer freezes no more.  Two looks at a task, an age apart, precede its
 * freezing. */
static void
settle(struct cpool_stats *stats, int64_t age_ns)
{
    int64_t since = cpool_now();
    uint64_t freezes = 0;
    for (;;) {
        cpool_get_stats(stats);
        if (stats->freezes != freezes) {
            freezes = stats->freezes;
            since = cpool_now();
        }
        else if (cpool_now() - since > 500000000 + 3 * age_ns) {
            return;
        }
        usleep(20000);
    }
}

static void
measure(const struct variant *v, double (*out)[MAX_ROUNDS], int round, struct job *j,
        uint32_t n, int seconds)
{
    struct cpool_config config = {
        .parallelism = 1, .max_carriers = 8,
        .stack_budget = v->value[BUDGET] != 0 ? v->value[BUDGET] : 2 * (size_t)n,
        .freeze_max = v->value[FREEZE_MAX], .freeze_batch = (unsigned)v->value[BATCH],
        .freeze_age_ns = (int64_t)v->value[AGE] * 1000000,
    };
    if (cont_set_stack_size(v->value[STACK_SIZE]) < 0 || cpool_start(&host, &config) < 0) {
        abort();
    }
    memset(j, 1, n * sizeof(*j));                       /* page faults: not here        */
    period_ns = (int64_t)v->value[PERIOD] * 1000000;
    for (uint32_t i = 0; i < n; i++) {
        j[i].live = v->live[i % (uint32_t)v->n_live];
        j[i].phase_ns = period_ns / n * i;
    }

    double bytes0, tables0, bytes, tables;
    struct cpool_stats stats, later;
    memory(&bytes0, &tables0);
    int64_t cpu0 = cpu_now(), t0 = cpool_now();
    spawn(j, n);
    out[PARK][round] = (double)(cpool_now() - t0) / n;
    if (period_ns == 0) {
        cpool_get_stats(&stats);
        uint64_t before = stats.freezes;
        cpu0 = cpu_now();
        settle(&stats, config.freeze_age_ns);
        uint64_t frozen = stats.freezes - before;
        out[FREEZE_CPU][round] = frozen != 0 ? (double)(cpu_now() - cpu0) / (double)frozen : 0;
        later = stats;
    }
    else {
        /* Rounds are four ages apart as long as nothing is to be frozen.   */
        sleep(2 + (unsigned)((v->value[PERIOD] + 5 * v->value[AGE]) / 1000));
        cpool_get_stats(&stats);
        cpu0 = cpu_now();
        sleep((unsigned)seconds);
        cpool_get_stats(&later);
        double turns = (double)(later.parks - stats.parks);
        out[TURN_CPU][round] = (double)(cpu_now() - cpu0) / (turns > 0 ? turns : 1);
        out[TURNS][round] = turns / n / seconds;
        out[TURN_FREEZES][round] = (double)(later.freezes - stats.freezes) / n / seconds;
        atomic_store(&over, true);
    }
    memory(&bytes, &tables);
    out[BYTES][round] = (bytes - bytes0) / n;
    out[TABLES][round] = (tables - tables0) / n;
    out[IMAGE][round] = (double)later.image_bytes / n;
    out[FREEZES][round] = (double)later.freezes / n;
    int64_t t2 = cpool_now();
    cpu0 = cpu_now();
    wake(j, n);
    out[WAKE_CPU][round] = (double)(cpu_now() - cpu0) / n;
    out[WAKE][round] = (double)(ended - t2) / n;
    if (period_ns != 0) {
        return;
    }

    /* The hot path: movable, or not. */
    struct job pair[2];
    left = 2;
    for (int i = 0; i < 2; i++) {
        cpool_task_init(&pair[i].task);
        pair[i].task.flags = v->value[BUDGET] != 0 ? CPOOL_TASK_MOVABLE : 0;
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
    t0 = cpool_now();
    for (int i = 0; i < 4; i++) {
        spawn(j, n);
        wake(j, n);
    }
    out[BURST][round] = (double)(ended - t0) / (4.0 * n);
    cpool_stop(CPOOL_FOREVER);
}

/* --- Main ------------------------------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void
print(const struct variant *v, double (*of)[MAX_ROUNDS], uint32_t n, int rounds)
{
    printf("{\"bench\": \"reclaim\", \"n\": %u, \"rounds\": %d", n, rounds);
    for (int i = 0; i < OPTIONS; i++) {
        printf(", \"%s\": \"%s\"", options[i].name, v->text[i]);
    }
    for (int i = 0; i < FIGURES; i++) {
        bool is_of_turns = i >= TURN_CPU;
        if (v->value[PERIOD] != 0 ? i == PARK_WAKE || i == BURST || i == FREEZE_CPU
                                  : is_of_turns) {
            continue;
        }
        qsort(of[i], (size_t)rounds, sizeof(of[i][0]), compare);
        printf(", \"%s\": [%.*f, %.*f, %.*f]", names[i].name, names[i].digits, of[i][rounds / 2],
               names[i].digits, of[i][0], names[i].digits, of[i][rounds - 1]);
    }
    printf("}\n");
}

static int
parse_options(int argc, char **argv, long *tasks, int *rounds, int *seconds)
{
    static const struct option longs[] = {
        {"tasks", required_argument, NULL, 'n'}, {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 't'}, {"budget", required_argument, NULL, 'b'},
        {"freeze-max", required_argument, NULL, 'm'}, {"batch", required_argument, NULL, 'g'},
        {"age", required_argument, NULL, 'a'}, {"stack-size", required_argument, NULL, 's'},
        {"live", required_argument, NULL, 'l'}, {"period", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    static const char lists[] = "bmgaslp";              /* in the order of the enum     */
    int c;
    while ((c = getopt_long(argc, argv, "n:r:t:b:m:g:a:s:l:p:h", longs, NULL)) >= 0) {
        const char *list = strchr(lists, c);
        if (list != NULL && parse_list(&options[list - lists], optarg) == 0) {
            continue;
        }
        switch (c) {
        case 'n': *tasks = atol(optarg); break;
        case 'r': *rounds = atoi(optarg); break;
        case 't': *seconds = atoi(optarg); break;
        case 'h': fputs(usage, stdout); exit(0);
        default: return -1;
        }
    }
    return optind == argc && *tasks > 0 && *tasks < 100000000 && *rounds > 0
           && *rounds <= MAX_ROUNDS && *seconds > 0 ? 0 : -1;
}

int
main(int argc, char **argv)
{
    long tasks = 20000;
    int rounds = 5, seconds = 5, n = 1;
    int r = parse_options(argc, argv, &tasks, &rounds, &seconds);
    for (int i = 0; i < OPTIONS && r == 0; i++) {
        n *= options[i].n;
        r = n > MAX_VARIANTS ? -1 : 0;
    }
    for (int i = 0; i < n && r == 0; i++) {
        r = make_variant(&variants[i], i);
    }
    if (r < 0) {
        fputs(usage, stderr);
        return 2;
    }
    figures = mmap(NULL, (size_t)n * sizeof(*figures), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct job *j = malloc((size_t)tasks * sizeof(*j));
    if (figures == MAP_FAILED || j == NULL) {
        return 1;
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < n; i++) {
            pid_t child = fork();
            if (child == 0) {
                measure(&variants[i], figures[i], round, j, (uint32_t)tasks, seconds);
                _exit(0);
            }
            int status;
            if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
                fprintf(stderr, "cont_bench_reclaim: a run has failed\n");
                return 1;
            }
        }
    }
    for (int i = 0; i < n; i++) {
        print(&variants[i], figures[i], (uint32_t)tasks, rounds);
    }
    free(j);
    return 0;
}
