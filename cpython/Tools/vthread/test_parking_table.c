/* Test of Python/parking_table.c, which needs no interpreter.
 *
 *     cc -DPy_BUILD_CORE -I Include/internal -Wl,--wrap=calloc \
 *         Tools/vthread/test_parking_table.c Python/parking_table.c && ./a.out [SEED [STEPS]]
 *
 * Random operations are compared with a model (an array of queues); then tables as large
 * as a bucket gets with tens of millions of threads are checked for the length of their chains,
 * which is what makes an operation O(1).  Without memory (calloc is wrapped) chains may
 * get longer, but nothing may get lost.
 */

#include "pycore_parking_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static unsigned long seed;
static long step;

#define CHECK(c)                                                                          \
    do {                                                                                  \
        if (!(c)) {                                                                       \
            failed++;                                                                     \
            printf("%s:%d: %s (seed %lu, step %ld)\n", __FILE__, __LINE__, #c, seed, step); \
            return;                                                                       \
        }                                                                                 \
    } while (0)

// --- calloc that fails ------------------------------------------------------------------

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
static bool no_memory;

void *
__wrap_calloc(size_t n, size_t size)
{
    return no_memory ? NULL : __real_calloc(n, size);
}

// --- random operations against a model --------------------------------------------------

static uint64_t rng;

static unsigned
rnd(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)((rng >> 16) % n);
}

#define NUM_ADDRS 64
#define NUM_ENTRIES 512

struct model {
    struct wait_entry *queue[NUM_ADDRS][NUM_ENTRIES];
    int len[NUM_ADDRS];
};

static void
model_remove(struct model *m, int a, int i)
{
    m->len[a]--;
    memmove(&m->queue[a][i], &m->queue[a][i + 1], (m->len[a] - i) * sizeof(void *));
}

static void
test_random(long steps)
{
    static struct wait_entry entries[NUM_ENTRIES];
    static struct model m;
    static bool used[NUM_ENTRIES];
    _PyParkingTable t = {0};
    memset(&m, 0, sizeof(m));
    memset(used, 0, sizeof(used));

    for (step = 0; step < steps; step++) {
        // Phases of growth and decline, so that tables of all sizes are seen.
        unsigned bias = (step / 3000) % 2 ? 30 : 70;
        int a = (int)rnd(rnd(4) ? NUM_ADDRS : 3);
        uintptr_t addr = 0x7f0000000000 + (uintptr_t)a * 257 * 8;
        no_memory = rnd(8) == 0;
        if (rnd(100) < bias) {
            unsigned i = rnd(NUM_ENTRIES);
            if (!used[i]) {
                used[i] = true;
                memset(&entries[i], 0xa5, sizeof(entries[i]));
                entries[i].addr = addr;
                entries[i].is_unparking = false;
                _PyParkingTable_Enqueue(&t, &entries[i]);
                m.queue[a][m.len[a]++] = &entries[i];
            }
        }
        else {
            switch (rnd(5)) {
            case 0: {
                struct wait_entry *e = _PyParkingTable_DequeueAll(&t, addr);
                for (int i = 0; i < m.len[a]; i++) {
                    CHECK(e == m.queue[a][i] && e->is_unparking);
                    used[e - entries] = false;
                    e = e->next;
                }
                CHECK(e == NULL);
                m.len[a] = 0;
                break;
            }
            case 1: case 2:
                if (m.len[a] > 0) {
                    int i = (int)rnd((unsigned)m.len[a]);
                    _PyParkingTable_Remove(&t, m.queue[a][i]);
                    CHECK(!m.queue[a][i]->is_unparking);
                    used[m.queue[a][i] - entries] = false;
                    model_remove(&m, a, i);
                }
                break;
            default: {
                int has_more = -1;
                struct wait_entry *e = _PyParkingTable_Dequeue(&t, addr, &has_more);
                CHECK(e == (m.len[a] > 0 ? m.queue[a][0] : NULL));
                if (e != NULL) {
                    CHECK(e->is_unparking);
                    used[e - entries] = false;
                    model_remove(&m, a, 0);
                }
                CHECK(has_more == (m.len[a] > 0));
                break;
            }
            }
        }
        if (step % 16 == 0) {
            CHECK(_PyParkingTable_IsValid(&t));
        }
    }
    no_memory = false;
    for (int a = 0; a < NUM_ADDRS; a++) {
        _PyParkingTable_DequeueAll(&t, 0x7f0000000000 + (uintptr_t)a * 257 * 8);
    }
    CHECK(_PyParkingTable_IsValid(&t));
    CHECK(t.num_addrs == 0 && t.slots == NULL);
    passed++;
}

// --- many addresses ---------------------------------------------------------------------

static size_t
longest_chain(_PyParkingTable *t)
{
    size_t longest = 0;
    struct wait_entry **slots = t->slots != NULL ? t->slots : t->small;
    size_t n = t->slots != NULL ? t->num_slots : _Py_PARKING_TABLE_SMALL;
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        for (struct wait_entry *e = slots[i]; e != NULL; e = e->chain_next) {
            len++;
        }
        longest = len > longest ? len : longest;
    }
    return longest;
}

static void
test_many_addresses(size_t stride)
{
    enum { N = 100000 };
    struct wait_entry *entries = malloc(N * sizeof(*entries));
    _PyParkingTable t = {0};
    step = (long)stride;
    for (size_t i = 0; i < N; i++) {
        entries[i].addr = 0x7f1234560000 + i * stride;
        _PyParkingTable_Enqueue(&t, &entries[i]);
    }
    CHECK(t.num_addrs == N);
    CHECK(_PyParkingTable_IsValid(&t));
    // Random hashing into that many slots has 8 or 9.
    CHECK(longest_chain(&t) <= 16);
    for (size_t i = 0; i < N; i++) {
        int has_more;
        struct wait_entry *e = _PyParkingTable_Dequeue(&t, entries[i].addr, &has_more);
        CHECK(e == &entries[i] && !has_more);
    }
    CHECK(t.num_addrs == 0 && t.slots == NULL);
    free(entries);
    passed++;
}

static void
test_no_memory(void)
{
    enum { N = 2000 };
    static struct wait_entry entries[N];
    _PyParkingTable t = {0};
    no_memory = true;
    for (size_t i = 0; i < N; i++) {
        entries[i].addr = 1000 + i;
        _PyParkingTable_Enqueue(&t, &entries[i]);
    }
    CHECK(t.slots == NULL && t.num_addrs == N);
    CHECK(_PyParkingTable_IsValid(&t));
    no_memory = false;
    for (size_t i = 0; i < N; i++) {
        _PyParkingTable_Remove(&t, &entries[N - 1 - i]);
    }
    CHECK(_PyParkingTable_IsValid(&t));
    CHECK(t.num_addrs == 0);
    passed++;
}

int
main(int argc, char **argv)
{
    seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 20260101;
    long steps = argc > 2 ? strtol(argv[2], NULL, 0) : 200000;
    for (int i = 0; i < 5; i++) {
        rng = (seed + (unsigned long)i) * 2654435761u + 1;
        test_random(steps);
    }
    // One bucket of the lot sees addresses that are equal modulo 257.
    size_t strides[] = {257, 257 * 8, 257 * 16, 257 * 48, 257 * 64, 257 * 4096};
    for (size_t i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
        test_many_addresses(strides[i]);
    }
    test_no_memory();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
