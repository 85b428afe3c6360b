/* select, poll and epoll on a virtual thread.
 *
 * Problem: these wait for many descriptors at once, and their callers (selectors, asyncio,
 * subprocess.communicate, multiprocessing.connection.wait) run in threads that should cost
 * no OS thread meanwhile.  The kernel's own answer is kept: each call is made with a zero
 * timeout, and only the wait between two tries is the pool's.
 *
 *     epoll    an epoll descriptor is readable when one of its own has an event: one wait
 *     poll     _PyVThread_Poll of the glue
 *     select   the sets become pollfds, and the last word has select(.., 0)
 *
 * poll tells of errors and hang-ups on every descriptor, select only through the sets for
 * reading and writing (and a hang-up only through the former).  When poll wakes for such a
 * thing and select sees nothing, waiting again would spin: select itself waits then, as on
 * a platform thread.
 */

#include "Python.h"

#ifdef Py_GIL_DISABLED

#include "pycore_time.h"            // _PyDeadline_Init()
#include "pycore_vthread_io.h"

#include <poll.h>
#include <sys/epoll.h>

// What is left of a timeout; < 0 stays "for ever".
static PyTime_t
time_left(PyTime_t timeout, PyTime_t deadline)
{
    if (timeout < 0) {
        return -1;
    }
    PyTime_t left = _PyDeadline_Get(deadline);
    return left < 0 ? 0 : left;
}

int
_PyVThread_EpollWait(int epfd, struct epoll_event *events, int maxevents,
                     PyTime_t timeout)
{
    PyTime_t deadline = timeout > 0 ? _PyDeadline_Init(timeout) : 0;
    for (;;) {
        int n = epoll_wait(epfd, events, maxevents, 0);
        if (n != 0 || timeout == 0) {
            return n;
        }
        // One more look after the deadline, as the kernel does.
        PyTime_t left = time_left(timeout, deadline);
        int ready = left == 0 ? 0 : _PyVThread_AwaitFd(epfd, POLLIN, left, "epoll");
        if (ready < 0) {
            return -1;
        }
        if (ready == 0) {
            timeout = 0;
        }
    }
}

struct sets {
    int nfds;
    fd_set *set[3];                 // of the caller; NULL: none
    fd_set asked[3];
};

static const short set_events[3] = {POLLIN, POLLOUT, POLLPRI};

// select(2) of what was asked for, with this timeout (NULL: for ever).
static int
select_asked(struct sets *s, struct timeval *tv)
{
    for (int i = 0; i < 3; i++) {
        if (s->set[i] != NULL) {
            *s->set[i] = s->asked[i];
        }
    }
    return select(s->nfds, s->set[0], s->set[1], s->set[2], tv);
}

static int
select_now(struct sets *s)
{
    struct timeval zero = {0, 0};
    return select_asked(s, &zero);
}

static nfds_t
sets_to_pollfds(const struct sets *s, struct pollfd *fds)
{
    nfds_t n = 0;
    for (int fd = 0; fd < s->nfds; fd++) {
        short events = 0;
        for (int i = 0; i < 3; i++) {
            if (s->set[i] != NULL && FD_ISSET(fd, &s->asked[i])) {
                events |= set_events[i];
            }
        }
        if (events != 0) {
            if (fds != NULL) {
                fds[n] = (struct pollfd){fd, events, 0};
            }
            n++;
        }
    }
    return n;
}

// Those that wait are told right before a descriptor is closed: select itself may still
// find it open.
static int
closed_one(const struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        if (fds[i].revents & POLLNVAL) {
            return 1;
        }
    }
    return 0;
}

static int
select_blocking(struct sets *s, PyTime_t timeout)
{
    struct timeval tv;
    if (timeout >= 0) {
        _PyTime_AsTimeval_clamp(timeout, &tv, _PyTime_ROUND_CEILING);
    }
    int n, err;
    Py_BEGIN_ALLOW_THREADS
    n = select_asked(s, timeout >= 0 ? &tv : NULL);
    err = errno;
    Py_END_ALLOW_THREADS
    errno = err;
    return n;
}

int
_PyVThread_Select(int nfds, fd_set *r, fd_set *w, fd_set *x, PyTime_t timeout)
{
    struct sets sets = {.nfds = nfds, .set = {r, w, x}};
    for (int i = 0; i < 3; i++) {
        if (sets.set[i] != NULL) {
            sets.asked[i] = *sets.set[i];
        }
    }
    PyTime_t deadline = timeout > 0 ? _PyDeadline_Init(timeout) : 0;
    int n = select_now(&sets);
    if (n != 0 || timeout == 0) {
        return n;
    }

    nfds_t count = sets_to_pollfds(&sets, NULL);
    struct pollfd *fds = PyMem_Calloc(count > 0 ? count : 1, sizeof(struct pollfd));
    if (fds == NULL) {
        errno = ENOMEM;
        return -1;
    }
    sets_to_pollfds(&sets, fds);
    for (;;) {
        PyTime_t left = time_left(timeout, deadline);
        int ready = left == 0 ? 0 : _PyVThread_Poll(fds, count, left, "select");
        if (ready < 0) {
            n = -1;
            break;
        }
        if (closed_one(fds, count)) {
            errno = EBADF;
            n = -1;
            break;
        }
        n = select_now(&sets);
        if (n != 0 || ready == 0) {
            break;
        }
        // Ready for poll, not for select: taken by another thread meanwhile, or of the
        // kind that select does not report.
        if (poll(fds, count, 0) > 0) {
            n = select_blocking(&sets, time_left(timeout, deadline));
            break;
        }
    }
    int err = errno;
    PyMem_Free(fds);
    errno = err;
    return n;
}

#endif   // Py_GIL_DISABLED
