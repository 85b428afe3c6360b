/* Knocks: a signal to a carrier that blocks in the kernel, so that its call ends with EINTR.
 *
 * A task that is parked is interrupted by being made runnable.  One that blocks its OS thread
 * (flock, wait, the open of a FIFO) can only be reached by a signal; what it does about EINTR is
 * its own affair.  Nobody can tell whether an OS thread is in its call already, or will enter it
 * in the next instant, when the signal is lost.  So the monitor, which sees in each of its looks
 * who blocks, asks the host whether the call should end, and knocks again until it has ended:
 *
 *      interrupter, or the clock           monitor                         carrier
 *      -------------------------           -------                         -------
 *      what the host knows changes
 *      wakes the monitor                   mode BLOCK: host.overdue()?
 *                                          signal; again in 10 ms          EINTR, block_end
 *
 * A carrier that blocks costs one call of host.overdue() a look, and nothing by itself: no system
 * call, no timer.  A signal that comes late ends no call but one that may end by EINTR any time.
 *
 * The signal is the highest real-time signal that nobody handles, but for the last ones.  It stays
 * unblocked in carriers alone. */

#include "cpool/cpool_internal.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A call that did not end was about to begin when the signal came: long against that. */
#define AGAIN_NS 10000000
/* QEMU has no place for a guest's last real-time signals, and drops them. */
#define EMULATORS 4

/* Set by the first start, before there are carriers; 0: no signal is to be had. */
static int signum;

static void
knocked(int sig)
{
    (void)sig;
}

void
cpool__knock_init(void)
{
    for (int n = SIGRTMAX - EMULATORS; signum == 0 && n >= SIGRTMIN; n--) {
        struct sigaction old;
        if (sigaction(n, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO)
            && old.sa_handler == SIG_DFL) {
            struct sigaction own = {.sa_handler = knocked};     /* no SA_RESTART        */
            sigemptyset(&own.sa_mask);
            signum = sigaction(n, &own, NULL) == 0 ? n : 0;
        }
    }
}

int
cpool_knock_signal(void)
{
    return signum;
}

bool
cpool_take_knock(void)
{
    struct cpool_carrier *c = cpool__self();
    if (c == NULL || !CPOOL__LOAD(&c->knocked)) {
        return false;
    }
    CPOOL__STORE(&c->knocked, false);
    return true;
}

/* Monitor: knocks where it is time to.  When to look again. */
int64_t
cpool__knock_look(int64_t now)
{
    struct cpool__pool *p = &cpool__pool;
    int64_t next = CPOOL_FOREVER;
    if (p->host.overdue == NULL || signum == 0 || cpool__is_stopping()) {
        return next;
    }
    /* acquire: partner cpool__carrier_new_lock_held */
    struct cpool_carrier *c = atomic_load_explicit(&p->all, memory_order_acquire);
    for (; c != NULL; c = c->all_next) {
        struct cpool_task *t = CPOOL__LOAD(&c->task);
        if (CPOOL__LOAD(&c->mode) != CPOOL__MODE_BLOCK || t == NULL
            || CPOOL__LOAD(&c->reason) != NULL) {
            continue;                   /* a pinned wait is woken by its host           */
        }
        int64_t at = p->host.overdue(c, t);
        if (at <= now) {
            CPOOL__STORE(&c->knocked, true);
            syscall(SYS_tgkill, getpid(), CPOOL__LOAD(&c->tid), signum);
            at = now + AGAIN_NS;
        }
        next = at < next ? at : next;
    }
    return next;
}

/* What host.overdue() would say of t may have changed. */
void
cpool__knock_soon(struct cpool_task *t)
{
    /* Publish, then look: if t's carrier blocks only after this, the monitor sees that by
     * itself, as it does not sleep deeply while anything runs. */
    cpool__full_fence();
    struct cpool_carrier *c = CPOOL__LOAD(&t->carrier);
    if (c != NULL && CPOOL__LOAD(&c->mode) == CPOOL__MODE_BLOCK) {
        cpool__monitor_wake();
        cpool__monitor_poke_slow();
    }
}
