#ifndef Py_INTERNAL_VTHREAD_SSL_H
#define Py_INTERNAL_VTHREAD_SSL_H

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* TLS on a virtual thread.  Included by Modules/_ssl.c alone.
 *
 * Problem: with a blocking descriptor OpenSSL waits inside SSL_read(), in the read(2) of its
 * socket BIO: foreign frames on the stack, and an OS thread that is held.  Waiting for
 * readability before SSL_read() does not help: a record of 16 KB comes in several packets,
 * and a handshake in several flights.
 *
 * So the BIO is ours: BIO_s_socket() with another read and write, which on a virtual
 * thread pass MSG_DONTWAIT.  OpenSSL then returns SSL_ERROR_WANT_READ or _WRITE, as it does
 * for sockets with a timeout, and the loops of _ssl.c, which exist for those, wait in
 * PySSL_select(), where no lock is held and no foreign frame is on the stack.
 *
 * On other threads the functions of BIO_s_socket() run.  With kernel TLS (OP_ENABLE_KTLS)
 * records are not read by recv(2): those connections keep OpenSSL's own BIO and block
 * their OS thread.
 */

#ifdef Py_GIL_DISABLED

#include "pycore_vthread_io.h"
#include <sys/socket.h>

static int
vssl_bio_read(BIO *bio, char *mem, int len)
{
    if (!_PyVThread_IsVirtual()) {
        return BIO_meth_get_read(BIO_s_socket())(bio, mem, len);
    }
    int fd = -1;
    BIO_get_fd(bio, &fd);
    errno = 0;                      // SSL_get_error() takes what it finds for the cause
    int got = (int)recv(fd, mem, len, MSG_DONTWAIT);
    BIO_clear_retry_flags(bio);
    if (got == 0) {
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    }
    else if (got < 0 && BIO_sock_should_retry(got)) {
        BIO_set_retry_read(bio);
    }
    return got;
}

static int
vssl_bio_write(BIO *bio, const char *mem, int len)
{
    if (!_PyVThread_IsVirtual()) {
        return BIO_meth_get_write(BIO_s_socket())(bio, mem, len);
    }
    int fd = -1;
    BIO_get_fd(bio, &fd);
    errno = 0;
    int put = (int)send(fd, mem, len, MSG_DONTWAIT);
    BIO_clear_retry_flags(bio);
    if (put <= 0 && BIO_sock_should_retry(put)) {
        BIO_set_retry_write(bio);
    }
    return put;
}

// One a process, never freed; NULL without memory.
static BIO_METHOD *
vssl_bio_method(void)
{
    static void *shared;            // atomic
    BIO_METHOD *method = _Py_atomic_load_ptr_acquire(&shared);
    if (method != NULL) {
        return method;
    }
    const BIO_METHOD *base = BIO_s_socket();
    method = BIO_meth_new(BIO_TYPE_SOCKET, "socket");
    if (method == NULL) {
        return NULL;
    }
    BIO_meth_set_read(method, vssl_bio_read);
    BIO_meth_set_write(method, vssl_bio_write);
    BIO_meth_set_puts(method, BIO_meth_get_puts(base));
    BIO_meth_set_ctrl(method, BIO_meth_get_ctrl(base));
    BIO_meth_set_create(method, BIO_meth_get_create(base));
    BIO_meth_set_destroy(method, BIO_meth_get_destroy(base));
    void *first = NULL;
    if (!_Py_atomic_compare_exchange_ptr(&shared, &first, method)) {
        BIO_meth_free(method);      // another thread was first
        method = first;
    }
    return method;
}

// SSL_set_fd(), with the BIO above.
static int
vssl_set_fd(SSL *ssl, int fd)
{
#ifdef SSL_OP_ENABLE_KTLS
    if (SSL_get_options(ssl) & SSL_OP_ENABLE_KTLS) {
        return SSL_set_fd(ssl, fd);
    }
#endif
    BIO_METHOD *method = vssl_bio_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (bio == NULL) {
        return SSL_set_fd(ssl, fd);
    }
    BIO_set_fd(bio, fd, BIO_NOCLOSE);
    SSL_set_bio(ssl, bio, bio);
    return 1;
}

// PySSL_select()'s wait: > 0 ready, 0 timed out, -1 closed meanwhile, -2 exception set.
static int
vssl_select(PySocketSockObject *s, int writing, PyTime_t timeout)
{
    int fd = s->sock_fd;
    int ready = _PyVThread_AwaitFd(fd, writing ? POLLOUT : POLLIN, timeout,
                                   writing ? "ssl write" : "ssl read");
    if (ready < 0 && PyErr_Occurred()) {
        return -2;
    }
    // The BIO has the number, which may be another file's by now.
    return s->sock_fd == fd ? Py_MAX(ready, -1) : -1;
}

#else   // !Py_GIL_DISABLED

#define vssl_set_fd(ssl, fd) SSL_set_fd(ssl, fd)
#define vssl_select(s, writing, timeout) (-1)

#endif

#endif   // !Py_INTERNAL_VTHREAD_SSL_H
