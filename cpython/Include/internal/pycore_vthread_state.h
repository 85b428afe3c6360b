#ifndef Py_INTERNAL_VTHREAD_STATE_H
#define Py_INTERNAL_VTHREAD_STATE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* A virtual thread, as the glue sees it.  Only Python/vthread*.c, Python/carrier.c and
 * Modules/_vthreadmodule.c include this header; everybody else asks pycore_vthread.h.
 *
 *     struct _PyVThread
 *     +-----------------------+  <- its ident, and its PyThreadState *
 *     | ts    PyThreadState   |  what C frames hold in registers: never moves
 *     +-----------------------+
 *     | task  cpool_task      |  what the scheduler knows: continuation, timer, state
 *     +-----------------------+
 *     | wait  wait_entry      |  what a waker may touch while it is parked
 *     +-----------------------+
 *     | chunk                 |  the first data stack chunk: a few Python frames
 *     +-----------------------+
 *
 * The memory is type-stable: once a struct has been a virtual thread it is never anything
 * else until the process ends.  So whoever looks at `os->mounted` without a lock, sets an
 * eval-breaker bit late, or walks the slabs, may hit the wrong thread, but never a wrong
 * thing; every reader tolerates the former.
 *
 * The same struct is the thread state and the stack of a continuation
 * (vthread_continuation.c).  It is never in the pool, and of its task only the `cont` is used.
 *
 * Who writes: the thread itself (T), the OS thread that mounts it (C), its creator before
 * it is spawned (N).
 */

#include <stdbool.h>
#include "continuations/cpool.h"
#include "pycore_osthread.h"
#include "pycore_semaphore.h"       // _PySemaphore
#include "pycore_tstate.h"
#include "pycore_vthread.h"
#include "pycore_vthread_park.h"    // struct wait_entry
#include "pycore_vthread_soft.h"

// Room for two ordinary frames (88 bytes, and their locals and stack: 110 to 170 together).
// Deeper threads grow by chunks of their own.
#define _PyVThread_CHUNK_SIZE 352

// What interrupts a thread (vthread_interrupt.c).  It outlives the thread, for interrupts that
// come late.
struct _PyVThread_Interrupts {
    _PyRawMutex mutex;              // leaf; guards the rest, alarms, and reachable's end
    struct _PyVThread_Interrupt *first;     // FIFO; set by any thread
    uint8_t pending;                // atomic: is there one; all that a wait looks at
    uint32_t serial;                // how many threads this struct has been
    _PySemaphore *sema;             // of a pinned wait in the parking lot, or NULL
    bool posted;                    // an interrupt has posted it, which no waker has
    int event_fd;                   // of a pinned wait for descriptors, or 0
};

// A soft park (vthread_soft.c): what is waited for, and how the call goes on.
struct _PyVThread_Soft {
    // Attached: makes the call's result, or raises, or says what to wait for (by `how` and
    // `until`) and returns NULL.
    PyObject *(*step)(struct _PyVThread *vt);
    union {
        const struct _PyVThread_SoftOps *ops;
        const struct _PyVThread_SoftFdOps *fd_ops;
    };
    PyObject *object;               // strong, or NULL; has what `addr` points to, or `fd`
    union {
        void *addr;
        int fd;
    };
    PyTime_t since, deadline;       // of the whole wait
    PyTime_t until;                 // of the park at hand
    PyObject *result;               // strong
    enum {
        _PyVThread_SOFT_PARK, _PyVThread_SOFT_SLEEP, _PyVThread_SOFT_FD, _PyVThread_SOFT_YIELD
    } how : 8;
    bool begun;                     // the wait
    bool woken;                     // it has ended by a waker
    int ended;                      // of a wait for a descriptor, as cpool_wait_fd() says it
    _Py_park_arg_storage arg;       // what a waker has written; of a descriptor: the call's own
};

struct _PyVThread {
    _PyThreadStateImpl ts;          // first: a PyThreadState * of a virtual thread is a _PyVThread *
    struct cpool_task task;
    struct wait_entry wait;         // T and its waker, by the bucket lock of the parking lot
    struct _PyVThread_Soft soft;    // T
    void (*run)(void *);            // N
    void *run_arg;                  // N
    PyObject *thread;               // N, T: strong; what current() returns
    PyObject *context;              // N, T: strong; what it runs in, if it was given one
    struct _PyVThread_Interrupt *alarms;    // by interrupts.mutex: the last one that was set first
    int64_t since;                  // T: when it last began to wait, coarse monotonic ns
    struct _PyContinuation *continuation;   // N: whose state this is, if it is no thread at all
    uintptr_t seen_version;         // N, T: instrumentation version of the code of its frames
    int pins;                       // T: depth of pin()
    bool is_main;                   // T: it has forked this process: pinned, see carrier.c
    bool hidden;                    // N, T: the runtime's own, or has ended: in no list
    bool bound;                     // T: sticky for the wait at hand: park-safe frames
    bool blocked;                   // T: between cpool_block_begin and _end
    bool leaving;                   // T: in _PyVThread_Detach()
    bool attach_may_park;           // T: this attach has no caller that reads errno afterwards
    bool live;                      // N, C: atomic; between its creation and its end
    // From here on what _PyVThread_Prepare() does not clear.
    bool reachable;                 // N, T, attached: its end will drop what others give to it
    int shields;                    // T: atomic; depth of shield(): no wait raises an interrupt
    int64_t next_alarm;             // atomic, set with alarms: the earliest, or CPOOL_FOREVER
    struct _PyVThread_Interrupts interrupts;
    struct _PyVThread *next_free;   // under the slab lock
    _Alignas(_PyStackChunk) char chunk[_PyVThread_CHUNK_SIZE];
};

static inline struct _PyVThread *
_PyVThread_FromTask(struct cpool_task *t)
{
    return _Py_CONTAINER_OF(t, struct _PyVThread, task);
}

// The virtual thread whose state this is, or NULL if it is a platform thread's.
static inline struct _PyVThread *
_PyVThread_FromState(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->vthread;
}

static inline struct _PyVThread *
_PyVThread_Current(void)
{
    _PyOSThreadState *os = _PyOSThread_GetCurrent();
    return os == NULL ? NULL : os->vthread;
}

// --- vthread_slab.c: where the structs live ---------------------------------------------

// A struct with undefined contents but for `live`, which is false; NULL without memory.
struct _PyVThread *_PyVThread_Alloc(void);
void _PyVThread_Free(struct _PyVThread *vt);
// Calls fn for each struct that is live; stops when it returns nonzero, and returns that.
// Takes no lock: threads may start and end meanwhile, unless the world is stopped.
int _PyVThread_ForEach(int (*fn)(struct _PyVThread *, void *), void *arg);
// The same walk by hand: the next struct that is live, or NULL.
void _PyVThread_BeginWalk(struct _PyVThread_Walk *walk);
struct _PyVThread *_PyVThread_NextLive(struct _PyVThread_Walk *walk);
// The live virtual thread with this ident, or NULL.
struct _PyVThread *_PyVThread_FromIdent(unsigned long ident);
void _PyVThread_SlabAfterFork(struct _PyVThread *survivor);

// --- vthread_mount.c: the fields of a thread state ---------------------------------------

void _PyVThread_InitState(struct _PyVThread *vt, PyInterpreterState *interp);
void _PyVThread_Mount(struct cpool_carrier *c, struct cpool_task *t);
void _PyVThread_Unmount(struct cpool_carrier *c, struct cpool_task *t);
// After an attach that followed a mount: what could not be done while detached.
void _PyVThread_AfterMount(struct _PyVThread *vt);

// --- vthread_park.c ----------------------------------------------------------------------

// Detaches a thread which then leaves its stack: no blocking call begins, for which the pool
// might give its slot away.
void _PyVThread_Detach(PyThreadState *tstate);
// What _PyVThread_WaitFd() returns when a wait has ended so, by cpool_wait_fd() without -EINTR.
int _PyVThread_WaitedFd(int ended);

// --- vthread_frames.c: which native frames may move --------------------------------------

struct _PyVThread_Object;           // pycore_vthread_text.h

enum _PyVThread_Frames {
    _PyVThread_CORE_FRAMES,         // may move
    _PyVThread_SAFE_FRAMES,         // some are of modules that are declared park-safe
    _PyVThread_FOREIGN_FRAMES,      // some are not
};
// Looks at the frames from the caller's to the base of vt's stack, which runs here.
// *foreign: the first foreign frame's object, or NULL.
enum _PyVThread_Frames _PyVThread_ClassifyFrames(struct _PyVThread *vt,
                                                 struct _PyVThread_Object **foreign);

// --- vthread_pin.c -----------------------------------------------------------------------

enum _PyVThread_Pin {
    _PyVThread_PIN_NONE = 0,
    _PyVThread_PIN_ASKED,           // pin()
    _PyVThread_PIN_MAIN,            // the main thread of a forked child, for the sake of signals
    _PyVThread_PIN_CRITICAL,        // the OS thread's pin count: finalizer, merge, attach, fork
    _PyVThread_PIN_FOREIGN,         // a foreign native frame
    _PyVThread_PIN_CONTINUATION,    // it runs a continuation, on another stack than its own
    _PyVThread_PIN_OTHER_STATE,     // another thread state is current: a subinterpreter's
    _PyVThread_NUM_PINS,
};
extern const char *const _PyVThread_pin_names[_PyVThread_NUM_PINS];
extern uint64_t _PyVThread_pin_counts[_PyVThread_NUM_PINS];    // relaxed atomics

// May vt, which runs here, leave its OS thread for the wait or turn that comes next?  It then
// does so before it asks again.  MayUnmount() is for callers that else block the OS thread:
// it counts and reports what pins.
bool _PyVThread_MayUnmount(struct _PyVThread *vt);
bool _PyVThread_MayYield(struct _PyVThread *vt);

// Reports of pins for a handler: from now on, or no more.  -1 with an exception set.
int _PyVThread_WatchPins(bool on);
// Waits for the next report, and returns (thread or None, reason, object's name or None,
// [(file, line, function), ...]), innermost frame last; None when they are not watched.
PyObject *_PyVThread_NextPin(void);
// Reports to stderr, from now on.
void _PyVThread_TracePins(void);

// --- vthread_interrupt.c -------------------------------------------------------------------

// Is vt, which runs here, to be interrupted in the wait that it is about to begin, or has been
// told to look?  Attached or not.
bool _PyVThread_IsInterrupted(struct _PyVThread *vt);
// Interrupts a thread with exc, an exception or a class of them: now, if it waits, or else in
// its next wait.  `who` says which one of those that have had this ident: the `thread` that it
// was started with, or the serial of _PyVThread_Serial().  The same exc twice counts once.
// Returns 1, 0 if the thread has ended (or never was), -1 with an exception set.
// Call attached.
int _PyVThread_Interrupt(unsigned long ident, PyObject *who, PyObject *exc);
// Takes exc back, if the current thread has not raised it yet: 1, else 0.
int _PyVThread_WithdrawInterrupt(PyObject *exc);

// Interrupts the current thread, vt, with exc in what it waits for at the time `when`, or in
// its next wait after that.  When several are due, the one that was set first is raised.
// -1 with an exception set.
int _PyVThread_SetAlarm(struct _PyVThread *vt, PyObject *exc, int64_t when);
// Change its time, and forget it: 1 if there was an alarm with exc, 0 if it has been raised.
int _PyVThread_MoveAlarm(struct _PyVThread *vt, PyObject *exc, int64_t when);
int _PyVThread_DropAlarm(struct _PyVThread *vt, PyObject *exc);
// Forgets an alarm of another thread, also one that it has put off; nothing happens if there is
// none.  `ident` and `who` are those of _PyVThread_Interrupt().
void _PyVThread_DisarmOther(unsigned long ident, PyObject *who, PyObject *exc);
// The time of the earliest alarm, or CPOOL_FOREVER.
int64_t _PyVThread_NextAlarm(struct _PyVThread *vt);
// The end of a wait that can raise: `deadline`, or an alarm that comes before.  A wait that has
// come to its end then asks _PyVThread_IsInterrupted().
int64_t _PyVThread_EndOfWait(struct _PyVThread *vt, int64_t deadline);
// Nanoseconds until `end`, a time of cpool_now(), or 0 when that is over.  Py_MAX() evaluates
// its operand twice, so the time that it tests is not the one that it gives.
static inline int64_t
_PyVThread_TimeUntil(int64_t end)
{
    int64_t left = end - cpool_now();
    return left > 0 ? left : 0;
}
// cpool_host.overdue: the time of vt's earliest alarm, or 0 if an interrupt is pending.
int64_t _PyVThread_Overdue(struct cpool_carrier *c, struct cpool_task *t);
uint32_t _PyVThread_Serial(struct _PyVThread *vt);
// vt is about to end: it takes nothing any more.  Call attached.
void _PyVThread_DropInterrupts(struct _PyVThread *vt);
void _PyVThread_InterruptsAfterFork(struct _PyVThread *vt);
// Around a poll(2) of a pinned thread: a descriptor that is readable when it is interrupted,
// or -1 if none is to be had.
int _PyVThread_BeginPollInterrupt(struct _PyVThread *vt);
void _PyVThread_EndPollInterrupt(struct _PyVThread *vt, int fd);

// --- carrier.c: the pool -----------------------------------------------------------------

// Makes the pool ready to run threads; -1 with an exception set.
int _PyCarrier_EnsurePool(PyInterpreterState *interp);
// Lets it run a thread; -1 with an exception set: vt is still the caller's.
int _PyCarrier_Spawn(struct _PyVThread *vt);
int _PyCarrier_Configure(int parallelism, int max_carriers);    // 0: leave; -1 with exception
void _PyCarrier_GetConfig(int *all_virtual, int *parallelism, int *max_carriers);

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_STATE_H
