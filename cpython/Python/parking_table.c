/* See pycore_parking_table.h for the problem and the picture.
 *
 * Why not a better-known structure: a treap or a red-black tree is O(log n) and touches
 * several cold waiters for each wake-up, where every waiter is a cache miss in the memory
 * of some parked thread.  Here a wake-up touches the slot, the first waiter, and its two
 * neighbours.
 *
 * Growing rehashes a bucket's addresses under its mutex.  That is O(n), but n is the
 * bucket's share: at a million waiters the largest step moves 4,096 links.
 */

#include "pycore_parking_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static struct wait_entry **
slots_of(_PyParkingTable *t)
{
    return t->slots != NULL ? t->slots : t->small;
}

static size_t
num_slots_of(const _PyParkingTable *t)
{
    return t->slots != NULL ? t->num_slots : _Py_PARKING_TABLE_SMALL;
}

// Buckets are chosen by addr % 257, and addresses of objects of one kind differ by
// multiples of their size.  Fibonacci hashing spreads both; the upper half of the product
// is the mixed one.
static size_t
slot_index(uintptr_t addr, size_t num_slots)
{
    uint64_t h = (uint64_t)addr * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(h >> 32) & (num_slots - 1);
}

static void
chain_insert(struct wait_entry **slot, struct wait_entry *e)
{
    e->chain_next = *slot;
    e->chain_link = slot;
    if (e->chain_next != NULL) {
        e->chain_next->chain_link = &e->chain_next;
    }
    *slot = e;
}

static void
chain_remove(struct wait_entry *e)
{
    *e->chain_link = e->chain_next;
    if (e->chain_next != NULL) {
        e->chain_next->chain_link = e->chain_link;
    }
    e->chain_next = NULL;
    e->chain_link = NULL;
}

static void
chain_replace(struct wait_entry *old, struct wait_entry *new)
{
    new->chain_next = old->chain_next;
    new->chain_link = old->chain_link;
    *new->chain_link = new;
    if (new->chain_next != NULL) {
        new->chain_next->chain_link = &new->chain_next;
    }
    old->chain_next = NULL;
    old->chain_link = NULL;
}

static void
ring_remove(struct wait_entry *e)
{
    e->next->prev = e->prev;
    e->prev->next = e->next;
}

static struct wait_entry *
find_first(_PyParkingTable *t, uintptr_t addr)
{
    size_t i = slot_index(addr, num_slots_of(t));
    struct wait_entry *e = slots_of(t)[i];
    while (e != NULL && e->addr != addr) {
        e = e->chain_next;
    }
    return e;
}

// Fails silently when there is no memory: chains are longer then, nothing else.
static void
resize(_PyParkingTable *t, size_t new_num)
{
    struct wait_entry **old = slots_of(t);
    size_t old_num = num_slots_of(t);
    struct wait_entry **new;

    if (new_num <= _Py_PARKING_TABLE_SMALL) {
        // t->small is not in use now: the table shrinks, so its slots are elsewhere.
        assert(t->slots != NULL);
        new_num = _Py_PARKING_TABLE_SMALL;
        new = t->small;
        memset(new, 0, sizeof(t->small));
    }
    else {
        new = calloc(new_num, sizeof(*new));
        if (new == NULL) {
            return;
        }
    }
    for (size_t i = 0; i < old_num; i++) {
        struct wait_entry *e = old[i];
        while (e != NULL) {
            struct wait_entry *next = e->chain_next;
            chain_insert(&new[slot_index(e->addr, new_num)], e);
            e = next;
        }
    }
    struct wait_entry **to_free = t->slots;
    t->slots = new == t->small ? NULL : new;
    t->num_slots = new_num;
    free(to_free);
}

// Grows at one address a slot, shrinks at one in eight: a table whose size swings
// around either bound is not resized each time.
static void
address_added(_PyParkingTable *t)
{
    t->num_addrs++;
    if (t->num_addrs > num_slots_of(t)) {
        resize(t, num_slots_of(t) * 2);
    }
}

static void
address_removed(_PyParkingTable *t)
{
    assert(t->num_addrs > 0);
    t->num_addrs--;
    if (t->slots != NULL && t->num_addrs < t->num_slots / 8) {
        resize(t, t->num_slots / 2);
    }
}

void
_PyParkingTable_Enqueue(_PyParkingTable *t, struct wait_entry *e)
{
    struct wait_entry *first = find_first(t, e->addr);
    e->chain_next = NULL;
    e->chain_link = NULL;
    if (first != NULL) {
        e->next = first;
        e->prev = first->prev;
        e->prev->next = e;
        first->prev = e;
        return;
    }
    e->next = e->prev = e;
    chain_insert(&slots_of(t)[slot_index(e->addr, num_slots_of(t))], e);
    address_added(t);
}

void
_PyParkingTable_Remove(_PyParkingTable *t, struct wait_entry *e)
{
    bool last = e->next == e;
    if (e->chain_link != NULL) {
        if (last) {
            chain_remove(e);
        }
        else {
            chain_replace(e, e->next);
        }
    }
    ring_remove(e);
    e->next = e->prev = NULL;
    if (last) {
        address_removed(t);
    }
}

struct wait_entry *
_PyParkingTable_Dequeue(_PyParkingTable *t, uintptr_t addr, int *has_more)
{
    struct wait_entry *first = find_first(t, addr);
    if (first == NULL) {
        *has_more = 0;
        return NULL;
    }
    *has_more = first->next != first;
    _PyParkingTable_Remove(t, first);
    first->is_unparking = true;
    return first;
}

struct wait_entry *
_PyParkingTable_DequeueAll(_PyParkingTable *t, uintptr_t addr)
{
    struct wait_entry *first = find_first(t, addr);
    if (first == NULL) {
        return NULL;
    }
    chain_remove(first);
    first->prev->next = NULL;
    first->prev = NULL;
    address_removed(t);
    for (struct wait_entry *e = first; e != NULL; e = e->next) {
        e->is_unparking = true;
    }
    return first;
}

bool
_PyParkingTable_IsValid(_PyParkingTable *t)
{
    struct wait_entry **slots = slots_of(t);
    size_t n = num_slots_of(t), addrs = 0;
    if (n < _Py_PARKING_TABLE_SMALL || (n & (n - 1)) != 0) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct wait_entry **link = &slots[i];
        for (struct wait_entry *first = *link; first != NULL; first = *link) {
            if (first->chain_link != link || slot_index(first->addr, n) != i
                || first != find_first(t, first->addr))
            {
                return false;
            }
            struct wait_entry *e = first;
            do {
                if (e->next->prev != e || e->addr != first->addr
                    || (e != first && e->chain_link != NULL))
                {
                    return false;
                }
                e = e->next;
            } while (e != first);
            addrs++;
            link = &first->chain_next;
        }
    }
    return addrs == t->num_addrs;
}
