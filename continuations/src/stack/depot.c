/* The depot: where idle stacks wait that no OS thread keeps in its cache.
 *
 * Stacks come and go in batches of neighbours, and are kept by groups of 64: a bit in
 * `idle` for each that is here, one in `dirty` for each of those that still has pages.
 *
 *      warm list       groups with a dirty idle stack: taken from first, last put first out,
 *                      since their pages and page tables are there already
 *      cold list       groups with clean idle stacks only
 *      (no list)       groups of which nothing is here, or being cleaned just now
 *
 * At most WARM_MAX dirty stacks stay, with their top 16 KB.  Beyond that, what is put gets
 * purged on the way in, a run of neighbours at a time (run.c has the costs).  When the last
 * stack of a group comes back and none is dirty, the group is renewed: its guards and page
 * tables go as well (2 KB a stack, more than all else that is left of it).
 *
 * Decay.  A program whose threads come in bursts pays for that at each burst: 4 us to end
 * and begin again.  Where somebody calls cont__depot_decay() each second, and says so by
 * cont__depot_keep(), more stay, as they are, and the half of those that nobody needed for
 * a whole second goes, the longest unused groups first.  (A deep one among those that are
 * used again loses its pages in the cache, one put in 32.)
 *
 * The lock is held for the bit operations and for carving; never while pages are given
 * back.  It is a leaf: nothing else is locked under it. */

#include "stack/depot.h"

#include "base/assert.h"
#include "base/list.h"
#include "stack/arena.h"
#include "stack/run.h"

#include <pthread.h>
#include <stdatomic.h>

#ifdef CONT_HARD
#  define WARM_MAX 2
#else
/* 16 KB each at most, 16 MB in all: as much as an interpreter has at its start. */
#  define WARM_MAX 1024
#endif
#define WARM_KEEP_BYTES ((size_t)16 << 10)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* All under the lock. */
static struct {
    struct cont__list warm, cold;
} classes[CONT__STACK_SHIFT_MAX + 1];
static size_t n_carved, n_idle, n_dirty;
static size_t warm_max = WARM_MAX;
static size_t least_dirty;              /* n_dirty, since the last cont__depot_decay()   */
static size_t surplus;                  /* of dirty stacks, still to go                  */

/* n_carved - n_idle; written under the lock, read by all. */
static _Atomic size_t n_taken;

static void
publish(void)
{
    atomic_store_explicit(&n_taken, n_carved - n_idle, memory_order_relaxed);
    if (n_dirty < least_dirty) {
        least_dirty = n_dirty;
    }
}

void
cont__depot_lock(void)
{
    CONT_CHECK(pthread_mutex_lock(&lock) == 0);
}

void
cont__depot_unlock(void)
{
    CONT_CHECK(pthread_mutex_unlock(&lock) == 0);
}

void
cont__depot_reset_lock(void)
{
    CONT_CHECK(pthread_mutex_init(&lock, NULL) == 0);
}

static unsigned
count_bits(uint64_t bits)
{
    return (unsigned)__builtin_popcountll(bits);
}

static void
init_class(unsigned shift)
{
    if (classes[shift].warm.next == NULL) {
        cont__list_init(&classes[shift].warm);
        cont__list_init(&classes[shift].cold);
    }
}

/* Puts a group into the list that its masks say. */
static void
file_group(struct cont__group *g, unsigned shift)
{
    cont__list_remove(&g->node);
    if (g->dirty != 0) {
        cont__list_push_front(&classes[shift].warm, &g->node);
    }
    else if (g->idle != 0) {
        cont__list_push_back(&classes[shift].cold, &g->node);
    }
}

unsigned
cont__depot_take(unsigned shift, struct cont_stack **out, unsigned n)
{
    unsigned taken = 0;
    cont__depot_lock();
    init_class(shift);
    while (taken < n) {
        struct cont__list *node = cont__list_first(&classes[shift].warm);
        if (node == NULL) {
            node = cont__list_first(&classes[shift].cold);
        }
        struct cont__group *g;
        if (node != NULL) {
            g = CONT__CONTAINER(node, struct cont__group, node);
        }
        else {
            if (taken > 0) {
                break;                          /* enough; carve when there is none */
            }
            g = cont__arena_carve(shift);
            if (g == NULL) {
                break;
            }
            n_carved += CONT__GROUP_STACKS;
            n_idle += CONT__GROUP_STACKS;
        }
        uint64_t from = g->dirty != 0 ? g->dirty : g->idle;
        while (from != 0 && taken < n) {
            const unsigned i = (unsigned)__builtin_ctzll(from);
            const uint64_t bit = (uint64_t)1 << i;
            from &= ~bit;
            n_idle--;
            n_dirty -= (g->dirty & bit) != 0;
            g->idle &= ~bit;
            g->dirty &= ~bit;
            out[taken++] = &g->stacks[i];
        }
        file_group(g, shift);
    }
    publish();
    cont__depot_unlock();
    return taken;
}

/* Renews a group that is in no list and of which all is here. */
static void
renew(struct cont__group *g)
{
    struct cont_stack *stacks[CONT__GROUP_STACKS];
    for (unsigned i = 0; i < CONT__GROUP_STACKS; i++) {
        stacks[i] = &g->stacks[i];
    }
    cont__run_renew(stacks, CONT__GROUP_STACKS);
}

/* With the lock held: takes a group out of sight; afterwards puts it back, clean. */
static void
hide(struct cont__group *g)
{
    cont__list_remove(&g->node);
    n_dirty -= count_bits(g->dirty);
    g->dirty = 0;
}

static void
show(struct cont__group *g)
{
    file_group(g, g->stacks[0].shift);
}

static int
wants_renewal(const struct cont__group *g)
{
    if (g->idle != ~(uint64_t)0 || g->dirty != 0) {
        return 0;
    }
    for (unsigned i = 0; i < CONT__GROUP_STACKS; i++) {
        if (g->stacks[i].guard != CONT__GUARD_NONE) {
            return 1;
        }
    }
    return 0;
}

void
cont__depot_put(struct cont_stack **stacks, unsigned n)
{
    cont__run_sort(stacks, n);

    cont__depot_lock();
    const int cold = n_dirty + n > warm_max;
    const int decays = warm_max > WARM_MAX;
    cont__depot_unlock();
    if (cold) {
        cont__run_purge(stacks, n);
    }
    else if (!decays) {
        for (unsigned i = 0; i < n; i++) {
            cont__stack_purge_below(stacks[i], WARM_KEEP_BYTES);
        }
    }

    struct cont__list complete;
    cont__list_init(&complete);
    cont__depot_lock();
    for (unsigned i = 0; i < n; i++) {
        struct cont_stack *s = stacks[i];
        struct cont__group *g = s->group;
        const uint64_t bit = (uint64_t)1 << s->index;
        CONT_CHECK((g->idle & bit) == 0);
        g->idle |= bit;
        n_idle++;
        if (s->dirty) {
            g->dirty |= bit;
            n_dirty++;
        }
        if (i + 1 == n || stacks[i + 1]->group != g) {
            file_group(g, s->shift);
            if (wants_renewal(g)) {
                hide(g);
                cont__list_push_back(&complete, &g->node);
            }
        }
    }
    publish();
    cont__depot_unlock();

    while (!cont__list_is_empty(&complete)) {
        struct cont__group *g = CONT__CONTAINER(cont__list_first(&complete),
                                                struct cont__group, node);
        renew(g);
        cont__depot_lock();
        show(g);
        cont__depot_unlock();
    }
}

/* Gives back the pages of one group, of which `idle` is out of everybody's reach. */
static void
purge_group(struct cont__group *g, uint64_t idle)
{
    if (idle == ~(uint64_t)0) {
        renew(g);
        return;
    }
    struct cont_stack *stacks[CONT__GROUP_STACKS];
    unsigned n = 0;
    for (unsigned i = 0; i < CONT__GROUP_STACKS; i++) {
        if ((idle >> i) & 1) {
            stacks[n++] = &g->stacks[i];
        }
    }
    cont__run_purge(stacks, n);
}

/* With the lock held: gives back the pages of what is here of a group. */
static void
clean(struct cont__group *g)
{
    hide(g);
    /* Meanwhile others may put stacks of this group: they only add bits. */
    const uint64_t idle = g->idle;
    g->idle = 0;
    n_idle -= count_bits(idle);
    cont__depot_unlock();

    purge_group(g, idle);

    cont__depot_lock();
    CONT_CHECK((g->idle & idle) == 0);
    g->idle |= idle;
    n_idle += count_bits(idle);
    show(g);
}

void
cont__depot_trim(void)
{
    for (unsigned shift = CONT__STACK_SHIFT_MIN; shift <= CONT__STACK_SHIFT_MAX; shift++) {
        for (;;) {
            cont__depot_lock();
            init_class(shift);
            struct cont__list *node = cont__list_first(&classes[shift].warm);
            if (node == NULL) {
                cont__depot_unlock();
                break;
            }
            clean(CONT__CONTAINER(node, struct cont__group, node));
            cont__depot_unlock();
        }
    }
}

void
cont__depot_keep(size_t max)
{
    cont__depot_lock();
    warm_max = max > WARM_MAX ? max : WARM_MAX;
    surplus = n_dirty > warm_max ? n_dirty - warm_max : 0;
    least_dirty = n_dirty;
    cont__depot_unlock();
    while (cont__depot_decay_step()) {
    }
}

size_t
cont__depot_decay(void)
{
    cont__depot_lock();
    surplus = least_dirty > WARM_MAX ? (least_dirty - WARM_MAX + 1) / 2 : 0;
    least_dirty = n_dirty;
    const size_t above = n_dirty > WARM_MAX ? n_dirty - WARM_MAX : 0;
    cont__depot_unlock();
    return above;
}

int
cont__depot_decay_step(void)
{
    int more = 0;
    cont__depot_lock();
    for (unsigned shift = CONT__STACK_SHIFT_MIN; surplus > 0 && shift <= CONT__STACK_SHIFT_MAX;
         shift++)
    {
        init_class(shift);
        struct cont__list *warm = &classes[shift].warm;
        if (!cont__list_is_empty(warm)) {
            struct cont__group *g = CONT__CONTAINER(warm->prev, struct cont__group, node);
            const unsigned dirty = count_bits(g->dirty);
            surplus -= dirty < surplus ? dirty : surplus;
            more = surplus > 0;
            clean(g);
            publish();
            break;
        }
    }
    cont__depot_unlock();
    return more;
}

size_t
cont__depot_taken(void)
{
    return atomic_load_explicit(&n_taken, memory_order_relaxed);
}

void
cont__depot_count(struct cont__depot_counts *out)
{
    cont__depot_lock();
    out->carved = n_carved;
    out->idle = n_idle;
    out->dirty = n_dirty;
    cont__depot_unlock();
}

static int
list_is_valid(struct cont__list *head, int warm, size_t *idle, size_t *dirty)
{
    if (!cont__list_is_valid(head)) {
        return 0;
    }
    for (struct cont__list *node = head->next; node != head; node = node->next) {
        const struct cont__group *g = CONT__CONTAINER(node, struct cont__group, node);
        if (!cont__group_is_valid(g) || g->idle == 0 || (g->dirty != 0) != warm) {
            return 0;
        }
        *idle += count_bits(g->idle);
        *dirty += count_bits(g->dirty);
    }
    return 1;
}

int
cont__depot_is_valid(void)
{
    int valid = 1;
    size_t idle = 0, dirty = 0;
    cont__depot_lock();
    for (unsigned shift = 0; shift <= CONT__STACK_SHIFT_MAX; shift++) {
        if (classes[shift].warm.next != NULL) {
            valid = valid && list_is_valid(&classes[shift].warm, 1, &idle, &dirty)
                    && list_is_valid(&classes[shift].cold, 0, &idle, &dirty);
        }
    }
    valid = valid && idle <= n_idle && dirty <= n_dirty && n_idle <= n_carved;
    cont__depot_unlock();
    return valid;
}
