/* Continuations of Python code: start, resume, yield, end.
 *
 * A continuation has a native stack of its own, and a thread state of its own, because the C
 * frames on that stack hold pointers to it.  Both are those of a struct _PyVThread that is in
 * no pool.  Resume and yield change the two together:
 *
 *      resumer                                 continuation
 *      its critical sections are suspended
 *      lend, switch the thread state
 *      cont_resume ------ stack -------------> critical sections are resumed
 *                                                ... Python code ...
 *                                              critical sections are suspended
 *      switch, take back <---- stack --------- cont_yield
 *      its critical sections are resumed
 *
 * The OS thread stays attached all the while.  So the world can't stop in the middle, nobody
 * frees a state that is being switched from, and no slot of the pool changes hands.
 *
 * All that needs care is on the resumer's stack: a resumer comes back on the OS thread that it
 * left, since a virtual thread that runs a continuation is pinned (its task's stack is not
 * the one in use).  A yield may come back on another OS thread.
 *
 *      who may resume      any thread, if all frames are the interpreter's own; else the OS
 *                          thread that it was suspended on (vthread_frames.c looks)
 *      whose identity      the resumer's: vthread_lend.c
 *      who collects it     the last reference, or the collector, closes it as a generator
 *
 * Budget: 0.3 us for a resume and a yield.
 */

#include "Python.h"
#include "pycore_critical_section.h"
#include "pycore_c_stack.h"
#include "pycore_datastack.h"
#include "pycore_entry_frame.h"
#include "pycore_interp.h"
#include "pycore_pyerrors.h"        // _PyErr_ChainStackItem()
#include "pycore_pystate.h"
#include "pycore_vthread_continuation.h"
#include "pycore_vthread_life.h"
#include "pycore_vthread_state.h"
#include "pycore_vthread_text.h"

PyContinuationObject *
_PyContinuation_Current(void)
{
    struct _PyVThread *vt = _PyVThread_FromState(_PyThreadState_GET());
    return vt == NULL ? NULL : vt->continuation;
}

static uint8_t
phase(PyContinuationObject *c)
{
    return _Py_atomic_load_uint8(&c->phase);
}

static bool
claim(PyContinuationObject *c, uint8_t expected)
{
    return _Py_atomic_compare_exchange_uint8(&c->phase, &expected, _PyContinuation_RUNNING);
}

// Release: the suspended stack, and all that belongs to it.  Partner: claim().
static void
publish(PyContinuationObject *c, uint8_t phase)
{
    _Py_atomic_store_uint8(&c->phase, phase);
}

static PyObject *
take_passed(PyContinuationObject *c, bool *raises)
{
    PyObject *value = c->passed;
    c->passed = NULL;
    *raises = c->raises;
    return value;
}

// --- On the continuation's stack -------------------------------------------------------------

// Noinline, as all that is done after a switch: the OS thread is another one, and so is each
// address of a thread-local variable that the caller has computed.
static Py_NO_INLINE PyObject *
arrive(PyContinuationObject *c, bool *raises)
{
    PyThreadState *tstate = &c->state->ts.base;
    assert(_PyThreadState_GET() == tstate);
    if (tstate->critical_section != 0) {
        _PyCriticalSection_Resume(tstate);
    }
    _PyVThread_AfterMount(c->state);
    return take_passed(c, raises);
}

static Py_NO_INLINE void
call(PyContinuationObject *c)
{
    bool raises;
    (void)arrive(c, &raises);
    PyObject *res = PyObject_Call(c->func, c->args, c->kwargs);
    c->raises = res == NULL;
    c->passed = c->raises ? PyErr_GetRaisedException() : res;
    assert(c->state->ts.base.critical_section == 0);
}

static void
body(void *arg)
{
    struct _PyVThread *vt = arg;
    void *limit, *base;
    cont_stack_bounds(&vt->task.cont, &limit, &base);
    _PyCStack_Set(&vt->ts.base, limit, base);
    call(vt->continuation);
}

// May it be left here?  -1 with an exception set.
static int
may_yield(PyContinuationObject *c)
{
    _PyOSThreadState *os = c->state->ts.os;
    if (os->pin_count != c->os_pins) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot yield from a finalizer or from the import of an "
                        "extension module");
        return -1;
    }
    if (os->vthread != NULL && os->vthread->pins != c->pins) {
        PyErr_SetString(PyExc_RuntimeError, "cannot yield in a block of pin()");
        return -1;
    }
    return 0;
}

static void
bind_to_os_thread(PyContinuationObject *c)
{
    struct _PyVThread_Object *foreign = NULL;
    c->bound_to = 0;
    if (_PyVThread_ClassifyFrames(c->state, &foreign) != _PyVThread_CORE_FRAMES) {
        c->bound_to = c->state->ts.os->own->id;
        c->bound_by = foreign != NULL ? foreign->name : "unknown code";
    }
}

// Yields `value`, an exception if *raises, from c, the innermost one here, to `target`: that, or
// NULL for no continuation, is told by its resume of c, or of what has resumed c.  `inner`: the
// one that c runs and that stays suspended within it, or NULL.  Steals value.
static PyObject *
yield_to(PyContinuationObject *c, PyContinuationObject *target, PyContinuationObject *inner,
         PyObject *value, bool *raises)
{
    if (may_yield(c) < 0) {
        Py_DECREF(value);
        *raises = true;
        return PyErr_GetRaisedException();
    }
    bind_to_os_thread(c);
    if (inner != NULL && inner->bound_to != 0) {
        c->bound_to = inner->bound_to;
        c->bound_by = inner->bound_by;
    }
    c->target = target;
    c->passed = value;
    c->raises = *raises;
    PyThreadState *tstate = &c->state->ts.base;
    if (tstate->critical_section != 0) {
        _PyCriticalSection_SuspendAll(tstate);
    }
    cont_yield(&c->state->task.cont);
    return arrive(c, raises);
}

// --- On the resumer's stack --------------------------------------------------------------------

static PyObject *
result(PyObject *value, bool raises)
{
    if (!raises) {
        return value;
    }
    PyErr_SetRaisedException(value);
    return NULL;
}

// Its limit may have changed since it ran last.
static void
refresh_recursion_limit(PyThreadState *tstate)
{
    int limit = tstate->interp->ceval.recursion_limit;
    tstate->py_recursion_remaining += limit - tstate->py_recursion_limit;
    tstate->py_recursion_limit = limit;
}

// Runs c until it yields or ends.  Returns 0, or -ENOMEM.  Noinline: see arrive().
static Py_NO_INLINE int
run(PyContinuationObject *c)
{
    PyThreadState *from = _PyThreadState_GET();
    _PyOSThreadState *os = _Py_OS(from);
    struct _PyVThread *vt = c->state;
    PyThreadState *to = &vt->ts.base;
    c->os_pins = os->pin_count;
    c->pins = os->vthread != NULL ? os->vthread->pins : 0;
    if (from->critical_section != 0) {
        _PyCriticalSection_SuspendAll(from);
    }
    refresh_recursion_limit(to);
    _PyContinuation_Lend(from, to);
    vt->reachable = true;
    _PyOSThread_Switch(os, from, to);
    int res = cont_resume(&vt->task.cont);
    assert(os == _PyOSThread_GET() && os->pin_count == c->os_pins);
    _PyOSThread_Switch(os, to, from);
    _PyOSThread_Left(to);
    vt->reachable = false;
    _PyContinuation_TakeBack(from, to);
    if (from->critical_section != 0) {
        _PyCriticalSection_Resume(from);
    }
    if (_PyVThread_IsState(from)) {
        _PyVThread_AfterMount(_PyVThread_FromState(from));
    }
    return res;
}

static int
new_state(PyContinuationObject *c)
{
    struct _PyVThread *vt = _PyVThread_Alloc();
    if (vt == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    _PyVThread_Prepare(vt, _PyInterpreterState_GET());
    _Py_atomic_store_ptr_relaxed(&vt->continuation, c);
    vt->hidden = true;
    vt->reachable = false;
    cont_init(&vt->task.cont, body, vt);
    _PyVThread_Publish(vt);
    PyThreadState *tstate = &vt->ts.base;
    c->state = vt;
    tstate->context = PyContext_CopyCurrent();
    return tstate->context == NULL ? -1 : 0;
}

static void
free_state(PyContinuationObject *c)
{
    struct _PyVThread *vt = c->state;
    if (vt == NULL) {
        return;
    }
    PyThreadState *tstate = &vt->ts.base;
    assert(tstate->current_frame == NULL);
    PyThreadState_Clear(tstate);
    _PyEntryFrame_Clear(tstate);
    _PyDataStack_Clear(tstate);
    c->state = NULL;
    _PyVThread_Free(vt);
}

// Its phase is RUNNING, by the caller.
static void
end(PyContinuationObject *c)
{
    free_state(c);
    Py_CLEAR(c->func);
    Py_CLEAR(c->args);
    Py_CLEAR(c->kwargs);
    publish(c, _PyContinuation_DONE);
}

// May c, which is the caller's, be resumed here?  -1 with an exception set.
static int
may_run(PyContinuationObject *c)
{
    PyThreadState *tstate = _PyThreadState_GET();
    if (c->bound_to != 0 && c->bound_to != _PyOSThread_Own(tstate)->id) {
        PyErr_Format(PyExc_RuntimeError,
                     "continuation has frames of foreign code (%s) on its stack, and can be "
                     "resumed only by the OS thread on which it was suspended", c->bound_by);
        return -1;
    }
    c->outer = _PyContinuation_Current();
    c->depth = c->outer != NULL ? c->outer->depth + 1 : 1;
    if (c->depth > tstate->interp->ceval.recursion_limit) {
        PyErr_SetString(PyExc_RecursionError,
                        "maximum recursion depth exceeded while resuming a continuation");
        return -1;
    }
    return 0;
}

// Runs c, whose phase is RUNNING by the caller, until it yields to the caller or ends.
// Steals value.
static PyObject *
resume(PyContinuationObject *c, PyObject *value, bool raises)
{
    PyContinuationObject *outer = c->outer;
    Py_INCREF(c);                   // until it is not in use any more
    for (;;) {
        c->target = outer;
        c->passed = value;
        c->raises = raises;
        int res = run(c);
        if (res < 0) {
            Py_CLEAR(c->passed);
            free_state(c);
            Py_CLEAR(c->args);
            Py_CLEAR(c->kwargs);
            c->started = false;
            publish(c, _PyContinuation_NEW);
            Py_DECREF(c);
            return PyErr_NoMemory();
        }
        value = take_passed(c, &raises);
        if (cont_state(&c->state->task.cont) == CONT_DONE) {
            end(c);
            break;
        }
        if (c->target == outer) {
            publish(c, _PyContinuation_SUSPENDED);
            break;
        }
        // It yields to one further out.  So does the one in whose body we are; what that is
        // resumed with is for c.
        value = yield_to(outer, c->target, c, value, &raises);
    }
    Py_DECREF(c);
    return result(value, raises);
}

// --- What the type calls -------------------------------------------------------------------------

PyObject *
_PyContinuation_Start(PyContinuationObject *c, PyObject *args, PyObject *kwargs)
{
    if (!_Py_IsMainInterpreter(_PyInterpreterState_GET())) {
        PyErr_SetString(PyExc_RuntimeError,
                        "continuations are not supported in subinterpreters");
        return NULL;
    }
    if (!claim(c, _PyContinuation_NEW)) {
        PyErr_SetString(PyExc_RuntimeError, "continuations can only be started once");
        return NULL;
    }
    if (may_run(c) < 0 || new_state(c) < 0) {
        free_state(c);
        publish(c, _PyContinuation_NEW);
        return NULL;
    }
    c->args = Py_NewRef(args);
    c->kwargs = Py_XNewRef(kwargs);
    c->started = true;
    return resume(c, NULL, false);
}

static PyObject *
resume_new(PyContinuationObject *c, PyObject *value, bool raises)
{
    if (raises) {
        if (!claim(c, _PyContinuation_NEW)) {
            return _PyContinuation_Resume(c, value, raises);
        }
        end(c);
        return result(value, raises);
    }
    bool is_none = value == Py_None;
    Py_DECREF(value);
    if (!is_none) {
        PyErr_SetString(PyExc_TypeError,
                        "can't send non-None value to a just-started continuation");
        return NULL;
    }
    PyObject *args = PyTuple_New(0);
    if (args == NULL) {
        return NULL;
    }
    PyObject *res = _PyContinuation_Start(c, args, NULL);
    Py_DECREF(args);
    return res;
}

static bool
runs_current(PyContinuationObject *c)
{
    PyContinuationObject *k = _PyContinuation_Current();
    while (k != NULL) {
        k = k->outer;
        if (k == c) {
            return k != NULL;
        }
    }
    return false;
}

// Of the exception that is raised where a continuation was suspended: its context.
static PyObject *
raised_result(PyObject *value, bool raises)
{
    PyObject *res = result(value, raises);
    if (res == NULL) {
        _PyErr_ChainStackItem();
    }
    return res;
}

PyObject *
_PyContinuation_Resume(PyContinuationObject *c, PyObject *value, bool raises)
{
    switch (phase(c)) {
    case _PyContinuation_NEW:
        return resume_new(c, value, raises);
    case _PyContinuation_DONE:
        if (raises) {
            return result(value, raises);       // as a generator
        }
        Py_DECREF(value);
        PyErr_SetString(PyExc_RuntimeError, "cannot resume a continuation that has ended");
        return NULL;
    case _PyContinuation_SUSPENDED:
        if (!claim(c, _PyContinuation_SUSPENDED)) {
            break;
        }
        if (may_run(c) < 0) {
            Py_DECREF(value);
            publish(c, _PyContinuation_SUSPENDED);
            return NULL;
        }
        return resume(c, value, raises);
    case _PyContinuation_RUNNING:
        if (!raises && runs_current(c)) {
            value = yield_to(_PyContinuation_Current(), c, NULL, value, &raises);
            return raised_result(value, raises);
        }
        break;
    }
    Py_DECREF(value);
    PyErr_SetString(PyExc_ValueError, "continuation already executing");
    return NULL;
}

PyObject *
_PyContinuation_Yield(PyObject *value)
{
    PyContinuationObject *c = _PyContinuation_Current();
    if (c == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "yield_() outside of a continuation");
        return NULL;
    }
    bool raises = false;
    value = yield_to(c, c->outer, NULL, Py_NewRef(value), &raises);
    return raised_result(value, raises);
}

PyObject *
_PyContinuation_Close(PyContinuationObject *c)
{
    switch (phase(c)) {
    case _PyContinuation_NEW:
        if (claim(c, _PyContinuation_NEW)) {
            end(c);
        }
        Py_RETURN_NONE;
    case _PyContinuation_DONE:
        Py_RETURN_NONE;
    }
    PyObject *exc = PyObject_CallNoArgs(PyExc_GeneratorExit);
    if (exc == NULL) {
        return NULL;
    }
    PyObject *res = _PyContinuation_Resume(c, exc, true);
    if (res == NULL) {
        if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
            PyErr_Clear();
            Py_RETURN_NONE;
        }
        return NULL;
    }
    if (phase(c) == _PyContinuation_SUSPENDED) {
        Py_DECREF(res);
        PyErr_SetString(PyExc_RuntimeError, "continuation ignored GeneratorExit");
        return NULL;
    }
    return res;
}

void
_PyContinuation_Finalize(PyContinuationObject *c)
{
    if (phase(c) != _PyContinuation_SUSPENDED) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *res = _PyContinuation_Close(c);
    if (res == NULL) {
        PyErr_WriteUnraisable((PyObject *)c);
    }
    Py_XDECREF(res);
    if (phase(c) == _PyContinuation_SUSPENDED) {
        // Its C frames own references and more, and can't be undone by anybody else: it is
        // kept for good.
        Py_INCREF(c);
    }
    PyErr_SetRaisedException(exc);
}

// What the Python frames have in their variables.  What C frames hold, and values in the middle
// of an expression, are not visited: what is reached through them alone is kept alive.
int
_PyContinuation_VisitFrames(PyContinuationObject *c, visitproc visit, void *arg)
{
    if (phase(c) != _PyContinuation_SUSPENDED) {
        return 0;
    }
    PyThreadState *tstate = &c->state->ts.base;
    Py_VISIT(tstate->context);
    Py_VISIT(tstate->exc_state.exc_value);
    _PyInterpreterFrame *frame = tstate->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (frame->owner != FRAME_OWNED_BY_THREAD) {
            continue;               // a generator visits its own
        }
        Py_VISIT(frame->frame_obj);
        Py_VISIT(frame->f_locals);
        Py_VISIT(frame->f_funcobj);
        Py_VISIT(frame->f_executable);
        int n = _PyFrame_GetCode(frame)->co_nlocalsplus;
        for (int i = 0; i < n; i++) {
            Py_VISIT(frame->localsplus[i]);
        }
    }
    return 0;
}
