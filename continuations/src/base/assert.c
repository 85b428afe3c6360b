/* The end of a failed CONT_CHECK: one line on stderr, then abort().
 *
 * The line is put together in a small buffer and written with one write(2), so that it
 * stays whole beside the output of other threads and needs little stack. */

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t
append(char *buf, size_t used, size_t size, const char *text)
{
    while (*text != '\0' && used + 1 < size) {
        buf[used++] = *text++;
    }
    return used;
}

void
cont__check_failed(const char *expr, const char *file, int line, const char *func)
{
    char digits[12];
    char *d = digits + sizeof(digits) - 1;
    unsigned n = line < 0 ? 0 : (unsigned)line;
    *d = '\0';
    do {
        *--d = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);

    char buf[512];
    size_t used = 0;
    const size_t size = sizeof(buf) - 1;        /* room for the newline */
    used = append(buf, used, size, "continuations: check failed: ");
    used = append(buf, used, size, expr);
    used = append(buf, used, size, " in ");
    used = append(buf, used, size, func);
    used = append(buf, used, size, "() at ");
    used = append(buf, used, size, file);
    used = append(buf, used, size, ":");
    used = append(buf, used, size, d);
    buf[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, buf, used);
    (void)written;
    abort();
}
