/* The public functions about stacks; guards as a program sees them. */

#include "stack/stack.h"
#include "stack/depot.h"
#include "stack/prim.h"

#include "check.h"
#include "check_child.h"

static volatile char *touched;

static void
on_segv(int signo, siginfo_t *info, void *context)
{
    (void)context;
    _exit(signo == SIGSEGV && cont_stack_is_guard(info->si_addr)
          && (char *)info->si_addr == touched ? 42 : 43);
}

static void
touch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    *touched = 1;
}

static void
test_guard(struct cont_stack *s)
{
    char text[256];
    char *limit = cont__stack_limit(s);
    touched = limit;
    CHECK_EQ(check_child(touch, text, sizeof(text)), 0);
    touched = limit - 1;
    CHECK_EQ(check_child(touch, text, sizeof(text)), 42);
    touched = cont__stack_bottom(s);
    CHECK_EQ(check_child(touch, text, sizeof(text)), 42);
    CHECK(cont_stack_is_guard(limit - 1) && !cont_stack_is_guard(limit));
}

static void
release_twice(void)
{
    struct cont_stack *s = cont__stack_acquire();
    cont__stack_release(s);
    cont__stack_release(s);
}

static void
test_sizes(void)
{
    CHECK_EQ(cont_get_stack_size(), CONT_STACK_SIZE_DEFAULT);
    CHECK_EQ(cont_set_stack_size(0), -EINVAL);
    CHECK_EQ(cont_set_stack_size(CONT_STACK_SIZE_MIN - 1), -EINVAL);
    CHECK_EQ(cont_set_stack_size(((size_t)1 << 30) + 1), -EINVAL);
    CHECK_EQ(cont_set_stack_size(SIZE_MAX), -EINVAL);
    CHECK_EQ(cont_get_stack_size(), CONT_STACK_SIZE_DEFAULT);
    const size_t sizes[] = {CONT_STACK_SIZE_MIN, 100000, 300000, (size_t)8 << 20,
                            (size_t)1 << 30};
    /* The last takes 64 GB of addresses, of which valgrind would keep a shadow. */
    const size_t n = sizeof(sizes) / sizeof(sizes[0]) - (getenv("CONT_TEST_SLOW") != NULL);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(cont_set_stack_size(sizes[i]), 0);
        const size_t size = cont_get_stack_size();
        CHECK(size >= sizes[i] && (size & (size - 1)) == 0);
        struct cont_stack *s = cont__stack_acquire();
        if (s == NULL) {
            /* 64 GB of addresses are more than some emulators and limits have. */
            CHECK(sizes[i] == (size_t)1 << 30);
            continue;
        }
        CHECK(cont__stack_is_valid(s));
        CHECK_EQ((size_t)1 << s->shift, size);
        CHECK((size_t)((char *)cont__stack_base(s) - (char *)cont__stack_limit(s))
              >= size / 16 * 12);
        *(volatile char *)cont__stack_limit(s) = 1;
        cont__stack_release(s);
    }
    CHECK_EQ(cont_set_stack_size(CONT_STACK_SIZE_DEFAULT), 0);
}

static void
test_stats(void)
{
    struct cont_stack_stats a, b;
    struct cont_stack *s[100];
    cont_stack_get_stats(&a);
    CHECK_EQ(a.resident, 0);
    for (int i = 0; i < 100; i++) {
        s[i] = cont__stack_acquire();
        CHECK(s[i] != NULL);
        memset(s[i]->base - 100000, 1, 100000);
    }
    cont_stack_get_stats(&b);
    CHECK_EQ(b.resident, 100);
    CHECK_EQ(b.stack_size, CONT_STACK_SIZE_DEFAULT);
    CHECK(b.reserved >= b.resident + b.idle);
    for (int i = 0; i < 100; i++) {
        cont__stack_release(s[i]);
    }
    cont_stack_get_stats(&b);
    CHECK_EQ(b.resident, 0);
    cont_stack_trim();
    cont_stack_get_stats(&b);
    CHECK_EQ(b.resident, 0);
    struct cont__depot_counts c;
    cont__depot_count(&c);
    CHECK_EQ(c.idle, c.carved);
    CHECK_EQ(c.dirty, 0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(s[i]->base[-1], 0);
    }
}

/* A stack that was used deeply comes back without the pages, sooner or later. */
static void
test_excursion(void)
{
    struct cont_stack *s = cont__stack_acquire();
    char *deep = (char *)cont__stack_limit(s);
    *deep = 1;
    for (int i = 0; i < 64 && *deep != 0; i++) {
        cont__stack_release(s);
        CHECK(cont__stack_acquire() == s);
    }
    CHECK_EQ(*deep, 0);
    cont__stack_release(s);
}

int
main(void)
{
    char text[256];
    struct cont_stack *s = cont__stack_acquire();
    CHECK(s != NULL);
    test_guard(s);
    cont__stack_release(s);
    CHECK_EQ(check_child(release_twice, text, sizeof(text)), -SIGABRT);
    CHECK(strstr(text, "check failed") != NULL);
    test_sizes();
    test_stats();
    test_excursion();

    /* Guards that are mappings; more stacks than there are guards. */
    cont__prim_limit_guards(10);
    struct cont_stack *many[100];
    for (int i = 0; i < 100; i++) {
        many[i] = cont__stack_acquire();
        CHECK(many[i] != NULL);
        *(volatile char *)cont__stack_limit(many[i]) = 1;
        if (many[i]->guard != CONT__GUARD_NONE && i < 12) {
            test_guard(many[i]);
        }
    }
    for (int i = 0; i < 100; i++) {
        cont__stack_release(many[i]);
    }
    cont_stack_trim();
    s = cont__stack_acquire();
    test_guard(s);                              /* guards came back, and were taken anew */
    cont__stack_release(s);

    /* No memory: refused, nothing lost, and again later. */
    struct cont_stack_stats before, after;
    static struct cont_stack *all[2000];
    int n = 0;
    cont_stack_get_stats(&before);
    cont__prim_fail_after(0);
    while (n < 2000 && (all[n] = cont__stack_acquire()) != NULL) {
        n++;
    }
    CHECK(n > 0 && n < 2000);
    CHECK(cont__stack_acquire() == NULL);
    cont__prim_fail_after(-1);
    CHECK((all[n] = cont__stack_acquire()) != NULL);
    n++;
    while (n > 0) {
        cont__stack_release(all[--n]);
    }
    cont_stack_get_stats(&after);
    CHECK_EQ(after.resident, before.resident);
    CHECK(cont__depot_is_valid());
    return 0;
}
