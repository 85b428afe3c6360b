#ifndef Py_INTERNAL_OSTHREAD_H
#define Py_INTERNAL_OSTHREAD_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* How to reach what belongs to the OS thread (pycore_osthread_state.h), and how to keep a
 * virtual thread on it.
 */

#include "pycore_tstate.h"        // _PyThreadStateImpl, struct _PyPlatformThreadState

// The state of the OS thread that runs the caller, or NULL.
//
// Set while a thread state is attached, and while a virtual thread is mounted (a carrier
// keeps it when it unmounts one).  NULL on a platform thread that is detached: its thread state
// may be freed under it during finalization, so nobody may look into it then.  It follows
// that `_Py_tss_os != NULL && _Py_tss_os->vthread != NULL` is safe everywhere.
#if defined(HAVE_THREAD_LOCAL) && !defined(Py_BUILD_CORE_MODULE)
extern _Py_thread_local _PyOSThreadState *_Py_tss_os;
#else
   // Shared stdlib modules would need the dynamic TLS model, which is a call too.
#  define _Py_tss_os (_PyOSThread_GetCurrent())
#endif

// Export for shared stdlib modules, used via _Py_tss_os.
PyAPI_FUNC(_PyOSThreadState *) _PyOSThread_GetCurrent(void);

// What belongs to the OS thread that `tstate` runs on.  For the caller's own state, or any
// state on interp->threads.
static inline _PyOSThreadState *
_Py_OS(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->os;
}

// What belongs to the caller's OS thread.  Call attached.  The same as
// _Py_OS(_PyThreadState_GET()), with one load less: this is on the path of each allocation.
static inline _PyOSThreadState *
_PyOSThread_GET(void)
{
    return _Py_tss_os;
}

// True for an OS thread's own state, false for a virtual thread's.  Safe for any state that
// is allocated: compares addresses, follows no pointer (a virtual thread may be unmounted,
// and its last carrier freed, at any time).
static inline int
_PyOSThread_IsOwn(PyThreadState *tstate)
{
    void *os = _Py_atomic_load_ptr_relaxed(&((_PyThreadStateImpl *)tstate)->os);
    return os == &((struct _PyPlatformThreadState *)tstate)->own;
}

// The own state of the OS thread that runs `tstate`: holds the attach state and the GIL, and
// is the one that stands on interp->threads.
static inline PyThreadState *
_PyOSThread_Own(PyThreadState *tstate)
{
#ifdef Py_GIL_DISABLED
    return _Py_OS(tstate)->own;
#else
    return tstate;
#endif
}

// The virtual thread's state that is mounted on the OS thread of `own`, or NULL.  It may be
// unmounted when this returns, but its memory stays a thread state.
// Sequentially consistent; partner: _PyOSThread_Mount().
static inline PyThreadState *
_PyOSThread_Mounted(PyThreadState *own)
{
    assert(_PyOSThread_IsOwn(own));
    return (PyThreadState *)_Py_atomic_load_ptr(
        &((struct _PyPlatformThreadState *)own)->own.mounted);
}

// The word with the attach state (_Py_THREAD_ATTACHED, ...) of `tstate`.
static inline int *
_PyThreadState_AttachWord(PyThreadState *tstate)
{
    return &_PyOSThread_Own(tstate)->state;
}

// Keeps the calling thread on its OS thread until the matching unpin: it blocks the OS
// thread instead of parking.  Nests.  For code that keeps a pointer into the OS thread's
// state, or relies on the thread id, over something that can wait.  `tstate` is the
// caller's, and must still be allocated at the unpin.
static inline void
_PyOSThread_Pin(PyThreadState *tstate)
{
    _Py_OS(tstate)->pin_count++;
}

static inline void
_PyOSThread_Unpin(PyThreadState *tstate)
{
    assert(_Py_OS(tstate)->pin_count > 0);
    _Py_OS(tstate)->pin_count--;
}

// The OS thread, if it runs a virtual thread, else NULL.  Attached or not.
static inline _PyOSThreadState *
_PyOSThread_GetCarrier(void)
{
    _PyOSThreadState *os = _Py_tss_os;
    return (os != NULL && os->vthread != NULL) ? os : NULL;
}

// The same where the caller may be detached, and its state may have been freed already
// (a daemon thread that attaches after finalization).  Returns what the unpin takes.
static inline _PyOSThreadState *
_PyOSThread_PinCurrent(void)
{
    _PyOSThreadState *os = _PyOSThread_GetCarrier();
    if (os != NULL) {
        os->pin_count++;
    }
    return os;
}

static inline void
_PyOSThread_UnpinCurrent(_PyOSThreadState *os)
{
    if (os != NULL) {
        assert(os->pin_count > 0);
        os->pin_count--;
    }
}

// When `tstate` becomes current, and right before it stops being current, on this OS thread.
#if !defined(Py_BUILD_CORE_MODULE)
static inline void
_PyOSThread_Enter(PyThreadState *tstate)
{
    _Py_tss_os = _Py_OS(tstate);
}

static inline void
_PyOSThread_Leave(void)
{
    if (_Py_tss_os->vthread == NULL) {
        _Py_tss_os = NULL;
    }
}
#endif

// Links a newly allocated and zeroed platform thread's state with its OS part.
static inline _PyThreadStateImpl *
_PyOSThread_Init(struct _PyPlatformThreadState *platform)
{
    platform->ts.os = &platform->own;
    platform->own.own = &platform->ts.base;
    return &platform->ts;
}

// Gives back what the OS thread of `tstate`, an own state, has: freelists, refcounts to
// merge, allocation count, delayed frees, heaps.  The part of PyThreadState_Clear() that a
// virtual thread's end must not do.  Call attached, from any thread.
// Blocks: no.  May run: finalizers.
extern void _PyOSThread_Clear(PyThreadState *tstate);

// Makes `tstate`, a virtual thread's state, the one that this OS thread runs; it is detached
// before and after.  Brings it up to date with what happened to this OS thread and to the
// interpreter since it last ran: events, instrumentation version, native id, GILState's idea of
// the current thread.  `vthread` is stored for the glue.
// Blocks: no.  Allocates: no.  Locks held: none.
extern void _PyOSThread_Mount(_PyOSThreadState *os, PyThreadState *tstate,
                              struct _PyVThread *vthread);

// The opposite.  Events that are the OS thread's business stay with it.
extern void _PyOSThread_Unmount(_PyOSThreadState *os, PyThreadState *tstate);

// Makes `to` the current thread state in place of `from`, on this OS thread, and mounts it if it
// is no own state.  The caller is attached before and after, so that the OS thread's state can't
// be freed under it, and has suspended from's critical sections.  `from` keeps its OS
// thread: one of the two is above the other, and will switch back.
// Blocks: no.  Allocates: no.  Locks held: none.
extern void _PyOSThread_Switch(_PyOSThreadState *os, PyThreadState *from, PyThreadState *to);
// Then: `tstate` is not on this OS thread any more.
extern void _PyOSThread_Left(PyThreadState *tstate);

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_OSTHREAD_H
