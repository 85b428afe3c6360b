#ifndef NDEBUG
#  define NDEBUG        /* CONT_CHECK stays, CONT_ASSERT goes (but in the hard build) */
#endif
#include "base/assert.h"

#include "check_child.h"

static int evaluated;

static void
failing_check(void)
{
    CONT_CHECK(1 + 1 == 3);
}

static void
failing_assert(void)
{
    CONT_ASSERT(++evaluated == 0);
}

int
main(void)
{
    CONT_CHECK(1);
    char text[512];
    CHECK_EQ(check_child(failing_check, text, sizeof(text)), -SIGABRT);
    /* One line; what follows is an emulator's. */
    char *end = strchr(text, '\n');
    CHECK(end != NULL);
    *end = '\0';
    CHECK(strstr(text, "1 + 1 == 3") != NULL);
    CHECK(strstr(text, "failing_check") != NULL);
    CHECK(strstr(text, "test_assert.c:") != NULL);

    if (CONT_ASSERT_ENABLED) {
        CHECK_EQ(check_child(failing_assert, text, sizeof(text)), -SIGABRT);
    }
    else {
        failing_assert();
        CHECK_EQ(evaluated, 0);
    }
    return 0;
}
