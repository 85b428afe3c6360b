"""Extension modules that are not of the interpreter's build, made while the tests run."""

import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import unittest

# call(f) calls f and tells whether it came back to the OS thread where it left.  The kernel is
# asked: a compiler believes that pthread_self() never changes.  qsort() is there for its frames:
# of the C library, which is not declared.  With -DINIT_HOOK the import calls sys.vt_init_hook()
# before there is a module.
SOURCE = """
#include <Python.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

// Without a frame pointer any code may have anything in that register.
#ifdef ZERO_FRAME_POINTER
#  ifdef __x86_64__
#    define CLEAR_FRAME_POINTER() __asm__ volatile("xorl %%ebp, %%ebp" ::: "rbp")
#  else
#    define CLEAR_FRAME_POINTER() __asm__ volatile("mov x29, xzr" ::: "x29")
#  endif
#else
#  define CLEAR_FRAME_POINTER() ((void)0)
#endif

static PyObject *
call(PyObject *module, PyObject *func)
{
    long before = syscall(SYS_gettid);
    CLEAR_FRAME_POINTER();
    PyObject *res = PyObject_CallNoArgs(func);
    if (res == NULL) {
        return NULL;
    }
    return Py_BuildValue("(NN)", res, PyBool_FromLong(before == syscall(SYS_gettid)));
}

static int
compare(const void *a, const void *b)
{
    PyObject *res = PyObject_CallNoArgs(*(PyObject **)a);
    Py_XDECREF(res);
    return res == NULL ? -1 : 0;
}

static PyObject *
call_in_qsort(PyObject *module, PyObject *func)
{
    PyObject *both[2] = {func, func};
    qsort(both, 2, sizeof(both[0]), compare);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"call", call, METH_O, NULL},
    {"call_in_qsort", call_in_qsort, METH_O, NULL},
    {NULL, NULL},
};

#ifdef INIT_HOOK
#  define CALL_HOOK() Py_XDECREF(PyObject_CallNoArgs(PySys_GetObject("vt_init_hook")))
#else
#  define CALL_HOOK() ((void)0)
#endif

#define STRING(name) #name
#define INIT(name) PyInit_ ## name
#define EXPAND(macro, name) macro(name)

#ifdef SINGLE_PHASE

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = EXPAND(STRING, NAME),
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
EXPAND(INIT, NAME)(void)
{
    CALL_HOOK();
    PyObject *module = PyErr_Occurred() ? NULL : PyModule_Create(&module_def);
    if (module != NULL) {
        PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED);
    }
    return module;
}

#else

static PyModuleDef_Slot slots[] = {
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#ifdef VALUE
    {Py_mod_park_safe, VALUE},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = EXPAND(STRING, NAME),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
EXPAND(INIT, NAME)(void)
{
    CALL_HOOK();
    return PyErr_Occurred() ? NULL : PyModuleDef_Init(&module_def);
}

#endif
"""

# To be loaded before the C library: whoever waits for a semaphore finds another errno, as is
# allowed, also when there was no error.
OVERWRITES_ERRNO = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <semaphore.h>
#include <time.h>

int overwritten;

#define WAIT(name, parameters, ...) \\
    int \\
    name parameters \\
    { \\
        int (*wait) parameters = (int (*) parameters)dlsym(RTLD_NEXT, #name); \\
        int res = wait(__VA_ARGS__); \\
        if (res == 0) { \\
            errno = E2BIG; \\
            __atomic_add_fetch(&overwritten, 1, __ATOMIC_RELAXED); \\
        } \\
        return res; \\
    }

WAIT(sem_wait, (sem_t *sem), sem)
WAIT(sem_timedwait, (sem_t *sem, const struct timespec *end), sem, end)
WAIT(sem_clockwait, (sem_t *sem, clockid_t clock, const struct timespec *end), sem, clock, end)
"""


class Builder:
    """Makes modules in a directory that is removed in the end."""

    def __init__(self):
        cc = shlex.split(sysconfig.get_config_var('CC') or '')
        if not cc or shutil.which(cc[0]) is None:
            raise unittest.SkipTest("no C compiler")
        self._cc = cc
        self._directory = tempfile.TemporaryDirectory()

    def close(self):
        self._directory.cleanup()

    def build(self, name, *flags, source=SOURCE):
        """The path of a module with this name; flags are for the preprocessor."""
        source_path = os.path.join(self._directory.name, f"{name}.c")
        with open(source_path, 'w') as file:
            file.write(source)
        path = os.path.join(self._directory.name,
                            name + importlib.machinery.EXTENSION_SUFFIXES[0])
        includes = {sysconfig.get_path('include'), sysconfig.get_path('platinclude')}
        subprocess.run([*self._cc, '-shared', '-fPIC', '-O2', '-fomit-frame-pointer',
                        *(f'-I{directory}' for directory in sorted(includes)),
                        f'-DNAME={name}', *flags, source_path, '-o', path],
                       check=True)
        return path

    def load(self, path, fullname):
        """The module at path, imported as fullname; the caller takes it from sys.modules."""
        spec = importlib.util.spec_from_file_location(fullname, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[fullname] = module
        spec.loader.exec_module(module)
        return module

    def make(self, name, *flags, package=None):
        fullname = name if package is None else f"{package}.{name}"
        return self.load(self.build(name, *flags), fullname)
