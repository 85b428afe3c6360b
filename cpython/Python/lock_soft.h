/* Mutexes and events of soft parks: see pycore_vthread_soft.h.  Included by lock.c, since what a
 * waiter lends to its waker is a struct of that file. */

#ifdef Py_GIL_DISABLED

int
_PyMutex_SoftGet(PyObject *Py_UNUSED(object), void *addr, int may_queue, PyTime_t since,
                 void *Py_UNUSED(arg))
{
    PyMutex *m = addr;
    // After 1 ms it is handed over.
    struct mutex_entry entry = {.time_to_be_fair = since + TIME_TO_BE_FAIR_NS};
    uint8_t v = _Py_atomic_load_uint8_relaxed(&m->_bits);
    for (;;) {
        if ((v & _Py_LOCKED) == 0) {
            if (_Py_atomic_compare_exchange_uint8(&m->_bits, &v, v | _Py_LOCKED)) {
                return 1;
            }
            continue;
        }
        if (!may_queue) {
            return 0;
        }
        uint8_t parked = v | _Py_HAS_PARKED;
        if (v != parked && !_Py_atomic_compare_exchange_uint8(&m->_bits, &v, parked)) {
            continue;
        }
        if (_PyParkingLot_Queue(&m->_bits, &parked, sizeof(parked), &entry, sizeof(entry))
            == Py_PARK_OK)
        {
            return 0;
        }
        v = _Py_atomic_load_uint8_relaxed(&m->_bits);
    }
}

int
_PyMutex_WasHandedOver(const void *arg)
{
    return ((const struct mutex_entry *)arg)->handed_off;
}

int
_PyEvent_SoftGet(PyObject *Py_UNUSED(object), void *addr, int may_queue,
                 PyTime_t Py_UNUSED(since), void *Py_UNUSED(arg))
{
    PyEvent *e = addr;
    for (;;) {
        uint8_t v = _Py_atomic_load_uint8(&e->v);
        if (v == _Py_LOCKED) {
            return 1;
        }
        if (!may_queue) {
            return 0;
        }
        if (v == _Py_UNLOCKED
            && !_Py_atomic_compare_exchange_uint8(&e->v, &v, _Py_HAS_PARKED))
        {
            continue;
        }
        v = _Py_HAS_PARKED;
        if (_PyParkingLot_Queue(&e->v, &v, sizeof(v), NULL, 0) == Py_PARK_OK) {
            return 0;
        }
    }
}

#endif
