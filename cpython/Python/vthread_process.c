/* Waiting for the end of a child process.
 *
 * Problem: waitpid(2) blocks the OS thread and has no deadline.  A pidfd is readable when
 * its process has ended, so the virtual thread parks on it, and the caller's own wait call
 * then returns at once and collects that child, and no other.
 *
 * Never collected here: the looks use WNOWAIT.  When somebody else collects the child
 * meanwhile, the caller gets ECHILD, as it would from a blocking waitpid.
 *
 * Only "this one child, until it ends" is waited for in this way.  A process group or "any
 * child" has no descriptor, and a stopped or continued child does not make one readable:
 * those block the OS thread, and the pool's hand-off covers them.
 */

#include "Python.h"

#ifdef Py_GIL_DISABLED

#include "pycore_vthread_io.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#  define SYS_pidfd_open 434        // the same number on every architecture
#endif
#ifndef P_PIDFD
#  define P_PIDFD 3
#endif

int
_PyVThread_AwaitChild(idtype_t type, id_t id, int options)
{
    if (!_PyVThread_IsCurrent()) {
        return 0;
    }
    if ((type != P_PID && type != P_PIDFD)
        || !(options & WEXITED) || (options & ~(WEXITED | WNOWAIT)))
    {
        return 0;
    }
    // Not our child, or ended already: the stock call says so at once.
    siginfo_t info;
    info.si_pid = 0;
    if (waitid(type, id, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0) {
        return 0;
    }
    int fd = type == P_PIDFD ? (int)id : (int)syscall(SYS_pidfd_open, (pid_t)id, 0);
    if (fd < 0) {
        return 0;                   // forbidden, or none left: block
    }
    struct pollfd look = {fd, POLLIN, 0};
    int ready;
    do {                            // readiness is a hint; the wait call blocks
        ready = _PyVThread_WaitFd(fd, POLLIN, -1, "child process");
    } while (ready > 0 && poll(&look, 1, 0) == 0);
    if (type == P_PID) {
        _PyVThread_CloseFd(fd);
    }
    return ready < 0 ? -1 : 0;
}

#endif   // Py_GIL_DISABLED
