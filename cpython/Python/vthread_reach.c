/* What one thread does to others: raises an exception in one of them, traces all.
 *
 * CPython finds the others on interp->threads, where no virtual thread is.  The slabs have
 * them all, but a struct there may be a thread that is about to end and has dropped its
 * references: what it is given then would be leaked, or found by the next thread that gets
 * the struct.  So a thread says in `reachable` for how long it can be given something.  Only
 * attached threads write that, so it holds still while the world is stopped, wherever the
 * thread is: mounted or not, frozen or not, its thread state is in its struct.
 *
 * Never here: what is done to the thread with these fields.  It sees the eval breaker's bit when
 * it runs its next Python code, and its code is instrumented after its next mount
 * (vthread_mount.c).
 */

#include "Python.h"
#include "pycore_ceval.h"           // _PY_ASYNC_EXCEPTION_BIT
#include "pycore_pystate.h"
#include "pycore_vthread_state.h"

static struct _PyVThread *
reachable_thread(PyInterpreterState *interp, unsigned long ident)
{
    struct _PyVThread *vt = _PyVThread_FromIdent(ident);
    return vt != NULL && vt->reachable && vt->ts.base.interp == interp ? vt : NULL;
}

int
_PyVThread_SetAsyncExc(PyInterpreterState *interp, unsigned long ident, PyObject *exc)
{
    if (_PyVThread_FromIdent(ident) == NULL) {
        return 0;                   // no reason to stop the world
    }
    PyObject *old = NULL;
    _PyEval_StopTheWorld(interp);
    struct _PyVThread *vt = reachable_thread(interp, ident);
    if (vt != NULL) {
        PyThreadState *tstate = &vt->ts.base;
        old = _Py_atomic_exchange_ptr(&tstate->async_exc, Py_XNewRef(exc));
        _Py_set_eval_breaker_bit(tstate, _PY_ASYNC_EXCEPTION_BIT);
    }
    _PyEval_StartTheWorld(interp);
    Py_XDECREF(old);
    return vt != NULL;
}

PyThreadState *
_PyVThread_NextState(struct _PyVThread_Walk *walk, PyThreadState *tstate)
{
    if (!_PyVThread_IsState(tstate)) {
        if (tstate->next != NULL) {
            return tstate->next;
        }
        _PyVThread_BeginWalk(walk);
    }
    struct _PyVThread *vt;
    while ((vt = _PyVThread_NextLive(walk)) != NULL) {
        if (vt->reachable && vt->ts.base.interp == tstate->interp) {
            return &vt->ts.base;
        }
    }
    return NULL;
}
