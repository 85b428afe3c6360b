/* How a virtual thread waits: for the parking lot, a descriptor, a time, its turn.
 *
 * Each wait follows one pattern:
 *
 *      attached --detach--> detached --cpool_park--> (stack left; others run)
 *                                                         |  unpark
 *      attached <--attach-- detached <--mount on a carrier+
 *
 * A thread parks only if it may leave its OS thread (vthread_pin.c).  Else it blocks the OS
 * thread as a platform thread would, having given its slot away.
 *
 * Never here: which fields move with the thread (vthread_mount.c), and who runs next (cpool).
 */

#include "Python.h"
#include "pycore_ceval.h"
#include "pycore_datastack.h"       // _PyDataStack_Trim()
#include "pycore_lock.h"
#include "pycore_parking_lot.h"     // Py_PARK_OK
#include "pycore_pystate.h"
#include "pycore_semaphore.h"
#include "pycore_time.h"
#include "pycore_vthread_state.h"

#include <errno.h>
#include <time.h>                   // clock_nanosleep()

// --- Leaving and taking up the thread state ------------------------------------------------

// What a thread was before it parked, to be restored after.
struct before {
    bool attached;
    bool blocked;       // detached by a caller, who said so to the pool
};

// When a wait began is for dumps; the coarse clock (a tick is 1 to 4 ms) costs 5 ns.
static int64_t
coarse_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void
_PyVThread_Detach(PyThreadState *tstate)
{
    struct _PyVThread *vt = _PyVThread_FromState(tstate);
    vt->leaving = true;
    _PyThreadState_Detach(tstate);
    vt->leaving = false;
}

static struct before
leave(struct _PyVThread *vt)
{
    _Py_atomic_store_int64_relaxed(&vt->since, coarse_now());
    _PyDataStack_Trim(&vt->ts.base);
    struct before b = {.attached = _PyThreadState_GET() != NULL};
    if (b.attached) {
        _PyVThread_Detach(&vt->ts.base);
    }
    else if (vt->blocked) {
        b.blocked = true;
        vt->blocked = false;
        cpool_block_end();
    }
    return b;
}

void
_PyVThread_DetachToPark(struct _PyVThread *vt)
{
    (void)leave(vt);
}

static void
take_up(struct _PyVThread *vt, struct before b)
{
    if (b.attached) {
        _PyVThread_AttachAfterPark(vt);
    }
    else if (b.blocked) {
        vt->blocked = true;
        cpool_block_begin();
    }
}

// --- Called by the interpreter's attach and detach, if a virtual thread runs here ------------

void
_PyVThread_DetachedSlow(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (!vt->blocked && !vt->leaving) {
        vt->blocked = true;
        cpool_block_begin();
    }
}

void
_PyVThread_AttachingSlow(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt->blocked) {
        vt->blocked = false;
        cpool_block_end();
    }
}

void
_PyVThread_AttachedSlow(PyThreadState *tstate)
{
    _PyVThread_AfterMount(_PyVThread_FromState(tstate));
}

int
_PyVThread_AttachMayParkSlow(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    return vt->attach_may_park;
}

// --- Parking lot ----------------------------------------------------------------------------

static int64_t
deadline_after(PyTime_t timeout)
{
    if (timeout < 0) {
        return CPOOL_FOREVER;
    }
    int64_t now = cpool_now();
    return timeout > CPOOL_FOREVER - now ? CPOOL_FOREVER : now + timeout;
}

// What is left of a timeout that ends at `deadline`, if it is > 0; else as it is.
static PyTime_t
time_left(PyTime_t timeout, int64_t deadline)
{
    return timeout > 0 ? _PyVThread_TimeUntil(deadline) : timeout;
}

struct _PyVThread *
_PyVThread_BeginPark(int flags)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL) {
        return NULL;
    }
    // Attached and not to be detached: a lock of the runtime, held for an instant.  Detached
    // with a pin: an attach, which waits for the world to start or for a critical section.
    if (!(flags & _PY_LOCK_DETACH) && _PyThreadState_GET() != NULL) {
        return NULL;
    }
    return _PyVThread_MayUnmount(vt) ? vt : NULL;
}

struct wait_entry *
_PyVThread_WaitEntry(struct _PyVThread *vt)
{
    return &vt->wait;
}

int
_PyVThread_Wait(struct _PyVThread *vt, PyTime_t deadline, int intr)
{
    if (intr && _PyVThread_IsInterrupted(vt)) {
        return Py_PARK_INTR;
    }
    struct before b = leave(vt);
    int64_t end = intr ? _PyVThread_EndOfWait(vt, deadline) : deadline;
    int res = cpool_park(end, "lock");
    take_up(vt, b);
    if (res == -EINTR || (res == -ETIMEDOUT && end < deadline)) {
        return intr && _PyVThread_IsInterrupted(vt) ? Py_PARK_INTR : Py_PARK_OK;
    }
    return res == 0 ? Py_PARK_OK : Py_PARK_TIMEOUT;
}

void
_PyVThread_AttachAfterPark(struct _PyVThread *vt)
{
    // None of the callers reads errno, so what the attach waits for may park.
    vt->attach_may_park = true;
    _PyThreadState_Attach(&vt->ts.base);
    vt->attach_may_park = false;
}

void
_PyVThread_Wake(struct _PyVThread *vt)
{
    cpool_unpark(&vt->task);
}

// --- Pinned waits ---------------------------------------------------------------------------

// Around a wait of unknown length that blocks the OS thread of a virtual thread.  Call
// detached.
static void
pinned_begin(struct _PyVThread *vt, const char *reason)
{
    if (vt->blocked) {
        cpool_block_end();
    }
    _Py_atomic_store_int64_relaxed(&vt->since, coarse_now());
    cpool_pinned_begin(reason);
}

static void
pinned_end(struct _PyVThread *vt)
{
    cpool_pinned_end();
    if (vt->blocked) {
        cpool_block_begin();
    }
}

// A thread that has told the pool of its detach waits for something of unknown length.  Any
// other one waits for a short lock of the runtime, and may hold others: were its slot
// given away, it would wait for one with HEAD_LOCK held, which the slot's new carrier needs.
static bool
gives_slot_away(struct _PyVThread *vt)
{
    return vt != NULL && vt->blocked;
}

void
_PyVThread_BlockBegin(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (gives_slot_away(vt)) {
        int err = errno;
        pinned_begin(vt, "lock");
        errno = err;
    }
}

void
_PyVThread_BlockEnd(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (gives_slot_away(vt)) {
        pinned_end(vt);
    }
}

// --- Descriptors ------------------------------------------------------------------------------

// ppoll(2) of a virtual thread that is pinned; EINTR when it is interrupted.
static int
pinned_poll(struct _PyVThread *vt, struct pollfd *fds, nfds_t n, struct timespec *ts,
            const char *reason)
{
    // One descriptor more.  Few are waited for here, and mostly one.
    struct pollfd few[8], *all = n < 8 ? few : PyMem_RawMalloc((n + 1) * sizeof(*all));
    if (all == NULL) {
        errno = ENOMEM;
        return -1;
    }
    if (n > 0) {
        memcpy(all, fds, n * sizeof(*all));
    }
    int told = _PyVThread_BeginPollInterrupt(vt);
    all[n] = (struct pollfd){.fd = told, .events = POLLIN};
    pinned_begin(vt, reason);
    int res = ppoll(all, n + 1, ts, NULL);
    int err = errno;
    pinned_end(vt);
    _PyVThread_EndPollInterrupt(vt, told);
    if (n > 0) {
        memcpy(fds, all, n * sizeof(*all));
    }
    if (res > 0 && all[n].revents != 0 && --res == 0) {
        res = -1;
        err = EINTR;
    }
    if (all != few) {
        PyMem_RawFree(all);
    }
    errno = err;
    return res;
}

// poll(2) that gives the slot away, and lets signal handlers run on the main thread.  Returns
// as _PyVThread_Poll, but -1 with EINTR when a handler or an interrupt raised (the exception
// is set).
static int
blocking_poll(struct pollfd *fds, nfds_t n, PyTime_t timeout, const char *reason)
{
    int64_t deadline = deadline_after(timeout);
    for (;;) {
        struct _PyVThread *vt = _PyVThread_Current();
        int64_t end = vt != NULL ? _PyVThread_EndOfWait(vt, deadline) : deadline;
        struct timespec ts, *tsp = NULL;
        if (end != CPOOL_FOREVER) {
            int64_t left = _PyVThread_TimeUntil(end);
            ts = (struct timespec){left / 1000000000, left % 1000000000};
            tsp = &ts;
        }
        int res, err;
        Py_BEGIN_ALLOW_THREADS
        res = vt != NULL ? pinned_poll(vt, fds, n, tsp, reason) : ppoll(fds, n, tsp, NULL);
        err = errno;
        Py_END_ALLOW_THREADS
        if (res == 0 && end < deadline) {
            err = EINTR;            // an alarm
        }
        else if (res >= 0 || err != EINTR) {
            errno = err;
            return res;
        }
        if (PyErr_CheckSignals() < 0 || _PyVThread_RaiseInterrupt() < 0) {
            errno = EINTR;
            return -1;
        }
    }
}

int
_PyVThread_Poll(struct pollfd *fds, nfds_t n, PyTime_t timeout, const char *reason)
{
    struct _PyVThread *vt = _PyVThread_Current();
    int64_t deadline = timeout > 0 ? deadline_after(timeout) : 0;
    int res;
    do {
        if (timeout != 0 && _PyVThread_RaiseInterrupt() < 0) {
            errno = EINTR;
            return -1;
        }
        if (vt == NULL || !_PyVThread_MayUnmount(vt)) {
            return blocking_poll(fds, n, time_left(timeout, deadline), reason);
        }
        struct before b = leave(vt);
        int64_t end = _PyVThread_EndOfWait(vt, timeout < 0 ? CPOOL_FOREVER : deadline);
        res = cpool_wait_fds(fds, n, end, reason);
        take_up(vt, b);
        if (res == 0 && (timeout < 0 || end < deadline)) {
            res = -EINTR;           // an alarm
        }
    } while (res == -EINTR);
    if (res < 0) {
        errno = -res;
        return -1;
    }
    return res;
}

int
_PyVThread_WaitedFd(int ended)
{
    switch (ended) {
    case -ETIMEDOUT:
        return 0;
    case -EPERM:            // can't be polled: a regular file is always ready
        return 1;
    case -ENOMEM:
        PyErr_NoMemory();
        return -1;
    case -ECANCELED:        // closed by another thread while we waited
        ended = -EBADF;
        break;
    }
    if (ended < 0) {
        errno = -ended;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 1;
}

int
_PyVThread_WaitFd(int fd, short events, PyTime_t timeout, const char *reason)
{
    struct _PyVThread *vt = _PyVThread_Current();
    int64_t deadline = timeout > 0 ? deadline_after(timeout) : 0;
    int res;
    do {
        if (_PyVThread_RaiseInterrupt() < 0) {
            return -1;
        }
        if (vt != NULL && _PyVThread_MayUnmount(vt)) {
            struct before b = leave(vt);
            int64_t end = _PyVThread_EndOfWait(vt, timeout < 0 ? CPOOL_FOREVER : deadline);
            res = cpool_wait_fd(fd, events, end, reason);
            take_up(vt, b);
            if (res == -ETIMEDOUT && (timeout < 0 || end < deadline)) {
                res = -EINTR;       // an alarm
            }
        }
        else {
            struct pollfd p = {.fd = fd, .events = events};
            res = blocking_poll(&p, 1, time_left(timeout, deadline), reason);
            if (res < 0 && errno == EINTR) {
                return -1;
            }
            res = res < 0 ? -errno : res == 0 ? -ETIMEDOUT
                  : (p.revents & POLLNVAL) ? -EBADF : 1;
        }
    } while (res == -EINTR);
    return _PyVThread_WaitedFd(res);
}

void
_PyVThread_FdClosing(int fd)
{
    cpool_fd_close_begin(fd);
}

void
_PyVThread_FdClosed(int fd)
{
    cpool_fd_close_end(fd);
}

// --- Time and turns -----------------------------------------------------------------------------

int
_PyVThread_SleepUntil(PyTime_t deadline)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (_PyVThread_RaiseInterrupt() < 0) {
        return -1;
    }
    while (vt != NULL && _PyVThread_MayUnmount(vt)) {
        struct before b = leave(vt);
        int64_t end = _PyVThread_EndOfWait(vt, deadline);
        int res = cpool_sleep(end, "sleep");
        take_up(vt, b);
        if (res == 0 && end == deadline) {
            return 0;
        }
        if (_PyVThread_RaiseInterrupt() < 0) {
            return -1;
        }
    }
    int res = blocking_poll(NULL, 0, _PyVThread_TimeUntil(deadline), "sleep");
    if (res < 0 && errno != EINTR) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return res;
}

void
_PyVThread_Yield(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL || !_PyVThread_MayYield(vt)) {
        return;
    }
    struct before b = leave(vt);
    cpool_yield();
    take_up(vt, b);
}
