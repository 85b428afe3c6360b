/* What can be seen of virtual threads: lists, states, stacks, counters.
 *
 * The stacks of other threads are read while the world is stopped: a thread is then parked,
 * or detached in C code, or stopped in the eval loop, and its chain of frames holds still.
 * The chain lies in heap memory only (entry frames included), so it can be read whether the
 * thread is mounted or not.
 *
 * With the world stopped nothing may be released, since that can run Python code; so the
 * walk collects into memory of its own, and objects are built from it afterwards.
 */

#include "Python.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include "pycore_pystate.h"
#include "pycore_vthread_state.h"
#include "pycore_vthread_seeing.h"
#include "pycore_vthread_text.h"

static const char *const state_names[] = {
    [CPOOL_NEW] = "new",
    [CPOOL_RUNNABLE] = "runnable",
    [CPOOL_RUNNING] = "running",
    [CPOOL_PARKING] = "running",
    [CPOOL_PARKED] = "parked",
    [CPOOL_PINNED] = "pinned",
    [CPOOL_DONE] = "terminated",
};

struct seen_frame {
    PyObject *filename, *name;      // strong
    int line;
};

struct seen {
    unsigned long ident;
    PyObject *thread;               // strong, or NULL
    enum cpool_task_state state;
    int carrier;                    // -1: none
    const char *reason;
    int64_t since;
    size_t first_frame, num_frames;
};

// Growable arrays in the C library's memory, which has no hooks.
struct snapshot {
    struct seen *threads;
    size_t num_threads, max_threads;
    struct seen_frame *frames;
    size_t num_frames, max_frames;
    bool with_frames;
    bool no_memory;
};

static void *
grow(void *items, size_t *capacity, size_t size)
{
    size_t more = *capacity == 0 ? 64 : *capacity * 2;
    void *bigger = realloc(items, more * size);
    if (bigger != NULL) {
        *capacity = more;
    }
    return bigger;
}

static bool
add_frames(struct snapshot *s, PyThreadState *tstate)
{
    _PyInterpreterFrame *frame = tstate->current_frame;
    for (; frame != NULL; frame = frame->previous) {
        if (_PyFrame_IsIncomplete(frame)) {
            continue;
        }
        if (s->num_frames == s->max_frames) {
            void *p = grow(s->frames, &s->max_frames, sizeof(*s->frames));
            if (p == NULL) {
                return false;
            }
            s->frames = p;
        }
        PyCodeObject *code = _PyFrame_GetCode(frame);
        s->frames[s->num_frames++] = (struct seen_frame){
            .filename = Py_NewRef(code->co_filename),
            .name = Py_NewRef(code->co_qualname),
            .line = PyUnstable_InterpreterFrame_GetLine(frame),
        };
    }
    return true;
}

// Whose frames are vt's innermost: its own, or those of a continuation that it runs, which lead
// on to its own.  A continuation stays mounted while the world is stopped; anything else that
// is mounted there may be another thread's by now.
static PyThreadState *
innermost(struct _PyVThread *vt)
{
    _PyOSThreadState *os = _Py_atomic_load_ptr_relaxed(&vt->ts.os);
    PyThreadState *mounted = os != NULL ? _Py_atomic_load_ptr(&os->mounted) : NULL;
    bool is_above = mounted != NULL && mounted->thread_id == vt->ts.base.thread_id;
    return is_above ? mounted : &vt->ts.base;
}

static int64_t
waits_since(struct _PyVThread *vt)
{
    return _Py_atomic_load_int64_relaxed(&vt->since);
}

static int
see(struct _PyVThread *vt, void *arg)
{
    struct snapshot *s = arg;
    if (vt->hidden) {
        return 0;
    }
    if (s->num_threads == s->max_threads) {
        void *p = grow(s->threads, &s->max_threads, sizeof(*s->threads));
        if (p == NULL) {
            s->no_memory = true;
            return 1;
        }
        s->threads = p;
    }
    enum cpool_task_state state = cpool_task_state(&vt->task);
    bool mounted = state == CPOOL_RUNNING || state == CPOOL_PARKING
                   || state == CPOOL_PINNED;
    bool waits = state == CPOOL_PARKED || state == CPOOL_PINNED;
    struct seen *t = &s->threads[s->num_threads++];
    *t = (struct seen){
        .ident = (unsigned long)(uintptr_t)vt,
        .thread = Py_XNewRef(vt->thread),
        .state = state,
        .carrier = mounted ? cpool_carrier_id(cpool_task_carrier(&vt->task)) : -1,
        .reason = waits ? cpool_task_reason(&vt->task) : NULL,
        .since = waits ? waits_since(vt) : 0,
        .first_frame = s->num_frames,
    };
    if (s->with_frames && !add_frames(s, innermost(vt))) {
        s->no_memory = true;
        return 1;
    }
    t->num_frames = s->num_frames - t->first_frame;
    return 0;
}

static void
take(struct snapshot *s, bool with_frames)
{
    *s = (struct snapshot){.with_frames = with_frames};
    PyInterpreterState *interp = _PyInterpreterState_GET();
    _PyEval_StopTheWorld(interp);
    (void)_PyVThread_ForEach(see, s);
    _PyEval_StartTheWorld(interp);
}

static void
discard(struct snapshot *s)
{
    for (size_t i = 0; i < s->num_threads; i++) {
        Py_XDECREF(s->threads[i].thread);
    }
    for (size_t i = 0; i < s->num_frames; i++) {
        Py_DECREF(s->frames[i].filename);
        Py_DECREF(s->frames[i].name);
    }
    free(s->threads);
    free(s->frames);
}

PyObject *
_PyVThread_LiveObjects(void)
{
    struct snapshot s;
    take(&s, false);
    PyObject *list = s.no_memory ? PyErr_NoMemory() : PyList_New(0);
    for (size_t i = 0; list != NULL && i < s.num_threads; i++) {
        PyObject *thread = s.threads[i].thread;
        if (thread != NULL && PyList_Append(list, thread) < 0) {
            Py_CLEAR(list);
        }
    }
    discard(&s);
    return list;
}

static PyObject *
optional_carrier(int id)
{
    return id < 0 ? Py_NewRef(Py_None) : PyLong_FromLong(id);
}

static PyObject *
optional_since(int64_t since)
{
    return since == 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)since * 1e-9);
}

static PyObject *
build_stack(const struct snapshot *s, const struct seen *t)
{
    PyObject *stack = PyList_New((Py_ssize_t)t->num_frames);
    if (stack == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < t->num_frames; i++) {
        const struct seen_frame *f = &s->frames[t->first_frame + i];
        PyObject *item = Py_BuildValue("(OiO)", f->filename, f->line, f->name);
        if (item == NULL) {
            Py_DECREF(stack);
            return NULL;
        }
        PyList_SET_ITEM(stack, (Py_ssize_t)(t->num_frames - 1 - i), item);
    }
    return stack;
}

PyObject *
_PyVThread_Snapshot(void)
{
    struct snapshot s;
    take(&s, true);
    PyObject *list = s.no_memory ? PyErr_NoMemory() : PyList_New(0);
    for (size_t i = 0; list != NULL && i < s.num_threads; i++) {
        const struct seen *t = &s.threads[i];
        PyObject *item = Py_BuildValue(
            "(kOsNzNN)", t->ident, t->thread != NULL ? t->thread : Py_None,
            state_names[t->state], optional_carrier(t->carrier), t->reason,
            optional_since(t->since), build_stack(&s, t));
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(item);
    }
    discard(&s);
    return list;
}

PyObject *
_PyVThread_Inspect(unsigned long ident)
{
    struct _PyVThread *vt = _PyVThread_FromIdent(ident);
    if (vt == NULL) {
        PyErr_Format(PyExc_LookupError, "no virtual thread with ident %lu", ident);
        return NULL;
    }
    // The thread may go on while we look; each value was true at some time.
    enum cpool_task_state state = cpool_task_state(&vt->task);
    unsigned long native_id = _Py_atomic_load_ulong_relaxed(&vt->ts.base.native_thread_id);
    bool mounted = native_id != 0;
    bool waits = state == CPOOL_PARKED || state == CPOOL_PINNED;
    return Py_BuildValue(
        "(sNNzN)", state_names[state],
        optional_carrier(mounted ? cpool_carrier_id(cpool_task_carrier(&vt->task)) : -1),
        mounted ? PyLong_FromUnsignedLong(native_id) : Py_NewRef(Py_None),
        waits ? cpool_task_reason(&vt->task) : NULL,
        optional_since(waits ? waits_since(vt) : 0));
}

static int
count_state(struct _PyVThread *vt, void *arg)
{
    if (_Py_atomic_load_ptr_relaxed(&vt->continuation) == NULL) {
        ((long *)arg)[cpool_task_state(&vt->task)]++;
    }
    return 0;
}

static PyObject *
threads_by_state(void)
{
    long counts[CPOOL_DONE + 1] = {0};
    (void)_PyVThread_ForEach(count_state, counts);
    return Py_BuildValue(
        "{s:l,s:l,s:l,s:l,s:l}",
        "new", counts[CPOOL_NEW], "runnable", counts[CPOOL_RUNNABLE],
        "running", counts[CPOOL_RUNNING] + counts[CPOOL_PARKING],
        "parked", counts[CPOOL_PARKED], "pinned", counts[CPOOL_PINNED]);
}

static PyObject *
pins_by_reason(void)
{
    PyObject *dict = PyDict_New();
    for (int i = 1; dict != NULL && i < _PyVThread_NUM_PINS; i++) {
        uint64_t n = _Py_atomic_load_uint64_relaxed(&_PyVThread_pin_counts[i]);
        PyObject *value = PyLong_FromUnsignedLongLong(n);
        if (value == NULL
            || PyDict_SetItemString(dict, _PyVThread_pin_names[i], value) < 0)
        {
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}

static int
add_pins(struct _PyVThread_Object *o, void *dict)
{
    uint64_t n = _Py_atomic_load_uint64_relaxed(&o->pins);
    if (n == 0) {
        return 0;
    }
    // Objects in two directories may have one name.
    PyObject *before;
    if (PyDict_GetItemStringRef(dict, o->name, &before) < 0) {
        return -1;
    }
    if (before != NULL) {
        n += PyLong_AsUnsignedLongLong(before);
        Py_DECREF(before);
    }
    PyObject *value = PyLong_FromUnsignedLongLong(n);
    int res = value == NULL ? -1 : PyDict_SetItemString(dict, o->name, value);
    Py_XDECREF(value);
    return res;
}

static PyObject *
pins_by_object(void)
{
    PyObject *dict = PyDict_New();
    if (dict != NULL && _PyVThread_ForEachObject(add_pins, dict) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

PyObject *
_PyVThread_StatsDict(void)
{
    int all_virtual, parallelism, max_carriers;
    _PyCarrier_GetConfig(&all_virtual, &parallelism, &max_carriers);
    struct cpool_stats c = {0};
    cpool_get_stats(&c);
    struct cont_stack_stats stacks = {0};
    cont_stack_get_stats(&stacks);
    return Py_BuildValue(
        "{s:N,s:i,s:i,s:i,s:i,s:i,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:N,s:N,s:n,s:n,"
        "s:n,s:n,s:K,s:K}",
        "threads", threads_by_state(),
        "carriers", c.carriers,
        "carriers_idle", c.carriers_idle,
        "carriers_blocked", c.carriers_blocked,
        "parallelism", parallelism,
        "max_carriers", max_carriers,
        "extra_carriers", (unsigned long long)c.extra_carriers,
        "started", (unsigned long long)c.spawned,
        "finished", (unsigned long long)c.finished,
        "parks", (unsigned long long)c.parks,
        "soft_parks", (unsigned long long)c.returns,
        "unparks", (unsigned long long)c.unparks,
        "yields", (unsigned long long)c.yields,
        "steals", (unsigned long long)c.steals,
        "migrations", (unsigned long long)c.migrations,
        "handoffs", (unsigned long long)c.handoffs,
        "preemptions", (unsigned long long)c.preemptions,
        "pins", pins_by_reason(),
        "pinned_by", pins_by_object(),
        "stacks_resident", (Py_ssize_t)stacks.resident,
        "stacks_idle", (Py_ssize_t)stacks.idle,
        "stacks_frozen", (Py_ssize_t)stacks.frozen,
        "image_bytes", (Py_ssize_t)stacks.image_bytes,
        "freezes", (unsigned long long)c.freezes,
        "thaws", (unsigned long long)c.thaws);
}

// --- For a report of a fatal error ---------------------------------------------------------------

void
_PyVThread_ForEachUnmounted(int (*fn)(PyThreadState *, void *), void *arg)
{
    struct _PyVThread_Walk walk;
    struct _PyVThread *vt;
    _PyVThread_BeginWalk(&walk);
    while ((vt = _PyVThread_NextLive(&walk)) != NULL) {
        if (vt->continuation == NULL && !vt->hidden
            && _Py_atomic_load_ptr_relaxed(&vt->ts.os) == NULL
            && vt->ts.base.current_frame != NULL
            && fn(&vt->ts.base, arg) != 0)
        {
            return;
        }
    }
}
