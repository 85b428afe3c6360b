/* _continuations: the type of Lib/continuations.py.
 *
 * What a resume and a yield do is in Python/vthread_continuation.c; here are names, arguments
 * and the life of the object.
 */

#ifndef Py_BUILD_CORE_BUILTIN
#  define Py_BUILD_CORE_MODULE 1
#endif

#include "Python.h"
#include "pycore_object.h"
#include "pycore_vthread_continuation.h"
#include "pycore_vthread_text.h"

#define CONTINUATION(op) ((PyContinuationObject *)(op))

static uint8_t
phase(PyObject *op)
{
    return _Py_atomic_load_uint8(&CONTINUATION(op)->phase);
}

// --- Life ---------------------------------------------------------------------------------------

static PyObject *
continuation_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"func", NULL};
    PyObject *func;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Continuation", keywords, &func)) {
        return NULL;
    }
    if (!PyCallable_Check(func)) {
        return PyErr_Format(PyExc_TypeError, "func must be callable, not %.200s",
                            Py_TYPE(func)->tp_name);
    }
    PyObject *op = type->tp_alloc(type, 0);
    if (op != NULL) {
        CONTINUATION(op)->func = Py_NewRef(func);
    }
    return op;
}

static int
continuation_traverse(PyObject *op, visitproc visit, void *arg)
{
    PyContinuationObject *c = CONTINUATION(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(c->func);
    Py_VISIT(c->args);
    Py_VISIT(c->kwargs);
    return _PyContinuation_VisitFrames(c, visit, arg);
}

static int
continuation_clear(PyObject *op)
{
    PyContinuationObject *c = CONTINUATION(op);
    if (c->state == NULL) {
        Py_CLEAR(c->func);
        Py_CLEAR(c->args);
        Py_CLEAR(c->kwargs);
    }
    return 0;
}

static void
continuation_finalize(PyObject *op)
{
    _PyContinuation_Finalize(CONTINUATION(op));
}

static void
continuation_dealloc(PyObject *op)
{
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    PyObject_ClearWeakRefs(op);
    (void)continuation_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *
continuation_repr(PyObject *op)
{
    static const char *const names[] = {
        [_PyContinuation_NEW] = "not started",
        [_PyContinuation_RUNNING] = "executing",
        [_PyContinuation_SUSPENDED] = "suspended",
        [_PyContinuation_DONE] = "completed",
    };
    return PyUnicode_FromFormat("<Continuation at %p, %s>", op, names[phase(op)]);
}

// --- Methods ------------------------------------------------------------------------------------

PyDoc_STRVAR(start_doc,
"start($self, /, *args, **kwargs)\n--\n\n"
"Call func(*args, **kwargs) in the continuation.\n\n"
"Return what it yields first, or what it returns if it does not yield.  What it\n"
"raises is raised here.  RuntimeError if it was started before, and in a\n"
"subinterpreter; RecursionError if too many run in one another.  Blocks while the\n"
"function does.");

static PyObject *
continuation_start(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return _PyContinuation_Start(CONTINUATION(op), args, kwargs);
}

PyDoc_STRVAR(send_doc,
"send($self, value=None, /)\n--\n\n"
"Resume the continuation: value is what its yield_() returns.\n\n"
"Return what it yields next, or what it returns.  What it raises is raised here.\n"
"One that was not started is started without arguments; value must be None then,\n"
"else TypeError.  RuntimeError if it has ended, or if code that is foreign to the\n"
"interpreter is on its stack and this is not the OS thread where it yielded;\n"
"ValueError if it is executing; RecursionError if too many run in one another.\n\n"
"Called from inside a continuation that this one is running, yields value to this\n"
"one: its call that has resumed the other returns value, and this call returns when\n"
"the other is resumed.");

PyDoc_STRVAR(run_doc,
"run($self, value=None, /)\n--\n\n"
"As send().");

static PyObject *
continuation_send(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        return PyErr_Format(PyExc_TypeError, "send expected at most 1 argument, got %zd",
                            nargs);
    }
    return _PyContinuation_Resume(CONTINUATION(op),
                                  Py_NewRef(nargs == 1 ? args[0] : Py_None), false);
}

PyDoc_STRVAR(throw_doc,
"throw($self, exc, /)\n--\n\n"
"Resume the continuation: its yield_() raises exc, an exception or its class.\n\n"
"Return and raise as send().  One that was not started ends without being called, and\n"
"exc is raised here; so it is if it has ended.");

static PyObject *
continuation_throw(PyObject *op, PyObject *exc)
{
    PyObject *value;
    if (PyExceptionClass_Check(exc)) {
        value = PyObject_CallNoArgs(exc);
        if (value == NULL) {
            return NULL;
        }
    }
    else {
        value = Py_NewRef(exc);
    }
    if (!PyExceptionInstance_Check(value)) {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from BaseException, "
                     "not %.200s", Py_TYPE(value)->tp_name);
        Py_DECREF(value);
        return NULL;
    }
    return _PyContinuation_Resume(CONTINUATION(op), value, true);
}

PyDoc_STRVAR(close_doc,
"close($self, /)\n--\n\n"
"End the continuation: its yield_() raises GeneratorExit.\n\n"
"Return what its function returns, or None if that raises GeneratorExit, was not\n"
"started or has ended.  RuntimeError if it yields again; ValueError if it is\n"
"executing.");

static PyObject *
continuation_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return _PyContinuation_Close(CONTINUATION(op));
}

// For pickle and copy.
static PyObject *
continuation_reduce(PyObject *op, PyObject *Py_UNUSED(protocol))
{
    PyErr_SetString(PyExc_TypeError,
                    "cannot pickle or copy 'Continuation' object: its native stack can't be");
    return NULL;
}

static PyMethodDef continuation_methods[] = {
    {"start", _PyCFunction_CAST(continuation_start), METH_VARARGS | METH_KEYWORDS, start_doc},
    {"send", _PyCFunction_CAST(continuation_send), METH_FASTCALL, send_doc},
    {"run", _PyCFunction_CAST(continuation_send), METH_FASTCALL, run_doc},
    {"throw", continuation_throw, METH_O, throw_doc},
    {"close", continuation_close, METH_NOARGS, close_doc},
    {"__reduce_ex__", continuation_reduce, METH_O, NULL},
    {"__reduce__", continuation_reduce, METH_NOARGS, NULL},
    {NULL, NULL},
};

// --- Attributes ---------------------------------------------------------------------------------

static PyObject *
get_started(PyObject *op, void *Py_UNUSED(closure))
{
    uint8_t p = phase(op);
    return PyBool_FromLong(p == _PyContinuation_DONE ? CONTINUATION(op)->started
                                                     : p != _PyContinuation_NEW);
}

static PyObject *
get_executing(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(phase(op) == _PyContinuation_RUNNING);
}

static PyObject *
get_completed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(phase(op) == _PyContinuation_DONE);
}

static PyGetSetDef continuation_getset[] = {
    {"started", get_started, NULL,
     PyDoc_STR("True once its function has been called.")},
    {"executing", get_executing, NULL,
     PyDoc_STR("True while it is resumed, by whatever thread, and has neither yielded nor "
               "ended.")},
    {"completed", get_completed, NULL,
     PyDoc_STR("True once its function has returned or raised, or it was closed.")},
    {NULL},
};

PyDoc_STRVAR(continuation_doc,
"Continuation(func)\n--\n\n"
"A call of func that can be suspended, by yield_(), and resumed.\n\n"
"func is any callable.  See the module's documentation.");

static PyMemberDef continuation_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(PyContinuationObject, weakrefs),
     Py_READONLY},
    {NULL},
};

static PyType_Slot continuation_slots[] = {
    {Py_tp_doc, (void *)continuation_doc},
    {Py_tp_new, continuation_new},
    {Py_tp_traverse, continuation_traverse},
    {Py_tp_clear, continuation_clear},
    {Py_tp_finalize, continuation_finalize},
    {Py_tp_dealloc, continuation_dealloc},
    {Py_tp_repr, continuation_repr},
    {Py_tp_methods, continuation_methods},
    {Py_tp_members, continuation_members},
    {Py_tp_getset, continuation_getset},
    {0, NULL},
};

static PyType_Spec continuation_spec = {
    .name = "continuations.Continuation",
    .basicsize = sizeof(PyContinuationObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = continuation_slots,
};

// --- Module -------------------------------------------------------------------------------------

PyDoc_STRVAR(yield_doc,
"yield_($module, value=None, /)\n--\n\n"
"Suspend the innermost continuation that runs here.\n\n"
"The call that has started or resumed it returns value.  Return what is sent by the\n"
"next resume, or raise what that throws; it may come from another thread.\n"
"RuntimeError outside of a continuation, in a finalizer that an object's end has called,\n"
"during the import of an extension module, and in a block of virtual_threading.pin()\n"
"that was entered inside.");

static PyObject *
continuations_yield(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > 1) {
        return PyErr_Format(PyExc_TypeError, "yield_ expected at most 1 argument, got %zd",
                            nargs);
    }
    return _PyContinuation_Yield(nargs == 1 ? args[0] : Py_None);
}

PyDoc_STRVAR(current_doc,
"get_current_continuation($module, /)\n--\n\n"
"Return the innermost continuation that runs here, or None.");

static PyObject *
continuations_current(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    PyContinuationObject *c = _PyContinuation_Current();
    return Py_NewRef(c != NULL ? (PyObject *)c : Py_None);
}

static PyMethodDef methods[] = {
    {"yield_", _PyCFunction_CAST(continuations_yield), METH_FASTCALL, yield_doc},
    {"get_current_continuation", continuations_current, METH_NOARGS, current_doc},
    {NULL, NULL},
};

static int
module_exec(PyObject *module)
{
    _PyVThread_TextInit();
    PyObject *type = PyType_FromModuleAndSpec(module, &continuation_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int res = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return res;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_continuations",
    .m_doc = "Continuations; use the module continuations.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__continuations(void)
{
    return PyModuleDef_Init(&module_def);
}
