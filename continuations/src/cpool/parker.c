/* Sleep and wake on Linux: the futex.  The only file of the scheduler, beside the pollers,
 * that names a system call of one platform. */

#include "cpool/parker.h"

#include "continuations/cpool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void
cpool__futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline)
{
    int saved = errno;
    struct timespec at, *until = NULL;
    if (deadline != CPOOL_FOREVER) {
        if (deadline < 0) {
            deadline = 0;
        }
        at.tv_sec = (time_t)(deadline / 1000000000);
        at.tv_nsec = (long)(deadline % 1000000000);
        until = &at;
    }
    /* The bitset form takes an absolute time of CLOCK_MONOTONIC. */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, until, NULL,
            FUTEX_BITSET_MATCH_ANY);
    errno = saved;
}

void
cpool__futex_wake(_Atomic uint32_t *word, int n)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n, NULL, NULL, 0);
    errno = saved;
}

void
cpool__exact_timers(void)
{
    prctl(PR_SET_TIMERSLACK, 1000UL);
}

void
cpool__lock_slow(struct cpool__lock *lock)
{
    /* Held sections are some tens of instructions: a short look is cheaper than a sleep,
     * unless the holder lost its core. */
    for (int i = 0; i < 40; i++) {
        uint32_t free = 0;
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0
            && atomic_compare_exchange_strong_explicit(&lock->word, &free, 1,
                                                       memory_order_acquire,
                                                       memory_order_relaxed)) {
            return;
        }
        cpool__pause();
    }
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0) {
        cpool__futex_wait(&lock->word, 2, CPOOL_FOREVER);
    }
}
