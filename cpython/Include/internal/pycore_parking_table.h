#ifndef Py_INTERNAL_PARKING_TABLE_H
#define Py_INTERNAL_PARKING_TABLE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* The waiters of one bucket of the parking lot.
 *
 * Problem: stock buckets are one list of all waiters, which every unpark scans for its
 * address.  That is fine for hundreds of OS threads.  With a million virtual threads,
 * each parked on an address of its own (its own lock, queue or event), a bucket holds
 * 4,000 of them and every unpark walks half: quadratic in all.
 *
 * Here a bucket is a hash table of addresses, and an address is a FIFO ring of waiters.
 * Both are intrusive: no memory is taken but the array of slots.
 *
 *     slots          first waiter of A           first waiter of B
 *     +---+  chain   +---------------+   chain   +---------------+
 *     | o-|--------->| addr = A      |---------->| addr = B      |---> NULL
 *     +---+          | ring <-> ring <-> ...     | ring (alone)  |
 *     | 0 |          +---------------+           +---------------+
 *     +---+               A's later waiters are in the ring only
 *
 * Enqueue, Dequeue and Remove are O(1) amortised, DequeueAll is O(those it returns).
 *
 * What this file never does: lock (the bucket's mutex is the caller's part), compare
 * the parked-on value, wake anybody, or call the interpreter: it needs no Python.h,
 * and its memory comes from calloc(), because a bucket's mutex is held.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct _PySemaphore;
struct _PyVThread;

// What a parked thread lets its waker write, if the parker may not lend its C stack: the
// largest thing that is passed as park_arg (struct mutex_entry in lock.c).
typedef union {
    char bytes[16];
    int64_t align;
} _Py_park_arg_storage;

// One parked thread.  On the C stack of an OS thread; inside a virtual thread, whose C stack
// nobody else may touch (it can be frozen while it is parked).
// B: by whoever holds the bucket's mutex.  P: the parker, before it is enqueued.  W: see there.
struct wait_entry {
    uintptr_t addr;                     // P
    struct wait_entry *next, *prev;     // B: ring of one address, oldest first
    struct wait_entry *chain_next;      // B: next address in the slot; only in a first waiter
    struct wait_entry **chain_link;     // B: what points to it in the slot, NULL unless first
    void *park_arg;                     // P; what it points to is written under B
    struct _PySemaphore *sema;          // P: an OS thread's; NULL for a virtual thread
    struct _PyVThread *vthread;         // P: NULL for an OS thread
    _Py_park_arg_storage arg;           // P, B: *park_arg of a virtual thread
    bool is_unparking;                  // B: dequeued, its wake-up will come
    uint8_t woken;                      // W: atomic; set last by the waker of a virtual thread
};

// Slots of a table that has seen few waiters at once.  257 buckets of 8: one million
// waiters grow them to 4,096 each (8.4 MB in all), which goes back when they have gone.
#define _Py_PARKING_TABLE_SMALL 8

// All zero is an empty table; so the child of a fork empties it by memset() (which leaks slots:
// another thread, which does not exist any more, may have been about to free them).
typedef struct {
    struct wait_entry **slots;          // NULL: `small`
    struct wait_entry *small[_Py_PARKING_TABLE_SMALL];
    size_t num_slots;                   // power of two; 0: _Py_PARKING_TABLE_SMALL
    size_t num_addrs;                   // distinct addresses, that is rings
} _PyParkingTable;

// Adds `e`, whose addr is set, behind those that wait for the same address.
// Blocks: no.  Allocates: maybe (calloc; goes on with longer chains if there is none).
extern void _PyParkingTable_Enqueue(_PyParkingTable *t, struct wait_entry *e);

// Takes out the longest waiting one of addr and sets its is_unparking, or returns NULL.
// *has_more tells whether others wait for the same address.
extern struct wait_entry *_PyParkingTable_Dequeue(_PyParkingTable *t, uintptr_t addr,
                                                  int *has_more);

// Takes out all of addr and sets their is_unparking: a list by `next`, oldest first, which
// ends with NULL.
extern struct wait_entry *_PyParkingTable_DequeueAll(_PyParkingTable *t, uintptr_t addr);

// Takes out `e`, which is in the table.  Nobody will wake it.
extern void _PyParkingTable_Remove(_PyParkingTable *t, struct wait_entry *e);

// Walks everything and checks every link and count.  For tests.
extern bool _PyParkingTable_IsValid(_PyParkingTable *t);

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_PARKING_TABLE_H
