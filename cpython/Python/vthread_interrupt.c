/* Interrupts: an exception that one thread raises in another one's blocking call.
 *
 *      interrupter                          thread
 *      -----------                          ------
 *      mutex                                1. pending?  then it does not wait, but raises
 *        node into the list; pending        2. leaves its stack, or blocks its OS thread
 *        wakes a pinned wait                3. comes back: pending?  then it raises
 *      mutex
 *      cpool_interrupt(): ends a park
 *
 * What comes between 1 and 2 is not lost, since each wake-up is kept until a wait takes it: the
 * pool's bit INTR, a post of the semaphore, a write to the event descriptor.  A wake-up that
 * comes late (the thread has raised already) ends a wait of which nobody knows why: it looks at
 * 3, and goes on.  `pending` is all that a program pays which never interrupts.
 *
 * Only waits that can raise look: those of the program's locks, queues, joins, descriptors,
 * sleeps.  Waits of the runtime go on, and the exception is raised by the next one that can.
 * So do waits in finalizers, where it would be printed and lost, and below a shield.
 *
 * A thread that blocks its OS thread in a system call that knows nothing of all this is told by a
 * signal (knock.c); the exception is raised where CPython asks, after EINTR, what has to be done.
 *
 * They are a list, and are raised one at a time, first come, first served: a timeout that has
 * expired inside of a scope that is cancelled must not make the thread forget the latter.
 *
 * An alarm is an interrupt that the thread has set for itself, for a time: each of its waits
 * ends then at the latest, and an alarm whose time has come is pending.  So a timeout needs no
 * timer and no other thread, and nothing is done at its time if nobody waits.  Another thread
 * can only take it back, when the timeout is left there: that wakes nobody.  A wait that ends
 * at the time of an alarm that is gone ends for nothing, as by a wake-up that comes late.
 *
 * Never here: what an interrupt means, and who interrupts whom (Lib/virtual_threading).
 */

#include "Python.h"
#include "pycore_lock.h"
#include "pycore_parking_lot.h"     // Py_PARK_INTR
#include "pycore_pystate.h"
#include "pycore_vthread_state.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct _PyVThread_Interrupt {
    struct _PyVThread_Interrupt *next;
    PyObject *exc;                  // strong
    int64_t when;                   // of an alarm
};

static bool
may_raise(struct _PyVThread *vt)
{
    return vt->shields == 0 && vt->ts.os->pin_count == 0;
}

static bool
alarm_is_due(struct _PyVThread *vt)
{
    int64_t next = _PyVThread_NextAlarm(vt);
    return next != CPOOL_FOREVER && next <= cpool_now();
}

bool
_PyVThread_IsInterrupted(struct _PyVThread *vt)
{
    // Partner: add().
    return (_Py_atomic_load_uint8(&vt->interrupts.pending) || alarm_is_due(vt))
           && may_raise(vt);
}

// --- Interrupting -------------------------------------------------------------------------

static bool
is_meant(struct _PyVThread *vt, PyObject *who)
{
    if (!vt->reachable) {
        return false;
    }
    return PyLong_Check(who) ? PyLong_AsUnsignedLong(who) == vt->interrupts.serial
                             : who == vt->thread;
}

// Under the mutex.  True if the node is in the list now.
static bool
add(struct _PyVThread_Interrupts *in, struct _PyVThread_Interrupt *node, bool first)
{
    struct _PyVThread_Interrupt **link = &in->first;
    for (; *link != NULL && !first; link = &(*link)->next) {
        if ((*link)->exc == node->exc) {
            return false;
        }
    }
    node->next = *link;
    *link = node;
    _Py_atomic_store_uint8(&in->pending, 1);
    return true;
}

// Under the mutex.
static void
wake_pinned(struct _PyVThread_Interrupts *in)
{
    if (in->sema != NULL && !in->posted) {
        in->posted = true;
        _PySemaphore_Wakeup(in->sema);
    }
    if (in->event_fd != 0) {
        uint64_t one = 1;
        (void)!write(in->event_fd, &one, sizeof(one));
    }
}

int
_PyVThread_Interrupt(unsigned long ident, PyObject *who, PyObject *exc)
{
    struct _PyVThread *vt = _PyVThread_FromIdent(ident);
    if (vt == NULL) {
        return 0;
    }
    struct _PyVThread_Interrupt *node = PyMem_RawMalloc(sizeof(*node));
    if (node == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    node->exc = Py_NewRef(exc);
    struct _PyVThread_Interrupts *in = &vt->interrupts;
    _PyRawMutex_Lock(&in->mutex);
    bool meant = is_meant(vt, who);
    bool added = meant && add(in, node, false);
    if (added) {
        wake_pinned(in);
    }
    _PyRawMutex_Unlock(&in->mutex);
    if (added) {
        cpool_interrupt(&vt->task);
    }
    else {
        Py_DECREF(node->exc);
        PyMem_RawFree(node);
    }
    return meant;
}

// --- Calls that block the OS thread --------------------------------------------------------

// On the monitor's OS thread, while vt blocks.
int64_t
_PyVThread_Overdue(struct cpool_carrier *c, struct cpool_task *t)
{
    struct _PyVThread *vt = _PyVThread_FromTask(t);
    if (_Py_atomic_load_int_relaxed(&vt->shields) != 0) {
        return CPOOL_FOREVER;
    }
    return _Py_atomic_load_uint8(&vt->interrupts.pending) ? 0 : _PyVThread_NextAlarm(vt);
}

int
_PyVThread_AnswerKnock(void)
{
    return errno == EINTR && cpool_take_knock() ? _PyVThread_RaiseInterrupt() : 0;
}

// --- Being interrupted --------------------------------------------------------------------

// Under the mutex, up to find_due_alarm().  Where the node with exc hangs; NULL there if none is.
static struct _PyVThread_Interrupt **
find(struct _PyVThread_Interrupt **link, PyObject *exc)
{
    while (*link != NULL && (*link)->exc != exc) {
        link = &(*link)->next;
    }
    return link;
}

static struct _PyVThread_Interrupt *
unlink_node(struct _PyVThread_Interrupt **link)
{
    struct _PyVThread_Interrupt *node = *link;
    if (node != NULL) {
        *link = node->next;
    }
    return node;
}

static struct _PyVThread_Interrupt *
take_interrupt(struct _PyVThread_Interrupts *in, struct _PyVThread_Interrupt **link)
{
    struct _PyVThread_Interrupt *node = unlink_node(link);
    _Py_atomic_store_uint8(&in->pending, in->first != NULL);
    return node;
}

static void
alarms_changed(struct _PyVThread *vt)
{
    int64_t next = CPOOL_FOREVER;
    for (struct _PyVThread_Interrupt *a = vt->alarms; a != NULL; a = a->next) {
        next = Py_MIN(next, a->when);
    }
    _Py_atomic_store_int64_relaxed(&vt->next_alarm, next);      // partner: NextAlarm
}

static struct _PyVThread_Interrupt *
take_alarm(struct _PyVThread *vt, struct _PyVThread_Interrupt **link)
{
    struct _PyVThread_Interrupt *node = unlink_node(link);
    alarms_changed(vt);
    return node;
}

// Where the alarm hangs that is due, the outermost of several; NULL there if none is.
static struct _PyVThread_Interrupt **
find_due_alarm(struct _PyVThread *vt)
{
    int64_t now = cpool_now();
    struct _PyVThread_Interrupt **found = NULL, **a = &vt->alarms;
    for (; *a != NULL; a = &(*a)->next) {
        if ((*a)->when <= now) {
            found = a;
        }
    }
    return found != NULL ? found : a;
}

// Not under the mutex, as a hook of the allocator may lock.  The exception of a node that was
// taken; NULL if none was.
static PyObject *
free_node(struct _PyVThread_Interrupt *node)
{
    PyObject *exc = node != NULL ? node->exc : NULL;
    PyMem_RawFree(node);
    return exc;
}

int
_PyVThread_RaiseInterrupt(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL || !_PyVThread_IsInterrupted(vt)) {
        return 0;
    }
    // The alarm first: others may interrupt this thread because they have met its deadline.
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    struct _PyVThread_Interrupt *node = take_alarm(vt, find_due_alarm(vt));
    if (node == NULL) {
        node = take_interrupt(&vt->interrupts, &vt->interrupts.first);
    }
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
    PyObject *exc = free_node(node);
    if (exc == NULL) {
        return 0;                   // taken back just now
    }
    if (PyExceptionClass_Check(exc)) {
        PyErr_SetNone(exc);
    }
    else {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_DECREF(exc);
    return -1;
}

void
_PyVThread_PostponeRaised(void)
{
    struct _PyVThread *vt = _PyVThread_Current();
    struct _PyVThread_Interrupt *node;
    if (vt == NULL || PyErr_ExceptionMatches(PyExc_OSError)
        || (node = PyMem_RawMalloc(sizeof(*node))) == NULL)
    {
        PyErr_Clear();
        return;
    }
    node->exc = PyErr_GetRaisedException();
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    (void)add(&vt->interrupts, node, true);
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
}

int
_PyVThread_WithdrawInterrupt(PyObject *exc)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (vt == NULL) {
        return 0;
    }
    struct _PyVThread_Interrupts *in = &vt->interrupts;
    _PyRawMutex_Lock(&in->mutex);
    struct _PyVThread_Interrupt *node = take_interrupt(in, find(&in->first, exc));
    _PyRawMutex_Unlock(&in->mutex);
    Py_XDECREF(free_node(node));
    return node != NULL;
}

uint32_t
_PyVThread_Serial(struct _PyVThread *vt)
{
    return vt->interrupts.serial;
}

void
_PyVThread_DropInterrupts(struct _PyVThread *vt)
{
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    vt->reachable = false;
    vt->interrupts.serial++;
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
    // Now they are this thread's alone.
    PyObject *exc;
    while ((exc = free_node(take_interrupt(&vt->interrupts, &vt->interrupts.first))) != NULL) {
        Py_DECREF(exc);
    }
    while ((exc = free_node(take_alarm(vt, &vt->alarms))) != NULL) {
        Py_DECREF(exc);
    }
}

void
_PyVThread_InterruptsAfterFork(struct _PyVThread *vt)
{
    vt->interrupts.mutex = (_PyRawMutex){0};
}

// --- Alarms -------------------------------------------------------------------------------

int
_PyVThread_SetAlarm(struct _PyVThread *vt, PyObject *exc, int64_t when)
{
    struct _PyVThread_Interrupt *alarm = PyMem_RawMalloc(sizeof(*alarm));
    if (alarm == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(exc);
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    *alarm = (struct _PyVThread_Interrupt){vt->alarms, exc, when};
    vt->alarms = alarm;
    alarms_changed(vt);
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
    return 0;
}

int
_PyVThread_MoveAlarm(struct _PyVThread *vt, PyObject *exc, int64_t when)
{
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    struct _PyVThread_Interrupt *alarm = *find(&vt->alarms, exc);
    if (alarm != NULL) {
        alarm->when = when;
        alarms_changed(vt);
    }
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
    return alarm != NULL;
}

int
_PyVThread_DropAlarm(struct _PyVThread *vt, PyObject *exc)
{
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    struct _PyVThread_Interrupt *node = take_alarm(vt, find(&vt->alarms, exc));
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
    Py_XDECREF(free_node(node));
    return node != NULL;
}

void
_PyVThread_DisarmOther(unsigned long ident, PyObject *who, PyObject *exc)
{
    struct _PyVThread *vt = _PyVThread_FromIdent(ident);
    if (vt == NULL) {
        return;
    }
    struct _PyVThread_Interrupts *in = &vt->interrupts;
    struct _PyVThread_Interrupt *node = NULL;
    _PyRawMutex_Lock(&in->mutex);
    if (is_meant(vt, who)) {
        node = take_alarm(vt, find(&vt->alarms, exc));
        if (node == NULL) {
            node = take_interrupt(in, find(&in->first, exc));
        }
    }
    _PyRawMutex_Unlock(&in->mutex);
    Py_XDECREF(free_node(node));
}

int64_t
_PyVThread_NextAlarm(struct _PyVThread *vt)
{
    return _Py_atomic_load_int64_relaxed(&vt->next_alarm);
}

int64_t
_PyVThread_EndOfWait(struct _PyVThread *vt, int64_t deadline)
{
    int64_t next = _PyVThread_NextAlarm(vt);
    return next >= deadline || !may_raise(vt) ? deadline : next;
}

// --- Pinned waits -------------------------------------------------------------------------

int
_PyVThread_BeginSemaphoreInterrupt(_PySemaphore *sema, PyTime_t *timeout)
{
    struct _PyVThread *vt = _PyVThread_Current();
    if (!may_raise(vt)) {
        return 0;
    }
    int told = 1;
    int64_t next = _PyVThread_NextAlarm(vt);
    if (next != CPOOL_FOREVER) {
        int64_t left = _PyVThread_TimeUntil(next);
        if (*timeout < 0 || left < *timeout) {
            *timeout = left;
            told = 2;
        }
    }
    struct _PyVThread_Interrupts *in = &vt->interrupts;
    _PyRawMutex_Lock(&in->mutex);
    in->sema = sema;
    in->posted = false;
    if (in->pending) {
        wake_pinned(in);
    }
    _PyRawMutex_Unlock(&in->mutex);
    return told;
}

int
_PyVThread_EndSemaphoreInterrupt(int told, int *res)
{
    struct _PyVThread_Interrupts *in = &_PyVThread_Current()->interrupts;
    _PyRawMutex_Lock(&in->mutex);
    in->sema = NULL;
    bool posted = in->posted;
    in->posted = false;
    _PyRawMutex_Unlock(&in->mutex);
    int untaken = posted && *res != Py_PARK_OK;
    if (posted || (told == 2 && *res == Py_PARK_TIMEOUT)) {
        *res = Py_PARK_INTR;
    }
    return untaken;
}

int
_PyVThread_BeginPollInterrupt(struct _PyVThread *vt)
{
    int fd = may_raise(vt) ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd <= 0) {
        return fd;                  // 0, with stdin closed, would mean none
    }
    struct _PyVThread_Interrupts *in = &vt->interrupts;
    _PyRawMutex_Lock(&in->mutex);
    in->event_fd = fd;
    if (in->pending) {
        wake_pinned(in);
    }
    _PyRawMutex_Unlock(&in->mutex);
    return fd;
}

void
_PyVThread_EndPollInterrupt(struct _PyVThread *vt, int fd)
{
    if (fd < 0) {
        return;
    }
    _PyRawMutex_Lock(&vt->interrupts.mutex);
    vt->interrupts.event_fd = 0;
    _PyRawMutex_Unlock(&vt->interrupts.mutex);
    close(fd);
}
