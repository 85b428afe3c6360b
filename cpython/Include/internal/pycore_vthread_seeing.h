#ifndef Py_INTERNAL_VTHREAD_SEEING_H
#define Py_INTERNAL_VTHREAD_SEEING_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

// What can be seen of virtual threads from Python; the results are described in the
// docstrings of Modules/_vthreadmodule.c.  All but StatsDict and Inspect stop the world.

extern PyObject *_PyVThread_LiveObjects(void);
extern PyObject *_PyVThread_StatsDict(void);
extern PyObject *_PyVThread_Inspect(unsigned long ident);
extern PyObject *_PyVThread_Snapshot(void);

#endif   // !Py_INTERNAL_VTHREAD_SEEING_H
