/* Arenas: large reservations of addresses, carved into groups of equal stacks.
 *
 *      |<------------------------------ arena ------------------------------->|
 *      | group 0 (64 stacks) | group 1 | ... | group k-1 |  not carved yet     |
 *      |<---------- readable and writable -------------->|<--- PROT_NONE ---->|
 *
 * Two mappings an arena, however many stacks it has, and since neighbouring arenas merge,
 * often two in all.  The structs of the groups are in a second, small reservation beside,
 * committed as they are needed.
 *
 * Arenas double in size, from 256 MB to 64 GB: a program with ten threads does not reserve
 * 64 GB (debuggers, `ulimit -v` and core dump tools dislike that), and a million stacks of
 * 1 MB are had with 23 reservations of a thousand.  Where a large reservation fails, smaller
 * ones are tried, down to one group.
 *
 * The table of arenas only grows, and its entries are written before they are published,
 * so that a signal handler can read it. */

#include "stack/arena.h"

#include "base/assert.h"
#include "stack/prim.h"

#include <stdatomic.h>

#define MAX_ARENAS 1024
#define FIRST_ARENA_BYTES ((size_t)256 << 20)
#define LAST_ARENA_BYTES ((size_t)64 << 30)

struct arena {
    char *bottom;                   /* constant once published                           */
    size_t n_groups;                /* constant once published                           */
    struct cont__group *structs;    /* n_groups; constant once published                 */
    unsigned shift;                 /* constant once published                           */
    _Atomic size_t n_carved;        /* written under the depot's lock, read by the clock */
};

static struct arena arenas[MAX_ARENAS];

/* Written under the depot's lock, with release after the entry; pairs with the acquire
 * load in cont__arena_classify(). */
static _Atomic size_t n_arenas;

/* Per size: the arena that is carved now, and the size of the next.  Under the depot's
 * lock. */
static struct {
    struct arena *current;
    size_t next_bytes;
} classes[CONT__STACK_SHIFT_MAX + 1];

static size_t
round_up_to_page(size_t n)
{
    const size_t page = cont__prim_page_size();
    return (n + page - 1) & ~(page - 1);
}

/* Makes the pages under `g` usable.  Its first one may be the previous group's last, and
 * was committed with that: doing it twice does no harm. */
static int
commit_structs(struct cont__group *g)
{
    const uintptr_t page = cont__prim_page_size();
    const uintptr_t from = (uintptr_t)g & ~(page - 1);
    const uintptr_t to = round_up_to_page((uintptr_t)(g + 1));
    return cont__prim_commit((void *)from, to - from);
}

static struct arena *
reserve_arena(unsigned shift)
{
    const size_t n = atomic_load_explicit(&n_arenas, memory_order_relaxed);
    if (n == MAX_ARENAS) {
        return NULL;
    }
    const size_t group_bytes = (size_t)CONT__GROUP_STACKS << shift;
    size_t bytes = classes[shift].next_bytes;
    if (bytes < FIRST_ARENA_BYTES) {
        bytes = FIRST_ARENA_BYTES;
    }
    if (bytes < group_bytes) {
        bytes = group_bytes;
    }
    for (; bytes >= group_bytes; bytes /= 2) {
        const size_t n_groups = bytes / group_bytes;
        char *bottom = cont__prim_reserve(bytes, (size_t)1 << shift);
        if (bottom == NULL) {
            continue;
        }
        struct cont__group *structs =
            cont__prim_reserve(round_up_to_page(n_groups * sizeof(*structs)),
                               cont__prim_page_size());
        if (structs == NULL) {
            cont__prim_unreserve(bottom, bytes);
            continue;
        }
        struct arena *a = &arenas[n];
        a->bottom = bottom;
        a->n_groups = n_groups;
        a->structs = structs;
        a->shift = shift;
        atomic_store_explicit(&a->n_carved, 0, memory_order_relaxed);
        atomic_store_explicit(&n_arenas, n + 1, memory_order_release);
        classes[shift].current = a;
        classes[shift].next_bytes = bytes < LAST_ARENA_BYTES ? bytes * 2 : bytes;
        return a;
    }
    return NULL;
}

struct cont__group *
cont__arena_carve(unsigned shift)
{
    CONT_CHECK(shift >= CONT__STACK_SHIFT_MIN && shift <= CONT__STACK_SHIFT_MAX);
    struct arena *a = classes[shift].current;
    size_t n = a != NULL ? atomic_load_explicit(&a->n_carved, memory_order_relaxed) : 0;
    if (a == NULL || n == a->n_groups) {
        a = reserve_arena(shift);
        if (a == NULL) {
            return NULL;
        }
        n = 0;
    }
    const size_t group_bytes = (size_t)CONT__GROUP_STACKS << shift;
    char *bottom = a->bottom + n * group_bytes;
    struct cont__group *g = &a->structs[n];
    if (commit_structs(g) != 0 || cont__prim_commit(bottom, group_bytes) != 0) {
        return NULL;
    }
    cont__list_init(&g->node);
    g->idle = ~(uint64_t)0;
    g->dirty = 0;
    for (unsigned i = 0; i < CONT__GROUP_STACKS; i++) {
        struct cont_stack *s = &g->stacks[i];
        s->base = bottom + ((size_t)(i + 1) << shift);
        s->group = g;
        s->index = (uint8_t)i;
        s->shift = (uint8_t)shift;
        s->state = CONT__STACK_IDLE;
        s->guard = CONT__GUARD_NONE;
        s->residency = CONT__RESIDENT;
        s->dirty = 0;
        atomic_store_explicit(&s->owner, NULL, memory_order_relaxed);
    }
    /* release: partner cont__arena_next */
    atomic_store_explicit(&a->n_carved, n + 1, memory_order_release);
    return g;
}

struct cont__group *
cont__arena_next(struct cont__arena_hand *hand)
{
    /* acquire, both: partners reserve_arena, cont__arena_carve */
    const size_t n = atomic_load_explicit(&n_arenas, memory_order_acquire);
    for (; hand->arena < n; hand->arena++, hand->group = 0) {
        struct arena *a = &arenas[hand->arena];
        if (hand->group < atomic_load_explicit(&a->n_carved, memory_order_acquire)) {
            return &a->structs[hand->group++];
        }
    }
    hand->arena = hand->group = 0;
    return NULL;
}

size_t
cont__arena_groups(void)
{
    const size_t n = atomic_load_explicit(&n_arenas, memory_order_acquire);
    size_t groups = 0;
    for (size_t i = 0; i < n; i++) {
        groups += atomic_load_explicit(&arenas[i].n_carved, memory_order_relaxed);
    }
    return groups;
}

static const struct arena *
find_arena(const void *addr)
{
    const size_t n = atomic_load_explicit(&n_arenas, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        const struct arena *a = &arenas[i];
        const size_t bytes = a->n_groups * ((size_t)CONT__GROUP_STACKS << a->shift);
        if ((uintptr_t)addr - (uintptr_t)a->bottom < bytes) {
            return a;
        }
    }
    return NULL;
}

enum cont__address
cont__arena_classify(const void *addr)
{
    const struct arena *a = find_arena(addr);
    if (a == NULL) {
        return CONT__ADDRESS_FOREIGN;
    }
    const uintptr_t within = (uintptr_t)addr & (((uintptr_t)1 << a->shift) - 1);
    return within < cont__stack_guard_bytes(a->shift) ? CONT__ADDRESS_GUARD
                                                      : CONT__ADDRESS_STACK;
}

size_t
cont__arena_reserved(void)
{
    const size_t n = atomic_load_explicit(&n_arenas, memory_order_acquire);
    size_t stacks = 0;
    for (size_t i = 0; i < n; i++) {
        stacks += arenas[i].n_groups * CONT__GROUP_STACKS;
    }
    return stacks;
}

int
cont__group_is_valid(const struct cont__group *g)
{
    if ((g->dirty & ~g->idle) != 0 || find_arena(cont__group_bottom(g)) == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < CONT__GROUP_STACKS; i++) {
        const struct cont_stack *s = &g->stacks[i];
        if (s->group != g || s->index != i || s->shift != g->stacks[0].shift
            || s->base != cont__group_bottom(g) + ((size_t)(i + 1) << s->shift))
        {
            return 0;
        }
        if (((g->idle >> i) & 1) && s->state != CONT__STACK_IDLE) {
            return 0;
        }
    }
    return 1;
}
