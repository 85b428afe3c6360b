/* Soft parks: waits without a C stack.  pycore_vthread_soft.h says how; here is what is taken by
 * a builtin, and the runner that leaves and comes back.
 *
 * Never here: the wait itself (vthread_park.c, cpool) and the parking lot's part of it
 * (vthread_parking.c, lock_soft.h).
 */

#include "Python.h"

#ifdef Py_GIL_DISABLED

#include "pycore_call.h"            // _PyFunction_Vectorcall
#include "pycore_frame.h"
#include "pycore_instruments.h"     // _Py_call_instrumentation_2args()
#include "pycore_parking_lot.h"
#include "pycore_pyerrors.h"        // _PyErr_Occurred()
#include "pycore_pystate.h"
#include "pycore_time.h"
#include "pycore_vthread_state.h"

// The outermost call of a thread has few arguments; with more it is called in the usual way.
#define MAX_ARGS 8

static uint8_t disabled;            // atomic, relaxed

int
_PyVThread_EnableSoftPark(int enable)
{
    return !_Py_atomic_exchange_uint8(&disabled, !enable);
}

// --- Offers that are taken ------------------------------------------------------------------

// The current thread, if it can leave its stack now: as why_pinned() of vthread_pin.c, but for
// the frames, which are known.  A critical section is the builtin's own, and ends when that
// returns.
static struct _PyVThread *
take(PyObject *(*step)(struct _PyVThread *))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL || vt->pins > 0 || vt->is_main || vt->ts.os->pin_count > 0
        || _Py_atomic_load_uint8_relaxed(&disabled))
    {
        return NULL;
    }
    assert(_PyThreadState_GET() == &vt->ts.base && !PyErr_Occurred());
    assert(!vt->ts.soft.taken);
    if (vt->bound) {
        vt->bound = false;
        vt->task.flags &= ~(uint32_t)CPOOL_TASK_STICKY;
    }
    vt->ts.soft.taken = 1;
    vt->soft = (struct _PyVThread_Soft){.step = step};
    return vt;
}

static PyObject *
wait_more(struct _PyVThread *vt, PyTime_t deadline)
{
    vt->soft.until = _PyVThread_EndOfWait(vt, deadline);
    return NULL;
}

static PyObject *
step_sleep(struct _PyVThread *vt)
{
    if (_PyVThread_RaiseInterrupt() < 0) {
        return NULL;
    }
    if (vt->soft.begun && cpool_now() >= vt->soft.deadline) {
        Py_RETURN_NONE;
    }
    vt->soft.begun = true;
    return wait_more(vt, vt->soft.deadline);
}

int
_PyVThread_SoftSleep(PyTime_t timeout)
{
    struct _PyVThread *vt = take(step_sleep);
    if (vt == NULL) {
        return 0;
    }
    vt->soft.how = _PyVThread_SOFT_SLEEP;
    vt->soft.deadline = _PyTime_Add(cpool_now(), timeout);  // no more than PyTime_MAX
    return 1;
}

// As the callers of _PyVThread_ParkInBucket(), one wait a step.
static PyObject *
step_wait(struct _PyVThread *vt)
{
    struct _PyVThread_Soft *s = &vt->soft;
    if (s->begun && s->woken && s->ops->was_given != NULL && s->ops->was_given(&s->arg)) {
        return s->ops->finish(s->object, 1, &s->arg);
    }
    s->begun = false;
    // Who was woken tries also when it is late: others wait until who gets it now is done.
    bool late = s->deadline != PyTime_MAX && cpool_now() >= s->deadline;
    bool interrupted, done;
    for (;;) {
        interrupted = _PyVThread_IsInterrupted(vt);
        done = s->ops->get(s->object, s->addr, !late && !interrupted, s->since, &s->arg);
        if (done || !interrupted) {
            break;
        }
        if (_PyVThread_RaiseInterrupt() < 0) {
            return NULL;
        }
        // Another thread has taken it back just now, and this one is not queued.
    }
    if (done || late) {
        return s->ops->finish(s->object, done, &s->arg);
    }
    s->begun = true;
    return wait_more(vt, s->deadline);
}

// As _PyVThread_ParkInBucket() after a wait, detached: false if vt has to wait more.  The attach
// comes after it, as it may use the entry.
static bool
has_ended(struct _PyVThread *vt)
{
    struct _PyVThread_Soft *s = &vt->soft;
    if (s->how == _PyVThread_SOFT_FD) {
        s->ended = cpool_waited_fd();
        return true;
    }
    if (s->how != _PyVThread_SOFT_PARK) {
        return true;
    }
    // Partner: _PyVThread_WakeEntry().
    s->woken = _Py_atomic_load_uint8(&vt->wait.woken);
    if (!s->woken) {
        if (!(vt->task.flags & CPOOL_TASK_TIMED_OUT) && !_PyVThread_IsInterrupted(vt)) {
            return false;                   // woken for nothing
        }
        if (!_PyParkingLot_Unqueue(s->addr)) {
            s->until = PyTime_MAX;          // its waker has begun
            return false;
        }
    }
    s->arg = vt->wait.arg;
    return true;
}

int
_PyVThread_SoftWait(PyObject *object, void *addr, PyTime_t timeout,
                    const struct _PyVThread_SoftOps *ops)
{
    struct _PyVThread *vt = take(step_wait);
    if (vt == NULL) {
        return 0;
    }
    struct _PyVThread_Soft *s = &vt->soft;
    s->how = _PyVThread_SOFT_PARK;
    s->object = Py_NewRef(object);
    s->addr = addr;
    s->ops = ops;
    s->since = cpool_now();
    s->deadline = timeout < 0 ? PyTime_MAX : _PyTime_Add(s->since, timeout);
    return 1;
}

// As _PyVThread_WaitFd(), one wait a step.
static PyObject *
step_wait_fd(struct _PyVThread *vt)
{
    struct _PyVThread_Soft *s = &vt->soft;
    bool late = s->deadline != PyTime_MAX && cpool_now() >= s->deadline;
    bool has_ended = s->begun && s->ended != -EINTR && (s->ended != -ETIMEDOUT || late);
    int ready = has_ended ? _PyVThread_WaitedFd(s->ended)
                : _PyVThread_RaiseInterrupt();      // an interrupt, an alarm
    if (has_ended || ready < 0) {
        PyObject *res = s->fd_ops->call(s->object, ready, &s->arg);
        if (res != NULL || _PyErr_Occurred(&vt->ts.base)) {
            return res;
        }
    }
    s->begun = true;
    return wait_more(vt, s->deadline);
}

int
_PyVThread_SoftWaitFd(PyObject *object, int fd, PyTime_t timeout,
                      const struct _PyVThread_SoftFdOps *ops, const void *arg, size_t size)
{
    struct _PyVThread *vt = take(step_wait_fd);
    if (vt == NULL) {
        return 0;
    }
    struct _PyVThread_Soft *s = &vt->soft;
    s->how = _PyVThread_SOFT_FD;
    s->object = Py_NewRef(object);
    s->fd = fd;
    s->fd_ops = ops;
    s->deadline = timeout < 0 ? PyTime_MAX : _PyTime_Add(cpool_now(), timeout);
    assert(size <= sizeof(s->arg));
    if (size > 0) {
        memcpy(&s->arg, arg, size);
    }
    return 1;
}

static PyObject *
step_yield(struct _PyVThread *vt)
{
    if (!vt->soft.begun) {
        vt->soft.begun = true;
        return NULL;
    }
    return _PyVThread_RaiseInterrupt() < 0 ? NULL : Py_NewRef(Py_None);
}

int
_PyVThread_SoftYield(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL || !cpool_yield_wanted() || take(step_yield) == NULL) {
        return 0;
    }
    vt->soft.how = _PyVThread_SOFT_YIELD;
    return 1;
}

// --- Calls that need no C frames ------------------------------------------------------------

static int
is_inlined(PyThreadState *tstate, PyObject *func)
{
    return PyFunction_Check(func) && tstate->interp->eval_frame == NULL
           && ((PyFunctionObject *)func)->vectorcall == _PyFunction_Vectorcall;
}

// The frame of a Python function's call, or NULL: it is none, or there is no memory, and then
// an ordinary call says so.
static _PyInterpreterFrame *
push_frame(PyThreadState *tstate, PyObject *func, PyObject *args, PyObject *kwargs)
{
    PyObject *stack[MAX_ARGS];
    Py_ssize_t n = 0, nargs = PyTuple_GET_SIZE(args);
    if (PyMethod_Check(func)) {
        stack[n++] = PyMethod_GET_SELF(func);
        func = PyMethod_GET_FUNCTION(func);
    }
    if (!is_inlined(tstate, func) || nargs > MAX_ARGS - n
        || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0))
    {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        stack[n++] = PyTuple_GET_ITEM(args, i);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_INCREF(stack[i]);
    }
    int flags = ((PyCodeObject *)PyFunction_GET_CODE(func))->co_flags;
    PyObject *locals = flags & CO_OPTIMIZED ? NULL : Py_NewRef(PyFunction_GET_GLOBALS(func));
    Py_INCREF(func);
    return _PyEvalFramePushAndInit(tstate, (PyFunctionObject *)func, locals, stack, n, NULL);
}

int
_PyVThread_PushMethod(PyThreadState *tstate, PyObject *method, _PyInterpreterFrame **frame)
{
    *frame = push_frame(tstate, method, (PyObject *)&_Py_SINGLETON(tuple_empty), NULL);
    return *frame != NULL ? 1 : _PyErr_Occurred(tstate) ? -1 : 0;
}

// As CALL and CALL_KW do, for CALL_FUNCTION_EX, which does not.
int
_PyVThread_UnbindMethod(PyObject **callable, PyObject **args)
{
    PyObject *function = PyMethod_GET_FUNCTION(*callable);
    if (!is_inlined(_PyThreadState_GET(), function)) {
        return 0;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(*args);
    PyObject *all = PyTuple_New(n + 1);
    if (all == NULL) {
        return -1;
    }
    PyTuple_SET_ITEM(all, 0, Py_NewRef(PyMethod_GET_SELF(*callable)));
    for (Py_ssize_t i = 0; i < n; i++) {
        PyTuple_SET_ITEM(all, i + 1, Py_NewRef(PyTuple_GET_ITEM(*args, i)));
    }
    Py_INCREF(function);
    Py_SETREF(*callable, function);
    Py_SETREF(*args, all);
    return 0;
}

// Where the first argument of a left call's instruction is, or NULL, and the number of its inputs.
static PyObject **
first_argument(int opcode, int oparg, PyObject **stack_pointer, int *inputs)
{
    if (opcode == INSTRUMENTED_CALL_FUNCTION_EX) {
        *inputs = 3 + (oparg & 1);          // callable, NULL, tuple, keywords
        PyObject *args = stack_pointer[2 - *inputs];
        return PyTuple_GET_SIZE(args) > 0 ? &PyTuple_GET_ITEM(args, 0) : NULL;
    }
    *inputs = 2 + oparg + (opcode == INSTRUMENTED_CALL_KW);     // callable, self, ..., names
    PyObject **self = stack_pointer + 1 - *inputs;
    return *self != NULL ? self : oparg > 0 ? self + 1 : NULL;
}

PyObject **
_PyVThread_EndInstrumented(PyThreadState *tstate, _PyInterpreterFrame *frame,
                           PyObject **stack_pointer, PyObject **result)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    int inputs;
    PyObject **first = first_argument(ts->soft.instrumented, ts->soft.oparg, stack_pointer,
                                      &inputs);
    PyObject *callable = stack_pointer[-inputs];
    PyObject *arg = first != NULL ? *first : &_PyInstrumentation_MISSING;
    if (*result == NULL) {
        _Py_call_instrumentation_exc2(tstate, PY_MONITORING_EVENT_C_RAISE, frame,
                                      frame->instr_ptr, callable, arg);
    }
    else if (_Py_call_instrumentation_2args(tstate, PY_MONITORING_EVENT_C_RETURN, frame,
                                            frame->instr_ptr, callable, arg) < 0)
    {
        Py_CLEAR(*result);
    }
    for (int i = 0; i < inputs; i++) {
        Py_XDECREF(*--stack_pointer);
    }
    return stack_pointer;
}

// --- The runner -------------------------------------------------------------------------------

// Detached.  True: the runner's return is the park.  False: the wait has ended.
static bool
wait_at_return(struct _PyVThread *vt)
{
    struct _PyVThread_Soft *s = &vt->soft;
    switch (s->how) {
    case _PyVThread_SOFT_SLEEP:
        cpool_sleep_at_return(s->until, "sleep");
        break;
    case _PyVThread_SOFT_PARK:
        cpool_park_at_return(s->until, "lock");
        break;
    case _PyVThread_SOFT_FD:
        s->ended = cpool_wait_fd_at_return(s->fd, s->fd_ops->events, s->until,
                                           s->fd_ops->reason);
        return s->ended == 0;
    case _PyVThread_SOFT_YIELD:
        cpool_yield_at_return();
        break;
    }
    return true;
}

PyObject *
_PyVThread_TakeResult(PyThreadState *tstate)
{
    struct _PyVThread *vt = _PyVThread_FromState(tstate);
    PyObject *result = vt->soft.result;
    vt->soft.result = NULL;
    return result;
}

PyObject *
_PyVThread_RunOutermost(PyThreadState *tstate, PyObject *func, PyObject **args,
                        PyObject *kwargs)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    struct _PyVThread *vt = ts->vthread;
    PyObject *res = NULL;
    if (ts->soft.parked) {          // of a virtual thread, only
        if (!has_ended(vt)) {
            (void)wait_at_return(vt);   // a park, again
            return NULL;
        }
        ts->soft.parked = 0;
        _PyVThread_AttachAfterPark(vt);
    }
    else {
        _PyInterpreterFrame *frame = NULL;
        if (vt != NULL) {
            if (vt->context != NULL && PyContext_Enter(vt->context) < 0) {
                Py_CLEAR(vt->context);
                return NULL;
            }
            frame = push_frame(tstate, func, *args, kwargs);
        }
        if (frame == NULL) {
            return _PyErr_Occurred(tstate) ? NULL : PyObject_Call(func, *args, kwargs);
        }
        if (PyTuple_CheckExact(*args)) {
            Py_CLEAR(*args);        // runs no finalizer: the frame has all that was in it
        }
        ts->soft.entry = (_PyInterpreterFrame *)ts->first_entry_frame;
        res = _PyEval_EvalFrameDefault(tstate, frame, 0);
    }
    while (vt->soft.step != NULL) {
        ts->soft.taken = 0;
        res = vt->soft.step(vt);
        if (res == NULL && !_PyErr_Occurred(tstate)) {
            ts->soft.parked = 1;
            _PyVThread_DetachToPark(vt);
            if (wait_at_return(vt)) {
                return NULL;
            }
            ts->soft.parked = 0;
            _PyVThread_AttachAfterPark(vt);
            continue;
        }
        vt->soft.step = NULL;
        vt->soft.result = res;
        Py_CLEAR(vt->soft.object);
        res = _PyEval_EvalFrameDefault(tstate, tstate->current_frame, _PyVThread_RESUME);
    }
    ts->soft.entry = NULL;
    return res;
}

#endif   // Py_GIL_DISABLED
