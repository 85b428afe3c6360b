/* _vthread.Thread: the state, __init__() and start() of virtual_threading.Thread.
 *
 * Problem solved: a thread should cost little more than the calls that make it.  In Python,
 * which this build does not specialise, __init__() and start() took two thirds of the time of a
 * thread's life.  So they are here; what is not on every thread's way (run(), join(), names,
 * errors) is in Lib/virtual_threading/thread.py.
 *
 * The attributes are those that threading.Thread has, under its names, where code in the wild
 * uses them: each can be missing, as in a class that does not call __init__().  start() drops
 * target, args and keywords, which the thread owns from then on.
 *
 * Fields are read and written as members of Python objects are: under the object's critical
 * section, or before anybody else knows it.
 */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_critical_section.h"
#include "pycore_modsupport.h"      // _PyArg_UnpackKeywords()
#include "pycore_object.h"          // _PyObject_GetMethod()
#include "pycore_vthread_state.h"
#include "_vthreadmodule.h"

#include <stddef.h>                 // offsetof()

struct fields {
    PyObject *target;
    PyObject *args;
    PyObject *keywords;             // a dict, or None
    PyObject *title;                // the name that was given, or None
    PyObject *label;                // else: the target's __name__, which outlives the target,
    unsigned long long number;      // and a number
    PyObject *daemonic;
    PyObject *context;              // a Context, or None
    PyObject *handle;               // a _thread._ThreadHandle
};

typedef struct {
    PyObject_HEAD
    struct fields fields;
} thread_object;

static _PyVThreadModuleState *
state_of(PyObject *op)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(op), &_PyVThreadModule);
    return module == NULL ? NULL : _PyVThreadModule_GetState(module);
}

static PyObject *
threading_global(_PyVThreadModuleState *state, PyObject *name)
{
    PyObject *value = NULL;
    if (state->threading_globals == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "_vthread.bind() not called");
    }
    else if (PyDict_GetItemRef(state->threading_globals, name, &value) == 0) {
        PyErr_Format(PyExc_AttributeError, "module 'threading' has no attribute %R", name);
    }
    return value;
}

static PyObject *
call_threading(_PyVThreadModuleState *state, PyObject *name)
{
    PyObject *function = threading_global(state, name);
    if (function == NULL) {
        return NULL;
    }
    PyObject *res = PyObject_CallNoArgs(function);
    Py_DECREF(function);
    return res;
}

// Is it set?  1, 0, or -1 with an exception.
static int
threading_has(_PyVThreadModuleState *state, PyObject *name)
{
    PyObject *value = threading_global(state, name);
    if (value == NULL) {
        return -1;
    }
    int res = PyObject_IsTrue(value);
    Py_DECREF(value);
    return res;
}

// What a thread is whose `daemon` was not given.
static PyObject *
creators_daemonic(_PyVThreadModuleState *state)
{
    struct _PyVThread *vt = _PyVThread_Current();
    PyObject *creator = vt == NULL ? NULL : Py_XNewRef(vt->thread);
    if (creator == NULL) {
        creator = vt == NULL && _Py_IsMainThread()
                  ? threading_global(state, state->names.main_thread)
                  : call_threading(state, state->names.current_thread);
        if (creator == NULL) {
            return NULL;
        }
    }
    PyObject *res = PyObject_GetAttr(creator, state->names.daemonic);
    Py_DECREF(creator);
    return res;
}

// A new reference to `daemon`, if a thread here may be such a one.
static PyObject *
checked_daemonic(_PyVThreadModuleState *state, PyObject *daemon)
{
    int is_daemon = PyObject_IsTrue(daemon);
    if (is_daemon < 0) {
        return NULL;
    }
    if (is_daemon) {
        PyObject *allowed = call_threading(state, state->names.daemon_threads_allowed);
        if (allowed == NULL) {
            return NULL;
        }
        int is_allowed = PyObject_IsTrue(allowed);
        Py_DECREF(allowed);
        if (is_allowed < 0) {
            return NULL;
        }
        if (!is_allowed) {
            PyErr_SetString(PyExc_RuntimeError,
                            "daemon threads are disabled in this (sub)interpreter");
            return NULL;
        }
    }
    return Py_NewRef(daemon);
}

static int
next_number(_PyVThreadModuleState *state, unsigned long long *number)
{
    PyObject *obj = call_threading(state, state->names.counter);
    if (obj == NULL) {
        return -1;
    }
    *number = PyLong_AsUnsignedLongLong(obj);
    Py_DECREF(obj);
    return *number == (unsigned long long)-1 && PyErr_Occurred() ? -1 : 0;
}

// Sets title, label and number of `made`.
static int
set_name(_PyVThreadModuleState *state, struct fields *made, PyObject *name, PyObject *target)
{
    int is_given = name == NULL || name == Py_None ? 0 : PyObject_IsTrue(name);
    if (is_given < 0) {
        return -1;
    }
    if (is_given) {
        made->title = PyObject_Str(name);
        return made->title == NULL ? -1 : 0;
    }
    if (PyObject_GetOptionalAttr(target, state->names.name, &made->label) < 0) {
        return -1;
    }
    if (made->label == NULL) {
        made->label = Py_NewRef(Py_None);
    }
    made->title = Py_NewRef(Py_None);
    return next_number(state, &made->number);
}

static void
drop(struct fields *f)
{
    Py_CLEAR(f->target);
    Py_CLEAR(f->args);
    Py_CLEAR(f->keywords);
    Py_CLEAR(f->title);
    Py_CLEAR(f->label);
    Py_CLEAR(f->daemonic);
    Py_CLEAR(f->context);
    Py_CLEAR(f->handle);
}

enum {GROUP, TARGET, NAME, ARGS, KWARGS, DAEMON, CONTEXT, PARAMETERS};
enum {POSITIONAL = DAEMON};

// Fills in `made`, whose fields are NULL.
static int
make(_PyVThreadModuleState *state, struct fields *made, PyObject *const *given)
{
    if (given[GROUP] != NULL && given[GROUP] != Py_None) {
        PyErr_SetString(PyExc_AssertionError, "group argument must be None for now");
        return -1;
    }
    PyObject *target = given[TARGET] != NULL ? given[TARGET] : Py_None;
    made->target = Py_NewRef(target);
    made->args = Py_NewRef(given[ARGS] != NULL ? given[ARGS] : state->empty_tuple);
    made->keywords = Py_NewRef(given[KWARGS] != NULL ? given[KWARGS] : Py_None);
    if (set_name(state, made, given[NAME], target) < 0) {
        return -1;
    }
    PyObject *daemon = given[DAEMON];
    made->daemonic = daemon == NULL || daemon == Py_None ? creators_daemonic(state)
                                                         : checked_daemonic(state, daemon);
    if (made->daemonic == NULL) {
        return -1;
    }
    PyObject *context = given[CONTEXT] != NULL ? given[CONTEXT] : Py_None;
    if (context != Py_None && !PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError, "context must be a contextvars.Context or None, not %s",
                     Py_TYPE(context)->tp_name);
        return -1;
    }
    made->context = Py_NewRef(context);
    made->handle = call_threading(state, state->names.handle_type);
    return made->handle == NULL ? -1 : 0;
}

static int
thread_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static const char *const keywords[] = {"group", "target", "name", "args", "kwargs",
                                           "daemon", "context", NULL};
    static _PyArg_Parser parser = {.keywords = keywords, .fname = "Thread.__init__"};
    PyObject *given[PARAMETERS] = {NULL};       // those that were not, stay so
    PyObject *const *found = _PyArg_UnpackKeywords(
        _PyTuple_CAST(args)->ob_item, PyTuple_GET_SIZE(args), kwargs, NULL, &parser,
        0, POSITIONAL, 0, given);
    if (found == NULL) {
        return -1;
    }
    if (found != given) {           // nothing was given by keyword
        memcpy(given, found, PyTuple_GET_SIZE(args) * sizeof(given[0]));
    }
    _PyVThreadModuleState *state = state_of(op);
    struct fields fields = {NULL};
    if (state == NULL || make(state, &fields, given) < 0) {
        drop(&fields);
        return -1;
    }
    thread_object *self = (thread_object *)op;
    struct fields old;
    Py_BEGIN_CRITICAL_SECTION(op);
    old = self->fields;
    self->fields = fields;
    Py_END_CRITICAL_SECTION();
    drop(&old);
    return 0;
}

// Would run() do nothing but call the target, unseen?  1, 0, or -1 with an exception.
static int
only_calls(_PyVThreadModuleState *state, PyObject *op, struct fields *f)
{
    if (f->target == NULL || !(PyFunction_Check(f->target) || PyMethod_Check(f->target))
        || f->args == NULL || !PyTuple_CheckExact(f->args))
    {
        return 0;
    }
    int has_keywords = f->keywords == NULL ? 0 : PyObject_IsTrue(f->keywords);
    if (has_keywords != 0) {
        return has_keywords < 0 ? -1 : 0;
    }
    PyObject *run = NULL;
    int is_unbound = _PyObject_GetMethod(op, state->names.run, &run);
    if (run == NULL) {
        return -1;
    }
    PyObject *plain_run = _PyType_LookupRef(Py_TYPE(op), state->names.plain_run);
    bool is_plain = is_unbound && run == plain_run;
    Py_DECREF(run);
    Py_XDECREF(plain_run);
    if (!is_plain) {
        return 0;
    }
    // These want to see run().
    int has_hook = threading_has(state, state->names.trace_hook);
    if (has_hook == 0) {
        has_hook = threading_has(state, state->names.profile_hook);
    }
    return has_hook < 0 ? -1 : !has_hook;
}

// -1: an exception; 1: the target will be called, and nothing else; 0: _bootstrap() will.
static int
start(_PyVThreadModuleState *state, PyObject *op, struct fields *f)
{
    if (f->handle == NULL || f->daemonic == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "thread.__init__() not called");
        return -1;
    }
    PyObject *ident = PyObject_GetAttr(f->handle, state->names.ident);
    if (ident == NULL) {
        return -1;
    }
    int is_started = PyObject_IsTrue(ident);
    Py_DECREF(ident);
    if (is_started > 0) {
        PyErr_SetString(PyExc_RuntimeError, "threads can only be started once");
    }
    if (is_started != 0) {
        return -1;
    }
    int daemon = PyObject_IsTrue(f->daemonic);
    int is_direct = daemon < 0 ? -1 : only_calls(state, op, f);
    if (is_direct < 0) {
        return -1;
    }
    PyObject *function = is_direct ? Py_NewRef(f->target)
                                   : PyObject_GetAttr(op, state->names.bootstrap);
    if (function == NULL) {
        return -1;
    }
    PyObject *handle = _PyVThreadModule_Start(state, function,
                                              is_direct ? f->args : state->empty_tuple,
                                              f->handle, daemon, op, f->context);
    Py_DECREF(function);
    if (handle == NULL) {
        return -1;
    }
    Py_DECREF(handle);
    return is_direct;
}

static PyObject *
thread_start(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    _PyVThreadModuleState *state = state_of(op);
    if (state == NULL) {
        return NULL;
    }
    thread_object *self = (thread_object *)op;
    struct fields f = {NULL};
    Py_BEGIN_CRITICAL_SECTION(op);
    f.target = Py_XNewRef(self->fields.target);
    f.args = Py_XNewRef(self->fields.args);
    f.keywords = Py_XNewRef(self->fields.keywords);
    f.daemonic = Py_XNewRef(self->fields.daemonic);
    f.context = Py_XNewRef(self->fields.context);
    f.handle = Py_XNewRef(self->fields.handle);
    Py_END_CRITICAL_SECTION();
    int is_direct = start(state, op, &f);
    drop(&f);
    if (is_direct < 0) {
        return NULL;
    }
    if (is_direct) {
        // run() will not do it.
        Py_BEGIN_CRITICAL_SECTION(op);
        f.target = self->fields.target;
        f.args = self->fields.args;
        f.keywords = self->fields.keywords;
        FT_ATOMIC_STORE_PTR_RELEASE(self->fields.target, NULL);
        FT_ATOMIC_STORE_PTR_RELEASE(self->fields.args, NULL);
        FT_ATOMIC_STORE_PTR_RELEASE(self->fields.keywords, NULL);
        Py_END_CRITICAL_SECTION();
        drop(&f);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(start_doc,
"start($self, /)\n--\n\n"
"Start the thread; its ident is known when this returns.\n\n"
"It may not have run yet by then.  RuntimeError is raised when the thread has\n"
"been started before, or when no thread can be started.  Does not block.");

static int
thread_traverse(PyObject *op, visitproc visit, void *arg)
{
    struct fields *f = &((thread_object *)op)->fields;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(f->target);
    Py_VISIT(f->args);
    Py_VISIT(f->keywords);
    Py_VISIT(f->title);
    Py_VISIT(f->label);
    Py_VISIT(f->daemonic);
    Py_VISIT(f->context);
    Py_VISIT(f->handle);
    return 0;
}

static int
thread_clear(PyObject *op)
{
    drop(&((thread_object *)op)->fields);
    return 0;
}

static void
thread_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)thread_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

#define FIELD(name) offsetof(thread_object, fields.name)

static PyMemberDef members[] = {
    {"_target", Py_T_OBJECT_EX, FIELD(target)},
    {"_args", Py_T_OBJECT_EX, FIELD(args)},
    {"_keywords", Py_T_OBJECT_EX, FIELD(keywords)},
    {"_title", Py_T_OBJECT_EX, FIELD(title)},
    {"_label", Py_T_OBJECT_EX, FIELD(label)},
    {"_number", Py_T_ULONGLONG, FIELD(number)},
    {"_daemonic", Py_T_OBJECT_EX, FIELD(daemonic)},
    {"_context", Py_T_OBJECT_EX, FIELD(context), Py_READONLY},
    {"_handle", Py_T_OBJECT_EX, FIELD(handle)},
    {NULL},
};

static PyMethodDef methods[] = {
    {"start", thread_start, METH_NOARGS, start_doc},
    {NULL, NULL},
};

PyDoc_STRVAR(thread_doc,
"Thread(group=None, target=None, name=None, args=(), kwargs=None, *,\n"
"       daemon=None, context=None)\n"
"--\n\n"
"What virtual_threading.Thread is made of.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)thread_doc},
    {Py_tp_init, thread_init},
    {Py_tp_traverse, thread_traverse},
    {Py_tp_clear, thread_clear},
    {Py_tp_dealloc, thread_dealloc},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "_vthread.Thread",
    .basicsize = sizeof(thread_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

static const struct {
    size_t offset;
    const char *text;
} name_texts[] = {
#define NAME(field, text) {offsetof(struct _PyVThreadNames, field), text}
    NAME(bootstrap, "_bootstrap"),
    NAME(counter, "_counter"),
    NAME(current_thread, "current_thread"),
    NAME(daemon_threads_allowed, "_daemon_threads_allowed"),
    NAME(daemonic, "_daemonic"),
    NAME(handle_type, "_ThreadHandle"),
    NAME(ident, "ident"),
    NAME(main_thread, "_main_thread"),
    NAME(name, "__name__"),
    NAME(plain_run, "_plain_run"),
    NAME(profile_hook, "_profile_hook"),
    NAME(run, "run"),
    NAME(trace_hook, "_trace_hook"),
#undef NAME
};

static PyObject **
name_at(_PyVThreadModuleState *state, size_t i)
{
    return (PyObject **)((char *)&state->names + name_texts[i].offset);
}

int
_PyVThreadModule_AddThread(PyObject *module)
{
    _PyVThreadModuleState *state = _PyVThreadModule_GetState(module);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(name_texts); i++) {
        PyObject *name = PyUnicode_InternFromString(name_texts[i].text);
        if (name == NULL) {
            return -1;
        }
        *name_at(state, i) = name;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int res = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return res;
}

int
_PyVThreadModule_VisitThread(_PyVThreadModuleState *state, visitproc visit, void *arg)
{
    Py_VISIT(state->threading_globals);
    return 0;
}

void
_PyVThreadModule_ClearThread(_PyVThreadModuleState *state)
{
    Py_CLEAR(state->threading_globals);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(name_texts); i++) {
        Py_CLEAR(*name_at(state, i));
    }
}
