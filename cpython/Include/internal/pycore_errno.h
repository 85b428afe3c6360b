#ifndef Py_INTERNAL_ERRNO_H
#define Py_INTERNAL_ERRNO_H

/* errno for code whose thread may go on on another OS thread.
 *
 * glibc declares __errno_location() as const: the compiler computes the address once in a
 * function and keeps it over calls (seen in socket.connect(), os.scandir() and _Py_read()).
 * If one of these calls parks a virtual thread that continues elsewhere, the function
 * then reads, or overwrites, the errno of an OS thread that it left.
 *
 * So core code, the stdlib's extension modules included, asks for the address anew at each
 * use.  Python.h includes this; <errno.h> is guarded and does not define the macro once more.
 * Extensions built without Py_BUILD_CORE keep libc's: threads with frames of those on the
 * stack do not move.  A few of the stdlib's (fcntl, _multiprocessing, _posixshmem) are
 * built so, too; none of them parks between two uses of errno.
 *
 * A file that needs libc's own macro defines _Py_KEEP_LIBC_ERRNO before Python.h.
 */

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <errno.h>                // defines errno, for the last time

#if defined(__linux__) && !defined(_Py_KEEP_LIBC_ERRNO)
#  ifdef __cplusplus
extern "C" {
#  endif

#  if defined(__GNUC__) || defined(__clang__)
__attribute__((visibility("default")))
#  endif
extern int *_Py_errno_location(void);

#  undef errno
#  define errno (*_Py_errno_location())

#  ifdef __cplusplus
}
#  endif
#endif

#endif   // !Py_INTERNAL_ERRNO_H
