#ifndef CONT_CPOOL_PARKER_H
#define CONT_CPOOL_PARKER_H

/* How an OS thread of the pool sleeps and is woken, and the pool's mutex.
 *
 * The pool does not use pthread mutexes: its locks must be usable again in the child of a
 * fork, whoever held them in the parent, which for four bytes that mean nothing but "held"
 * is one store.  No function here changes errno: they run inside of calls whose caller
 * looks at errno afterwards (cpool_block_end). */

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *word == expected, until woken or `deadline` (CLOCK_MONOTONIC ns;
 * CPOOL_FOREVER).  Spurious returns happen: the caller loops. */
void cpool__futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t deadline);

/* Wakes `n` of those who sleep on `word`. */
void cpool__futex_wake(_Atomic uint32_t *word, int n);

/* For this OS thread: sleeps end when they should.  The kernel adds up to 50 us otherwise,
 * more than handoff_ns and than most of what a carrier does between two sleeps. */
void cpool__exact_timers(void);

/* 0 free, 1 held, 2 held and somebody may sleep. */
struct cpool__lock {
    _Atomic uint32_t word;
};

void cpool__lock_slow(struct cpool__lock *lock);

static inline void
cpool__lock(struct cpool__lock *lock)
{
    uint32_t free = 0;
    /* acquire: partner cpool__unlock */
    if (!atomic_compare_exchange_strong_explicit(&lock->word, &free, 1, memory_order_acquire,
                                                 memory_order_relaxed)) {
        cpool__lock_slow(lock);
    }
}

static inline void
cpool__unlock(struct cpool__lock *lock)
{
    /* release: partner cpool__lock */
    if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2) {
        cpool__futex_wake(&lock->word, 1);
    }
}

static inline void
cpool__lock_reset(struct cpool__lock *lock)
{
    atomic_store_explicit(&lock->word, 0, memory_order_relaxed);
}

/* Orders all stores before it before all loads after it: the middle of both halves of a
 * "publish, then look" pair.  A fence has no meaning to TSan, which needs none here (it
 * checks happens-before, and a full fence orders a store before a load). */
static inline void
cpool__full_fence(void)
{
#if defined(__SANITIZE_THREAD__)
#  define CPOOL__NO_FENCE 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define CPOOL__NO_FENCE 1
#  endif
#endif
#ifdef CPOOL__NO_FENCE
    _Atomic int here = 0;
    atomic_fetch_add_explicit(&here, 1, memory_order_seq_cst);
    __asm__ volatile("" ::: "memory");
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void
cpool__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
