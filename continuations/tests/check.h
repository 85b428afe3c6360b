#ifndef CONT_TESTS_CHECK_H
#define CONT_TESTS_CHECK_H

/* What every test uses: CHECK macros that NDEBUG cannot remove, a seeded generator, and
 * the size of the build's appetite.  One program a test file; it ends with 0 if all of it
 * passed and aborts at the first failure, with the line and, once a seed was taken, how to
 * run the very same thing again. */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *check_program = "";
static uint64_t check_seed;
static int check_seeded;

__attribute__((noreturn, noinline, unused))
static void
check_fail(const char *file, int line, const char *what)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    if (check_seeded) {
        fprintf(stderr, "run again: SEED=%llu %s\n", (unsigned long long)check_seed,
                check_program);
    }
    fflush(stderr);
    abort();
}

#define CHECK(e) \
    ((e) ? (void)0 : check_fail(__FILE__, __LINE__, #e))

#define CHECK_EQ(a, b)                                                               \
    do {                                                                             \
        long long check_a = (long long)(a), check_b = (long long)(b);                \
        if (check_a != check_b) {                                                    \
            char check_text[256];                                                    \
            snprintf(check_text, sizeof(check_text), "%s == %s (%lld, %lld)",        \
                     #a, #b, check_a, check_b);                                      \
            check_fail(__FILE__, __LINE__, check_text);                              \
        }                                                                            \
    } while (0)

/* Sizes are written for the release build; sanitizers and valgrind do less. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#  define CHECK_SANITIZED 1
#else
#  define CHECK_SANITIZED 0
#endif

__attribute__((unused))
static size_t
check_scale(size_t n)
{
    const char *slow = getenv("CONT_TEST_SLOW");        /* set by valgrind and qemu runs */
    size_t divisor = slow != NULL ? (size_t)strtoul(slow, NULL, 0) : 1;
    if (CHECK_SANITIZED) {
        divisor *= 8;
    }
    if (divisor == 0) {
        divisor = 1;
    }
    return n / divisor > 0 ? n / divisor : 1;
}

/* Takes the seed from $SEED, else from the clock, and prints the line to run again. */
__attribute__((unused))
static uint64_t
check_take_seed(char **argv)
{
    const char *given = getenv("SEED");
    if (given != NULL && *given != '\0') {
        check_seed = strtoull(given, NULL, 0);
    }
    else {
        struct { uint64_t a, b; } entropy;
        if (getentropy(&entropy, sizeof(entropy)) != 0) {
            entropy.a = (uint64_t)getpid();
        }
        check_seed = entropy.a % 1000000000;
    }
    check_seeded = 1;
    check_program = argv[0];
    printf("seed %llu; run again: SEED=%llu %s\n", (unsigned long long)check_seed,
           (unsigned long long)check_seed, argv[0]);
    fflush(stdout);
    return check_seed;
}

/* splitmix64: every state is good, also 0. */
__attribute__((unused))
static uint64_t
check_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
