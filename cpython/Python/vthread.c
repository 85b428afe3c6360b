/* The life of a virtual thread: new, spawn, run, end.
 *
 *      _PyVThread_New       its creator, attached: memory and a thread state; no stack
 *      _PyVThread_Spawn     into the pool; from now on the thread owns itself
 *      run_task             on its own stack: the body, which attaches and in the end calls
 *                           PyThreadState_Clear and _PyThreadState_DeleteCurrent
 *      finished             on its carrier's stack, its own being left for good (carrier.c):
 *                           memory back
 *
 * Never here: waiting (vthread_park.c) and the fields of the thread state (vthread_mount.c).
 */

#include "Python.h"
#include "pycore_ceval.h"
#include "pycore_c_stack.h"
#include "pycore_datastack.h"
#include "pycore_entry_frame.h"
#include "pycore_pystate.h"
#include "pycore_qsbr.h"
#include "pycore_vthread_state.h"
#include "pycore_vthread_life.h"

void
_PyVThread_Prepare(struct _PyVThread *vt, PyInterpreterState *interp)
{
    memset(&vt->task, 0, offsetof(struct _PyVThread, live) - offsetof(struct _PyVThread, task));
    cpool_task_init(&vt->task);
    // It parks only where all of its frames are the interpreter's own (vthread_park.c), and
    // none of these leaves on the stack what other threads look at.
    vt->task.flags = CPOOL_TASK_MOVABLE;
    // Atomic: the monitor may look at the struct's last thread yet.
    _Py_atomic_store_int_relaxed(&vt->shields, 0);
    _Py_atomic_store_int64_relaxed(&vt->next_alarm, CPOOL_FOREVER);
    _PyVThread_InitState(vt, interp);
    _PyDataStack_SetFirstChunk(&vt->ts.base, vt->chunk, sizeof(vt->chunk));
}

void
_PyVThread_Publish(struct _PyVThread *vt)
{
    _Py_atomic_store_uint8((uint8_t *)&vt->live, true);
}

PyThreadState *
_PyVThread_New(PyInterpreterState *interp, PyObject *thread)
{
    if (_PyCarrier_EnsurePool(interp) < 0) {
        return NULL;
    }
    struct _PyVThread *vt = _PyVThread_Alloc();
    if (vt == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    _PyVThread_Prepare(vt, interp);
    vt->thread = thread == NULL ? NULL : _PyVThread_NewRefForOther(thread);
    vt->reachable = true;
    _PyVThread_Publish(vt);
    return &vt->ts.base;
}

int
_PyVThread_Spawn(PyThreadState *tstate, void (*run)(void *), void *arg)
{
    struct _PyVThread *vt = _PyVThread_FromState(tstate);
    vt->run = run;
    vt->run_arg = arg;
    return _PyCarrier_Spawn(vt);
}

int
_PyVThread_ReportFailure(PyThreadState *tstate)
{
    struct _PyVThread *vt = ((_PyThreadStateImpl *)tstate)->vthread;
    if (vt == NULL || vt->thread == NULL) {
        return 0;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyErr_SetHandledException(exc);
    PyObject *res = PyObject_CallMethod(vt->thread, "_failed", NULL);
    PyErr_SetHandledException(NULL);
    Py_DECREF(exc);
    Py_XDECREF(res);
    return res != NULL;             // else what was raised in it is to be reported
}

void
_PyVThread_Discard(PyThreadState *tstate)
{
    PyThreadState_Clear(tstate);    // it may have been given a trace function
    _PyVThread_Free(_PyVThread_FromState(tstate));
}

void
_PyVThread_ClearingSlow(PyThreadState *tstate)
{
    struct _PyVThread *vt = _PyVThread_FromState(tstate);
    _PyVThread_DropInterrupts(vt);
    if (vt->context != NULL && tstate == _PyThreadState_GET()      // else it has not begun
        && PyContext_Exit(vt->context) < 0)
    {
        PyErr_WriteUnraisable(vt->context);
    }
}

void
_PyVThread_Clear(PyThreadState *tstate)
{
    struct _PyVThread *vt = _PyVThread_FromState(tstate);
    vt->hidden = true;
    Py_CLEAR(vt->context);
    Py_CLEAR(vt->thread);
}

// What _PyThreadState_DeleteCurrent() leaves to be done of a state that is on no list and
// owns nothing of its OS thread.
void
_PyVThread_DeleteCurrent(PyThreadState *tstate)
{
    assert(tstate->_status.cleared);
    assert(tstate->critical_section == 0);
    _PyVThread_Detach(tstate);
    // What is left to do takes short locks of the runtime, detached.  If it parked in one of
    // them, the lock could be handed to it while it has no carrier, and all carriers wait
    // for that lock.  The unpin is in _PyVThread_RunTask().
    (void)_PyOSThread_PinCurrent();
    _PyEntryFrame_Clear(tstate);
    _PyDataStack_Clear(tstate);
    tstate->_status.finalized = 1;
}

void
_PyVThread_RunTask(struct cpool_task *t)
{
    struct _PyVThread *vt = _PyVThread_FromTask(t);
    void *limit, *base;
    cont_stack_bounds(&t->cont, &limit, &base);
    _PyCStack_Set(&vt->ts.base, limit, base);
    vt->run(vt->run_arg);
    if (_PyVThread_IsSoftParked(&vt->ts.base)) {
        return;                     // to be called again, on another stack
    }
    if (vt->ts.base._status.finalized) {
        _PyOSThread_UnpinCurrent(_PyOSThread_GetCurrent());
    }
    assert(!vt->blocked);
}

int
_PyVThread_RejectIdent(unsigned long ident)
{
    if (_PyVThread_FromIdent(ident) != NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "a virtual thread has no OS thread of its own");
        return -1;
    }
    return 0;
}
