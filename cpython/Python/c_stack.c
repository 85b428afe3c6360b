/* The slow paths of pycore_c_stack.h. */

#include "Python.h"

#include "pycore_c_stack.h"
#include "pycore_pyerrors.h"      // _PyErr_Format()

// What Py_TRASHCAN_BEGIN() in object.h takes for granted, where this struct is not known.
static_assert(offsetof(_PyThreadStateImpl, c_stack_limit)
              == sizeof(PyThreadState) + sizeof(void *),
              "_Py_TRASHCAN_LOW() finds c_stack_limit");
static_assert(_PyCStack_DEALLOC_RESERVE == _Py_TRASHCAN_RESERVE,
              "two names of one thing");

#define BYTES_PER_DEALLOC 256

void
_PyCStack_Set(PyThreadState *tstate, void *low, void *base)
{
    size_t size = (size_t)((char *)base - (char *)low);
    size_t reserve = size / 2 < _PyCStack_RESERVE ? size / 2 : _PyCStack_RESERVE;
    ((_PyThreadStateImpl *)tstate)->c_stack_limit = (char *)low + reserve;

    size_t counts = (size - reserve) / BYTES_PER_DEALLOC;
    if (counts < (size_t)tstate->c_recursion_remaining) {
        tstate->c_recursion_remaining = (int)counts;
    }
}

int
_PyCStack_Overflow(PyThreadState *tstate, const char *where)
{
    if (tstate->recursion_headroom) {
        char *sp = (char *)__builtin_frame_address(0);
        if (sp < _PyCStack_Limit(tstate) - _PyCStack_HEADROOM) {
            Py_FatalError("Cannot recover from stack overflow.");
        }
        return 0;
    }
    tstate->recursion_headroom++;
    _PyErr_Format(tstate, PyExc_RecursionError, "maximum recursion depth exceeded%s", where);
    tstate->recursion_headroom--;
    ++tstate->c_recursion_remaining;
    return -1;
}

int
_PyCStack_OverflowUncounted(PyThreadState *tstate, const char *where)
{
    tstate->c_recursion_remaining--;    // an exception gives it back
    int res = _PyCStack_Overflow(tstate, where);
    if (res == 0) {
        tstate->c_recursion_remaining++;
    }
    return res;
}
