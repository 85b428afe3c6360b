#ifndef Py_VTHREADMODULE_H
#define Py_VTHREADMODULE_H

// What the source files of the module _vthread share.

#include "Python.h"

// Written when the module is made, but for what is said.
typedef struct {
    PyObject *thread_module;        // _thread
    PyObject *empty_tuple;
    // Of _vthread_thread.c:
    PyObject *threading_globals;    // set by bind()
    struct _PyVThreadNames {
        PyObject *bootstrap, *counter, *current_thread, *daemon_threads_allowed, *daemonic,
                 *handle_type, *ident, *main_thread, *name, *plain_run, *profile_hook, *run,
                 *trace_hook;
    } names;
} _PyVThreadModuleState;

extern struct PyModuleDef _PyVThreadModule;

static inline _PyVThreadModuleState *
_PyVThreadModule_GetState(PyObject *module)
{
    return (_PyVThreadModuleState *)PyModule_GetState(module);
}

// Starts a virtual thread that calls function(*args), in `context` if that is a Context.
// `thread`, which may be NULL, is kept alive until the thread ends, is what current() returns
// in it, and its _failed() is called for the call's exception.  Shutdown joins it unless
// `daemon`.  Returns the handle: `handle` if that is a _ThreadHandle, a new one for None.
// Blocks: no.  Locks held: none.
PyObject *_PyVThreadModule_Start(_PyVThreadModuleState *state, PyObject *function,
                                 PyObject *args, PyObject *handle, int daemon,
                                 PyObject *thread, PyObject *context);

// _vthread_thread.c: the type _vthread.Thread, which is added to the module.
int _PyVThreadModule_AddThread(PyObject *module);
int _PyVThreadModule_VisitThread(_PyVThreadModuleState *state, visitproc visit, void *arg);
void _PyVThreadModule_ClearThread(_PyVThreadModuleState *state);

#endif   // !Py_VTHREADMODULE_H
