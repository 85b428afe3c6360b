/* The reclaimer: which stacks of parked tasks are frozen, and when.
 *
 * A task that is parked keeps its stack, so that waking it is a change of registers.  It
 * costs 6 to 8 KB: a page or two, and half a page table.  For a thousand tasks nobody cares;
 * for a million it is all that counts, and nearly all of these are cold.  So:
 *
 *      resident stacks > budget        those parked for longest are frozen, until an eighth
 *                                      less than the budget is left
 *      parked for long, not frozen     (frames that must not move, or too many of them) what
 *                                      lies unused below its frames goes, once a park
 *      idle stacks that nobody needs   decay, see stack/depot.c
 *
 * A clock.  A hand goes round the groups of 64 neighbouring stacks.  What it finds parked in
 * the same park as a round ago is cold: no list, no time stamp and no write when a task
 * parks or wakes (stack/clock.c says what a list would cost).  It takes what is cold of one
 * group at once, and so neighbours, whose pages go in one call.  The order of age is kept
 * as far as the hand goes round, no closer: who is taken has been parked for longer than the
 * age asked for, and the next round goes on where the last one found enough.
 *
 *      parked, not in the park that was seen     note which park it is in
 *      still in that park, movable, too many     claim; freeze if its live part is small
 *      still in that park, otherwise             claim; trim; not again for this park
 *
 * The way to a task is its stack's struct: clock_claim keeps the task from ending while its
 * word is read, cpool__task_claim (PARKED -> PARKING) from running, until it is committed.
 * A wake-up meanwhile leaves its bit, and the commit queues the task, frozen or not.  Who
 * mounts it thaws it: on the carrier that will use the pages, and without allocating.
 *
 * Who does it.  The monitor: it has an OS thread of its own and no task waits behind it; one
 * reclaimer needs no lock against others; it can act when all is quiet, which is just when
 * memory should go.  A parking carrier would pay tens of us in between two tasks, and the
 * last to park would leave everything as it is.  The price is one core's pace, some 300,000
 * stacks a second; starting and parking as many for the first time takes two cores.
 *
 * Steps.  Hand-offs wait behind the monitor, so it works in steps: one group that has
 * something cold, or some that have nothing, 100 to 250 us.  Looking in vain is limited to an
 * eighth of a core, and ends when a round has found nothing to do and nobody has parked since.
 *
 * The numbers; their curves are in docs/MEASUREMENTS.md, "Freezing: how its numbers were
 * chosen" (a virtual machine, where faults and page tables cost most):
 *
 *      budget 16,384   some 100 MB: what a program with as many threads would expect; below
 *                      it, no thread pays 6 us more for its wake-up
 *      max 32 KB       a Python thread has 2 to 3 KB below one to three C functions, 5 KB
 *                      below one with an array of its own, as sorted(), 13 KB below twenty.  An
 *                      image takes a fifth to two fifths of that (stack/delta.h), so the more is
 *                      live, the more is freed: 7 to 24 KB for 13 to 27 us more to wake.  What is
 *                      larger is rare, and hand-offs wait while the monitor reads it whole
 *      age 1 s         freezing and thawing cost about 10 us of CPU; at one park a second of
 *                      each task, that is 1/100,000 of a core a task.  When the budget is
 *                      exceeded n-fold, an n-th of it: a million threads may be started in
 *                      seconds
 *      batch 64        a group, whose page tables go in one call: 8 at a time leave 0.2 KB more
 *                      and take half as much CPU more, and waking one of them waits for all */

#include "cpool/cpool_internal.h"

#include "cont/cont_internal.h"
#include "stack/arena.h"
#include "stack/clock.h"
#include "stack/depot.h"

#include <sched.h>
#include <string.h>

#define MS              INT64_C(1000000)
#define AGE_MIN_NS      (2 * MS)        /* or rounds would follow upon each other       */
#define TRIM_AGES       4               /* below the budget: rounds that trim are rarer */
#define STEP_GROUPS     16
#define SCAN_SHARE      8               /* of a core, for looking in vain               */
#define DECAY_NS        (1000 * MS)     /* depot.c                                      */

/* What cont_stack.seen can hold of the number of a park.  Two parks that look the same, a
 * billion apart, do no harm: the second is taken for colder than it is. */
#define SEEN_MASK       UINT32_C(0x3fffffff)

/* cont_stack.looked, of the park that was `seen`. */
enum {
    TRIMMED = 1,                        /* what was unused has gone                     */
    LARGE = 2,                          /* its live part is more than freeze_max        */
};

/* Monitor only. */
static struct {
    struct cont__arena_hand hand;
    bool going;                         /* in a round                                   */
    bool over;                          /* the round began with too many                */
    size_t left;                        /* groups, of this round                        */
    size_t noted, done;                 /* in this round: parks noted, stacks worked on */
    int64_t vain_ns;                    /* in this round: looking where nothing was     */
    int64_t next;                       /* a round may begin                            */
    bool quiet;                         /* the last round found nothing at all          */
    uint64_t parks;                     /* when the last round began                    */
    int64_t decay;                      /* next decay                                   */
    bool decaying;
} mine;

void
cpool__reclaim_reset(void)
{
    memset(&mine, 0, sizeof(mine));
    cont__depot_keep(cpool__pool.stack_budget);
}

/* --- What carriers do ---------------------------------------------------------------------- */

void
cpool__reclaim_before_commit_slow(struct cpool_slot *s, struct cpool_task *t)
{
    struct cpool__pool *p = &cpool__pool;
    bool movable = (CPOOL__LOAD(&t->word) & CPOOL__W_MOVABLE) != 0;
    if (!(t->flags & CPOOL_TASK_WATCHED)) {
        t->flags |= CPOOL_TASK_WATCHED;
        cont__clock_enter(t->cont.stack, t, p->era);
        CPOOL__STORE(&p->reclaims, true);
    }
    /* Hard mode. */
    if (movable && p->chaos != 0 && cont__freeze_in_place(&t->cont) == 0) {
        CPOOL__COUNT(s, freezes);
        atomic_fetch_or_explicit(&t->word, CPOOL__W_FROZEN, memory_order_relaxed);
    }
}

void
cpool__thaw(struct cpool_slot *s, struct cpool_task *t)
{
    CPOOL__COUNT(s, thaws);
    atomic_fetch_and_explicit(&t->word, ~CPOOL__W_FROZEN, memory_order_relaxed);
    cont_thaw(&t->cont);
}

/* --- One group ------------------------------------------------------------------------------ */

/* Claims what is cold.  Returns how many. */
static unsigned
claim_cold(struct cont__group *g, struct cpool_task **cold)
{
    struct cpool__pool *p = &cpool__pool;
    unsigned n = 0;
    for (unsigned i = 0; i < CONT__GROUP_STACKS && n < p->freeze_batch; i++) {
        struct cont_stack *s = &g->stacks[i];
        struct cpool_task *t = cont__clock_claim(s, p->era);
        if (t == NULL) {
            continue;
        }
        uint64_t w = CPOOL__LOAD(&t->word);
        uint32_t park = (uint32_t)(w / CPOOL__W_SEQ) & SEEN_MASK;
        if ((w & CPOOL__W_STATE) != CPOOL_PARKED || (w & CPOOL__W_FROZEN)) {
            cont__clock_unclaim(s);
            continue;
        }
        if (s->seen != park) {
            s->seen = park;
            s->looked = 0;
            mine.noted++;
        }
        else if (!(s->looked & TRIMMED)
                 || (mine.over && (w & CPOOL__W_MOVABLE) && !(s->looked & LARGE))) {
            if (cpool__task_claim(t, w)) {
                cold[n++] = t;
            }
        }
        cont__clock_unclaim(s);
    }
    return n;
}

static void
trim(struct cpool_task *t)
{
    struct cont_stack *s = t->cont.stack;
    if (!(s->looked & TRIMMED)) {
        s->looked |= TRIMMED;
        cont_trim(&t->cont);
    }
}

/* Freezes or trims tasks that are claimed, and lets go of them. */
static void
work_on(struct cpool_task **cold, unsigned n)
{
    struct cpool__pool *p = &cpool__pool;
    struct cont *conts[CONT__GROUP_STACKS];
    unsigned k = 0;
    for (unsigned i = 0; i < n; i++) {
        struct cpool_task *t = cold[i];
        bool movable = mine.over && (CPOOL__LOAD(&t->word) & CPOOL__W_MOVABLE);
        if (movable && cont_live_bytes(&t->cont) <= p->freeze_max) {
            conts[k++] = &t->cont;
        }
        else {
            t->cont.stack->looked |= movable ? LARGE : 0u;
            trim(t);
        }
    }
    cont_freeze(conts, k);
    for (unsigned i = 0; i < n; i++) {
        struct cpool_task *t = cold[i];
        if (cont_state(&t->cont) == CONT_FROZEN) {
            CPOOL__COUNT(NULL, freezes);
            atomic_fetch_or_explicit(&t->word, CPOOL__W_FROZEN, memory_order_relaxed);
        }
        if (cpool__task_commit_park(t)) {
            cpool__ready(t);
        }
    }
}

/* --- Rounds --------------------------------------------------------------------------------- */

static uint64_t
count_parks(void)
{
    uint64_t parks = 0;
    for (int i = 0; i < cpool__slot_count(); i++) {
        parks += CPOOL__LOAD(&cpool__slot(i)->counters.parks);
    }
    return parks;
}

static bool
too_many(size_t allowed)
{
    return cont__stack_resident() > allowed;
}

/* How long a park lasts before it is cold. */
static int64_t
age(void)
{
    struct cpool__pool *p = &cpool__pool;
    size_t resident = cont__stack_resident();
    if (resident <= p->stack_budget) {
        return TRIM_AGES * p->freeze_age;
    }
    int64_t age = (int64_t)((double)p->freeze_age * (double)p->stack_budget
                            / (double)resident);
    int64_t least = p->freeze_age < AGE_MIN_NS ? p->freeze_age : AGE_MIN_NS;
    return age > least ? age : least;
}

static void
end_round(int64_t now)
{
    int64_t pause = age(), rest = (SCAN_SHARE - 1) * mine.vain_ns;
    mine.going = false;
    mine.next = now + (pause > rest ? pause : rest);
    mine.quiet = mine.noted == 0 && mine.done == 0;
}

static void
begin_round(void)
{
    mine.going = true;
    mine.over = too_many(cpool__pool.stack_budget);
    mine.left = cont__arena_groups();
    mine.noted = mine.done = 0;
    mine.vain_ns = 0;
    mine.parks = count_parks();
}

/* A round is as many groups as there are, from where the last one has ended: all of them,
 * or where enough were frozen. */
static void
step(int64_t now)
{
    struct cpool__pool *p = &cpool__pool;
    struct cpool_task *cold[CONT__GROUP_STACKS];
    unsigned n = 0;
    for (int i = 0; i < STEP_GROUPS && mine.left > 0 && n == 0; i++) {
        struct cont__group *g = cont__arena_next(&mine.hand);
        if (g == NULL) {                /* the last one was; the next is the first     */
            g = cont__arena_next(&mine.hand);
        }
        mine.left--;
        n = claim_cold(g, cold);
    }
    if (n > 0) {
        mine.done += n;
        work_on(cold, n);
    }
    else {
        mine.vain_ns += cpool_now() - now;
    }
    if (mine.left == 0
        || (mine.over && !too_many(p->stack_budget - p->stack_budget / 8))) {
        end_round(cpool_now());
    }
}

static int64_t
decay(int64_t now)
{
    if (mine.decaying) {
        mine.decaying = cont__depot_decay_step();
        return mine.decaying ? now : mine.decay;
    }
    if (now < mine.decay) {
        return mine.decay;
    }
    mine.decay = now + DECAY_NS;
    if (cont__depot_decay() == 0) {
        return CPOOL_FOREVER;           /* whoever makes some wakes the monitor        */
    }
    mine.decaying = true;
    return now;
}

/* Monitor: a step, if there is one to do.  Returns when to come again. */
int64_t
cpool__reclaim(int64_t now)
{
    struct cpool__pool *p = &cpool__pool;
    int64_t again = CPOOL_FOREVER;
    /* seq_cst, both: partner cpool__reclaim_await_step */
    atomic_store(&p->reclaiming, true);
    if (!cpool__is_stopping()) {
        again = decay(now);
        if (CPOOL__LOAD(&p->reclaims)) {
            bool wanted = !mine.quiet || count_parks() != mine.parks;
            if (!mine.going && wanted && now >= mine.next) {
                begin_round();
            }
            if (mine.going) {
                step(now);
                wanted = true;
            }
            int64_t next = mine.going ? now : wanted ? mine.next : CPOOL_FOREVER;
            again = next < again ? next : again;
        }
    }
    atomic_store(&p->reclaiming, false);
    return again;
}

/* --- Stop and fork ---------------------------------------------------------------------------- */

/* The pool stops: returns when the monitor will look at no task any more. */
void
cpool__reclaim_await_step(void)
{
    /* seq_cst: life was changed before; partner cpool__reclaim */
    while (atomic_load(&cpool__pool.reclaiming)) {
        sched_yield();
    }
}

void
cpool__reclaim_after_stop(void)
{
    cont__depot_keep(0);
}

/* In the child of a fork, for the task that goes on: it is of a new era, and will be looked
 * at again once it parks. */
void
cpool__reclaim_forget(struct cpool_task *t)
{
    if (t->flags & CPOOL_TASK_WATCHED) {
        t->flags &= ~(uint32_t)CPOOL_TASK_WATCHED;
        cont__clock_leave(t->cont.stack);
    }
}
