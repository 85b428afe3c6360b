#ifndef CONT_BASE_ASSERT_H
#define CONT_BASE_ASSERT_H

/* Two grades of assertion.
 *
 * CONT_CHECK(e)   always compiled in.  For what would otherwise corrupt memory in
 *                 silence: a switch from the wrong stack, a stack that is given back
 *                 twice.  Costs a compare and a branch that is never taken.
 * CONT_ASSERT(e)  only in builds without NDEBUG, and in the hard build.  For is_valid()
 *                 functions and whatever costs more than a branch.
 *
 * Both report without allocating and without stdio, because they fire on small stacks,
 * in signal handlers and under locks. */

#ifdef __cplusplus
extern "C" {
#endif

#define CONT__LIKELY(e)   __builtin_expect(!!(e), 1)
#define CONT__UNLIKELY(e) __builtin_expect(!!(e), 0)

__attribute__((noreturn, cold, noinline))
void cont__check_failed(const char *expr, const char *file, int line, const char *func);

#define CONT_CHECK(e)                                                       \
    (CONT__LIKELY(e) ? (void)0                                              \
                     : cont__check_failed(#e, __FILE__, __LINE__, __func__))

#if !defined(NDEBUG) || defined(CONT_HARD)
#  define CONT_ASSERT_ENABLED 1
#  define CONT_ASSERT(e) CONT_CHECK(e)
#else
#  define CONT_ASSERT_ENABLED 0
#  define CONT_ASSERT(e) ((void)sizeof(!(e)))
#endif

#ifdef __cplusplus
}
#endif
#endif
