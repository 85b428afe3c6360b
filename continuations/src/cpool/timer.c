/* Deadlines of parked tasks: a pairing heap a slot, linked through the tasks.
 *
 * A million sleepers must cost a million times some bytes and no allocation, and most
 * deadlines (socket and lock timeouts) are taken back before they come.  A pairing heap
 * inserts in O(1), removes anything in O(log n) amortised, and needs three links.
 *
 *      root                    child: the first of my children
 *       |child                 sibling: the next child of my parent
 *       a ---- b ---- c        prev: the one whose child or sibling I am
 *       |      sibling
 *       d ---- e
 *
 * Only the carrier that parks a task inserts it, into the slot that it holds, just before
 * PARKED is published; so no other carrier ever has to be told of an earlier deadline: a
 * sleeping carrier's slot gets no new ones.  Anybody removes: the task itself when
 * something else has woken it, and whoever runs the heap, mostly the slot's holder.
 *
 * A deadline that comes ends the wait under the heap's lock (cpool__task_end_wait), and
 * timer.slot becomes NULL only after that; a task does not return from its park before it
 * has seen NULL or has removed itself under the lock.  So a late deadline can't end a
 * later wait, and no sequence number has to be kept beside the link. */

#include "cpool/cpool_internal.h"

/* Runs no more than this in one hold of the lock: some 20 us with a cold cache. */
#define BATCH 128

static struct cpool_task *
meld(struct cpool_task *a, struct cpool_task *b)
{
    if (a == NULL) {
        return b;
    }
    if (b == NULL) {
        return a;
    }
    if (b->timer.deadline < a->timer.deadline) {
        struct cpool_task *t = a;
        a = b;
        b = t;
    }
    b->timer.sibling = a->timer.child;
    if (b->timer.sibling != NULL) {
        b->timer.sibling->timer.prev = b;
    }
    b->timer.prev = a;
    a->timer.child = b;
    a->timer.sibling = NULL;
    a->timer.prev = NULL;
    return a;
}

/* Melds a list of siblings: in pairs from the left, then the pairs from the right. */
static struct cpool_task *
meld_children(struct cpool_task *first)
{
    struct cpool_task *pairs = NULL;
    while (first != NULL) {
        struct cpool_task *a = first, *b = a->timer.sibling;
        first = b != NULL ? b->timer.sibling : NULL;
        a->timer.sibling = a->timer.prev = NULL;
        if (b != NULL) {
            b->timer.sibling = b->timer.prev = NULL;
        }
        a = meld(a, b);
        a->timer.sibling = pairs;
        pairs = a;
    }
    struct cpool_task *root = NULL;
    while (pairs != NULL) {
        struct cpool_task *rest = pairs->timer.sibling;
        pairs->timer.sibling = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

static void
set_next(struct cpool__timers *h)
{
    CPOOL__STORE(&h->next, h->root != NULL ? h->root->timer.deadline : CPOOL_FOREVER);
}

static void
unlink_task(struct cpool__timers *h, struct cpool_task *t)
{
    struct cpool_task *below = meld_children(t->timer.child);
    if (h->root == t) {
        h->root = below;
    }
    else {
        struct cpool_task *prev = t->timer.prev;
        if (prev->timer.child == t) {
            prev->timer.child = t->timer.sibling;
        }
        else {
            prev->timer.sibling = t->timer.sibling;
        }
        if (t->timer.sibling != NULL) {
            t->timer.sibling->timer.prev = prev;
        }
        h->root = meld(h->root, below);
    }
    t->timer.child = t->timer.sibling = t->timer.prev = NULL;
    h->count--;
    set_next(h);
}

/* t->timer.deadline is set. */
void
cpool__timer_insert(struct cpool_slot *s, struct cpool_task *t)
{
    struct cpool__timers *h = &s->timers;
    CONT_ASSERT(CPOOL__LOAD(&t->timer.slot) == NULL);
    t->timer.child = t->timer.sibling = t->timer.prev = NULL;
    cpool__lock(&h->lock);
    CPOOL__STORE(&t->timer.slot, s);
    h->root = meld(h->root, t);
    h->count++;
    set_next(h);
    cpool__unlock(&h->lock);
}

void
cpool__timer_cancel(struct cpool_task *t)
{
    /* acquire: partner cpool__timers_run, which has finished with t when this is NULL */
    struct cpool_slot *s = atomic_load_explicit(&t->timer.slot, memory_order_acquire);
    if (s == NULL) {
        return;
    }
    cpool__lock(&s->timers.lock);
    if (CPOOL__LOAD(&t->timer.slot) != NULL) {
        unlink_task(&s->timers, t);
        CPOOL__STORE(&t->timer.slot, NULL);
    }
    cpool__unlock(&s->timers.lock);
}

struct cpool_task *
cpool__timers_run(struct cpool_slot *s, int64_t now)
{
    struct cpool__timers *h = &s->timers;
    struct cpool_task *list = NULL, **end = &list;
    cpool__lock(&h->lock);
    for (int i = 0; i < BATCH && h->root != NULL && h->root->timer.deadline <= now; i++) {
        struct cpool_task *t = h->root;
        unlink_task(h, t);
        bool ours = cpool__task_end_wait(t);
        if (ours) {
            t->next = NULL;
            *end = t;
            end = &t->next;
        }
        /* release: partner cpool__timer_cancel.  If t is not ours, last touch of it. */
        atomic_store_explicit(&t->timer.slot, NULL, memory_order_release);
    }
    cpool__unlock(&h->lock);
    return list;
}

void
cpool__timers_reset(struct cpool__timers *h)
{
    cpool__lock_reset(&h->lock);
    h->root = NULL;
    h->count = 0;
    CPOOL__STORE(&h->next, CPOOL_FOREVER);
}

/* Heap order, links and count; O(n), without recursion. */
bool
cpool__timers_is_valid(struct cpool__timers *h)
{
    size_t n = 0;
    bool good = true;
    cpool__lock(&h->lock);
    struct cpool_task *t = h->root;
    good = t == NULL || (t->timer.prev == NULL && t->timer.sibling == NULL);
    while (t != NULL && good) {
        n++;
        struct cpool_task *child = t->timer.child, *sibling = t->timer.sibling;
        good = (child == NULL || (child->timer.prev == t
                                  && child->timer.deadline >= t->timer.deadline))
               && (sibling == NULL || sibling->timer.prev == t);
        if (child != NULL) {
            /* Each child is compared with its parent, not only the first one. */
            for (struct cpool_task *c = child; c != NULL; c = c->timer.sibling) {
                good = good && c->timer.deadline >= t->timer.deadline;
            }
            t = child;
            continue;
        }
        while (t != NULL && t->timer.sibling == NULL) {
            while (t->timer.prev != NULL && t->timer.prev->timer.sibling == t) {
                t = t->timer.prev;
            }
            t = t->timer.prev;          /* the parent, or NULL above the root          */
        }
        t = t != NULL ? t->timer.sibling : NULL;
    }
    good = good && n == h->count
           && CPOOL__LOAD(&h->next)
              == (h->root != NULL ? h->root->timer.deadline : CPOOL_FOREVER);
    cpool__unlock(&h->lock);
    return good;
}
