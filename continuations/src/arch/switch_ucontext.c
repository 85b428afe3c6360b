/* cont__switch on top of POSIX ucontext: the reference that every other one is compared
 * with, and what a port starts from.
 *
 * The context pointer is the address of a ucontext_t on the stack that is left, so that
 * nothing is allocated.  swapcontext() saves the signal mask with a system call and moves
 * it with the context, hence about 100 times the price of the assembler. */

#include "arch/switch.h"
#include "base/assert.h"

#include <stdint.h>
#include <string.h>
#include <ucontext.h>

void
cont__switch(void **save, void *to)
{
    ucontext_t self;
    *save = &self;
    int rc = swapcontext(&self, (ucontext_t *)to);
    CONT_CHECK(rc == 0);
}

/* makecontext() passes ints only. */
static void
start(unsigned entry_hi, unsigned entry_lo, unsigned arg_hi, unsigned arg_lo)
{
    uintptr_t entry = ((uintptr_t)entry_hi << 32) | entry_lo;
    uintptr_t arg = ((uintptr_t)arg_hi << 32) | arg_lo;
    ((void (*)(void *))entry)((void *)arg);
    CONT_CHECK(!"the entry function of a continuation returned");
}

void *
cont__switch_make(void *base, void *limit, void (*entry)(void *), void *arg)
{
    uintptr_t top = ((uintptr_t)base - sizeof(ucontext_t)) & ~(uintptr_t)63;
    ucontext_t *uc = (ucontext_t *)top;
    CONT_CHECK(top > (uintptr_t)limit);
    memset(uc, 0, sizeof(*uc));
    int rc = getcontext(uc);
    CONT_CHECK(rc == 0);
    uc->uc_link = NULL;
    /* getcontext() saved the caller's frame pointer; a walk must not go there. */
#if defined(__x86_64__)
    uc->uc_mcontext.gregs[REG_RBP] = 0;
#elif defined(__aarch64__)
    uc->uc_mcontext.regs[29] = 0;
#endif
    uc->uc_stack.ss_sp = limit;
    uc->uc_stack.ss_size = top - (uintptr_t)limit;
    uintptr_t e = (uintptr_t)entry;
    uintptr_t a = (uintptr_t)arg;
    makecontext(uc, (void (*)(void))start, 4, (unsigned)(e >> 32), (unsigned)e,
                (unsigned)(a >> 32), (unsigned)a);
    return uc;
}
