#ifndef CONTINUATIONS_CPOOL_H
#define CONTINUATIONS_CPOOL_H

/* A work-stealing pool of carriers that runs tasks: continuations that park.
 *
 * Words.  A *carrier* is an OS thread of the pool.  A *slot* is the right to run
 * tasks; there are `parallelism` of them, and each owns a run queue and timers.  A
 * carrier needs a slot to run tasks and loses it while it blocks in the kernel
 * (*hand-off*).  A task is *mounted* while a carrier runs it, *parked* while it waits
 * and costs no OS thread, *pinned* while it waits and blocks its OS thread.
 *
 * The pool knows nothing of what a task is to its host: the host embeds struct
 * cpool_task in its own thread object, and is told of mounts and unmounts.
 *
 * There is one pool a process (poller, timers and fork handling are global matters);
 * before cpool_start() no OS thread and no memory is taken.
 *
 * Times are CLOCK_MONOTONIC nanoseconds; CPOOL_FOREVER means no deadline.
 * Functions return 0 or a negative errno.
 */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "continuations/cont.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CPOOL_FOREVER INT64_MAX

struct cpool_carrier;                   /* opaque */
struct cpool_slot;                      /* opaque */

enum cpool_task_state {
    CPOOL_NEW = 0,      /* cpool_task_init .. cpool_spawn                            */
    CPOOL_RUNNABLE,     /* in a queue, waits for a carrier                           */
    CPOOL_RUNNING,      /* mounted                                                   */
    CPOOL_PARKING,      /* has decided to park, still on its stack                   */
    CPOOL_PARKED,       /* has left its stack; an unpark makes it RUNNABLE           */
    CPOOL_PINNED,       /* mounted, waits, and blocks its OS thread                  */
    CPOOL_DONE,         /* body returned, stack given back                           */
};

struct cpool_task;

/* One wish of a parked task for one descriptor; linked into the descriptor's entry.  Not
 * on the task's stack, because the poller reaches it while that stack may be frozen. */
struct cpool_waiter {
    struct cpool_waiter *next, **link;  /* link NULL: in no list                      */
    struct cpool_task *task;
    int fd;
    short events, revents;
};

/* Embedded in the host's thread object.  Private to src/cpool but for `host_data` and
 * `flags`, which the host may change while the task is mounted, on the task's stack. */
struct cpool_task {
    _Atomic uint64_t word;              /* park sequence, tokens, enum cpool_task_state */
    struct cpool_task *next;            /* run queue, injector, spare lists           */
    struct cont cont;
    struct cpool_carrier *_Atomic carrier;  /* mounted on, or last mounted on         */
    struct cpool_slot *home;            /* whose queue it is woken into               */
    const char *_Atomic reason;         /* static string: what it waits for           */
    struct {                            /* intrusive pairing heap of the slot         */
        struct cpool_task *child, *sibling, *prev;
        int64_t deadline;
        struct cpool_slot *_Atomic slot;    /* whose heap it is in, NULL if in none   */
    } timer;
    struct cpool_waiter wait;           /* cpool_wait_fd                              */
    uint32_t flags;                     /* enum cpool_task_flags                      */
    uint32_t partner;                   /* the pool's: whom it talks to, see pair.c   */
    void *host_data;                    /* the host's, never read by the pool         */
};

enum cpool_task_flags {
    CPOOL_TASK_STARTED = 1,             /* has been mounted once                      */
    CPOOL_TASK_STICKY = 2,              /* park-safe foreign frames: same carrier only */
    CPOOL_TASK_MOVABLE = 4,             /* may be frozen at the parks to come: below   */
    CPOOL_TASK_WATCHED = 8,             /* the pool's: the reclaimer knows its stack   */
    CPOOL_TASK_RETURNED = 16,           /* the pool's: waits, or has waited, at return */
    CPOOL_TASK_TIMED_OUT = 32,          /* how that has ended, if not by unpark: the     */
    CPOOL_TASK_INTERRUPTED = 64,        /* deadline came; cpool_interrupt                */
};

/* Freezing.  While a task is parked with CPOOL_TASK_MOVABLE set, its stack may be frozen: the
 * live bytes go to the heap, the pages to the kernel, and both come back, to the same
 * addresses, on the carrier that resumes it, before mount().  It is read at the beginning of
 * cpool_park, cpool_sleep and cpool_wait_fd(s); the host sets it before these, on the task's
 * stack, if
 *
 *      - no other thread reads or writes anything on this stack while the task is parked: no
 *        list node, wait queue entry, out parameter or lock lives there;
 *      - no OS thread, signal handler or system call in flight was given an address on it;
 *      - the task is not STICKY (then the flag counts for nothing).
 *
 * and clears it if that is not so (|= and &= only: other bits are the pool's).  The reclaimer
 * sleeps until somebody has set it once; from then on it also gives back what is unused of
 * other cold stacks.  A task that was parked in a pool must not be abandoned (cont_abandon)
 * while the pool runs. */

/* What the host gives.  Every callback runs on an OS thread of the pool; none may
 * park or call cpool_park/cpool_yield unless it says "on the task's stack". */
struct cpool_host {
    /* A carrier's OS thread begins / ends.  begin returns 0 or a negative errno, upon
     * which the OS thread ends again without having run anything. */
    int  (*carrier_begin)(struct cpool_carrier *c);
    void (*carrier_end)(struct cpool_carrier *c);
    /* On the carrier's own stack, right before t is resumed / right after it was left.
     * Always in pairs; when no stack could be had for t's first run, a pair encloses
     * nothing and is repeated later. */
    void (*mount)(struct cpool_carrier *c, struct cpool_task *t);
    void (*unmount)(struct cpool_carrier *c, struct cpool_task *t);
    /* The body, on the task's stack.  Called again if it returned by cpool_*_at_return. */
    void (*run)(struct cpool_task *t);
    /* On the carrier's own stack after run() returned and the stack was left for good:
     * last use of t by the pool, the host may free or reuse it. */
    void (*finished)(struct cpool_carrier *c, struct cpool_task *t);
    /* On the monitor's OS thread: t (mounted on c when looked at; may have left since,
     * and be freed: compare it, don't read it) has run for a time slice while others
     * wait.  Ask what runs on c to call cpool_yield().  c stays valid memory. */
    void (*preempt)(struct cpool_carrier *c, struct cpool_task *t);
    /* On the carrier's own stack, before it sleeps for lack of work; returns nonzero if
     * it made work (then the carrier looks again).  May be NULL. */
    int  (*idle)(struct cpool_carrier *c);
    /* On the monitor's OS thread: t blocks c's OS thread in the kernel, by cpool_block_begin
     * (or did when it was looked at: t is memory of some task of the host's, which must last).
     * When should that call end by EINTR?  In the past: now, and every 10 ms until t has come
     * back; CPOOL_FOREVER: never.  Asked again when cpool_interrupt was called.  May be NULL. */
    int64_t (*overdue)(struct cpool_carrier *c, struct cpool_task *t);
};

struct cpool_config {
    int parallelism;                    /* slots, 1 .. CPOOL_MAX_SLOTS                */
    int max_carriers;                   /* OS threads, >= parallelism; see stall_ns   */
    int64_t time_slice_ns;              /* 0: 10 ms                                   */
    int64_t handoff_ns;                 /* 0: 20 us: blocked this long => hand-off    */
    int64_t carrier_idle_ns;            /* 0: 5 s: a spare carrier ends after this    */
    int64_t stall_ns;                   /* 0: 50 ms: tasks wait, max_carriers
                                           are there, nothing has moved for this long:
                                           one carrier more; CPOOL_FOREVER: never     */
    unsigned chaos_seed;                /* hard mode, when nonzero: random yields of
                                           order, spurious steals, tiny queues, movable
                                           tasks are frozen at every park             */
    bool always_move;                   /* for tests of what moves, and of what a move
                                           costs: a task that has run goes to another
                                           slot each time, if there is one            */
    /* Freezing; the reasons of the defaults are in src/cpool/reclaim.c. */
    size_t stack_budget;                /* 0: 16,384 stacks with pages; beyond it, cold
                                           ones are frozen                            */
    size_t freeze_max;                  /* 0: 32 KiB; larger live parts never are     */
    int64_t freeze_age_ns;              /* 0: 1 s: parked this long => cold; less the
                                           more the budget is exceeded                */
    unsigned freeze_batch;              /* 0: 64 stacks frozen in one go, the most    */
};
#define CPOOL_MAX_SLOTS 1024

/* --- Life --------------------------------------------------------------------- */

/* Makes the pool usable.  Starts no OS thread: the first spawn does.  Carriers block all
 * signals but those of faults; a host that makes processes in tasks has to see to their
 * masks.  -EBUSY if it is started already, -EINVAL for nonsense, -ENOMEM, -EMFILE, ... from the poller. */
int cpool_start(const struct cpool_host *host, const struct cpool_config *config);

/* The signal that ends system calls of carriers for host.overdue: a real-time signal that had no
 * handler, with one that does nothing.  Carriers leave it unblocked.  0: there was none. */
int cpool_knock_signal(void);
/* Was it sent to this OS thread since the last call? */
bool cpool_take_knock(void);

/* Changes parallelism / max_carriers of a started pool (0: leave).  Shrinking takes
 * effect as slots come to a scheduling point.  Blocks: no. */
int cpool_configure(int parallelism, int max_carriers);

/* Stops dispatching: tasks that are not mounted never run again.  Returns 0 when every
 * carrier has ended or sleeps where it touches nothing of the host's, and -ETIMEDOUT
 * at the deadline if some still run or block; those end, or sleep for ever, at their next
 * call of the pool, and the monitor asks no more tasks to yield.  May be called again.
 * Called from an OS thread outside of the pool.  Blocks: OS thread. */
int cpool_stop(int64_t deadline);

/* The pool has no task: lets all of its OS threads end, and takes no spawn until it is
 * reopened, by an OS thread outside; it is then as before its first spawn.  In between all
 * stays as it is, for those who have just woken the last task and look at the pool yet.
 * Whoever reopens has seen to it that nobody will vacate but those carriers that still have
 * to end; for these it waits.  Blocks: no (vacate), OS thread (reopen). */
void cpool_vacate(void);
void cpool_reopen(void);

/* In the child of a fork: forgets all carriers and tasks but the calling one's (a
 * carrier with a mounted task survives as the pool's only carrier; called from any
 * other OS thread, the pool is as before its first spawn). */
void cpool_after_fork_child(void);

/* --- Tasks -------------------------------------------------------------------- */

void cpool_task_init(struct cpool_task *t);

/* Makes a NEW task runnable.  From a carrier: its slot's queue; else: the injector.  With
 * CPOOL_TASK_STICKY set already (only from a carrier): it will run on this carrier.
 * -EAGAIN if the pool has no carrier and the first OS thread could not be started (t
 * stays NEW).  Never fails because a queue is full.
 * Blocks: no.  Allocates: no.  Switches: no. */
int cpool_spawn(struct cpool_task *t);

/* The task that is mounted on this OS thread, or NULL; and the carrier. */
struct cpool_task *cpool_current(void);
struct cpool_carrier *cpool_current_carrier(void);

enum cpool_task_state cpool_task_state(const struct cpool_task *t);

/* What t was mounted on last, and the reason of its last wait; NULL before.  As of some moment
 * while the caller looked, and apart from each other and from the state. */
struct cpool_carrier *cpool_task_carrier(const struct cpool_task *t);
const char *cpool_task_reason(const struct cpool_task *t);

/* True while t is parked and frozen, or frozen and waits for a carrier.  (While the reclaimer
 * is at work on it, a parked task is PARKING for some 100 us.) */
int cpool_task_is_frozen(const struct cpool_task *t);

/* Parks the current task until unpark or deadline.  An unpark that came since the last
 * park returned counts: then it returns at once (one token, as a binary semaphore).
 * `reason` is a static string for dumps.  Returns 0 if unparked, -ETIMEDOUT at the
 * deadline, -EINTR after cpool_interrupt; they may race, an unpark that lost stays as the
 * token.  No other returns.
 * Blocks: virtual thread.  Allocates: no.  Switches: yes.  Locks held: none. */
int cpool_park(int64_t deadline, const char *reason);

/* Gives `t` its token, and makes it runnable if it is parked.  From any OS thread, also
 * from one outside of the pool.  t must not be DONE and reused concurrently.
 * Blocks: no.  Allocates: no.  Switches: no. */
void cpool_unpark(struct cpool_task *t);

/* Ends the wait of `t` with -EINTR, whatever it waits for; if it does not wait, its next wait
 * that leaves the stack (one such token, as with unpark).  What for is the host's business,
 * and so is a token that comes late: a wait may return -EINTR though nobody means it any
 * more.  From any OS thread; t as for cpool_unpark.
 * Blocks: no.  Allocates: no.  Switches: no. */
void cpool_interrupt(struct cpool_task *t);

/* As cpool_unpark, and hints that the caller will park soon: t goes to the LIFO slot of
 * this carrier. */
void cpool_unpark_local(struct cpool_task *t);

/* Lets others run; returns at once when nobody waits.
 * Blocks: no.  Switches: yes. */
void cpool_yield(void);

/* Would it?  For a task that yields by its return. */
int cpool_yield_wanted(void);

/* Sleeps until `deadline`; tokens of cpool_unpark are neither taken nor a reason to return.
 * 0, or -EINTR after cpool_interrupt. */
int cpool_sleep(int64_t deadline, const char *reason);

/* Waits without a stack.  The same for a task whose body is about to return and has
 * kept elsewhere what it needs to go on: its return is the park, its stack goes back to the
 * cache, and run() is called again, on whatever stack there is then, when the wait is over.
 * Between the call and the return of run() the pool must not be called.  After a park or sleep,
 * `flags` has CPOOL_TASK_TIMED_OUT or CPOOL_TASK_INTERRUPTED where the other functions would
 * return -ETIMEDOUT or -EINTR (a sleep: 0 or -EINTR).  If no stack can be had, the task waits
 * for one as a new task does.
 * Blocks: no.  Allocates: no.  Switches: no. */
void cpool_park_at_return(int64_t deadline, const char *reason);
void cpool_sleep_at_return(int64_t deadline, const char *reason);
void cpool_yield_at_return(void);

/* --- Descriptors -------------------------------------------------------------- */

/* Parks until fd is ready for `events` (POLLIN, POLLOUT, POLLPRI), has an error or a
 * hang-up, or the deadline comes.  Several tasks may wait for one fd.  Returns the
 * events that hold (> 0), -ETIMEDOUT, -EINTR, -ECANCELED when cpool_fd_close_begin(fd) was called
 * meanwhile, -EPERM for a descriptor that can't be polled (a regular file: always ready),
 * -EBADF, -ENOMEM.  Readiness is a hint: the caller tries its call again.
 * Consumes no park token of its caller.
 * Blocks: virtual thread.  Allocates: the fd's table entry.  Switches: yes. */
int cpool_wait_fd(int fd, short events, int64_t deadline, const char *reason);

/* The same without a stack, as cpool_park_at_return.  Returns 0, or one of the last three
 * errors: then nothing has begun, and the body goes on.  When run() is called again it calls
 * cpool_waited_fd before anything else of the pool, once, for what cpool_wait_fd returns. */
int cpool_wait_fd_at_return(int fd, short events, int64_t deadline, const char *reason);
int cpool_waited_fd(void);

/* As poll(2) with any number of descriptors, but parks.  Fills revents; returns how
 * many are nonzero, 0 at the deadline, or a negative errno. */
int cpool_wait_fds(struct pollfd *fds, nfds_t n, int64_t deadline, const char *reason);

/* Call before and after fd is closed, or replaced by dup2(2).  begin: whoever waits for it
 * returns -ECANCELED, and no registration outlives it.  end: whoever has begun to wait since
 * then returns POLLERR, be it for the file that is gone or for the next one of that number;
 * its next call says which.  A wait that begins in between so lasts until end at most, if
 * its file is gone.  From any OS thread; errno is kept.  Cheap for an fd that was never
 * waited for.  Blocks: no. */
void cpool_fd_close_begin(int fd);
void cpool_fd_close_end(int fd);

/* --- Blocking the OS thread --------------------------------------------------- */

/* Around anything that may block the OS thread with a task mounted: the slot can be
 * given to another carrier meanwhile.  begin costs a store; end costs a CAS when the
 * slot is still there, else it waits (OS thread, task stays mounted, errno kept) for
 * a slot.  No-ops on an OS thread that has no mounted task.  Not nestable. */
void cpool_block_begin(void);
void cpool_block_end(void);

/* As block_begin, for a wait that is known to be long (a pinned park): hands off at
 * once if there is work, and shows the task as PINNED with `reason`. */
void cpool_pinned_begin(const char *reason);
void cpool_pinned_end(void);

/* --- Seeing ------------------------------------------------------------------- */

struct cpool_stats {
    int parallelism, max_carriers;
    int carriers;                       /* OS threads alive                           */
    int carriers_idle, carriers_blocked;
    uint64_t spawned, finished, parks, unparks, yields, steals, migrations, handoffs,
             preemptions, pins, polls;  /* finished == spawned: nothing was alive      */
    uint64_t returns;                   /* parks and yields that kept no stack        */
    uint64_t extra_carriers;            /* OS threads made beyond max_carriers        */
    uint64_t runnable;                  /* approximate                                */
    size_t stacks_resident, stacks_frozen;  /* of all continuations of the process    */
    size_t image_bytes;                 /* what the frozen ones take, on the heap     */
    uint64_t freezes, thaws;            /* of tasks                                   */
};
void cpool_get_stats(struct cpool_stats *out);

/* Writes slots, carriers, queue lengths and the poller's waiters as text; uses no lock
 * that a carrier holds while it blocks, so that it works in a hang. */
void cpool_dump(FILE *out);

int cpool_carrier_id(const struct cpool_carrier *c);        /* small, from 0          */
/* Has c call host.idle() soon, though it may sleep and has nothing to run: somebody has left
 * it something that only this OS thread can do.  From any OS thread.
 * Blocks: no.  Allocates: no.  Switches: no.  Locks held: any of the host's. */
void cpool_carrier_attend(struct cpool_carrier *c);
int cpool_carrier_tid(const struct cpool_carrier *c);       /* the kernel's thread id */
void *cpool_carrier_get_data(const struct cpool_carrier *c);
void cpool_carrier_set_data(struct cpool_carrier *c, void *data);
struct cpool_task *cpool_carrier_task(const struct cpool_carrier *c);   /* mounted, or NULL */

int64_t cpool_now(void);

#ifdef __cplusplus
}
#endif
#endif
