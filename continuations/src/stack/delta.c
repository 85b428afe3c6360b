/* Differences of stacks, and the templates that they are to: see delta.h.
 *
 * The templates are in sets by the number of words, as an exact size says much about what is on
 * a stack; where kinds have the same size, the first one that spares half of the words will do.
 * Rejected: to replace those that are not used any more.  Images would have to be counted, and a
 * program that waits in more than sixty places with a million threads each is not in sight. */

#include "stack/delta.h"

#include "base/sanitizer.h"

#include <stdatomic.h>
#include <stdlib.h>

#define WAYS 4
#define SETS (CONT__TEMPLATES / WAYS)

enum kind { SAME, SHIFTED, LITERAL };
#define KIND_BITS 2
#define KIND_MASK 3
#define KINDS_A_WORD (64 / KIND_BITS)

struct cont__template {
    size_t n;
    uint64_t base;                      /* address of the stack that it was              */
    uint64_t words[];
};

static struct cont__template *_Atomic table[SETS][WAYS];    /* by CAS from NULL           */

static inline uint64_t
shift_of(const struct cont__template *t, const uint64_t *w, size_t n)
{
    return t != NULL ? (uint64_t)(uintptr_t)(w + n) - t->base : 0;
}

static inline uint64_t
word_of(const struct cont__template *t, size_t i)
{
    return t != NULL ? t->words[i] : 0;
}

static inline enum kind
kind_of(const struct cont__template *t, size_t i, uint64_t word, uint64_t shift)
{
    const uint64_t its = word_of(t, i);
    return word == its ? SAME : word == its + shift ? SHIFTED : LITERAL;
}

CONT__UNCHECKED
size_t
cont__delta_literals(const struct cont__template *t, const uint64_t *w, size_t n)
{
    const uint64_t shift = shift_of(t, w, n);
    size_t literals = 0;
    for (size_t i = 0; i < n; i++) {
        literals += kind_of(t, i, w[i], shift) == LITERAL;
    }
    return literals;
}

CONT__UNCHECKED
void
cont__delta_encode(const struct cont__template *t, const uint64_t *w, size_t n,
                   uint64_t *kinds, uint64_t *literals)
{
    const uint64_t shift = shift_of(t, w, n);
    for (size_t i = 0; i < n; i++) {
        const enum kind kind = kind_of(t, i, w[i], shift);
        const unsigned at = i % KINDS_A_WORD;
        kinds[i / KINDS_A_WORD] = (at == 0 ? 0 : kinds[i / KINDS_A_WORD])
                                  | (uint64_t)kind << at * KIND_BITS;
        if (kind == LITERAL) {
            *literals++ = w[i];
        }
    }
}

CONT__UNCHECKED
void
cont__delta_decode(const struct cont__template *t, uint64_t *w, size_t n,
                   const uint64_t *kinds, const uint64_t *literals)
{
    const uint64_t shift = shift_of(t, w, n);
    for (size_t i = 0; i < n; i++) {
        switch (kinds[i / KINDS_A_WORD] >> i % KINDS_A_WORD * KIND_BITS & KIND_MASK) {
        case SAME:
            w[i] = word_of(t, i);
            break;
        case SHIFTED:
            w[i] = word_of(t, i) + shift;
            break;
        default:
            w[i] = *literals++;
        }
    }
}

static const struct cont__template *
template_new(struct cont__template *_Atomic *place, const uint64_t *w, size_t n)
{
    struct cont__template *t = malloc(sizeof(*t) + n * sizeof(*w)), *none = NULL;
    if (t == NULL) {
        return NULL;
    }
    t->n = n;
    t->base = (uint64_t)(uintptr_t)(w + n);
    cont__san_copy(t->words, w, n * sizeof(*w));
    /* release: partner cont__template_for */
    if (!atomic_compare_exchange_strong_explicit(place, &none, t, memory_order_release,
                                                 memory_order_relaxed)) {
        free(t);
        return NULL;
    }
    return t;
}

const struct cont__template *
cont__template_for(const uint64_t *w, size_t n)
{
    struct cont__template *_Atomic *set = table[(n / 2 + n / 32) % SETS];
    const struct cont__template *best = NULL;
    size_t least = cont__delta_literals(NULL, w, n);
    for (int i = 0; i < WAYS; i++) {
        const struct cont__template *t = atomic_load_explicit(&set[i], memory_order_acquire);
        if (t == NULL) {
            return template_new(&set[i], w, n);
        }
        if (t->n != n) {
            continue;
        }
        const size_t literals = cont__delta_literals(t, w, n);
        if (literals <= n / 2) {
            return t;
        }
        if (literals < least) {
            least = literals;
            best = t;
        }
    }
    return best;
}
