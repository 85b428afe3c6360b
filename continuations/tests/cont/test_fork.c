/* Forks while other OS threads take and give stacks: the child has none of them, and all
 * of its own. */

#include "continuations/cont.h"
#include "cont/cont_internal.h"
#include "stack/cache.h"
#include "stack/depot.h"

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 2, EACH = 70 };

static _Atomic int stop;
static _Atomic int running;

static void
twice(void *arg)
{
    cont_yield(arg);
}

static void *
churn(void *arg)
{
    (void)arg;
    struct cont *c = calloc(EACH, sizeof(*c));
    CHECK(c != NULL);
    for (int laps = 0; !atomic_load(&stop); laps++) {
        if (laps == 1) {
            /* What allocates has done so: the allocators of some sanitizers are not safe to
             * fork while they are in use. */
            atomic_fetch_add(&running, 1);
        }
        for (int i = 0; i < EACH; i++) {
            cont_init(&c[i], twice, &c[i]);
            CHECK_EQ(cont_resume(&c[i]), 0);
        }
        for (int i = 0; i < EACH; i++) {
            CHECK_EQ(cont_resume(&c[i]), 0);
            CHECK_EQ(cont_state(&c[i]), CONT_DONE);
        }
    }
    free(c);
    return NULL;
}

static void
child(struct cont *mine)
{
    cont_after_fork_child();
    CHECK_EQ(cont_state(mine), CONT_SUSPENDED);
    CHECK_EQ(cont_resume(mine), 0);             /* goes on in both processes */
    CHECK_EQ(cont_state(mine), CONT_DONE);
    CHECK(cont__depot_is_valid());
    struct cont_stack_stats stats;
    cont_stack_get_stats(&stats);
    CHECK(stats.resident <= THREADS * (EACH + 32));     /* at most theirs are lost */
    static struct cont c[300];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300; i++) {
            cont_init(&c[i], twice, &c[i]);
            CHECK_EQ(cont_resume(&c[i]), 0);
            for (int k = 0; k < i; k++) {
                CHECK(c[k].stack != c[i].stack);
            }
        }
        for (int i = 0; i < 300; i++) {
            if (round == 1) {
                cont_abandon(&c[i]);
                continue;
            }
            CHECK_EQ(cont_resume(&c[i]), 0);
            CHECK_EQ(cont_state(&c[i]), CONT_DONE);
        }
    }
    cont_stack_trim();
    CHECK(cont__depot_is_valid());
    _exit(0);
}

int
main(void)
{
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&thread[i], NULL, churn, NULL), 0);
    }
    while (atomic_load(&running) < THREADS) {
        sched_yield();
    }
    const int forks = (int)check_scale(100);
    for (int i = 0; i < forks; i++) {
        struct cont mine;
        cont_init(&mine, twice, &mine);
        CHECK_EQ(cont_resume(&mine), 0);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            child(&mine);
        }
        int status;
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, 0);
        CHECK_EQ(cont_resume(&mine), 0);
        CHECK_EQ(cont_state(&mine), CONT_DONE);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    struct cont_stack_stats stats;
    cont_stack_get_stats(&stats);
    CHECK_EQ(stats.resident, 0);
    CHECK(cont__depot_is_valid());
    return 0;
}
