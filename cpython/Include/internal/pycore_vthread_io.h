#ifndef Py_INTERNAL_VTHREAD_IO_H
#define Py_INTERNAL_VTHREAD_IO_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* What the blocking calls of the standard library ask, so that they park.
 *
 * Problem: a call such as read(2) blocks the OS thread, and with it a carrier.  The pool
 * survives that (it hands the slot to another carrier), but an OS thread for each thread
 * that waits is what virtual threads are to avoid.  So each call that can wait for long
 * asks here first, and comes to its system call when that will not wait.
 *
 * Two shapes, so that a patch stays one line and the stock code below it stays as it is:
 *
 *   "do it": transfers data itself.  1: done, the result is in *n.  -1: failed, exception
 *       and errno set.  0: not mine (platform thread, regular file, a descriptor that the
 *       caller has made non-blocking, an error): make the stock call, which also reports
 *       all errors in its own words.
 *   "wait for it": 0: make the stock call now.  -1: exception set.
 *
 * Rules that all of them keep.  O_NONBLOCK is never set on a descriptor (it belongs to
 * the open file, which other processes may share), but for the duration of one connect(2)
 * on a socket that is not connected yet.  A try must not block when several wait for the
 * same descriptor: readiness is a hint, another one may have taken what was there; so
 * tries use flags of the call (MSG_DONTWAIT, RWF_NOWAIT), not poll(2) alone, where the
 * kernel has such a flag.  Where it has none, the loser of that race blocks its OS thread
 * as a platform thread would.  errno is never kept over a wait, which may end on another
 * OS thread.
 *
 * Call all of them attached, unless a line says otherwise.
 */

#include <stdint.h>
#include "pycore_lock.h"            // PyMutex

// What a socket object remembers for its virtual threads.
typedef struct {
    PyMutex accepting;              // one accept() at a time looks and takes
    uint8_t drained;                // atomic, relaxed, a hint: the last recv() came up short
} _PyVThread_SockHints;

#ifdef Py_GIL_DISABLED

#include <sys/select.h>             // fd_set
#include <sys/types.h>              // pid_t
#include <sys/uio.h>                // struct iovec
#include <sys/wait.h>               // idtype_t
#include "pycore_vthread.h"

struct epoll_event;

// _PyVThread_IsCurrent() as a function of the interpreter's: shared modules can't keep the
// address of its thread-local variable over a park, as their compiler would.  Any thread,
// attached or not.
PyAPI_FUNC(int) _PyVThread_IsVirtual(void);

// As _PyVThread_WaitFd, but looks first, so that a descriptor which is ready costs one
// system call, and reports failure as a system call does, through errno.  An exception that
// no errno stands for (MemoryError, an interrupt) stays raised: callers look for it first.
PyAPI_FUNC(int) _PyVThread_AwaitFd(int fd, short events, PyTime_t timeout,
                                   const char *reason);

// Is fd in blocking mode, so that a call which finds nothing waits?  No for a bad fd.
PyAPI_FUNC(int) _PyVThread_FdBlocks(int fd);

// A try of a call that waits for `events` has found nothing, though a wait had ended: will each
// wait end at once?  Then only the blocking call waits, or returns.  The try had to tell EOF and
// errors, and not to be on a descriptor in non-blocking mode.
PyAPI_FUNC(int) _PyVThread_FdIsStuck(int fd, short events);

// --- Read and write (Python/vthread_fd.c) ------------------------------------------------

// "Do it": readv(2), writev(2) on pipes, sockets, ttys, event descriptors.  As on a blocking
// descriptor: a write is complete, or as long as it was when an error came.
PyAPI_FUNC(int) _PyVThread_Readv(int fd, const struct iovec *iov, Py_ssize_t cnt,
                                 Py_ssize_t *n);
PyAPI_FUNC(int) _PyVThread_Writev(int fd, const struct iovec *iov, Py_ssize_t cnt,
                                  Py_ssize_t *n);

// "Wait for it": before a call that reads from, or writes to, an fd by other means.
PyAPI_FUNC(int) _PyVThread_AwaitReadable(int fd, const char *reason);
PyAPI_FUNC(int) _PyVThread_AwaitWritable(int fd, const char *reason);

// As close(2), _Py_closerange(), dup2(2) and dup3(2), and tell the poller before and after:
// virtual threads that wait for what is closed get EBADF.  Any thread, attached or not.
PyAPI_FUNC(int) _PyVThread_CloseFd(int fd);
PyAPI_FUNC(void) _PyVThread_CloseFds(int first, int last);
PyAPI_FUNC(int) _PyVThread_Dup2(int fd, int target);
PyAPI_FUNC(int) _PyVThread_Dup3(int fd, int target, int flags);

// --- Multiplexing (Python/vthread_select.c) ----------------------------------------------

// As select(2) and epoll_wait(2), timeouts in nanoseconds (< 0: for ever); -1 as
// _PyVThread_AwaitFd.  Virtual threads only.
PyAPI_FUNC(int) _PyVThread_Select(int nfds, fd_set *r, fd_set *w, fd_set *x,
                                  PyTime_t timeout);
PyAPI_FUNC(int) _PyVThread_EpollWait(int epfd, struct epoll_event *events, int maxevents,
                                     PyTime_t timeout);

// --- Processes (Python/vthread_process.c) ------------------------------------------------

// "Wait for it": until a wait for the end of this one child would return at once.  Any
// other form of wait (groups, any child, WNOHANG, stops) is not waited for here.
PyAPI_FUNC(int) _PyVThread_AwaitChild(idtype_t type, id_t id, int options);

static inline int
_PyVThread_Read(int fd, void *buf, size_t count, Py_ssize_t *n)
{
    if (!_PyVThread_IsVirtual()) {
        return 0;
    }
    struct iovec iov = {buf, count};
    return _PyVThread_Readv(fd, &iov, 1, n);
}

static inline int
_PyVThread_Write(int fd, const void *buf, size_t count, Py_ssize_t *n)
{
    if (!_PyVThread_IsVirtual()) {
        return 0;
    }
    struct iovec iov = {(void *)buf, count};
    return _PyVThread_Writev(fd, &iov, 1, n);
}

// time.sleep(): timeout is what was asked for, `deadline` the same on the monotonic clock.
static inline int
_PyVThread_Sleep(PyTime_t timeout, PyTime_t deadline)
{
    if (timeout <= 0) {
        _PyVThread_Yield();
        return _PyVThread_RaiseInterrupt();
    }
    // The sum overflows for sleeps of centuries.
    return _PyVThread_SleepUntil(deadline < 0 ? PyTime_MAX : deadline);
}

// waitpid() and wait4(): pid > 0 is one child.
static inline int
_PyVThread_AwaitPid(pid_t pid, int options)
{
    return pid > 0 ? _PyVThread_AwaitChild(P_PID, (id_t)pid, options | WEXITED) : 0;
}

#else   // !Py_GIL_DISABLED: no virtual threads, and no need of the types above

#define _PyVThread_IsVirtual() 0
#define _PyVThread_CloseFd(fd) close(fd)
#define _PyVThread_CloseFds(first, last) _Py_closerange(first, last)
#define _PyVThread_Dup2(fd, target) dup2(fd, target)
#define _PyVThread_Dup3(fd, target, flags) dup3(fd, target, flags)
#define _PyVThread_Read(fd, buf, count, n) 0
#define _PyVThread_Write(fd, buf, count, n) 0
#define _PyVThread_Readv(fd, iov, cnt, n) 0
#define _PyVThread_Writev(fd, iov, cnt, n) 0
#define _PyVThread_AwaitReadable(fd, reason) 0
#define _PyVThread_AwaitWritable(fd, reason) 0
#define _PyVThread_Select(nfds, r, w, x, timeout) (-1)
#define _PyVThread_Poll(fds, n, timeout, reason) (-1)
#define _PyVThread_EpollWait(epfd, events, maxevents, timeout) (-1)
#define _PyVThread_AwaitChild(type, id, options) 0
#define _PyVThread_AwaitPid(pid, options) 0
#define _PyVThread_Sleep(timeout, deadline) 0
#define _PyVThread_Yield() ((void)0)

#endif

#ifdef __cplusplus
}
#endif
#endif   // !Py_INTERNAL_VTHREAD_IO_H
