/* Patience: a carrier that sleeps too short spins instead.
 *
 * What goes to and fro between two carriers (a lock, a chain of wake-ups) could stay for long in
 * either of two states: each finds the other one still spinning, at 1 us a turn, or each sleeps
 * before its turn comes and must be woken, at up to 70 us.  So a carrier that was woken for its
 * own tasks sooner than it costs to sleep and to be woken spins for about that long the next
 * time.  One more than idle.c's limit may, as in the middle of a turn neither has a task.  Each
 * time in vain doubles the number of times that it does not, so that what it burns stays small
 * beside what the sleeps cost.
 *
 * Rejected: to run a woken task where its waker runs if its slot sleeps and wakers here always
 * park at once.  What it drops there wakes the carrier that it came from. */

#include "cpool/cpool_internal.h"

/* Measured on a virtual machine, whose idle processors halt: 35 to 70 us. */
#define WAKE_COST_NS INT64_C(50000)
#define SOON_NS (2 * WAKE_COST_NS)
#define VAIN_MAX 10

static _Atomic int64_t soon = SOON_NS;

void
cpool__woken_soon(int64_t ns)
{
    CPOOL__STORE(&soon, ns != 0 ? ns : SOON_NS);
}

/* c has slept since then; for_its_own: until it was woken because its slot has tasks. */
void
cpool__slept(struct cpool_carrier *c, int64_t since, bool for_its_own)
{
    c->woken_soon = for_its_own && cpool_now() - since < CPOOL__LOAD(&soon);
}

/* When c, which has nothing to run, should end to spin, or 0 if it should not be patient. */
int64_t
cpool__patience(struct cpool_carrier *c)
{
    if (!c->woken_soon) {
        return 0;
    }
    if (c->impatient != 0) {
        c->impatient--;
        return 0;
    }
    return cpool_now() + WAKE_COST_NS;
}

/* Looked at while it spins: what it would not have to be woken for goes first. */
bool
cpool__is_patient(struct cpool_carrier *c, struct cpool_slot *s, int64_t until)
{
    int64_t timer = CPOOL__LOAD(&s->timers.next);
    return until != 0 && cpool_now() < (until < timer ? until : timer)
           && !CPOOL__LOAD(&c->attend) && CPOOL__LOAD(&cpool__pool.wanting.len) == 0;
}

/* c has spun, and if until is not 0, was to be patient so long. */
void
cpool__spun(struct cpool_carrier *c, int64_t until, bool found)
{
    if (until == 0) {
        return;
    }
    if (found) {
        c->vain = 0;
    }
    else if (until <= cpool_now()) {
        c->vain += c->vain < VAIN_MAX;
        c->impatient = 1u << c->vain;
    }
}
