#ifndef Py_INTERNAL_VTHREAD_SOFT_H
#define Py_INTERNAL_VTHREAD_SOFT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Soft park: a virtual thread that waits without a C stack.
 *
 * Problem: a parked thread keeps a page or two of C stack and its share of page tables, 6 KB
 * and more, for C frames that mostly are the same ones: a builtin that waits, called by the
 * outermost eval loop, called by the thread's runner.  What counts is on the heap: the Python
 * frames, and what the builtin waits for.  So these C frames are left, and made anew after
 * the wait, on whatever stack the carrier has.
 *
 *     eval loop (outermost)              builtin
 *       BeginOffer(callable)
 *       vectorcall  -------------------> AcceptOffer(function)      its first statement
 *                                        parses its arguments, may run Python, may raise
 *       EndOffer()                       Soft...(): takes the offer, or says no: it waits
 *       result is NULL, no exception <-- returns NULL
 *       error: Leaves()?  saves its registers in the frame, returns NULL
 *     runner (_PyVThread_RunOutermost)
 *       first step of what was taken: enters itself where it will be woken
 *       detaches; cpool_park_at_return(); returns: the stack is given back
 *                    ... woken: the runner is called again, on another stack ...
 *       attaches; next step: a result, an exception, or another wait
 *     eval loop, anew, with the frames, the entry frame and the depth that it has left
 *       pushes the result (or goes to its error label), and dispatches
 *
 * Who may leave: the eval loop that the runner has called, which `soft.entry` tells: the entry
 * frame is the same for each first activation of a thread, and it is not the thread state's
 * if soft parks are impossible (platform threads).  No other C frame has anything to go on
 * with then.  An instruction offers only itself: what the builtin runs finds no
 * offer (AcceptOffer() has removed it, and knows which function is meant).
 *
 * Nothing that can't be taken back may happen between Soft...() and the return of the eval
 * loop: the references of the arguments are dropped there, which can run finalizers.  That is
 * why the runner begins the wait, and not the builtin.
 *
 * An instrumented call that is left keeps its inputs on the frame's stack: the instruction's
 * event of the call's end comes when it has ended, and tells of them (EndCall).
 */

#include "opcode.h"                 // BEFORE_WITH, INSTRUMENTED_CALL
#include "pycore_frame.h"           // _PyInterpreterFrame
#include "pycore_lock.h"            // PyMutex, PyEvent
#include "pycore_pystate.h"         // _PyThreadState_GET()
#include "pycore_tstate.h"          // _PyThreadStateImpl
#include "pycore_vthread.h"         // _PyVThread_IsCurrent()

// How a builtin that has taken an offer waits for something of `object`; all are called attached.
struct _PyVThread_SoftOps {
    // Gets it, and returns 1; or returns 0, and has queued the thread in the parking lot, by
    // _PyParkingLot_Queue(addr), if it may.  `since`: when it began to wait.  `arg` is kept for
    // `finish`.  May wait for a critical section before it queues.
    int (*get)(PyObject *object, void *addr, int may_queue, PyTime_t since, void *arg);
    // It was woken: did its waker, through its park_arg, give it what it waits for?  NULL: no.
    int (*was_given)(const void *arg);
    // The call's result, when it has got it (done), or has timed out.
    PyObject *(*finish)(PyObject *object, int done, void *arg);
};

// How a builtin that has taken an offer waits for a descriptor of `object`.
struct _PyVThread_SoftFdOps {
    short events;                   // POLLIN or POLLOUT
    const char *reason;             // static string: what it waits for
    // Called attached when the descriptor seems ready (1), the time is over (0), or an exception
    // is set by what has ended the wait (-1).  The call's result, or NULL with an exception;
    // NULL without one: waits for more.  Does not block.
    PyObject *(*call)(PyObject *object, int ready, void *arg);
};

#ifdef Py_GIL_DISABLED

// --- The eval loop ------------------------------------------------------------------------

// As its `throwflag`: goes on after a call by which it was left.
#define _PyVThread_RESUME 2

// Around a call by an instruction of the eval loop with this entry frame.  A load and a
// compare, and a store.
static inline void
_PyVThread_BeginOffer(PyThreadState *tstate, _PyInterpreterFrame *entry, PyObject *callable)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    if (ts->soft.entry == entry) {
        ts->soft.offer = callable;
    }
}

static inline void
_PyVThread_EndOffer(PyThreadState *tstate)
{
    ((_PyThreadStateImpl *)tstate)->soft.offer = NULL;
}

extern int _PyVThread_UnbindMethod(PyObject **callable, PyObject **args);

// A call with a tuple of arguments, which a method would make through C frames: becomes the
// call of the method's function, which is inlined, if the eval loop with this entry frame can
// be left.  Nothing changes for other callables.  -1: no memory, and nothing has changed.
static inline int
_PyVThread_UnbindCallable(PyThreadState *tstate, _PyInterpreterFrame *entry,
                          PyObject **callable, PyObject **args)
{
    if (((_PyThreadStateImpl *)tstate)->soft.entry != entry || !PyMethod_Check(*callable)) {
        return 0;
    }
    return _PyVThread_UnbindMethod(callable, args);
}

extern int _PyVThread_PushMethod(PyThreadState *tstate, PyObject *method,
                                 _PyInterpreterFrame **frame);

// A call without arguments by an instruction of the eval loop with this entry frame, which may be
// left: 1, and the frame of the method's function, to be run by this eval loop; 0 if the call is
// to be made as ever; -1 with an exception.
static inline int
_PyVThread_PushCallable(PyThreadState *tstate, _PyInterpreterFrame *entry,
                        PyObject *callable, _PyInterpreterFrame **frame)
{
    if (((_PyThreadStateImpl *)tstate)->soft.entry != entry || !PyMethod_Check(callable)) {
        return 0;
    }
    return _PyVThread_PushMethod(tstate, callable, frame);
}

// NULL without an exception is no error now.
static inline int
_PyVThread_TookOffer(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->soft.taken;
}

// The same, and the eval loop with this entry frame is to return NULL.
static inline int
_PyVThread_Leaves(PyThreadState *tstate, _PyInterpreterFrame *entry)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    return ts->soft.taken && ts->soft.entry == entry;
}

// It does: what it needs to go on behind the call, at next_instr.  The entry frame stays with
// the thread, below its frames.
static inline void
_PyVThread_Leave(PyThreadState *tstate, _PyInterpreterFrame *frame, _Py_CODEUNIT *next_instr,
                 int opcode, int oparg)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    frame->return_offset = (uint16_t)(next_instr - frame->instr_ptr);
    // An exception between the acquisition and the body of a `with` would leave a lock locked.
    ts->soft.unchecked = opcode == BEFORE_WITH;
    int instrumented = opcode == INSTRUMENTED_CALL || opcode == INSTRUMENTED_CALL_KW
                       || opcode == INSTRUMENTED_CALL_FUNCTION_EX;
    ts->soft.instrumented = (uint8_t)(instrumented ? opcode : 0);
    ts->soft.oparg = oparg;
}

// The eval loop goes on, with _PyVThread_RESUME.
static inline _PyInterpreterFrame *
_PyVThread_LeftEntry(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->soft.entry;
}

// What the call returns after all: a new reference, or NULL with an exception set.
extern PyObject *_PyVThread_TakeResult(PyThreadState *tstate);

extern PyObject **_PyVThread_EndInstrumented(PyThreadState *tstate, _PyInterpreterFrame *frame,
                                             PyObject **stack_pointer, PyObject **result);

// The call has ended with *result.  If it is instrumented: fires the event, which may replace the
// result by an exception, and drops the call's inputs.  Returns the new stack pointer.
static inline PyObject **
_PyVThread_EndCall(PyThreadState *tstate, _PyInterpreterFrame *frame,
                   PyObject **stack_pointer, PyObject **result)
{
    if (!((_PyThreadStateImpl *)tstate)->soft.instrumented) {
        return stack_pointer;
    }
    return _PyVThread_EndInstrumented(tstate, frame, stack_pointer, result);
}

// Does the instruction look at the eval breaker after its call?
static inline int
_PyVThread_ChecksAfter(PyThreadState *tstate)
{
    return !((_PyThreadStateImpl *)tstate)->soft.unchecked;
}

// --- The thread's runner -----------------------------------------------------------------

// At the runner's begin: it is called again.  The state of a platform thread, which may be gone
// at that time, is not looked at.
static inline int
_PyVThread_RunsAgain(PyThreadState *tstate)
{
    return _PyVThread_IsCurrent() && ((_PyThreadStateImpl *)tstate)->soft.parked;
}

// The runner is to return, detached, and will be called again.
static inline int
_PyVThread_IsSoftParked(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->soft.parked;
}

// As PyObject_Call(), for the outermost call of a thread.  When _PyVThread_IsSoftParked() is
// true afterwards, there is no result yet, and the thread is detached: returns at once, and
// calls this again, in the same way, when it runs next.  Attached else.  May drop *args, when the
// call's frame has what is in it: a thread that waits needs no tuple.
extern PyObject *_PyVThread_RunOutermost(PyThreadState *tstate, PyObject *func,
                                         PyObject **args, PyObject *kwargs);

// --- Builtins that wait ------------------------------------------------------------------

// In place of an offer: one that was accepted, for the function which the builtin will call.
#define _PyVThread_KEPT ((PyObject *)1)

// A builtin's first statement: was this very call offered?  (`function` is its own address.)
static inline int
_PyVThread_AcceptOffer(PyCFunction function)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)_PyThreadState_GET();
    PyObject *callable = ts->soft.offer;
    if (callable == NULL) {
        return 0;
    }
    ts->soft.offer = NULL;
    if (callable == _PyVThread_KEPT) {
        return 0;
    }
    if (PyCFunction_Check(callable)) {
        return ((PyCFunctionObject *)callable)->m_ml->ml_meth == function;
    }
    return Py_IS_TYPE(callable, &PyMethodDescr_Type)
           && ((PyMethodDescrObject *)callable)->d_method->ml_meth == function;
}

// Where the function that waits is called by the one that accepts, with generated code in
// between: that keeps the offer, and this one's first statement asks for it.  It is lost,
// which does no harm, if Python code runs in between.
static inline void
_PyVThread_KeepOffer(int accepted)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)_PyThreadState_GET();
    ts->soft.offer = accepted ? _PyVThread_KEPT : NULL;
}

static inline int
_PyVThread_KeptOffer(void)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)_PyThreadState_GET();
    int kept = ts->soft.offer == _PyVThread_KEPT;
    ts->soft.offer = NULL;
    return kept;
}

// These take an offer that was accepted.  True: the builtin returns NULL now.  False, with
// nothing done: the thread can't leave its stack, or need not wait; the builtin goes on as ever.
// Call attached.  Block: no.  Allocate: no.

// Sleeps for `timeout` ns, more than 0; the call returns None.
PyAPI_FUNC(int) _PyVThread_SoftSleep(PyTime_t timeout);
// Waits for at most `timeout` ns (< 0: for ever) for what is at `addr` in `object`, which is kept
// alive.
PyAPI_FUNC(int) _PyVThread_SoftWait(PyObject *object, void *addr, PyTime_t timeout,
                                    const struct _PyVThread_SoftOps *ops);

// Lets others run; the call returns None.
PyAPI_FUNC(int) _PyVThread_SoftYield(void);
// Waits for at most `timeout` ns (< 0: for ever) until `fd` of `object`, which is kept alive,
// is ready.  `arg`, at most 16 bytes, is copied.
PyAPI_FUNC(int) _PyVThread_SoftWaitFd(PyObject *object, int fd, PyTime_t timeout,
                                      const struct _PyVThread_SoftFdOps *ops,
                                      const void *arg, size_t size);

// For ops of a PyMutex, and of a PyEvent.
extern int _PyMutex_SoftGet(PyObject *object, void *m, int may_queue, PyTime_t since,
                            void *arg);
extern int _PyMutex_WasHandedOver(const void *arg);
extern int _PyEvent_SoftGet(PyObject *object, void *e, int may_queue, PyTime_t since,
                            void *arg);

// A lock that is held now, by the mutex that is in it.
static inline int
_PyVThread_SoftLock(PyObject *object, PyMutex *m, PyTime_t timeout,
                    const struct _PyVThread_SoftOps *ops)
{
    return timeout != 0 && PyMutex_IsLocked(m)
           && _PyVThread_SoftWait(object, m, timeout, ops);
}

// Whether offers are taken at all, for tests.  Returns what it was.
extern int _PyVThread_EnableSoftPark(int enable);

#else   // !Py_GIL_DISABLED: no virtual threads

#define _PyVThread_RESUME 2
#define _PyVThread_BeginOffer(tstate, entry, callable) ((void)0)
#define _PyVThread_EndOffer(tstate) ((void)0)
#define _PyVThread_UnbindCallable(tstate, entry, callable, args) 0
#define _PyVThread_PushCallable(tstate, entry, callable, frame) 0
#define _PyVThread_TookOffer(tstate) 0
#define _PyVThread_Leaves(tstate, entry) 0
#define _PyVThread_Leave(tstate, frame, next_instr, opcode, oparg) ((void)0)
#define _PyVThread_LeftEntry(tstate) NULL
#define _PyVThread_ChecksAfter(tstate) 1
#define _PyVThread_TakeResult(tstate) NULL
#define _PyVThread_EndCall(tstate, frame, stack_pointer, result) (stack_pointer)
#define _PyVThread_RunsAgain(tstate) 0
#define _PyVThread_IsSoftParked(tstate) 0
#define _PyVThread_RunOutermost(tstate, func, args, kwargs) PyObject_Call(func, *(args), kwargs)
#define _PyVThread_AcceptOffer(function) 0
#define _PyVThread_KeepOffer(accepted) ((void)(accepted))
#define _PyVThread_KeptOffer() 0
#define _PyVThread_SoftSleep(timeout) 0
#define _PyMutex_SoftGet NULL
#define _PyMutex_WasHandedOver NULL
#define _PyEvent_SoftGet NULL
#define _PyVThread_SoftWait(object, addr, timeout, ops) ((void)(ops), 0)
#define _PyVThread_SoftLock(object, m, timeout, ops) ((void)(ops), 0)
#define _PyVThread_SoftYield() 0
#define _PyVThread_SoftWaitFd(object, fd, timeout, ops, arg, size) 0

#endif

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_SOFT_H
