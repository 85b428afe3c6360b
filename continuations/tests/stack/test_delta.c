/* Differences of stacks: which words are kept, that all come back, and when there is a template. */

#include "stack/delta.h"

#include "check.h"

#include <stdlib.h>

enum { MOST = 600 };

/* Two stacks of n words, with some of each kind; those of `b` as seen from `a`. */
static size_t
make_alike(uint64_t *a, uint64_t *b, size_t n, unsigned percent, uint64_t *rng)
{
    const uint64_t shift = (uint64_t)(uintptr_t)b - (uint64_t)(uintptr_t)a;
    size_t literals = 0;
    for (size_t i = 0; i < n; i++) {
        a[i] = check_random(rng) % 4 == 0 ? 0 : check_random(rng);
        b[i] = a[i];
        if (check_random(rng) % 100 < percent) {
            b[i] = a[i] + (check_random(rng) | 1);
            literals += b[i] != a[i] + shift;
        }
        else if (check_random(rng) % 2) {
            b[i] = a[i] + shift;
        }
    }
    return literals;
}

static void
check_round(const struct cont__template *t, uint64_t *w, size_t n)
{
    uint64_t kinds[CONT__DELTA_KINDS(MOST)], literals[MOST + 1], was[MOST];
    const size_t kept = cont__delta_literals(t, w, n);
    memcpy(was, w, n * sizeof(*w));
    memset(kinds, 0xff, sizeof(kinds));
    literals[kept] = 0x5a5a5a5a;
    cont__delta_encode(t, w, n, kinds, literals);
    CHECK_EQ(literals[kept], 0x5a5a5a5a);
    memset(w, 0xee, n * sizeof(*w));
    cont__delta_decode(t, w, n, kinds, literals);
    CHECK(memcmp(was, w, n * sizeof(*w)) == 0);
}

/* With few that differ `a` serves as the template of `b`, with many something else may. */
static void
test_alike(uint64_t *rng)
{
    static uint64_t a[MOST], b[MOST];
    const size_t n = 40 + check_random(rng) % (MOST - 40);
    const size_t literals = make_alike(a, b, n, (unsigned)(check_random(rng) % 30), rng);
    const struct cont__template *of_a = cont__template_for(a, n);
    if (of_a != NULL && cont__delta_literals(of_a, a, n) == 0) {
        CHECK_EQ(cont__delta_literals(of_a, b, n), literals);
        CHECK(literals > n / 2 || cont__template_for(b, n) == of_a);
    }
    check_round(of_a, b, n);
    check_round(of_a, a, n);
    check_round(NULL, a, n);
    check_round(cont__template_for(b, n), b, n);
}

static void
test_no_template(void)
{
    uint64_t w[] = {0, 1, 0, 2, 0, 0, 0, 3};
    CHECK_EQ(cont__delta_literals(NULL, w, 8), 3);
    check_round(NULL, w, 8);
}

/* Stacks of the same size: four templates, and then whichever spares most. */
static void
test_full(uint64_t *rng)
{
    enum { N = 32, KINDS = 6 };
    static uint64_t w[KINDS][N];
    const struct cont__template *first[KINDS];
    for (int k = 0; k < KINDS; k++) {
        for (int i = 0; i < N; i++) {
            w[k][i] = check_random(rng) | 1;
        }
        w[k][0] = w[0][0];              /* a little like the first                      */
        first[k] = cont__template_for(w[k], N);
    }
    for (int k = 0; k < KINDS; k++) {
        CHECK(first[k] != NULL);
        CHECK(cont__template_for(w[k], N) == first[k]);
        CHECK_EQ(cont__delta_literals(first[k], w[k], N), k < 4 ? 0 : N - 1);
        check_round(first[k], w[k], N);
    }
    CHECK(first[4] == first[0] && first[5] == first[0]);
    for (int i = 0; i < N; i++) {
        w[0][i] = check_random(rng) | 1;
    }
    CHECK(cont__template_for(w[0], N) == NULL);
}

int
main(int argc, char **argv)
{
    (void)argc;
    uint64_t seed = check_take_seed(argv);
    test_no_template();
    test_full(&seed);
    for (size_t i = check_scale(2000); i > 0; i--) {
        test_alike(&seed);
    }
    return 0;
}
