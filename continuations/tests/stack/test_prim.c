/* The operating system's part of stacks. */

#include "stack/prim.h"

#include "check.h"
#include "check_child.h"

#include <sys/mman.h>

#define SIZE ((size_t)16 << 20)

/* A system call that is asked to write there says whether it may, without a signal. */
static int
is_writable(void *at)
{
    int fd[2];
    CHECK_EQ(pipe(fd), 0);
    CHECK_EQ(write(fd[1], "x", 1), 1);
    ssize_t n = read(fd[0], at, 1);
    CHECK(n == 1 || errno == EFAULT);
    close(fd[0]);
    close(fd[1]);
    return n == 1;
}

static size_t
resident_pages(void *at, size_t size)
{
    const size_t page = cont__prim_page_size();
    unsigned char *vec = malloc(size / page);
    CHECK(vec != NULL);
    CHECK_EQ(mincore(at, size, vec), 0);
    size_t n = 0;
    for (size_t i = 0; i < size / page; i++) {
        n += vec[i] & 1;
    }
    free(vec);
    return n;
}

static void
test_guards(char *p, enum cont__guard_result wanted)
{
    const size_t page = cont__prim_page_size();
    const enum cont__guard_result got = cont__prim_guard(p + SIZE / 2, 4 * page);
    if (wanted != CONT__GUARD_LIGHT) {
        CHECK_EQ(got, wanted);
    }
    else {
        CHECK(got == CONT__GUARD_LIGHT || got == CONT__GUARD_MAPPING);
    }
    if (got == CONT__GUARD_NONE) {
        CHECK(is_writable(p + SIZE / 2));
        return;
    }
    CHECK(is_writable(p + SIZE / 2 - 1));
    CHECK(!is_writable(p + SIZE / 2));
    CHECK(!is_writable(p + SIZE / 2 + 4 * page - 1));
    CHECK(is_writable(p + SIZE / 2 + 4 * page));
    cont__prim_purge(p, SIZE);
    CHECK(!is_writable(p + SIZE / 2));          /* guards outlive a purge */
    CHECK_EQ(cont__prim_renew(p, SIZE), 0);
    if (got == CONT__GUARD_MAPPING) {
        cont__prim_unguarded(1);
    }
    CHECK(is_writable(p + SIZE / 2));           /* but not a renewal */
}

int
main(void)
{
    const size_t page = cont__prim_page_size();
    char *p = cont__prim_reserve(SIZE, (size_t)1 << 20);
    CHECK(p != NULL);
    CHECK_EQ((uintptr_t)p & ((1 << 20) - 1), 0);
    CHECK(!is_writable(p));
    CHECK_EQ(cont__prim_commit(p, SIZE / 4), 0);
    CHECK(is_writable(p) && is_writable(p + SIZE / 4 - 1));
    CHECK(!is_writable(p + SIZE / 4));
    CHECK_EQ(cont__prim_commit(p, SIZE), 0);    /* again, and more */
    CHECK(is_writable(p + SIZE - 1));
    CHECK_EQ(p[0], 'x');

    memset(p, 1, 8 * page);
    CHECK(resident_pages(p, SIZE) >= 8 && resident_pages(p, SIZE) < 16);  /* small pages */
    cont__prim_purge(p + page, 4 * page);
    CHECK_EQ(p[0], 1);
    CHECK_EQ(p[page], 0);
    CHECK_EQ(p[5 * page - 1], 0);
    CHECK_EQ(p[5 * page], 1);
    CHECK_EQ(cont__prim_renew(p, SIZE), 0);
    CHECK_EQ(p[0], 0);

    test_guards(p, CONT__GUARD_LIGHT);
    cont__prim_limit_guards(1);
    test_guards(p, CONT__GUARD_MAPPING);        /* took one and gave it back */
    test_guards(p, CONT__GUARD_MAPPING);
    CHECK_EQ(cont__prim_guard(p, page), CONT__GUARD_MAPPING);
    test_guards(p, CONT__GUARD_NONE);
    CHECK_EQ(cont__prim_renew(p, SIZE), 0);

    cont__prim_fail_after(1);
    char *q = cont__prim_reserve(page, page);
    CHECK(q != NULL);
    CHECK(cont__prim_reserve(page, page) == NULL);
    CHECK_EQ(cont__prim_commit(q, page), -ENOMEM);
    p[0] = 1;
    CHECK_EQ(cont__prim_renew(p, SIZE), -ENOMEM);
    CHECK_EQ(p[0], 0);                          /* purged all the same */
    cont__prim_fail_after(-1);
    CHECK_EQ(cont__prim_commit(q, page), 0);
    CHECK(cont__prim_reserve((size_t)1 << 60, page) == NULL);
    CHECK(cont__prim_reserve(SIZE_MAX - page + 1, page) == NULL);
    cont__prim_unreserve(q, page);
    cont__prim_unreserve(p, SIZE);
    return 0;
}
