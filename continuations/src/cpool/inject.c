/* An unbounded queue of tasks: the injector, the slots' inboxes, the carriers' sticky
 * queues, and the tasks that wait for a stack.
 *
 * A list through task.next under a lock, with its length beside it, so that the many who
 * only ask whether there is something never take the lock.  A push costs two atomic
 * operations on one line, some 15 ns; what is hot goes through a ring (deque.c) instead.
 * Nothing here allocates, so no push can fail for want of memory.
 *
 * A closed queue refuses pushes: how an inbox tells wakers that its slot has retired,
 * without a window between the last drain and the first refusal. */

#include "cpool/cpool_internal.h"

static void
set_len(struct cpool__queue *q, size_t n)
{
    CPOOL__STORE(&q->len, n);
}

static void
append(struct cpool__queue *q, struct cpool_task *first, struct cpool_task *last, size_t n)
{
    last->next = NULL;
    if (q->tail != NULL) {
        q->tail->next = first;
    }
    else {
        q->head = first;
    }
    q->tail = last;
    set_len(q, cpool__queue_len(q) + n);
}

bool
cpool__queue_push(struct cpool__queue *q, struct cpool_task *t)
{
    cpool__lock(&q->lock);
    bool open = !q->closed;
    if (open) {
        append(q, t, t, 1);
    }
    cpool__unlock(&q->lock);
    return open;
}

void
cpool__queue_push_list(struct cpool__queue *q, struct cpool_task *first,
                       struct cpool_task *last, size_t n)
{
    cpool__lock(&q->lock);
    append(q, first, last, n);
    cpool__unlock(&q->lock);
}

struct cpool_task *
cpool__queue_pop_list(struct cpool__queue *q, size_t n)
{
    if (cpool__queue_len(q) == 0 || n == 0) {
        return NULL;
    }
    cpool__lock(&q->lock);
    struct cpool_task *first = q->head;
    if (first != NULL) {
        struct cpool_task *last = first;
        size_t taken = 1;
        while (taken < n && last->next != NULL) {
            last = last->next;
            taken++;
        }
        q->head = last->next;
        if (q->head == NULL) {
            q->tail = NULL;
        }
        last->next = NULL;
        set_len(q, cpool__queue_len(q) - taken);
    }
    cpool__unlock(&q->lock);
    return first;
}

struct cpool_task *
cpool__queue_pop(struct cpool__queue *q)
{
    return cpool__queue_pop_list(q, 1);
}

struct cpool_task *
cpool__queue_close(struct cpool__queue *q)
{
    cpool__lock(&q->lock);
    struct cpool_task *all = q->head;
    q->head = q->tail = NULL;
    set_len(q, 0);
    q->closed = true;
    cpool__unlock(&q->lock);
    return all;
}

void
cpool__queue_open(struct cpool__queue *q)
{
    cpool__lock(&q->lock);
    q->closed = false;
    cpool__unlock(&q->lock);
}

/* Length and ends agree with the list; O(n). */
bool
cpool__queue_is_valid(struct cpool__queue *q)
{
    cpool__lock(&q->lock);
    size_t n = 0;
    struct cpool_task *last = NULL;
    for (struct cpool_task *t = q->head; t != NULL && n <= cpool__queue_len(q); t = t->next) {
        last = t;
        n++;
    }
    bool good = n == cpool__queue_len(q) && last == q->tail && (!q->closed || n == 0);
    cpool__unlock(&q->lock);
    return good;
}

void
cpool__queue_reset(struct cpool__queue *q)
{
    cpool__lock_reset(&q->lock);
    q->head = q->tail = NULL;
    q->closed = false;
    set_len(q, 0);
}
