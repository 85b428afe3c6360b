#ifndef Py_INTERNAL_VTHREAD_PARK_H
#define Py_INTERNAL_VTHREAD_PARK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* How the parking lot parks a virtual thread: what it asks of the glue.
 *
 * _PyParkingLot_Park() is the one place where locks, events, queues, critical sections
 * and joins wait.  For a virtual thread it goes so:
 *
 *     vt = _PyVThread_BeginPark(detach)         NULL: block the OS thread, as stock does
 *     entry = _PyVThread_WaitEntry(vt)
 *     *park_arg is copied into the entry
 *     bucket lock; compare; enqueue; bucket unlock
 *     detach, if attached (suspends the critical sections)
 *     _PyVThread_Wait(vt, deadline)             until entry->woken, timeout or interrupt
 *       after a timeout: bucket lock; take the entry out, or see that a wake is coming, and
 *       wait for that
 *     *park_arg is copied back                  nobody else can reach the entry any more
 *     _PyVThread_AttachAfterPark(vt)            if detached above: resumes critical sections,
 *                                               so it may park again, with the same entry
 *
 * The attach comes last, because it may reuse the entry.  That is why detaching is
 * the parking lot's part and not _PyVThread_Wait()'s.
 *
 * The waker, without the bucket lock:
 *
 *     next = entry->next; vt = entry->vthread
 *     store entry->woken                        from here on the entry is its owner's
 *     _PyVThread_Wake(vt)
 *
 * A wake that comes before the wait counts (the glue keeps it, like a semaphore).
 * A Wait that returns Py_PARK_OK without entry->woken is waited out, so the glue may wake
 * spuriously.  Conversely a Wake can be late: if a spurious wake-up lets vt see
 * `woken` and go on between the last two lines above, _PyVThread_Wake(vt) reaches a
 * thread that parks elsewhere, or has ended.  The memory of virtual threads is
 * type-stable and every wait tolerates a stale wake, so that does no harm.
 */

#include "pycore_lock.h"            // _PyRawMutex
#include "pycore_parking_table.h"   // struct wait_entry
#include "pycore_semaphore.h"       // _PySemaphore_Wakeup()

// --- What the glue gives ---------------------------------------------------------------

// The current virtual thread, if it can leave its OS thread here: it is not pinned, and
// is either detached already or attached with `detach` true.  Else NULL.  The caller has
// checked _PyVThread_IsCurrent().
// Blocks: no.  Allocates: no.  Switches: no.  Locks held: any that are held while parked.
extern struct _PyVThread *_PyVThread_BeginPark(int detach);

// Storage of vt that its wakers may touch while it is parked.  One a thread: a thread is
// enqueued at one place at a time.
extern struct wait_entry *_PyVThread_WaitEntry(struct _PyVThread *vt);

// Waits for _PyVThread_Wake(vt) until `deadline` (CLOCK_MONOTONIC; PyTime_MAX: for ever).
// Call detached.  Returns Py_PARK_OK (perhaps spuriously), Py_PARK_TIMEOUT, or
// Py_PARK_INTR if the thread is interrupted.
// Blocks: virtual thread.  Allocates: no.  Switches: yes.  Locks held: none.
extern int _PyVThread_Wait(struct _PyVThread *vt, PyTime_t deadline);

// Attaches vt again, after a wait.  As no caller of the parking lot reads errno, resuming a
// critical section may park once more.
// Blocks: virtual thread.  Allocates: no.  Switches: yes.  Locks held: none.
extern void _PyVThread_AttachAfterPark(struct _PyVThread *vt);

// Lets vt's wait return.  From any OS thread, attached or not.
// Blocks: no.  Allocates: no.  Switches: no.  Locks held: any but a bucket's.
extern void _PyVThread_Wake(struct _PyVThread *vt);

// Around a wait of _PySemaphore_Wait() that blocks the OS thread of a virtual thread (it is
// pinned, or the lock is one of those that must not park).  The slot is given away if the
// pool was told of a detach; else the wait is for an internal mutex, or for the world to
// start again, and the caller may hold others.  Both keep errno.
extern void _PyVThread_BlockBegin(void);
extern void _PyVThread_BlockEnd(void);

// --- What the parking lot calls ---------------------------------------------------------
//
// On a build with the GIL all of it vanishes.

#ifdef Py_GIL_DISABLED

#include "pycore_pystate.h"         // _PyThreadState_GET()
#include "pycore_vthread.h"         // _PyVThread_IsCurrent()

// The virtual thread that is to park, or NULL: the caller waits on a semaphore.  A
// park_arg of unknown size can't be kept off the C stack, so its thread doesn't leave it.
static inline struct _PyVThread *
_PyVThread_ToPark(void *park_arg, size_t park_arg_size, int detach)
{
    if (!_PyVThread_IsCurrent() || (park_arg != NULL && park_arg_size == 0)) {
        return NULL;
    }
    return _PyVThread_BeginPark(detach);
}

// _PyParkingLot_Park() of a virtual thread in the bucket of `mutex` and `table`.
// Python/vthread_parking.c
extern int _PyVThread_ParkInBucket(struct _PyVThread *vt, _PyRawMutex *mutex,
                                   _PyParkingTable *table, const void *addr,
                                   const void *expected, size_t size, PyTime_t timeout_ns,
                                   void *park_arg, size_t park_arg_size);

// Wakes the thread of an entry that was dequeued.  The entry is gone afterwards.
static inline void
_PyVThread_WakeEntry(struct wait_entry *waiter)
{
    struct _PyVThread *vt = waiter->vthread;
    if (vt == NULL) {
        _PySemaphore_Wakeup(waiter->sema);
        return;
    }
    // Release: what was written to waiter->arg.  Partner: wait_for_wake().
    _Py_atomic_store_uint8(&waiter->woken, 1);
    _PyVThread_Wake(vt);
}

// Right around the wait of an OS thread for a semaphore, after it has detached, if it does.
static inline void
_PyVThread_SemaphoreBegin(void)
{
    if (_PyVThread_IsCurrent()) {
        _PyVThread_BlockBegin();
    }
}

static inline void
_PyVThread_SemaphoreEnd(void)
{
    if (_PyVThread_IsCurrent()) {
        _PyVThread_BlockEnd();
    }
}

// Whether to spin before parking.  A virtual thread that can park has better things to do
// with its carrier, and what it waits for may be held by a thread that waits for a carrier.
static inline int
_PyVThread_MaySpin(int detach)
{
    return !_PyVThread_IsCurrent() || (!detach && _PyThreadState_GET() != NULL);
}

// When a mutex may be handed over to this waiter, for fairness; stock says `time`.  A mutex of
// the runtime (a critical section, a type's lock) is never handed to a virtual thread:
// it may have no carrier yet, while all carriers wait for that mutex in finalizers, where
// threads can't park.  It is woken, and tries again.  Locks of users stay fair.
static inline PyTime_t
_PyVThread_FairAfter(PyTime_t time, int flags)
{
    return _PyVThread_IsCurrent() && flags == _PY_LOCK_DETACH ? PyTime_MAX : time;
}

#else

#define _PyVThread_ToPark(park_arg, park_arg_size, detach)  ((struct _PyVThread *)NULL)
#define _PyVThread_ParkInBucket(vt, ...)                    Py_PARK_AGAIN
#define _PyVThread_WakeEntry(waiter)                        _PySemaphore_Wakeup((waiter)->sema)
#define _PyVThread_SemaphoreBegin()                         ((void)0)
#define _PyVThread_SemaphoreEnd()                           ((void)0)
#define _PyVThread_MaySpin(detach)                          1
#define _PyVThread_FairAfter(time, flags)                   (time)

#endif

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_PARK_H
