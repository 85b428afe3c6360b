#ifndef Py_INTERNAL_C_STACK_H
#define Py_INTERNAL_C_STACK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* The limit of the C stack, as an address.
 *
 * Problem: 3.13 counts recursive C calls (c_recursion_remaining, 10,000 of them) and
 * takes them for 838 bytes each, which is 8 MB.  A virtual thread's stack is smaller, and no count fits
 * it: sorted() with a recursive key takes 1.3 KB a count, dealloc of nested lists 0.2.
 * So a virtual thread has, beside the count, the address that its stack pointer must not
 * go below: c_stack_limit.  It is NULL on platform threads, where every comparison here
 * is false and all is as on stock.
 *
 *     base  +----------------------+  the thread's first frame
 *           |  ordinary use        |
 *           +----------------------+  c_stack_limit + DEALLOC_RESERVE: deallocs stop nesting
 *           |  ordinary use        |
 *           +----------------------+  c_stack_limit: RecursionError
 *           |  raising it          |
 *           +----------------------+  c_stack_limit - HEADROOM: raising it recurses: fatal
 *           |  what a C function   |
 *           |  uses unasked        |
 *     low   +----------------------+  guard
 *
 * Every cycle of calls that can be of any depth passes a check: the eval loop's, those of
 * Py_EnterRecursiveCall(), the trashcan's, that of a tuple's hash.  (CALL_BUILTIN_FAST and
 * its kind look at the count alone; but a builtin that calls Python code comes to the eval
 * loop's check.)
 */

#include "pycore_tstate.h"        // _PyThreadStateImpl

// From c_stack_limit to the end of the stack.  What needs it: a leaf C function between two
// checks.  The glibc's own bound for what it puts on the stack at once is 64 KB
// (getaddrinfo, printf of floats, qsort); dlopen takes 10 to 20 KB, a signal frame with AVX-512
// 3.5 KB, raising RecursionError some 5.  What takes more asks _PyCStack_HasRoom().
#define _PyCStack_RESERVE ((size_t)96 << 10)

// The part of it that is for raising RecursionError.
#define _PyCStack_HEADROOM ((size_t)16 << 10)

// For running finalizers when deallocs don't nest any more, without RecursionError in them:
// as the trashcan's 50 counts of 838 bytes.  _Py_TRASHCAN_LOW() of object.h has it too.
#define _PyCStack_DEALLOC_RESERVE ((size_t)40 << 10)

// What a count of c_recursion_remaining stands for, on stock.
#define _PyCStack_BYTES_PER_COUNT 838

static inline char *
_PyCStack_Limit(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->c_stack_limit;
}

// The C stack of `tstate`, which runs on it for the first time, are the addresses [low, base),
// `low` above the guard.  A stack of less than 2 * _PyCStack_RESERVE keeps half of
// itself as the reserve.  Also lowers c_recursion_remaining, for those who know
// nothing else: the trashcans in compiled extension modules (their deallocs take 100
// to 250 bytes a count).
extern void _PyCStack_Set(PyThreadState *tstate, void *low, void *base);

// The stack pointer is below the limit.
static inline int
_PyCStack_IsLow(PyThreadState *tstate)
{
    return (char *)__builtin_frame_address(0) < _PyCStack_Limit(tstate);
}

// `bytes` can be used before the end of the stack, from here.  True on platform threads.
static inline int
_PyCStack_HasRoom(PyThreadState *tstate, size_t bytes)
{
    char *limit = _PyCStack_Limit(tstate);
    if (limit == NULL) {
        return 1;
    }
    char *sp = (char *)__builtin_frame_address(0);
    return sp > limit && (size_t)(sp - limit) + _PyCStack_RESERVE / 2 > bytes;
}

// What a recursion that keeps a count of its own, up to `limit`, and `bytes` a level, starts
// with so that it ends in time; at least `start`, which is what it starts with on stock.
static inline int
_PyCStack_StartDepth(PyThreadState *tstate, int start, int limit, int bytes)
{
    char *stack_limit = _PyCStack_Limit(tstate);
    if (stack_limit == NULL) {
        return start;
    }
    char *sp = (char *)__builtin_frame_address(0);
    long levels = sp > stack_limit ? (long)((sp - stack_limit) / bytes) : 0;
    return limit - levels > start ? (int)(limit - levels) : start;
}

// The same for the parser, whose generated code raises MemoryError at this level.  The
// deepest that was found ("not not not ...") takes 125 bytes a level at -O3, 80 at -Og.
#define _PyCStack_PARSER_LEVELS 6000
#define _PyCStack_BYTES_PER_PARSER_LEVEL 144

static inline int
_PyCStack_ParserLevel(PyThreadState *tstate)
{
    return _PyCStack_StartDepth(tstate, 0, _PyCStack_PARSER_LEVELS,
                                _PyCStack_BYTES_PER_PARSER_LEVEL);
}

// The same for generated code that starts at what c_recursion_remaining says (the
// conversion of a syntax tree to objects; a long elif takes 315 bytes a level): lowers that
// to what the stack has room for.  Returns what to give back.
static inline int
_PyCStack_TakeCounts(PyThreadState *tstate)
{
    int start = Py_C_RECURSION_LIMIT - tstate->c_recursion_remaining;
    int depth = _PyCStack_StartDepth(tstate, start, Py_C_RECURSION_LIMIT,
                                     _PyCStack_BYTES_PER_COUNT);
    tstate->c_recursion_remaining -= depth - start;
    return depth - start;
}

static inline void
_PyCStack_GiveCounts(PyThreadState *tstate, int taken)
{
    tstate->c_recursion_remaining += taken;
}

// Py_EnterRecursiveCall() below the limit: -1 with RecursionError, or 0 if that is being
// raised already and there is room to go on.
// Export for shared stdlib modules, used via _Py_EnterRecursiveCall().
PyAPI_FUNC(int) _PyCStack_Overflow(PyThreadState *tstate, const char *where);

// The same for a recursion that stock neither counts nor limits.
extern int _PyCStack_OverflowUncounted(PyThreadState *tstate, const char *where);

static inline int
_PyCStack_EnterUncounted(PyThreadState *tstate, const char *where)
{
    return _PyCStack_IsLow(tstate) ? _PyCStack_OverflowUncounted(tstate, where) : 0;
}

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_C_STACK_H
