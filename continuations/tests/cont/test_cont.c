/* One continuation: every state, every refusal, nesting, other OS threads. */

#include "continuations/cont.h"
#include "arch/switch.h"
#include "cont/cont_internal.h"
#include "stack/depot.h"
#include "stack/prim.h"

#include "check.h"
#include "check_child.h"

#include <pthread.h>
#include <setjmp.h>

static size_t
resident(void)
{
    struct cont_stack_stats stats;
    cont_stack_get_stats(&stats);
    return stats.resident;
}

static int steps;

static void
three_steps(void *arg)
{
    struct cont *c = arg;
    for (int i = 0; i < 3; i++) {
        steps++;
        CHECK_EQ(cont_state(c), CONT_RUNNING);
        CHECK_EQ(cont_resume(c), -EINVAL);
        CHECK(cont__is_valid(c));
        cont_yield(c);
    }
}

static void
test_states(void)
{
    struct cont c;
    void *limit, *base;
    cont_init(&c, three_steps, &c);
    CHECK(cont__is_valid(&c));
    CHECK_EQ(cont_state(&c), CONT_NEW);
    CHECK_EQ(cont_live_bytes(&c), 0);
    cont_stack_bounds(&c, &limit, &base);
    CHECK(limit == NULL && base == NULL);
    steps = 0;
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(cont_resume(&c), 0);
        CHECK_EQ(steps, i);
        CHECK_EQ(cont_state(&c), CONT_SUSPENDED);
        CHECK(cont__is_valid(&c));
        CHECK_EQ(resident(), 1);
        cont_stack_bounds(&c, &limit, &base);
        CHECK(limit != NULL && (char *)base - (char *)limit > (ptrdiff_t)(900 << 10));
        CHECK(cont_live_bytes(&c) >= 64 && cont_live_bytes(&c) < 16384);
    }
    CHECK_EQ(cont_resume(&c), 0);
    CHECK_EQ(cont_state(&c), CONT_DONE);
    CHECK(cont__is_valid(&c));
    CHECK_EQ(cont_live_bytes(&c), 0);
    CHECK_EQ(cont_resume(&c), -EINVAL);
    cont_stack_bounds(&c, &limit, &base);
    CHECK(limit == NULL && base == NULL);
    CHECK_EQ(resident(), 0);
    cont_init(&c, three_steps, &c);             /* its memory can be used again */
    CHECK_EQ(cont_resume(&c), 0);
    cont_abandon(&c);
    CHECK_EQ(resident(), 0);
}

static void
test_abandon(void)
{
    struct cont c;
    cont_init(&c, three_steps, &c);
    cont_abandon(&c);
    CHECK_EQ(cont_state(&c), CONT_DONE);
    cont_abandon(&c);
    CHECK_EQ(cont_resume(&c), -EINVAL);
    for (int i = 0; i < 100; i++) {
        cont_init(&c, three_steps, &c);
        CHECK_EQ(cont_resume(&c), 0);
        CHECK_EQ(cont_resume(&c), 0);
        CHECK_EQ(resident(), 1);
        cont_abandon(&c);
        CHECK_EQ(cont_state(&c), CONT_DONE);
        CHECK(cont__is_valid(&c));
        CHECK_EQ(resident(), 0);
    }
}

static void
test_no_memory(void)
{
    enum { N = 3000 };
    static struct cont c[N];
    int n = 0;
    cont__prim_fail_after(0);
    for (; n < N; n++) {
        cont_init(&c[n], three_steps, &c[n]);
        int rc = cont_resume(&c[n]);
        if (rc != 0) {
            CHECK_EQ(rc, -ENOMEM);
            break;
        }
    }
    CHECK(n < N);
    CHECK_EQ(cont_state(&c[n]), CONT_NEW);
    CHECK(cont__is_valid(&c[n]));
    CHECK_EQ(cont_resume(&c[n]), -ENOMEM);
    /* One that ends makes room for one that waits. */
    if (n > 0) {
        while (cont_state(&c[0]) != CONT_DONE) {
            CHECK_EQ(cont_resume(&c[0]), 0);
        }
        CHECK_EQ(cont_resume(&c[n]), 0);
    }
    cont__prim_fail_after(-1);
    for (int i = 0; i <= n; i++) {
        while (cont_state(&c[i]) != CONT_DONE) {
            CHECK_EQ(cont_resume(&c[i]), 0);
        }
    }
    CHECK_EQ(resident(), 0);
}

/* Uses most of a stack, and keeps it while suspended. */
static __attribute__((noinline)) unsigned
deep(struct cont *c, char *stop, unsigned depth)
{
    volatile char buffer[2000];
    buffer[0] = (char)depth;
    buffer[sizeof(buffer) - 1] = (char)~depth;
    unsigned sum = depth;
    if ((char *)__builtin_frame_address(0) - 16384 > stop) {
        sum += deep(c, stop, depth + 1);
    }
    else {
        cont_yield(c);
    }
    CHECK(buffer[0] == (char)depth && buffer[sizeof(buffer) - 1] == (char)~depth);
    return sum;
}

static unsigned deep_result;

static void
go_deep(void *arg)
{
    void *limit, *base;
    cont_stack_bounds(arg, &limit, &base);
    deep_result = deep(arg, limit, 0);
}

static void
test_deep(void)
{
    struct cont c;
    unsigned result[2];
    for (int i = 0; i < 2; i++) {
        cont_init(&c, go_deep, &c);
        CHECK_EQ(cont_resume(&c), 0);
        CHECK(cont_live_bytes(&c) > (size_t)900 << 10);
        CHECK_EQ(cont_resume(&c), 0);
        CHECK_EQ(cont_state(&c), CONT_DONE);
        result[i] = deep_result;
    }
    CHECK(result[0] > 0 && result[0] == result[1]);
}

/* Each runs an inner one to its end, yielding in between. */
struct nest {
    struct cont c;
    int depth;
    int sum;
};

static void
nested(void *arg)
{
    struct nest *self = arg;
    if (self->depth == 0) {
        for (int i = 0; i < 5; i++) {
            self->sum++;
            cont_yield(&self->c);
        }
        return;
    }
    struct nest inner = {.depth = self->depth - 1};
    cont_init(&inner.c, nested, &inner);
    while (cont_state(&inner.c) != CONT_DONE) {
        CHECK_EQ(cont_resume(&inner.c), 0);
        if (cont_state(&inner.c) == CONT_SUSPENDED) {
            cont_yield(&self->c);
        }
    }
    self->sum = inner.sum + 1;
}

static void
test_nesting(void)
{
    struct nest outer = {.depth = 20};
    int resumes = 0;
    cont_init(&outer.c, nested, &outer);
    while (cont_state(&outer.c) != CONT_DONE) {
        CHECK_EQ(cont_resume(&outer.c), 0);
        resumes++;
    }
    CHECK_EQ(outer.sum, 25);
    CHECK_EQ(resumes, 6);
    CHECK_EQ(resident(), 0);
}

static struct cont *outer_cont;

static void
yields_the_outer(void *arg)
{
    (void)arg;
    cont_yield(outer_cont);
}

static void
resumes_inner(void *arg)
{
    struct cont inner;
    outer_cont = arg;
    cont_init(&inner, yields_the_outer, NULL);
    cont_resume(&inner);
}

static void
yield_of_outer(void)
{
    struct cont c;
    cont_init(&c, resumes_inner, &c);
    cont_resume(&c);
}

static void
yield_of_none(void)
{
    struct cont c;
    cont_init(&c, three_steps, &c);
    cont_yield(&c);
}

static void
abandons_itself(void *arg)
{
    cont_abandon(arg);
}

static void
abandon_of_running(void)
{
    struct cont c;
    cont_init(&c, abandons_itself, &c);
    cont_resume(&c);
}

static void
no_entry(void)
{
    struct cont c;
    cont_init(&c, NULL, NULL);
}

static void
test_misuse(void)
{
    char text[512];
    CHECK_EQ(check_child(yield_of_outer, text, sizeof(text)), -SIGABRT);
    CHECK_EQ(check_child(yield_of_none, text, sizeof(text)), -SIGABRT);
    CHECK_EQ(check_child(abandon_of_running, text, sizeof(text)), -SIGABRT);
    CHECK_EQ(check_child(no_entry, text, sizeof(text)), -SIGABRT);
    CHECK(strstr(text, "cont_init()") != NULL);
}

/* longjmp() within one continuation is common in C libraries. */
static void
jumps(void *arg)
{
    jmp_buf env;
    volatile int n = 0;
    if (setjmp(env) < 10) {
        n++;
        cont_yield(arg);
        longjmp(env, n);
    }
    CHECK_EQ(n, 10);
}

static void
test_longjmp(void)
{
    struct cont c;
    int resumes = 0;
    cont_init(&c, jumps, &c);
    while (cont_state(&c) != CONT_DONE) {
        CHECK_EQ(cont_resume(&c), 0);
        resumes++;
    }
    CHECK_EQ(resumes, 11);
}

/* A continuation goes round a ring of OS threads. */
enum { THREADS = 3, ROUNDS = 300 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t turn_changed;
    int turn;
    struct cont c;
    pthread_t seen[THREADS * ROUNDS];
    int n_seen;
} ring = {.lock = PTHREAD_MUTEX_INITIALIZER, .turn_changed = PTHREAD_COND_INITIALIZER};

__attribute__((noinline))
static void
note_thread(void)
{
    ring.seen[ring.n_seen++] = pthread_self();
}

static void
wanders(void *arg)
{
    (void)arg;
    for (int i = 0; i < THREADS * ROUNDS; i++) {
        note_thread();
        cont_yield(&ring.c);
    }
}

static void *
ring_thread(void *arg)
{
    const int me = (int)(intptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&ring.lock);
        while (ring.turn != me) {
            pthread_cond_wait(&ring.turn_changed, &ring.lock);
        }
        CHECK_EQ(cont_resume(&ring.c), 0);
        CHECK(pthread_equal(ring.seen[ring.n_seen - 1], pthread_self()));
        ring.turn = (me + 1) % THREADS;
        pthread_cond_broadcast(&ring.turn_changed);
        pthread_mutex_unlock(&ring.lock);
    }
    return NULL;
}

static void
test_threads(void)
{
    pthread_t thread[THREADS];
    cont_init(&ring.c, wanders, NULL);
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&thread[i], NULL, ring_thread, (void *)(intptr_t)i), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    CHECK_EQ(ring.n_seen, THREADS * ROUNDS);
    CHECK_EQ(cont_resume(&ring.c), 0);
    CHECK_EQ(cont_state(&ring.c), CONT_DONE);
}

#ifdef CONT_HARD
static void
write_to_dead_frame(void)
{
    struct cont c;
    cont_init(&c, three_steps, &c);
    cont_resume(&c);
    ((volatile char *)c.sp)[-CONT__SWITCH_BELOW - 100] = 1;
    cont_resume(&c);
}

static void
write_to_ended_stack(void)
{
    struct cont c;
    void *limit, *base;
    cont_init(&c, three_steps, &c);
    cont_resume(&c);
    cont_stack_bounds(&c, &limit, &base);
    cont_abandon(&c);
    ((volatile char *)base)[-100] = 1;
    cont_init(&c, three_steps, &c);
    cont_resume(&c);
}

static void
test_poison(void)
{
    char text[512];
    CHECK_EQ(check_child(write_to_dead_frame, text, sizeof(text)), -SIGABRT);
    CHECK(strstr(text, "POISON") != NULL);
    CHECK_EQ(check_child(write_to_ended_stack, text, sizeof(text)), -SIGABRT);
    CHECK(strstr(text, "POISON") != NULL);
}
#else
static void test_poison(void) {}
#endif

int
main(void)
{
    test_no_memory();
    test_states();
    test_abandon();
    test_deep();
    test_nesting();
    test_misuse();
    test_longjmp();
    test_poison();
    test_threads();
    CHECK_EQ(resident(), 0);
    CHECK(cont__depot_is_valid());
    return 0;
}
