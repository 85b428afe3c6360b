#ifndef Py_INTERNAL_VTHREAD_CONTINUATION_H
#define Py_INTERNAL_VTHREAD_CONTINUATION_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Continuations of Python code: the control of them.  The type is in
 * Modules/_continuationsmodule.c, what a resume and a yield do in vthread_continuation.c.
 *
 *      NEW ------- start ---------------> RUNNING
 *      NEW ------- throw, close ---------> DONE
 *      RUNNING --- yield ---------------> SUSPENDED
 *      SUSPENDED - send, throw, close ---> RUNNING
 *      RUNNING --- the body ends ---------> DONE
 *
 * The phase is the lock of all other fields: who has changed it to RUNNING, by a
 * compare-and-swap, is the only one to touch them, until it stores another phase.  The
 * collector reads them with the world stopped, which no thread enters between such a store and
 * its own next turn at the eval loop.
 *
 * All functions are called attached, in the main interpreter.
 */

#include <stdbool.h>

struct _PyVThread;

enum _PyContinuation_Phase {
    _PyContinuation_NEW = 0,
    _PyContinuation_RUNNING,
    _PyContinuation_SUSPENDED,
    _PyContinuation_DONE,
};

typedef struct _PyContinuation {
    PyObject_HEAD
    PyObject *weakrefs;
    PyObject *func;                 // until the end; constant till then
    PyObject *args, *kwargs;        // tuple; dict or NULL: from the start to the end
    struct _PyVThread *state;       // thread state and native stack; from the start to the end
    uint8_t phase;                  // atomic: enum _PyContinuation_Phase
    bool started;                   // written once, before it runs

    // While RUNNING:
    struct _PyContinuation *outer;  // in whose body it was resumed, or NULL; borrowed
    struct _PyContinuation *target; // to whom it has yielded: outer, or one further out
    PyObject *passed;               // what goes in or comes out: strong
    bool raises;                    // `passed` is an exception
    int depth;                      // of nesting
    int os_pins, pins;              // of the OS thread and of the thread, when it was resumed

    // While SUSPENDED:
    uint64_t bound_to;              // id of the only OS thread that may resume it, or 0
    const char *bound_by;           // the object with the foreign frame
} PyContinuationObject;

// The innermost continuation that runs here, or NULL.  Borrowed.
extern PyContinuationObject *_PyContinuation_Current(void);

// Calls c->func on a stack of its own, until it yields or ends.  Returns what it yields or
// returns, or NULL with what it raises.  RuntimeError if it was started before, or if this is
// a subinterpreter; MemoryError.
// Blocks: if the body does.  Allocates: yes.  Switches: yes.
extern PyObject *_PyContinuation_Start(PyContinuationObject *c, PyObject *args,
                                       PyObject *kwargs);

// Resumes c: its yield returns `value`, or raises it if `raises`.  Steals the reference to
// value.  Returns as start.  If c is what has resumed the caller, directly or not, yields
// value to it instead.  ValueError if c runs otherwise; RuntimeError if it has ended or can be
// resumed by another OS thread only; RecursionError.
// Blocks: if the body does.  Allocates: if it was not started.  Switches: yes.
extern PyObject *_PyContinuation_Resume(PyContinuationObject *c, PyObject *value,
                                        bool raises);

// Suspends the innermost continuation.  Returns what its next resume brings.  RuntimeError
// where there is none, or where it can't be left.
// Blocks: no.  Allocates: no.  Switches: yes.
extern PyObject *_PyContinuation_Yield(PyObject *value);

// As a generator's close(): what the body returns, or None.
extern PyObject *_PyContinuation_Close(PyContinuationObject *c);

// Of the type: tp_finalize, and the objects that the suspended frames hold.
extern void _PyContinuation_Finalize(PyContinuationObject *c);
extern int _PyContinuation_VisitFrames(PyContinuationObject *c, visitproc visit, void *arg);

// --- vthread_lend.c ---------------------------------------------------------------------------

// Gives what belongs to the running thread (threading.local, trace functions, ...) from one
// thread state to another that runs above it, and takes it back.  No thread state that is
// below another one has any of it.
// Blocks: no.  Allocates: no.  May run: finalizers (take back).
extern void _PyContinuation_Lend(PyThreadState *from, PyThreadState *to);
extern void _PyContinuation_TakeBack(PyThreadState *from, PyThreadState *to);

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_CONTINUATION_H
