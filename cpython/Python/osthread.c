/* What belongs to an OS thread: its end, and the mounting of virtual threads on it.
 *
 * The struct and its rules: pycore_osthread_state.h.  The events that mount and unmount hand
 * over: pycore_osthread_events.h.  This file creates no thread state and frees none;
 * pystate.c does, for platform threads, and the glue of the scheduler for virtual ones.
 *
 * Mount and unmount are on the path of every switch.  Budget: 25 ns for the two, of which
 * two thirds are their sequentially consistent stores and the thread-specific slot of
 * the GILState API.
 */

#include "Python.h"
#include "pycore_brc.h"           // _Py_brc_remove_thread()
#include "pycore_ceval.h"         // _PY_EVAL_EVENTS_MASK
#include "pycore_freelist.h"      // _PyObject_ClearFreeLists()
#include "pycore_osthread.h"
#include "pycore_pymem.h"         // _PyMem_AbandonDelayed()
#include "pycore_pystate.h"       // _Py_object_freelists_GET()

// Extensions read PyThreadState's fields at fixed offsets, so the split must not move them,
// and a field that upstream adds must be sorted into "thread" or "OS thread" by a human
// (hence an exact size: 304 bytes in 3.13.5, and datastack_cached_chunk since then).
#if SIZEOF_VOID_P == 8 && SIZEOF_LONG == 8
static_assert(offsetof(PyThreadState, threading_local_sentinel) == 296,
              "PyThreadState changed: does the new field belong to the OS thread?");
static_assert(sizeof(PyThreadState) == (PY_VERSION_HEX <= 0x030d05f0 ? 304 : 312),
              "PyThreadState grew: does the new field belong to the OS thread?");
#endif
static_assert(offsetof(_PyThreadStateImpl, base) == 0,
              "a _PyThreadStateImpl is cast to PyThreadState");
static_assert(offsetof(struct _PyPlatformThreadState, ts) == 0,
              "a platform thread's state is cast to PyThreadState");

_Py_thread_local _PyOSThreadState *_Py_tss_os = NULL;

_PyOSThreadState *
_PyOSThread_GetCurrent(void)
{
    return _Py_tss_os;
}


void
_PyOSThread_Clear(PyThreadState *tstate)
{
    assert(_PyOSThread_IsOwn(tstate));
#ifdef Py_GIL_DISABLED
    // Each thread should clear own freelists in free-threading builds.
    _PyObject_ClearFreeLists(_Py_object_freelists_GET(), 1);

    // Remove ourself from the biased reference counting table of threads.  Runs
    // finalizers, for the last time with these heaps.
    _Py_brc_remove_thread(tstate);

    // Flush the local GC allocation count to the global count, otherwise it is lost.
    struct _gc_thread_state *gc = &_Py_OS(tstate)->gc;
    _Py_atomic_add_int(&tstate->interp->gc.generations[0].count,
                       (int)gc->alloc_count);
    gc->alloc_count = 0;
#endif

    // Merge our queue of pointers to be freed into the interpreter queue.
    _PyMem_AbandonDelayed(tstate);

    _PyThreadState_ClearMimallocHeaps(tstate);
}


#ifdef Py_GIL_DISABLED
// The thread that sys.monitoring or a trace function was switched on in has set the
// interpreter's version, and then that of each OS thread and what is mounted on it.
// Partner: set_global_version() (instrumentation.c).  Its order is interpreter, then
// mounted threads; ours is mounted, then the interpreter's, and once more if it changed.
static void
refresh_version(PyThreadState *tstate)
{
    uintptr_t *global = &tstate->interp->ceval.instrumentation_version;
    uintptr_t version = _Py_atomic_load_uintptr(global);
    for (;;) {
        uintptr_t old = _Py_atomic_load_uintptr_relaxed(&tstate->eval_breaker);
        if ((old & ~_PY_EVAL_EVENTS_MASK) != version) {
            uintptr_t new = (old & _PY_EVAL_EVENTS_MASK) | version;
            if (!_Py_atomic_compare_exchange_uintptr(&tstate->eval_breaker,
                                                     &old, new)) {
                continue;
            }
        }
        uintptr_t again = _Py_atomic_load_uintptr(global);
        if (again == version) {
            return;
        }
        version = again;
    }
}
#endif

// The GILState API's idea of the current thread follows the mounted one, also while it is
// detached: a C library that calls back into Python must find it, and never one that ran
// here before.  Done here and not at attach, because then the flags of a thread that runs
// elsewhere meanwhile would have to be written.
static void
bind_gilstate(PyThreadState *from, PyThreadState *to)
{
    if (PyThread_tss_set(&_PyRuntime.autoTSSkey, to) != 0) {
        Py_FatalError("cannot bind the GILState API to a mounted thread");
    }
    from->_status.bound_gilstate = 0;
    to->_status.bound_gilstate = 1;
}

// Of a virtual thread, which others may look at meanwhile (_PyVThread_Inspect).
static void
set_native_id(PyThreadState *tstate, unsigned long id)
{
    _Py_atomic_store_ulong_relaxed(&tstate->native_thread_id, id);
}

void
_PyOSThread_Mount(_PyOSThreadState *os, PyThreadState *tstate,
                  struct _PyVThread *vthread)
{
    _PyThreadStateImpl *impl = (_PyThreadStateImpl *)tstate;
    assert(os->mounted == NULL && os->vthread == NULL && os->pin_count == 0);
    assert(impl->os == NULL);
    assert(_PyThreadState_GET() == NULL);
    assert(tstate->interp == os->own->interp);

    _Py_atomic_store_ptr_relaxed(&impl->os, os);
    os->vthread = vthread;
    _Py_tss_os = os;
    set_native_id(tstate, os->own->native_thread_id);
    bind_gilstate(os->own, tstate);

    // Partner: _PyOSThread_SetEvents(), set_global_version()
    _Py_atomic_store_ptr(&os->mounted, tstate);
#ifdef Py_GIL_DISABLED
    uintptr_t bits = _Py_atomic_load_uintptr(&os->own->eval_breaker);
    bits &= _PY_OSTHREAD_EVENTS;
    if (bits != 0) {
        _Py_atomic_or_uintptr(&tstate->eval_breaker, bits);
    }
    refresh_version(tstate);
#endif
}

void
_PyOSThread_Unmount(_PyOSThreadState *os, PyThreadState *tstate)
{
    _PyThreadStateImpl *impl = (_PyThreadStateImpl *)tstate;
    assert(os == _Py_tss_os && os->mounted == tstate && impl->os == os);
    assert(os->pin_count == 0);
    assert(_PyThreadState_GET() == NULL);

    _Py_atomic_store_ptr(&os->mounted, NULL);
#ifdef Py_GIL_DISABLED
    uintptr_t bits = _Py_atomic_load_uintptr(&tstate->eval_breaker);
    bits &= _PY_OSTHREAD_EVENTS;
    if (bits != 0) {
        _Py_atomic_or_uintptr(&os->own->eval_breaker, bits);
        _Py_atomic_and_uintptr(&tstate->eval_breaker, ~bits);
    }
#endif
    bind_gilstate(tstate, os->own);
    set_native_id(tstate, 0);
    os->vthread = NULL;
    _Py_atomic_store_ptr_relaxed(&impl->os, NULL);
}

void
_PyOSThread_Switch(_PyOSThreadState *os, PyThreadState *from, PyThreadState *to)
{
    assert(os == _Py_tss_os && _PyThreadState_GET() == from && from != to);
    assert(from->interp == to->interp);
    PyThreadState *own = os->own;
    _Py_atomic_store_ptr_relaxed(&((_PyThreadStateImpl *)to)->os, os);
    set_native_id(to, own->native_thread_id);
    to->thread_id = from->thread_id;
    bind_gilstate(from, to);
    from->_status.active = 0;
    to->_status.active = 1;
    _Py_tss_tstate = to;

    // Partner: _PyOSThread_SetEvents(), set_global_version().  The word of the own state has all
    // events; what is set in from's after this is spurious.
    _Py_atomic_store_ptr(&os->mounted, to == own ? NULL : to);
#ifdef Py_GIL_DISABLED
    if (from != own) {
        uintptr_t bits = _Py_atomic_load_uintptr(&from->eval_breaker);
        bits &= _PY_OSTHREAD_EVENTS;
        if (bits != 0) {
            _Py_atomic_or_uintptr(&own->eval_breaker, bits);
            _Py_atomic_and_uintptr(&from->eval_breaker, ~bits);
        }
    }
    if (to != own) {
        uintptr_t bits = _Py_atomic_load_uintptr(&own->eval_breaker);
        bits &= _PY_OSTHREAD_EVENTS;
        if (bits != 0) {
            _Py_atomic_or_uintptr(&to->eval_breaker, bits);
        }
        refresh_version(to);
    }
#endif
}

void
_PyOSThread_Left(PyThreadState *tstate)
{
    assert(tstate != _PyThreadState_GET() && !_PyOSThread_IsOwn(tstate));
    set_native_id(tstate, 0);
    _Py_atomic_store_ptr_relaxed(&((_PyThreadStateImpl *)tstate)->os, NULL);
}
