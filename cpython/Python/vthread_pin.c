/* Waits that can't leave their OS thread: why, how many, where.
 *
 * A thread parks only if it may leave its OS thread.  It may not while
 *   - it was asked to stay (pin()),
 *   - its OS thread is in something that ends on this OS thread (pin_count: a finalizer run
 *     from a dealloc, a merge of reference counts, an attach, a fork),
 *   - a foreign native frame is on its stack,
 *   - it runs a continuation, whose stack is not its own,
 *   - or it is attached to a thread state that is not its own.
 * Below frames of modules that were declared park-safe it may, but comes back to the same
 * OS thread.
 *
 * Pins are counted, by reason and by the foreign object.  On request they are reported, to
 * stderr or to a handler: ten a second at most, since who pins once mostly does so often,
 * and the reports must not be what the program spends its time on.  A handler is Python
 * code and can't run here, below whatever waits: the report is kept for a thread that
 * takes it by _PyVThread_NextPin().
 */

#include "Python.h"
#include "pycore_code.h"            // PyCodeObject
#include "pycore_frame.h"
#include "pycore_lock.h"            // _PyRawMutex
#include "pycore_parking_lot.h"
#include "pycore_pystate.h"
#include "pycore_traceback.h"       // _Py_DumpTraceback()
#include "pycore_vthread_state.h"
#include "pycore_vthread_text.h"

const char *const _PyVThread_pin_names[_PyVThread_NUM_PINS] = {
    [_PyVThread_PIN_NONE] = "none",
    [_PyVThread_PIN_ASKED] = "pin()",
    [_PyVThread_PIN_MAIN] = "main thread of a forked child",
    [_PyVThread_PIN_CRITICAL] = "finalizer or runtime section",
    [_PyVThread_PIN_FOREIGN] = "foreign native frame",
    [_PyVThread_PIN_CONTINUATION] = "in a continuation",
    [_PyVThread_PIN_OTHER_STATE] = "another interpreter's thread state",
};
uint64_t _PyVThread_pin_counts[_PyVThread_NUM_PINS];

#define REPORT_EVERY_NS (100 * 1000 * 1000)
#define MAX_REPORTS 16
#define MAX_REPORT_FRAMES 64            // the innermost ones

struct report_frame {
    PyCodeObject *code;                 // strong
    int line;
};

struct report {
    PyObject *thread;                   // strong, or NULL
    enum _PyVThread_Pin why;
    struct _PyVThread_Object *object;   // or NULL
    int num_frames;
    struct report_frame frames[MAX_REPORT_FRAMES];      // innermost first
};

static struct {
    bool trace;                         // set at start-up
    int64_t next_report;                // atomic: not before this time, cpool_now()
    uint8_t watched;                    // atomic: a handler wants reports
    uint8_t news;                       // atomic, parked upon: 0 if NextPin() has seen all
    struct _PyVThread *watcher;         // atomic: who takes them; its own pins are no news
    _PyRawMutex mutex;                  // leaf; guards the rest
    unsigned first, count;
    struct report *ring;                // of MAX_REPORTS; never freed
} pins;

// --- Reports --------------------------------------------------------------------------------

static bool
is_time_for_report(void)
{
    int64_t now = cpool_now();
    int64_t next = _Py_atomic_load_int64_relaxed(&pins.next_report);
    return now >= next
           && _Py_atomic_compare_exchange_int64(&pins.next_report, &next,
                                                now + REPORT_EVERY_NS);
}

static void
print_report(struct _PyVThread *vt, enum _PyVThread_Pin why,
             struct _PyVThread_Object *object)
{
    fprintf(stderr, "virtual thread %#lx is pinned: %s%s%s%s\n", (unsigned long)(uintptr_t)vt,
            _PyVThread_pin_names[why], object != NULL ? " (" : "",
            object != NULL ? object->name : "", object != NULL ? ")" : "");
    fflush(stderr);
    _Py_DumpTraceback(fileno(stderr), vt->ts.os->mounted);
}

static void
fill_report(struct report *r, struct _PyVThread *vt, enum _PyVThread_Pin why,
            struct _PyVThread_Object *object)
{
    r->thread = Py_XNewRef(vt->thread);
    r->why = why;
    r->object = object;
    r->num_frames = 0;
    _PyInterpreterFrame *f = vt->ts.os->mounted->current_frame;
    for (; f != NULL && r->num_frames < MAX_REPORT_FRAMES; f = f->previous) {
        if (!_PyFrame_IsIncomplete(f)) {
            r->frames[r->num_frames++] = (struct report_frame){
                .code = (PyCodeObject *)Py_NewRef(_PyFrame_GetCode(f)),
                .line = PyUnstable_InterpreterFrame_GetLine(f),
            };
        }
    }
}

// A full ring drops the report: its reader is late.
static void
keep_report(struct _PyVThread *vt, enum _PyVThread_Pin why, struct _PyVThread_Object *object)
{
    if (vt == _Py_atomic_load_ptr_relaxed(&pins.watcher)) {
        return;
    }
    _PyRawMutex_Lock(&pins.mutex);
    if (pins.ring != NULL && pins.count < MAX_REPORTS) {
        fill_report(&pins.ring[(pins.first + pins.count++) % MAX_REPORTS], vt, why, object);
    }
    _PyRawMutex_Unlock(&pins.mutex);
    _Py_atomic_store_uint8(&pins.news, 1);
    _PyParkingLot_UnparkAll(&pins.news);
}

static void
report(struct _PyVThread *vt, enum _PyVThread_Pin why, struct _PyVThread_Object *object)
{
    bool watched = _Py_atomic_load_uint8_relaxed(&pins.watched);
    if ((!watched && !pins.trace) || !is_time_for_report()) {
        return;
    }
    if (pins.trace) {
        print_report(vt, why, object);
    }
    // Who is detached may not touch reference counts.
    if (watched && _PyThreadState_GET() == vt->ts.os->mounted) {
        keep_report(vt, why, object);
    }
}

static PyObject *
build_report(const struct report *r)
{
    PyObject *stack = PyList_New(r->num_frames);
    for (int i = 0; stack != NULL && i < r->num_frames; i++) {
        const struct report_frame *f = &r->frames[r->num_frames - 1 - i];
        PyObject *item = Py_BuildValue("(OiO)", f->code->co_filename, f->line,
                                       f->code->co_qualname);
        if (item == NULL) {
            Py_CLEAR(stack);
            break;
        }
        PyList_SET_ITEM(stack, i, item);
    }
    if (stack == NULL) {
        return NULL;
    }
    PyObject *thread = r->thread != NULL ? r->thread : Py_None;
    const char *name = _PyVThread_pin_names[r->why];
    return Py_BuildValue("(OszN)", thread, name,
                         r->object != NULL ? r->object->name : NULL, stack);
}

static void
clear_report(struct report *r)
{
    Py_CLEAR(r->thread);
    for (int i = 0; i < r->num_frames; i++) {
        Py_CLEAR(r->frames[i].code);
    }
}

int
_PyVThread_WatchPins(bool on)
{
    if (on && pins.ring == NULL) {
        struct report *ring = calloc(MAX_REPORTS, sizeof(*ring));
        if (ring == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        _PyRawMutex_Lock(&pins.mutex);
        if (pins.ring == NULL) {
            pins.ring = ring;
            ring = NULL;
        }
        _PyRawMutex_Unlock(&pins.mutex);
        free(ring);
    }
    _Py_atomic_store_uint8(&pins.watched, on);
    _Py_atomic_store_uint8(&pins.news, 1);
    _PyParkingLot_UnparkAll(&pins.news);
    return 0;
}

PyObject *
_PyVThread_NextPin(void)
{
    _Py_atomic_store_ptr_relaxed(&pins.watcher, _PyVThread_Current());
    for (;;) {
        // Cleared, then looked; keep_report() adds, then sets.
        _Py_atomic_store_uint8(&pins.news, 0);
        if (!_Py_atomic_load_uint8(&pins.watched)) {
            _Py_atomic_store_ptr_relaxed(&pins.watcher, NULL);
            Py_RETURN_NONE;
        }
        struct report r;
        _PyRawMutex_Lock(&pins.mutex);
        bool any = pins.count > 0;
        if (any) {
            r = pins.ring[pins.first];
            pins.first = (pins.first + 1) % MAX_REPORTS;
            pins.count--;
        }
        _PyRawMutex_Unlock(&pins.mutex);
        if (any) {
            PyObject *res = build_report(&r);
            clear_report(&r);
            return res;
        }
        uint8_t none = 0;
        (void)_PyParkingLot_Park(&pins.news, &none, sizeof(none), -1, NULL, 1);
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

void
_PyVThread_TracePins(void)
{
    pins.trace = true;
}

// --- May it leave? --------------------------------------------------------------------------

static enum _PyVThread_Pin
why_pinned(struct _PyVThread *vt, struct _PyVThread_Object **object)
{
    *object = NULL;
    // What the last wait was bound by.  Housekeeping threads are bound for good.
    if (vt->bound) {
        vt->bound = false;
        vt->task.flags &= ~(uint32_t)CPOOL_TASK_STICKY;
    }
    if (vt->pins > 0) {
        return _PyVThread_PIN_ASKED;
    }
    if (vt->is_main) {
        return _PyVThread_PIN_MAIN;
    }
    if (vt->ts.os->pin_count > 0) {
        return _PyVThread_PIN_CRITICAL;
    }
    if (vt->ts.os->mounted != &vt->ts.base) {
        return _PyVThread_PIN_CONTINUATION;
    }
    PyThreadState *current = _PyThreadState_GET();
    if (current != NULL && current != &vt->ts.base) {
        return _PyVThread_PIN_OTHER_STATE;
    }
    switch (_PyVThread_ClassifyFrames(vt, object)) {
    case _PyVThread_CORE_FRAMES:
        break;
    case _PyVThread_SAFE_FRAMES:
        if (!(vt->task.flags & CPOOL_TASK_STICKY)) {
            vt->bound = true;
            vt->task.flags |= CPOOL_TASK_STICKY;
        }
        break;
    case _PyVThread_FOREIGN_FRAMES:
        return _PyVThread_PIN_FOREIGN;
    }
    return _PyVThread_PIN_NONE;
}

bool
_PyVThread_MayYield(struct _PyVThread *vt)
{
    struct _PyVThread_Object *object;
    return why_pinned(vt, &object) == _PyVThread_PIN_NONE;
}

bool
_PyVThread_MayUnmount(struct _PyVThread *vt)
{
    struct _PyVThread_Object *object;
    enum _PyVThread_Pin why = why_pinned(vt, &object);
    if (why == _PyVThread_PIN_NONE) {
        return true;
    }
    _Py_atomic_add_uint64(&_PyVThread_pin_counts[why], 1);
    if (object != NULL) {
        _Py_atomic_add_uint64(&object->pins, 1);
    }
    report(vt, why, object);
    return false;
}
