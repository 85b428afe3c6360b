/* The switch alone: registers, floating point control words, where walks end. */

#include "arch/switch.h"
#include "base/sanitizer.h"

#include "check.h"

#include <fenv.h>
#include <unwind.h>

#define STACK_BYTES ((size_t)256 << 10)

struct context {
    void *sp, *back;
    void *slots[4];
    char *limit, *base;
    void (*body)(struct context *);
    uint64_t random;
    int done;
};

static void
start(void *arg)
{
    struct context *x = arg;
    cont__san_after_switch(x->slots, CONT__SAN_INTO, NULL);
    x->body(x);
    x->done = 1;
    void *unused;
    cont__san_before_switch(x->slots, CONT__SAN_END, &unused, NULL, NULL);
    cont__switch(&x->sp, x->back);
    abort();
}

static void
make(struct context *x, void (*body)(struct context *), uint64_t random)
{
    memset(x, 0, sizeof(*x));
    CHECK_EQ(posix_memalign((void **)&x->limit, 4096, STACK_BYTES), 0);
    x->base = x->limit + STACK_BYTES;
    x->body = body;
    x->random = random;
    cont__san_stack_begin(x->slots, x->limit, x->base);
    /* Not a multiple of 16: the switch aligns it. */
    x->sp = cont__switch_make(x->base - 8, x->limit, start, x);
    CHECK((char *)x->sp > x->limit && (char *)x->sp < x->base);
}

static void
destroy(struct context *x)
{
    cont__san_stack_end(x->slots, x->limit, x->limit, x->base);
    free(x->limit);
}

__attribute__((noinline))
static void
enter(struct context *x)
{
    void *fake = NULL;
    cont__san_before_switch(x->slots, CONT__SAN_INTO, &fake, x->limit, x->base);
    cont__switch(&x->back, x->sp);
    cont__san_after_switch(x->slots, CONT__SAN_OUT, fake);
}

/* Inlined, so that values of the bodies live in callee-saved registers over the switch. */
static inline __attribute__((always_inline)) void
leave(struct context *x)
{
    void *fake = NULL;
    cont__san_before_switch(x->slots, CONT__SAN_OUT, &fake, NULL, NULL);
    cont__switch(&x->sp, x->back);
    cont__san_after_switch(x->slots, CONT__SAN_INTO, fake);
}

/* More values than there are callee-saved registers, of both kinds, live over switches to
 * contexts that do the same with other values. */
static void
registers(struct context *x)
{
    uint64_t r = x->random;
    uint64_t a = check_random(&r), b = check_random(&r), c = check_random(&r);
    uint64_t d = check_random(&r), e = check_random(&r), f = check_random(&r);
    uint64_t g = check_random(&r), h = check_random(&r);
    double p = (double)(a >> 40), q = (double)(b >> 40), s = (double)(c >> 40);
    double t = (double)(d >> 40), u = (double)(e >> 40), v = (double)(f >> 40);
    const size_t rounds = check_scale(20000);
    for (size_t i = 0; i < rounds; i++) {
        leave(x);
        a += b ^ c;
        d = (d << 7) | (d >> 57);
        e -= f;
        g ^= h + i;
        p += q;
        s -= t;
        u = v - u;
        leave(x);
        a -= b ^ c;
        d = (d >> 7) | (d << 57);
        e += f;
        g ^= h + i;
        p -= q;
        s += t;
        u = v - u;
    }
    r = x->random;
    CHECK(a == check_random(&r) && b == check_random(&r) && c == check_random(&r));
    CHECK(d == check_random(&r) && e == check_random(&r) && f == check_random(&r));
    CHECK(g == check_random(&r) && h == check_random(&r));
    CHECK(p == (double)(a >> 40) && q == (double)(b >> 40) && s == (double)(c >> 40));
    CHECK(t == (double)(d >> 40) && u == (double)(e >> 40) && v == (double)(f >> 40));
}

static void
test_registers(uint64_t random)
{
    enum { N = 5 };
    struct context x[N];
    for (int i = 0; i < N; i++) {
        make(&x[i], registers, check_random(&random));
    }
    for (int left = N; left > 0;) {
        struct context *one = &x[check_random(&random) % N];
        if (!one->done) {
            enter(one);
            left -= one->done;
        }
    }
    for (int i = 0; i < N; i++) {
        destroy(&x[i]);
    }
}

static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};

static volatile double one = 1.0, three = 3.0;

static void
rounding(struct context *x)
{
    const int mode = modes[x->random % 4];
    CHECK_EQ(fegetround(), FE_UPWARD);          /* inherited from make() */
    CHECK_EQ(fesetround(mode), 0);
    const double third = one / three;
    for (int i = 0; i < 20; i++) {
        leave(x);
        CHECK_EQ(fegetround(), mode);
        CHECK(one / three == third);
    }
}

static void
test_rounding(void)
{
    enum { N = 4 };
    struct context x[N];
    CHECK_EQ(fesetround(FE_UPWARD), 0);
    for (int i = 0; i < N; i++) {
        make(&x[i], rounding, (uint64_t)i);
    }
    CHECK_EQ(fesetround(FE_TOWARDZERO), 0);
    const double third = one / three;
    for (int round = 0; round < 21; round++) {
        for (int i = 0; i < N; i++) {
            enter(&x[i]);
            CHECK_EQ(fegetround(), FE_TOWARDZERO);
            CHECK(one / three == third);
        }
    }
    CHECK_EQ(fesetround(FE_TONEAREST), 0);
    for (int i = 0; i < N; i++) {
        CHECK(x[i].done);
        destroy(&x[i]);
    }
}

static _Unwind_Reason_Code
count_frame(struct _Unwind_Context *context, void *arg)
{
    (void)context;
    return ++*(int *)arg > 64 ? _URC_NORMAL_STOP : _URC_NO_REASON;
}

__attribute__((noinline))
static int
walk_frame_pointers(const struct context *x)
{
    int n = 0;
    void **frame = __builtin_frame_address(0);
    while (frame != NULL) {
        CHECK((char *)frame >= x->limit && (char *)frame < x->base);
        CHECK((char *)frame[0] > (char *)frame || frame[0] == NULL);
        frame = frame[0];
        CHECK(++n < 64);
    }
    return n;
}

static void
walks(struct context *x)
{
    CHECK_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    for (int i = 0; i < 2; i++) {
        int frames = 0;
        _Unwind_Backtrace(count_frame, &frames);
        CHECK(frames >= 2 && frames < 16);
        CHECK(walk_frame_pointers(x) < 16);
        leave(x);
    }
}

static void
test_walks(void)
{
    struct context x;
    make(&x, walks, 0);
    while (!x.done) {
        enter(&x);
    }
    destroy(&x);
}

int
main(int argc, char **argv)
{
    (void)argc;
    uint64_t seed = check_take_seed(argv);
    test_registers(seed);
    test_rounding();
    test_walks();
    return 0;
}
