/* Fibre annotations of ASan, TSan, LSan, and valgrind's stack registration.
 *
 * TSan pushes and pops a shadow call stack in every instrumented function; the function
 * that changes the fibre must not be one, or its entry would be pushed on one fibre and
 * popped from the other.  Hence the attribute on the two functions around a switch.
 *
 * LSan looks for pointers on the stacks of OS threads only; without the root region,
 * what only a suspended frame refers to would be reported as a leak.  It has a lock for
 * that, which a forked child could find taken for ever; so it is never held over a fork. */

#include "base/sanitizer.h"

#ifdef CONT__ASAN
#  include <pthread.h>
#  include <sanitizer/asan_interface.h>
#  include <sanitizer/common_interface_defs.h>
#  include <sanitizer/lsan_interface.h>
#endif
#ifdef CONT__TSAN
#  include <sanitizer/tsan_interface.h>
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#endif
#ifdef CONT__VALGRIND
#  include <stdint.h>
#  include <valgrind/memcheck.h>
#  include <valgrind/valgrind.h>
#endif

#ifdef CONT__ASAN
static pthread_mutex_t regions_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t regions_once = PTHREAD_ONCE_INIT;

static void
lock_regions(void)
{
    pthread_mutex_lock(&regions_lock);
}

static void
unlock_regions(void)
{
    pthread_mutex_unlock(&regions_lock);
}

static void
reset_regions_lock(void)
{
    pthread_mutex_init(&regions_lock, NULL);
}

static void
watch_forks(void)
{
    pthread_atfork(lock_regions, unlock_regions, reset_regions_lock);
}

static void
change_region(void (*change)(const void *, size_t), void *limit, void *base)
{
    pthread_once(&regions_once, watch_forks);
    lock_regions();
    change(limit, (size_t)((char *)base - (char *)limit));
    unlock_regions();
}
#endif

#ifdef CONT__SANITIZER

void
cont__san_stack_begin(void **slots, void *limit, void *base)
{
    slots[0] = slots[1] = slots[2] = slots[3] = NULL;
#ifdef CONT__ASAN
    change_region(__lsan_register_root_region, limit, base);
#endif
#ifdef CONT__TSAN
    slots[2] = __tsan_create_fiber(0);
#endif
#ifdef CONT__VALGRIND
    slots[3] = (void *)(uintptr_t)VALGRIND_STACK_REGISTER(limit, base);
#endif
    (void)limit;
    (void)base;
}

void
cont__san_stack_end(void **slots, void *limit, void *low, void *base)
{
#ifdef CONT__ASAN
    /* Frames that never returned (the outermost one, and all of an abandoned
     * continuation) left their red zones poisoned. */
    __asan_unpoison_memory_region(low, (size_t)((char *)base - (char *)low));
    change_region(__lsan_unregister_root_region, limit, base);
#endif
#ifdef CONT__TSAN
    __tsan_destroy_fiber(slots[2]);
#endif
#ifdef CONT__VALGRIND
    VALGRIND_STACK_DEREGISTER((unsigned)(uintptr_t)slots[3]);
#endif
    (void)limit;
    (void)low;
    (void)base;
    slots[0] = slots[1] = slots[2] = slots[3] = NULL;
}

#else
typedef int cont__sanitizer_empty_unit;
#endif

#ifdef CONT__TSAN
/* The child of a process that had several threads is not checked: TSan then ignores what
 * the surviving thread does, its synchronisation included, and would take each switch for
 * a race if the fibres were not ignored as well. */
static int forked;

void
cont__san_after_fork_child(void)
{
    forked = 1;
}
#endif

#if defined(CONT__ASAN) || defined(CONT__TSAN)

__attribute__((noinline, no_sanitize("thread")))
void
cont__san_before_switch(void **slots, enum cont__san_way way, void **fake,
                        void *limit, void *base)
{
#ifdef CONT__ASAN
    if (way == CONT__SAN_INTO) {
        __sanitizer_start_switch_fiber(fake, limit,
                                       (size_t)((char *)base - (char *)limit));
    }
    else {
        /* NULL: the fake frames of this stack can go. */
        __sanitizer_start_switch_fiber(way == CONT__SAN_END ? NULL : fake, slots[0],
                                       (size_t)slots[1]);
    }
#endif
#ifdef CONT__TSAN
    if (way == CONT__SAN_INTO) {
        slots[3] = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(slots[2], 0);
    }
    else {
        if (way == CONT__SAN_END && slots[0] != NULL) {
            AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
            AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        }
        __tsan_switch_to_fiber(slots[3], 0);
    }
#endif
    (void)slots, (void)way, (void)fake, (void)limit, (void)base;
}

__attribute__((noinline, no_sanitize("thread")))
void
cont__san_after_switch(void **slots, enum cont__san_way way, void *fake)
{
#ifdef CONT__ASAN
    if (way == CONT__SAN_INTO) {
        const void *limit;
        size_t size;
        __sanitizer_finish_switch_fiber(fake, &limit, &size);
        slots[0] = (void *)limit;
        slots[1] = (void *)size;
    }
    else {
        __sanitizer_finish_switch_fiber(fake, NULL, NULL);
    }
#endif
#ifdef CONT__TSAN
    if (way == CONT__SAN_INTO && forked && slots[0] == NULL) {
        slots[0] = slots;
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
#endif
    (void)slots, (void)way, (void)fake;
}

#endif

#if defined(CONT__ASAN) || defined(CONT__TSAN)

/* As cont__san_fill. */
CONT__UNCHECKED
void
cont__san_copy(void *to, const void *from, size_t n)
{
    volatile unsigned char *p = to;
    const volatile unsigned char *q = from;
    for (size_t i = 0; i < n; i++) {
        p[i] = q[i];
    }
}

#endif

#ifdef CONT__VALGRIND

void
cont__san_define(void *at, size_t n)
{
    VALGRIND_MAKE_MEM_DEFINED(at, n);
}

#endif

#ifdef CONT_HARD

/* Not instrumented, and not calls of memset(), which is. */
CONT__UNCHECKED
void
cont__san_fill(void *at, int byte, size_t n)
{
#ifdef CONT__VALGRIND
    VALGRIND_MAKE_MEM_UNDEFINED(at, n);
#endif
    volatile unsigned char *p = at;
    for (size_t i = 0; i < n; i++) {
        p[i] = (unsigned char)byte;
    }
}

CONT__UNCHECKED
int
cont__san_is_filled(const void *at, int byte, size_t n)
{
    const volatile unsigned char *p = at;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != (unsigned char)byte) {
            return 0;
        }
    }
    return 1;
}

#endif
