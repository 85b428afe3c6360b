/* Images: the bytes come back, to the same addresses, whatever happened to the pages. */

#include "stack/image.h"
#include "stack/run.h"

#include "check.h"

static void
fill(char *from, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        from[i] = (char)check_random(&seed);
    }
}

static void
check(const char *from, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(from[i], (char)check_random(&seed));
    }
}

/* What images have beside words: a header, and two bits for each. */
static size_t
most_bytes(size_t bytes)
{
    const size_t words = bytes / 8 + 2;
    return 16 + words * 8 + (words / 32 + 1) * 8;
}

static void
expect(size_t count, size_t bytes)
{
    struct cont_stack_stats stats;
    CHECK_EQ(cont__image_count(), count);
    CHECK_EQ(cont__image_bytes() != 0, bytes != 0);
    CHECK(cont__image_bytes() <= (bytes != 0 ? most_bytes(bytes) : 0));
    cont_stack_get_stats(&stats);
    CHECK_EQ(stats.frozen, count);
    CHECK_EQ(stats.image_bytes, cont__image_bytes());
}

static void
test_sizes(void)
{
    const size_t sizes[] = {1, 16, 700, 1168, 4096, 4097, 40000};
    struct cont_stack *s = cont__stack_acquire();
    CHECK(s != NULL);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int purged = 0; purged < 2; purged++) {
            char *from = s->base - sizes[i];
            fill(from, sizes[i], i);
            struct cont__image *image = cont__image_make(s, from);
            CHECK(image != NULL);
            CHECK_EQ(s->residency, CONT__FROZEN);
            CHECK(cont__stack_is_valid(s));
            expect(1, sizes[i]);
            if (purged) {
                cont__run_renew(&s, 1);
                CHECK_EQ(from[0], 0);
                CHECK_EQ(s->guard, CONT__GUARD_NONE);
            }
            cont__image_restore(image, s);
            CHECK(s->dirty);
            CHECK_EQ(s->residency, CONT__RESIDENT);
            check(from, sizes[i], i);
            expect(0, 0);
        }
    }
    cont__stack_release(s);
}

static void
test_failure(void)
{
    struct cont_stack *s = cont__stack_acquire();
    char *from = s->base - 100;
    fill(from, 100, 1);
    cont__image_fail_after(1);
    struct cont__image *image = cont__image_make(s, from);
    CHECK(image != NULL);
    cont__image_restore(image, s);
    CHECK(cont__image_make(s, from) == NULL);
    CHECK_EQ(s->residency, CONT__RESIDENT);
    check(from, 100, 1);
    expect(0, 0);
    cont__image_fail_after(-1);
    image = cont__image_make(s, from);
    cont__image_drop(image, s);
    expect(0, 0);
    cont__stack_release(s);
}

/* Many, in any order. */
static void
test_random(uint64_t rng)
{
    enum { N = 100 };
    struct cont_stack *s[N];
    struct cont__image *image[N] = {NULL};
    size_t size[N];
    for (int i = 0; i < N; i++) {
        s[i] = cont__stack_acquire();
        CHECK(s[i] != NULL);
        size[i] = 1 + check_random(&rng) % 9000;
        fill(s[i]->base - size[i], size[i], (uint64_t)i);
    }
    CHECK(cont__stack_resident() >= N);
    for (size_t steps = check_scale(20000); steps > 0; steps--) {
        const size_t i = check_random(&rng) % N;
        if (image[i] != NULL) {
            cont__image_restore(image[i], s[i]);
            image[i] = NULL;
            check(s[i]->base - size[i], size[i], i);
            continue;
        }
        image[i] = cont__image_make(s[i], s[i]->base - size[i]);
        CHECK(image[i] != NULL);
        if (check_random(&rng) % 2) {
            cont__run_give_back(&s[i], 1);
        }
    }
    for (int i = 0; i < N; i++) {
        if (image[i] != NULL) {
            cont__image_drop(image[i], s[i]);
        }
        cont__stack_release(s[i]);
    }
    expect(0, 0);
}

int
main(int argc, char **argv)
{
    (void)argc;
    uint64_t seed = check_take_seed(argv);
    test_sizes();
    test_failure();
    test_random(seed);
    return 0;
}
