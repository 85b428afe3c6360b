/* The parking lot's wait of a virtual thread.  The protocol stands in
 * pycore_vthread_park.h; this file is its parker's side.
 *
 * What never happens here: another thread being given an address on the C stack of
 * this one.  Waiting threads may be frozen, their pages given away.
 */

#include "Python.h"

#ifdef Py_GIL_DISABLED

#include "pycore_parking_lot.h"
#include "pycore_pystate.h"         // _PyThreadState_GET()
#include "pycore_time.h"            // _PyDeadline_Init()
#include "pycore_vthread_park.h"

// As atomic_memcmp() of parking_lot.c.
static int
is_expected(const void *addr, const void *expected, size_t size)
{
    switch (size) {
    case 1: return _Py_atomic_load_uint8(addr) == *(const uint8_t *)expected;
    case 2: return _Py_atomic_load_uint16(addr) == *(const uint16_t *)expected;
    case 4: return _Py_atomic_load_uint32(addr) == *(const uint32_t *)expected;
    case 8: return _Py_atomic_load_uint64(addr) == *(const uint64_t *)expected;
    default: Py_UNREACHABLE();
    }
}

// Py_PARK_OK only if the entry was dequeued and its waker is done with it.
static int
wait_for_wake(struct _PyVThread *vt, struct wait_entry *wait, PyTime_t deadline, int intr)
{
    int res;
    do {
        res = _PyVThread_Wait(vt, deadline, intr);
        // Partner: _PyVThread_WakeEntry().
    } while (res == Py_PARK_OK && !_Py_atomic_load_uint8(&wait->woken));
    return res;
}

int
_PyVThread_QueueInBucket(struct _PyVThread *vt, _PyRawMutex *mutex, _PyParkingTable *table,
                         const void *addr, const void *expected, size_t size,
                         void *park_arg, size_t park_arg_size)
{
    struct wait_entry *wait = _PyVThread_WaitEntry(vt);
    assert(park_arg_size <= sizeof(wait->arg));
    wait->addr = (uintptr_t)addr;
    wait->vthread = vt;
    wait->sema = NULL;
    wait->park_arg = NULL;
    wait->is_unparking = false;
    wait->woken = 0;
    if (park_arg != NULL) {
        memcpy(&wait->arg, park_arg, park_arg_size);
        wait->park_arg = &wait->arg;
    }

    _PyRawMutex_Lock(mutex);
    if (!is_expected(addr, expected, size)) {
        _PyRawMutex_Unlock(mutex);
        return Py_PARK_AGAIN;
    }
    _PyParkingTable_Enqueue(table, wait);
    _PyRawMutex_Unlock(mutex);
    return Py_PARK_OK;
}

int
_PyVThread_UnqueueFromBucket(struct _PyVThread *vt, _PyRawMutex *mutex,
                             _PyParkingTable *table)
{
    struct wait_entry *wait = _PyVThread_WaitEntry(vt);
    _PyRawMutex_Lock(mutex);
    bool is_unparking = wait->is_unparking;
    if (!is_unparking) {
        _PyParkingTable_Remove(table, wait);
    }
    _PyRawMutex_Unlock(mutex);
    return !is_unparking;
}

int
_PyVThread_ParkInBucket(struct _PyVThread *vt, _PyRawMutex *mutex, _PyParkingTable *table,
                        const void *addr, const void *expected, size_t size,
                        PyTime_t timeout_ns, void *park_arg, size_t park_arg_size,
                        int flags)
{
    struct wait_entry *wait = _PyVThread_WaitEntry(vt);
    if (_PyVThread_QueueInBucket(vt, mutex, table, addr, expected, size, park_arg,
                                 park_arg_size) != Py_PARK_OK)
    {
        return Py_PARK_AGAIN;
    }

    // _PyVThread_BeginPark() has seen that it is detached, or may be.
    PyThreadState *tstate = _PyThreadState_GET();
    if (tstate != NULL) {
        _PyVThread_DetachToPark(vt);
    }

    PyTime_t deadline = timeout_ns < 0 ? PyTime_MAX : _PyDeadline_Init(timeout_ns);
    int res = wait_for_wake(vt, wait, deadline, flags & _PyVThread_PARK_INTR);
    if (res != Py_PARK_OK) {
        bool is_unparking = !_PyVThread_UnqueueFromBucket(vt, mutex, table);
        // Another thread has started to unpark this one and will touch the entry once more.
        while (is_unparking && res != Py_PARK_OK) {
            res = wait_for_wake(vt, wait, PyTime_MAX, 0);
        }
    }
    if (park_arg != NULL) {
        memcpy(park_arg, &wait->arg, park_arg_size);
    }

    if (tstate != NULL) {
        _PyVThread_AttachAfterPark(vt);
    }
    return res;
}

#endif  // Py_GIL_DISABLED
