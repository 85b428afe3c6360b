/* 1,000,000 stacks of 1 MB of addresses at once.
 *
 * One in 16 has a page touched: the page tables and guards of all of them are there, but
 * the test needs 2.5 GB and not 6. */

#include "stack/stack.h"
#include "stack/depot.h"

#include "check.h"

static size_t
count_mappings(void)
{
    size_t n = 0;
    int c;
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f != NULL);
    while ((c = getc(f)) != EOF) {
        n += c == '\n';
    }
    fclose(f);
    return n;
}

int
main(void)
{
    /* Emulators keep a shadow of every address that could be used, touched or not. */
    const size_t all = getenv("CONT_TEST_SLOW") != NULL ? 2000 : check_scale(1000000);
    size_t n = all;
    struct cont_stack **s = calloc(n, sizeof(*s));
    CHECK(s != NULL);
    CHECK_EQ(cont_get_stack_size(), (size_t)1 << 20);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++) {
            s[i] = cont__stack_acquire();
            CHECK(s[i] != NULL);
            if (i % 16 == 0) {
                *(size_t *)(s[i]->base - sizeof(i)) = i;
            }
        }
        struct cont_stack_stats stats;
        cont_stack_get_stats(&stats);
        CHECK_EQ(stats.resident, n);
        for (size_t i = 0; i < n; i++) {
            if (i % 16 == 0) {
                CHECK_EQ(*(size_t *)(s[i]->base - sizeof(i)), i);
            }
        }
        const size_t mappings = count_mappings();
        printf("%zu stacks, %zu mappings\n", n, mappings);
        /* Guards that are mappings stop at a half of the usual limit. */
        CHECK(mappings < 40000);
        for (size_t i = 0; i < n; i++) {
            cont__stack_release(s[i]);
        }
        cont_stack_get_stats(&stats);
        CHECK_EQ(stats.resident, 0);
        CHECK(cont__depot_is_valid());
        n = all / 16;                           /* and again, from renewed groups */
    }
    free(s);
    return 0;
}
