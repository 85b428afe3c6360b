/* _vthread: what Lib/virtual_threading needs of the interpreter.
 *
 * Not for users: names and signatures follow the package, and may change with it.
 */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_modsupport.h"      // _PyArg_ParseStackAndKeywords
#include "pycore_pystate.h"
#include "pycore_pythread.h"
#include "pycore_time.h"            // _PyTime_FromSecondsObject
#include "pycore_vthread_state.h"
#include "pycore_vthread_module.h"
#include "pycore_vthread_seeing.h"
#include "_vthreadmodule.h"

PyObject *
_PyVThreadModule_Start(_PyVThreadModuleState *state, PyObject *function, PyObject *args,
                       PyObject *handle, int daemon, PyObject *thread, PyObject *context)
{
    PyThreadState *tstate = _PyVThread_New(_PyInterpreterState_GET(), thread);
    if (tstate == NULL) {
        return NULL;
    }
    if (context != NULL && context != Py_None) {
        _PyVThread_FromState(tstate)->context = _PyVThread_NewRefForOther(context);
    }
    return _PyThread_StartVirtual(state->thread_module, tstate, function, args, handle,
                                  daemon);
}

static PyObject *
start_joinable_thread(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"function", "handle", "daemon", NULL};
    PyObject *function, *handle = Py_None;
    int daemon = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|Op:start_joinable_thread", keywords,
                                     &function, &handle, &daemon))
    {
        return NULL;
    }
    if (!PyCallable_Check(function)) {
        PyErr_SetString(PyExc_TypeError, "thread function must be callable");
        return NULL;
    }
    _PyVThreadModuleState *state = _PyVThreadModule_GetState(module);
    return _PyVThreadModule_Start(state, function, state->empty_tuple, handle, daemon,
                                  NULL, NULL);
}

PyDoc_STRVAR(start_joinable_thread_doc,
"start_joinable_thread($module, /, function, handle=None, daemon=True)\n--\n\n"
"As _thread.start_joinable_thread, but on a virtual thread.");

static PyObject *
bind(PyObject *module, PyObject *globals)
{
    if (!PyDict_Check(globals)) {
        PyErr_Format(PyExc_TypeError, "globals must be a dict, not %s",
                     Py_TYPE(globals)->tp_name);
        return NULL;
    }
    Py_XSETREF(_PyVThreadModule_GetState(module)->threading_globals, Py_NewRef(globals));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(bind_doc,
"bind($module, globals, /)\n--\n\n"
"Tell Thread the globals of the module threading, before the first one is made.\n\n"
"It can't look for them: sys.modules['threading'] may have become another module.");

static PyObject *
current(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL || vt->thread == NULL) {
        Py_RETURN_NONE;
    }
    return Py_NewRef(vt->thread);
}

PyDoc_STRVAR(current_doc,
"current($module, /)\n--\n\n"
"The `thread` that the current virtual thread was started with, or None.");

static int
parse_ident(PyObject *obj, unsigned long *ident)
{
    *ident = PyLong_AsUnsignedLong(obj);
    return *ident == (unsigned long)-1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *
is_virtual(PyObject *module, PyObject *args)
{
    PyObject *obj = Py_None;
    if (!PyArg_ParseTuple(args, "|O:is_virtual", &obj)) {
        return NULL;
    }
    if (obj == Py_None) {
        return PyBool_FromLong(_PyVThread_Current() != NULL);
    }
    unsigned long ident;
    if (parse_ident(obj, &ident) < 0) {
        return NULL;
    }
    return PyBool_FromLong(_PyVThread_FromIdent(ident) != NULL);
}

PyDoc_STRVAR(is_virtual_doc,
"is_virtual($module, ident=None, /)\n--\n\n"
"Is the thread with this ident (the caller, if None) a live virtual thread?");

static PyObject *
yield_now(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (_PyVThread_AcceptOffer(yield_now) && _PyVThread_SoftYield()) {
        return NULL;
    }
    if (_PyVThread_Current() != NULL) {
        _PyVThread_Yield();
        if (_PyVThread_RaiseInterrupt() < 0) {
            return NULL;
        }
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        sched_yield();
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *
enable_soft_park(PyObject *module, PyObject *arg)
{
    int enable = PyObject_IsTrue(arg);
    if (enable < 0) {
        return NULL;
    }
    return PyBool_FromLong(_PyVThread_EnableSoftPark(enable));
}

PyDoc_STRVAR(enable_soft_park_doc,
"enable_soft_park($module, enable, /)\n--\n\n"
"For tests: whether threads may wait without a native stack.  Returns what it was.");

PyDoc_STRVAR(yield_now_doc,
"yield_now($module, /)\n--\n\n"
"Let other threads run.  Raises what interrupts this one.");

static PyObject *
pin(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt != NULL) {
        vt->pins++;
    }
    Py_RETURN_NONE;
}

static PyObject *
unpin(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt != NULL) {
        if (vt->pins == 0) {
            PyErr_SetString(PyExc_RuntimeError, "unpin() without pin()");
            return NULL;
        }
        vt->pins--;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(pin_doc,
"pin($module, /)\n--\n\n"
"Keep the current virtual thread on its OS thread until the matching unpin().  Nests.\n"
"Does nothing on a platform thread.");

static PyObject *
interrupt(PyObject *module, PyObject *args)
{
    PyObject *obj, *who, *exc;
    unsigned long ident;
    if (!PyArg_ParseTuple(args, "OOO:interrupt", &obj, &who, &exc)
        || parse_ident(obj, &ident) < 0)
    {
        return NULL;
    }
    if (!PyExceptionClass_Check(exc) && !PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
        return NULL;
    }
    int res = _PyVThread_Interrupt(ident, who, exc);
    return res < 0 ? NULL : PyBool_FromLong(res);
}

PyDoc_STRVAR(interrupt_doc,
"interrupt($module, ident, who, exc, /)\n--\n\n"
"Raise exc in a virtual thread's blocking call, the one at hand or the next one.  `who` is\n"
"the `thread` that it was started with, or its serial().  False if it has ended.");

static PyObject *
withdraw(PyObject *module, PyObject *exc)
{
    return PyBool_FromLong(_PyVThread_WithdrawInterrupt(exc));
}

PyDoc_STRVAR(withdraw_doc,
"withdraw($module, exc, /)\n--\n\n"
"Take back an interrupt that the current thread has not raised yet; False if there is none.");

static struct _PyVThread *
alarm_thread(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "timeouts work in virtual threads only");
    }
    return vt;
}

static int
parse_alarm(PyObject *const *args, Py_ssize_t nargs, PyTime_t *when)
{
    if (!_PyArg_CheckPositional("alarm", nargs, 2, 2)) {
        return -1;
    }
    *when = CPOOL_FOREVER;
    if (args[1] == Py_None) {
        return 0;
    }
    double seconds = PyFloat_AsDouble(args[1]);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    // 285 years; and what is longer ago has passed as well.
    if (seconds >= 9e9) {
        return 0;
    }
    if (seconds < 0) {
        *when = 0;
        return 0;
    }
    return _PyTime_FromSecondsObject(when, args[1], _PyTime_ROUND_CEILING);
}

static PyObject *
set_alarm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyTime_t when;
    struct _PyVThread *vt = alarm_thread();
    if (vt == NULL || parse_alarm(args, nargs, &when) < 0
        || _PyVThread_SetAlarm(vt, args[0], when) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
move_alarm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyTime_t when;
    struct _PyVThread *vt = alarm_thread();
    if (vt == NULL || parse_alarm(args, nargs, &when) < 0) {
        return NULL;
    }
    return PyBool_FromLong(_PyVThread_MoveAlarm(vt, args[0], when));
}

PyDoc_STRVAR(move_alarm_doc,
"move_alarm($module, exc, when, /)\n--\n\n"
"Change the time of an alarm; False if it has been raised already.");

PyDoc_STRVAR(set_alarm_doc,
"set_alarm($module, exc, when, /)\n--\n\n"
"Interrupt the current virtual thread with exc when time.monotonic() is `when`, in what it\n"
"waits for then, or in its next wait.  None: never.  RuntimeError in a platform thread.");

static PyObject *
drop_alarm(PyObject *module, PyObject *exc)
{
    struct _PyVThread *vt = alarm_thread();
    return vt == NULL ? NULL : PyBool_FromLong(_PyVThread_DropAlarm(vt, exc));
}

PyDoc_STRVAR(drop_alarm_doc,
"drop_alarm($module, exc, /)\n--\n\n"
"Forget the alarm of the current thread; False if it has been raised already.");

static PyObject *
disarm_other(PyObject *module, PyObject *args)
{
    PyObject *obj, *who, *exc;
    unsigned long ident;
    if (!PyArg_ParseTuple(args, "OOO:disarm_other", &obj, &who, &exc)
        || parse_ident(obj, &ident) < 0)
    {
        return NULL;
    }
    _PyVThread_DisarmOther(ident, who, exc);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(disarm_other_doc,
"disarm_other($module, ident, who, exc, /)\n--\n\n"
"Forget an alarm of another virtual thread, if it has one with exc.  ident and who are those\n"
"of interrupt().");

static PyObject *
next_alarm(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    int64_t when = vt == NULL ? CPOOL_FOREVER : _PyVThread_NextAlarm(vt);
    if (when == CPOOL_FOREVER) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble(PyTime_AsSecondsDouble(when));
}

PyDoc_STRVAR(next_alarm_doc,
"next_alarm($module, /)\n--\n\n"
"The time of the earliest alarm of the current thread, or None.");

static PyObject *
check(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    if (_PyVThread_RaiseInterrupt() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(check_doc,
"check($module, /)\n--\n\n"
"Raise what interrupts the current thread, as a blocking call would, if anything does.");

static PyObject *
serial(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL) {
        Py_RETURN_NONE;
    }
    return PyLong_FromUnsignedLong(_PyVThread_Serial(vt));
}

PyDoc_STRVAR(serial_doc,
"serial($module, /)\n--\n\n"
"With its ident it stands for the current virtual thread alone.  None on others.");

static PyObject *
shield(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt != NULL) {
        _Py_atomic_store_int_relaxed(&vt->shields, vt->shields + 1);
    }
    Py_RETURN_NONE;
}

static PyObject *
unshield(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt != NULL && vt->shields > 0) {
        _Py_atomic_store_int_relaxed(&vt->shields, vt->shields - 1);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(shield_doc,
"shield($module, /)\n--\n\n"
"No interrupt is raised in the current thread until the matching unshield().  Nests.");

static int
parse_count(PyObject *obj, const char *name, int *value)
{
    *value = 0;
    if (obj == Py_None) {
        return 0;
    }
    PyObject *index = PyNumber_Index(obj);
    if (index == NULL) {
        return -1;
    }
    int overflow;
    long n = PyLong_AsLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow != 0 || n < 1 || n > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "%s must be a positive integer, not %R", name, obj);
        return -1;
    }
    *value = (int)n;
    return 0;
}

static PyObject *
configure(PyObject *module, PyObject *args)
{
    PyObject *p, *m;
    int parallelism, max_carriers;
    if (!PyArg_ParseTuple(args, "OO:configure", &p, &m)
        || parse_count(p, "parallelism", &parallelism) < 0
        || parse_count(m, "max_carriers", &max_carriers) < 0
        || _PyCarrier_Configure(parallelism, max_carriers) < 0)
    {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(configure_doc,
"configure($module, parallelism, max_carriers, /)\n--\n\n"
"Set the number of slots and the most OS threads of the pool; None leaves one as it is.");

static PyObject *
get_config(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    int all_virtual, parallelism, max_carriers;
    _PyCarrier_GetConfig(&all_virtual, &parallelism, &max_carriers);
    return Py_BuildValue("(Nii)", PyBool_FromLong(all_virtual), parallelism, max_carriers);
}

PyDoc_STRVAR(get_config_doc,
"get_config($module, /)\n--\n\n"
"(is every threading.Thread virtual, parallelism, max_carriers)");

static PyObject *
declare_park_safe(PyObject *module, PyObject *name)
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "module_name must be str, not %T", name);
        return NULL;
    }
    if (_PyVThread_DeclareParkSafe(name) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(declare_park_safe_doc,
"declare_park_safe($module, module_name, /)\n--\n\n"
"Extension modules of this name or in this package are park-safe when they are loaded.");

static PyObject *
mark_park_safe(PyObject *module, PyObject *obj)
{
    _PyVThread_MarkParkSafe(obj);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(mark_park_safe_doc,
"mark_park_safe($module, obj, /)\n--\n\n"
"The loaded module obj is park-safe; nothing happens if it is no extension module.");

static PyObject *
park_safe_modules(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return _PyVThread_ParkSafeNames();
}

static PyObject *
watch_pins(PyObject *module, PyObject *obj)
{
    int on = PyObject_IsTrue(obj);
    if (on < 0 || _PyVThread_WatchPins(on) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_pins_doc,
"watch_pins($module, on, /)\n--\n\n"
"Whether reports of pinned waits are kept for next_pin().");

static PyObject *
next_pin(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return _PyVThread_NextPin();
}

PyDoc_STRVAR(next_pin_doc,
"next_pin($module, /)\n--\n\n"
"Wait for a report: (thread, reason, name of the foreign object or None,\n"
"[(file, line, function), ...]), innermost frame last.  None when they are not watched.");

static PyObject *
live(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return _PyVThread_LiveObjects();
}

PyDoc_STRVAR(live_doc,
"live($module, /)\n--\n\n"
"The `thread` objects of all virtual threads that have been started and have not ended.\n"
"Stops the world; takes time proportional to the number of threads.");

static PyObject *
stats(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return _PyVThread_StatsDict();
}

static PyObject *
inspect(PyObject *module, PyObject *obj)
{
    unsigned long ident;
    if (parse_ident(obj, &ident) < 0) {
        return NULL;
    }
    return _PyVThread_Inspect(ident);
}

PyDoc_STRVAR(inspect_doc,
"inspect($module, ident, /)\n--\n\n"
"(state, carrier, native_id, reason, since) of a virtual thread.  Raises LookupError if\n"
"there is none with this ident.");

static PyObject *
snapshot(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    return _PyVThread_Snapshot();
}

PyDoc_STRVAR(snapshot_doc,
"snapshot($module, /)\n--\n\n"
"[(ident, thread, state, carrier, reason, since, [(file, line, function), ...]), ...] of all\n"
"live virtual threads, innermost frame last.  Stops the world.");

static PyMethodDef methods[] = {
    {"start_joinable_thread", _PyCFunction_CAST(start_joinable_thread),
     METH_VARARGS | METH_KEYWORDS, start_joinable_thread_doc},
    {"bind", bind, METH_O, bind_doc},
    {"current", current, METH_NOARGS, current_doc},
    {"is_virtual", is_virtual, METH_VARARGS, is_virtual_doc},
    {"yield_now", yield_now, METH_NOARGS, yield_now_doc},
    {"enable_soft_park", enable_soft_park, METH_O, enable_soft_park_doc},
    {"interrupt", interrupt, METH_VARARGS, interrupt_doc},
    {"withdraw", withdraw, METH_O, withdraw_doc},
    {"set_alarm", _PyCFunction_CAST(set_alarm), METH_FASTCALL, set_alarm_doc},
    {"move_alarm", _PyCFunction_CAST(move_alarm), METH_FASTCALL, move_alarm_doc},
    {"drop_alarm", drop_alarm, METH_O, drop_alarm_doc},
    {"disarm_other", disarm_other, METH_VARARGS, disarm_other_doc},
    {"next_alarm", next_alarm, METH_NOARGS, next_alarm_doc},
    {"check", check, METH_NOARGS, check_doc},
    {"serial", serial, METH_NOARGS, serial_doc},
    {"shield", shield, METH_NOARGS, shield_doc},
    {"unshield", unshield, METH_NOARGS, NULL},
    {"pin", pin, METH_NOARGS, pin_doc},
    {"unpin", unpin, METH_NOARGS, NULL},
    {"configure", configure, METH_VARARGS, configure_doc},
    {"declare_park_safe", declare_park_safe, METH_O, declare_park_safe_doc},
    {"mark_park_safe", mark_park_safe, METH_O, mark_park_safe_doc},
    {"park_safe_modules", park_safe_modules, METH_NOARGS, NULL},
    {"watch_pins", watch_pins, METH_O, watch_pins_doc},
    {"next_pin", next_pin, METH_NOARGS, next_pin_doc},
    {"get_config", get_config, METH_NOARGS, get_config_doc},
    {"live", live, METH_NOARGS, live_doc},
    {"stats", stats, METH_NOARGS, NULL},
    {"inspect", inspect, METH_O, inspect_doc},
    {"snapshot", snapshot, METH_NOARGS, snapshot_doc},
    {NULL, NULL},
};

static int
module_exec(PyObject *module)
{
    _PyVThreadModuleState *state = _PyVThreadModule_GetState(module);
    state->thread_module = PyImport_ImportModule("_thread");
    if (state->thread_module == NULL) {
        return -1;
    }
    state->empty_tuple = PyTuple_New(0);
    if (state->empty_tuple == NULL) {
        return -1;
    }
    return _PyVThreadModule_AddThread(module);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    _PyVThreadModuleState *state = _PyVThreadModule_GetState(module);
    Py_VISIT(state->thread_module);
    return _PyVThreadModule_VisitThread(state, visit, arg);
}

static int
module_clear(PyObject *module)
{
    _PyVThreadModuleState *state = _PyVThreadModule_GetState(module);
    Py_CLEAR(state->thread_module);
    Py_CLEAR(state->empty_tuple);
    _PyVThreadModule_ClearThread(state);
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear((PyObject *)module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

struct PyModuleDef _PyVThreadModule = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_vthread",
    .m_doc = "Virtual threads; use the module virtual_threading.",
    .m_size = sizeof(_PyVThreadModuleState),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__vthread(void)
{
    return PyModuleDef_Init(&_PyVThreadModule);
}
