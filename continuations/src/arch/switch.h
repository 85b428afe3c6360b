#ifndef CONT_ARCH_SWITCH_H
#define CONT_ARCH_SWITCH_H

/* Registers and the stack pointer, nothing else.
 *
 * A context that does not run is one pointer: the address, on its own stack, below which
 * nothing of it lives (less CONT__SWITCH_BELOW bytes).  What is saved there is private to
 * the file of the ABI, one of
 *
 *      switch_x86_64_sysv.S        Linux, and any other System V x86-64
 *      switch_aarch64_aapcs.S      Linux on aarch64
 *      switch_ucontext.c           any POSIX system; slow; what the tests compare with
 *
 * All callee-saved registers of the ABI are kept, and the control words of the floating
 * point unit (rounding, exception masks).  Not kept, because they belong to the OS
 * thread: the TLS base, the signal mask (the ucontext file does move it), errno.
 *
 * A compiler may keep the address of a thread-local variable in a register over the call.
 * Callers that can be resumed on another OS thread must not use thread-local variables in
 * the same function, before and after. */

#ifdef __cplusplus
extern "C" {
#endif

#ifdef CONT_ARCH_UCONTEXT
#  define CONT__SWITCH_BELOW 4096       /* swapcontext()'s own frame                     */
#else
#  define CONT__SWITCH_BELOW 0
#endif

/* Leaves the running context and enters `to`.  *save is the left context from the moment
 * on at which its stack is not used any more; returns when somebody enters that.
 * Budget: 7 ns. */
void cont__switch(void **save, void *to);

/* Makes a context that begins with entry(arg) on the stack that ends at `base`; entry
 * must not return.  Walks along the frame pointers, and unwinders, end there.
 * Inherits the caller's floating point control words, as a new OS thread does. */
void *cont__switch_make(void *base, void *limit, void (*entry)(void *), void *arg);

#ifdef __cplusplus
}
#endif
#endif
