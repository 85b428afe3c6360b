/* What a continuation borrows from the thread that resumes it.
 *
 * A continuation has a thread state of its own, since the C frames on its stack hold pointers to
 * it.  But it is no thread: as a generator does, it runs in the thread that resumes it, and
 * threading.local, the running asyncio loop, the hooks and the trace functions that it sees are
 * that thread's, as are ident and name.  In a thread state these are fields, so they
 * move into that of the continuation when it is resumed, and back when it yields:
 *
 *      moves       what threading.local, the C API's thread dict and asyncio look up; hooks of
 *                  asynchronous generators; trace and profile function
 *      is linked   the frames (f_back of the lowest one) and the exceptions being handled
 *      is added    `tracing`: nothing is traced that a trace function resumes
 *      is its own  context variables, recursion depth, pending asynchronous exception
 *
 * Moved, not copied: each reference has one owner, and a field that is changed by the
 * continuation is changed for the thread.
 */

#include "Python.h"
#include "pycore_frame.h"
#include "pycore_pystate.h"
#include "pycore_vthread_continuation.h"
#include "pycore_vthread_state.h"

#define MOVE(from, to, field)       \
    do {                            \
        (to)->field = (from)->field; \
        (from)->field = NULL;       \
    } while (0)

static void
move(PyThreadState *from, PyThreadState *to)
{
    MOVE(from, to, dict);
    MOVE(from, to, threading_local_key);
    MOVE(from, to, threading_local_sentinel);
    MOVE(from, to, async_gen_firstiter);
    MOVE(from, to, async_gen_finalizer);
    MOVE((_PyThreadStateImpl *)from, (_PyThreadStateImpl *)to, asyncio_running_loop);
    to->coroutine_origin_tracking_depth = from->coroutine_origin_tracking_depth;
    MOVE(from, to, c_tracefunc);
    MOVE(from, to, c_traceobj);
    MOVE(from, to, c_profilefunc);
    MOVE(from, to, c_profileobj);
}

// What the lowest frame of the continuation has below it: nothing while it is suspended.  The
// lowest activation of the eval loop has the first entry frame, since these are a stack
// (pycore_entry_frame.h); before there is one, the link is the current frame itself.
static void
link_frames(PyThreadState *tstate, _PyInterpreterFrame *from, _PyInterpreterFrame *to)
{
    if (tstate->current_frame == from) {
        tstate->current_frame = to;
    }
    else {
        _PyInterpreterFrame *lowest =
            (_PyInterpreterFrame *)((_PyThreadStateImpl *)tstate)->first_entry_frame;
        assert(lowest->owner == FRAME_OWNED_BY_CSTACK && lowest->previous == from);
        lowest->previous = to;
    }
}

void
_PyContinuation_Lend(PyThreadState *from, PyThreadState *to)
{
    move(from, to);
    link_frames(to, NULL, from->current_frame);
    to->exc_state.previous_item = from->exc_info;
    to->tracing += from->tracing;
}

void
_PyContinuation_TakeBack(PyThreadState *from, PyThreadState *to)
{
    to->tracing -= from->tracing;
    to->exc_state.previous_item = NULL;
    link_frames(to, from->current_frame, NULL);
    // Who has set the trace functions of all threads meanwhile has set both states'.
    PyObject *old_trace = from->c_traceobj, *old_profile = from->c_profileobj;
    if (from->c_tracefunc != NULL) {
        _Py_atomic_add_ssize(&from->interp->sys_tracing_threads, -1);
    }
    if (from->c_profilefunc != NULL) {
        _Py_atomic_add_ssize(&from->interp->sys_profiling_threads, -1);
    }
    move(to, from);
    Py_XDECREF(old_trace);
    Py_XDECREF(old_profile);
}
