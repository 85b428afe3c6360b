/* The pool as text, for a hang.  Takes no lock and follows no pointer to a task: what it
 * prints may be a little inconsistent, but it always comes to an end. */

#include "cpool/cpool_internal.h"
#include "stack/image.h"
#include "stack/stack.h"

static const char *const slot_states[] = {"free", "running", "blocked", "sleeping"};
static const char *const modes[] = {"dead", "run", "block", "want", "spare", "hung"};
static const char *const lives[] = {"down", "up", "stopping"};
static const char *const naps[] = {"looks", "light", "deep", "absent"};

static void
dump_slot(FILE *out, struct cpool_slot *s, int64_t now)
{
    struct cpool_carrier *c = cpool__owner(s);
    int64_t next = CPOOL__LOAD(&s->timers.next);
    fprintf(out, "  slot %d: %s%s", s->id,
            slot_states[CPOOL__LOAD(&s->status) & CPOOL__S_STATE],
            CPOOL__LOAD(&s->retired) ? ", retired" : "");
    if (c != NULL) {
        fprintf(out, ", carrier %d", c->id);
    }
    fprintf(out, ", started %u + %zu + %d, preempted %zu, new %u, tick %llu",
            cpool__ring_len(&s->started), cpool__queue_len(&s->inbox),
            CPOOL__LOAD(&s->lifo) != NULL, cpool__queue_len(&s->preempted),
            cpool__ring_len(&s->fresh), (unsigned long long)CPOOL__LOAD(&s->tick));
    if (next != CPOOL_FOREVER) {
        fprintf(out, ", timer in %lld us", (long long)(next - now) / 1000);
    }
    fputc('\n', out);
}

static void
dump_carrier(FILE *out, struct cpool_carrier *c)
{
    const char *reason = CPOOL__LOAD(&c->reason);
    fprintf(out, "  carrier %d: tid %d, %s%s", c->id, CPOOL__LOAD(&c->tid),
            modes[CPOOL__LOAD(&c->mode)], CPOOL__LOAD(&c->in_poll) ? ", polls" : "");
    if (CPOOL__LOAD(&c->task) != NULL) {
        fprintf(out, ", task %p", (void *)CPOOL__LOAD(&c->task));
    }
    if (cpool__queue_len(&c->sticky) != 0) {
        fprintf(out, ", sticky %zu", cpool__queue_len(&c->sticky));
    }
    if (reason != NULL) {
        fprintf(out, ", pinned: %s", reason);
    }
    fputc('\n', out);
}

void
cpool_dump(FILE *out)
{
    struct cpool__pool *p = &cpool__pool;
    int64_t now = cpool_now();
    fprintf(out, "pool: %s, parallelism %d, carriers %u of %d (%d spare, %d want a slot; "
                 "%llu beyond the limit so far), %d spinning\n",
            lives[CPOOL__LOAD(&p->life)], CPOOL__LOAD(&p->parallelism),
            (unsigned)CPOOL__LOAD(&p->alive), CPOOL__LOAD(&p->max_carriers),
            CPOOL__LOAD(&p->spares.len), CPOOL__LOAD(&p->wanting.len),
            (unsigned long long)CPOOL__LOAD(&p->extra), CPOOL__LOAD(&p->spinning));
    fprintf(out, "injector %zu, without a stack %zu, monitor %s\n",
            cpool__queue_len(&p->injector), cpool__queue_len(&p->starved),
            naps[CPOOL__LOAD(&p->nap)]);
    fprintf(out, "stacks: %zu resident, %zu frozen in %zu bytes%s\n", cont__stack_resident(),
            cont__image_count(), cont__image_bytes(),
            CPOOL__LOAD(&p->reclaiming) ? ", reclaiming" : "");
    for (int i = 0; i < cpool__slot_count(); i++) {
        dump_slot(out, cpool__slot(i), now);
    }
    for (struct cpool_carrier *c = atomic_load_explicit(&p->all, memory_order_acquire);
         c != NULL; c = c->all_next) {
        if (CPOOL__LOAD(&c->mode) != CPOOL__MODE_DEAD) {
            dump_carrier(out, c);
        }
    }
    if (p->poller != NULL) {
        cpool__fds_dump(out);
    }
}
