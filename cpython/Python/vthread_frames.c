/* Which native frames may move to another OS thread.
 *
 * A virtual thread that parks leaves its OS thread, and may be resumed by another.  Code of
 * the interpreter is made for that; foreign code is not: it may hold a mutex that knows its
 * OS thread, keep the address of a thread-local, or sit in the middle of a C++ catch block.
 * So before each park the chain of frame pointers is walked from here to the base of the
 * stack, and each return address is looked up (vthread_text.c).
 *
 *      frame of the caller      ...      frame of core code     foreign frame
 *      +-----------------+               +-----------------+    +------------+
 *      | saved fp  ------|--->   ... --->| saved fp  ------|--->| anything   |
 *      | return address  |               | return address -|--->| foreign    |
 *      +-----------------+               +-----------------+    +------------+
 *
 * Foreign code may use the frame pointer for something else, but that does no harm: the
 * walk stops at the first return address into foreign text, which stands in the frame of
 * the core function that it called.  The base frame has a saved frame pointer of 0, and is
 * known by its place.
 *
 * A thread that parks again and again below the same many C frames is not walked to the base
 * each time.  What an activation of the eval loop returns into is the same for as long as the
 * activation lasts, so its entry frame (pycore_entry_frame.h) keeps the answer, if that was
 * "core only", and the walk ends at the frame of such an activation.
 *
 * Budget: 1 to 2 ns a frame.
 *
 * If that foreign frame is of an object that was declared park-safe, the question is whether
 * all the others are.  The chain can't tell, so the unwinder does, by the objects' unwind
 * tables: some 200 ns a frame.  A walk that does not get to the base of the stack (generated
 * code has no tables) has found a foreign frame.
 */

#include "Python.h"
#include <unwind.h>
#include "pycore_entry_frame.h"
#include "pycore_vthread_state.h"
#include "pycore_vthread_text.h"

// The frames of the library's entry function and its assembler, above the base.
#define BASE_SIZE 256

// So many Python frames are looked at to find entry frames.  Where there is none among them
// there are fewer C frames than Python frames, and the walk is short by comparison.
#define LOOK_AT 16

struct unwinding {
    struct _PyVThread_Object *foreign;
    uintptr_t cfa;
};

static _Unwind_Reason_Code
unwind_frame(struct _Unwind_Context *context, void *arg)
{
    struct unwinding *u = arg;
    uintptr_t ip = (uintptr_t)_Unwind_GetIP(context);
    if (ip == 0) {
        return _URC_END_OF_STACK;
    }
    u->cfa = (uintptr_t)_Unwind_GetCFA(context);
    // A return address: the call stands before it.
    if (!_PyVThread_IsCoreText(ip - 1)) {
        struct _PyVThread_Object *o = _PyVThread_ObjectOfText(ip - 1);
        if (!o->is_core && !_Py_atomic_load_uint8_relaxed(&o->park_safe)) {
            u->foreign = o;
            return _URC_NORMAL_STOP;
        }
    }
    return _URC_NO_REASON;
}

static enum _PyVThread_Frames
classify_by_unwinding(uintptr_t base, struct _PyVThread_Object **foreign)
{
    struct unwinding u = {0};
    _Unwind_Backtrace(unwind_frame, &u);
    if (u.foreign != NULL) {
        *foreign = u.foreign;
        return _PyVThread_FOREIGN_FRAMES;
    }
    if (u.cfa > base || base - u.cfa > BASE_SIZE) {
        return _PyVThread_FOREIGN_FRAMES;
    }
    return _PyVThread_SAFE_FRAMES;
}

// The next entry frame from `f` on, which may be NULL; *left counts down.
static _PyInterpreterFrame *
find_entry_frame(_PyInterpreterFrame *f, int *left)
{
    for (; f != NULL && *left > 0; f = f->previous) {
        --*left;
        if (f->owner == FRAME_OWNED_BY_CSTACK) {
            return f;
        }
    }
    return NULL;
}

// The frame pointer of the innermost activation known to return into core frames only.
static const uintptr_t *
known_core(struct _PyVThread *vt)
{
    int left = LOOK_AT;
    _PyInterpreterFrame *f = find_entry_frame(vt->ts.base.current_frame, &left);
    while (f != NULL && !_PyEntryFrame_IsOnCore(f)) {
        f = find_entry_frame(f->previous, &left);
    }
    return f == NULL ? NULL : _PyEntryFrame_FramePointer(f);
}

// Of those activations that have their frames between `low` and `high`: the walk has passed them.
// A continuation's Python frames go on in its resumer's, whose C frames are on another stack.
static void
remember_core(struct _PyVThread *vt, uintptr_t low, uintptr_t high)
{
    int left = LOOK_AT;
    _PyInterpreterFrame *f = find_entry_frame(vt->ts.base.current_frame, &left);
    while (f != NULL && !_PyEntryFrame_IsOnCore(f)) {
        uintptr_t fp = (uintptr_t)_PyEntryFrame_FramePointer(f);
        if (low < fp && fp < high) {
            _PyEntryFrame_SetOnCore(f);
        }
        f = find_entry_frame(f->previous, &left);
    }
}

// Noinline: its own frame is the first of the chain.
Py_NO_INLINE enum _PyVThread_Frames
_PyVThread_ClassifyFrames(struct _PyVThread *vt, struct _PyVThread_Object **foreign)
{
    void *limit, *base;
    cont_stack_bounds(&vt->task.cont, &limit, &base);
    uintptr_t low = (uintptr_t)__builtin_frame_address(0);
    const uintptr_t *fp = (const uintptr_t *)low;
    const uintptr_t *core = known_core(vt);
    *foreign = NULL;
    while (fp != NULL && fp != core) {
        // Frames of one stack lie in order; anything else was no frame pointer.
        if ((uintptr_t)fp < low || (uintptr_t)(fp + 2) > (uintptr_t)base
            || (uintptr_t)fp % sizeof(void *) != 0)
        {
            return _PyVThread_FOREIGN_FRAMES;
        }
        low = (uintptr_t)(fp + 2);
        const uintptr_t *next = (const uintptr_t *)fp[0];
        uintptr_t ret = fp[1];
        // Foreign code may have had 0 in the register, too.
        bool is_base = next == NULL && (uintptr_t)base - low <= BASE_SIZE;
        if (!is_base && !_PyVThread_IsCoreText(ret)) {
            struct _PyVThread_Object *o = _PyVThread_ObjectOfText(ret);
            if (!o->is_core) {
                *foreign = o;
                if (!_Py_atomic_load_uint8_relaxed(&o->park_safe)) {
                    return _PyVThread_FOREIGN_FRAMES;
                }
                return classify_by_unwinding((uintptr_t)base, foreign);
            }
        }
        if (next == NULL && !is_base) {
            return _PyVThread_FOREIGN_FRAMES;
        }
        fp = next;
    }
    remember_core(vt, (uintptr_t)__builtin_frame_address(0), (uintptr_t)base);
    return _PyVThread_CORE_FRAMES;
}
