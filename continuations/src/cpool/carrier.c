/* Carriers: OS threads of the pool, from pthread_create to their end.
 *
 *      modes        RUN ---- block_begin ----> BLOCK
 *                    ^  <--- block_end: still mine ---
 *                    |                            | slot was handed off
 *                    |  <------ got a slot ----- WANT
 *                    |                            ^ a sticky task of mine became runnable
 *                    |  <------ got a slot ----- SPARE <--- slot lost or passed on
 *                                                 | idle for carrier_idle, nothing sticky
 *                                                 v
 *                                                DEAD, in pool.unused
 *
 * A carrier without a slot sleeps on its baton, and each sleep ends with one word in it,
 * put there by the one who took the carrier out of the list in which it waited.
 *
 * Signals belong to the host's main thread: carriers block all but those that their own
 * code raises and that of knock.c, and have an alternate stack for these, since the stack of a task is small
 * and its end is one of the reasons for SIGSEGV. */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A handler that prints a traceback needs more than SIGSTKSZ. */
#define ALTSTACK_BYTES (64 << 10)
/* After pthread_create failed: the system is short of something; don't ask at once. */
#define CREATE_RETRY_NS 10000000

static _Thread_local struct cpool_carrier *self __attribute__((tls_model("initial-exec")));

__attribute__((noinline)) struct cpool_carrier *
cpool__self(void)
{
    __asm__ volatile("" ::: "memory");
    return self;
}

/* --- Lists --------------------------------------------------------------------------- */

static void
insert(struct cpool__carrier_list *l, struct cpool_carrier *c, struct cpool_carrier *before)
{
    struct cpool_carrier *after = before != NULL ? before->next : l->head;
    c->prev = before;
    c->next = after;
    *(before != NULL ? &before->next : &l->head) = c;
    *(after != NULL ? &after->prev : &l->tail) = c;
    /* seq_cst: partner cpool__work_visible */
    atomic_fetch_add(&l->len, 1);
}

void
cpool__carriers_append(struct cpool__carrier_list *l, struct cpool_carrier *c)
{
    insert(l, c, l->tail);
}

void
cpool__carriers_push(struct cpool__carrier_list *l, struct cpool_carrier *c)
{
    insert(l, c, NULL);
}

void
cpool__carriers_remove(struct cpool__carrier_list *l, struct cpool_carrier *c)
{
    *(c->prev != NULL ? &c->prev->next : &l->head) = c->next;
    *(c->next != NULL ? &c->next->prev : &l->tail) = c->prev;
    c->next = c->prev = NULL;
    atomic_fetch_sub(&l->len, 1);
}

/* --- Baton ----------------------------------------------------------------------------- */

/* c sleeps, or is about to, and the caller has taken it out of where it waited. */
void
cpool__carrier_pass(struct cpool_carrier *c, enum cpool__baton baton)
{
    CONT_ASSERT(atomic_load(&c->baton) == CPOOL__BATON_NONE);
    /* seq_cst, both: partner cpool__sleep, which clears in_poll and then looks at baton */
    atomic_store(&c->baton, baton);
    if (atomic_load(&c->in_poll)) {
        cpool__pool.poller->wake();
    }
    else {
        cpool__futex_wake(&c->baton, 1);
    }
}

/* NONE at the deadline. */
enum cpool__baton
cpool__carrier_await(struct cpool_carrier *c, int64_t deadline)
{
    for (;;) {
        /* acquire: partner cpool__carrier_pass */
        uint32_t baton = atomic_load(&c->baton);
        if (baton != CPOOL__BATON_NONE) {
            CPOOL__STORE(&c->baton, CPOOL__BATON_NONE);
            return baton;
        }
        if (deadline != CPOOL_FOREVER && cpool_now() >= deadline) {
            return CPOOL__BATON_NONE;
        }
        cpool__futex_wait(&c->baton, CPOOL__BATON_NONE, deadline);
    }
}

/* Own, pool.lock held.  c has no slot, or no right to the one in c->slot any more: now it waits
 * for one, as all can see.  False: the pool stops. */
bool
cpool__carrier_let_go_lock_held(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    CONT_ASSERT(!c->spinning);
    CPOOL__STORE(&c->slot, NULL);
    c->ran = false;
    c->wanted_since = 0;
    c->lender = NULL;
    if (cpool__is_stopping()) {
        return false;
    }
    /* Publish, then look; partner: cpool__wake_sticky. */
    atomic_store(&c->mode, CPOOL__MODE_SPARE);
    cpool__full_fence();
    if (cpool__queue_len(&c->sticky) != 0 || atomic_load(&c->attend)) {
        atomic_store(&c->mode, CPOOL__MODE_WANT);
        cpool__carriers_append(&p->wanting, c);
        cpool__slots_match_lock_held();
    }
    else {
        cpool__carriers_push(&p->spares, c);
    }
    return true;
}

/* Own, after that.  True: it has one.  False: it is not needed; the OS thread ends. */
bool
cpool__carrier_await_slot(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    for (;;) {
        bool stays = c->sticky_count != 0;
        switch (cpool__carrier_await(c, stays ? CPOOL_FOREVER
                                              : cpool_now() + p->carrier_idle)) {
        case CPOOL__BATON_GO:
            return true;
        case CPOOL__BATON_GO_SPINNING:
            c->spinning = true;
            return true;
        case CPOOL__BATON_NONE:
            cpool__lock(&p->lock);
            if (CPOOL__LOAD(&c->mode) == CPOOL__MODE_SPARE) {
                cpool__carriers_remove(&p->spares, c);
                CPOOL__STORE(&c->mode, CPOOL__MODE_DEAD);
                cpool__unlock(&p->lock);
                return false;
            }
            cpool__unlock(&p->lock);
            break;
        default:
            return false;
        }
    }
}

bool
cpool__carrier_without_slot(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__lock(&p->lock);
    bool waits = cpool__carrier_let_go_lock_held(c);
    cpool__unlock(&p->lock);
    return waits && cpool__carrier_await_slot(c);
}

/* Something was left for c alone, by another OS thread or by c while it blocks: a sticky
 * task in its queue, or `attend`. */
void
cpool__wake_sticky(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__full_fence();
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    if (s != NULL && cpool__owner(s) == c) {
        cpool__slot_wake(s, CPOOL__BATON_GO);
    }
    if (atomic_load(&c->mode) == CPOOL__MODE_SPARE) {
        cpool__lock(&p->lock);
        if (CPOOL__LOAD(&c->mode) == CPOOL__MODE_SPARE && !cpool__is_stopping()) {
            cpool__carriers_remove(&p->spares, c);
            atomic_store(&c->mode, CPOOL__MODE_WANT);
            cpool__carriers_append(&p->wanting, c);
            cpool__slots_match_lock_held();
        }
        cpool__unlock(&p->lock);
    }
    cpool__monitor_notice();
}

void
cpool_carrier_attend(struct cpool_carrier *c)
{
    /* seq_cst: partners cpool__work_visible, cpool__carrier_let_go_lock_held */
    atomic_store(&c->attend, true);
    cpool__wake_sticky(c);
}

/* Came back from the kernel after cpool_stop, with a task mounted whose host may be gone:
 * never returns to it. */
void
cpool__carrier_hang(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__lock(&p->lock);
    CPOOL__STORE(&c->mode, CPOOL__MODE_HUNG);
    atomic_fetch_sub(&p->alive, 1);
    cpool__unlock(&p->lock);
    cpool__futex_wake(&p->alive, INT32_MAX);
    for (;;) {
        cpool__futex_wait(&c->baton, CPOOL__LOAD(&c->baton), CPOOL_FOREVER);
    }
}

/* --- Life ------------------------------------------------------------------------------ */

static void
end(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__lock(&p->lock);
    if (c->spinning) {
        c->spinning = false;
        atomic_fetch_sub(&p->spinning, 1);
    }
    struct cpool_slot *s = CPOOL__LOAD(&c->slot);
    CPOOL__STORE(&c->slot, NULL);
    if (s != NULL) {
        cpool__slot_release_lock_held(s);
    }
    CPOOL__STORE(&c->mode, CPOOL__MODE_DEAD);
    cpool__carriers_append(&p->unused, c);
    atomic_fetch_sub(&p->alive, 1);
    cpool__unlock(&p->lock);
    cpool__futex_wake(&p->alive, INT32_MAX);
}

static void *
carrier_main(void *arg)
{
    struct cpool_carrier *c = arg;
    struct cpool__pool *p = &cpool__pool;
    self = c;
    CPOOL__STORE(&c->tid, (int)syscall(SYS_gettid));
    pthread_setname_np(pthread_self(), "carrier");
    cpool__exact_timers();
    if ((int)CPOOL__LOAD(&p->alive) > CPOOL__LOAD(&p->max_carriers)) {
        atomic_fetch_add_explicit(&p->extra, 1, memory_order_relaxed);
    }
    c->altstack = malloc(ALTSTACK_BYTES);
    if (c->altstack != NULL) {
        sigaltstack(&(stack_t){.ss_sp = c->altstack, .ss_size = ALTSTACK_BYTES}, NULL);
    }
    int r = p->host.carrier_begin != NULL ? p->host.carrier_begin(c) : 0;
    if (r < 0) {
        cpool__lock(&p->lock);
        p->no_create_until = cpool_now() + CREATE_RETRY_NS;
        cpool__unlock(&p->lock);
    }
    else {
        cpool__worker(c);
        if (p->host.carrier_end != NULL) {
            p->host.carrier_end(c);
        }
    }
    if (c->altstack != NULL) {
        sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
        free(c->altstack);
        c->altstack = NULL;
    }
    self = NULL;
    end(c);
    return NULL;
}

/* A carrier struct that counts as alive, or NULL: at the limit (and the monitor has not
 * allowed one more), or out of memory. */
struct cpool_carrier *
cpool__carrier_new_lock_held(void)
{
    struct cpool__pool *p = &cpool__pool;
    bool over = (int)CPOOL__LOAD(&p->alive) >= CPOOL__LOAD(&p->max_carriers);
    if ((over && !CPOOL__LOAD(&p->one_more))
        || (p->no_create_until != 0 && cpool_now() < p->no_create_until)
        || cpool__is_stopping()) {
        return NULL;
    }
    struct cpool_carrier *c = p->unused.head;
    if (c != NULL) {
        cpool__carriers_remove(&p->unused, c);
        CONT_ASSERT(cpool__queue_len(&c->sticky) == 0);
    }
    else {
        c = calloc(1, sizeof(*c));
        if (c == NULL) {
            return NULL;
        }
        c->id = p->next_id++;
        c->all_next = CPOOL__LOAD(&p->all);
        /* release: partner the readers of pool.all (monitor, stats, dump) */
        atomic_store_explicit(&p->all, c, memory_order_release);
    }
    CPOOL__STORE(&c->task, NULL);
    CPOOL__STORE(&c->data, NULL);
    CPOOL__STORE(&c->baton, CPOOL__BATON_NONE);
    CPOOL__STORE(&c->in_poll, false);
    c->blocked = c->spinning = c->ran = false;
    c->sticky_count = 0;
    c->wanted_since = 0;
    c->lender = NULL;
    CPOOL__STORE(&c->attend, false);
    CPOOL__STORE(&c->knocked, false);
    CPOOL__STORE(&c->mode, CPOOL__MODE_RUN);
    atomic_fetch_add(&p->alive, 1);
    if (over) {
        CPOOL__STORE(&p->one_more, false);
    }
    return c;
}

static atomic_int creates_to_fail;

void
cpool__fail_creates(int n)
{
    atomic_store(&creates_to_fail, n);
}

/* A detached OS thread that takes no signals but knocks and those of its own faults: any other that it
 * took would not interrupt what the main thread waits in.  0 or a positive errno. */
int
cpool__create_thread(void *(*main)(void *), void *arg)
{
    if (CONT__UNLIKELY(CPOOL__LOAD(&creates_to_fail) > 0)) {
        atomic_fetch_sub(&creates_to_fail, 1);
        return EAGAIN;
    }
    sigset_t mask, old;
    sigfillset(&mask);
    sigdelset(&mask, SIGSEGV);
    sigdelset(&mask, SIGBUS);
    sigdelset(&mask, SIGFPE);
    sigdelset(&mask, SIGILL);
    if (cpool_knock_signal() != 0) {
        sigdelset(&mask, cpool_knock_signal());
    }
    pthread_attr_t attr;
    pthread_t thread;
    int r = pthread_attr_init(&attr);
    if (r == 0) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_sigmask(SIG_SETMASK, &mask, &old);
        r = pthread_create(&thread, &attr, main, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
    }
    return r;
}

/* Starts the OS thread of a new carrier, whose slot and spinning are set.  If that fails,
 * the slot is given up and everything is as if it had not been tried. */
int
cpool__carrier_launch(struct cpool_carrier *c)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__monitor_ensure();
    int r = cpool__create_thread(carrier_main, c);
    if (r != 0) {
        cpool__lock(&p->lock);
        p->no_create_until = cpool_now() + CREATE_RETRY_NS;
        cpool__unlock(&p->lock);
        c->spinning = false;            /* its count is the caller's again             */
        end(c);
    }
    cpool__monitor_notice();
    return -r;
}

/* Gives a FREE slot, `wish` or any, to a spare or new carrier.  If `spinning`, the caller
 * has counted the carrier in pool.spinning; on failure it takes that back. */
int
cpool__carrier_start(struct cpool_slot *wish, bool spinning)
{
    struct cpool__pool *p = &cpool__pool;
    cpool__lock(&p->lock);
    struct cpool_slot *s =
        cpool__is_stopping() ? NULL : cpool__slot_take_free_lock_held(wish);
    if (s == NULL) {
        cpool__unlock(&p->lock);
        return -EAGAIN;
    }
    struct cpool_carrier *c = p->spares.head;
    if (c != NULL) {
        cpool__carriers_remove(&p->spares, c);
        CPOOL__STORE(&c->mode, CPOOL__MODE_RUN);
        cpool__set_owner(s, c);
        CPOOL__STORE(&c->slot, s);
        cpool__unlock(&p->lock);
        cpool__carrier_pass(c, spinning ? CPOOL__BATON_GO_SPINNING : CPOOL__BATON_GO);
        cpool__monitor_notice();
        return 0;
    }
    c = p->wanting.head == NULL ? cpool__carrier_new_lock_held() : NULL;
    if (c == NULL) {
        cpool__slot_release_lock_held(s);
        cpool__unlock(&p->lock);
        return -EAGAIN;
    }
    cpool__set_owner(s, c);
    CPOOL__STORE(&c->slot, s);
    c->spinning = spinning;
    cpool__unlock(&p->lock);
    return cpool__carrier_launch(c);
}

/* For start: tasks that were bound to carriers of the last pool are forgotten. */
void
cpool__carriers_reset(void)
{
    for (struct cpool_carrier *c = CPOOL__LOAD(&cpool__pool.all); c != NULL;
         c = c->all_next) {
        cpool__queue_reset(&c->sticky);
    }
}

/* In the child of a fork: only the calling OS thread is left; `survivor` is its carrier,
 * or NULL.  The locks are free. */
void
cpool__carriers_after_fork(struct cpool_carrier *survivor)
{
    struct cpool__pool *p = &cpool__pool;
    p->spares = p->wanting = p->unused = (struct cpool__carrier_list){NULL, NULL, 0};
    for (struct cpool_carrier *c = CPOOL__LOAD(&p->all); c != NULL; c = c->all_next) {
        cpool__queue_reset(&c->sticky);
        CPOOL__STORE(&c->baton, CPOOL__BATON_NONE);
        CPOOL__STORE(&c->in_poll, false);
        c->spinning = false;
        c->sticky_count = 0;
        if (c == survivor) {
            CPOOL__STORE(&c->tid, (int)syscall(SYS_gettid));
            CPOOL__STORE(&c->mode, CPOOL__MODE_RUN);
            c->blocked = false;
            c->lender = NULL;
        }
        else {
            CPOOL__STORE(&c->task, NULL);
            CPOOL__STORE(&c->slot, NULL);
            CPOOL__STORE(&c->mode, CPOOL__MODE_DEAD);
            c->altstack = NULL;
            cpool__carriers_append(&p->unused, c);
        }
    }
    atomic_store(&p->alive, survivor != NULL ? 1 : 0);
    p->no_create_until = 0;
}

/* --- Seen from outside ----------------------------------------------------------------- */

int
cpool_carrier_id(const struct cpool_carrier *c)
{
    return c->id;
}

int
cpool_carrier_tid(const struct cpool_carrier *c)
{
    return CPOOL__LOAD(&((struct cpool_carrier *)c)->tid);
}

void *
cpool_carrier_get_data(const struct cpool_carrier *c)
{
    return atomic_load_explicit(&((struct cpool_carrier *)c)->data, memory_order_acquire);
}

void
cpool_carrier_set_data(struct cpool_carrier *c, void *data)
{
    atomic_store_explicit(&c->data, data, memory_order_release);
}

struct cpool_task *
cpool_carrier_task(const struct cpool_carrier *c)
{
    return CPOOL__LOAD(&((struct cpool_carrier *)c)->task);
}
