#ifndef Py_INTERNAL_VTHREAD_SOCKET_H
#define Py_INTERNAL_VTHREAD_SOCKET_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Socket calls on a virtual thread.  Included by Modules/socketmodule.c alone: these take
 * the place of its sock_call().
 *
 * Problem: a socket without a timeout is a blocking descriptor, and a thread in recv(2)
 * holds its OS thread.  The descriptor can't be made non-blocking: the flag belongs to the
 * open file, which children and other processes share.  So, by kind of call:
 *
 *   recv*, send*   with MSG_DONTWAIT, attached (the try does not wait, and detaching costs
 *                  as much as it does), then park, then again.
 *   accept         has no such flag.  One thread at a time of those that accept on the same
 *                  object looks with poll(2) and takes what it has seen, or the error of a
 *                  socket that does not listen.  A second object of
 *                  the same open file, or another process, can still take it in between;
 *                  then the OS thread blocks in accept(2), as a platform thread would.
 *                  Setting O_NONBLOCK for an instant instead would be seen by them.
 *   connect        O_NONBLOCK for the duration of connect(2), then park until writable.
 *                  Nobody reads from a socket that is not connected yet, so nobody sees it.
 *                  A second connect(2) then tells TCP that the first has ended, as a blocking
 *                  one does: else the next connect() would find it in progress.
 *                  Not for Unix sockets, where a full backlog can't be waited for, and not
 *                  for datagrams, where connect(2) does not wait: those make the plain call.
 *
 * Sockets with a timeout are non-blocking descriptors on all threads; here they only park
 * instead of blocking in poll(2).  Sockets with timeout 0 never come here.
 *
 * A socket can be ready for ever for something that a call does not take: an error queue that
 * nobody reads, a datagram socket shut down for reading, where only the blocking recv(2) returns.
 * When a try after a wait has found nothing, and that is the reason, the call is made plainly.
 *
 * What the kernel does on a blocking socket is kept: send() on a stream returns when all
 * is sent; a descriptor that was made non-blocking behind the object's back raises
 * BlockingIOError; a timeout set by SO_RCVTIMEO or SO_SNDTIMEO counts.  Calls with flags
 * whose blocking form has a meaning of its own (MSG_WAITALL, MSG_OOB, MSG_ERRQUEUE,
 * MSG_FASTOPEN) are made plainly.
 *
 * recv(65536) of a thousand idle connections must not hold a thousand buffers: the bytes
 * object is made when there is something to put into it.  After a recv() that came up
 * short the next one waits first, since a try would surely say EAGAIN.
 */

#include "pycore_vthread_soft.h"    // _PyVThread_AcceptOffer()

typedef int (*vsock_func)(PySocketSockObject *s, void *data);

// The stock way: detaches, and blocks the OS thread in the call; with a timeout, in poll(2)
// before it.
static int sock_call_ex(PySocketSockObject *s, int writing, vsock_func func, void *data,
                        int connect, int *err, PyTime_t timeout);

#ifdef Py_GIL_DISABLED

#include <fcntl.h>
#include "pycore_vthread_io.h"

// A try with MSG_DONTWAIT added, and then a wait, is the same as one call with these.
#define VSOCK_FLAGS (MSG_PEEK | MSG_TRUNC | MSG_CTRUNC | MSG_NOSIGNAL | MSG_MORE \
                     | MSG_CMSG_CLOEXEC | MSG_EOR | MSG_CONFIRM | MSG_DONTROUTE)

// Set once some socket of the process was given SO_RCVTIMEO or SO_SNDTIMEO; asking each
// socket before each wait would be a system call for what next to nobody uses.
static uint8_t vsock_kernel_timeouts;

static inline void
vsock_note_option(int level, int option)
{
    if (level == SOL_SOCKET && (option == SO_RCVTIMEO || option == SO_SNDTIMEO)) {
        _Py_atomic_store_uint8_relaxed(&vsock_kernel_timeouts, 1);
    }
}

static inline int
vsock_has_kernel_timeout(int fd, short events)
{
    struct timeval tv = {0, 0};
    socklen_t size = sizeof(tv);
    int option = events == POLLIN ? SO_RCVTIMEO : SO_SNDTIMEO;
    return _Py_atomic_load_uint8_relaxed(&vsock_kernel_timeouts)
           && getsockopt(fd, SOL_SOCKET, option, &tv, &size) == 0
           && (tv.tv_sec != 0 || tv.tv_usec != 0);
}

// Is this call one that parks?  Else it is made as on a platform thread.
static inline int
vsock_parks(PySocketSockObject *s, int writing, int flags, PyTime_t timeout)
{
    if (timeout == 0 || !_PyVThread_IsVirtual() || (flags & ~VSOCK_FLAGS)) {
        return 0;
    }
#ifdef AF_ALG
    if (s->sock_family == AF_ALG) {
        return 0;
    }
#endif
#ifdef AF_UNIX
    // Waits for room in the receiver's queue, of which the poller hears nothing.
    if (writing && s->sock_family == AF_UNIX && s->sock_type == SOCK_DGRAM) {
        return 0;
    }
#endif
    return 1;
}

// A descriptor without a timeout of ours, which a try has found not ready: may the thread wait,
// or would the plain call return, or time out by itself?
static inline int
vsock_would_block(int fd, short events)
{
    return _PyVThread_FdBlocks(fd) && !vsock_has_kernel_timeout(fd, events);
}

// A try has failed with `err` though a wait had ended: will all tries?
static inline int
vsock_is_stuck(PySocketSockObject *s, int err, short events)
{
    return (err == EAGAIN || err == EWOULDBLOCK) && s->sock_timeout < 0
           && _PyVThread_FdIsStuck(s->sock_fd, events);
}

static inline void
vsock_set_drained(PySocketSockObject *s, int flags, Py_ssize_t got, Py_ssize_t asked)
{
    // Not after the end of the stream, which is always readable.
    int drained = got > 0 && got < asked && s->sock_type == SOCK_STREAM
                  && !(flags & MSG_PEEK);
    _Py_atomic_store_uint8_relaxed(&s->sock_vthread.drained, drained);
}

// One try, or after a wait the plain call if no try will ever succeed.  `mem` NULL: *bytes is made
// if something can be received.  Returns how many bytes came; -1 with *err, which is 0 when an
// exception is set.
static Py_ssize_t
vsock_try_recv(PySocketSockObject *s, char *mem, PyObject **bytes, Py_ssize_t len, int flags,
               int waited, int *err)
{
    *err = 0;
    PyObject *buf = NULL;
    if (mem == NULL) {
        buf = PyBytes_FromStringAndSize(NULL, len);
        if (buf == NULL) {
            return -1;
        }
        mem = PyBytes_AS_STRING(buf);
    }
    Py_ssize_t got = recv(s->sock_fd, mem, len, flags | MSG_DONTWAIT);
    if (got < 0) {
        *err = errno;
    }
    if (got < 0 && waited && vsock_is_stuck(s, *err, POLLIN)) {
        Py_BEGIN_ALLOW_THREADS
        got = recv(s->sock_fd, mem, len, flags);
        *err = errno;
        Py_END_ALLOW_THREADS
    }
    if (got < 0) {
        Py_XDECREF(buf);
        return -1;
    }
    vsock_set_drained(s, flags, got, len);
    if (buf != NULL) {
        if (got != len) {
            _PyBytes_Resize(&buf, got);
        }
        *bytes = buf;
    }
    return got;
}

static Py_ssize_t
vsock_try_send(PySocketSockObject *s, const char *mem, Py_ssize_t len, int flags, int waited,
               int *err)
{
    Py_ssize_t put = send(s->sock_fd, mem, len, flags | MSG_DONTWAIT);
    *err = errno;
    if (put < 0 && waited && vsock_is_stuck(s, *err, POLLOUT)) {
        Py_BEGIN_ALLOW_THREADS
        put = send(s->sock_fd, mem, len, flags);
        *err = errno;
        Py_END_ALLOW_THREADS
    }
    return put;
}

static int
vsock_try(PySocketSockObject *s, int writing, vsock_func func, void *data, int *flags, int waited,
          int *err)
{
    *flags |= MSG_DONTWAIT;
    int done = func(s, data);
    *err = errno;
    *flags &= ~MSG_DONTWAIT;
    if (!done && waited && vsock_is_stuck(s, *err, writing ? POLLOUT : POLLIN)) {
        Py_BEGIN_ALLOW_THREADS
        done = func(s, data);
        *err = errno;
        Py_END_ALLOW_THREADS
    }
    return done;
}

#include "pycore_vthread_socket_soft.h"

enum vsock_wait { VSOCK_ERROR = -1, VSOCK_AGAIN, VSOCK_PLAIN };

// Parks until the socket is ready for `events`, or the time is over.  AGAIN: try again.
// ERROR: exception set.  PLAIN: the call must be made as on a platform thread.
static enum vsock_wait
vsock_wait(PySocketSockObject *s, short events, PyTime_t timeout, PyTime_t deadline,
           const char *reason)
{
    int fd = s->sock_fd;
    if (fd == INVALID_SOCKET) {
        return VSOCK_AGAIN;         // closed meanwhile: the next try says EBADF
    }
    PyTime_t left = -1;
    if (timeout > 0) {
        left = _PyDeadline_Get(deadline);
        left = Py_MAX(left, 0);
    }
    else if (!vsock_would_block(fd, events)) {
        return VSOCK_PLAIN;
    }
    int ready = left == 0 ? 0 : _PyVThread_WaitFd(fd, events, left, reason);
    if (ready == 0) {
        PyErr_SetString(PyExc_TimeoutError, "timed out");
        return VSOCK_ERROR;
    }
    return ready < 0 ? VSOCK_ERROR : VSOCK_AGAIN;
}

// What a try that failed with `err` comes to.
static enum vsock_wait
vsock_failed(PySocketSockObject *s, int err, short events, PyTime_t timeout,
             PyTime_t deadline, const char *reason)
{
    if (err == EINTR) {
        return PyErr_CheckSignals() < 0 ? VSOCK_ERROR : VSOCK_AGAIN;
    }
    if (err == EAGAIN || err == EWOULDBLOCK) {
        return vsock_wait(s, events, timeout, deadline, reason);
    }
    errno = err;
    s->errorhandler();
    return VSOCK_ERROR;
}

// sock_call() for functions that take flags from *flags, which lies in *data.  -1 without an
// exception: has taken its offer, if it has one.
static int
vsock_call_offered(PySocketSockObject *s, int writing, vsock_func func, void *data, int *flags,
                   PyTime_t timeout, const struct vsock_offer *offer)
{
    if (!vsock_parks(s, writing, *flags, timeout)) {
        return sock_call_ex(s, writing, func, data, 0, NULL, timeout);
    }
    PyTime_t deadline = timeout > 0 ? _PyDeadline_Init(timeout) : 0;
    for (int waited = offer == &vsock_tries;; waited = 1) {
        int err;
        if (vsock_try(s, writing, func, data, flags, waited, &err)) {
            return 0;
        }
        if (vsock_leaves(s, err, timeout, deadline, offer)) {
            return -1;
        }
        switch (vsock_failed(s, err, writing ? POLLOUT : POLLIN, timeout, deadline,
                             writing ? "socket send" : "socket recv")) {
            case VSOCK_AGAIN:
                break;
            case VSOCK_PLAIN:
                return sock_call_ex(s, writing, func, data, 0, NULL, timeout);
            case VSOCK_ERROR:
                return -1;
        }
    }
}

static inline int
vsock_call(PySocketSockObject *s, int writing, vsock_func func, void *data, int *flags,
           PyTime_t timeout)
{
    return vsock_call_offered(s, writing, func, data, flags, timeout, NULL);
}

// A blocking stream socket sends all that it is given, or what went before an error.  The
// first part went with vsock_call(); this sends the rest of `iov`.  Returns how much went in
// all; never fails, since something did go.  -1: has taken its offer, if it has one, which is for
// a single part.
static Py_ssize_t
vsock_send_rest_offered(PySocketSockObject *s, Py_ssize_t sent, int flags,
                        const struct iovec *iov, size_t n, struct vsock_offer *offer)
{
    if (s->sock_timeout >= 0 || s->sock_type != SOCK_STREAM
        || !vsock_parks(s, 1, flags, s->sock_timeout))
    {
        return sent;
    }
    size_t skip = sent;
    for (size_t i = 0; i < n; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        int waited = 0;
        while (skip < iov[i].iov_len) {
            int err;
            Py_ssize_t put = vsock_try_send(s, (char *)iov[i].iov_base + skip,
                                            iov[i].iov_len - skip, flags, waited, &err);
            if (put >= 0) {
                skip += put;
                sent += put;
                waited = 0;
                continue;
            }
            if (offer != NULL) {
                offer->args.send.sent = sent;
            }
            if (vsock_leaves(s, err, -1, 0, offer)) {
                return -1;
            }
            if (vsock_failed(s, err, POLLOUT, -1, 0, "socket send") != VSOCK_AGAIN) {
                if (PyErr_Occurred()) {
                    _PyVThread_PostponeRaised();
                }
                return sent;
            }
            waited = 1;
        }
        skip = 0;
    }
    return sent;
}

static inline Py_ssize_t
vsock_send_rest(PySocketSockObject *s, Py_ssize_t sent, int flags,
                const struct iovec *iov, size_t n)
{
    return vsock_send_rest_offered(s, sent, flags, iov, n, NULL);
}

// recv() and recv_into().  `mem` NULL: *bytes is made when something can be received; else it is
// memory for that.  Returns how many bytes came, or -1; -2: make the plain call.  -1 without an
// exception: has taken its offer, if it has one.
static Py_ssize_t
vsock_recv(PySocketSockObject *s, char *mem, PyObject **bytes, Py_ssize_t len, int flags,
           const struct vsock_offer *offer)
{
    PyTime_t timeout = s->sock_timeout;
    if (len == 0 || !vsock_parks(s, 0, flags, timeout)) {
        return -2;
    }
    PyTime_t deadline = timeout > 0 ? _PyDeadline_Init(timeout) : 0;
    int waits_first = _Py_atomic_load_uint8_relaxed(&s->sock_vthread.drained);
    for (int waited = 0;; waited = 1) {
        int err = EAGAIN;
        if (waited || !waits_first) {
            Py_ssize_t got = vsock_try_recv(s, mem, bytes, len, flags, waited, &err);
            if (got >= 0 || err == 0) {
                return got;
            }
        }
        if (vsock_leaves(s, err, timeout, deadline, offer)) {
            return -1;
        }
        switch (vsock_failed(s, err, POLLIN, timeout, deadline, "socket recv")) {
            case VSOCK_AGAIN:
                break;
            case VSOCK_PLAIN:
                return -2;
            case VSOCK_ERROR:
                return -1;
        }
    }
}

static int
vsock_listens(PySocketSockObject *s)
{
    int listens = 1;
    socklen_t size = sizeof(listens);
    (void)getsockopt(s->sock_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    return listens;
}

// sock_call() for accept.  -1 without an exception: has taken its offer, if it has one.
static int
vsock_accept_offered(PySocketSockObject *s, vsock_func func, void *data,
                     const struct vsock_offer *offer)
{
    PyTime_t timeout = s->sock_timeout;
    if (!vsock_parks(s, 0, 0, timeout)) {
        return sock_call_ex(s, 0, func, data, 0, NULL, timeout);
    }
    PyTime_t deadline = timeout > 0 ? _PyDeadline_Init(timeout) : 0;
    for (;;) {
        int done = 0, err = EAGAIN;
        PyMutex_Lock(&s->sock_vthread.accepting);
        struct pollfd look = {s->sock_fd, POLLIN, 0};
        if (s->sock_fd == INVALID_SOCKET || poll(&look, 1, 0) != 0
            || (timeout < 0 && !vsock_listens(s)))
        {
            Py_BEGIN_ALLOW_THREADS
            done = func(s, data);
            err = errno;
            Py_END_ALLOW_THREADS
        }
        PyMutex_Unlock(&s->sock_vthread.accepting);
        if (done) {
            return 0;
        }
        if (vsock_leaves(s, err, timeout, deadline, offer)) {
            return -1;
        }
        switch (vsock_failed(s, err, POLLIN, timeout, deadline, "socket accept")) {
            case VSOCK_AGAIN:
                break;
            case VSOCK_PLAIN:
                return sock_call_ex(s, 0, func, data, 0, NULL, timeout);
            case VSOCK_ERROR:
                return -1;
        }
    }
}

static inline int
vsock_accept(PySocketSockObject *s, vsock_func func, void *data)
{
    return vsock_accept_offered(s, func, data, NULL);
}

// Around connect(2), detached.  Returns whether it was made non-blocking; then `end` makes
// it blocking again and keeps errno, and EINPROGRESS means to wait, as for a timeout.
static int
vsock_connect_begin(PySocketSockObject *s)
{
    if (s->sock_timeout >= 0 || !_PyVThread_IsVirtual()
        || s->sock_type == SOCK_DGRAM || s->sock_family == AF_UNIX)
    {
        return 0;
    }
    int mode = fcntl(s->sock_fd, F_GETFL);
    // A descriptor that is non-blocking already is left so: its user wants EINPROGRESS, or
    // another thread connects the same socket and makes it blocking again.
    return mode >= 0 && !(mode & O_NONBLOCK)
           && fcntl(s->sock_fd, F_SETFL, mode | O_NONBLOCK) == 0;
}

static void
vsock_connect_end(PySocketSockObject *s, int changed)
{
    if (changed) {
        int err = errno;
        int mode = fcntl(s->sock_fd, F_GETFL);
        if (mode >= 0) {
            (void)fcntl(s->sock_fd, F_SETFL, mode & ~O_NONBLOCK);
        }
        errno = err == EALREADY ? EINPROGRESS : err;
    }
}

// Does a connect() end by a second connect(2)?  Else getsockopt() says how it has ended: others
// than TCP may take the second one for a new attempt, or know it in progress for ever.  `changed`:
// the first one was made non-blocking.
static inline int
vsock_connects_twice(PySocketSockObject *s, int changed)
{
    return changed && s->sock_type == SOCK_STREAM
           && (s->sock_family == AF_INET || s->sock_family == AF_INET6)
           && (s->sock_proto == 0 || s->sock_proto == IPPROTO_TCP);
}

// A vsock_func of a socket that was found writable: has it been connected?  Waits for nothing.
static int
vsock_connect_again(PySocketSockObject *s, const struct vsock_address *to)
{
    int changed = vsock_connect_begin(s);
    int res = connect(s->sock_fd, to->addr, to->len);
    vsock_connect_end(s, changed);
    return res == 0 || errno == EISCONN;    // another thread has told the kernel before
}

// internal_select()'s wait: 0 ready, 1 timed out, -1 errno, or an exception if one is set.
// For connect 0 is more than a hint: a socket without an error then counts as connected.
static int
vsock_select(PySocketSockObject *s, int writing, PyTime_t interval, int connect)
{
    short events = writing ? POLLOUT : POLLIN;
    PyTime_t deadline = interval > 0 ? _PyDeadline_Init(interval) : 0;
    for (;;) {
        int fd = s->sock_fd;
        int ready = _PyVThread_AwaitFd(fd, events, interval,
                                       connect ? "socket connect"
                                       : writing ? "socket send" : "socket recv");
        if (ready <= 0) {
            return ready < 0 ? -1 : 1;
        }
        if (s->sock_fd != fd) {     // closed; the number may be another file's by now
            errno = EBADF;
            return -1;
        }
        struct pollfd look = {fd, events, 0};
        if (!connect || poll(&look, 1, 0) != 0) {
            return 0;
        }
        if (interval > 0) {
            interval = _PyDeadline_Get(deadline);
            interval = Py_MAX(interval, 0);
        }
    }
}

#else   // !Py_GIL_DISABLED

struct vsock_offer;
#define VSOCK_OFFER(offered, name, buffer, ...) ((void)(offered), NULL)
#define vsock_call(s, writing, func, data, flags, timeout) \
    sock_call_ex(s, writing, func, data, 0, NULL, timeout)
#define vsock_call_offered(s, writing, func, data, flags, timeout, offer) \
    ((void)(offer), sock_call_ex(s, writing, func, data, 0, NULL, timeout))
#define vsock_accept(s, func, data) \
    sock_call_ex(s, 0, func, data, 0, NULL, (s)->sock_timeout)
#define vsock_accept_offered(s, func, data, offer) ((void)(offer), vsock_accept(s, func, data))
#define vsock_send_rest(s, sent, flags, ...) (sent)
#define vsock_send_rest_offered(s, sent, flags, ...) (sent)
#define vsock_select(s, writing, interval, connect) (-1)
#define vsock_recv(s, mem, bytes, len, flags, offer) ((void)(offer), -2)
#define vsock_leaves_connect(s, to) 0
struct vsock_address {
    const struct sockaddr *addr;
    int len;
};
#define vsock_connects_twice(s, changed) 0
#define vsock_connect_again(s, to) 0
#define vsock_connect_begin(s) 0
#define vsock_connect_end(s, changed) ((void)0)
#define vsock_note_option(level, option) ((void)0)

#endif

#endif   // !Py_INTERNAL_VTHREAD_SOCKET_H
