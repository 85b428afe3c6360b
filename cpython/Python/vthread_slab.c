/* Where virtual threads live.
 *
 * The structs are carved from slabs that are never given back, so that they are type-stable
 * (pycore_vthread_state.h says who needs that).  The slabs are also the registry of virtual
 * threads: a walk of all threads walks the slabs, and starting or ending a thread costs no
 * list operation.  A free struct keeps its place, last in first out, so that the memory that
 * is used again is the memory that is warm.
 *
 * Never here: the meaning of any field but `live` and `next_free`.
 */

#include "Python.h"
#include "pycore_lock.h"            // PyMutex
#include "pycore_vthread_state.h"

// 128 structs of about 2 KB: a slab is one allocation of 256 KB, and a million threads
// need fewer than 8,000 of them.
#define SLAB_THREADS 128

struct _PyVThread_Slab {
    struct _PyVThread_Slab *next;   // atomic, set once: slabs are only ever added
    struct _PyVThread threads[SLAB_THREADS];
};

static struct {
    _PyRawMutex mutex;              // leaf: nothing is locked below it
    struct _PyVThread *free;        // under mutex
    struct _PyVThread_Slab *slabs;  // atomic; written under mutex
} pool;

static struct _PyVThread_Slab *
add_slab(void)
{
    // The C library's allocator: PyMem_RawCalloc may have hooks that take locks.
    struct _PyVThread_Slab *slab = calloc(1, sizeof(struct _PyVThread_Slab));
    if (slab == NULL) {
        return NULL;
    }
    for (int i = SLAB_THREADS - 1; i >= 0; i--) {
        slab->threads[i].next_free = pool.free;
        pool.free = &slab->threads[i];
    }
    slab->next = pool.slabs;
    _Py_atomic_store_ptr_release(&pool.slabs, slab);
    return slab;
}

struct _PyVThread *
_PyVThread_Alloc(void)
{
    _PyRawMutex_Lock(&pool.mutex);
    struct _PyVThread *vt = NULL;
    if (pool.free != NULL || add_slab() != NULL) {
        vt = pool.free;
        pool.free = vt->next_free;
    }
    _PyRawMutex_Unlock(&pool.mutex);
    return vt;
}

void
_PyVThread_Free(struct _PyVThread *vt)
{
    _Py_atomic_store_uint8((uint8_t *)&vt->live, false);
    _PyRawMutex_Lock(&pool.mutex);
    vt->next_free = pool.free;
    pool.free = vt;
    _PyRawMutex_Unlock(&pool.mutex);
}

static inline bool
is_live(struct _PyVThread *vt)
{
    return _Py_atomic_load_uint8((uint8_t *)&vt->live);
}

void
_PyVThread_BeginWalk(struct _PyVThread_Walk *walk)
{
    walk->slab = _Py_atomic_load_ptr_acquire(&pool.slabs);
    walk->index = 0;
}

struct _PyVThread *
_PyVThread_NextLive(struct _PyVThread_Walk *walk)
{
    for (; walk->slab != NULL; walk->slab = walk->slab->next, walk->index = 0) {
        while (walk->index < SLAB_THREADS) {
            struct _PyVThread *vt = &walk->slab->threads[walk->index++];
            if (is_live(vt)) {
                return vt;
            }
        }
    }
    return NULL;
}

int
_PyVThread_ForEach(int (*fn)(struct _PyVThread *, void *), void *arg)
{
    struct _PyVThread_Walk walk;
    _PyVThread_BeginWalk(&walk);
    int res = 0;
    struct _PyVThread *vt;
    while (res == 0 && (vt = _PyVThread_NextLive(&walk)) != NULL) {
        res = fn(vt, arg);
    }
    return res;
}

struct _PyVThread *
_PyVThread_FromIdent(unsigned long ident)
{
    struct _PyVThread_Slab *slab = _Py_atomic_load_ptr_acquire(&pool.slabs);
    for (; slab != NULL; slab = slab->next) {
        uintptr_t offset = ident - (uintptr_t)&slab->threads[0];
        if (offset < sizeof(slab->threads)) {
            struct _PyVThread *vt = (struct _PyVThread *)ident;
            return offset % sizeof(*vt) == 0 && is_live(vt) ? vt : NULL;
        }
    }
    return NULL;
}

// The threads of the parent do not exist here.  What they held leaks, as the stacks and
// references of platform threads do in a forked child.  Suspended continuations are in no
// thread.
void
_PyVThread_SlabAfterFork(struct _PyVThread *survivor)
{
    pool.mutex = (_PyRawMutex){0};
    for (struct _PyVThread_Slab *slab = pool.slabs; slab != NULL; slab = slab->next) {
        for (int i = 0; i < SLAB_THREADS; i++) {
            struct _PyVThread *vt = &slab->threads[i];
            _PyVThread_InterruptsAfterFork(vt);
            if (vt != survivor && vt->continuation == NULL) {
                vt->live = false;
            }
        }
    }
}
