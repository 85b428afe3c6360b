/* SimpleQueue.get() without a stack: see pycore_vthread_soft.h.  Included by _queuemodule.c, which
 * alone knows the queue. */

#include "pycore_vthread_park.h"    // _PyParkingLot_Queue()
#include "pycore_vthread_soft.h"

static int
simplequeue_soft_get(PyObject *op, void *addr, int may_queue, PyTime_t Py_UNUSED(since),
                     void *arg)
{
    simplequeueobject *self = (simplequeueobject *)op;
    PyObject *item = NULL;
    int done = 0;
    Py_BEGIN_CRITICAL_SECTION(self);
    if (!RingBuf_IsEmpty(&self->buf)) {
        item = RingBuf_Get(&self->buf);
        done = 1;
    }
    else if (may_queue) {
        bool waiting = 1;
        self->has_threads_waiting = waiting;
        // Putters come to this line, too: the value is the expected one.
        (void)_PyParkingLot_Queue(addr, &waiting, sizeof(waiting), &item, sizeof(item));
    }
    Py_END_CRITICAL_SECTION();
    if (done) {
        memcpy(arg, &item, sizeof(item));
    }
    return done;
}

static int
simplequeue_soft_was_given(const void *Py_UNUSED(arg))
{
    return 1;
}

static PyObject *
simplequeue_soft_finish(PyObject *op, int done, void *arg)
{
    if (!done) {
        return empty_error(simplequeue_get_state_by_type(Py_TYPE(op))->SimpleQueueType);
    }
    PyObject *item;
    memcpy(&item, arg, sizeof(item));
    return item;
}

static const struct _PyVThread_SoftOps simplequeue_soft_ops = {
    .get = simplequeue_soft_get,
    .was_given = simplequeue_soft_was_given,
    .finish = simplequeue_soft_finish,
};

static PyObject *_queue_SimpleQueue_get(simplequeueobject *, PyTypeObject *,
                                        PyObject *const *, Py_ssize_t, PyObject *);

// The method: the first statement of a call, before its arguments are looked at.
static PyObject *
simplequeue_offered_get(simplequeueobject *self, PyTypeObject *cls, PyObject *const *args,
                        Py_ssize_t nargs, PyObject *kwnames)
{
    _PyVThread_KeepOffer(_PyVThread_AcceptOffer(_PyCFunction_CAST(simplequeue_offered_get)));
    return _queue_SimpleQueue_get(self, cls, args, nargs, kwnames);
}
