/* cont__switch for the System V ABI of x86-64.
 *
 * A context that does not run, on its own stack:
 *
 *        sp + 72   | ...                        | the caller's frame
 *        sp + 64   |                            | <- stack pointer after the return
 *        sp + 56   | rip       return address   |
 *        sp + 48   | rbp                        |
 *        sp + 40   | rbx                        |
 *        sp + 32   | r12       entry, if new    |
 *        sp + 24   | r13       arg, if new      |
 *        sp + 16   | r14                        |
 *        sp +  8   | r15                        |
 *        sp +  4   | x87 control word   (2, +2) |
 *        sp +  0   | mxcsr                  (4) | <- the context
 *
 * The ABI says that the control bits of mxcsr and the x87 control word are callee-saved,
 * its status bits are not.  Loading them serialises on many processors, and they are the
 * same nearly always, so they are compared first (against the copies that were just
 * stored, with loads of the stores' own sizes, which forward).
 *
 * Return.  A ret is predicted to go where the last call came from, here never the right
 * place; a jump is predicted by where it went before, and threads that talk to each other
 * take turns: measured 7 ns instead of 12, the way there and back 20 instead of 28.
 *
 * Control-flow enforcement.  IBT: the call of entry goes to a C function, which has its
 * endbr64; the jump goes behind a call and is marked as one not to be tracked (C's own jump
 * tables are such jumps).  The file says so in its property note.  Shadow stacks are not
 * supported (a return goes where another stack's call came from), the note does not claim
 * them, and so the linker and the loader leave them off for the process.
 */

        .text

/* void cont__switch(void **save, void *to) */
        .globl  cont__switch
        .hidden cont__switch
        .type   cont__switch, @function
        .balign 32
cont__switch:
        .cfi_startproc
        endbr64                         /* may be called through a pointer              */
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbp, 0
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset rbx, 0
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r12, 0
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r13, 0
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r14, 0
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset r15, 0
        subq    $8, %rsp                /* room for both control words                  */
        .cfi_adjust_cfa_offset 8
        stmxcsr 0(%rsp)                 /* SSE: rounding and masks, and status          */
        fnstcw  4(%rsp)                 /* x87: precision, rounding and masks           */
        movl    0(%rsp), %eax           /* mxcsr of the left context                    */
        movzwl  4(%rsp), %ecx           /* x87 word of the left context                 */
        movq    %rsp, (%rdi)            /* the left context is complete ...             */
        movq    %rsi, %rsp              /* ... and this is the entered one              */
        xorl    0(%rsp), %eax           /* which bits of mxcsr differ                   */
        testl   $0xffc0, %eax           /* other than the six status bits?              */
        jne     .Lload_mxcsr
.Lmxcsr_done:
        cmpw    4(%rsp), %cx            /* the x87 word?                                */
        jne     .Lload_x87
.Lx87_done:
        .cfi_remember_state
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %r15
        .cfi_adjust_cfa_offset -8
        .cfi_restore r15
        popq    %r14
        .cfi_adjust_cfa_offset -8
        .cfi_restore r14
        popq    %r13
        .cfi_adjust_cfa_offset -8
        .cfi_restore r13
        popq    %r12
        .cfi_adjust_cfa_offset -8
        .cfi_restore r12
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbx
        popq    %rbp                    /* 0 in a new context: its frames end here      */
        .cfi_adjust_cfa_offset -8
        .cfi_restore rbp
        popq    %rcx                    /* whoever called switch there, or start        */
        .cfi_adjust_cfa_offset -8
        .cfi_register rip, rcx
        notrack jmp *%rcx               /* see "return" above                           */

        .cfi_restore_state              /* the two rare paths have the full frame       */
.Lload_mxcsr:
        ldmxcsr 0(%rsp)
        jmp     .Lmxcsr_done
.Lload_x87:
        fldcw   4(%rsp)
        jmp     .Lx87_done
        .cfi_endproc
        .size   cont__switch, . - cont__switch

/* void *cont__switch_make(void *base, void *limit, void (*entry)(void *), void *arg) */
        .globl  cont__switch_make
        .hidden cont__switch_make
        .type   cont__switch_make, @function
        .balign 16
cont__switch_make:
        .cfi_startproc
        endbr64
        andq    $-16, %rdi              /* the ABI's alignment, whatever we are given   */
        leaq    -80(%rdi), %rax         /* 64 of context, 16 for the end of the chain   */
        stmxcsr 0(%rax)                 /* control words as they are here               */
        movl    $0, 4(%rax)
        fnstcw  4(%rax)
        movq    $0, 8(%rax)             /* r15                                          */
        movq    $0, 16(%rax)            /* r14                                          */
        movq    %rcx, 24(%rax)          /* r13: arg                                     */
        movq    %rdx, 32(%rax)          /* r12: entry                                   */
        movq    $0, 40(%rax)            /* rbx                                          */
        movq    $0, 48(%rax)            /* rbp: 0 ends a walk along the frame pointers  */
        leaq    cont__start(%rip), %rdx
        movq    %rdx, 56(%rax)          /* where the first switch returns to            */
        movq    $0, 64(%rax)            /* a return address of 0 and a frame pointer of */
        movq    $0, 72(%rax)            /* 0, for walkers that look one word further    */
        ret
        .cfi_endproc
        .size   cont__switch_make, . - cont__switch_make

/* The outermost frame: entered by cont__switch's ret, with rsp a multiple of 16. */
        .type   cont__start, @function
        .balign 16
cont__start:
        .cfi_startproc
        .cfi_undefined rip              /* unwinders stop here                          */
        .cfi_undefined rbp
        nop                             /* some unwinders look up return address - 1    */
        movq    %r13, %rdi              /* arg                                          */
        callq   *%r12                   /* entry                                        */
        ud2                             /* entry must not return                        */
        .cfi_endproc
        .size   cont__start, . - cont__start

/* x86 feature property: IBT, not SHSTK. */
        .section .note.gnu.property, "a", @note
        .balign 8
        .long   4, 16, 5
        .asciz  "GNU"
        .long   0xc0000002, 4, 1, 0

        .section .note.GNU-stack, "", @progbits
