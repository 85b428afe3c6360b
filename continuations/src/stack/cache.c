/* The cache of idle stacks that each OS thread has, so that starting and ending
 * continuations on many cores needs neither a lock nor another core's cache lines.
 *
 * Last in, first out: the stack that was left last has its top pages, and their lines,
 * nearest.  Empty, it takes BATCH stacks from the depot; full, it gives the BATCH oldest
 * back.  Both amounts at once would bounce between the two at a boundary, so it holds two
 * batches.
 *
 * Pages of deep excursions.  Whether a stack was used deeply is not known, and asking the
 * kernel costs as much as giving the pages back (0.8 us, where 0.06 us start and end a
 * continuation), so it is done to one stack in PURGE_PERIOD that comes here, and to all
 * that go on to the depot.  64 KB of each stay, so that programs of common depth never fault
 * for it.
 *
 * Continuations migrate, but take and put are called on a resumer's stack and do not
 * switch: the cache of the thread that enters is the right one until they return. */

#include "stack/cache.h"

#include "base/assert.h"
#include "base/list.h"
#include "stack/depot.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef CONT_HARD
#  define BATCH 2
#  define PURGE_PERIOD 1
#else
#  define BATCH 16
#  define PURGE_PERIOD 32
#endif
#define CAPACITY (2 * BATCH)
#define KEEP_BYTES ((size_t)64 << 10)

struct cache {
    struct cont__list node;             /* in `caches`; under the depot's lock           */
    _Atomic unsigned n;                 /* written by its thread, read by anybody        */
    /* Its thread's: */
    unsigned shift;                     /* of the stacks in it                           */
    unsigned puts;
    unsigned flush_seen;                /* value of flush_wanted that was obeyed last    */
    struct cont_stack *stacks[CAPACITY];
};

/* initial-exec: this is linked into an executable, and one load is the price. */
static _Thread_local struct cache *current __attribute__((tls_model("initial-exec")));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;               /* its destructor empties the cache              */
static int have_key;                    /* constant after `once`                         */
static struct cont__list caches = CONT__LIST_INIT(caches);     /* under the depot's lock */
static _Atomic unsigned flush_wanted;   /* counts cont__cache_flush(); relaxed: a hint   */

static unsigned
count(const struct cache *k)
{
    return atomic_load_explicit(&k->n, memory_order_relaxed);
}

/* Relaxed, because other threads only add it up.  The fences keep the order of stores as
 * a forked child sees them: an entry is there before n counts it, and out of n before its
 * stack is used. */
static void
set_count(struct cache *k, unsigned n)
{
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&k->n, n, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

/* Gives the `n` oldest stacks to the depot. */
static void
give_oldest(struct cache *k, unsigned n)
{
    struct cont_stack *out[CAPACITY];
    const unsigned have = count(k);
    CONT_CHECK(n <= have);
    if (n == 0) {
        return;
    }
    memcpy(out, k->stacks, n * sizeof(out[0]));
    /* A child that is forked in the middle of this must not find a stack twice. */
    set_count(k, 0);
    memmove(k->stacks, k->stacks + n, (have - n) * sizeof(out[0]));
    set_count(k, have - n);
    cont__depot_put(out, n);
}

static void
end_thread(void *arg)
{
    struct cache *k = arg;
    current = NULL;
    give_oldest(k, count(k));
    cont__depot_lock();
    cont__list_remove(&k->node);
    cont__depot_unlock();
    free(k);
}

static void
init(void)
{
    have_key = pthread_key_create(&key, end_thread) == 0;
    /* fork() finds the depot whole.  Nothing is locked or allocated under this lock. */
    pthread_atfork(cont__depot_lock, cont__depot_unlock, cont__depot_reset_lock);
}

/* The calling thread's cache, or NULL if it cannot have one. */
__attribute__((noinline, cold))
static struct cache *
make_cache(void)
{
    pthread_once(&once, init);
    if (!have_key) {
        return NULL;
    }
    struct cache *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        return NULL;
    }
    cont__list_init(&k->node);
    k->flush_seen = atomic_load_explicit(&flush_wanted, memory_order_relaxed);
    if (pthread_setspecific(key, k) != 0) {
        free(k);
        return NULL;
    }
    cont__depot_lock();
    cont__list_push_back(&caches, &k->node);
    cont__depot_unlock();
    current = k;
    return k;
}

__attribute__((noinline))
struct cont_stack *
cont__cache_take(unsigned shift)
{
    struct cache *k = current;
    if (CONT__UNLIKELY(k == NULL)) {
        k = make_cache();
        if (k == NULL) {
            struct cont_stack *s;
            return cont__depot_take(shift, &s, 1) == 1 ? s : NULL;
        }
    }
    if (CONT__UNLIKELY(k->shift != shift)) {
        give_oldest(k, count(k));
        k->shift = shift;
    }
    unsigned n = count(k);
    if (CONT__UNLIKELY(n == 0)) {
        struct cont_stack *batch[BATCH];
        n = cont__depot_take(shift, batch, BATCH);
        if (n == 0) {
            return NULL;
        }
        /* The lowest address on top: taken first. */
        for (unsigned i = 0; i < n; i++) {
            k->stacks[i] = batch[n - 1 - i];
        }
    }
    struct cont_stack *s = k->stacks[n - 1];
    set_count(k, n - 1);
    return s;
}

__attribute__((noinline))
void
cont__cache_put(struct cont_stack *s)
{
    struct cache *k = current;
    if (CONT__UNLIKELY(k == NULL)) {
        k = make_cache();
    }
    if (CONT__UNLIKELY(k == NULL || k->shift != s->shift)) {
        if (k == NULL || count(k) != 0) {
            cont__depot_put(&s, 1);
            return;
        }
        k->shift = s->shift;
    }
    if (CONT__UNLIKELY(++k->puts % PURGE_PERIOD == 0)) {
        cont__stack_purge_below(s, KEEP_BYTES);
    }
    if (CONT__UNLIKELY(count(k) == CAPACITY)) {
        give_oldest(k, BATCH);
    }
    const unsigned n = count(k);
    k->stacks[n] = s;
    set_count(k, n + 1);

    const unsigned wanted = atomic_load_explicit(&flush_wanted, memory_order_relaxed);
    if (CONT__UNLIKELY(k->flush_seen != wanted)) {
        k->flush_seen = wanted;
        give_oldest(k, count(k));
    }
}

void
cont__cache_flush(void)
{
    atomic_fetch_add_explicit(&flush_wanted, 1, memory_order_relaxed);
    struct cache *k = current;
    if (k != NULL) {
        give_oldest(k, count(k));
    }
}

size_t
cont__cache_count(void)
{
    size_t n = 0;
    cont__depot_lock();
    for (struct cont__list *node = caches.next; node != &caches; node = node->next) {
        n += count(CONT__CONTAINER(node, struct cache, node));
    }
    cont__depot_unlock();
    return n;
}

void
cont__cache_adopt(void)
{
    /* One OS thread: no lock is needed but by the functions that are called. */
    struct cont__list *node = caches.next;
    while (node != &caches) {
        struct cache *k = CONT__CONTAINER(node, struct cache, node);
        node = node->next;
        if (k != current) {
            give_oldest(k, count(k));
            cont__list_remove(&k->node);
            free(k);
        }
    }
}
