#ifndef Py_INTERNAL_VTHREAD_MODULE_H
#define Py_INTERNAL_VTHREAD_MODULE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Extension modules: those whose frames may be on the stack of a virtual thread that leaves its
 * OS thread (vthread_park_safe.c), and one that can't be used there (vthread_greenlet.c). */

// Of moduleobject.c, for each extension module that is made: `park_safe` says whether its
// slot Py_mod_park_safe does.  Raises nothing.
extern void _PyVThread_ModuleCreated(PyModuleDef *def, const char *name, int park_safe);

// Modules of this name (str), and those in the package of this name, are park-safe when they
// are loaded from now on.  -1 with an exception set.
extern int _PyVThread_DeclareParkSafe(PyObject *name);
// This loaded module is.  Nothing happens if it is no extension module.
extern void _PyVThread_MarkParkSafe(PyObject *module);
// A set of all names that were declared.
extern PyObject *_PyVThread_ParkSafeNames(void);

// Of import.c, for each extension module that has been loaded and executed.  Raises nothing.
#ifdef Py_GIL_DISABLED
extern void _PyVThread_ModuleReady(PyObject *module);
#else
#  define _PyVThread_ModuleReady(module) ((void)0)
#endif

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_MODULE_H
