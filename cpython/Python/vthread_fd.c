/* Reads and writes of descriptors that may have to wait.
 *
 * Problem: read(2) and write(2) on a pipe, a socket or a terminal block their OS thread,
 * and have no flag against it.  Looking with poll(2) first leaves a race: when a hundred
 * threads read one pipe and a byte comes, all are told, one gets it and the others block
 * their carriers, until none is left for the writer.  So the try itself must not block:
 *
 *     pipe, FIFO      preadv2(.., RWF_NOWAIT)     (Linux 6.4; else poll, as below)
 *     socket          recvmsg, sendmsg(.., MSG_DONTWAIT), same as read and write there
 *     anything else   preadv2, pwritev2 as well, where the kernel can (eventfd, timerfd); else
 *                     poll, then the stock call: terminals, inotify
 *     regular file    the stock call; the kernel calls it always ready
 *
 * A blocking write of n bytes to a stream returns n: the kernel waits until all of them are
 * in.  Here the tail is written when the descriptor is writable again.  Up to PIPE_BUF bytes
 * go into a pipe as one or not at all, also with RWF_NOWAIT; longer writes may interleave
 * with others', as POSIX has it for the blocking kind.
 *
 * Tries are made attached: they don't wait, and detaching would cost as much as they do.
 */

#include "Python.h"

#ifdef Py_GIL_DISABLED

#include "pycore_fileutils.h"       // _PY_WRITE_MAX
#include "pycore_vthread_io.h"

#include <fcntl.h>
#include <limits.h>                 // IOV_MAX, PIPE_BUF
#include <poll.h>
#include <sys/resource.h>           // getrlimit
#include <sys/socket.h>
#include <sys/stat.h>

int
_PyVThread_IsVirtual(void)
{
    return _PyVThread_IsCurrent();
}

// Turns a raised OSError into errno.  Any other exception stays.
static void
raised_to_errno(void)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = ((PyOSErrorObject *)exc)->myerrno;
    int err = number != NULL && PyLong_Check(number) ? PyLong_AsInt(number) : EBADF;
    Py_DECREF(exc);
    errno = err;
}

int
_PyVThread_AwaitFd(int fd, short events, PyTime_t timeout, const char *reason)
{
    struct pollfd look = {fd, events, 0};
    int ready = poll(&look, 1, 0);
    if (ready != 0 || timeout == 0) {
        return ready;
    }
    ready = _PyVThread_WaitFd(fd, events, timeout, reason);
    if (ready < 0) {
        raised_to_errno();
    }
    return ready;
}

int
_PyVThread_FdBlocks(int fd)
{
    int mode = fcntl(fd, F_GETFL);
    return mode >= 0 && !(mode & O_NONBLOCK);
}

int
_PyVThread_FdIsStuck(int fd, short events)
{
    // Errors and hang-ups are always reported.  The end of what comes in says nothing to those
    // who want to write.
    struct pollfd look = {fd, events & POLLIN ? POLLRDHUP : 0, 0};
    return poll(&look, 1, 0) > 0;
}

// --- Which descriptors ------------------------------------------------------------------

enum fd_kind { FD_NEVER_WAITS, FD_PIPE, FD_SOCKET, FD_OTHER };

static enum fd_kind
fd_kind(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return FD_NEVER_WAITS;      // the stock call says why
    }
    switch (st.st_mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFBLK:
            return FD_NEVER_WAITS;
        case S_IFIFO:
            return FD_PIPE;
        case S_IFSOCK:
            return FD_SOCKET;
        default:                    // character devices; anonymous inodes have type 0
            return FD_OTHER;
    }
}

static Py_ssize_t
iov_size(const struct iovec *iov, Py_ssize_t cnt)
{
    size_t size = 0;
    for (Py_ssize_t i = 0; i < cnt; i++) {
        size += iov[i].iov_len;
        if (size > _PY_WRITE_MAX) {
            return -1;
        }
    }
    return (Py_ssize_t)size;
}

// --- One try ----------------------------------------------------------------------------

// As readv(2); EAGAIN when it would wait, EOPNOTSUPP when the kernel can't try on this one.
static Py_ssize_t
try_readv(int fd, enum fd_kind kind, const struct iovec *iov, Py_ssize_t cnt)
{
    if (kind == FD_SOCKET) {
        struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = cnt};
        return recvmsg(fd, &msg, MSG_DONTWAIT);
    }
    return preadv2(fd, iov, (int)cnt, -1, RWF_NOWAIT);
}

static Py_ssize_t
try_writev(int fd, enum fd_kind kind, const struct iovec *iov, Py_ssize_t cnt)
{
    if (kind == FD_SOCKET) {
        struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = cnt};
        return sendmsg(fd, &msg, MSG_DONTWAIT);
    }
    return pwritev2(fd, iov, (int)cnt, -1, RWF_NOWAIT);
}

static int
cant_try(enum fd_kind kind, int err)
{
    // ENOSYS and EINVAL: a kernel (or an emulator) without preadv2 or without the flag.
    return kind != FD_SOCKET && (err == EOPNOTSUPP || err == ENOSYS || err == ESPIPE
                                 || (err == EINVAL && kind == FD_PIPE));
}

// The stock call fails at once, and waiting first may never end: a read of less than eight bytes
// from an eventfd, a write to a timerfd, both on a pidfd.
static int
fails_at_once(enum fd_kind kind, int err)
{
    return kind == FD_OTHER && err == EINVAL;
}

// As _PyVThread_FdIsStuck(); of anything that is no socket, only that the tries may be, so that
// losing a race too often blocks the OS thread.
static int
is_stuck(int fd, enum fd_kind kind, short events)
{
    struct pollfd look = {fd, events, 0};
    return kind == FD_SOCKET ? _PyVThread_FdIsStuck(fd, events)
           : kind == FD_OTHER && poll(&look, 1, 0) != 0;
}

// 0: wait and try again.  -1: exception set.  1: the descriptor does not block, so that
// the stock call is the one to make.
static int
await_again(int fd, short events, const char *reason)
{
    if (!_PyVThread_FdBlocks(fd)) {
        return 1;
    }
    if (_PyVThread_WaitFd(fd, events, -1, reason) < 0) {
        errno = EBADF;              // callers look for EAGAIN only
        return -1;
    }
    return 0;
}

static int
await_then_stock(int fd, short events, const char *reason)
{
    for (;;) {
        struct pollfd look = {fd, events, 0};
        if (poll(&look, 1, 0) != 0) {
            return 0;               // ready, or in error
        }
        int again = await_again(fd, events, reason);
        if (again != 0) {
            return again < 0 ? -1 : 0;
        }
    }
}

// --- The calls --------------------------------------------------------------------------

int
_PyVThread_Readv(int fd, const struct iovec *iov, Py_ssize_t cnt, Py_ssize_t *n)
{
    if (!_PyVThread_IsCurrent()) {
        return 0;
    }
    if (cnt <= 0 || cnt > IOV_MAX || iov_size(iov, cnt) <= 0) {
        return 0;                   // nothing to wait for, or an error
    }
    enum fd_kind kind = fd_kind(fd);
    if (kind == FD_NEVER_WAITS) {
        return 0;
    }
    for (int waited = 0;; waited = 1) {
        Py_ssize_t got = try_readv(fd, kind, iov, cnt);
        if (got >= 0) {
            *n = got;
            return 1;
        }
        int err = errno;
        if (err == EINTR) {
            if (PyErr_CheckSignals() < 0) {
                errno = EINTR;
                *n = -1;
                return -1;
            }
            continue;
        }
        if (fails_at_once(kind, err) || (err == EAGAIN && waited && is_stuck(fd, kind, POLLIN))) {
            *n = -1;
            return 0;
        }
        if (err != EAGAIN) {
            if (cant_try(kind, err)) {
                int again = await_then_stock(fd, POLLIN, "read");
                *n = -1;
                return again;
            }
            // A socket reports an error once: the stock call would not see it again.
            *n = -1;
            errno = err;
            PyErr_SetFromErrno(PyExc_OSError);
            errno = err;
            return -1;
        }
        int again = await_again(fd, POLLIN, "read");
        if (again != 0) {
            *n = -1;
            return again < 0 ? -1 : 0;
        }
    }
}

// One piece of a write that is to be complete: iov[0] is partly done when `skip` > 0.
// Restores what it changes.
static Py_ssize_t
try_write_from(int fd, enum fd_kind kind, struct iovec *iov, Py_ssize_t cnt, size_t skip)
{
    while (cnt > 1 && skip >= iov->iov_len) {
        skip -= iov->iov_len;
        iov++;
        cnt--;
    }
    struct iovec saved = *iov;
    iov->iov_base = (char *)saved.iov_base + skip;
    iov->iov_len = saved.iov_len - skip;
    Py_ssize_t put = try_writev(fd, kind, iov, cnt);
    int err = errno;
    *iov = saved;
    errno = err;
    return put;
}

// For kernels that can't try on a pipe: what fits for certain into one that poll() calls
// writable is PIPE_BUF bytes.  Longer buffers go in pieces of that size.
static Py_ssize_t
write_pieces(int fd, const struct iovec *iov, Py_ssize_t cnt)
{
    Py_ssize_t done = 0;
    for (Py_ssize_t i = 0; i < cnt; i++) {
        size_t at = 0;
        while (at < iov[i].iov_len) {
            if (await_then_stock(fd, POLLOUT, "write") < 0) {
                return done > 0 ? (_PyVThread_PostponeRaised(), done) : -1;
            }
            size_t piece = Py_MIN(iov[i].iov_len - at, PIPE_BUF);
            Py_ssize_t put;
            int err;
            Py_BEGIN_ALLOW_THREADS
            put = write(fd, (char *)iov[i].iov_base + at, piece);
            err = errno;
            Py_END_ALLOW_THREADS
            if (put < 0 && err == EINTR && PyErr_CheckSignals() == 0) {
                continue;
            }
            if (put < 0) {
                if (done > 0) {
                    PyErr_Clear();
                    return done;
                }
                if (!PyErr_Occurred()) {
                    errno = err;
                    PyErr_SetFromErrno(PyExc_OSError);
                }
                errno = err;
                return -1;
            }
            at += put;
            done += put;
        }
    }
    return done;
}

int
_PyVThread_Writev(int fd, const struct iovec *iov, Py_ssize_t cnt, Py_ssize_t *n)
{
    if (!_PyVThread_IsCurrent()) {
        return 0;
    }
    Py_ssize_t size = cnt <= 0 || cnt > IOV_MAX ? -1 : iov_size(iov, cnt);
    if (size <= 0) {
        return 0;
    }
    enum fd_kind kind = fd_kind(fd);
    if (kind == FD_NEVER_WAITS) {
        return 0;
    }
    Py_ssize_t done = 0;
    int waited = 0;
    while (done < size) {
        Py_ssize_t put = try_write_from(fd, kind, (struct iovec *)iov, cnt, done);
        if (put >= 0) {
            done += put;
            waited = 0;
            if (put == 0) {
                break;              // not of a stream: no more will come of it
            }
            continue;
        }
        int err = errno;
        if (err == EINTR) {
            if (PyErr_CheckSignals() < 0) {
                break;
            }
            continue;
        }
        if (fails_at_once(kind, err) || (err == EAGAIN && waited && is_stuck(fd, kind, POLLOUT))) {
            if (done == 0) {
                *n = -1;
                return 0;
            }
            break;                  // short, as POSIX has it; the next call will block
        }
        if (err == EAGAIN) {
            int again = await_again(fd, POLLOUT, "write");
            if (again == 0) {
                waited = 1;
                continue;
            }
            if (again > 0 && done == 0) {
                return 0;
            }
            break;
        }
        if (done == 0 && cant_try(kind, err)) {
            if (kind == FD_PIPE && size > PIPE_BUF && _PyVThread_FdBlocks(fd)) {
                *n = write_pieces(fd, iov, cnt);
                return *n < 0 ? -1 : 1;
            }
            *n = -1;
            return await_then_stock(fd, POLLOUT, "write");
        }
        if (done == 0) {
            errno = err;
            PyErr_SetFromErrno(PyExc_OSError);
            errno = err;
        }
        break;
    }
    if (done == 0) {
        *n = -1;
        return -1;
    }
    // As the kernel does: what went in counts, and the error comes with the next call.
    if (PyErr_Occurred()) {
        _PyVThread_PostponeRaised();
    }
    *n = done;
    return 1;
}

int
_PyVThread_AwaitReadable(int fd, const char *reason)
{
    return _PyVThread_IsCurrent() ? await_then_stock(fd, POLLIN, reason) : 0;
}

int
_PyVThread_AwaitWritable(int fd, const char *reason)
{
    return _PyVThread_IsCurrent() ? await_then_stock(fd, POLLOUT, reason) : 0;
}

// --- Close ------------------------------------------------------------------------------

int
_PyVThread_CloseFd(int fd)
{
    _PyVThread_FdClosing(fd);
    int res = close(fd);
    _PyVThread_FdClosed(fd);
    return res;
}

static void
each_fd(int first, int last, void (*tell)(int fd))
{
    // Callers like to say "all there may be", up to INT_MAX.  Nothing is open above the
    // hard limit, unless it was lowered later; fs.nr_open's default bounds an infinite one.
    struct rlimit limit;
    long most = 1 << 20;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < (rlim_t)most) {
        most = (long)limit.rlim_max;
    }
    for (int fd = Py_MAX(first, 0); fd <= last && fd < most; fd++) {
        tell(fd);
    }
}

void
_PyVThread_CloseFds(int first, int last)
{
    each_fd(first, last, _PyVThread_FdClosing);
    _Py_closerange(first, last);
    each_fd(first, last, _PyVThread_FdClosed);
}

int
_PyVThread_Dup3(int fd, int target, int flags)
{
    // Nothing is closed when both are the same, or there is nothing to put in its place.
    int closes = fd != target && fcntl(fd, F_GETFD) >= 0;
    if (closes) {
        _PyVThread_FdClosing(target);
    }
    // dup3() says EINVAL when both are the same.
    int res = flags != 0 ? dup3(fd, target, flags) : dup2(fd, target);
    if (closes) {
        _PyVThread_FdClosed(target);
    }
    return res;
}

int
_PyVThread_Dup2(int fd, int target)
{
    return _PyVThread_Dup3(fd, target, 0);
}

#endif   // Py_GIL_DISABLED
