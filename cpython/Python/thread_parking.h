/* PyThread_type_lock on the parking lot; included by thread_pthread.h.
 *
 * Problem: the stock lock is a sem_t, and a thread that waits for one blocks its OS
 * thread.  RLock, buffered files, zlib, bz2, lzma, the import lock's users and many
 * extension modules use it, some over an operation that parks: a BufferedReader keeps its
 * lock while the raw read waits for the descriptor.  When as many virtual threads as there
 * are carriers want that lock, no carrier is left to run its owner.
 *
 * A PyMutex waits in the parking lot, where a virtual thread parks and an OS thread
 * waits for a semaphore.  What callers of PyThread_type_lock rely on stays:
 *
 *  - No thread state is needed, and an attached thread is never detached: callers that
 *    wait long have detached themselves.  So the flags never have _PY_LOCK_DETACH.  A
 *    virtual thread that is detached may park nevertheless, one that is attached blocks its
 *    OS thread (the parking lot decides).
 *  - Anyone may release a lock, not only who acquired it.
 *  - With intr_flag a signal makes the wait return PY_LOCK_INTR; its handler does not
 *    run here.
 *  - Releasing a lock that is not held does nothing, as with the stock lock made of a
 *    mutex and a condition.  (The sem_t one would let two owners in afterwards.)
 *  - PyThread_free_lock() of a held lock is allowed; nobody may wait for it.
 */

#include "pycore_lock.h"            // _PyMutex_LockTimed()

PyThread_type_lock
PyThread_allocate_lock(void)
{
    if (!initialized) {
        PyThread_init_thread();
    }
    // All zero is an unlocked PyMutex.
    return (PyThread_type_lock)PyMem_RawCalloc(1, sizeof(PyMutex));
}

void
PyThread_free_lock(PyThread_type_lock lock)
{
    PyMem_RawFree(lock);
}

PyLockStatus
PyThread_acquire_lock_timed(PyThread_type_lock lock, PY_TIMEOUT_T microseconds,
                            int intr_flag)
{
    // The caller can't be told of an overflow: 292 years are as good as for ever.
    PyTime_t timeout = microseconds < 0 ? -1 : _PyTime_FromMicrosecondsClamp(microseconds);
    _PyLockFlags flags = _Py_LOCK_DONT_DETACH;
    if (intr_flag) {
        flags |= _Py_LOCK_RETURN_INTR;
    }
    return _PyMutex_LockTimed((PyMutex *)lock, timeout, flags);
}

void
PyThread_release_lock(PyThread_type_lock lock)
{
    (void)_PyMutex_TryUnlock((PyMutex *)lock);
}
