#ifndef Py_INTERNAL_VTHREAD_LIFE_H
#define Py_INTERNAL_VTHREAD_LIFE_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

// Between carrier.c and vthread.c: what the pool calls on behalf of one thread.

#include "pycore_vthread_state.h"

// Makes a struct that was just allocated a thread that is not started; and, when its caller has
// filled in the rest, one that others find (_PyVThread_ForEach).
void _PyVThread_Prepare(struct _PyVThread *vt, PyInterpreterState *interp);
void _PyVThread_Publish(struct _PyVThread *vt);
// The body, on the thread's own stack.
void _PyVThread_RunTask(struct cpool_task *t);

#endif   // !Py_INTERNAL_VTHREAD_LIFE_H
