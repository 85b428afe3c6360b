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
 *     vt = _PyVThread_BeginPark(flags)          NULL: block the OS thread, as stock does
 *     entry = _PyVThread_WaitEntry(vt)
 *     *park_arg is copied into the entry
 *     bucket lock; compare; enqueue; bucket unlock
 *     detach, if attached (suspends the critical sections)
 *     _PyVThread_Wait(vt, deadline, intr)       until entry->woken, timeout or interrupt
 *       after the latter two: bucket lock; take the entry out, or see that a wake is coming,
 *       and wait for that: what was handed over is not lost, and an interrupt stays pending
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
 *
 * `detach` of the parking lot's functions holds _PyLockFlags: whether to detach, and whether
 * the caller handles Py_PARK_INTR.  To a caller that does it is returned for an interrupt, and
 * again for as long as that is pending, so it raises it (_PyVThread_RaiseInterrupt(), which
 * Py_MakePendingCalls() calls); any other one is not told.
 */

#include "pycore_lock.h"            // _PyRawMutex
#include "pycore_parking_table.h"   // struct wait_entry
#include "pycore_semaphore.h"       // _PySemaphore_Wakeup()

// --- What the glue gives ---------------------------------------------------------------

// The current virtual thread, if it can leave its OS thread here: it is not pinned, and
// is either detached already or attached with _PY_LOCK_DETACH.  Else NULL.  The caller has
// checked _PyVThread_IsCurrent().
// Blocks: no.  Allocates: no.  Switches: no.  Locks held: any that are held while parked.
extern struct _PyVThread *_PyVThread_BeginPark(int flags);

// Storage of vt that its wakers may touch while it is parked.  One a thread: a thread is
// enqueued at one place at a time.
extern struct wait_entry *_PyVThread_WaitEntry(struct _PyVThread *vt);

// Waits for _PyVThread_Wake(vt) until `deadline` (CLOCK_MONOTONIC; PyTime_MAX: for ever).
// Call detached.  Returns Py_PARK_OK (perhaps spuriously), Py_PARK_TIMEOUT, or, if `intr`,
// Py_PARK_INTR while an interrupt is pending.
// Blocks: virtual thread.  Allocates: no.  Switches: yes.  Locks held: none.
extern int _PyVThread_Wait(struct _PyVThread *vt, PyTime_t deadline, int intr);

// Detaches vt, which then waits: without telling the pool that it blocks.
// Blocks: no.  Allocates: no.  Switches: no.  Locks held: none.
extern void _PyVThread_DetachToPark(struct _PyVThread *vt);

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
// The same for a wait that an interrupt ends by posting the semaphore, and an alarm by a shorter
// timeout.  Begin: 0 if none may end it here.  End: changes the wait's result to Py_PARK_INTR
// if one has; 1 if the semaphore has a post that the wait has not taken, and now must be.
extern int _PyVThread_BeginSemaphoreInterrupt(_PySemaphore *sema, PyTime_t *timeout);
extern int _PyVThread_EndSemaphoreInterrupt(int told, int *res);

// --- What the parking lot calls ---------------------------------------------------------
//
// On a build with the GIL all of it vanishes.

// Of a caller that looks for Py_PARK_INTR, of the parking lot's `detach`.
#define _PyVThread_PARK_INTR (_PY_LOCK_HANDLE_SIGNALS | _Py_LOCK_RETURN_INTR)

#ifdef Py_GIL_DISABLED

#include "pycore_pystate.h"         // _PyThreadState_GET()
#include "pycore_vthread.h"         // _PyVThread_IsCurrent()

// The virtual thread that is to park, or NULL: the caller waits on a semaphore.  A
// park_arg of unknown size can't be kept off the C stack, so its thread doesn't leave it.
static inline struct _PyVThread *
_PyVThread_ToPark(void *park_arg, size_t park_arg_size, int flags)
{
    if (!_PyVThread_IsCurrent() || (park_arg != NULL && park_arg_size == 0)) {
        return NULL;
    }
    return _PyVThread_BeginPark(flags);
}

// _PyParkingLot_Park() of a virtual thread in the bucket of `mutex` and `table`.
// Python/vthread_parking.c
extern int _PyVThread_ParkInBucket(struct _PyVThread *vt, _PyRawMutex *mutex,
                                   _PyParkingTable *table, const void *addr,
                                   const void *expected, size_t size, PyTime_t timeout_ns,
                                   void *park_arg, size_t park_arg_size, int flags);

// Its halves, for a thread that waits without a stack (vthread_soft.c).  Queue: Py_PARK_OK, and
// then vt's entry is in the table; or Py_PARK_AGAIN.  Unqueue, if `woken` is not set: true if
// it has taken the entry out; false if a wake-up is coming, which has to be waited for.
extern int _PyVThread_QueueInBucket(struct _PyVThread *vt, _PyRawMutex *mutex,
                                    _PyParkingTable *table, const void *addr,
                                    const void *expected, size_t size, void *park_arg,
                                    size_t park_arg_size);
extern int _PyVThread_UnqueueFromBucket(struct _PyVThread *vt, _PyRawMutex *mutex,
                                        _PyParkingTable *table);

// The same of the current virtual thread, by address.  Python/parking_lot_soft.h
PyAPI_FUNC(int) _PyParkingLot_Queue(const void *addr, const void *expected, size_t size,
                                    void *park_arg, size_t park_arg_size);
extern int _PyParkingLot_Unqueue(const void *addr);

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
// Begin returns what End is to be given; for End see _PyVThread_EndSemaphoreInterrupt().
static inline int
_PyVThread_SemaphoreBegin(_PySemaphore *sema, int flags, PyTime_t *timeout)
{
    if (!_PyVThread_IsCurrent()) {
        return 0;
    }
    int told = flags & _PyVThread_PARK_INTR
               ? _PyVThread_BeginSemaphoreInterrupt(sema, timeout) : 0;
    _PyVThread_BlockBegin();
    return told;
}

static inline int
_PyVThread_SemaphoreEnd(int told, int *res)
{
    if (!_PyVThread_IsCurrent()) {
        return 0;
    }
    _PyVThread_BlockEnd();
    return told && _PyVThread_EndSemaphoreInterrupt(told, res);
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
#define _PyVThread_SemaphoreBegin(sema, flags, timeout)     0
#define _PyVThread_SemaphoreEnd(told, res)                  ((void)(told), 0)
#define _PyVThread_MaySpin(detach)                          1
#define _PyVThread_FairAfter(time, flags)                   (time)

#endif

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_PARK_H
