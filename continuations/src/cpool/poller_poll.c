/* The reference poller, on poll(2): what the tests compare the other one with, and what a
 * port to another system starts from.
 *
 * A set of (fd, events), armed for one event each, under a lock.  A wait copies the set and
 * polls the copy; arming something while somebody waits ends that wait, so that the set is
 * copied again.  What is ready is reported if it is still armed.  Everything is O(size of
 * the set). */

#include "cpool/cpool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    struct cpool__lock lock;
    struct pollfd *set;                 /* under the lock                              */
    nfds_t used, room;                  /* under the lock                              */
    int pipe[2];
    atomic_bool waiting;
} ref = {.pipe = {-1, -1}};

static void
ref_fini(void)
{
    cpool__lock_reset(&ref.lock);
    free(ref.set);
    ref.set = NULL;
    ref.used = ref.room = 0;
    for (int i = 0; i < 2; i++) {
        if (ref.pipe[i] >= 0) {
            close(ref.pipe[i]);
        }
        ref.pipe[i] = -1;
    }
}

static int
ref_init(void)
{
    ref.waiting = false;
    return pipe2(ref.pipe, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

static void
ref_wake(void)
{
    int saved = errno;
    ssize_t ignored = write(ref.pipe[1], "", 1);
    (void)ignored;
    errno = saved;
}

static nfds_t
find(int fd)
{
    nfds_t i = 0;
    while (i < ref.used && ref.set[i].fd != fd) {
        i++;
    }
    return i;
}

static int
ref_arm(int fd, short events)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
        return -EPERM;
    }
    int r = 0;
    cpool__lock(&ref.lock);
    nfds_t i = find(fd);
    if (i == ref.room) {
        nfds_t room = ref.room == 0 ? 16 : 2 * ref.room;
        struct pollfd *set = realloc(ref.set, room * sizeof(*set));
        if (set == NULL) {
            r = -ENOMEM;
        }
        else {
            ref.set = set;
            ref.room = room;
        }
    }
    if (r == 0) {
        ref.used += i == ref.used;
        ref.set[i] = (struct pollfd){.fd = fd, .events = events};
    }
    cpool__unlock(&ref.lock);
    cpool__full_fence();
    if (r == 0 && ref.waiting) {
        ref_wake();
    }
    return r;
}

static void
ref_disarm(int fd)
{
    cpool__lock(&ref.lock);
    nfds_t i = find(fd);
    if (i < ref.used) {
        ref.set[i] = ref.set[--ref.used];
    }
    cpool__unlock(&ref.lock);
}

static int
ref_wait(int64_t deadline, struct cpool__event *out, int max)
{
    if (deadline != 0) {
        ref.waiting = true;
        cpool__full_fence();
    }
    cpool__lock(&ref.lock);
    nfds_t n = ref.used;
    struct pollfd *copy = malloc((n + 1) * sizeof(*copy));
    if (copy != NULL && n != 0) {
        memcpy(copy + 1, ref.set, n * sizeof(*copy));
    }
    cpool__unlock(&ref.lock);
    if (copy == NULL) {
        return 0;
    }
    copy[0] = (struct pollfd){.fd = deadline != 0 ? ref.pipe[0] : -1, .events = POLLIN};
    struct timespec left = {0, 0};
    if (deadline != 0 && deadline != CPOOL_FOREVER) {
        int64_t ns = deadline - cpool_now();
        if (ns > 0) {
            left = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
        }
    }
    int r = ppoll(copy, n + 1, deadline == CPOOL_FOREVER ? NULL : &left, NULL);
    int used = 0;
    if (r > 0) {
        char drain[64];
        while (copy[0].revents != 0 && read(ref.pipe[0], drain, sizeof(drain)) > 0) {
        }
        cpool__lock(&ref.lock);
        for (nfds_t k = 1; k <= n && used < max; k++) {
            nfds_t i = copy[k].revents != 0 ? find(copy[k].fd) : ref.used;
            if (i < ref.used) {
                out[used++] = (struct cpool__event){copy[k].fd, copy[k].revents};
                ref.set[i] = ref.set[--ref.used];
            }
        }
        cpool__unlock(&ref.lock);
    }
    if (deadline != 0) {
        ref.waiting = false;
    }
    free(copy);
    return used;
}

const struct cpool__poller_ops cpool__poller_poll = {
    "poll", ref_init, ref_fini, ref_arm, ref_disarm, ref_wait, ref_wake,
};
