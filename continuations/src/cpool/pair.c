/* Pairs: two tasks that wake each other in turn meet on one slot.
 *
 * Two tasks that talk (a request, an answer) never run at the same time.  On two slots each
 * switch wakes a carrier, or crosses to one that still spins, and moves what they share
 * between processors: some us, where a switch on one slot costs a tenth.  But a task that
 * wakes another one and goes on computing needs the second slot.  So what counts is not who
 * wakes whom but what the waker does next:
 *
 *      A, on slot 1                        B, on slot 2
 *      ------------                        ------------
 *      wakes B, parks at once: A's
 *      partner is B                        wakes A, parks at once: B's partner is A
 *      wakes B: each is the other's
 *      partner, so B comes to slot 1
 *
 * From then on each wakes the other at its own slot, and nothing here is run.  They part
 * when the policy of slot.c lets somebody take one of them: if the waker does not park this
 * time, the other one waits for that long, and no longer.
 *
 * A partner is known by a part of its address and never followed: it may have ended, and
 * another task may have its place.  The price of such a mistake is one move. */

#include "cpool/cpool_internal.h"

/* "At once": about what it takes to wake a carrier that sleeps, so that whoever was called
 * over could not have begun much earlier elsewhere. */
#define AT_ONCE_NS 10000

static _Atomic int64_t at_once = AT_ONCE_NS;

void
cpool__pair_at_once(int64_t ns)
{
    CPOOL__STORE(&at_once, ns != 0 ? ns : AT_ONCE_NS);
}

static uint32_t
tag_of(const struct cpool_task *t)
{
    return (uint32_t)((uintptr_t)t >> 4) | 1;
}

/* c's mounted task, if any, has made t RUNNABLE, whose home is not c's slot and which may go
 * anywhere.  True if it should be queued at c's slot; else it is noted whom the task has woken.
 * A meeting uses the partner up: when they have parted, they have to show it anew. */
bool
cpool__pair_meets(struct cpool_carrier *c, struct cpool_task *t)
{
    struct cpool_task *waker = CPOOL__LOAD(&c->task);
    if (waker == NULL || (waker->flags & CPOOL_TASK_STICKY)) {
        return false;
    }
    uint32_t tag = tag_of(t);
    if (waker->partner == tag && t->partner == tag_of(waker)
        && !cpool__slot_has_tasks(CPOOL__LOAD(&c->slot))) {
        waker->partner = 0;
        return true;
    }
    c->woke = tag;
    c->woke_at = cpool_now();
    return false;
}

/* t has parked on c, and has woken c->woke, the last one at another slot, since it was
 * mounted. */
void
cpool__pair_parks(struct cpool_carrier *c, struct cpool_task *t)
{
    t->partner = cpool_now() - c->woke_at < CPOOL__LOAD(&at_once) ? c->woke : 0;
    c->woke = 0;
}
