/* Stack memory on Linux.
 *
 * Guards.  A PROT_NONE page in the middle of a mapping splits it: two more mappings a
 * stack, of which a process may have vm.max_map_count (65,530 unless changed) for
 * everything it does.  A million stacks cannot have that.  MADV_GUARD_INSTALL (Linux 6.13)
 * marks the page table entries instead and splits nothing.  Which of the two is found out
 * at the first guard, by experiment and not by version, since emulators and seccomp
 * filters answer madvise() as they like: a system call that is asked to write to a
 * guarded page says EFAULT.  Where the mark does not work, mappings are used for as many
 * stacks as a half of max_map_count allows, and stacks beyond that have no guard.
 *
 * Overcommit.  MAP_NORESERVE keeps the untouched rest of each stack out of the accounting.
 * With vm.overcommit_memory = 2 the kernel ignores that flag; then what is committed
 * counts in full, and a commit fails when the limit is reached.
 *
 * Huge pages.  With transparent huge pages set to "always" the first touch of a stack
 * would take 2 MB, two stacks at once.  They are switched off for all stack memory. */

#include "stack/prim.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#  define MADV_GUARD_INSTALL 102
#endif

static _Atomic int fail_after = -1;             /* written by tests                       */

static pthread_once_t guards_once = PTHREAD_ONCE_INIT;
static int light_guards;                        /* by find_out_about_guards(), and tests   */
static _Atomic int mapping_guards_left;         /* any thread                             */

static int
fails(void)
{
    int n = atomic_load_explicit(&fail_after, memory_order_relaxed);
    if (CONT__LIKELY(n < 0)) {
        return 0;
    }
    while (n > 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_after, &n, n - 1,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return 0;
        }
    }
    return n == 0;
}

void
cont__prim_fail_after(int n)
{
    atomic_store(&fail_after, n);
}

size_t
cont__prim_page_size(void)
{
    static _Atomic size_t page_size;            /* the same value each time               */
    size_t size = atomic_load_explicit(&page_size, memory_order_relaxed);
    if (CONT__UNLIKELY(size == 0)) {
        size = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&page_size, size, memory_order_relaxed);
    }
    return size;
}

void *
cont__prim_reserve(size_t size, size_t align)
{
    if (fails() || size + align < size) {
        return NULL;
    }
    const size_t all = size + align;
    char *p = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    char *at = (char *)(((uintptr_t)p + align - 1) & ~(uintptr_t)(align - 1));
    if (at != p) {
        munmap(p, (size_t)(at - p));
    }
    munmap(at + size, all - size - (size_t)(at - p));
    /* EINVAL: a kernel without them. */
    madvise(at, size, MADV_NOHUGEPAGE);
    return at;
}

void
cont__prim_unreserve(void *at, size_t size)
{
    munmap(at, size);
}

int
cont__prim_commit(void *at, size_t size)
{
    if (fails() || mprotect(at, size, PROT_READ | PROT_WRITE) != 0) {
        return -ENOMEM;
    }
    return 0;
}

void
cont__prim_purge(void *at, size_t size)
{
    madvise(at, size, MADV_DONTNEED);
}

int
cont__prim_renew(void *at, size_t size)
{
    /* A new mapping over the old one, in one step: at no time are the addresses free.
     * It merges with its neighbours again once it has their flags. */
    if (fails()
        || mmap(at, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
           == MAP_FAILED)
    {
        cont__prim_purge(at, size);
        return -ENOMEM;
    }
    madvise(at, size, MADV_NOHUGEPAGE);
    return 0;
}

/* What the system allows, half of it, two to a guard. */
static int
read_mapping_budget(void)
{
    long maps = 65530;                          /* the kernel's default */
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        char buf[32];
        ssize_t n = read(fd, buf, sizeof(buf));
        close(fd);
        long value = 0;
        for (ssize_t i = 0; i < n && buf[i] >= '0' && buf[i] <= '9'; i++) {
            if (value < (1L << 30)) {
                value = value * 10 + (buf[i] - '0');
            }
        }
        if (value > 0) {
            maps = value;
        }
    }
    return (int)(maps / 4);
}

static int
light_guards_work(void)
{
    const size_t size = cont__prim_page_size();
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (page == MAP_FAILED) {
        return 0;
    }
    int work = madvise(page, size, MADV_GUARD_INSTALL) == 0
               && syscall(SYS_getrandom, page, 1, 0) == -1 && errno == EFAULT;
    munmap(page, size);
    return work;
}

static void
find_out_about_guards(void)
{
    light_guards = light_guards_work();
    mapping_guards_left = read_mapping_budget();
}

static int
take_mapping_guard(void)
{
    int left = atomic_load_explicit(&mapping_guards_left, memory_order_relaxed);
    while (left > 0) {
        if (atomic_compare_exchange_weak_explicit(&mapping_guards_left, &left, left - 1,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return 1;
        }
    }
    return 0;
}

enum cont__guard_result
cont__prim_guard(void *at, size_t size)
{
    pthread_once(&guards_once, find_out_about_guards);
    /* The mark is refused on locked memory (mlockall()); mappings are not. */
    if (light_guards && madvise(at, size, MADV_GUARD_INSTALL) == 0) {
        return CONT__GUARD_LIGHT;
    }
    if (!take_mapping_guard()) {
        return CONT__GUARD_NONE;
    }
    if (mprotect(at, size, PROT_NONE) != 0) {
        cont__prim_unguarded(1);
        return CONT__GUARD_NONE;
    }
    return CONT__GUARD_MAPPING;
}

void
cont__prim_unguarded(unsigned n)
{
    atomic_fetch_add_explicit(&mapping_guards_left, (int)n, memory_order_relaxed);
}

void
cont__prim_limit_guards(int mappings)
{
    pthread_once(&guards_once, find_out_about_guards);
    light_guards = 0;
    atomic_store(&mapping_guards_left, mappings);
}
