/* Waiting for descriptors: who waits for what, above the pollers.
 *
 *      directory            page of 1,024 entries        waiters, one a wish
 *      +---+                +------+
 *      | 0 |--------------->| fd 0 |
 *      | 1 |-> NULL         | fd 1 |--> waiter --> waiter     each in its task (wait_fd)
 *      |...|                | ...  |                          or in an array of the heap
 *      +---+                +------+                          (wait_fds)
 *
 * Pages are made when first needed and neither move nor go away, so that reading the table
 * takes no lock; an entry has its own.
 *
 * A wait: begin (the task is PARKING), enter the waiter and arm the poller under the
 * entry's lock, leave the stack.  An event takes the waiters that it concerns out of the
 * list and ends their waits, under the same lock, and arms again for those that are left.
 * After its wait a task always takes the lock and leaves the list, if it is still in it:
 * so when it goes on, nobody else can reach its waiter.  If it was the last one and no
 * event has come, the poller forgets the descriptor: a wait that has ended leaves nothing
 * armed.  After an event the poller may keep the descriptor, unarmed, until it is closed.
 *
 * Every waiter whose wish is met is woken, not only one: who is woken may have changed its
 * mind, and then the event would be lost for the others.
 *
 * A close has two halves, since a wait can begin at any time:
 *
 *      closer                              waiter
 *      ------                              ------
 *      1. close_begin: ends the waits
 *         at hand, disarms                 1. enter: known = true
 *      2. close(2): the number is free     2. full fence
 *      3. full fence                       3. arm: the kernel looks the number up
 *      4. close_end: known? ends waits     4. leave the stack
 *
 * 2 to 4 against 1 to 3 are mirrors: a waiter whose arm still found the file has written
 * `known` before close_end reads it; any other one gets EBADF, or has armed the number's
 * next file.  close_end can't tell that next file's waiters from those that came too late
 * for close_begin, so it tells all of them to look again, and each then learns what the
 * number is.  That is once a close, so nobody spins however long close(2) takes (SO_LINGER).
 * If close_begin reads `known` too early, close_end makes up for it.
 *
 * Rejected: a mark "is being closed" between begin and end that keeps waits from entering.
 * The number can be in use again long before a lingering close(2) returns, and a wait for
 * the new file would have to poll meanwhile; and each close of a file that nobody has ever
 * waited for would have to write.  What the mark would save: a wait that began between 1
 * and 2 on a file that lives on elsewhere (dup) leaves a registration that nobody can take
 * back, good for one false alarm. */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_FDS    1024
#define PAGES       16384       /* 16 Mi descriptors; the directory is 128 KiB of bss  */
#define EVENTS      64          /* per poll: a wake-up of each costs far more          */
#define ALWAYS      (POLLERR | POLLHUP | POLLNVAL)
/* How a wait ends that no event ends; in revents of the waiter, where each closer of several
 * descriptors that one task waits for has its own place. */
#define CLOSING     POLLNVAL    /* close_begin                                         */
#define LOOK_AGAIN  POLLERR     /* the number may stand for another file, or for none  */

struct fd_entry {
    struct cpool__lock lock;
    atomic_bool known;                  /* the poller may hold a registration; under
                                           the lock, read by close_begin, close_end    */
    struct cpool_waiter *waiters;       /* under the lock                              */
};

static struct fd_entry *_Atomic directory[PAGES];

static struct fd_entry *
lookup(int fd)
{
    if (fd < 0 || fd / PAGE_FDS >= PAGES) {
        return NULL;
    }
    /* acquire: partner entry_for */
    struct fd_entry *page = atomic_load_explicit(&directory[fd / PAGE_FDS],
                                                 memory_order_acquire);
    return page != NULL ? &page[fd % PAGE_FDS] : NULL;
}

static struct fd_entry *
entry_for(int fd)
{
    struct fd_entry *e = lookup(fd);
    if (e != NULL || fd / PAGE_FDS >= PAGES) {
        return e;
    }
    struct fd_entry *page = calloc(PAGE_FDS, sizeof(*page)), *none = NULL;
    if (page == NULL) {
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&directory[fd / PAGE_FDS], &none, page)) {
        free(page);
    }
    return lookup(fd);
}

static void
list_insert(struct fd_entry *e, struct cpool_waiter *w)
{
    w->next = e->waiters;
    w->link = &e->waiters;
    if (w->next != NULL) {
        w->next->link = &w->next;
    }
    e->waiters = w;
}

static void
list_remove(struct cpool_waiter *w)
{
    *w->link = w->next;
    if (w->next != NULL) {
        w->next->link = w->link;
    }
    w->next = NULL;
    w->link = NULL;
}

static short
wishes(const struct fd_entry *e)
{
    short all = 0;
    for (const struct cpool_waiter *w = e->waiters; w != NULL; w = w->next) {
        all |= w->events;
    }
    return all;
}

/* Ends the wait of w, which is in a list; its task joins `list` if it has to be queued. */
static void
end_wait(struct cpool_waiter *w, short revents, struct cpool_task **list)
{
    struct cpool_task *t = w->task;
    list_remove(w);
    w->revents = revents;
    if (cpool__task_end_wait(t)) {
        t->next = *list;
        *list = t;
    }
}

static void
end_all(struct fd_entry *e, short revents, struct cpool_task **list)
{
    while (e->waiters != NULL) {
        end_wait(e->waiters, revents, list);
    }
}

static void
fire(int fd, short revents, struct cpool_task **list)
{
    struct fd_entry *e = lookup(fd);
    if (e == NULL) {
        return;
    }
    if (revents & POLLNVAL) {
        revents = (short)((revents & ~POLLNVAL) | LOOK_AGAIN);
    }
    cpool__lock(&e->lock);
    struct cpool_waiter *w = e->waiters, *next;
    for (; w != NULL; w = next) {
        next = w->next;
        short met = revents & (w->events | ALWAYS);
        if (met != 0) {
            end_wait(w, met, list);
        }
    }
    if (e->waiters != NULL && cpool__pool.poller->arm(fd, wishes(e)) < 0) {
        end_all(e, LOOK_AGAIN, list);   /* closed behind our back                      */
    }
    cpool__unlock(&e->lock);
}

/* Ends the waits of what is ready; deadline 0: without waiting.  Tasks that have to be
 * queued come back in `list`, for cpool__ready_list. */
int
cpool__poll(int64_t deadline, struct cpool_task **list)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool__event events[EVENTS];
    atomic_fetch_add_explicit(&p->poll_count, 1, memory_order_relaxed);
    int n = p->poller->wait(deadline, events, EVENTS);
    for (int i = 0; i < n; i++) {
        fire(events[i].fd, events[i].revents, list);
    }
    atomic_fetch_add_explicit(&p->poll_count, 1, memory_order_relaxed);
    return n;
}

/* --- One waiter --------------------------------------------------------------------------- */

static int
enter(struct cpool_waiter *w)
{
    struct fd_entry *e = entry_for(w->fd);
    if (e == NULL) {
        return -ENOMEM;
    }
    cpool__lock(&e->lock);
    list_insert(e, w);
    CPOOL__STORE(&e->known, true);
    cpool__full_fence();                /* partner: cpool_fd_close_end                 */
    int r = cpool__pool.poller->arm(w->fd, wishes(e));
    if (r < 0) {
        list_remove(w);
    }
    cpool__unlock(&e->lock);
    return r;
}

static void
withdraw(struct cpool_waiter *w)
{
    struct fd_entry *e = lookup(w->fd);
    cpool__lock(&e->lock);
    if (w->link != NULL) {
        list_remove(w);
        if (e->waiters == NULL) {
            cpool__pool.poller->disarm(w->fd);
            CPOOL__STORE(&e->known, false);
        }
    }
    cpool__unlock(&e->lock);
}

static void
count_waiters(long n)
{
    atomic_fetch_add_explicit(&cpool__pool.fd_waiters, n, memory_order_relaxed);
}

static int
begin_one(struct cpool_task *t, int fd, short events)
{
    if (fd < 0) {
        return -EBADF;
    }
    t->wait = (struct cpool_waiter){.task = t, .fd = fd, .events = events};
    cpool__wait_begin(t);
    int r = enter(&t->wait);
    if (r == 0) {
        count_waiters(1);
    }
    else {
        cpool__wait_abort(t);
    }
    return r;
}

/* `otherwise`: how the wait has ended if nothing has happened to the descriptor. */
static int
end_one(struct cpool_task *t, int otherwise)
{
    struct cpool_waiter *w = &t->wait;
    withdraw(w);
    count_waiters(-1);
    return w->revents == CLOSING ? -ECANCELED : w->revents != 0 ? w->revents : otherwise;
}

int
cpool_wait_fd(int fd, short events, int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    int r = begin_one(t, fd, events);
    return r == 0 ? end_one(t, cpool__wait_switch(t, deadline, reason)) : r;
}

int
cpool_wait_fd_at_return(int fd, short events, int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    int r = begin_one(t, fd, events);
    if (r == 0) {
        cpool__wait_return(t, deadline, reason);
    }
    return r;
}

int
cpool_waited_fd(void)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL && t->wait.fd >= 0);
    return end_one(t, t->flags & CPOOL_TASK_INTERRUPTED ? -EINTR : -ETIMEDOUT);
}

/* --- Many --------------------------------------------------------------------------------- */

/* One round of waiting.  1: something has happened, look; or -ETIMEDOUT, -EINTR, -ENOMEM. */
static int
wait_once(struct cpool_task *t, struct cpool_waiter *w, nfds_t n, int64_t deadline,
          const char *reason)
{
    nfds_t entered = 0;
    bool failed = false;
    int r = 1, ended = -ETIMEDOUT;
    cpool__wait_begin(t);
    count_waiters((long)n);
    for (; entered < n && !failed; entered++) {
        if (w[entered].fd >= 0) {
            int e = enter(&w[entered]);
            if (e == -EPERM) {          /* a regular file, and nothing asked: ignore   */
                w[entered].fd = -1;
            }
            else if (e < 0) {
                /* Not one that can be waited for: poll(2) will tell what is with it. */
                failed = true;
                r = e == -ENOMEM ? e : 1;
                break;
            }
        }
    }
    if (failed) {
        cpool__wait_abort(t);
    }
    else {
        ended = cpool__wait_switch(t, deadline, reason);
    }
    bool any = false;
    for (nfds_t i = 0; i < entered; i++) {
        if (w[i].fd >= 0) {
            withdraw(&w[i]);
            any = any || w[i].revents != 0;
        }
    }
    count_waiters(-(long)n);
    return failed || any ? r : ended;
}

/* Not inline: errno must not be looked up on one side of a switch and used on the other. */
static __attribute__((noinline)) int
poll_now(struct pollfd *fds, nfds_t n)
{
    int r = poll(fds, n, 0);
    return r < 0 ? -errno : r;
}

int
cpool_wait_fds(struct pollfd *fds, nfds_t n, int64_t deadline, const char *reason)
{
    struct cpool_task *t = cpool_current();
    CONT_CHECK(t != NULL);
    int r = poll_now(fds, n);
    if (r != 0 || deadline <= 0) {
        return r;
    }
    /* On the heap: others reach them while this stack may be frozen. */
    struct cpool_waiter *w = n == 1 ? &t->wait : calloc(n > 0 ? n : 1, sizeof(*w));
    if (w == NULL) {
        return -ENOMEM;
    }
    do {
        for (nfds_t i = 0; i < n; i++) {
            w[i] = (struct cpool_waiter){.task = t, .fd = fds[i].fd,
                                         .events = fds[i].events};
        }
        r = wait_once(t, w, n, deadline, reason);
        if (r == -ENOMEM) {
            break;
        }
        int ended = r;
        r = poll_now(fds, n);
        for (nfds_t i = 0; r >= 0 && i < n; i++) {
            if (w[i].revents == CLOSING) {      /* for poll it may still be open       */
                r += fds[i].revents == 0;
                fds[i].revents = POLLNVAL;
            }
        }
        if (ended < 0) {
            r = r == 0 && ended == -EINTR ? -EINTR : r;
            break;
        }
    } while (r == 0);
    if (n != 1) {
        free(w);
    }
    return r;
}

/* --- Close ---------------------------------------------------------------------------------- */

static void
end_waits(int fd, short revents)
{
    struct fd_entry *e = lookup(fd);
    if (e == NULL || !atomic_load_explicit(&e->known, memory_order_acquire)) {
        return;
    }
    struct cpool_task *list = NULL;
    int saved = errno;
    cpool__lock(&e->lock);
    end_all(e, revents, &list);
    if (CPOOL__LOAD(&e->known)) {
        CPOOL__STORE(&e->known, false);
        cpool__pool.poller->disarm(fd);
    }
    cpool__unlock(&e->lock);
    cpool__ready_list(list);
    errno = saved;
}

void
cpool_fd_close_begin(int fd)
{
    end_waits(fd, CLOSING);
}

void
cpool_fd_close_end(int fd)
{
    cpool__full_fence();                /* partner: enter                              */
    end_waits(fd, LOOK_AGAIN);
}

/* Forgets all waiters: for start, and for the child of a fork. */
void
cpool__fds_reset(void)
{
    for (int i = 0; i < PAGES; i++) {
        struct fd_entry *page = CPOOL__LOAD(&directory[i]);
        if (page != NULL) {
            memset((void *)page, 0, PAGE_FDS * sizeof(*page));
        }
    }
    CPOOL__STORE(&cpool__pool.fd_waiters, 0);
}

/* No lock: what it prints may be half changed, what it reads stays mapped. */
void
cpool__fds_dump(FILE *out)
{
    fprintf(out, "poller %s: %ld waiters\n", cpool__pool.poller->name,
            CPOOL__LOAD(&cpool__pool.fd_waiters));
}
