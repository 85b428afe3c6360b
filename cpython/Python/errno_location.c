/* The address of this OS thread's errno, looked up at each call (see pycore_errno.h). */

#define _Py_KEEP_LIBC_ERRNO
#include "Python.h"
#include <errno.h>

PyAPI_FUNC(int *) _Py_errno_location(void);

int *
_Py_errno_location(void)
{
    int *location = &errno;
#if defined(__GNUC__) || defined(__clang__)
    // With link-time optimization the compiler sees that this only calls a const function,
    // and would make it const too.  A volatile statement forbids that, inlined or not.
    __asm__ volatile ("" : "+r" (location) : : "memory");
#endif
    return location;
}
