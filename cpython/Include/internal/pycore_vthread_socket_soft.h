#ifndef Py_INTERNAL_VTHREAD_SOCKET_SOFT_H
#define Py_INTERNAL_VTHREAD_SOCKET_SOFT_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* Socket calls that wait without a C stack (pycore_vthread_soft.h).  A part of
 * pycore_vthread_socket.h, and included by it alone.
 *
 * A call makes its tries as ever; when it has to wait, it takes its offer, if it has one, and what it
 * then needs is kept here: its numbers in 16 bytes, and the memory that it reads from or writes
 * to by a memoryview, so that nobody can make a bytearray shorter meanwhile.  When the descriptor is
 * ready, a function of this file tries again, which waits for nothing; some do it by the call's own
 * function, with vsock_tries for an offer.
 */

struct vsock_send_args {
    Py_ssize_t sent;
    int flags;
    int all;                    // it is sendall()
};

struct vsock_recv_args {
    Py_ssize_t len;
    int flags;
    int control;                // recvmsg(): bytes of ancillary data
};

union vsock_args {
    struct vsock_send_args send;
    struct vsock_recv_args recv;
};

// What a call does that would have to wait, rather than to wait with its C stack.
struct vsock_offer {
    const struct _PyVThread_SoftFdOps *ops;     // NULL: it returns without an exception
    PyObject *buffer;                           // whose memory it uses while it waits, or NULL
    union vsock_args args;
};

static const struct vsock_offer vsock_tries;

// The offer to an OFFERED call that goes on by vsock_<name>_ops; the rest initializes its args.
#define VSOCK_OFFER(offered, name, buffer, ...) \
    ((offered) ? &(struct vsock_offer){&vsock_##name##_ops, (buffer), {__VA_ARGS__}} : NULL)

// What a try after a wait comes to that has failed with `err` (0: an exception is set).  NULL
// without an exception: wait for more.
static PyObject *
vsock_soft_failed(PySocketSockObject *s, int err)
{
    // What was there another thread has; or the descriptor is non-blocking now.
    if (err == EINTR || ((err == EAGAIN || err == EWOULDBLOCK)
                         && (s->sock_timeout >= 0 || _PyVThread_FdBlocks(s->sock_fd))))
    {
        return NULL;
    }
    if (err != 0) {
        errno = err;
        s->errorhandler();
    }
    return NULL;
}

static PyObject *
vsock_soft_ended(int ready)
{
    if (ready == 0) {
        PyErr_SetString(PyExc_TimeoutError, "timed out");
    }
    return NULL;
}

// Takes the offer of a call that was found to have to wait.  False: it waits with its C stack.
// `object` of the ops is the socket, or a tuple of the socket and a memoryview of the buffer.
static int
vsock_take_offer(PySocketSockObject *s, PyTime_t timeout, const struct vsock_offer *offer)
{
    const struct _PyVThread_SoftFdOps *ops = offer->ops;
    PyObject *buffer = offer->buffer;
    const void *args = &offer->args;
    if (timeout <= 0 && !vsock_would_block(s->sock_fd, ops->events)) {
        return 0;
    }
    if (buffer == NULL) {
        return _PyVThread_SoftWaitFd((PyObject *)s, s->sock_fd, timeout, ops, args,
                                     sizeof(offer->args));
    }
    // Others may run Python code when they are asked for their memory once more.
    if (!PyBytes_CheckExact(buffer) && !PyByteArray_CheckExact(buffer)
        && !PyMemoryView_Check(buffer))
    {
        return 0;
    }
    PyObject *view = PyMemoryView_FromObject(buffer);
    PyObject *both = view == NULL ? NULL : PyTuple_Pack(2, s, view);
    int taken = 0;
    if (both == NULL) {
        PyErr_Clear();
    }
    else {
        taken = _PyVThread_SoftWaitFd(both, s->sock_fd, timeout, ops, args,
                                      sizeof(offer->args));
    }
    Py_XDECREF(view);
    Py_XDECREF(both);
    return taken;
}

// A try has failed with `err`.  True: the call returns, and has set an exception unless it is to
// wait.  False: it goes on as without an offer.
static int
vsock_leaves(PySocketSockObject *s, int err, PyTime_t timeout, PyTime_t deadline,
             const struct vsock_offer *offer)
{
    if (offer == NULL) {
        return 0;
    }
    if (offer->ops == NULL) {
        (void)vsock_soft_failed(s, err);
        return 1;
    }
    if (err != EAGAIN && err != EWOULDBLOCK) {
        return 0;
    }
    PyTime_t left = timeout > 0 ? _PyDeadline_Get(deadline) : -1;
    return (timeout <= 0 || left > 0) && vsock_take_offer(s, left, offer);
}

static inline PySocketSockObject *
vsock_soft_socket(PyObject *both)
{
    return (PySocketSockObject *)PyTuple_GET_ITEM(both, 0);
}

static inline Py_buffer *
vsock_soft_buffer(PyObject *both)
{
    return PyMemoryView_GET_BUFFER(PyTuple_GET_ITEM(both, 1));
}

// What a call returns when it has waited; it ends unless that is NULL without an exception.  Then
// the memory is let go at once: the memoryview itself may be the last carrier's to deallocate,
// some time later, and its thread might find its own bytearray exported.
static PyObject *
vsock_soft_let_go(PyObject *both, PyObject *result)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (result != NULL || exc != NULL) {
        PyObject *none = PyObject_CallMethod(PyTuple_GET_ITEM(both, 1), "release", NULL);
        if (none == NULL) {
            PyErr_Clear();              // somebody has found the memoryview, and uses it
        }
        Py_XDECREF(none);
    }
    PyErr_SetRaisedException(exc);
    return result;
}

static PyObject *
vsock_sent(const struct vsock_send_args *a)
{
    return a->all ? Py_NewRef(Py_None) : PyLong_FromSsize_t(a->sent);
}

static PyObject *
vsock_soft_try_send(PyObject *both, int ready, struct vsock_send_args *a)
{
    PySocketSockObject *s = vsock_soft_socket(both);
    if (ready <= 0) {
        vsock_soft_ended(ready);
    }
    // With a timeout send() is one system call; without, it sends everything on a stream.
    int once = !a->all && (s->sock_timeout >= 0 || s->sock_type != SOCK_STREAM);
    const Py_buffer *buf = vsock_soft_buffer(both);
    for (int waited = 1; ready > 0; waited = 0) {
        int err;
        Py_ssize_t put = vsock_try_send(s, (char *)buf->buf + a->sent, buf->len - a->sent,
                                        a->flags, waited, &err);
        if (put < 0) {
            vsock_soft_failed(s, err);
            if (!PyErr_Occurred()) {
                return NULL;
            }
            break;
        }
        a->sent += put;
        if (once || a->sent == buf->len) {
            return vsock_sent(a);
        }
    }
    if (!a->all && a->sent > 0) {
        _PyVThread_PostponeRaised();
        return vsock_sent(a);
    }
    return NULL;
}

static PyObject *
vsock_soft_send(PyObject *both, int ready, void *arg)
{
    return vsock_soft_let_go(both, vsock_soft_try_send(both, ready, arg));
}

static const struct _PyVThread_SoftFdOps vsock_send_ops = {
    POLLOUT, "socket send", vsock_soft_send
};

static PyObject *
vsock_soft_recv(PyObject *self, int ready, void *arg)
{
    const struct vsock_recv_args *a = arg;
    PySocketSockObject *s = (PySocketSockObject *)self;
    PyObject *bytes = NULL;
    int err;
    if (ready <= 0) {
        return vsock_soft_ended(ready);
    }
    return vsock_try_recv(s, NULL, &bytes, a->len, a->flags, 1, &err) >= 0 ? bytes
           : vsock_soft_failed(s, err);
}

static PyObject *
vsock_soft_try_recv_into(PyObject *both, int ready, const struct vsock_recv_args *a)
{
    PySocketSockObject *s = vsock_soft_socket(both);
    int err;
    if (ready <= 0) {
        return vsock_soft_ended(ready);
    }
    Py_ssize_t got = vsock_try_recv(s, vsock_soft_buffer(both)->buf, NULL, a->len, a->flags, 1,
                                    &err);
    return got >= 0 ? PyLong_FromSsize_t(got) : vsock_soft_failed(s, err);
}

static PyObject *
vsock_soft_recv_into(PyObject *both, int ready, void *arg)
{
    return vsock_soft_let_go(both, vsock_soft_try_recv_into(both, ready, arg));
}

static const struct _PyVThread_SoftFdOps vsock_recv_ops = {
    POLLIN, "socket recv", vsock_soft_recv
};
static const struct _PyVThread_SoftFdOps vsock_recv_into_ops = {
    POLLIN, "socket recv", vsock_soft_recv_into
};

static Py_ssize_t sock_recvfrom_guts(PySocketSockObject *s, char *mem, Py_ssize_t len, int flags,
                                     PyObject **address, const struct vsock_offer *offer);
static PyObject *sock_recvfrom_as(PySocketSockObject *s, Py_ssize_t len, int flags,
                                  const struct vsock_offer *offer);
static PyObject *sock_recvmsg_as(PySocketSockObject *s, Py_ssize_t len, Py_ssize_t control,
                                 int flags, const struct vsock_offer *offer);
static PyObject *sock_accept_as(PySocketSockObject *s, const struct vsock_offer *offer);

static PyObject *
vsock_soft_recvfrom(PyObject *self, int ready, void *arg)
{
    const struct vsock_recv_args *a = arg;
    return ready <= 0 ? vsock_soft_ended(ready)
           : sock_recvfrom_as((PySocketSockObject *)self, a->len, a->flags, &vsock_tries);
}

static PyObject *
vsock_soft_recvfrom_into(PyObject *both, int ready, void *arg)
{
    const struct vsock_recv_args *a = arg;
    PyObject *address = NULL, *result = NULL;
    if (ready <= 0) {
        vsock_soft_ended(ready);
    }
    else {
        Py_ssize_t got = sock_recvfrom_guts(vsock_soft_socket(both), vsock_soft_buffer(both)->buf,
                                            a->len, a->flags, &address, &vsock_tries);
        result = got < 0 ? NULL : Py_BuildValue("nN", got, address);
    }
    return vsock_soft_let_go(both, result);
}

static PyObject *
vsock_soft_recvmsg(PyObject *self, int ready, void *arg)
{
    const struct vsock_recv_args *a = arg;
    return ready <= 0 ? vsock_soft_ended(ready)
           : sock_recvmsg_as((PySocketSockObject *)self, a->len, a->control, a->flags,
                             &vsock_tries);
}

static const struct _PyVThread_SoftFdOps vsock_recvfrom_ops = {
    POLLIN, "socket recv", vsock_soft_recvfrom
};
static const struct _PyVThread_SoftFdOps vsock_recvfrom_into_ops = {
    POLLIN, "socket recv", vsock_soft_recvfrom_into
};
static const struct _PyVThread_SoftFdOps vsock_recvmsg_ops = {
    POLLIN, "socket recv", vsock_soft_recvmsg
};

static PyObject *
vsock_soft_accept(PyObject *self, int ready, void *Py_UNUSED(arg))
{
    return ready <= 0 ? vsock_soft_ended(ready)
           : sock_accept_as((PySocketSockObject *)self, &vsock_tries);
}

static const struct _PyVThread_SoftFdOps vsock_accept_ops = {
    POLLIN, "socket accept", vsock_soft_accept
};

// Where a connect() that ends by a second connect(2) goes.
struct vsock_address {
    const struct sockaddr *addr;
    socklen_t len;
};

static int sock_connect_impl(PySocketSockObject *s, void *data);

// `object` is a tuple of the socket and the address to tell the kernel, or None.
static PyObject *
vsock_soft_connect(PyObject *both, int ready, void *Py_UNUSED(arg))
{
    PySocketSockObject *s = vsock_soft_socket(both);
    PyObject *addr = PyTuple_GET_ITEM(both, 1);
    struct pollfd look = {s->sock_fd, POLLOUT, 0};
    if (ready <= 0) {
        return vsock_soft_ended(ready);
    }
    if (s->sock_fd == INVALID_SOCKET) {
        errno = EBADF;
        return s->errorhandler();
    }
    if (poll(&look, 1, 0) == 0) {
        return NULL;                // a socket without an error would count as connected
    }
    struct vsock_address to, *told = NULL;
    if (addr != Py_None) {
        to = (struct vsock_address){(struct sockaddr *)PyBytes_AS_STRING(addr),
                                    (socklen_t)PyBytes_GET_SIZE(addr)};
        told = &to;
    }
    return sock_connect_impl(s, told) ? Py_NewRef(Py_None) : s->errorhandler();
}

static const struct _PyVThread_SoftFdOps vsock_connect_ops = {
    POLLOUT, "socket connect", vsock_soft_connect
};

// A connect() that was begun, and was offered to wait without a C stack: does it?
static int
vsock_leaves_connect(PySocketSockObject *s, const struct vsock_address *to)
{
    if (!vsock_parks(s, 1, 0, s->sock_timeout)) {
        return 0;
    }
    PyObject *addr = to == NULL ? Py_NewRef(Py_None)
                     : PyBytes_FromStringAndSize((const char *)to->addr, to->len);
    PyObject *both = addr == NULL ? NULL : PyTuple_Pack(2, s, addr);
    int taken = 0;
    if (both == NULL) {
        PyErr_Clear();
    }
    else {
        taken = _PyVThread_SoftWaitFd(both, s->sock_fd, s->sock_timeout, &vsock_connect_ops,
                                      NULL, 0);
    }
    Py_XDECREF(addr);
    Py_XDECREF(both);
    return taken;
}

#endif   // !Py_INTERNAL_VTHREAD_SOCKET_SOFT_H
