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

// Each slab is twice as large as the one before: a program with a few threads pays for a few, and a
// million are in 70 slabs, which _PyVThread_FromIdent() looks through.  The largest one is 25 MB
// of address space; memory comes with the structs that are used.
#define FIRST_SLAB 128
#define LARGEST_SLAB 16384

struct _PyVThread_Slab {
    struct _PyVThread_Slab *next;   // set once: slabs are only ever added
    int size;                       // set once
    int used;                       // atomic, written under mutex: those handed out so far
    struct _PyVThread threads[];
};

static struct {
    _PyRawMutex mutex;              // leaf: nothing is locked below it
    struct _PyVThread *free;        // under mutex
    struct _PyVThread_Slab *slabs;  // atomic; written under mutex; the newest one first
} pool;

// A struct that has never been handed out.
static struct _PyVThread *
take_new(void)
{
    struct _PyVThread_Slab *slab = pool.slabs;
    if (slab == NULL || slab->used == slab->size) {
        int size = slab == NULL ? FIRST_SLAB : Py_MIN(2 * slab->size, LARGEST_SLAB);
        // The C library's allocator: PyMem_RawCalloc may have hooks that take locks.
        slab = calloc(1, sizeof(*slab) + size * sizeof(slab->threads[0]));
        if (slab == NULL) {
            return NULL;
        }
        slab->size = size;
        slab->next = pool.slabs;
        _Py_atomic_store_ptr_release(&pool.slabs, slab);
    }
    struct _PyVThread *vt = &slab->threads[slab->used];
    _Py_atomic_store_int(&slab->used, slab->used + 1);
    return vt;
}

struct _PyVThread *
_PyVThread_Alloc(void)
{
    _PyRawMutex_Lock(&pool.mutex);
    struct _PyVThread *vt = pool.free;
    if (vt != NULL) {
        pool.free = vt->next_free;
    }
    else {
        vt = take_new();
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
        while (walk->index < _Py_atomic_load_int(&walk->slab->used)) {
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
        if (offset < slab->size * sizeof(slab->threads[0])) {
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
        for (int i = 0; i < slab->used; i++) {
            struct _PyVThread *vt = &slab->threads[i];
            _PyVThread_InterruptsAfterFork(vt);
            if (vt != survivor && vt->continuation == NULL) {
                vt->live = false;
            }
        }
    }
}
