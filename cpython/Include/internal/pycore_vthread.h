#ifndef Py_INTERNAL_VTHREAD_H
#define Py_INTERNAL_VTHREAD_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Virtual threads: what the rest of the interpreter may ask of them.
 *
 * Patches to existing files call only what stands here and in pycore_osthread.h.  All
 * waiting functions work wherever they are called: on a virtual thread that may leave its
 * carrier they park it, on any other thread (platform, or pinned by foreign native frames)
 * they block the OS thread; the result is the same.
 */

#include <poll.h>                   // struct pollfd
#include <signal.h>                 // sigset_t
#include "pycore_osthread.h"        // _Py_tss_os

// True on an OS thread that runs a virtual thread, attached or detached.  One TLS load;
// the way to keep the paths of platform threads as they were.
static inline int
_PyVThread_IsCurrent(void)
{
    struct _PyOSThreadState *os = _Py_tss_os;
    return os != NULL && os->vthread != NULL;
}

// Waits until fd is ready for `events` (POLLIN, POLLOUT), has an error or hang-up, or
// until timeout (nanoseconds; < 0: for ever).  Call attached.  Returns 1 when ready (a hint:
// try the call again, without blocking), 0 at the timeout, -1 with an exception set (OSError
// EBADF if fd is closed meanwhile, MemoryError, an interrupt).  A regular file is ready at once.
// Blocks: virtual thread.  May run: signal handlers on the main thread, other threads.
PyAPI_FUNC(int) _PyVThread_WaitFd(int fd, short events, PyTime_t timeout,
                                  const char *reason);

// As poll(2): any number of descriptors, timeout in nanoseconds (< 0: for ever).  Fills
// revents.  Call attached.  Returns how many are ready, 0 at the timeout, -1 with errno set
// and no exception (as poll(2) would), or with EINTR and an exception (signal, interrupt).
PyAPI_FUNC(int) _PyVThread_Poll(struct pollfd *fds, nfds_t n, PyTime_t timeout,
                                const char *reason);

// Sleeps until `deadline` of the monotonic clock.  Call attached.  0, or -1 with exception.
PyAPI_FUNC(int) _PyVThread_SleepUntil(PyTime_t deadline);

// Lets others run.  Call attached, or detached.
PyAPI_FUNC(void) _PyVThread_Yield(void);

// Raises what interrupts the current virtual thread, the first of these if there are several:
// -1 with the exception set, else 0.  What waits calls it when it was told of an interrupt, and
// before a wait that would not be told of an earlier one.  Any thread, attached.
// Blocks: no.  Allocates: the exception.  Switches: no.
PyAPI_FUNC(int) _PyVThread_RaiseInterrupt(void);

// Where a system call may have ended by EINTR: if it did because the current virtual thread is
// interrupted, raises what _PyVThread_RaiseInterrupt() does, else 0.  Any thread, attached.
extern int _PyVThread_AnswerKnock(void);

// A wait has raised, and its caller has something else to return, as a write that was done in
// part.  An OSError is dropped; any other exception interrupts the thread's next blocking call.
PyAPI_FUNC(void) _PyVThread_PostponeRaised(void);

// Right before `fd` is closed by the interpreter, and right after: those who wait get EBADF,
// those who have begun to wait in between look again.  errno is kept.  Any thread, attached
// or not.  Cheap for an fd that no virtual thread has waited for.  See _PyVThread_CloseFd().
extern void _PyVThread_FdClosing(int fd);
extern void _PyVThread_FdClosed(int fd);

// --- Signals: carriers block them, for what a carrier takes interrupts nothing ------------

// The signal mask for a process that the caller makes: `mask`, or on a carrier that of the
// thread that started the first virtual one.  Async-signal-safe.
PyAPI_FUNC(const sigset_t *) _PyVThread_ChildSignals(const sigset_t *mask);
// Around a call that makes a process or an OS thread, or becomes another program, by which the
// mask of this OS thread is inherited: meanwhile it is that of _PyVThread_ChildSignals().  The
// caller stays on its OS thread in between.  Attached or not; both keep errno.
extern void _PyVThread_BeginInherit(sigset_t *saved);
extern void _PyVThread_EndInherit(const sigset_t *saved);
// As raise(3); a virtual thread sends the signal to the process.
extern int _PyVThread_Raise(int signum);

// --- For the interpreter's own life cycle; see vthread.c, vthread_park.c and carrier.c ------

struct _PyVThread;
typedef struct _PyThreadStateImpl _PyThreadStateImpl;

// A new virtual thread's state, not started, for `thread` (the object that represents it, or
// NULL).  NULL with an exception set.
extern PyThreadState *_PyVThread_New(PyInterpreterState *interp, PyObject *thread);
// Starts it: run(arg) is called on it, detached.  -1 with an exception set, and then the
// caller disposes of it with _PyVThread_Discard().
extern int _PyVThread_Spawn(PyThreadState *tstate, void (*run)(void *), void *arg);
extern void _PyVThread_Discard(PyThreadState *tstate);
// The call of the caller's virtual thread has raised: true if the exception went to the
// `thread` that represents it.
extern int _PyVThread_ReportFailure(PyThreadState *tstate);

static inline int
_PyVThread_IsState(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->vthread != NULL;
}

// Of PyThreadState_Clear, at its begin and its end, and of _PyThreadState_DeleteCurrent, for a
// virtual thread's state.
extern void _PyVThread_ClearingSlow(PyThreadState *tstate);
static inline void
_PyVThread_Clearing(PyThreadState *tstate)
{
    if (_PyVThread_IsState(tstate)) {
        _PyVThread_ClearingSlow(tstate);
    }
}
extern void _PyVThread_Clear(PyThreadState *tstate);
extern void _PyVThread_DeleteCurrent(PyThreadState *tstate);

// --- Attach and detach, on whatever OS thread; nothing happens where no virtual thread runs --

extern void _PyVThread_DetachedSlow(void);
extern void _PyVThread_AttachingSlow(void);
extern void _PyVThread_AttachedSlow(PyThreadState *tstate);
extern int _PyVThread_AttachMayParkSlow(void);

// It has detached: its slot may be given to another carrier, until it is back.
static inline void
_PyVThread_Detached(void)
{
    if (_PyVThread_IsCurrent()) {
        _PyVThread_DetachedSlow();
    }
}

// It is about to attach: gets a slot.  Keeps errno, and the OS thread.
static inline void
_PyVThread_Attaching(void)
{
    if (_PyVThread_IsCurrent()) {
        _PyVThread_AttachingSlow();
    }
}

// It has attached: catches up with what happened while it was unmounted.
static inline void
_PyVThread_Attached(PyThreadState *tstate)
{
    if (_PyVThread_IsState(tstate)) {
        _PyVThread_AttachedSlow(tstate);
    }
}

// May this attach wait by parking?  Only if its caller reads neither errno nor anything else
// of the OS thread afterwards.
static inline int
_PyVThread_AttachMayPark(void)
{
    return _PyVThread_IsCurrent() && _PyVThread_AttachMayParkSlow();
}

// What runs on the OS thread whose own state this is: that state, or a virtual thread's.
// The world is stopped.
static inline PyThreadState *
_PyVThread_Running(PyThreadState *own)
{
    PyThreadState *mounted = _Py_atomic_load_ptr(&_Py_OS(own)->mounted);
    return mounted != NULL ? mounted : own;
}

// Is it the own state of a carrier that runs nothing?  Async-signal-safe.
static inline int
_PyVThread_IsIdleCarrier(PyThreadState *own)
{
    return _Py_OS(own)->carrier != NULL && _Py_atomic_load_ptr(&_Py_OS(own)->mounted) == NULL;
}

// Calls fn for the states of virtual threads that are on no OS thread and have frames, until it
// returns nonzero.  O(number of virtual threads).  Async-signal-safe: a thread may be resumed
// meanwhile, as others may run while a fatal error is reported.
extern void _PyVThread_ForEachUnmounted(int (*fn)(PyThreadState *, void *), void *arg);

// An object was queued for the OS thread of `os` to merge, and its eval-breaker bit is set.
extern void _PyCarrier_MergeQueued(struct _PyOSThreadState *os);
static inline void
_PyVThread_MergeQueued(struct _PyOSThreadState *os)
{
    if (os->carrier != NULL) {
        _PyCarrier_MergeQueued(os);
    }
}

// --- What one thread does to others ----------------------------------------------------------

// PyThreadState_SetAsyncExc() for a virtual thread of interp: returns 1, or 0 if there is none
// with this ident.  A thread that is parked is not woken; it raises when it runs next.
// Call attached.  Stops the world.  May run: finalizers, of what was to be raised until now.
extern int _PyVThread_SetAsyncExc(PyInterpreterState *interp, unsigned long ident,
                                  PyObject *exc);

// A walk of all thread states of an interpreter, the virtual threads' included:
//
//     for (tstate = interp->threads.head; tstate != NULL;
//          tstate = _PyVThread_NextState(&walk, tstate))
//
// `walk` need not be initialised.  The world is stopped, or a thread may end meanwhile;
// HEAD_LOCK is held.  Of the virtual threads it has those that can be given references: they
// drop them when they end.
struct _PyVThread_Walk {
    struct _PyVThread_Slab *slab;
    int index;                      // of the next one to be looked at
};
extern PyThreadState *_PyVThread_NextState(struct _PyVThread_Walk *walk,
                                           PyThreadState *tstate);

// --- Idents --------------------------------------------------------------------------------

// The ident of the virtual thread that runs here; only if _PyVThread_IsCurrent().
static inline unsigned long
_PyVThread_CurrentIdent(void)
{
    return (unsigned long)(uintptr_t)_Py_tss_os->vthread;
}

// For interfaces that take an ident as a pthread_t: -1 with ValueError for a virtual thread's.
PyAPI_FUNC(int) _PyVThread_RejectIdent(unsigned long ident);

// --- _threadmodule.c -----------------------------------------------------------------------

// A new reference to op, for another thread to drop.  Counted with those of threads that do
// not own op.  The drop of any other makes op's owner merge its counts (Python/brc.c), and
// that is the thread which is busy starting others.
static inline PyObject *
_PyVThread_NewRefForOther(PyObject *op)
{
#ifdef Py_GIL_DISABLED
    if (_Py_IsImmortal(op)) {
        return op;
    }
    _Py_INCREF_STAT_INC();
#  ifdef Py_REF_DEBUG
    _Py_INCREF_IncRefTotal();
#  endif
    _Py_atomic_add_ssize(&op->ob_ref_shared, 1 << _Py_REF_SHARED_SHIFT);
    return op;
#else
    return Py_NewRef(op);
#endif
}

// Starts vstate (from _PyVThread_New; consumed also on failure) as a thread that calls
// func(*args); handle is a _ThreadHandle or None.  Returns the handle.
extern PyObject *_PyThread_StartVirtual(PyObject *thread_module, PyThreadState *vstate,
                                        PyObject *func, PyObject *args, PyObject *handle,
                                        int daemon);

// --- Life cycle of the interpreter ----------------------------------------------------------

// Start-up (after the configuration was read); shutdown (no new threads, when all have been
// joined; no threads, before the world is stopped for good); fork.
extern PyStatus _PyVThread_Init(PyInterpreterState *interp);
extern void _PyVThread_Close(PyInterpreterState *interp);
extern void _PyVThread_Finalize(PyInterpreterState *interp);
extern void _PyVThread_AfterForkChild(PyThreadState *tstate);

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_H
