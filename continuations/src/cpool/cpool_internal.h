#ifndef CONT_CPOOL_INTERNAL_H
#define CONT_CPOOL_INTERNAL_H

/* What the files of the scheduler share.  Read pool.c's head first: it has the picture.
 *
 * Lock order.  A thread that holds a lock takes only locks further down.  No lock is held
 * while anything of the host's runs, while a task is resumed, or while an OS thread sleeps.
 *
 *      1. pool.lock        carriers, spares, who waits for a slot
 *      2. fd entry locks   waiters of one descriptor        (waitfd.c)
 *      3. poller.lock      the reference poller's set       (poller_poll.c)
 *      4. timers.lock      one slot's heap                  (timer.c)
 *      5. queue.lock       one queue: injector, inboxes     (inject.c)
 *
 * Comments name the writer of every shared field: "holder" is the carrier that holds the
 * slot, "own" the carrier itself, "waker" whoever makes work. */

#include "continuations/cpool.h"

#include <stdatomic.h>
#include <stdbool.h>

#include "base/assert.h"
#include "cpool/parker.h"

#define CPOOL__CACHE_LINE 64

/* --- Word of a task: see task.c ------------------------------------------------- */

#define CPOOL__W_STATE  UINT64_C(0x07)
#define CPOOL__W_TOKEN  UINT64_C(0x08)  /* an unpark that no park has taken            */
#define CPOOL__W_WOKEN  UINT64_C(0x10)  /* timer or poller ended the wait at hand      */
#define CPOOL__W_DEAF   UINT64_C(0x20)  /* the wait at hand is none for tokens         */
#define CPOOL__W_MOVABLE UINT64_C(0x40) /* the wait at hand: the stack may be frozen  */
#define CPOOL__W_FROZEN UINT64_C(0x80)  /* it is                                       */
#define CPOOL__W_INTR   UINT64_C(0x100) /* an interrupt that no wait has taken         */
#define CPOOL__W_SEQ    UINT64_C(0x200) /* one more park                               */

/* --- Freezing: defaults, with their reasons in reclaim.c -------------------------- */

#define CPOOL__STACK_BUDGET     16384
#define CPOOL__FREEZE_MAX       32768
#define CPOOL__FREEZE_AGE_NS    INT64_C(1000000000)
#define CPOOL__FREEZE_BATCH     64

/* --- Queues --------------------------------------------------------------------- */

/* Unbounded FIFO through task.next, for many producers and consumers. */
struct cpool__queue {
    struct cpool__lock lock;
    bool closed;                        /* under the lock: pushes are refused          */
    struct cpool_task *head, *tail;     /* under the lock                              */
    _Atomic size_t len;                 /* written under the lock, read by all         */
};

#define CPOOL__RING_SIZE 256
#define CPOOL__RING_SIZE_CHAOS 4

/* Bounded FIFO: the holder pushes at the tail, holder and thieves pop at the head. */
struct cpool__ring {
    _Alignas(CPOOL__CACHE_LINE) _Atomic uint32_t head;  /* CAS by holder and thieves   */
    _Alignas(CPOOL__CACHE_LINE) _Atomic uint32_t tail;  /* holder                      */
    uint32_t size;                      /* a power of two; fixed by cpool_start        */
    struct cpool_task *_Atomic tasks[CPOOL__RING_SIZE]; /* holder                      */
};

struct cpool__timers {
    struct cpool__lock lock;
    struct cpool_task *root;            /* under the lock                              */
    size_t count;                       /* under the lock                              */
    _Atomic int64_t next;               /* written under the lock, read by all         */
};

/* --- Slots ---------------------------------------------------------------------- */

/* State of a slot, in the low bits of its status word; the rest counts changes, so that
 * a CAS tells "still blocked" from "blocked again". */
enum cpool__slot_state {
    CPOOL__FREE = 0,    /* nobody's                                                    */
    CPOOL__RUNNING,     /* its holder looks for work or runs it                        */
    CPOOL__BLOCKED,     /* its holder is in the kernel, between block_begin and end    */
    CPOOL__SLEEPING,    /* its holder sleeps for lack of work                          */
};
#define CPOOL__S_STATE UINT64_C(3)
#define CPOOL__S_SEQ   UINT64_C(4)

struct cpool__counters {                /* single writer, any reader: relaxed          */
    _Atomic uint64_t spawned, finished, parks, unparks, yields, returns, steals, migrations,
                     handoffs, preemptions, pins, freezes, thaws;
};

struct cpool_slot {
    int id;

    /* Holder only. */
    uint32_t lifo_run;                  /* LIFO tasks run in a row                     */
    uint64_t rng;                       /* chaos, and where a thief starts             */
    struct cpool__counters counters;

    /* Holder writes, others look. */
    _Atomic uint64_t tick;              /* tasks mounted                               */
    _Atomic uint64_t dry;               /* times that a pop left nothing               */
    struct cpool_task *_Atomic lifo;    /* holder puts; holder and thieves xchg        */

    /* Contended. */
    _Alignas(CPOOL__CACHE_LINE) _Atomic uint64_t status;    /* see slot.c              */
    struct cpool_carrier *_Atomic owner;    /* who changed status to RUNNING, or its
                                               beneficiary                             */
    atomic_bool retired;                /* cpool_configure made the pool smaller       */
    atomic_bool attention;              /* monitor: look at timers, poller, injector   */
    atomic_bool spent;                  /* monitor: its task has had its time slice    */
    _Atomic int64_t backlog_since;      /* monitor: started tasks wait since; 0: none  */
    struct cpool__queue inbox;          /* wakers: started tasks whose home this is    */
    struct cpool__queue preempted;      /* holder: started tasks that left it when spent */
    struct cpool__timers timers;

    /* Monitor only. */
    struct {
        uint64_t status, tick, dry;
        int64_t since;                  /* status and tick are as they are since then  */
        int64_t mounted;                /* the same of tick alone                      */
        int64_t backlog;                /* the same for a queue that was never dry     */
    } seen;

    struct cpool__ring started, fresh;
};

/* --- Carriers ------------------------------------------------------------------- */

enum cpool__mode {
    CPOOL__MODE_DEAD = 0,       /* no OS thread; in pool.unused                        */
    CPOOL__MODE_RUN,            /* has a slot, RUNNING or SLEEPING                     */
    CPOOL__MODE_BLOCK,          /* between block_begin and block_end                   */
    CPOOL__MODE_WANT,           /* in pool.wanting: sleeps until it gets a slot        */
    CPOOL__MODE_SPARE,          /* in pool.spares                                      */
    CPOOL__MODE_HUNG,           /* came back after cpool_stop: sleeps for ever         */
};

/* The word on which a carrier sleeps; each sleep ends with one of these. */
enum cpool__baton {
    CPOOL__BATON_NONE = 0,
    CPOOL__BATON_GO,            /* `slot` is held by this carrier                      */
    CPOOL__BATON_GO_SPINNING,   /* the same, and it has been counted as spinning       */
    CPOOL__BATON_LOST,          /* its sleeping slot went to another carrier           */
    CPOOL__BATON_STOP,
};

enum cpool__action { CPOOL__DO_END, CPOOL__DO_PARK, CPOOL__DO_YIELD };

/* Never freed, so that a stale pointer (the monitor's, a task's) reads memory of some
 * carrier; used again for a later OS thread. */
struct cpool_carrier {
    int id;

    /* Own only. */
    enum cpool__action action;          /* the mounted task, why it left its stack     */
    int64_t deadline;                   /* the same, for DO_PARK                       */
    bool blocked;                       /* between block_begin and block_end           */
    bool spinning;                      /* counted in pool.spinning                    */
    bool ran;                           /* has run a task since it got its slot        */
    int64_t wanted_since;               /* others want its slot since; 0: not noticed  */
    bool cede_poll;                     /* its last poll brought work for others only  */
    uint32_t skipped;                   /* yields that returned at once                */
    uint32_t woke;                      /* whom the mounted task woke elsewhere, or 0  */
    int64_t woke_at;                    /* and when: see pair.c                        */
    uint64_t blocked_status;            /* of the slot, after block_begin              */
    struct cpool_carrier *lender;       /* whose tasks its slot's are; set before the
                                           baton is passed, by who passes it           */
    size_t sticky_count;                /* suspended sticky tasks                      */
    void *altstack;
    bool woken_soon;                    /* its last sleep was too short: see patience.c */
    uint32_t vain;                      /* times in a row that it was patient in vain  */
    uint32_t impatient;                 /* times that it is not to be patient          */

    /* Own writes, others look. */
    _Atomic int tid;
    struct cpool_task *_Atomic task;    /* mounted                                     */
    const char *_Atomic reason;         /* of a pin                                    */
    void *_Atomic data;                 /* the host's                                  */
    atomic_bool in_poll;                /* sleeps in the poller, not on the baton      */

    /* Others set, own clears. */
    atomic_bool knocked;                /* monitor: a signal was sent, see knock.c     */
    atomic_bool attend;                 /* host.idle has something to do               */

    /* Shared. */
    _Atomic int mode;                   /* enum cpool__mode; RUN, BLOCK: own; else under
                                           pool.lock                                   */
    struct cpool_slot *_Atomic slot;    /* own, or who passes the baton, before it     */
    _Atomic uint32_t baton;             /* own to NONE, others from NONE               */
    struct cpool__queue sticky;         /* wakers: sticky tasks to run here            */

    /* Under pool.lock. */
    struct cpool_carrier *next, *prev;  /* spares, wanting or unused                   */
    struct cpool_carrier *all_next;     /* fixed once linked                           */
};

struct cpool__carrier_list {            /* under pool.lock                             */
    struct cpool_carrier *head, *tail;
    _Atomic int len;                    /* written under the lock, read by all         */
};

/* --- The pool ------------------------------------------------------------------- */

enum cpool__life { CPOOL__DOWN = 0, CPOOL__UP, CPOOL__STOPPING };

enum cpool__nap {               /* what the monitor does: see monitor.c                */
    CPOOL__NAP_NONE = 0,        /* looks, or sleeps too shortly to be woken            */
    CPOOL__NAP_LIGHT,           /* can be poked                                        */
    CPOOL__NAP_DEEP,            /* must be woken when work comes                       */
    CPOOL__NAP_ABSENT,          /* no OS thread                                        */
};

#define CPOOL__MAP_WORDS (CPOOL_MAX_SLOTS / 64)

struct cpool__event {                   /* what a poller reports                       */
    int fd;
    short revents;
};

struct cpool__poller_ops {
    const char *name;
    int  (*init)(void);
    void (*fini)(void);
    /* Watches fd for one event out of `events`.  Under the fd entry's lock. */
    int  (*arm)(int fd, short events);
    /* Ends to watch fd.  Under the fd entry's lock. */
    void (*disarm)(int fd);
    /* Fills `ev`; deadline 0: without waiting.  Who waits is alone in it
     * (pool.poll_owner); who does not, is not. */
    int  (*wait)(int64_t deadline, struct cpool__event *ev, int max);
    /* Ends the wait of the one who waits, or the next one. */
    void (*wake)(void);
};

extern const struct cpool__poller_ops cpool__poller_epoll, cpool__poller_poll;

struct cpool__pool {
    /* Fixed by cpool_start. */
    struct cpool_host host;
    int64_t time_slice, handoff, carrier_idle, stall;
    unsigned chaos;
    bool always_move;
    size_t stack_budget, freeze_max;
    int64_t freeze_age;
    unsigned freeze_batch;
    const struct cpool__poller_ops *poller;

    _Atomic int life;                   /* enum cpool__life; start, stop, fork         */
    atomic_bool gave_up;                /* cpool_stop: no more preempt()               */
    _Atomic int parallelism, max_carriers;  /* start, configure                        */
    _Atomic int slot_count;             /* slots that exist, grows only; under lock    */
    struct cpool_slot *_Atomic slots[CPOOL_MAX_SLOTS];

    struct cpool__lock lock;
    struct cpool_carrier *_Atomic all;  /* under lock; read by dump and monitor        */
    int next_id;                        /* under lock                                  */
    struct cpool__carrier_list spares, wanting, unused;
    _Atomic uint32_t alive;             /* carriers with an OS thread that is not hung;
                                           under lock; cpool_stop sleeps on it         */
    int64_t no_create_until;            /* under lock: pthread_create failed           */
    atomic_bool one_more;               /* max_carriers may be exceeded once: set and
                                           cleared by the monitor, cleared under lock  */
    _Atomic uint64_t extra;             /* carriers begun beyond it                    */

    _Alignas(CPOOL__CACHE_LINE) _Atomic int spinning;
    _Atomic uint64_t sleeping_map[CPOOL__MAP_WORDS];    /* hints: status is the truth  */
    _Atomic uint64_t free_map[CPOOL__MAP_WORDS];

    _Alignas(CPOOL__CACHE_LINE) struct cpool__queue injector;
    struct cpool__queue starved;        /* tasks for whom no stack could be had        */

    _Alignas(CPOOL__CACHE_LINE) _Atomic uint32_t nap;   /* monitor, its wakers         */
    struct cpool_carrier *_Atomic poll_owner;   /* who sleeps in the poller            */
    _Atomic uint64_t poll_count;        /* polls begun, plus polls ended               */
    _Atomic long fd_waiters;

    uint32_t era;                       /* of owners of stacks; start, fork            */
    atomic_bool reclaims;               /* some task has parked as MOVABLE; carriers   */
    atomic_bool reclaiming;             /* monitor: may be looking at tasks            */

    struct cpool__counters outside;     /* from OS threads that hold no slot: RMW      */
};

extern struct cpool__pool cpool__pool;

/* --- Small things ---------------------------------------------------------------- */

#define CPOOL__LOAD(p)      atomic_load_explicit(p, memory_order_relaxed)
#define CPOOL__STORE(p, v)  atomic_store_explicit(p, v, memory_order_relaxed)

/* The carrier of this OS thread.  Not inline, never folded: a task can be on another OS
 * thread after any switch, and compilers keep addresses of thread-locals over calls. */
struct cpool_carrier *cpool__self(void);

/* The slot that this OS thread may use as its holder, or NULL. */
static inline struct cpool_slot *
cpool__held_slot(struct cpool_carrier *c)
{
    return c != NULL && !c->blocked ? CPOOL__LOAD(&c->slot) : NULL;
}

#define CPOOL__COUNT(slot, name)                                                          \
    do {                                                                                  \
        struct cpool_slot *count_slot = (slot);                                           \
        if (count_slot != NULL) {                                                         \
            CPOOL__STORE(&count_slot->counters.name,                                      \
                         CPOOL__LOAD(&count_slot->counters.name) + 1);                    \
        }                                                                                 \
        else {                                                                            \
            atomic_fetch_add_explicit(&cpool__pool.outside.name, 1,                       \
                                      memory_order_relaxed);                              \
        }                                                                                 \
    } while (0)

static inline int
cpool__is_stopping(void)
{
    /* seq_cst: partner cpool_stop, see block.c */
    return atomic_load(&cpool__pool.life) != CPOOL__UP;
}

static inline struct cpool_slot *
cpool__slot(int i)
{
    /* acquire: partner cpool__slots_grow */
    return atomic_load_explicit(&cpool__pool.slots[i], memory_order_acquire);
}

static inline int
cpool__slot_count(void)
{
    return atomic_load_explicit(&cpool__pool.slot_count, memory_order_acquire);
}

static inline struct cpool_carrier *
cpool__owner(struct cpool_slot *s)
{
    /* acquire: partner cpool__set_owner; readers follow it, and it may be new */
    return atomic_load_explicit(&s->owner, memory_order_acquire);
}

static inline void
cpool__set_owner(struct cpool_slot *s, struct cpool_carrier *c)
{
    atomic_store_explicit(&s->owner, c, memory_order_release);
}

static inline uint64_t
cpool__random(struct cpool_slot *s)
{
    uint64_t x = s->rng;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return s->rng = x;
}

/* Descriptors are waited for, and nobody sleeps in the poller. */
static inline bool
cpool__may_poll(void)
{
    return CPOOL__LOAD(&cpool__pool.fd_waiters) > 0
           && CPOOL__LOAD(&cpool__pool.poll_owner) == NULL;
}

/* One in n, in hard mode; else never. */
static inline bool
cpool__chaos(struct cpool_slot *s, unsigned n)
{
    return cpool__pool.chaos != 0 && cpool__random(s) % n == 0;
}

/* inject.c */
bool cpool__queue_push(struct cpool__queue *q, struct cpool_task *t);   /* false: closed */
void cpool__queue_push_list(struct cpool__queue *q, struct cpool_task *first,
                            struct cpool_task *last, size_t n);
struct cpool_task *cpool__queue_pop(struct cpool__queue *q);
/* Up to n tasks, linked by next; NULL if empty. */
struct cpool_task *cpool__queue_pop_list(struct cpool__queue *q, size_t n);
struct cpool_task *cpool__queue_close(struct cpool__queue *q);      /* returns all of it */
void cpool__queue_open(struct cpool__queue *q);
void cpool__queue_reset(struct cpool__queue *q);
bool cpool__queue_is_valid(struct cpool__queue *q);
static inline size_t
cpool__queue_len(const struct cpool__queue *q)
{
    return CPOOL__LOAD(&((struct cpool__queue *)q)->len);
}

/* deque.c */
void cpool__ring_init(struct cpool__ring *r, uint32_t size);
bool cpool__ring_push(struct cpool__ring *r, struct cpool_task *t);     /* false: full   */
struct cpool_task *cpool__ring_pop(struct cpool__ring *r);
size_t cpool__ring_take_half(struct cpool__ring *r, struct cpool_task **first,
                             struct cpool_task **last);
uint32_t cpool__ring_len(const struct cpool__ring *r);

/* timer.c */
void cpool__timer_insert(struct cpool_slot *s, struct cpool_task *t);
void cpool__timer_cancel(struct cpool_task *t);
/* Ends the waits whose time has come; those that it made RUNNABLE come back in a list
 * linked by next, for cpool__ready_list. */
struct cpool_task *cpool__timers_run(struct cpool_slot *s, int64_t now);
void cpool__timers_reset(struct cpool__timers *h);
bool cpool__timers_is_valid(struct cpool__timers *h);

/* task.c */
bool cpool__task_end_wait(struct cpool_task *t);
bool cpool__task_commit_park(struct cpool_task *t);
bool cpool__task_claim(struct cpool_task *t, uint64_t word);
void cpool__wait_begin(struct cpool_task *t);
void cpool__wait_abort(struct cpool_task *t);
int cpool__wait_switch(struct cpool_task *t, int64_t deadline, const char *reason);
void cpool__wait_return(struct cpool_task *t, int64_t deadline, const char *reason);
void cpool__ready(struct cpool_task *t);
void cpool__ready_local(struct cpool_task *t);
void cpool__ready_list(struct cpool_task *list);
void cpool__entry(void *arg);

/* patience.c */
void cpool__woken_soon(int64_t ns);     /* for tests; 0: the default                   */
void cpool__slept(struct cpool_carrier *c, int64_t since, bool for_its_own);
int64_t cpool__patience(struct cpool_carrier *c);
bool cpool__is_patient(struct cpool_carrier *c, struct cpool_slot *s, int64_t until);
void cpool__spun(struct cpool_carrier *c, int64_t until, bool found);

/* pair.c */
bool cpool__pair_meets(struct cpool_carrier *c, struct cpool_task *t);
void cpool__pair_parks(struct cpool_carrier *c, struct cpool_task *t);
void cpool__pair_at_once(int64_t ns);   /* for tests; 0: the default                   */

/* slot.c */
int  cpool__slots_grow(int n);
void cpool__slots_reset(void);
void cpool__slot_set(struct cpool_slot *s, enum cpool__slot_state state);
bool cpool__slot_take(struct cpool_slot *s, uint64_t status);
struct cpool_slot *cpool__slot_take_free_lock_held(struct cpool_slot *wish);
int  cpool__sleeping_slot(int from);
bool cpool__slot_give_lock_held(struct cpool_slot *s);
void cpool__slot_give_to_lock_held(struct cpool_slot *s, struct cpool_carrier *c);
void cpool__slot_release_lock_held(struct cpool_slot *s);
void cpool__slots_match_lock_held(void);
bool cpool__slot_wake(struct cpool_slot *s, enum cpool__baton baton);
void cpool__push_started(struct cpool_slot *s, struct cpool_task *t);
void cpool__push_preempted(struct cpool_slot *s, struct cpool_task *t);
void cpool__push_fresh(struct cpool_slot *s, struct cpool_task *t);
void cpool__push_remote(struct cpool_slot *s, struct cpool_task *t);
bool cpool__slot_has_started(const struct cpool_slot *s);
bool cpool__slot_has_tasks(const struct cpool_slot *s);
void cpool__slot_drain(struct cpool_slot *s);
bool cpool__may_take_started(const struct cpool_slot *victim, int64_t now);
struct cpool_slot *cpool__send_astray(struct cpool_slot *mine, const struct cpool_task *t);

/* carrier.c */
int  cpool__carrier_start(struct cpool_slot *s, bool spinning);
struct cpool_carrier *cpool__carrier_new_lock_held(void);
int  cpool__create_thread(void *(*main)(void *), void *arg);
int  cpool__carrier_launch(struct cpool_carrier *c);
void cpool__carrier_pass(struct cpool_carrier *c, enum cpool__baton baton);
enum cpool__baton cpool__carrier_await(struct cpool_carrier *c, int64_t deadline);
bool cpool__carrier_let_go_lock_held(struct cpool_carrier *c);
bool cpool__carrier_await_slot(struct cpool_carrier *c);
bool cpool__carrier_without_slot(struct cpool_carrier *c);
void cpool__carrier_hang(struct cpool_carrier *c) __attribute__((noreturn));
void cpool__carriers_reset(void);
void cpool__fail_creates(int n);        /* tests: the next n OS threads can't be had    */
void cpool__carriers_after_fork(struct cpool_carrier *survivor);
void cpool__carriers_append(struct cpool__carrier_list *l, struct cpool_carrier *c);
void cpool__carriers_push(struct cpool__carrier_list *l, struct cpool_carrier *c);
void cpool__carriers_remove(struct cpool__carrier_list *l, struct cpool_carrier *c);
void cpool__wake_sticky(struct cpool_carrier *c);

/* steal.c */
struct cpool_task *cpool__first_of(struct cpool_slot *s, struct cpool_task *list);
struct cpool_task *cpool__take_lifo(struct cpool_slot *s);
struct cpool_task *cpool__steal(struct cpool_slot *s);

/* worker.c */
void cpool__worker(struct cpool_carrier *c);
void cpool__feed_one(void);

/* idle.c */
void cpool__work_made(void);
bool cpool__work_waits(void);
int  cpool__first_carrier(void);
bool cpool__work_visible(struct cpool_carrier *c, struct cpool_slot *s);
bool cpool__try_spin(struct cpool_carrier *c, bool patient);
void cpool__stop_spinning(struct cpool_carrier *c);
bool cpool__sleep(struct cpool_carrier *c);

/* monitor.c */
void cpool__monitor_ensure(void);
void cpool__monitor_wake(void);
void cpool__monitor_poke_slow(void);
static inline void
cpool__monitor_notice(void)             /* a slot became RUNNING, or work came         */
{
    /* seq_cst: partner monitor_main; callers did a seq_cst operation before */
    if (CONT__UNLIKELY(atomic_load(&cpool__pool.nap) >= CPOOL__NAP_DEEP)) {
        cpool__monitor_wake();
    }
}
void cpool__monitor_after_fork(void);

/* knock.c */
void cpool__knock_init(void);
int64_t cpool__knock_look(int64_t now);
void cpool__knock_soon(struct cpool_task *t);

/* reclaim.c */
int64_t cpool__reclaim(int64_t now);
void cpool__reclaim_reset(void);
void cpool__reclaim_await_step(void);
void cpool__reclaim_after_stop(void);
void cpool__reclaim_forget(struct cpool_task *t);
void cpool__reclaim_before_commit_slow(struct cpool_slot *s, struct cpool_task *t);
void cpool__thaw(struct cpool_slot *s, struct cpool_task *t);

/* The carrier, for a task that parks, its stack left: before PARKED is published. */
static inline void
cpool__reclaim_before_commit(struct cpool_slot *s, struct cpool_task *t)
{
    bool movable = (CPOOL__LOAD(&t->word) & CPOOL__W_MOVABLE) != 0;
    bool watched = (t->flags & CPOOL_TASK_WATCHED) != 0;
    if (CONT__UNLIKELY((movable && (!watched || cpool__pool.chaos != 0))
                       || (!watched && CPOOL__LOAD(&cpool__pool.reclaims)))) {
        cpool__reclaim_before_commit_slow(s, t);
    }
}

/* block.c */
bool cpool__handoff(struct cpool_slot *s, uint64_t status);

/* waitfd.c */
int  cpool__poll(int64_t deadline, struct cpool_task **list);
void cpool__fds_reset(void);
void cpool__fds_dump(FILE *out);

#endif
