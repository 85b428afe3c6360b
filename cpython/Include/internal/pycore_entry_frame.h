#ifndef Py_INTERNAL_ENTRY_FRAME_H
#define Py_INTERNAL_ENTRY_FRAME_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Where an activation of the eval loop keeps its entry frame.
 *
 * Problem: each activation puts a frame of its own below the first Python frame that it
 * runs, and stock keeps it in a C local.  Other threads reach it: by f_back from any frame
 * object, sys._current_frames(), instrumentation, dumps, outside profilers.  The C stack
 * of a parked virtual thread may be frozen and its pages reused; a walk of its frames
 * then silently went on in another thread.
 *
 * So the entry frames live in memory of the thread state:
 *
 *     _PyThreadStateImpl                             chunk            chunk
 *     | first_entry_frame          |   used up -->  | 1 frame  | --> | 2 frames |
 *     | free_entry_frames ---------------------------------> unused one -> unused one -> NULL
 *     |                            |                          linked by `previous`
 *
 * A thread that runs one activation (a virtual thread that waits, mostly) needs no chunk.
 * Chunks stay until the thread state ends: the depth that was reached once is
 * reached again.  A push and a pop are two loads and a store each.
 *
 * Fields that no entry frame has a use for say where in the C stack the activation is, and
 * what Python/vthread_frames.c knows of the C frames below it.
 *
 * A frame that is not in use keeps its owner, so whoever still holds a stale pointer
 * walks unused entry frames to a NULL, and nothing else.
 *
 * Only the thread itself pushes and pops.
 */

#include "pycore_frame.h"         // _PyInterpreterFrame
#include "pycore_tstate.h"        // _PyThreadStateImpl

// Takes memory for more frames and returns one that is not on the list; NULL without memory,
// with no exception set.
extern _PyInterpreterFrame *_PyEntryFrame_More(_PyThreadStateImpl *ts);

// The eval loop has no entry frame for `frame`: drops the frame like an activation
// that raised MemoryError.  Returns NULL.
extern PyObject *_PyEntryFrame_NoMemory(PyThreadState *tstate, _PyInterpreterFrame *frame);

// Gives the memory back, when the thread runs no Python code any more.  May be called again.
extern void _PyEntryFrame_Clear(PyThreadState *tstate);

// The entry frame of one activation; a variable of this type pops at the end of its scope.
struct _Py_entry_frame {
    PyThreadState *tstate;
    _PyInterpreterFrame *frame;
};

static inline _PyInterpreterFrame *
_PyEntryFrame_Push(PyThreadState *tstate)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    _PyInterpreterFrame *f = ts->free_entry_frames;
    if (f == NULL) {
        return _PyEntryFrame_More(ts);
    }
    ts->free_entry_frames = f->previous;
    return f;
}

static inline void
_PyEntryFrame_Pop(struct _Py_entry_frame *e)
{
    if (e->frame != NULL) {
        _PyThreadStateImpl *ts = (_PyThreadStateImpl *)e->tstate;
        e->frame->previous = ts->free_entry_frames;
        ts->free_entry_frames = e->frame;
    }
}

// The activation of f begins, or goes on upon another stack; `fp`: its frame pointer.
static inline void
_PyEntryFrame_Begin(_PyInterpreterFrame *f, void *fp)
{
    f->f_builtins = (PyObject *)fp;
    f->f_globals = NULL;
}

static inline const uintptr_t *
_PyEntryFrame_FramePointer(_PyInterpreterFrame *f)
{
    assert(f->owner == FRAME_OWNED_BY_CSTACK);
    return (const uintptr_t *)f->f_builtins;
}

// Whether it was found that the activation returns into core frames only.  For as long as it
// lasts it does.
static inline bool
_PyEntryFrame_IsOnCore(_PyInterpreterFrame *f)
{
    assert(f->owner == FRAME_OWNED_BY_CSTACK);
    return f->f_globals != NULL;
}

static inline void
_PyEntryFrame_SetOnCore(_PyInterpreterFrame *f)
{
    assert(f->owner == FRAME_OWNED_BY_CSTACK);
    f->f_globals = Py_None;
}

// The eval loop has two exits, one of them in generated code.  The attribute covers both
// without a patch of that, and costs nothing else: there is no unwinding in C.
#define _PyEntryFrame_SCOPED __attribute__((cleanup(_PyEntryFrame_Pop)))

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_ENTRY_FRAME_H
