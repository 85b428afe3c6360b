/* Which foreign modules are declared park-safe, by name or by their slot.
 *
 * A declaration by name holds for modules that are there and for those that are loaded
 * later; of a package, for all modules in it.  What is declared in the end is the loaded object
 * in which the module's definition stands, since that is what a frame can be asked for.
 */

#include "Python.h"
#include "pycore_lock.h"            // _PyRawMutex
#include "pycore_vthread_module.h"
#include "pycore_vthread_state.h"
#include "pycore_vthread_text.h"

// Only ever added to: one for each name.
struct declared {
    struct declared *next;
    char name[];
};

static struct {
    struct declared *first;         // atomic
    _PyRawMutex mutex;              // leaf: who adds
} names;

static bool
covers(const char *declared, const char *name)
{
    size_t len = strlen(declared);
    return strncmp(declared, name, len) == 0 && (name[len] == '\0' || name[len] == '.');
}

static int
remember(const char *name)
{
    int res = 0;
    _PyRawMutex_Lock(&names.mutex);
    struct declared *d = names.first;
    while (d != NULL && strcmp(d->name, name) != 0) {
        d = d->next;
    }
    if (d == NULL) {
        size_t size = strlen(name) + 1;
        d = malloc(sizeof(*d) + size);
        if (d != NULL) {
            memcpy(d->name, name, size);
            d->next = names.first;
            _Py_atomic_store_ptr_release(&names.first, d);
        }
        else {
            res = -1;
        }
    }
    _PyRawMutex_Unlock(&names.mutex);
    return res;
}

static void
mark(PyModuleDef *def)
{
    struct _PyVThread_Object *o = _PyVThread_ObjectOfData(def);
    if (o != NULL) {
        _Py_atomic_store_uint8(&o->park_safe, 1);
    }
}

void
_PyVThread_ModuleCreated(PyModuleDef *def, const char *name, int park_safe)
{
    if (park_safe) {
        (void)remember(name);       // for the list; what counts is the mark
        mark(def);
        return;
    }
    struct declared *d = _Py_atomic_load_ptr_acquire(&names.first);
    while (d != NULL && !covers(d->name, name)) {
        d = d->next;
    }
    if (d != NULL) {
        mark(def);
    }
}

int
_PyVThread_DeclareParkSafe(PyObject *name)
{
    const char *utf8 = PyUnicode_AsUTF8(name);
    if (utf8 == NULL) {
        return -1;
    }
    if (remember(utf8) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void
_PyVThread_MarkParkSafe(PyObject *module)
{
    PyModuleDef *def = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    if (def != NULL) {
        mark(def);
    }
}

PyObject *
_PyVThread_ParkSafeNames(void)
{
    PyObject *set = PySet_New(NULL);
    struct declared *d = _Py_atomic_load_ptr_acquire(&names.first);
    for (; set != NULL && d != NULL; d = d->next) {
        PyObject *name = PyUnicode_FromString(d->name);
        if (name == NULL || PySet_Add(set, name) < 0) {
            Py_CLEAR(set);
        }
        Py_XDECREF(name);
    }
    return set;
}
