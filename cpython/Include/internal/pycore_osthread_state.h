#ifndef Py_INTERNAL_OSTHREAD_STATE_H
#define Py_INTERNAL_OSTHREAD_STATE_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* What belongs to an OS thread, and not to the thread that it runs.
 *
 * On stock CPython the two are one: a thread state holds the allocator's heaps, the
 * freelists, the queue of refcounts to merge and the QSBR slot (17 KB) beside the frames and
 * exceptions (350 bytes).  A virtual thread has a thread state too, because suspended C
 * frames hold pointers to it, but it may go on on another OS thread, and a million of them
 * must fit in memory.  So the first group stands here, and a thread state points to it:
 *
 *     platform thread, and a carrier's own state        virtual thread
 *     struct _PyPlatformThreadState                      _PyThreadStateImpl
 *     +---------------------------+                      +--------------------+
 *     | PyThreadState base        | <--- own ---.        | PyThreadState base |
 *     | os  ----------------.     |             |        | os ----.           |
 *     | asyncio loop, ...   |     |             |        | ...    |           |
 *     +---------------------v-----+             |        +--------|-----------+
 *     | _PyOSThreadState own      | ------------'                 |  while mounted,
 *     | mounted, heaps, brc, ...  | <-----------------------------'  else NULL
 *     +---------------------------+
 *
 * Rules
 *  - Only own states are on interp->threads.  Every loop over that list (the GC's, stop the
 *    world's, pending calls') sees each OS thread once and no virtual thread; what must
 *    reach the virtual thread goes through `mounted`.
 *  - The attach state (attached, detached, suspended) of a mounted virtual thread is
 *    own->state; the GIL is held by `own`.  Stop-the-world stops OS threads.
 *  - A pointer to this struct, or into it, dies when the thread may have moved: do not
 *    keep one over anything that can run Python code or wait, or pin (pycore_osthread.h).
 *  - ob_tid and the segments of the heaps here name the same OS thread; the collector
 *    restores the one from the other.
 *
 * PyThreadState itself keeps its layout: compiled extensions read it.
 */

#include "pycore_brc.h"           // struct _brc_thread_state
#include "pycore_freelist.h"      // struct _Py_object_freelists
#include "pycore_gc.h"            // struct _gc_thread_state
#include "pycore_llist.h"         // struct llist_node
#include "pycore_mimalloc.h"      // struct _mimalloc_thread_state
#include "pycore_qsbr.h"          // struct _qsbr_thread_state

struct _PyVThread;                // of the scheduler's glue; opaque here
struct cpool_carrier;             // of the scheduler; opaque here

typedef struct _PyOSThreadState {
    // The OS thread's own thread state: this struct lies behind it in one allocation.
    // Constant.
    PyThreadState *own;

    // The virtual thread's state that is mounted, or NULL.  Written by this OS thread
    // (_PyOSThread_Mount, _PyOSThread_Unmount), read by any (_PyOSThread_SetEvents).
    PyThreadState *mounted;

    // The same virtual thread as its scheduler knows it; NULL on platform threads.  Only this
    // OS thread reads or writes it.
    struct _PyVThread *vthread;

    // The scheduler's struct of this OS thread; NULL on platform threads.  Constant.
    struct cpool_carrier *carrier;

    // A carrier's virtual thread that will merge reference counts next; NULL while it does, or
    // if there was no memory.  Only this OS thread reads or writes it.
    struct _PyVThread *housekeeper;

    // > 0: a virtual thread must not leave this OS thread.  Only this OS thread reads or
    // writes it.
    int pin_count;

    struct _qsbr_thread_state *qsbr;  // only used by free-threaded build
    struct llist_node mem_free_queue; // delayed free queue

#ifdef Py_GIL_DISABLED
    struct _gc_thread_state gc;
    struct _mimalloc_thread_state mimalloc;
    struct _Py_object_freelists freelists;
    struct _brc_thread_state brc;
#endif

#if defined(Py_REF_DEBUG) && defined(Py_GIL_DISABLED)
    Py_ssize_t reftotal;  // this OS thread's total refcount operations
#endif
} _PyOSThreadState;

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_OSTHREAD_STATE_H
