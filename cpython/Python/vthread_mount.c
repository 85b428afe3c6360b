/* The fields of a thread state that are the scheduler's business.
 *
 * A virtual thread's PyThreadState is its own for life; what belongs to the OS thread is
 * reached through `os`, which _PyOSThread_Mount() sets (osthread.c says which fields follow).
 * Mount and unmount run on the carrier's own stack, while the virtual thread's stack is not
 * in use; both touch no object, since nobody is attached.
 */

#include "Python.h"
#include "pycore_ceval.h"           // _PY_EVAL_EVENTS_MASK
#include "pycore_frame.h"           // _PyInterpreterFrame
#include "pycore_instruments.h"     // _Py_Instrument()
#include "pycore_interp.h"
#include "pycore_pystate.h"
#include "pycore_vthread_state.h"

// Ids of virtual threads' states are a sequence of their own, far from that of platform
// threads, so that starting one does not need the lock of the list that it is not on.
static uint64_t next_id = (uint64_t)1 << 48;

static uintptr_t
instrumentation_version(PyThreadState *tstate)
{
    return _Py_atomic_load_uintptr_relaxed(&tstate->eval_breaker)
           & ~(uintptr_t)_PY_EVAL_EVENTS_MASK;
}

void
_PyVThread_InitState(struct _PyVThread *vt, PyInterpreterState *interp)
{
    _PyThreadState_InitVirtual(&vt->ts, interp, _Py_atomic_add_uint64(&next_id, 1));
    vt->ts.vthread = vt;
    vt->ts.base.thread_id = (unsigned long)(uintptr_t)vt;
    vt->seen_version = instrumentation_version(&vt->ts.base);
}

void
_PyVThread_Mount(struct cpool_carrier *c, struct cpool_task *t)
{
    struct _PyVThread *vt = _PyVThread_FromTask(t);
    _PyOSThread_Mount(cpool_carrier_get_data(c), &vt->ts.base, vt);
}

void
_PyVThread_Unmount(struct cpool_carrier *c, struct cpool_task *t)
{
    struct _PyVThread *vt = _PyVThread_FromTask(t);
    _PyOSThreadState *os = cpool_carrier_get_data(c);
    assert(os->pin_count == 0);
    PyThreadState *tstate = &vt->ts.base;
    if (_Py_atomic_load_uintptr_relaxed(&tstate->eval_breaker) & _PY_VTHREAD_YIELD_BIT) {
        // It just has yielded, one way or another.
        _Py_atomic_and_uintptr(&tstate->eval_breaker, ~(uintptr_t)_PY_VTHREAD_YIELD_BIT);
    }
    _PyOSThread_Unmount(os, tstate);
}

// Code that runs while sys.monitoring or sys.settrace changes is instrumented in all frames
// that the stop of the world finds; those of a thread that was unmounted are found here.  A
// thread that unmounts meanwhile, detached, may have been given the version and not been found:
// so only what is done here counts as seen, and a thread that was found looks once more.
void
_PyVThread_AfterMount(struct _PyVThread *vt)
{
    PyThreadState *tstate = &vt->ts.base;
    uintptr_t version = instrumentation_version(tstate);
    if (version == vt->seen_version) {
        return;
    }
    vt->seen_version = version;
    int err = errno;                // the attach may be one whose caller reads it
    _PyInterpreterFrame *frame = tstate->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (frame->owner == FRAME_OWNED_BY_CSTACK) {
            continue;
        }
        if (_Py_Instrument(_PyFrame_GetCode(frame), tstate->interp) < 0) {
            PyErr_FormatUnraisable("Exception ignored while instrumenting a resumed thread");
        }
    }
    errno = err;
}
