#ifndef Py_INTERNAL_DATASTACK_H
#define Py_INTERNAL_DATASTACK_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* How large the chunks of a thread's data stack are, and where they come from.
 *
 * Problem: the data stack holds the Python frames of a thread, in chunks of 16 KiB that are
 * mmap'ed one by one.  For a million threads that is a million mappings, of which Linux
 * allows 65,530, and a page of 4 KiB each for what is mostly three frames of 200 bytes.
 *
 *     platform thread      16 KiB mapping --> 16 KiB mapping --> ...       as on stock
 *     virtual thread       first, given  --> 1 frame --> 1 --> 2 --> 2 --> 3 --> ..., malloc'ed
 *
 * The first chunk of a virtual thread is part of the memory of that thread and is never
 * freed.  The others hold so many frames of the size of the one that they are made for, one more
 * for each four below it: little is left over, since functions that call each other are often
 * about as large, and a deep thread does not come here often.  A thread that parks gives back the
 * chunk that it keeps for the next call.
 *
 * Frames have interior pointers (generators', frame objects'), so a chunk never moves.
 */

#include <stdbool.h>
#include <stddef.h>               // offsetof()
#include "pycore_obmalloc.h"      // _PyObject_VirtualAlloc()
#include "pycore_tstate.h"        // _PyThreadStateImpl

// Stock's minimal chunk, and what a chunk has left beyond the frame that it is made for.
#define _PyDataStack_CHUNK_SIZE (16 * 1024)
#define _PyDataStack_OVERHEAD 1000
// What is not for frames in a virtual thread's: the header, and a word in the lowest one.
#define _PyDataStack_SMALL_OVERHEAD (offsetof(_PyStackChunk, data) + sizeof(PyObject *))

static inline int
_PyDataStack_IsSmall(PyThreadState *tstate)
{
    return ((_PyThreadStateImpl *)tstate)->vthread != NULL;
}

// Bytes of the next chunk of tstate, whose first frame takes `size` words.
static inline int
_PyDataStack_ChunkSize(PyThreadState *tstate, int size)
{
    int frame = size * (int)sizeof(PyObject *);
    if (_PyDataStack_IsSmall(tstate)) {
        int depth = tstate->py_recursion_limit - tstate->py_recursion_remaining;
        assert(depth >= 0);
        int frames = Py_MIN(1 + depth / 4, 1 + _PyDataStack_CHUNK_SIZE / frame);
        return frames * frame + (int)_PyDataStack_SMALL_OVERHEAD;
    }
    int bytes = _PyDataStack_CHUNK_SIZE;
    while (bytes < frame + _PyDataStack_OVERHEAD * (int)sizeof(PyObject *)) {
        bytes *= 2;
    }
    return bytes;
}

// Memory for a chunk, uninitialised; NULL without memory, with no exception set.
static inline _PyStackChunk *
_PyDataStack_AllocChunk(PyThreadState *tstate, int bytes)
{
    if (_PyDataStack_IsSmall(tstate)) {
        return (_PyStackChunk *)PyMem_RawMalloc((size_t)bytes);
    }
    return (_PyStackChunk *)_PyObject_VirtualAlloc((size_t)bytes);
}

static inline void
_PyDataStack_FreeChunk(PyThreadState *tstate, _PyStackChunk *chunk)
{
    if (_PyDataStack_IsSmall(tstate)) {
        PyMem_RawFree(chunk);
    }
    else {
        _PyObject_VirtualFree(chunk, chunk->size);
    }
}

// Gives back the chunk that is in no use now.  After that the thread takes a new one where it
// would have had this.
static inline void
_PyDataStack_Trim(PyThreadState *tstate)
{
#if PY_VERSION_HEX > 0x030d05f0     // when the field came
    if (tstate->datastack_cached_chunk != NULL) {
        _PyDataStack_FreeChunk(tstate, tstate->datastack_cached_chunk);
        tstate->datastack_cached_chunk = NULL;
    }
#endif
}

// Gives all chunks back, when the thread runs no Python code any more; but not a virtual
// thread's lowest one, which belongs to the thread.
static inline void
_PyDataStack_Clear(PyThreadState *tstate)
{
    _PyStackChunk *chunk = tstate->datastack_chunk;
    tstate->datastack_chunk = NULL;
    while (chunk != NULL) {
        _PyStackChunk *prev = chunk->previous;
        if (prev != NULL || !_PyDataStack_IsSmall(tstate)) {
            _PyDataStack_FreeChunk(tstate, chunk);
        }
        chunk = prev;
    }
    _PyDataStack_Trim(tstate);
}

// Gives a virtual thread that has no frames its first chunk: `bytes` at `memory`, both
// multiples of 8.  tstate->vthread is set.
static inline void
_PyDataStack_SetFirstChunk(PyThreadState *tstate, void *memory, size_t bytes)
{
    assert(_PyDataStack_IsSmall(tstate));
    _PyStackChunk *chunk = (_PyStackChunk *)memory;
    chunk->previous = NULL;
    chunk->size = bytes;
    chunk->top = 0;
    tstate->datastack_chunk = chunk;
    // The first word of the lowest chunk stays unused: _PyThreadState_PopFrame() takes a
    // frame at data[0] as the sign that its chunk goes.
    tstate->datastack_top = &chunk->data[1];
    tstate->datastack_limit = (PyObject **)((char *)memory + bytes);
}

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_DATASTACK_H
