/* The slow paths of pycore_entry_frame.h. */

#include "Python.h"

#include "pycore_ceval.h"         // _PyEval_FrameClearAndPop()
#include "pycore_entry_frame.h"

struct chunk {
    struct chunk *next;
    size_t num_frames;
    _PyInterpreterFrame frames[];
};

// The first chunk has one frame, each next one twice as many.  Recursion through C is bounded by
// the stack, so the last one is not much too large.
#define LARGEST_CHUNK 64

static_assert(sizeof(((_PyThreadStateImpl *)0)->first_entry_frame)
              == sizeof(_PyInterpreterFrame),
              "first_entry_frame has room for a frame");

// Puts all but the first frame of an array on the list, and returns that.
static _PyInterpreterFrame *
add_frames(_PyThreadStateImpl *ts, _PyInterpreterFrame *frames, size_t n)
{
    assert(ts->free_entry_frames == NULL);
    for (size_t i = n; i-- > 0; ) {
        frames[i].owner = FRAME_OWNED_BY_CSTACK;
        frames[i].previous = ts->free_entry_frames;
        if (i > 0) {
            ts->free_entry_frames = &frames[i];
        }
    }
    return &frames[0];
}

_PyInterpreterFrame *
_PyEntryFrame_More(_PyThreadStateImpl *ts)
{
    // The list of chunks ends with the frame of the thread state itself, once that is
    // in use, and before that it is empty.
    if (ts->entry_frame_chunks == NULL) {
        ts->entry_frame_chunks = ts->first_entry_frame;
        return add_frames(ts, (_PyInterpreterFrame *)ts->first_entry_frame, 1);
    }
    size_t n = 1;
    if (ts->entry_frame_chunks != ts->first_entry_frame) {
        n = 2 * ((struct chunk *)ts->entry_frame_chunks)->num_frames;
    }
    n = n > LARGEST_CHUNK ? LARGEST_CHUNK : n;
    struct chunk *chunk = PyMem_RawMalloc(sizeof(*chunk) + n * sizeof(chunk->frames[0]));
    if (chunk == NULL) {
        return NULL;
    }
    chunk->next = ts->entry_frame_chunks;
    chunk->num_frames = n;
    ts->entry_frame_chunks = chunk;
    return add_frames(ts, chunk->frames, n);
}

PyObject *
_PyEntryFrame_NoMemory(PyThreadState *tstate, _PyInterpreterFrame *frame)
{
    PyErr_NoMemory();
    frame->previous = tstate->current_frame;
    _PyEval_FrameClearAndPop(tstate, frame);
    return NULL;
}

void
_PyEntryFrame_Clear(PyThreadState *tstate)
{
    _PyThreadStateImpl *ts = (_PyThreadStateImpl *)tstate;
    struct chunk *chunk = ts->entry_frame_chunks;
    while (chunk != NULL && (void *)chunk != ts->first_entry_frame) {
        struct chunk *next = chunk->next;
        PyMem_RawFree(chunk);
        chunk = next;
    }
    ts->entry_frame_chunks = NULL;
    ts->free_entry_frames = NULL;
}
