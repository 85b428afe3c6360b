/* The poller on epoll: one epoll descriptor, and an eventfd that ends a wait.
 *
 * Each wait arms its descriptor for one event (EPOLLONESHOT), by MOD, and by ADD when the
 * kernel doesn't know it: one system call more for a wait than a registration that stays,
 * but one that can't be stale.  The kernel's key is (open file, number): after a close that
 * nobody announced and a new open with the same number, MOD fails and ADD registers the new
 * file.  A leftover of the old file, kept open elsewhere, can at most wake a waiter early.
 *
 * Many may poll at the same time without waiting; only one waits (pool.poll_owner), and
 * only that one empties the eventfd, so that nobody eats a wake-up meant for it. */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    int epoll_fd, event_fd;
    atomic_bool no_pwait2;              /* kernel before 5.11: milliseconds only       */
} ep = {-1, -1, false};

static void
ep_fini(void)
{
    if (ep.event_fd >= 0) {
        close(ep.event_fd);
    }
    if (ep.epoll_fd >= 0) {
        close(ep.epoll_fd);
    }
    ep.epoll_fd = ep.event_fd = -1;
}

static int
ep_init(void)
{
    ep.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    ep.event_fd = ep.epoll_fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = -1};
    if (ep.event_fd < 0 || epoll_ctl(ep.epoll_fd, EPOLL_CTL_ADD, ep.event_fd, &ev) < 0) {
        int r = -errno;
        ep_fini();
        return r;
    }
    return 0;
}

static int
ep_arm(int fd, short events)
{
    struct epoll_event ev = {.events = EPOLLONESHOT | (uint16_t)events, .data.fd = fd};
    if (epoll_ctl(ep.epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0) {
        return 0;
    }
    if (errno == ENOENT && epoll_ctl(ep.epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0) {
        return 0;
    }
    return errno == ENOSPC ? -ENOMEM : -errno;
}

static void
ep_disarm(int fd)
{
    struct epoll_event ev = {0};
    epoll_ctl(ep.epoll_fd, EPOLL_CTL_DEL, fd, &ev);
}

static int
wait_ns(struct epoll_event *events, int max, int64_t ns)
{
#ifdef SYS_epoll_pwait2
    if (ns > 0 && !CPOOL__LOAD(&ep.no_pwait2)) {
        struct timespec left = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
        int n = (int)syscall(SYS_epoll_pwait2, ep.epoll_fd, events, max, &left, NULL, 0);
        if (n >= 0 || errno != ENOSYS) {
            return n;
        }
        CPOOL__STORE(&ep.no_pwait2, true);
    }
#endif
    int64_t ms = (ns + 999999) / 1000000;
    return epoll_wait(ep.epoll_fd, events, max, ms > 3600000 ? 3600000 : (int)ms);
}

static int
ep_wait(int64_t deadline, struct cpool__event *out, int max)
{
    struct epoll_event events[64];
    int n;
    max = max < 64 ? max : 64;
    if (deadline == 0) {
        n = epoll_wait(ep.epoll_fd, events, max, 0);
    }
    else if (deadline == CPOOL_FOREVER) {
        n = epoll_wait(ep.epoll_fd, events, max, -1);
    }
    else {
        int64_t left = deadline - cpool_now();
        n = wait_ns(events, max, left > 0 ? left : 0);
    }
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd >= 0) {
            out[used++] = (struct cpool__event){events[i].data.fd, (short)events[i].events};
        }
        else if (deadline != 0) {
            uint64_t count;
            ssize_t ignored = read(ep.event_fd, &count, sizeof(count));
            (void)ignored;
        }
    }
    return used;
}

static void
ep_wake(void)
{
    int saved = errno;
    uint64_t one = 1;
    ssize_t ignored = write(ep.event_fd, &one, sizeof(one));
    (void)ignored;                      /* EAGAIN: it is readable already              */
    errno = saved;
}

const struct cpool__poller_ops cpool__poller_epoll = {
    "epoll", ep_init, ep_fini, ep_arm, ep_disarm, ep_wait, ep_wake,
};
