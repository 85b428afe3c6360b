#ifndef Py_INTERNAL_OSTHREAD_EVENTS_H
#define Py_INTERNAL_OSTHREAD_EVENTS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* The eval breaker of a mounted virtual thread.
 *
 * The eval loop looks at the breaker of the thread state that it runs, but several events are
 * meant for an OS thread: "stop" (stop-the-world), "you have refcounts to merge", "drop the
 * GIL".  Who raises one finds an own state (on interp->threads, in the brc table, as holder
 * of the GIL), which is not what runs when a virtual thread is mounted.  So each such
 * bit is set in both words:
 *
 *     raise (any thread)                       mount (the OS thread)
 *     1. own->eval_breaker |= bit              1. os->mounted = vt
 *     2. m = os->mounted                       2. bits = own->eval_breaker
 *     3. if m: m->eval_breaker |= bit          3. vt->eval_breaker |= bits
 *
 * Steps 1 and 2 are sequentially consistent on both sides: either the raiser sees what is
 * being mounted, or the mount sees the bit.  The word of `own` is the durable one:
 *
 *     consume (vt, in the eval loop)           unmount (the OS thread)
 *     1. vt->eval_breaker &= ~bit              1. os->mounted = NULL
 *     2. own->eval_breaker &= ~bit             2. own->eval_breaker |= vt's bits
 *     3. do what the event asks for            3. vt->eval_breaker &= ~bits
 *
 * What the event is about (an object in the queue, a stop request) is published before the bit
 * is raised, so a bit that is cleared between its two stores is served by step 3; in the other
 * orders the event is looked for once more, in vain.
 *
 * A raiser that read `mounted` may set the bit after the unmount.  The states of virtual
 * threads are type-stable memory, never given back to the allocator, so this is a
 * spurious event at worst.
 *
 * Bits for one thread (asynchronous exception) are set in its own word only, and travel with it.
 */

#include "pycore_osthread.h"      // _PyOSThread_IsOwn

// Events that are the OS thread's: set in both words, left behind at unmount.
// (Signals are the main thread's, which carries no virtual thread, but continuations.)
#define _PY_OSTHREAD_EVENTS                                         \
    (_PY_GIL_DROP_REQUEST_BIT | _PY_CALLS_TO_DO_BIT |               \
     _PY_SIGNALS_PENDING_BIT |                                      \
     _PY_GC_SCHEDULED_BIT | _PY_EVAL_PLEASE_STOP_BIT |              \
     _PY_EVAL_EXPLICIT_MERGE_BIT)

// Raises events for `tstate`: an own state, or any virtual thread's.
static inline void
_PyOSThread_SetEvents(PyThreadState *tstate, uintptr_t bits)
{
    _Py_atomic_or_uintptr(&tstate->eval_breaker, bits);
#ifdef Py_GIL_DISABLED
    if (_PyOSThread_IsOwn(tstate) && (bits & _PY_OSTHREAD_EVENTS)) {
        PyThreadState *m = _PyOSThread_Mounted(tstate);
        if (m != NULL) {
            _Py_atomic_or_uintptr(&m->eval_breaker, bits & _PY_OSTHREAD_EVENTS);
        }
    }
#endif
}

// Takes events back, or marks them as being served.  `tstate` is an own state, or the
// caller's.  The own state's word is cleared last: what is raised meanwhile then stays set in
// at least the mounted one's, and is moved by the unmount.
static inline void
_PyOSThread_ClearEvents(PyThreadState *tstate, uintptr_t bits)
{
#ifdef Py_GIL_DISABLED
    if (bits & _PY_OSTHREAD_EVENTS) {
        if (_PyOSThread_IsOwn(tstate)) {
            PyThreadState *m = _PyOSThread_Mounted(tstate);
            if (m != NULL) {
                _Py_atomic_and_uintptr(&m->eval_breaker,
                                       ~(bits & _PY_OSTHREAD_EVENTS));
            }
        }
        else {
            _Py_atomic_and_uintptr(&tstate->eval_breaker, ~bits);
            tstate = _Py_OS(tstate)->own;
            bits &= _PY_OSTHREAD_EVENTS;
        }
    }
#endif
    _Py_atomic_and_uintptr(&tstate->eval_breaker, ~bits);
}

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_OSTHREAD_EVENTS_H
