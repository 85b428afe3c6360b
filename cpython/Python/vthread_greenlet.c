/* greenlet, the package: refused in virtual threads.
 *
 * A greenlet is a part of its OS thread's C stack, which greenlet copies away and back, and its
 * state is thread-local: a virtual thread has neither an OS thread nor that stack for good.
 * Two of them on one carrier would be one thread to greenlet, which then copies stacks over
 * one another.  A clear error at the first greenlet takes the place of a crash at some later
 * switch.  Platform threads create greenlets as ever, and no thread can switch to another
 * thread's: greenlet sees to that itself.
 *
 * The type is greenlet's, static, and not subclassed when its module has just been made; so
 * all subclasses inherit the slot.
 */

#include "Python.h"
#include "pycore_vthread.h"             // _PyVThread_IsCurrent()
#include "pycore_vthread_module.h"

#ifdef Py_GIL_DISABLED

static newfunc original_new;            // set once, at import

static PyObject *
refuse_or_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (_PyVThread_IsCurrent()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "greenlets can't be created in a virtual thread: "
                        "they are bound to the stack of an OS thread");
        return NULL;
    }
    return original_new(type, args, kwargs);
}

void
_PyVThread_ModuleReady(PyObject *module)
{
    if (original_new != NULL || !PyModule_Check(module)) {
        return;
    }
    const char *name = PyModule_GetName(module);
    if (name == NULL || strcmp(name, "greenlet._greenlet") != 0) {
        PyErr_Clear();
        return;
    }
    PyObject *type = PyObject_GetAttrString(module, "greenlet");
    if (type != NULL && PyType_Check(type)) {
        original_new = ((PyTypeObject *)type)->tp_new;
        ((PyTypeObject *)type)->tp_new = refuse_or_new;
    }
    PyErr_Clear();
    Py_XDECREF(type);
}

#endif
