#ifndef CONT_BASE_LIST_H
#define CONT_BASE_LIST_H

/* Intrusive doubly linked ring with a head.  A node that is in no list points to itself,
 * so that removal is idempotent and needs no head.
 *
 *      head <-> first <-> ... <-> last <-> head
 *
 * No locking; the struct that holds the head says who may touch it. */

#include <stddef.h>

#include "base/assert.h"

struct cont__list {
    struct cont__list *next, *prev;
};

#define CONT__CONTAINER(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))

#define CONT__LIST_INIT(head) {&(head), &(head)}

static inline void
cont__list_init(struct cont__list *n)
{
    n->next = n->prev = n;
}

static inline int
cont__list_is_empty(const struct cont__list *n)
{
    return n->next == n;
}

static inline void
cont__list_insert_between(struct cont__list *n, struct cont__list *before,
                          struct cont__list *after)
{
    CONT_ASSERT(cont__list_is_empty(n));
    n->prev = before;
    n->next = after;
    before->next = n;
    after->prev = n;
}

static inline void
cont__list_push_front(struct cont__list *head, struct cont__list *n)
{
    cont__list_insert_between(n, head, head->next);
}

static inline void
cont__list_push_back(struct cont__list *head, struct cont__list *n)
{
    cont__list_insert_between(n, head->prev, head);
}

static inline void
cont__list_remove(struct cont__list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    cont__list_init(n);
}

/* The first node, or NULL. */
static inline struct cont__list *
cont__list_first(struct cont__list *head)
{
    return cont__list_is_empty(head) ? NULL : head->next;
}

/* True if every link has its counterpart; O(n). */
static inline int
cont__list_is_valid(const struct cont__list *head)
{
    const struct cont__list *n = head;
    do {
        if (n->next == NULL || n->next->prev != n) {
            return 0;
        }
        n = n->next;
    } while (n != head);
    return 1;
}

#endif
