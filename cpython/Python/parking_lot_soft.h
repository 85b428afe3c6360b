/* The parking lot's part of soft parks: see pycore_vthread_soft.h.  Included by parking_lot.c,
 * whose buckets nobody else knows. */

#ifdef Py_GIL_DISABLED

int
_PyParkingLot_Queue(const void *addr, const void *expected, size_t size, void *park_arg,
                    size_t park_arg_size)
{
    Bucket *bucket = &buckets[((uintptr_t)addr) % NUM_BUCKETS];
    return _PyVThread_QueueInBucket(_Py_tss_os->vthread, &bucket->mutex, &bucket->table, addr,
                                    expected, size, park_arg, park_arg_size);
}

int
_PyParkingLot_Unqueue(const void *addr)
{
    Bucket *bucket = &buckets[((uintptr_t)addr) % NUM_BUCKETS];
    return _PyVThread_UnqueueFromBucket(_Py_tss_os->vthread, &bucket->mutex,
                                        &bucket->table);
}

#endif
