#ifndef Py_INTERNAL_VTHREAD_TEXT_H
#define Py_INTERNAL_VTHREAD_TEXT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Whose code is at an address (vthread_text.c).  Only Python/vthread*.c and
 * Modules/_vthreadmodule.c include this header.
 *
 * Nothing here parks or allocates objects; all of it may be called detached. */

#include <stdbool.h>
#include <stdint.h>

// A loaded object: a shared library or an extension module.  Never freed, so whoever has
// found one may keep it.
struct _PyVThread_Object {
    const char *name;               // of the file, without its directory
    uintptr_t start, end;           // where it is loaded, data included
    bool is_core;                   // of the interpreter's own build
    uint8_t park_safe;              // atomic: declared, vthread_declare.c
    uint64_t pins;                  // atomic: how many waits its frames have pinned
};

// The executable (or libpython), which most frames are of; set before the first thread.
struct _PyVThread_Text {
    uintptr_t start, size;
};
extern struct _PyVThread_Text _PyVThread_core_text;

static inline bool
_PyVThread_IsCoreText(uintptr_t address)
{
    return address - _PyVThread_core_text.start < _PyVThread_core_text.size;
}

void _PyVThread_TextInit(void);

// The object with this instruction; if it is in none, one named "generated code".  Not for
// what _PyVThread_IsCoreText().  Slow (microseconds) where something was loaded meanwhile, or
// nothing is there.
struct _PyVThread_Object *_PyVThread_ObjectOfText(uintptr_t address);

// The object with this variable or function, or NULL: the interpreter's, or on the heap.
struct _PyVThread_Object *_PyVThread_ObjectOfData(const void *data);

// Calls fn for each object until it returns nonzero, and returns that.
int _PyVThread_ForEachObject(int (*fn)(struct _PyVThread_Object *, void *), void *arg);

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_TEXT_H
